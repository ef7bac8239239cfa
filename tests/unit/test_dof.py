"""Effective degrees of freedom against the variance of correlations that they stand for."""

import numpy as np
import pytest
from scipy import signal

from brainloom.analysis.clean import clean
from brainloom.analysis.dof import autocorrelation, decorrelation_frames, effective_dof


def test_autocorrelation_is_its_sum():
    x = np.random.default_rng(11).normal(size=(60, 2)).cumsum(axis=0)
    y = x - x.mean(axis=0)
    expected = [
        [(y[k:, r] * y[: 60 - k, r]).sum() / (y[:, r] ** 2).sum() for r in range(2)] for k in range(6)
    ]
    np.testing.assert_allclose(autocorrelation(x, 5), expected, atol=1e-13)


def test_dof_is_bartletts_formula_over_pairs():
    x = np.random.default_rng(12).normal(size=(80, 4)).cumsum(axis=0)
    rho = autocorrelation(x, 20)[1:]
    factors = [1 + 2 * (rho[:, i] * rho[:, j]).sum() for i in range(4) for j in range(i + 1, 4)]
    assert effective_dof(x) == pytest.approx(80 / np.mean(factors), rel=1e-12)


def test_dof_of_an_autoregressive_process_has_a_closed_form():
    """rho(k) = phi^k gives T (1 - phi^2) / (1 + phi^2); within 6% at 6,000 frames and 30 regions."""
    e = np.random.default_rng(13).normal(size=(6000, 30))
    x = signal.lfilter([1], [1, -0.8], e, axis=0)
    assert effective_dof(x) == pytest.approx(6000 * (1 - 0.64) / (1 + 0.64), rel=0.06)


def test_dof_of_cleaned_noise_predicts_the_variance_of_its_correlations():
    """Band-passed white noise: 1 / mean r^2 over 19,900 independent pairs, within 8%.

    Bartlett's formula is for stationary series, so the start and end transients of the filter are cut off.
    """
    x = clean(np.random.default_rng(14).normal(size=(800, 200)), 0.72, band=(0.01, 0.1))[100:-100]
    r = np.corrcoef(x.T)[np.triu_indices(200, 1)]
    assert effective_dof(x) == pytest.approx(1 / np.mean(r**2), rel=0.08)


def test_decorrelation_time_is_frames_per_dof():
    white = np.random.default_rng(15).normal(size=(1000, 20))
    assert decorrelation_frames(white) in (1, 2)
    slow = signal.lfilter([1], [1, -0.9], white, axis=0)
    assert decorrelation_frames(slow) == int(np.ceil(1000 / effective_dof(slow)))
    assert 7 <= decorrelation_frames(slow) <= 14


def test_regions_without_variance_do_not_break_it():
    assert effective_dof(np.zeros((50, 3))) == 50
