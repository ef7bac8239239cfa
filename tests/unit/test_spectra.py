"""Welch spectra against scipy, Parseval and a closed form; peaks against known tones."""

import numpy as np
import pytest
from scipy import signal

from brainloom.analysis.spectra import (
    band_mask,
    frequencies,
    peak_frequency,
    psd_correlation,
    psd_rmse,
    welch_psd,
)

TR = 0.72


def test_welch_is_scipys_and_integrates_to_the_variance():
    x = np.random.default_rng(6).normal(size=(4096, 3))
    frequency, psd = welch_psd(x, TR, 128)
    reference, expected = signal.welch(x[:, 1], fs=1 / TR, nperseg=128)
    np.testing.assert_allclose(frequency, reference)
    np.testing.assert_allclose(frequency, frequencies(TR, 128))
    np.testing.assert_allclose(psd[1], expected, rtol=1e-12)
    np.testing.assert_allclose(np.trapezoid(psd, frequency, axis=1), x.var(axis=0), rtol=0.05)


def test_welch_of_an_autoregressive_process_is_its_spectrum():
    """x(t+1) = 0.7 x(t) + e: S(f) = 2 TR / |1 - 0.7 exp(-2 pi i f TR)|^2, to 5% after 200,000 frames."""
    e = np.random.default_rng(7).normal(size=(200_000, 1))
    frequency, psd = welch_psd(signal.lfilter([1], [1, -0.7], e, axis=0), TR, 256)
    expected = 2 * TR / np.abs(1 - 0.7 * np.exp(-2j * np.pi * frequency * TR)) ** 2
    np.testing.assert_allclose(psd[0, 3:-3], expected[3:-3], rtol=0.1)
    assert np.mean(psd[0, 3:-3] / expected[3:-3]) == pytest.approx(1.0, abs=0.01)


def test_short_series_keep_the_frequency_grid():
    frequency, psd = welch_psd(np.random.default_rng(8).normal(size=(90, 2)), TR, 128)
    np.testing.assert_allclose(frequency, frequencies(TR, 128))
    assert psd.shape == (2, 65)


@pytest.mark.parametrize("tone", [0.043, 0.0517, 0.0664])
def test_peak_of_a_noisy_tone(tone):
    """Within 1 mHz, a tenth of the 10.9 mHz grid of 128 frames, with the interpolated transform."""
    random = np.random.default_rng(9)
    x = np.sin(2 * np.pi * tone * np.arange(600) * TR)[:, None] + 0.3 * random.normal(size=(600, 1))
    frequency, psd = welch_psd(x, TR, 128, 1024)
    assert peak_frequency(psd, frequency, (0.04, 0.07))[0] == pytest.approx(tone, abs=1e-3)


def test_parabola_is_exact_for_a_gaussian_peak():
    frequency = np.linspace(0, 0.1, 21)
    psd = np.exp(-0.5 * ((frequency - 0.0523) / 0.01) ** 2)[None]
    assert peak_frequency(psd, frequency, (0.04, 0.07))[0] == pytest.approx(0.0523, abs=1e-12)


def test_peak_stays_in_the_band_and_is_defined_without_power():
    frequency = np.linspace(0, 0.2, 41)
    falling = np.exp(-frequency / 0.01)
    found = peak_frequency(np.stack([falling, falling[::-1], 0 * falling]), frequency, (0.04, 0.07))
    np.testing.assert_allclose(found, [0.04, 0.07, 0.055], atol=1e-12)
    with pytest.raises(ValueError, match="no frequency of the spectrum"):
        peak_frequency(falling[None], frequency, (0.041, 0.043))


def test_scores_of_spectra():
    random = np.random.default_rng(10)
    frequency = np.linspace(0, 0.5, 30)
    a, b = np.exp(random.normal(size=(2, 4, 30)))
    keep = band_mask(frequency, (0.05, 0.3))
    assert keep.sum() == np.sum((frequency >= 0.05) & (frequency <= 0.3))
    each = [np.corrcoef(np.log10(a[r, keep]), np.log10(b[r, keep]))[0, 1] for r in range(4)]
    assert psd_correlation(a, b, frequency, (0.05, 0.3)) == pytest.approx(np.mean(each), abs=1e-13)
    assert psd_rmse(10 * a, a, frequency, (0.05, 0.3)) == pytest.approx(1.0, abs=1e-13)
    assert psd_correlation(10 * a, a, frequency, None) == pytest.approx(1.0, abs=1e-13)
    assert not band_mask(frequency, None)[0]
