"""Features of EEG and MEG against scipy, against closed forms, and against their own sampling distributions."""

import numpy as np
import pytest
from scipy import signal, stats

from brainloom.analysis.cross_spectra import multitaper_csd
from brainloom.analysis.fc import average_correlations
from brainloom.analysis.meeg import (
    BANDS,
    alpha_peak,
    analytic_signal,
    aperiodic_fit,
    band_names,
    envelope_fc,
    meeg_features,
    power_spectrum,
    relative_band_power,
)
from brainloom.core.errors import DataError

RATE = 250.0
SETTINGS = {
    "band": [1.0, 40.0],
    "window": 2.0,
    "method": "welch",
    "envelope_band": [8.0, 13.0],
    "bandwidth": 1.0,
}


def resonance(n, frequency, damping, seed, rate=RATE, channels=1):
    """AR(2) noise whose spectrum peaks near `frequency` (Hz) with a half width of `damping` (Hz)."""
    random = np.random.default_rng(seed)
    r = np.exp(-2 * np.pi * damping / rate)
    a = [1.0, -2 * r * np.cos(2 * np.pi * frequency / rate), r * r]
    return signal.lfilter([1.0], a, random.normal(size=(n + 1000, channels)), axis=0)[1000:]


def pink(n, exponent, seed, channels=1, rate=RATE):
    """Noise with a spectrum proportional to f^-exponent."""
    random = np.random.default_rng(seed)
    f = np.fft.rfftfreq(n, 1 / rate)
    shape = np.zeros(len(f))
    shape[1:] = f[1:] ** (-exponent / 2)
    return np.fft.irfft(np.fft.rfft(random.normal(size=(n, channels)), axis=0) * shape[:, None], n, axis=0)


# ---------------------------------------------------------------- cross-spectra


def test_white_noise_has_the_level_variance_over_rate():
    """50 bins of 59 tapers: each level scatters by 1/sqrt(59) = 13 %, their mean by 1.8 %; 4 of these are allowed."""
    x = 3.0 * np.random.default_rng(1).normal(size=(6000, 2))
    found = multitaper_csd(x, 100.0, (0.0, 50.0), 1.0)
    assert found.n_tapers == 59
    np.testing.assert_allclose(found.frequency, np.arange(50) + 0.5)
    level = np.real(found.csd[:, [0, 1], [0, 1]])
    np.testing.assert_allclose(level.mean(axis=0), 9.0 / 100.0, rtol=0.075)
    np.testing.assert_allclose(level, 9.0 / 100.0, rtol=0.6)
    np.testing.assert_allclose(found.csd, np.conj(np.swapaxes(found.csd, 1, 2)), atol=1e-15)


def test_two_channel_system_has_its_closed_form():
    """x(t) = A x(t-1) + e(t): S(f) = H Q H^H / rate with H = (1 - A exp(-2 pi i f / rate))^-1.

    1199 estimates a bin: entries scatter by 3 % of the level; 5 of these, and the curvature within a bin, are allowed.
    """
    rate, mixing = 50.0, np.array([[0.6, 0.3], [-0.4, 0.5]])
    root = np.array([[1.0, 0.0], [0.5, 0.7]])
    random = np.random.default_rng(2)
    x, noise = np.zeros((60_000, 2)), random.normal(size=(60_000, 2)) @ root.T
    for t in range(1, len(x)):
        x[t] = mixing @ x[t - 1] + noise[t]
    found = multitaper_csd(x, rate, (0.0, 25.0), 0.5)
    # 1200 s at 0.5 Hz are 600: cut into ten blocks, each of which costs one taper.
    assert found.n_tapers == 590
    wave = np.exp(-2j * np.pi * found.frequency / rate)[:, None, None]
    transfer = np.linalg.inv(np.eye(2) - mixing * wave)
    truth = transfer @ (root @ root.T) @ np.conj(np.swapaxes(transfer, 1, 2)) / rate
    level = np.sqrt(np.real(np.einsum("fii,fjj->fij", truth, truth)))
    assert np.abs((found.csd - truth) / level).max() < 5 / np.sqrt(590)
    # The sign of the phase is that of <X_0 conj(X_1)>: a wrong one would be off by twice the imaginary part.
    assert np.abs(truth.imag[:, 0, 1] / level[:, 0, 1]).max() > 0.5


