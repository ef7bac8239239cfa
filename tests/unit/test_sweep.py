"""Sweeps: the same numbers as a loop of single runs, one program, memory, names, units, flags, pictures."""

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from brainloom import (
    BOLD,
    Coupling,
    HopfStep,
    Network,
    OUProcess,
    Simulator,
    Sweep,
    WilsonCowanDelayedStep,
    WilsonCowanStep,
)
from brainloom.core.units import UnitError
from brainloom.fit import parameters as P
from brainloom.observe import RunningFC
from brainloom.substitute import names, place, substituted
from brainloom.sweep import _memory

N, DT, TIME = 4, 0.5, 50.0
RNG = np.random.default_rng(8)
WEIGHTS = RNG.uniform(0.2, 1.0, (N, N)) * ~np.eye(N, dtype=bool)
LENGTHS = RNG.uniform(10.0, 60.0, (N, N))
KEY = jax.random.key(5)
KS, AS = np.array([0.0, 0.1, 0.3]), np.array([-0.3, -0.2, -0.1, 0.1])
# The same steps, with products of matrices in another order: rounding, not yet grown by these stable dynamics.
SAME = {"rtol": 1e-10, "atol": 1e-13}


def network(k=0.1, a=-0.1, **options):
    node = HopfStep(N, a=a, w=np.linspace(0.2, 0.3, N), init_x=0.5, noise_x=options.pop("noise", 0.03))
    return Network(node, options.pop("conn", WEIGHTS), k=k, **options)


def single(model, **options):
    return Simulator(model, DT).run(TIME, **({"monitors": ["x"], "key": KEY} | options))


class Compilations:
    """Counts what XLA compiles."""

    def __init__(self):
        self.n = 0
        jax.monitoring.register_event_duration_secs_listener(self.heard)

    def heard(self, event, duration, **_):
        self.n += event == "/jax/core/compile/backend_compile_duration"


COMPILATIONS = Compilations()


@pytest.fixture(scope="module")
def grid():
    """A 3 x 4 grid in chunks of 5, and how often its function was traced."""
    traced = []

    def measure(run):
        traced.append(1)
        return {"x": run["x"], "mean": jnp.mean(run["x"], axis=0)}

    parameters = {"k": KS, "node.a": AS}
    sweep = Sweep(Simulator(network(), DT), parameters, measure=measure, batch=5)
    before = COMPILATIONS.n
    found = sweep.run(TIME, monitors=["x"], key=KEY)
    return found, len(traced), COMPILATIONS.n - before


def test_a_grid_is_a_loop_of_single_runs(grid):
    found, _, _ = grid
    assert found.data["x"].dims == ("k", "node.a", "x_0", "region")
    assert found.data["mean"].dims == ("k", "node.a", "region")
    for i, k in enumerate(KS):
        for j, a in enumerate(AS):
            expected = np.asarray(single(network(k, a))["x"])
            np.testing.assert_allclose(found["x"][i, j], expected, **SAME)
            np.testing.assert_allclose(found["mean"][i, j], expected.mean(axis=0), **SAME)
    np.testing.assert_array_equal(found["k"], KS)
    assert found["node.a"].attrs["units"] == "1/ms" and not found["diverged"].any()
    assert found.to_xarray() is found.data and found.data.attrs["mode"] == "grid"


def test_one_program_is_traced_and_compiled_once_for_all_chunks(grid):
    found, traced, compiled = grid
    assert traced == 1
    # twelve points in three even chunks, the program and small conversions of its arguments
    assert found.batch == 4
    many = Sweep(Simulator(network(), DT), {"k": np.linspace(0, 0.3, 60), "node.a": AS}, batch=4)
    before = COMPILATIONS.n
    again = many.run(TIME, monitors=["x"], sample_every=100, key=KEY)
    # twenty times as many chunks compile nothing more
    assert again.batch == 4 and again.data["x"].shape == (60, 4, 1, N) and COMPILATIONS.n - before <= compiled


