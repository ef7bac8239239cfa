"""
Programs in the published style, with only the name of the module changed: quick start, settled amplitude, networks, noise.

Numbers of the amplitude example are the printed ones; everything else is checked against a law or another way to run.
"""

from __future__ import annotations

import os
import subprocess
import sys

import brainloom
import brainloom.models  # before brainstate, which resets jax to single precision when it is imported
from brainloom import Simulator

# isort: split
import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brainstate.nn import Param, SoftplusT

PRECISION = pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])


@pytest.mark.parametrize("name", ["Simulator", "Network", "Fitter", "HopfStep"])
def test_an_import_leaves_the_precision_alone(name):
    # a process of its own: what is imported first decides
    program = f"from brainloom import {name}\nimport jax.numpy as jnp\nprint(jnp.zeros(1).dtype)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "float64"


@PRECISION
def test_quick_start(double):
    with jax.enable_x64(double):
        node = brainloom.HopfStep(in_size=1, a=0.25, w=0.3, init_x=braintools.init.Constant(0.5))
        res = Simulator(node, dt=0.1 * u.ms).run(200 * u.ms, monitors=["x"], transient=20 * u.ms)
        assert res["x"].shape == (1800, 1) and res["x"].dtype == (np.float64 if double else np.float32)
        assert res["ts"].unit == u.ms
        np.testing.assert_allclose(res["ts"][np.array([0, -1])] / u.ms, [20.1, 200.0], rtol=1e-6)
        # the oscillation reaches sqrt(a); exponential Euler is off by 1 % at this step
        assert abs(np.abs(res["x"]).max() - 0.5) < 0.01


@PRECISION
@pytest.mark.parametrize(
    ("method", "printed"), [(None, ("0.1332", "-0.5733")), ("rk4", ("0.1344", "-0.5805"))]
)
def test_gradient_of_a_settled_amplitude(method, printed, double):
    def loss(a):
        options = {} if method is None else {"method": method}
        node = brainloom.HopfStep(in_size=1, a=a, w=0.3, init_x=braintools.init.Constant(0.5), **options)
        sim = Simulator(node, dt=0.1 * u.ms)
        res = sim.run(400 * u.ms, monitors=["x"], transient=200 * u.ms)
        assert res["x"].shape == (2000, 1) and res["ts"].unit == u.ms
        amplitude = jnp.sqrt(2.0) * jnp.sqrt(jnp.mean(res["x"] ** 2))
        return (amplitude - 1.0) ** 2

    with jax.enable_x64(double):
        value, slope = jax.value_and_grad(loss)(0.4)
        assert (f"{value:.4f}", f"{slope:.4f}") == printed
        assert f"{loss(0.4):.4f}" == printed[0]  # without a gradient: another program


def test_network_on_the_example_connectome():
    data = brainloom.datasets.load_dataset("example_connectome")
    n = data.weights.shape[0]
    node = brainloom.HopfStep(in_size=n, a=0.1, w=0.3)
    net = brainloom.Network(
        node,
        conn=data.weights,
        distance=data.distances,
        speed=10 * u.mm / u.ms,
        coupling="diffusive",
        coupled_var="x",
        k=0.2,
    )
    res = Simulator(net, dt=0.1 * u.ms).run(
        100 * u.ms, monitors=lambda m: m.node.x.value, transient=50 * u.ms, batch_size=2
    )
    assert res["output"].shape == (500, 2, n) and np.isfinite(res["output"]).all()
    named = Simulator(net, dt=0.1 * u.ms).run(100 * u.ms, monitors=["x", "node.y"], transient=50 * u.ms)
    assert set(named) == {"x", "node.y", "ts", "diverged"}
    # another shape compiles to other roundings; 1000 steps keep them small
    np.testing.assert_allclose(res["output"][:, 1], named["x"], rtol=0, atol=1e-10)
    # the same by the stateful face: the history is that of the steps before
    with brainstate.environ.context(dt=0.1 * u.ms):
        brainstate.nn.init_all_states(net)
        steps = brainstate.transform.for_loop(lambda i: net.update(), jnp.arange(600))
    np.testing.assert_allclose(steps[-1], named["x"][99], rtol=0, atol=1e-10)
    ax = brainloom.viz.plot_timeseries(named["x"][:, :5], ts=named["ts"])
    assert len(ax.lines) == 5 and "ms" in ax.get_xlabel()