def test_estimates_follow_the_complex_wishart_law():
    """Bins are independent and gamma distributed with n_tapers degrees of freedom (Kolmogorov-Smirnov, p > 0.01)."""
    x = np.random.default_rng(3).normal(size=(16_000, 2))
    found = multitaper_csd(x, 100.0, (0.0, 50.0), 0.05)
    assert found.n_tapers == 7
    power = np.real(found.csd[:, 0, 0]) * 100.0
    assert stats.kstest(7 * power, stats.gamma(7).cdf).pvalue > 0.01
    neighbours = np.corrcoef(power[1:], power[:-1])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(len(power))
    # Coherence of independent channels: 1 - |C|^2 is Beta(n_tapers - 1, 1).
    coherence = np.abs(found.csd[:, 0, 1]) ** 2 / np.real(found.csd[:, 0, 0] * found.csd[:, 1, 1])
    assert stats.kstest(coherence, stats.beta(1, 6).cdf).pvalue > 0.01


def test_periodogram_at_a_small_bandwidth_obeys_parseval():
    """The integral over all frequencies of both signs is the covariance, to rounding (an odd length has no Nyquist)."""
    x = np.random.default_rng(4).normal(size=(401, 3)) @ np.random.default_rng(5).normal(size=(3, 3)) + 7.0
    found = multitaper_csd(x, 40.0, (0.0, 20.0), 1e-6)
    assert found.n_tapers == 1
    np.testing.assert_allclose(found.frequency, np.arange(1, 201) * 40.0 / 401)
    total = 2 * np.real(found.csd.sum(axis=0)) * 40.0 / 401
    np.testing.assert_allclose(total, np.cov(x.T, bias=True), rtol=1e-11, atol=1e-12)
    even = multitaper_csd(x[:400], 40.0, (0.0, 20.0), 1 / 10.0)
    np.testing.assert_allclose(even.frequency, np.arange(1, 200) / 10.0)
    _, psd = signal.periodogram(x[:400], 40.0, axis=0)
    np.testing.assert_allclose(2 * np.real(even.csd[:, 1, 1]), psd[1:200, 1], rtol=1e-10)


def test_multitaper_bins_integrate_to_the_variance():
    """The tapers see the whole segment evenly but for their ends: 5 % of the variance of 4000 samples."""
    x = resonance(4000, 10.0, 2.0, 6)
    found = multitaper_csd(x, RATE, (0.0, 125.0), 1.0)
    assert 2 * np.real(found.csd[:, 0, 0]).sum() == pytest.approx(x.var(), rel=0.05)


def test_segments_are_pooled_by_tapers():
    a, b = np.random.default_rng(7).normal(size=(2, 900, 2))
    one, two = multitaper_csd(a, 30.0, (1.0, 14.0), 1.0), multitaper_csd(b[:600], 30.0, (1.0, 14.0), 1.0)
    both = multitaper_csd([a, b[:600]], 30.0, (1.0, 14.0), 1.0)
    assert (one.n_tapers, two.n_tapers, both.n_tapers) == (29, 19, 48)
    np.testing.assert_allclose(both.csd, (29 * one.csd + 19 * two.csd) / 48, rtol=1e-12, atol=1e-15)
    assert multitaper_csd(a[:45], 30.0, (1.0, 14.0), 1.0).n_tapers == 1


@pytest.mark.parametrize(
    ("segments", "band", "bandwidth", "sentence"),
    [
        ([(300, 2)], (1.0, 20.0), 1.0, "between 0 and 15 Hz"),
        ([(300, 2)], (1.0, 1.5), 1.0, "no bin of 1 Hz fits"),
        ([(300, 2)], (1.0, 10.0), 0.0, "bandwidth of the cross-spectra is 0 Hz"),
        ([(300, 2), (200, 2)], (1.0, 10.0), 0.001, "no common frequencies"),
        ([(300,)], (1.0, 10.0), 1.0, "axes"),
        ([], (1.0, 10.0), 1.0, "axes"),
    ],
)
def test_cross_spectra_say_what_does_not_fit(segments, band, bandwidth, sentence):
    with pytest.raises(DataError, match=sentence):
        multitaper_csd([np.ones(shape) for shape in segments], 30.0, band, bandwidth)


# ---------------------------------------------------------------- power spectra