def test_chunks_and_the_order_of_points_change_no_number(grid):
    found, _, _ = grid
    pairs = [(k, a) for k in KS for a in AS]
    zipped = {"k": [k for k, _ in pairs], "node.a": [a for _, a in pairs]}
    for batch in (1, 7):
        other = Sweep(Simulator(network(), DT), zipped, mode="zip", batch=batch).run(
            TIME, monitors=["x"], key=KEY
        )
        assert other.data["x"].dims == ("point", "time", "region") and other.data["x"].shape[0] == 12
        np.testing.assert_allclose(other["x"], found["x"].values.reshape(12, -1, N), **SAME)
        np.testing.assert_array_equal(other["node.a"], zipped["node.a"])
        assert other.data["node.a"].dims == ("point",) and other.data["time"].attrs["units"] == "ms"


def test_memory_is_kept(capsys):
    sweep = {"k": np.linspace(0.0, 0.3, 40)}
    free = Sweep(Simulator(network(), DT), sweep).run(TIME, monitors=["x"], key=KEY, progress=True)
    assert "point" in capsys.readouterr().err  # a bar
    assert free.batch == 40 and 0 < free.memory < 1e9
    budget = free.memory / 4
    tight = Sweep(Simulator(network(), DT), sweep, memory=budget).run(TIME, monitors=["x"], key=KEY)
    assert 1 <= tight.batch <= 13 and tight.memory <= budget
    np.testing.assert_allclose(tight["x"], free["x"], **SAME)
    with pytest.warns(UserWarning, match="1 point side by side take"):
        Sweep(Simulator(network(), DT), sweep, memory=1000.0).run(5.0, monitors=["x"], key=KEY)
    program = jax.jit(lambda x: x + 1.0).lower(jnp.zeros(1000)).compile()
    assert _memory(program) >= 16000


def test_keys_are_common_or_independent():
    sweep = Sweep(Simulator(network(), DT), {"k": [0.1, 0.1, 0.2]})
    common = sweep.run(TIME, monitors=["x"], key=KEY)["x"].values
    np.testing.assert_array_equal(common[0], common[1])
    own = sweep.run(TIME, monitors=["x"], key=KEY, keys="independent", batch_size=2)["x"]
    assert own.dims == ("k", "time", "realisation", "region")
    assert np.abs(own[0] - own[1]).max() > 1e-3
    expected = single(network(0.2), key=jax.random.fold_in(KEY, 2), batch_size=2)["x"]
    np.testing.assert_allclose(own[2], expected, **SAME)
    # without a key one is drawn, and all points share it
    brainstate.random.seed(3)
    drawn = sweep.run(TIME, monitors=["x"])["x"].values
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_delays_weights_and_fields_are_swept():
    speeds = np.array([2.0, 12.0])
    matrices = WEIGHTS * np.array([1.0, 0.5])[:, None, None]
    matrices[1, 0] = 0.0
    fields = RNG.uniform(-0.3, -0.1, (2, N))
    model = network(distance=LENGTHS, speed=8.0, conn=WEIGHTS)
    values = {"speed": speeds * u.meter / u.second, "weights": matrices, "node.a": fields}
    found = Sweep(Simulator(model, DT), values, mode="zip").run(TIME, monitors=["x"], key=KEY)
    for i in range(2):
        one = network(a=fields[i], conn=matrices[i], distance=LENGTHS, speed=speeds[i])
        np.testing.assert_allclose(found["x"][i], single(one)["x"], **SAME)
    assert found["speed"].attrs["units"] == "mm/ms" and found["node.a"].dims == ("point", "region")
    np.testing.assert_array_equal(found["speed"], speeds)
    assert found["weights"].dims == ("point", "region", "region_to")
    delayed = network(delay=3.0, noise=None)
    found = Sweep(Simulator(delayed, DT), {"delay": [2.0, 7.3], "node.a": fields}).run(TIME, monitors=["x"])
    assert found["x"].dims == ("delay", "node.a", "time", "region")
    assert found["node.a_values"].shape == (2, N) and found["delay"].attrs["units"] == "ms"
    expected = single(network(a=fields[1], delay=7.3, noise=None))["x"]
    np.testing.assert_allclose(found["x"][1, 1], expected, **SAME)


