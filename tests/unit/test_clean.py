"""Cleaning against scipy's direct-form filter, least squares and the response to single tones."""

import numpy as np
import pytest
from scipy import signal

from brainloom.analysis.clean import (
    band_power_gain,
    bandpass,
    clean,
    detrend_only,
    minimum_frames,
    remove_global_signal,
    zscore,
)

TR = 0.72


@pytest.fixture
def x():
    random = np.random.default_rng(1)
    drift = np.linspace(0, 300, 600)[:, None] * random.normal(size=6)
    return 1e4 + drift + random.normal(size=(600, 6)).cumsum(axis=0)


def test_clean_is_the_published_protocol(x):
    """Detrend, filtfilt of a second-order Butterworth, z-score: to 1e-8 (the two filter forms round differently)."""
    b, a = signal.butter(2, np.array([0.01, 0.1]) * 2 * TR, "band")
    expected = signal.filtfilt(b, a, signal.detrend(x, axis=0), axis=0)
    expected = (expected - expected.mean(0)) / expected.std(0)
    np.testing.assert_allclose(clean(x, TR, band=(0.01, 0.1), order=2), expected, atol=1e-8)


def test_detrend_is_least_squares(x):
    design = np.stack([np.ones(600), np.arange(600)], axis=1)
    expected = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    np.testing.assert_allclose(detrend_only(x), expected, atol=1e-9 * np.abs(x).max())


def test_global_signal_regression_is_least_squares_on_the_filtered_mean(x):
    filtered = bandpass(x, TR, band=(0.01, 0.1))
    design = np.stack([np.ones(600), filtered.mean(axis=1)], axis=1)
    residual = filtered - design @ np.linalg.lstsq(design, filtered, rcond=None)[0]
    np.testing.assert_allclose(remove_global_signal(filtered), residual, atol=1e-10)
    cleaned = clean(x, TR, band=(0.01, 0.1), global_signal_regression=True)
    np.testing.assert_allclose(cleaned, residual / residual.std(axis=0), atol=1e-9)


@pytest.mark.parametrize("frequency", [0.005, 0.012, 0.03, 0.09, 0.13, 0.3])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_power_gain_is_that_of_a_filtered_tone(frequency, order):
    """Power of a long sinusoid after the filter over its power before, away from the ends: 1e-3 of full power."""
    t = np.arange(20000) * TR
    tone = np.sin(2 * np.pi * frequency * t)[:, None]
    through = bandpass(tone, TR, band=(0.01, 0.1), order=order)
    middle = slice(6000, 14000)
    measured = through[middle].var() / tone[middle].var()
    assert measured == pytest.approx(band_power_gain(frequency, TR, (0.01, 0.1), order), abs=1e-3)


def test_power_gain_is_the_fourth_power_of_one_pass():
    frequency = np.linspace(0.001, 0.6, 50).reshape(5, 10)
    b, a = signal.butter(2, np.array([0.01, 0.1]) * 2 * TR, "band")
    _, response = signal.freqz(b, a, worN=2 * np.pi * frequency.ravel() * TR)
    gain = band_power_gain(frequency, TR, (0.01, 0.1), 2)
    assert gain.shape == (5, 10)
    np.testing.assert_allclose(gain.ravel(), np.abs(response) ** 4, rtol=1e-6, atol=1e-12)


def test_no_band_means_detrending_only(x):
    np.testing.assert_array_equal(bandpass(x, TR, band=None), detrend_only(x))
    np.testing.assert_array_equal(band_power_gain(np.array([0.0, 0.1]), TR, None), [1.0, 1.0])


def test_region_without_variance_becomes_zeros_not_nan(x):
    x[:, 2] = 7.3
    cleaned = clean(x, TR, band=(0.01, 0.1))
    np.testing.assert_array_equal(cleaned[:, 2], 0.0)
    np.testing.assert_allclose(cleaned[:, [0, 1, 3, 4, 5]].std(axis=0), 1.0, atol=1e-12)
    np.testing.assert_array_equal(zscore(np.zeros((5, 2))), 0.0)


@pytest.mark.parametrize("band", [(0.0, 0.1), (0.1, 0.01), (0.01, 0.7)])
def test_band_that_does_not_fit_is_named(x, band):
    with pytest.raises(ValueError, match=r"signal.band is \[.*half the sampling rate"):
        clean(x, TR, band=band)


def test_shortest_segment():
    n = minimum_frames(2)
    assert bandpass(np.random.default_rng(0).normal(size=(n, 2)), TR, band=(0.01, 0.1)).shape == (n, 2)
    with pytest.raises(ValueError, match=f"{n - 1} frames; the band-pass filter needs at least {n}"):
        bandpass(np.zeros((n - 1, 2)), TR, band=(0.01, 0.1))
