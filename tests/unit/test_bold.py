"""BOLD inside a simulation: what an integration of the stored trajectory gives, with its gradients and memory."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import ReducedWongWangStep, WongWangExcInhStep

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from brainloom.core.units import UnitError
from brainloom.network import Network
from brainloom.observe import BOLD, BOLDSignal, RunningFC, TemporalAverage
from brainloom.observe.balloon import VARIANTS
from brainloom.simulate import Simulator

WEIGHTS = np.random.default_rng(1).uniform(0.0, 0.5, (3, 3)) * (1 - np.eye(3))
KEY = jax.random.key(3)
MS, S = u.ms, u.second


def network(delayed=False, *, k=0.3, w=0.9, noise=0.01, time_unit=None):
    lag = {"distance": np.full((3, 3), 50.0), "speed": 10.0} if delayed else {}
    return Network(ReducedWongWangStep(3, w=w, noise_S=noise), WEIGHTS, k=k, **lag)


def reference(z, p, every):
    """The published equations by scipy, the drive (step, region) held over each ms; every `every`-th BOLD value."""
    y = np.stack([np.zeros(3), *np.ones((3, 3))])
    out = []
    for k in range(0, len(z), every):

        def rhs(t, y, k=k):
            s, f, v, q = y.reshape(4, 3)
            now = z[k + min(int(t * 1000), every - 1)]
            extracted = f * (1 - (1 - p["rho"]) ** (1 / f)) / p["rho"]
            ds = now - p["kappa"] * s - p["gamma"] * (f - 1)
            dv = (f - v ** (1 / p["alpha"])) / p["tau"]
            dq = (extracted - q * v ** (1 / p["alpha"] - 1)) / p["tau"]
            return np.concatenate([ds, s, dv, dq])

        y = solve_ivp(rhs, (0, every / 1000), y.ravel(), "RK45", rtol=1e-8, atol=1e-10, max_step=0.02).y[
            :, -1
        ]
        _, _, v, q = y.reshape(4, 3)
        out.append(p["V0"] * (p["k1"] * (1 - q) + p["k2"] * (1 - q / v) + p["k3"] * (1 - v)))
    return np.array(out)


@pytest.mark.parametrize("delayed", [False, True])
def test_bold_is_that_of_the_stored_trajectory(delayed):
    """TR 0.72 s, six of them; the mean over 10 ms of a noisy drive costs 1e-4 of the signal, the reference less."""
    simulator = Simulator(network(delayed), 1.0 * MS)
    options = {"key": KEY, "progress": False}
    s = np.asarray(simulator.run(4.32 * S, monitors="S", **options)["S"])
    gain, base = 2.0, np.array([0.05, 0.1, 0.0])
    watched = [BOLD(0.72 * S, variant="heinzle2016", bold_gain=gain / S, bold_baseline=base)]
    found = simulator.run(4.32 * S, observe=watched, **options)
    assert set(found) == {"bold", "ts", "diverged"} and found["bold"].shape == (6, 3)
    np.testing.assert_allclose(found["ts"].to_decimal(S), 0.72 * np.arange(1, 7))
    wanted = reference(gain * (s - base), VARIANTS["heinzle2016"], 720)
    np.testing.assert_allclose(found["bold"], wanted, rtol=0, atol=2e-4 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 1e-3
    # beside other observers with their own intervals, in batches, after a transient, in single runs of one piece
    both = [*watched, TemporalAverage("S", every=40 * MS), RunningFC("S")]
    more = simulator.run(4.32 * S, observe=both, batch_size=2, **options)
    np.testing.assert_allclose(more["bold"][:, 0], found["bold"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(more["average"][:, 0], s.reshape(108, 40, 3).mean(axis=1), atol=1e-12)
    later = simulator.run(4.32 * S, observe=watched, transient=1.44 * S, **options)
    np.testing.assert_allclose(later["bold"], found["bold"][2:], rtol=0, atol=1e-12)
    assert later.to_xarray()["bold"].attrs["units"] == "1"


def test_its_own_step_converges():
    simulator = Simulator(network(), 1.0 * MS)

    def bold(dt):
        run = simulator.run(8 * S, observe=[BOLD(2 * S, dt=dt)], key=KEY, progress=False)
        return np.asarray(run["bold"])

    finest = bold(1 * MS)
    errors = [np.abs(bold(dt) - finest).max() / np.abs(finest).max() for dt in (40 * MS, 20 * MS, 0.01)]
    assert errors[2] < 1e-4 and errors[0] > errors[1] > errors[2]


def test_units_and_names_are_checked():
    node = WongWangExcInhStep(2)
    # rates are seen in Hz, also those that depend on what arrives
    driven = Simulator(node, 0.1 * MS).run(
        1.0 * S, observe=[BOLD(0.5 * S, "r_e", bold_gain=1e-2, bold_baseline=3.0 * u.Hz)], progress=False
    )
    rates = Simulator(node, 0.1 * MS).run(1.0 * S, monitors="r_e", progress=False)["r_e"].to_decimal(u.Hz)
    wanted = reference(1e-2 * (np.repeat(rates[9::10, :1], 3, 1) - 3.0), VARIANTS["friston2003"], 500)
    # the last value of each ms stands for its mean in the reference
    np.testing.assert_allclose(driven["bold"][:, 0], wanted[:, 0], rtol=2e-2)
    with pytest.raises(UnitError, match="bold_baseline of BOLD is given in mV"):
        Simulator(node, 0.1 * MS).run(1.0 * S, observe=[BOLD(0.5 * S, "r_e", bold_baseline=3.0 * u.mV)])
    with pytest.raises(ValueError, match="variant is 'buxton'; it must be one of friston2003"):
        BOLD(1 * S, variant="buxton")
    with pytest.raises(TypeError, match="BOLD has no parameter taus; it has bold_gain"):
        BOLD(1 * S, taus=1.0)
    with pytest.raises(ValueError, match="the interval of bold"):
        Simulator(node, 0.3 * MS).run(3 * S, observe=[BOLD(0.5 * S)])
    with pytest.raises(ValueError, match="is longer than what is left of the run"):
        Simulator(node, 0.1 * MS).run(1 * S, observe=[BOLD(2 * S)])


class Subject(brainstate.nn.Module):
    """A network and how it is seen, with parameters of both to fit."""

    def __init__(self, *fitted, **start):
        super().__init__()
        known = {
            "k": (0.3, 0.0, 1.0),
            "w": (np.array([0.8, 0.9, 0.7]), 0.3, 1.2),
            "kappa": (np.array([0.6, 0.65, 0.8]), 0.3, 1.5),
            "tau": (1.0, 0.5, 3.0),
            "rho": (0.34, 0.1, 0.8),
            "bold_gain": (1.0, 0.1, 10.0),
        }
        value = {}
        for name, (x, low, high) in known.items():
            x = jnp.asarray(start.get(name, x))
            transform = brainstate.nn.SigmoidT(low, high)
            value[name] = brainstate.nn.Param(x, t=transform, fit=True) if name in (fitted or known) else x
        self.net = network(k=value.pop("k"), w=value.pop("w"))
        self.bold = BOLD(0.5 * S, **value)

    def run(self):
        return Simulator(self.net, 1.0 * MS).run(2.0 * S, observe=[self.bold], key=KEY)["bold"]


def test_gradients_in_neural_and_haemodynamic_parameters():
    """Central differences of doubles, step 1e-4 in unconstrained values: error 1e-8 of a third derivative."""
    subject = Subject()
    states = subject.states(brainstate.ParamState)
    mix = jnp.asarray(np.random.default_rng(5).normal(size=(4, 3)))

    def loss():
        return 1e3 * jnp.sum(mix * subject.run())

    slopes = brainstate.transform.grad(loss, states)()
    value = brainstate.transform.jit(loss)
    assert len(slopes) == 6
    for path, state in states.items():
        start = state.value
        for k in range(start.size):
            ends = []
            for h in (1e-4, -1e-4):
                state.value = start.ravel().at[k].add(h).reshape(start.shape)
                ends.append(float(value()))
            state.value = start
            wanted = (ends[0] - ends[1]) / 2e-4
            assert abs(wanted) > 1e-4, path
            np.testing.assert_allclose(slopes[path].ravel()[k], wanted, rtol=2e-5, err_msg=str(path))


def test_a_fitter_finds_haemodynamic_parameters():
    """From data of the same noise, the planted transit time and gain come back."""
    from brainloom.fit.fitter import Fitter

    target = Subject().run()
    subject = Subject("tau", "bold_gain", tau=1.6, bold_gain=2.0)
    found = Fitter(
        subject,
        predict=lambda one: one.run(),
        objective=lambda a, b: 1e6 * jnp.mean((a - b) ** 2),
        backend="scipy",
    ).fit(target, 40)
    assert sorted(found.best_params) == ["bold.bold_gain", "bold.tau"]
    np.testing.assert_allclose(found.best_params["bold.bold_gain"], 1.0, rtol=1e-2)
    np.testing.assert_allclose(found.best_params["bold.tau"], 1.0, rtol=1e-2)


def test_a_gradient_through_ten_minutes_fits_in_a_gigabyte():
    """80 regions, dt 1 ms, doubles: compiled, not run; the benchmark measures it."""
    n = 80
    weights = np.random.default_rng(0).uniform(0.0, 1.0, (n, n)) / n

    def loss(k, w):
        net = Network(ReducedWongWangStep(n, w=w, noise_S=0.01), weights, k=k)
        run = Simulator(net, 1.0 * MS).run
        found = run(600.48 * S, observe=[BOLD(0.72 * S)], key=KEY)
        return jnp.sum(jnp.corrcoef(found["bold"].T) ** 2)

    compiled = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(0.2, jnp.full(n, 0.9)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1e9


def test_the_published_module_takes_the_same_steps():
    """A Param of it is differentiable, a step has a unit, and a wrong one is said."""
    node = BOLDSignal(3, k=np.array([0.6, 0.65, 0.8]), tau=1.0 * S)
    node.init_state()
    drive = jnp.asarray(np.random.default_rng(2).uniform(0, 1, (200, 3)))
    with brainstate.environ.context(dt=10 * MS):
        found = brainstate.transform.for_loop(node.update, drive)
    p = VARIANTS["friston2003"] | {"kappa": np.array([0.6, 0.65, 0.8]), "tau": 1.0}
    wanted = reference(np.repeat(drive, 10, axis=0), p, 10)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    np.testing.assert_allclose(node.bold(), found[-1], rtol=1e-12)
    node.reset_state(batch_size=2)
    assert node.v.value.shape == (2, 3) and (np.asarray(node.bold()) == 0).all()
    with (
        pytest.raises(UnitError, match="z of BOLDSignal is given in mV"),
        brainstate.environ.context(dt=1 * MS),
    ):
        node.update(1.0 * u.mV)