def test_observers_noise_starts_couplings_and_shared_parameters_are_swept():
    factor = P.positive(1.0)
    node = WilsonCowanStep(
        N,
        w_ee=P.tied(factor, factor=12.0),
        w_ie=P.tied(factor, factor=13.0),
        P=1.0,
        noise_E=OUProcess(sigma=0.01, tau=20.0),
    )
    model = Network(node, WEIGHTS, coupling="tanh", k=0.5, scale=1.0)
    observer = BOLD(20 * u.ms, dt=5 * u.ms)
    values = {
        "node.w_ee.source": [0.9, 1.1],
        "node.noise_E.tau": [0.01, 0.03] * u.second,
        "node.init_E": [0.1, 0.3],
        "coupling.scale": [1.0, 2.0],
        "observe.bold.tau": [0.8, 1.2],
    }
    run = {"observe": [observer], "monitors": ["E"], "sample_every": 20 * u.ms, "key": KEY}
    found = Sweep(Simulator(model, DT), values, mode="zip").run(100.0, **run)
    node = WilsonCowanStep(
        N, w_ee=1.1 * 12.0, w_ie=1.1 * 13.0, P=1.0, noise_E=OUProcess(sigma=0.01, tau=30.0), init_E=0.3
    )
    one = Network(node, WEIGHTS, coupling="tanh", k=0.5, scale=2.0)
    run["observe"] = [BOLD(20 * u.ms, dt=5 * u.ms, tau=1.2)]
    expected = Simulator(one, DT).run(100.0, **run)
    np.testing.assert_allclose(found["E"][1], expected["E"], **SAME)
    np.testing.assert_allclose(found["bold"][1], expected["bold"], **SAME)
    units = {name: found[name].attrs["units"] for name in values}
    assert (
        units["node.noise_E.tau"] == "ms" and units["observe.bold.tau"] == "s" and units["node.init_E"] == "1"
    )
    assert factor.value() == 1.0 and observer.tau == BOLD(20 * u.ms).tau  # the originals are as they were


def test_couplings_edges_and_own_delays_are_replaced():
    def made(weights, gain, other):
        node = HopfStep(N, a=-0.1)
        first = Coupling("additive", conn=weights, k=gain, name="e")
        return Network(
            node, couplings=[first, Coupling("tanh", conn=WEIGHTS, k=other, name="f", shape={"scale": other})]
        )

    model = made(P.edges(WEIGHTS), 0.1, P.positive(0.2))
    values = {"e_conn.values": [2.0 * WEIGHTS[WEIGHTS != 0]], "e.k": [0.3], "f.k": [0.4], "f.scale": [0.4]}
    places = [place(model, name, value) for name, value in values.items()]
    other, _ = substituted(model, {one: jnp.asarray(one.values[0]) for one in places})
    expected = made(2.0 * WEIGHTS, 0.3, 0.4).parameter_values()
    found = other.parameter_values()
    assert set(found) == set(expected)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-14, err_msg=name)
    np.testing.assert_allclose(model.parameter_values()["e.weights"], WEIGHTS, rtol=1e-14)
    own = WilsonCowanDelayedStep(2)
    found = Sweep(lambda m: m.parameter_values()["delay_ee"] * 2.0, {"delay_ee": [1.0, 3.0]}, model=own).run()
    np.testing.assert_array_equal(found["output"], [2.0, 6.0])
    with pytest.raises(ValueError, match="delay_ee goes from 1 to 30; its bounds are 0 and 20"):
        Sweep(Simulator(own, DT), {"delay_ee": [1.0, 30.0]})


