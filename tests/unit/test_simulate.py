"""What a run takes and returns: intervals, monitors, inputs, starts, units, and what it says when it goes wrong."""

import warnings

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, LinearStep, MontbrioPazoRoxinStep, Observable, WongWangExcInhStep

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from brainloom.core.units import UnitError
from brainloom.models.lowering import lower
from brainloom.network import Network
from brainloom.simulate import DivergenceError, Simulator
from brainloom.stiffness import fastest_rate, stable_step

N, DT = 3, 0.1
RNG = np.random.default_rng(1)
WEIGHTS = RNG.uniform(0.0, 0.5, (N, N)) * (1 - np.eye(N))
START = np.array([0.5, -0.2, 0.1])
NETWORK = Network(HopfStep(N, a=0.2, w=0.4, init_x=START), WEIGHTS, coupled_var=("x", "y"))
GAMMA = np.array([-0.2, -0.5, -1.0])
KEY = jax.random.key(0)


def decay(**options):
    """Exact at any dt: ``x = x0 e^(gamma t)``, and a held input has a closed form."""
    return Simulator(LinearStep(N, gamma=GAMMA, init_x=START, **options), DT)


# --- time and shape ------------------------------------------------------------------------------------------------


def test_the_duration_includes_the_transient_and_times_carry_units():
    found = decay().run(4.0, transient=1.0)
    assert set(found) == {"output", "ts", "diverged"}
    assert found["output"].shape == (30, N) and found["output"].dtype == np.float64
    assert found["ts"].unit == u.ms
    times = np.asarray(found["ts"].mantissa)
    np.testing.assert_allclose(times, 1.0 + DT * np.arange(1, 31), rtol=1e-12)  # after each step
    np.testing.assert_allclose(found["output"], START * np.exp(GAMMA * times[:, None]), rtol=1e-12)
    assert found["diverged"].shape == () and not found["diverged"]


def test_a_model_in_seconds_takes_and_gives_seconds():
    model = LinearStep(N, gamma=GAMMA, init_x=START, time_unit="s")
    for dt, duration in ((0.1, 2.0), (100 * u.ms, 2 * u.second), (0.1 * u.second, 2000 * u.ms)):
        found = Simulator(model, dt).run(duration, sample_every=0.5 * u.second)
        assert found["ts"].unit == u.second
        np.testing.assert_allclose(found["ts"].mantissa, [0.5, 1.0, 1.5, 2.0])
        np.testing.assert_allclose(found["output"][-1], START * np.exp(2 * GAMMA), rtol=1e-12)


def test_dt_comes_from_the_environment_unless_it_is_given():
    model = LinearStep(N, gamma=GAMMA, init_x=START)
    with brainstate.environ.context(dt=0.5 * u.ms):
        assert Simulator(model).run(2.0)["output"].shape == (4, N)
        assert Simulator(model, DT).run(2.0)["output"].shape == (20, N)
    with pytest.raises(ValueError, match="dt is not set; pass Simulator"):
        Simulator(model).run(2.0)
    for wrong in (0.0, -0.1 * u.ms):
        with pytest.raises(ValueError, match="it must be positive"):
            Simulator(model, wrong)
    with pytest.raises(UnitError, match="dt is given in mV, but it is needed in ms"):
        Simulator(model, 0.1 * u.mV).run(2.0)


@pytest.mark.parametrize("network", [False, True])
def test_samples_are_every_nth_state(network):
    model = NETWORK if network else NETWORK.node
    low = lower(model, DT, "rk4")
    every = jax.jit(low.advance)(low.params, low.init(low.params), {}, np.zeros((20, 0, N)))[1]["y"]
    simulator = Simulator(model, DT, method="rk4")
    for interval in (4, 0.4, 0.4 * u.ms, 400 * u.usecond):  # steps and times
        found = simulator.run(2.0, sample_every=interval, monitors="y")
        np.testing.assert_allclose(found["y"], every[3::4], rtol=1e-12)
    np.testing.assert_allclose(simulator.run(2.0, monitors="y")["y"], every, rtol=1e-12)
    found = simulator.run(2.0, sample_every=4, transient=3, monitors="y")  # 17 steps are left: 4 samples
    np.testing.assert_allclose(found["y"], every[6::4][:4], rtol=1e-12)


