"""Band-limited covariance by one eigendecomposition: against the sum over resolvents, and its derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.linear.rotating import resolvent_covariance

N = 7
FREQUENCY = np.concatenate([np.linspace(0.005, 0.2, 30), -np.linspace(0.005, 0.2, 30)])
WEIGHT = np.tile(np.linspace(1.0, 0.2, 30), 2) * 0.01


def network(seed: int, *, alike: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Complex Jacobian of a diffusive network and its noise; `alike`: equal weights, rates and frequencies."""
    rng = np.random.default_rng(seed)
    weights = np.full((N, N), 0.03) if alike else 0.1 * rng.random((N, N))
    np.fill_diagonal(weights, 0.0)
    rate = np.full(N, 0.05) if alike else 0.03 + 0.05 * rng.random(N)
    omega = np.full(N, 0.3) if alike else 0.25 + 0.1 * rng.random(N)
    jacobian = weights - np.diag(rate + weights.sum(axis=1)) + 1j * np.diag(omega)
    return jacobian, np.diag(0.5 + rng.random(N))


def brute_force(jacobian: np.ndarray, noise: np.ndarray, lag: float) -> np.ndarray:
    """The sum, one inverse a node."""
    total = np.zeros((N, N), complex)
    for frequency, weight in zip(FREQUENCY, weights_at(lag), strict=True):
        resolvent = np.linalg.inv(2j * np.pi * frequency * np.eye(N) - jacobian)
        total += weight * resolvent @ noise @ resolvent.conj().T
    return total


def weights_at(lag: float) -> np.ndarray:
    """Weights of the nodes, with a phase for covariances at a lag."""
    return WEIGHT * np.exp(2j * np.pi * FREQUENCY * lag) if lag else WEIGHT


@pytest.mark.parametrize("lag", [0.0, 1.7])
@pytest.mark.parametrize("alike", [False, True])
def test_it_is_the_sum_over_resolvents(alike, lag):
    jacobian, noise = network(1, alike=alike)
    found = resolvent_covariance(jnp.asarray(jacobian), jnp.asarray(noise), FREQUENCY, weights_at(lag))
    # rounding of an eigendecomposition, amplified by the width of the resonances
    np.testing.assert_allclose(found, brute_force(jacobian, noise, lag), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lag", [0.0, 1.7])
@pytest.mark.parametrize("alike", [False, True])
def test_derivatives(alike, lag):
    jacobian, noise = network(2, alike=alike)
    rng = np.random.default_rng(3)
    direction = rng.normal(size=(N, N)) + 1j * np.diag(rng.normal(size=N))
    projection = rng.normal(size=(N, N))

    def value(t):
        moved = resolvent_covariance(
            jacobian + t[0] * 0.01 * direction, noise * (1.0 + t[1]), jnp.asarray(FREQUENCY), weights_at(lag)
        )
        return jnp.sum(jnp.real(moved) * projection)

    def reference(t):
        moved = brute_force(jacobian + t[0] * 0.01 * direction, noise * (1.0 + t[1]), lag)
        return float(np.sum(moved.real * projection))

    step = 1e-5
    differences = [(reference(step * e) - reference(-step * e)) / (2.0 * step) for e in np.eye(2)]
    start = jnp.zeros(2)
    # central differences: error of order step^2 and rounding / step; equal eigenvalues: see DEGENERATE
    np.testing.assert_allclose(jax.grad(value)(start), differences, rtol=2e-6)
    np.testing.assert_allclose(jax.jacfwd(value)(start), differences, rtol=2e-6)