def test_noise_as_one_argument():
    noise = brainloom.OUProcess(in_size=3, sigma=0.1, tau=20 * u.ms)
    node = brainloom.HopfStep(in_size=3, a=-0.5, w=0.3, noise_x=noise)
    brainstate.random.seed(1)
    sim = Simulator(node, dt=0.1 * u.ms)
    first, second = (sim.run(500 * u.ms, monitors=["x"], transient=100 * u.ms)["x"] for _ in range(2))
    assert first.shape == (4000, 3) and np.abs(first - second).max() > 0.01
    assert np.abs(np.corrcoef(first.T)[np.triu_indices(3, 1)]).max() < 0.9  # regions are independent
    brainstate.random.seed(1)
    np.testing.assert_array_equal(sim.run(500 * u.ms, monitors=["x"], transient=100 * u.ms)["x"], first)
    # x follows slow noise at 1 / (0.5 + 0.3^2 / 0.5) of it, 0.147; 60 correlation times know that to a sixth
    assert abs(first.std() - 0.147) < 0.07


def test_rates_come_back_in_hertz():
    node = brainloom.MontbrioPazoRoxinStep(in_size=2)
    res = Simulator(node, dt=0.1 * u.ms).run(300 * u.ms, monitors=["r", "v"])
    assert res["r"].unit == u.Hz
    # the low state, 0.0811344 per time constant of 10 ms; the scheme does not move fixed points
    np.testing.assert_allclose(res["r"][-1] / u.Hz, 8.11344, rtol=1e-5)
    np.testing.assert_allclose(res["v"][-1], -1.96162, rtol=1e-5)
    assert res.to_xarray()["r"].attrs["units"] == "Hz"
    shown = Simulator(node, dt=0.1 * u.ms).run(300 * u.ms, monitors=lambda m: m.observe("r"))["output"]
    np.testing.assert_allclose(shown[-1] / u.Hz, 8.11344, rtol=1e-5)


def test_signals_of_jansen_rit():
    node = brainloom.JansenRitStep(in_size=2)
    res = Simulator(node, dt=0.1 * u.ms).run(0.5 * u.second, monitors=lambda m: m.eeg())
    named = Simulator(node, dt=0.1 * u.ms).run(500 * u.ms, monitors=["eeg", "y1", "y2"])
    assert res["output"].shape == (5000, 2) and res["output"].unit == u.mV
    np.testing.assert_array_equal(res["output"].to_decimal(u.mV), named["eeg"].to_decimal(u.mV))
    difference = (named["y1"] - named["y2"]).to_decimal(u.mV)
    np.testing.assert_allclose(named["eeg"].to_decimal(u.mV), difference, rtol=1e-12)


# --- a population written for brainstate alone ----------------------------------------------------------------------


class GainPopulation(brainstate.nn.Dynamics):
    """A rate that follows its input through a trainable gain: tau r' = gain (1 + inp) - r."""

    def __init__(self, in_size, gain=0.5, tau=10.0 * u.ms):
        super().__init__(in_size)
        self.gain = Param(gain, t=SoftplusT(0.0), fit=True)
        self.tau = tau

    def init_state(self, batch_size=None, **_):
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        self.r = brainstate.HiddenState(jnp.zeros(shape))

    def update(self, inp=0.0):
        dt = brainstate.environ.get("dt")
        self.r.value = self.r.value + dt / self.tau * (self.gain.value() * (1.0 + inp) - self.r.value)
        return self.r.value


def settled(gain, steps):
    """What Euler steps of a tenth of the time constant reach."""
    return gain * (1.0 - 0.9 ** np.arange(1, steps + 1))[:, None]


def test_a_foreign_population_in_the_simulator():
    res = Simulator(GainPopulation(3, gain=0.7), dt=1.0 * u.ms).run(
        40 * u.ms, monitors=["r"], transient=10 * u.ms
    )
    assert res["r"].shape == (30, 3) and res["ts"].unit == u.ms
    np.testing.assert_allclose(res["r"], np.tile(settled(0.7, 40)[10:], 3), rtol=1e-6)
    batch = Simulator(GainPopulation(3), dt=1.0 * u.ms).run(40 * u.ms, batch_size=4)
    assert batch["output"].shape == (40, 4, 3)
    pulse = Simulator(GainPopulation(1, 1.0), dt=1.0 * u.ms).run(
        40 * u.ms, inputs=lambda i, t: jnp.where(t < 5 * u.ms, 1.0, 0.0), monitors=["r"]
    )["r"]
    up = 2.0 * settled(1.0, 5)
    np.testing.assert_allclose(pulse[:5], up, rtol=1e-6)
    down = 1.0 + (up[-1] - 1.0) * 0.9 ** np.arange(1, 36)[:, None]
    np.testing.assert_allclose(pulse[5:], down, rtol=1e-6)


