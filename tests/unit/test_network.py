"""Coupling of a network, and its lowering to pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.coupling import additive, diffusive
from brainloom.integrate import stochastic_step
from brainloom.models import HopfStep, LinearStep
from brainloom.network import Network, lower

RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0.1, 1.0, (4, 4))  # not symmetric, with a diagonal
X = RNG.normal(size=(3, 4))  # a batch of three


def test_diffusive_coupling_is_the_sum_of_weighted_differences():
    expected = [[sum(WEIGHTS[i, j] * (x[j] - x[i]) for j in range(4)) for i in range(4)] for x in X]
    np.testing.assert_allclose(diffusive(WEIGHTS, X), expected, rtol=1e-12)
    gain = np.arange(1.0, 5.0)  # per target
    np.testing.assert_allclose(diffusive(WEIGHTS, X, gain), gain * expected, rtol=1e-12)


def test_additive_coupling_is_the_weighted_sum():
    expected = [[sum(WEIGHTS[i, j] * x[j] for j in range(4)) for i in range(4)] for x in X]
    np.testing.assert_allclose(additive(WEIGHTS, X, 0.5), 0.5 * np.array(expected), rtol=1e-12)


@pytest.mark.parametrize("coupling, received", [("additive", 2.0), ("diffusive", 2.0 - 0.5)])
def test_a_weight_leads_from_its_column_to_its_row(coupling, received):
    weights = np.zeros((3, 3))
    weights[0, 2] = 0.5
    low = lower(Network(LinearStep(3, gamma=0.0), weights, coupling=coupling), 0.1)
    slope = low.field(low.params, {"x": jnp.array([1.0, 3.0, 4.0])}, {}, 0.0)["x"]
    np.testing.assert_allclose(slope, [received, 0.0, 0.0], atol=1e-15)


def test_the_diagonal_of_the_connectome_is_ignored():
    state, loops = {"x": jnp.asarray(X[0])}, WEIGHTS + np.diag([1.0, 5.0, 0.0, 2.0])
    slopes = []
    for weights in (WEIGHTS, loops):
        low = lower(Network(LinearStep(4), weights, coupling="additive"), 0.1)
        slopes.append(low.field(low.params, state, {}, 0.0)["x"])
    np.testing.assert_array_equal(*slopes)
    hollow = WEIGHTS - np.diag(np.diag(WEIGHTS))
    np.testing.assert_allclose(slopes[0], -0.1 * X[0] + hollow @ X[0], rtol=1e-12)


def test_coupled_variables_reach_their_ports_and_inputs_are_added():
    node = HopfStep(4, a=0.1, w=0.3)
    state = {"x": jnp.asarray(X[0]), "y": jnp.asarray(X[1])}
    low = lower(Network(node, WEIGHTS, coupled_var=("x", "y"), gain=0.7), 0.1)
    found = low.field(low.params, state, {"y_input": 0.25}, 0.0)
    hollow = WEIGHTS - np.diag(np.diag(WEIGHTS))
    alone = node.derivative(state)
    np.testing.assert_allclose(found["x"], alone["x"] + diffusive(hollow, X[0], 0.7), rtol=1e-12)
    np.testing.assert_allclose(found["y"], alone["y"] + diffusive(hollow, X[1], 0.7) + 0.25, rtol=1e-12)


def test_wrong_networks_are_errors():
    node = LinearStep(4)
    with pytest.raises(ValueError, match=r"conn has shape \(3, 3\); 4 regions need \(4, 4\)"):
        Network(node, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="LinearStep has no observable 'y'; it has source, x"):
        Network(node, WEIGHTS, coupled_var="y")
    with pytest.raises(ValueError, match="2 coupled variables but 1 ports"):
        Network(node, WEIGHTS, coupled_var=("x", "source"))
    with pytest.raises(ValueError, match="coupling is 'electric'; it must be one of additive, diffusive"):
        Network(node, WEIGHTS, coupling="electric")
    with pytest.raises(ValueError, match="method is 'rk5'"):
        lower(Network(node, WEIGHTS), 0.1, "rk5")


@pytest.fixture(scope="module")
def low():
    node = HopfStep(4, a=np.array([0.1, -0.1, 0.05, 0.2]), w=0.3, noise_x=0.02, noise_y=np.arange(4) * 0.01)
    return lower(Network(node, WEIGHTS, coupled_var=("x", "y"), gain=0.2), 0.1)


NOISE = jnp.asarray(RNG.normal(size=(6, 2, 4)))
INPUT = {"x_input": jnp.array([0.0, 0.1, 0.0, -0.1])}


def test_a_step_is_the_integrator_on_the_coupled_field_with_scaled_noise(low):
    state = low.init(low.params)
    new, out = low.step(low.params, state, INPUT, NOISE[0], 0.0)
    root = np.sqrt(0.1)
    kicks = {"x": 0.02 * root * NOISE[0, 0], "y": np.arange(4) * 0.01 * root * NOISE[0, 1]}

    def f(values, t):
        return low.field(low.params, values, INPUT, t)

    expected = stochastic_step("stochastic_heun", f, state, kicks, 0.0, 0.1)
    for name in ("x", "y"):
        np.testing.assert_allclose(new[name], expected[name], rtol=1e-14)
    np.testing.assert_array_equal(out["source"], new["x"])
    assert low.noise_shape == (2, 4) and set(out) == {"source", "x", "y", "bold", "eeg"}


def test_advance_is_repeated_stepping(low):
    state = low.init(low.params)
    end, out = jax.jit(low.advance)(low.params, state, INPUT, NOISE, 0.0)
    for k, noise in enumerate(NOISE):
        state, seen = low.step(low.params, state, INPUT, noise, 0.1 * k)
        np.testing.assert_allclose(out["y"][k], seen["y"], rtol=1e-13)
    np.testing.assert_allclose(end["x"], state["x"], rtol=1e-13)


def test_time_goes_on_within_advance():
    class Clock(LinearStep):
        @staticmethod
        def rhs(params, state, inputs, t):
            return {"x": jnp.broadcast_to(3.0 * t**2, state["x"].shape)}

    low = lower(Network(Clock(1, init_x=0.0), np.zeros((1, 1))), 0.1, "rk4")  # exact for a cubic
    end, _ = low.advance(low.params, low.init(low.params), {}, jnp.zeros((5, *low.noise_shape)), 2.0)
    np.testing.assert_allclose(end["x"], 2.5**3 - 2.0**3, rtol=1e-13)


def test_a_leading_axis_and_vmap_give_the_same_batch(low):
    batch = {"x": jnp.asarray(X), "y": jnp.asarray(X[::-1])}
    noise = jnp.asarray(RNG.normal(size=(6, 2, 3, 4)))
    together = low.advance(low.params, batch, INPUT, noise, 0.0)[1]["x"]
    mapped = jax.jit(jax.vmap(low.advance, in_axes=(None, 0, None, 2, None), out_axes=(0, 1)))
    np.testing.assert_allclose(mapped(low.params, batch, INPUT, noise, 0.0)[1]["x"], together, rtol=1e-12)
    one = low.advance(low.params, {k: v[1] for k, v in batch.items()}, INPUT, noise[:, :, 1], 0.0)[1]["x"]
    np.testing.assert_allclose(together[:, 1], one, rtol=1e-12)


def test_rk4_keeps_its_order_in_a_network():
    """Coupling that is held over the step would lower it to 1."""
    node = HopfStep(4, a=0.2, w=0.3, init_x=0.4 * X[0], init_y=0.4 * X[1])
    network = Network(node, WEIGHTS, coupled_var=("x", "y"), gain=0.3)

    def end(dt):
        low = lower(network, dt, "rk4")
        quiet = jnp.zeros((round(4.0 / dt), *low.noise_shape))
        last = jax.jit(low.advance)(low.params, low.init(low.params), {}, quiet, 0.0)[0]
        return np.concatenate([last["x"], last["y"]])

    coarse, middle, fine = (end(dt) for dt in (0.1, 0.05, 0.025))
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    assert order == pytest.approx(4.0, abs=0.25)