@pytest.mark.parametrize("method", ["welch", "multitaper"])
def test_a_sine_of_10_hz_peaks_at_10_hz(method):
    t = np.arange(5000) / RATE
    x = np.stack([np.sin(2 * np.pi * 10 * t), np.cos(2 * np.pi * 20 * t)], axis=1)
    frequency, psd = power_spectrum(x, RATE, 2.0, method)
    assert frequency[psd[0].argmax()] == pytest.approx(10.0, abs=1e-9 if method == "welch" else 1.01)
    assert psd.shape == (2, len(frequency)) == (2, 251)
    # All power of a sine of amplitude 1 is 1/2, whatever the window.
    np.testing.assert_allclose(psd.sum(axis=1) * 0.5, 0.5, rtol=1e-3)


def test_power_spectrum_is_that_of_scipy():
    x = np.random.default_rng(8).normal(size=(3000, 2)) + 5
    frequency, psd = power_spectrum(x, RATE, 2.0)
    expected = signal.welch(x.T, RATE, window="hann", nperseg=500, noverlap=250)
    np.testing.assert_allclose(frequency, expected[0])
    np.testing.assert_allclose(psd, expected[1], rtol=1e-12)


@pytest.mark.parametrize("method", ["welch", "multitaper"])
def test_total_power_is_the_variance(method):
    """60 s of a resonance of 2 Hz half width: what the windows cut off and weigh differently is below 3 %."""
    x = resonance(15_000, 10.0, 2.0, 9, channels=2)
    frequency, psd = power_spectrum(x, RATE, 2.0, method)
    np.testing.assert_allclose(psd.sum(axis=1) * frequency[1], x.var(axis=0), rtol=0.03)


def test_multitaper_agrees_with_the_cross_spectra():
    """One window, the same three tapers, bins of the same width: twice the two-sided density."""
    x = resonance(1000, 10.0, 2.0, 10)
    frequency, psd = power_spectrum(x, RATE, 4.0, "multitaper")
    found = multitaper_csd(x, RATE, (0.5, 40.5), 1.0)
    at = np.searchsorted(frequency, found.frequency - 1e-9)
    # mne weighs the tapers by their concentration (0.96 to 1), here they count alike: at most 5 % apart
    np.testing.assert_allclose(psd[0, at], 2 * np.real(found.csd[:, 0, 0]), rtol=0.05)


# ---------------------------------------------------------------- envelopes


def envelopes(n, seed):
    """Three narrow-band carriers; the first two share one slow envelope."""
    random = np.random.default_rng(seed)
    carriers = [resonance(n, 10.5, 1.5, seed + k)[:, 0] for k in range(3)]
    phases = [np.exp(1j * np.angle(signal.hilbert(c))) for c in carriers]
    slow = signal.lfilter([1], [1, -0.998], random.normal(size=(n, 2)), axis=0)
    slow = np.exp(0.5 * slow / slow.std(axis=0))
    return np.stack([np.real(slow[:, k] * p) for k, p in zip((0, 0, 1), phases, strict=True)], axis=1)


def test_envelope_fc_finds_a_common_envelope_and_not_a_leak():
    """Orthogonalisation lowers a true correlation to 3/4 of it (0.70 to 0.78 for other seeds) and removes most of a leak.

    The independent pair is expected at 0, with a spread of about 0.05 over 300 s of slow envelopes.
    """
    x = envelopes(75_000, 20)
    plain, corrected = (envelope_fc(x, RATE, (8, 13), orthogonalise=o) for o in (False, True))
    assert 0.3 < plain[0, 1] < 0.9
    assert 0.65 < corrected[0, 1] / plain[0, 1] < 0.85
    assert abs(corrected[0, 2]) < 0.15
    leaked = x.copy()
    leaked[:, 2] += 0.5 * x[:, 0] * x[:, 2].std() / x[:, 0].std()
    leak = [envelope_fc(leaked, RATE, (8, 13), orthogonalise=o)[0, 2] for o in (False, True)]
    assert leak[0] > 0.2
    assert leak[1] < 0.5 * leak[0]