def test_wrong_times_are_errors():
    with pytest.raises(
        ValueError, match=r"dt 0.1 does not divide the sampling interval 0.72; use dt 0.102857"
    ):
        decay().run(7.2, sample_every=0.72)
    assert Simulator(decay().model, 0.72 / 7).run(7.2, sample_every=0.72)["output"].shape == (10, N)
    with pytest.raises(ValueError, match=r"dt 0.1 does not divide transient 0.25"):
        decay().run(1.0, transient=0.25)
    with pytest.raises(ValueError, match=r"transient \(10 steps\) must be shorter than the run \(10 steps\)"):
        decay().run(1.0, transient=1.0)
    with pytest.raises(ValueError, match="sample_every is 0; it must be at least 1 step"):
        decay().run(1.0, sample_every=0)
    with pytest.raises(ValueError, match="duration 0 is shorter than one step"):
        decay().run(0)
    with pytest.raises(ValueError, match=r"sample_every \(20 steps\) is longer than what is left of the run"):
        decay().run(2.0, sample_every=2.0, transient=0.1)
    with pytest.warns(UserWarning, match="duration 1.25 is not a multiple of dt; it runs for 12 steps"):
        assert decay().run(1.25)["output"].shape == (12, N)
    with pytest.raises(UnitError, match="duration is given in mV"):
        decay().run(1.0 * u.mV)


# --- monitors ------------------------------------------------------------------------------------------------------


def test_monitors_by_name_path_function_and_dict():
    simulator = Simulator(NETWORK, DT)
    plain = simulator.run(1.0, monitors=["x", "node.y", "source"])
    assert set(plain) == {"x", "node.y", "source", "ts", "diverged"}
    np.testing.assert_array_equal(plain["source"], plain["x"])
    np.testing.assert_array_equal(simulator.run(1.0)["output"], plain["x"])
    np.testing.assert_array_equal(simulator.run(1.0, monitors="node.x")["node.x"], plain["x"])

    def energy(model):
        assert model.node.x.value.shape == (N,)
        return jnp.sum(model.node.x.value**2 + model.node.y.value**2)

    expected = np.sum(plain["x"] ** 2 + plain["node.y"] ** 2, axis=1)
    np.testing.assert_allclose(simulator.run(1.0, monitors=energy)["output"], expected, rtol=1e-12)
    named = simulator.run(
        1.0, monitors={"real": "x", "energy": energy, "pair": lambda m: (m.node.x.value, m.node.w)}
    )
    np.testing.assert_array_equal(named["real"], plain["x"])
    np.testing.assert_allclose(named["energy"], expected, rtol=1e-12)
    np.testing.assert_array_equal(named["pair"][0], plain["x"])
    np.testing.assert_array_equal(named["pair"][1], np.full(10, 0.4))
    node = Simulator(NETWORK.node, DT).run(1.0, monitors=lambda model: model.y.value)["output"]
    np.testing.assert_array_equal(node, Simulator(NETWORK.node, DT).run(1.0, monitors="y")["y"])
    with pytest.raises(ValueError, match="HopfStep has no observable 'z'; it has source, bold, eeg, x, y"):
        simulator.run(1.0, monitors="node.z")


def test_monitors_see_the_whole_batch():
    found = decay().run(
        1.0,
        batch_size=2,
        initial={"x": np.stack([START, 2 * START])},
        monitors=lambda m: m.x.value.max(axis=-1),
    )
    assert found["output"].shape == (10, 2) and found["diverged"].shape == (2,)
    np.testing.assert_allclose(found["output"][:, 1], 2 * found["output"][:, 0], rtol=1e-12)


