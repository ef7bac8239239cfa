"""Spectra and band-limited covariances against time-domain solutions that use no spectrum."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal
from scipy.linalg import expm, solve_continuous_lyapunov

from brainloom.fit.problem import MIN_NODES, REPORT_NODES, band_nodes
from brainloom.linear.jacobian import network_jacobian
from brainloom.linear.rotating import band_covariance, observed_spectrum
from brainloom.linear.spectra import cross_spectrum, lagged_band_covariance
from brainloom.models import HopfStep
from brainloom.models.lowering import lower
from brainloom.network import Network

N = 4
RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0.0, 0.4, (N, N)) * (1 - np.eye(N))  # not symmetric: lags have a direction
JACOBIAN = WEIGHTS - np.diag(WEIGHTS.sum(axis=1) + 0.1)
NOISE = np.diag(RNG.uniform(0.5, 2.0, N))


def tangent_nodes(n, scale):
    """Midpoints of f = scale tan(angle): the whole half line, exponentially accurate for rational spectra."""
    angle = (np.arange(n) + 0.5) * 0.5 * np.pi / n
    return scale * np.tan(angle), 2 * scale / np.cos(angle) ** 2 * 0.5 * np.pi / n


def test_the_integral_over_all_frequencies_is_the_stationary_covariance():
    frequency, weight = tangent_nodes(60, 0.1)
    spectrum = cross_spectrum(jnp.asarray(JACOBIAN), jnp.asarray(NOISE), frequency)
    found = lagged_band_covariance(spectrum, frequency, weight, 0.0)
    expected = solve_continuous_lyapunov(JACOBIAN, -NOISE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * expected.max())


@pytest.mark.parametrize("lag", [0.0, 2.0, -2.0])
def test_covariance_at_a_lag_through_a_filter(lag):
    """y' = (x - y) / tau, twice in a row, is part of a larger linear system with known lagged covariance."""
    tau = 1.5
    unit, zero = np.eye(N), np.zeros((N, N))
    system = np.block(
        [[JACOBIAN, zero, zero], [unit / tau, -unit / tau, zero], [zero, unit / tau, -unit / tau]]
    )
    noise = np.zeros((3 * N, 3 * N))
    noise[:N, :N] = NOISE
    stationary = solve_continuous_lyapunov(system, -noise)
    turned = expm(abs(lag) * system) @ stationary  # <z(t + lag) z(t)'>
    expected = (turned if lag >= 0 else turned.T)[2 * N :, 2 * N :]

    frequency, weight = tangent_nodes(400, 0.1)
    gain = 1.0 / (1.0 + (2 * np.pi * frequency * tau) ** 2) ** 2  # power, both filters
    found = band_covariance(JACOBIAN, NOISE, frequency, weight * gain, lag)
    spectrum = cross_spectrum(jnp.asarray(JACOBIAN), jnp.asarray(NOISE), frequency)
    summed = lagged_band_covariance(spectrum, frequency, weight * gain, lag)
    np.testing.assert_allclose(summed, expected, rtol=0, atol=1e-8 * expected.max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * expected.max())
    asymmetry = np.abs(expected - expected.T).max() / expected.max()
    assert asymmetry < 1e-12 if lag == 0 else asymmetry > 0.01  # the direction of the lag is tested


@pytest.fixture(scope="module")
def rotating():
    """A Hopf network at the origin: complex Jacobian and noise, and the real ones of (x, y)."""
    rng = np.random.default_rng(1)
    a, w, noise = -rng.uniform(0.02, 0.1, N), rng.uniform(0.2, 0.5, N), rng.uniform(0.5, 2.0, N)
    node = HopfStep(N, a=a, w=w, noise_x=noise, noise_y=noise)
    low = lower(Network(node, WEIGHTS, coupled_var=("x", "y")), 0.1)
    origin = {"x": jnp.zeros(N), "y": jnp.zeros(N)}
    full = network_jacobian(low.structure, low.params, origin)
    half = WEIGHTS + np.diag(a + 1j * w - WEIGHTS.sum(axis=1))
    return jnp.asarray(half), jnp.diag(2 * noise**2), full, jnp.diag(np.tile(noise**2, 2))


def test_spectrum_of_the_real_part_of_a_rotating_network(rotating):
    half, half_noise, full, full_noise = rotating
    frequency = np.linspace(0.0, 0.3, 40)
    for found, real in (
        (observed_spectrum(half, half_noise, frequency), (full, full_noise)),
        (observed_spectrum(jnp.asarray(JACOBIAN), jnp.asarray(NOISE), frequency), (JACOBIAN, NOISE)),
    ):
        both = cross_spectrum(*map(jnp.asarray, real), frequency)
        expected = 2.0 * np.diagonal(np.asarray(both).real, axis1=1, axis2=2).T[:N]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_covariance_of_a_rotating_network_at_a_lag(rotating):
    half, half_noise, full, full_noise = (np.asarray(x) for x in rotating)
    expected = (expm(1.3 * full) @ solve_continuous_lyapunov(full, -full_noise))[:N, :N]
    frequency = (np.arange(4000) + 0.5) * 0.005  # up to 20 Hz; the rest is below 1e-5
    found = band_covariance(
        jnp.asarray(half), jnp.asarray(half_noise), frequency, np.full(4000, 2 * 0.005), 1.3
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def band_errors(jacobian, noise, n_nodes):
    """Relative errors of the quadrature of a fit, against a dense sum over the sampled filter up to Nyquist."""
    tr, band = 0.72, (0.01, 0.1)
    step = 0.5 / tr / 40_000
    dense = (np.arange(40_000) + 0.5) * step
    response = signal.freqz(*signal.butter(2, band, "bandpass", fs=1 / tr), worN=dense, fs=1 / tr)[1]
    nodes = [band_nodes(tr, band, 2, n_nodes), (dense, 2 * step * np.abs(response) ** 4)]
    found, expected = (
        band_covariance(jnp.asarray(jacobian), jnp.asarray(noise), jnp.asarray(f), jnp.asarray(w))
        for f, w in nodes
    )
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("rate", [0.02, 0.1, 1.0])
def test_the_nodes_of_a_fit_are_enough_for_broad_spectra(rate):
    assert band_errors(JACOBIAN * rate / 0.1, NOISE, MIN_NODES) < 1e-5


def test_the_nodes_of_a_fit_are_enough_for_resonances():
    """Uncoupled Hopf regions of the reference rate, and as near to bifurcation as the default margin lets them."""
    frequency = np.array([0.04, 0.05, 0.06, 0.07])
    for rate, error in ((0.02, 5e-3), (0.01, 5e-2)):
        half = np.diag(-rate + 2j * np.pi * frequency)
        assert band_errors(half, NOISE, round(3.2 / 0.02)) < error
        assert band_errors(half, NOISE, REPORT_NODES) < 1e-4