def test_envelope_fc_is_the_formula():
    """Against the definition written out for one pair, on the same analytic signals; rounding only."""
    x = np.random.default_rng(21).normal(size=(3000, 3)) * [1.0, 1e-6, 3.0]
    found = envelope_fc(x, RATE, (8, 13))
    a, b = analytic_signal(x, RATE, (8, 13))[:, :2].T
    one = np.corrcoef(np.abs(np.imag(b * a.conj() / np.abs(a))), np.abs(a))[0, 1]
    two = np.corrcoef(np.abs(np.imag(a * b.conj() / np.abs(b))), np.abs(b))[0, 1]
    assert found[0, 1] == pytest.approx((one + two) / 2, abs=1e-12)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1.0)


def test_analytic_signal_is_without_shift_and_edges():
    """A tone inside the band comes back with its phase and amplitude at every sample that is kept: 2 %."""
    t = np.arange(4000) / RATE
    x = np.cos(2 * np.pi * 10 * t)[:, None]
    found = analytic_signal(x, RATE, (8, 13))[:, 0]
    cut = (len(x) - len(found)) // 2
    np.testing.assert_allclose(found, np.exp(2j * np.pi * 10 * t[cut : len(x) - cut]), atol=0.02)


def test_a_flat_channel_correlates_zero():
    x = np.random.default_rng(22).normal(size=(3000, 3))
    x[:, 1] = 4.0
    found = envelope_fc(x, RATE, (8, 13))
    np.testing.assert_array_equal(found[1], [0, 1, 0])
    assert np.isfinite(found).all()


# ---------------------------------------------------------------- peaks


@pytest.mark.parametrize(("centre", "exponent"), [(10.3, 1.0), (8.2, 1.5), (12.1, 0.5)])
def test_alpha_peak_of_a_resonance_over_noise(centre, exponent):
    """60 s: a resonance of 0.8 Hz half width above 1/f^exponent noise is found within 0.3 Hz."""
    wave = resonance(15_000, centre, 0.8, 30, channels=4)
    x = wave / wave.std(axis=0) + pink(15_000, exponent, 31, channels=4) / pink(15_000, exponent, 31).std()
    frequency, psd = power_spectrum(x, RATE, 2.0)
    keep = (frequency >= 1) & (frequency <= 40)
    np.testing.assert_allclose(alpha_peak(psd[:, keep], frequency[keep]), centre, atol=0.3)


def test_alpha_peak_of_a_noiseless_spectrum():
    frequency = np.arange(2, 81) / 2
    peak = 3 * np.exp(-0.5 * ((frequency - 9.7) / 1.2) ** 2)
    found = alpha_peak(1e-12 * (1 + peak) / frequency**1.2, frequency)
    assert found == pytest.approx(9.7, abs=0.02)


def test_no_peak_where_there_is_none():
    """Power laws and relaxation with a knee, 60 s each: at most one channel of 40 may pass for a peak by chance."""
    random = np.random.default_rng(32)
    knee = signal.lfilter(
        [1.0], [1.0, -np.exp(-2 * np.pi * 8 / RATE)], random.normal(size=(15_000, 20)), axis=0
    )
    x = np.concatenate([pink(15_000, 1.0, 33, channels=10), pink(15_000, 2.0, 34, channels=10), knee], axis=1)
    frequency, psd = power_spectrum(x, RATE, 2.0)
    keep = (frequency >= 1) & (frequency <= 40)
    assert np.isfinite(alpha_peak(psd[:, keep], frequency[keep])).sum() <= 1
    smooth = np.array([frequency[keep] ** -1.3, 1 / (100 + frequency[keep] ** 2), np.zeros(keep.sum())])
    assert np.isnan(alpha_peak(smooth, frequency[keep])).all()


def test_aperiodic_fit_recovers_its_own_form():
    frequency = np.arange(2, 81) / 2
    truth = np.stack([-3 - np.log10(k + frequency**chi) for k, chi in ((0.0, 1.3), (60.0, 2.0), (0.0, 0.0))])
    np.testing.assert_allclose(aperiodic_fit(10**truth, frequency), truth, atol=1e-3)


def test_a_spectrum_that_is_too_coarse_for_peaks_says_so():
    with pytest.raises(DataError, match="at least 3"):
        alpha_peak(np.ones(10), np.arange(10) * 4.0)
    with pytest.raises(DataError, match="at least 6"):
        alpha_peak(np.ones(11), np.arange(5, 16) * 1.0)


# ---------------------------------------------------------------- shares of power