def test_results_have_the_published_units():
    rate = Simulator(MontbrioPazoRoxinStep(2), 0.01).run(0.1, monitors=["r", "v", "source"])
    assert rate["r"].unit == u.Hz  # kept in 1/ms inside
    seen = Simulator(MontbrioPazoRoxinStep(2), 0.01).run(0.1, monitors=lambda m: m.r.value)["output"]
    assert seen.unit == u.Hz  # functions of the model see them too
    np.testing.assert_allclose(rate["r"].mantissa, seen.mantissa, rtol=1e-12)
    node = MontbrioPazoRoxinStep(2)
    inside = lower(node, 0.01)
    _, out = inside.step(inside.params, inside.init(inside.params), {})
    np.testing.assert_allclose(rate["r"].mantissa[0], 1000.0 * out["r"], rtol=1e-12)
    assert not isinstance(rate["v"], u.Quantity)
    firing = Simulator(WongWangExcInhStep(2), 0.1 * u.ms).run(1.0 * u.ms, monitors=["r_e", "S_e"])
    assert firing["r_e"].unit == u.Hz and firing["ts"].unit == u.second


def test_the_model_is_left_in_its_last_state():
    simulator = Simulator(HopfStep(N, a=0.2, w=0.4, init_x=START), DT)
    found = simulator.run(2.0, monitors=["x", "y"])
    np.testing.assert_array_equal(simulator.model.x.value, found["x"][-1])
    np.testing.assert_array_equal(simulator.model.y.value, found["y"][-1])


# --- inputs -----------------------------------------------------------------------------------------------------------


def held(drive):
    """The exact response of `decay` to inputs held over each step, (step, region)."""
    x, seen = START, []
    for row in np.broadcast_to(drive, (len(drive), N)):
        x = x * np.exp(GAMMA * DT) + row * np.expm1(GAMMA * DT) / GAMMA
        seen.append(x)
    return np.array(seen)


def test_arrays_are_held_over_a_step():
    rows = RNG.normal(size=(20, N))
    for given, expected in (
        (rows, rows),
        ({"current": rows}, rows),
        (rows[:, 0], rows[:, :1]),  # the same for every region
        (rows * u.Hz, 1e-3 * rows),  # into a port in 1/ms
        ({"current": 0.3}, np.full((20, 1), 0.3)),
        ({"current": rows[0]}, np.tile(rows[0], (20, 1))),
        (lambda t: rows[0], np.tile(rows[0], (20, 1))),
    ):
        found = decay().run(2.0, inputs=given)["output"]
        np.testing.assert_allclose(found, held(expected), rtol=1e-12, atol=1e-14)
    found = decay().run(2.0, inputs=rows, transient=0.7, sample_every=2)["output"]
    np.testing.assert_allclose(found, held(rows)[8::2], rtol=1e-12)
    batched = np.stack([rows, 2 * rows], axis=1)  # (step, batch, region)
    found = decay().run(2.0, inputs=batched, batch_size=2)["output"]
    for member in range(2):
        np.testing.assert_allclose(found[:, member], held((1 + member) * rows), rtol=1e-12)


def test_inputs_reach_the_ports_by_name_and_place():
    node, state = HopfStep(N), {"x": jnp.asarray(START), "y": jnp.zeros(N)}
    free = node.derivative(state)
    for given, to_x, to_y in (
        ({"y_input": 0.3}, 0.0, 0.3),
        ({"x_input": 0.1, "y_input": np.full((1, N), 0.3)}, 0.1, 0.3),
        (lambda t: (0.1, 0.3), 0.1, 0.3),
        (lambda t: {"y_input": 300.0 * u.Hz}, 0.0, 0.3),
        (np.full((1, N), 0.2), 0.2, 0.0),
    ):
        found = Simulator(node, DT, method="euler").run(
            DT, inputs=given, monitors=["x", "y"], initial={"x": START}
        )
        np.testing.assert_allclose(found["x"][0], START + DT * (free["x"] + to_x), rtol=1e-12)
        np.testing.assert_allclose(found["y"][0], DT * (free["y"] + to_y), rtol=1e-12)