def test_functions_of_any_module_are_swept():
    class Study(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()
            self.gain = 2.0 * u.mV

    def f(model, key):
        run = Simulator(model.network, DT).run(TIME, monitors=[], observe=[RunningFC("x")], key=key)
        return {"fc": run["fc"], "size": model.gain * jnp.mean(run["fc"])}

    study = Study()
    found = Sweep(f, {"network.k": KS, "gain": [1.0, 2.0]}, model=study).run(key=KEY)
    assert found["fc"].dims == ("network.k", "gain", "region", "region_to")
    assert found["size"].attrs["units"] == "mV" and found["gain"].attrs["units"] == "mV"
    expected = single(network(KS[2]), monitors=[], observe=[RunningFC("x")])["fc"]
    np.testing.assert_allclose(found["fc"][2, 0], expected, rtol=1e-9, atol=1e-11)  # differences of sums
    np.testing.assert_allclose(found["size"][2], [expected.mean(), 2.0 * expected.mean()], rtol=1e-9)
    alone = Sweep(lambda model: model.gain * 3.0, {"gain": [1.0, 2.0]}, model=study).run()
    np.testing.assert_allclose(alone["output"], [3.0, 6.0])
    with pytest.warns(UserWarning, match=r"do not depend on network\.k"):
        Sweep(lambda model: model.gain, {"network.k": KS}, model=study).run()


def test_points_that_diverge_are_flagged_and_leave_the_others_alone():
    quiet = Network(HopfStep(N, a=-0.1, init_x=0.5), WEIGHTS)
    beta = {"node.beta": [1.0, -40.0, 1.0]}
    with pytest.warns(UserWarning, match=r"1 of 3 points diverged \(numbers 1\)"):
        found = Sweep(Simulator(quiet, DT), beta).run(TIME, monitors=["x"])
    np.testing.assert_array_equal(found["diverged"], [False, True, False])
    np.testing.assert_allclose(found["x"][2], single(quiet, check=False)["x"], **SAME)
    logs = Sweep(lambda m: jnp.log(m.a), {"a": [1.0, -1.0]}, model=HopfStep(1))
    with pytest.warns(UserWarning, match="1 of 2 points diverged"):
        np.testing.assert_array_equal(logs.run()["diverged"], [False, True])


def test_names_and_units_that_do_not_fit_are_told():
    simulator = Simulator(network(distance=LENGTHS, speed=8.0), DT)
    known = names(simulator.model, [BOLD(5 * u.ms)])
    assert {"k", "coupling.k", "weights", "speed", "distance", "node.a", "node.noise_x"} < set(known)
    assert "observe.bold.tau" in known
    with pytest.raises(ValueError, match=r"no parameter 'node\.ab'; did you mean 'node\.a'\?; it has k, "):
        Sweep(simulator, {"node.ab": [1.0]})
    with pytest.raises(ValueError, match="no parameter 'delay'"):
        Sweep(simulator, {"delay": [1.0]})
    with pytest.raises(ValueError, match="no observer is called 'bold'"):
        Sweep(simulator, {"observe.bold.tau": [1.0]}).run(TIME)
    with pytest.raises(UnitError, match=r"node\.a is given in mV, but it is needed in 1/ms"):
        Sweep(simulator, {"node.a": [1.0] * u.mV})
    with pytest.raises(ValueError, match="one matrix a point"):
        Sweep(simulator, {"weights": [1.0, 2.0]})
    with pytest.raises(ValueError, match="needs a list of values"):
        Sweep(simulator, {"k": 1.0})
    with pytest.raises(ValueError, match="k has 2, node"):
        Sweep(simulator, {"k": [1.0, 2.0], "node.a": [0.0, 0.1, 0.2]}, mode="zip")
    with pytest.raises(ValueError, match="not finite"):
        Sweep(simulator, {"k": [1.0, np.nan]})
    with pytest.raises(ValueError, match="speed is 0; it must be positive"):
        Sweep(simulator, {"speed": [0.0, 1.0]}).run(TIME, key=KEY)
    with pytest.raises(ValueError, match="needs model="):
        Sweep(lambda model: 1.0, {"k": [1.0]})
    with pytest.raises(ValueError, match="duration is missing"):
        Sweep(simulator, {"k": [1.0]}).run()
    with pytest.raises(ValueError, match="the result output is a str"):
        Sweep(lambda model: "x", {"k": [1.0]}, model=simulator.model).run()
    with pytest.raises(ValueError, match="keys is 'same'"):
        Sweep(simulator, {"k": [1.0]}).run(TIME, keys="same")

    class Timed(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.late = 1.0 * u.ms

    with pytest.raises(UnitError, match="late is given in mV, but it is in ms"):
        Sweep(lambda model: model.late, {"late": [1.0] * u.mV}, model=Timed())


def test_pictures(grid):
    found, _, _ = grid
    ax = found.plot("mean")
    image = ax.collections[0]
    expected = found["mean"].mean("region").values
    np.testing.assert_allclose(np.asarray(image.get_array()).reshape(3, 4), expected, rtol=1e-12)
    assert ax.get_xlabel() == "node.a (1/ms)" and ax.get_ylabel() == "k"
    line = found.plot("mean", reduce=np.max, where={"k": 0.28}).lines[0]
    np.testing.assert_allclose(line.get_ydata(), found["mean"][2].max("region"))
    np.testing.assert_allclose(line.get_xdata(), AS)
    with pytest.raises(ValueError, match="name the result to plot; there is mean, x"):
        found.plot()
    with pytest.raises(ValueError, match="no result 'fc'"):
        found.plot("fc")
    plt.close("all")