def test_shares_of_power():
    frequency = np.arange(1, 81) / 2
    names, power = relative_band_power(np.stack([np.ones(80), np.zeros(80)]), frequency, (1.0, 40.0))
    assert names == list(BANDS)
    # 79 frequencies from 1 to 40 Hz
    np.testing.assert_allclose(power[0] * 79, [6, 8, 10, 34, 21])
    assert np.isnan(power[1]).all()
    assert band_names((8.0, 30.0)) == ["alpha", "beta"]
    _, part = relative_band_power(np.ones(80), frequency, (8.0, 30.0))
    np.testing.assert_allclose(part, [10 / 45, 35 / 45])
    with pytest.raises(DataError, match="no frequency"):
        relative_band_power(np.ones(80), frequency, (60.0, 70.0))


# ---------------------------------------------------------------- all of them


def test_features_are_their_parts():
    x = resonance(5000, 10.3, 1.0, 40, channels=3) @ np.random.default_rng(41).normal(size=(3, 3))
    found = meeg_features(x, RATE, SETTINGS)
    frequency, psd = power_spectrum(x, RATE, 2.0)
    np.testing.assert_array_equal(found["frequency"], frequency[2:81])
    np.testing.assert_allclose(found["psd"], psd[:, 2:81], rtol=1e-14)
    np.testing.assert_array_equal(found["envelope_fc"], envelope_fc(x, RATE, (8, 13)))
    np.testing.assert_allclose(found["peak_frequency"], 10.3, atol=0.5)
    np.testing.assert_allclose(found["band_power"].sum(axis=1), 1.0)
    assert found["band_power"][:, found["bands"].index("alpha")].min() > 0.4
    assert found["n_samples"] == 5000
    assert {value.dtype for value in found.values() if isinstance(value, np.ndarray)} == {np.dtype(float)}
    np.testing.assert_array_equal(meeg_features(x.astype(np.float32), RATE, SETTINGS)["psd"].dtype, float)


def test_features_average_segments_by_samples():
    x = resonance(6000, 10.3, 1.0, 42, channels=2)
    parts = [x[:2000], x[2000:]]
    one, two = (meeg_features(part, RATE, SETTINGS) for part in parts)
    both = meeg_features(parts, RATE, SETTINGS)
    np.testing.assert_allclose(both["psd"], (one["psd"] + 2 * two["psd"]) / 3, rtol=1e-12)
    expected = average_correlations([one["envelope_fc"], two["envelope_fc"]], [1, 2])
    np.testing.assert_allclose(both["envelope_fc"], expected, atol=1e-14)
    np.testing.assert_array_equal(both["peak_frequency"], alpha_peak(both["psd"], both["frequency"]))


def test_a_band_without_alpha_has_no_alpha_peak():
    x = resonance(2000, 10.3, 1.0, 43)
    found = meeg_features(x, RATE, SETTINGS | {"band": [20.0, 45.0], "method": "multitaper"})
    assert np.isnan(found["peak_frequency"]).all()
    assert found["bands"] == ["beta", "gamma"]


@pytest.mark.parametrize(
    ("samples", "change", "sentence"),
    [
        (400, {}, r"lasts 1.6 s \(400 samples at 250 Hz\), less than the window of 2 s"),
        (1000, {}, "envelopes between 8 and 13 Hz need at least"),
        (3000, {"band": [1.0, 200.0]}, "below 125 Hz"),
        (3000, {"envelope_band": [0.0, 13.0]}, "envelope_band is 0 to 13 Hz"),
        (3000, {"method": "periodogram"}, "must be one of welch, multitaper"),
        (3000, {"window": 0.001}, "must be longer"),
        (3000, {"band": [10.1, 10.2]}, "use a longer window"),
        (0, {}, "no segment"),
    ],
)
def test_features_say_what_does_not_fit(samples, change, sentence):
    segments = [np.random.default_rng(44).normal(size=(samples, 2))] if samples else []
    with pytest.raises(DataError, match=sentence):
        meeg_features(segments, RATE, SETTINGS | change)


def test_values_that_are_no_numbers_are_refused():
    x = np.ones((3000, 2))
    x[5, 1] = np.nan
    with pytest.raises(DataError, match="segment 1 of 1 holds values that are not numbers"):
        meeg_features(x, RATE, SETTINGS)