def test_functions_of_two_arguments_get_the_number_of_the_step():
    table = jnp.asarray(RNG.normal(size=(2000, N)))
    for dt in (DT, 0.3, DT * u.ms):  # the same function at another dt
        simulator = Simulator(LinearStep(N, gamma=0.0, init_x=0.0), dt, method="euler")
        found = simulator.run(1500 * dt, inputs=lambda i, t: table[i], monitors="x")["x"]
        size = float(getattr(dt, "mantissa", dt))
        np.testing.assert_allclose(found, size * np.cumsum(table[:1500], axis=0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method, order", [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_functions_of_time_are_sampled_at_the_stages(method, order):
    """Inputs that were held over the step would bring every method down to order 1."""

    def wave(t):
        time = t.to_decimal(u.ms)
        return jnp.sin(2.0 * time), 0.5 * jnp.cos(3.0 * time)

    def end(dt):
        simulator = Simulator(HopfStep(2, a=0.2, w=0.6, init_x=np.array([0.3, -0.5])), dt, method=method)
        found = simulator.run(3.0, inputs=wave, monitors=["x", "y"], sample_every=3.0)
        return np.concatenate([found["x"][0], found["y"][0]])

    coarse, middle, fine = (end(dt) for dt in (0.1, 0.05, 0.025))
    ratio = np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine)
    assert np.log2(ratio) == pytest.approx(order, abs=0.2)  # the next order is below 10 % here


def test_what_depends_on_inputs_sees_them_at_the_sample():
    class DrivenStep(LinearStep):
        OBSERVABLES = {"drive": Observable(lambda p, state, inputs: inputs["current"], driven=True)}  # noqa: RUF012

    rows = RNG.normal(size=(20, 2))
    simulator = Simulator(DrivenStep(2), DT)
    for every in (1, 4):
        found = simulator.run(2.0, inputs=rows, monitors="drive", sample_every=every)["drive"]
        np.testing.assert_array_equal(found, rows[every - 1 :: every])
        found = simulator.run(2.0, inputs=lambda t: t.mantissa, monitors="drive", sample_every=every)
        np.testing.assert_allclose(found["drive"], found["ts"].mantissa, rtol=1e-12)


def test_wrong_inputs_are_errors():
    with pytest.raises(ValueError, match=r"inputs of current have \(19,\) rows but the run has 20 steps"):
        decay().run(2.0, inputs=np.zeros((19, N)))
    with pytest.raises(ValueError, match="inputs of current have no rows but the run has 20 steps"):
        decay().run(2.0, inputs=0.3)
    with pytest.raises(TypeError, match="LinearStep has the ports current, not drive"):
        decay().run(2.0, inputs={"drive": 0.3})
    with pytest.raises(UnitError, match="the input current of LinearStep is given in mV"):
        decay().run(2.0, inputs={"current": 0.3 * u.mV})


# --- starts ----------------------------------------------------------------------------------------------------------


def test_a_start_can_be_given_for_each_realisation():
    starts = {"x": np.array([[1.0, 2.0, 0.5], [3.0, 4.0, -1.0]])}
    found = decay().run(1.0, batch_size=2, sample_every=1.0, initial=starts)["output"]
    np.testing.assert_allclose(found[0], starts["x"] * np.exp(GAMMA), rtol=1e-12)
    shared = decay().run(1.0, batch_size=2, sample_every=1.0, initial={"x": 2.0})["output"]
    np.testing.assert_allclose(shared[0], np.tile(2.0 * np.exp(GAMMA), (2, 1)), rtol=1e-12)
    with pytest.raises(ValueError, match="LinearStep has no state y; it has x"):
        decay().run(1.0, initial={"y": 1.0})


def test_a_history_can_be_given():
    """x(t) for t < 0 as samples, oldest first; what is older than the first repeats it."""
    node = LinearStep(2, gamma=0.0, init_x=np.array([1.0, 0.0]))
    model = Network(
        node, np.array([[0, 1.0], [1.0, 0]]), delay=1.0, coupling="additive", k=0.5, coupled_var="x"
    )
    past = np.arange(12.0)[:, None] * np.array([1.0, -0.1])
    simulator = Simulator(model, DT, method="euler")
    found = simulator.run(1.0, history={"x": past}, monitors="x")["x"]
    drive = 0.5 * past[1:11, ::-1]  # ten steps earlier
    np.testing.assert_allclose(found, [1.0, 0.0] + DT * np.cumsum(drive, axis=0), rtol=1e-12)
    found = simulator.run(1.0, history={"x": past[-3:]}, monitors="x")["x"]
    drive[:9] = 0.5 * past[-3, ::-1]
    drive[9] = 0.5 * past[-2, ::-1]
    np.testing.assert_allclose(found, [1.0, 0.0] + DT * np.cumsum(drive, axis=0), rtol=1e-12)
    with pytest.raises(ValueError, match="history of y is not needed; delayed observables: x"):
        simulator.run(1.0, history={"y": past})
    with pytest.raises(ValueError, match=r"history of x has shape \(12,\); it must be \(sample, 2\)"):
        simulator.run(1.0, history={"x": past[:, 0]})


# --- what goes wrong -------------------------------------------------------------------------------------------------


def explosive():
    return Simulator(Network(HopfStep(2, a=-0.1, w=0.3), np.zeros((2, 2))), 0.5, method="rk4")


def test_a_single_run_that_diverges_is_an_error():
    with pytest.raises(DivergenceError, match="HopfStep diverged before 20 ms; use a smaller dt"):
        explosive().run(20.0, initial={"x": 1e3}, check=False)
    assert issubclass(DivergenceError, FloatingPointError)


def test_diverged_members_of_a_batch_are_flagged_alone():
    starts = {"x": np.array([[0.1, 0.1], [0.1, 1e3], [0.2, 0.1]])}  # explicit steps blow up from 1e3
    with pytest.warns(UserWarning, match=r"1 of 3 simulations of HopfStep diverged.*realisations 1"):
        found = explosive().run(20.0, batch_size=3, initial=starts, check=False)
    assert np.asarray(found["diverged"]).tolist() == [False, True, False]
    finite = np.isfinite(found["output"]).all(axis=(0, 2))
    assert finite.tolist() == [True, False, True]


def test_a_step_that_is_too_long_is_a_warning():
    fast = LinearStep(2, gamma=-12.0)
    with pytest.warns(
        UserWarning,
        match=r"dt 0.1 ms is too long for heun: the fastest rate at the start is 12/ms; use dt of at most 0.083",
    ):
        Simulator(fast, DT, method="heun").run(1.0)
    coupled = Network(LinearStep(2, gamma=-1.0), np.array([[0, 1.0], [1.0, 0]]), k=10.0)  # -1 and -21
    with pytest.warns(UserWarning, match="the fastest rate at the start is 21/ms"):
        Simulator(coupled, DT, method="rk4").run(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Simulator(fast, DT, method="rk4").run(1.0)  # its limit is larger
        Simulator(fast, DT, method="heun").run(1.0, check=False)
        Simulator(fast, DT / 2, method="heun").run(1.0)


def test_the_fastest_rate_is_the_largest_eigenvalue():
    """Real, complex and stiff ones; power iteration is within a few percent."""
    weights = RNG.uniform(0.0, 1.0, (6, 6)) * (1 - np.eye(6))
    for node, variables in ((LinearStep(6, gamma=-0.3), "x"), (HopfStep(6, a=-0.1, w=2.0), ("x", "y"))):
        low = lower(Network(node, weights, k=0.7, coupled_var=variables), DT)
        state = {name: jnp.zeros(6) for name in node.state_names()}
        flat, back = ravel_pytree(state)
        slope = jax.jacobian(
            lambda z, low=low, back=back: ravel_pytree(low.field(low.params, back(z), {}))[0]
        )(flat)
        exact = np.abs(np.linalg.eigvals(np.asarray(slope))).max()
        found = fastest_rate(low.structure, low.params, state)
        assert float(found) == pytest.approx(exact, rel=0.1)


def test_a_step_is_halved_until_it_is_short_enough(recwarn):
    assert stable_step(0.1, 9.9) == 0.1 and not recwarn
    with pytest.warns(UserWarning, match=r"dt 0.1 is too long for the fastest rate 35; using dt 0.025"):
        assert stable_step(0.1, 35.0) == pytest.approx(0.025)


def test_progress_is_shown_when_asked_for(capfd):
    decay().run(200.0, progress=True)
    shown = capfd.readouterr().err
    assert "2.00k/2.00k" in shown and "step/s" in shown
    decay().run(200.0)  # short
    decay().run(200.0, progress=False)
    assert capfd.readouterr().err == ""


# --- keys ------------------------------------------------------------------------------------------------------------


def test_without_a_key_noise_comes_from_brainstate():
    simulator = decay(noise_x=0.1)
    brainstate.random.seed(3)
    first, second = (simulator.run(1.0)["output"] for _ in range(2))
    brainstate.random.seed(3)
    again = simulator.run(1.0)["output"]
    np.testing.assert_array_equal(again, first)
    assert np.abs(second - first).min() > 1e-6


def test_without_a_key_noise_inside_a_transformation_is_an_error():
    def end(gain):
        return gain * decay(noise_x=0.1).run(1.0)["output"][-1].sum()

    # as it is when a process starts: the generator makes its key when it is first read
    brainstate.random.DEFAULT.value = np.array([3, 4], dtype=np.uint32)
    with pytest.raises(ValueError, match="needs its noise named: pass key="):
        jax.jit(end)(2.0)
    first = decay(noise_x=0.1).run(1.0)["output"]  # the generator is as it was
    brainstate.random.DEFAULT.value = np.array([3, 4], dtype=np.uint32)
    np.testing.assert_array_equal(decay(noise_x=0.1).run(1.0)["output"], first)
    # brainstate's own transformations carry its generator along
    runs = [brainstate.transform.jit(lambda: decay(noise_x=0.1).run(1.0)["output"])() for _ in range(2)]
    assert np.abs(runs[1] - runs[0]).min() > 1e-7


def test_quiet_models_need_no_key_inside_a_transformation():
    def end(start):
        return decay().run(1.0, initial={"x": start})["output"][-1]

    np.testing.assert_allclose(jax.jit(end)(START), START * np.exp(GAMMA), rtol=1e-12)
    np.testing.assert_allclose(jax.jacobian(end)(jnp.asarray(START)), np.diag(np.exp(GAMMA)), atol=1e-14)
    many = jax.vmap(end)(jnp.arange(1.0, 7.0).reshape(2, 3))
    np.testing.assert_allclose(many, np.arange(1.0, 7.0).reshape(2, 3) * np.exp(GAMMA), rtol=1e-12)


def test_results_pass_through_transformations():
    found = jax.jit(lambda: decay().run(1.0, monitors=["x"]))()
    assert set(found) == {"x", "ts", "diverged"} and found["ts"].unit == u.ms
    dataset = found.to_xarray(regions=["a", "b", "c"])
    assert dataset["x"].dims == ("time", "region") and dataset["time"].attrs["units"] == "ms"
    np.testing.assert_allclose(dataset["x"].sel(region="b"), START[1] * np.exp(GAMMA[1] * dataset["time"]))
