"""Covariances by one eigendecomposition against the general solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.linear.lyapunov import lyapunov
from brainloom.linear.spectra import cross_spectrum, lagged_band_covariance
from brainloom.linear.symmetric import BandKernel, LyapunovKernel, spectral_covariance

N = 7
FREQUENCY = np.linspace(0.005, 0.25, 25)
WEIGHT = 0.01 * np.exp(-(((FREQUENCY - 0.06) / 0.04) ** 2))
KERNELS = {
    "lyapunov": LyapunovKernel(),
    "band": BandKernel(FREQUENCY, WEIGHT),
    "lagged": BandKernel(FREQUENCY, WEIGHT, 3.0),
}


def generic(seed=0):
    rng = np.random.default_rng(seed)
    half = rng.uniform(0, 0.2, (N, N))
    weights = half + half.T
    np.fill_diagonal(weights, 0)
    root = rng.normal(size=(N, N))
    return weights - np.diag(weights.sum(axis=1) + rng.uniform(0.05, 0.2, N)), root @ root.T


def uniform():
    """All regions alike: one simple eigenvalue and one that is repeated N - 1 times."""
    _, q = generic(1)
    return 0.1 * np.ones((N, N)) - (0.1 * N + 0.08) * np.eye(N), q


def direct(name, m, q):
    """The same covariance without eigenvectors."""
    if name == "lyapunov":
        return lyapunov(m, q)
    spectrum = cross_spectrum(jnp.asarray(m), jnp.asarray(q), FREQUENCY)
    found = lagged_band_covariance(spectrum, FREQUENCY, WEIGHT, 3.0 if name == "lagged" else 0.0)
    return 0.5 * (found + found.T)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("network", [generic, uniform])
def test_kernels_against_the_general_solutions(name, network):
    m, q = network()
    expected = np.asarray(direct(name, m, q))
    found = spectral_covariance(m, q, KERNELS[name])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("name", KERNELS)
def test_derivative_of_a_kernel(name):
    values = np.array([-0.05, -0.3, -0.30001, -2.0])
    k, dk = KERNELS[name](jnp.asarray(values))
    np.testing.assert_allclose(k, np.transpose(k), rtol=1e-14)
    step = 1e-6
    for i in range(len(values)):
        moved = [KERNELS[name](jnp.asarray(values + s * step * np.eye(len(values))[i]))[0] for s in (1, -1)]
        slope = (moved[0] - moved[1])[i] / (2 * step)
        expected = dk[i] + np.eye(len(values))[i] * dk[i, i]  # both arguments of k(l_i, l_i) move
        np.testing.assert_allclose(slope, expected, rtol=1e-6)


def nearly_uniform(gap):
    """Eigenvalues that differ by about `gap` of the largest: below, at and above what counts as equal."""
    m, q = uniform()
    shift = np.random.default_rng(3).normal(size=(N, N))
    return m + gap * np.abs(m).max() * (shift + shift.T), q


@pytest.fixture(scope="module", params=KERNELS)
def derivatives(request):
    """Value and derivatives in both directions, by the eigendecomposition and by the general solution."""
    name = request.param
    dm, dq, back = (x + x.T for x in np.random.default_rng(4).normal(size=(3, N, N)))

    def both(solution, m, q):
        value, forward = jax.jvp(solution, (m, q), (dm, dq))
        m_bar, q_bar = jax.vjp(solution, m, q)[1](back)
        return value, forward, 0.5 * (m_bar + m_bar.T), 0.5 * (q_bar + q_bar.T)

    found = jax.jit(lambda m, q: both(lambda m, q: spectral_covariance(m, q, KERNELS[name]), m, q))
    expected = jax.jit(lambda m, q: both(lambda m, q: direct(name, m, q), m, q))
    return found, expected


@pytest.mark.parametrize("gap", [None, 0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-3])
def test_derivatives_against_those_of_the_general_solution(derivatives, gap):
    """The general solution knows no eigenvalues, so it does not mind equal ones."""
    m, q = generic() if gap is None else nearly_uniform(gap)
    found, expected = (each(m, q) for each in derivatives)
    for a, b in zip(found, expected, strict=True):
        # pairs nearer than 1e-6 use the limit of the divided difference, off by their gap
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6 * np.abs(b).max())
