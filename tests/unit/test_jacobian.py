"""Jacobians of networks."""

import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.linear.jacobian import (
    local_jacobian,
    network_jacobian,
    rotating_rate,
    stability_margin,
)
from brainloom.models import HopfStep, LinearStep
from brainloom.models.lowering import lower
from brainloom.network import Network

N = 4
RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0.0, 0.4, (N, N)) * (1 - np.eye(N))
A, W = -RNG.uniform(0.05, 0.3, N), RNG.uniform(0.2, 0.5, N)
ORIGIN = {"x": jnp.zeros(N), "y": jnp.zeros(N)}


def hopf(coupling="diffusive"):
    node = HopfStep(N, a=A, w=W, beta=0.7)
    return lower(Network(node, WEIGHTS, coupled_var=("x", "y"), coupling=coupling, k=0.8), 0.1)


@pytest.mark.parametrize("coupling", ["diffusive", "additive"])
def test_network_jacobian_against_finite_differences(coupling):
    low = hopf(coupling)
    at = RNG.normal(size=2 * N)

    def slope(flat):
        found = low.field(low.params, {"x": jnp.asarray(flat[:N]), "y": jnp.asarray(flat[N:])}, {}, 0.0)
        return np.concatenate([found["x"], found["y"]])

    step = 1e-6
    expected = np.stack(
        [(slope(at + step * e) - slope(at - step * e)) / (2 * step) for e in np.eye(2 * N)], axis=1
    )
    found = network_jacobian(low.structure, low.params, {"x": jnp.asarray(at[:N]), "y": jnp.asarray(at[N:])})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_local_jacobian_of_a_nonlinear_state():
    low = lower(Network(HopfStep(N, a=A, w=W, beta=0.7), np.zeros((N, N))), 0.1)
    state = {"x": jnp.asarray(RNG.normal(size=N)), "y": jnp.asarray(RNG.normal(size=N))}
    local = local_jacobian(HopfStep, low.params, state)
    full = np.asarray(network_jacobian(low.structure, low.params, state)).reshape(2, N, 2, N)
    np.testing.assert_allclose(local, np.einsum("kili->kli", full), rtol=1e-13)


def test_the_complex_form_equals_the_real_one():
    low = hopf()
    rate = rotating_rate(local_jacobian(HopfStep, low.params, ORIGIN))
    np.testing.assert_allclose(rate, A + 1j * W, rtol=1e-14)
    coupled = 0.8 * (WEIGHTS - np.diag(WEIGHTS.sum(axis=1)))
    half = np.asarray(coupled + jnp.diag(rate))
    full = np.block([[half.real, -half.imag], [half.imag, half.real]])  # z -> half z on (x, y)
    np.testing.assert_allclose(network_jacobian(low.structure, low.params, ORIGIN), full, rtol=0, atol=1e-14)
    np.testing.assert_allclose(stability_margin(half), stability_margin(full), rtol=1e-12)


def test_rate_of_a_model_with_one_state_is_real_and_three_states_have_none():
    low = lower(Network(LinearStep(N, gamma=A), WEIGHTS), 0.1)
    rate = rotating_rate(local_jacobian(LinearStep, low.params, {"x": jnp.zeros(N)}))
    np.testing.assert_array_equal(rate, A)
    with pytest.raises(ValueError, match="3 states has no complex form"):
        rotating_rate(jnp.zeros((3, 3, N)))


def test_stability_margin():
    assert stability_margin(jnp.array([[-0.3, 5.0], [0.0, -0.2]])) == pytest.approx(0.2)
    assert stability_margin(jnp.array([[0.1, -2.0], [2.0, 0.1]])) == pytest.approx(-0.1)  # unstable focus
    half = jnp.diag(jnp.array([-0.3 + 4j, -0.05 - 1j]))
    assert stability_margin(half) == pytest.approx(0.05)
