"""The Lyapunov equation against scipy and closed forms, near and far from instability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov

from brainloom.linear.lyapunov import lyapunov

N = 12


def stable(margin, seed, is_complex):
    """A non-normal matrix whose rightmost eigenvalue has real part -margin, and a Hermitian noise matrix."""
    rng = np.random.default_rng(seed)
    a, root = rng.normal(size=(2, N, N)) / np.sqrt(N)
    if is_complex:
        a = a + 1j * rng.normal(size=(N, N)) / np.sqrt(N) + 3j * np.diag(rng.normal(size=N))
        root = root + 1j * rng.normal(size=(N, N))
    a = a - (np.linalg.eigvals(a).real.max() + margin) * np.eye(N)
    return a, root @ root.conj().T


solve = jax.jit(lyapunov)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("margin", [1.0, 0.1, 0.01, 0.001])
def test_against_scipy(margin, is_complex):
    a, q = stable(margin, 3, is_complex)
    found = np.asarray(solve(a, q))
    expected = solve_continuous_lyapunov(a, -q)
    # both lose digits in proportion to 1 / margin
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 / margin * np.abs(expected).max())
    residual = a @ found + found @ a.conj().T + q
    assert np.abs(residual).max() < 1e-13 / margin * np.abs(q).max() * np.abs(a).max()
    np.testing.assert_allclose(found, found.conj().T, rtol=0, atol=1e-12 / margin * np.abs(found).max())
    assert np.iscomplexobj(found) == is_complex


def test_a_batch_of_different_margins():
    """Some members need more doublings than others; none may be touched by the others' loop."""
    pairs = [stable(margin, k, True) for k, margin in enumerate((2.0, 0.003, 0.3))]
    a, q = (np.stack(x) for x in zip(*pairs, strict=True))
    found = jax.jit(jax.vmap(lyapunov))(a, q)
    for one, (a_k, q_k) in zip(found, pairs, strict=True):
        expected = solve_continuous_lyapunov(a_k, -q_k)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_a_batch_of_noises_for_one_matrix():
    a, _ = stable(0.1, 5, False)
    q = np.stack([np.eye(N), np.diag(np.arange(N) + 1.0)])
    found = jax.vmap(lyapunov, in_axes=(None, 0))(a, q)
    for one, q_k in zip(found, q, strict=True):
        np.testing.assert_allclose(
            one, solve_continuous_lyapunov(a, -q_k), rtol=0, atol=1e-11 * np.abs(one).max()
        )


def test_two_coupled_nodes_in_closed_form():
    # dx = (-k x + c (x_other - x)) dt + s dW: the sum decays at k, the difference at k + 2 c
    k, c, s = 0.3, 0.8, 0.5
    covariance = lyapunov(jnp.array([[-k - c, c], [c, -k - c]]), s**2 * jnp.eye(2))
    mean_square = s**2 / (2 * k), s**2 / (2 * (k + 2 * c))
    expected = 0.5 * (mean_square[0] + mean_square[1]), 0.5 * (mean_square[0] - mean_square[1])
    np.testing.assert_allclose(covariance[0], expected, rtol=1e-14)


def test_the_unit_of_time_only_scales_the_solution():
    a, q = stable(0.05, 6, False)
    per_second = np.asarray(solve(a, q))
    for factor in (1e-3, 1e4):
        np.testing.assert_allclose(
            factor * solve(factor * a, q), per_second, rtol=0, atol=1e-11 * np.abs(per_second).max()
        )


def test_a_defective_matrix():
    """A Jordan block has no basis of eigenvectors."""
    a = -0.1 * np.eye(N) + np.diag(np.full(N - 1, 0.05), 1)
    expected = solve_continuous_lyapunov(a, -np.eye(N))
    np.testing.assert_allclose(solve(a, np.eye(N)), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_an_unstable_matrix_does_not_look_like_a_covariance():
    a, q = stable(0.1, 7, False)
    found = np.asarray(solve(a + 0.2 * np.eye(N), q))
    assert not np.isfinite(found).all()