def test_a_foreign_population_in_a_network_and_lowered():
    weights = np.array([[0.0, 0.5], [0.2, 0.0]])
    net = brainloom.Network(GainPopulation(2, 0.7), conn=weights, coupling="additive", coupled_var="r", k=0.3)
    found = Simulator(net, dt=1.0 * u.ms).run(30 * u.ms, monitors=["node.r"])["node.r"]
    r, wanted = np.zeros(2), []
    for _ in range(30):
        r = r + 0.1 * (0.7 * (1.0 + 0.3 * weights @ r) - r)
        wanted.append(r)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)  # softplus and its inverse are good to 1e-7
    low = brainloom.lower(GainPopulation(2, 0.7), 1.0 * u.ms)
    state = low.init(low.params)
    for k in range(3):
        state, out = low.step(low.params, state, {}, None, float(k))
    np.testing.assert_allclose(out["output"], np.tile(settled(0.7, 3)[-1], 2), rtol=1e-6)


def descend(model, loss, steps, rate):
    """The loop that users write: losses, before each step of the optimiser."""
    weights = model.states(brainstate.ParamState)
    optimiser = braintools.optim.Adam(lr=rate)
    optimiser.register_trainable_weights(weights)

    @brainstate.transform.jit
    def step():
        grads, value = brainstate.transform.grad(loss, weights, return_value=True)()
        optimiser.step(grads)
        return value

    return [float(step()) for _ in range(steps)]


def test_a_loop_by_hand_fits_a_foreign_population():
    for how in ("simulator", "for_loop"):
        model = GainPopulation(2, 0.5)

        def rates(model=model, how=how):
            if how == "simulator":
                return Simulator(model, dt=1.0 * u.ms).run(50 * u.ms, monitors=["r"])["r"]
            with brainstate.environ.context(dt=1.0 * u.ms):
                brainstate.nn.init_all_states(model)
                return brainstate.transform.for_loop(lambda i: model.update(), jnp.arange(50))

        losses = descend(model, lambda rates=rates: jnp.mean((rates() - settled(1.5, 50)) ** 2), 60, 0.1)
        # the loss is a parabola in the gain; 60 steps of Adam come within a hundredth of its minimum
        assert losses[-1] < 1e-3 * losses[0]
        np.testing.assert_allclose(model.gain.value(), 1.5, atol=0.05)


# --- fits --------------------------------------------------------------------------------------------------------------


def test_fitter_with_a_loss():
    node = brainloom.HopfStep(
        in_size=1, a=Param(0.4, t=SoftplusT(0.0), fit=True), w=0.3, init_x=braintools.init.Constant(0.5)
    )

    def loss_fn(model):
        res = Simulator(model, dt=0.1 * u.ms).run(400 * u.ms, monitors=["x"], transient=200 * u.ms)
        amplitude = jnp.sqrt(2.0) * jnp.sqrt(jnp.mean(res["x"] ** 2))
        return (amplitude - 1.0) ** 2

    fitter = brainloom.Fitter(node, braintools.optim.Adam(lr=0.1), loss_fn=loss_fn)
    result = fitter.fit(n_steps=60)
    assert f"{result.history[0]:.4f}" == "0.1332"
    # the loss is zero at amplitude 1, that is near a = 1
    assert result.best_loss < 1e-3 and abs(float(result.best_params["a"]) - 1.0) < 0.05


def test_fitter_with_a_prediction_and_an_objective():
    def predict(model):
        return Simulator(model, dt=1.0 * u.ms).run(50 * u.ms, monitors=["r"])["r"]

    def objective(prediction, target):
        return jnp.mean((prediction - target) ** 2)

    fitter = brainloom.Fitter(
        GainPopulation(2, 0.5), braintools.optim.Adam(lr=0.1), predict=predict, objective=objective
    )
    result = fitter.fit(np.tile(settled(1.5, 50), 2), n_steps=80)
    assert result.best_loss < 1e-3 * result.history[0]
    np.testing.assert_allclose(result.best_params["gain"], 1.5, atol=0.05)
