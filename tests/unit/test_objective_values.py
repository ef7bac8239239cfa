"""
Values of objectives against independent computations with numpy, scipy and MNE.

Both sides are exact formulas in double precision; 1e-9 covers rounding unless a test says otherwise.
"""

from __future__ import annotations

import brainloom.models  # noqa: F401  (brainstate would reset the precision)

# isort: split
import brainunit as u
import jax
import numpy as np
import pytest
from scipy import signal, stats

from brainloom import objectives as o
from brainloom.analysis import dof, envelopes, fc, fcd, meeg, spectra, synchrony
from brainloom.objectives.analytic import filtered_envelope_signal
from brainloom.objectives.envelope import envelope_correlation

N_TIME, N_REGION, DT = 900, 5, 0.02


def waves(seed, n_time=N_TIME, dt=DT):
    """Noise and waves of 8 to 12 Hz whose amplitudes change, mixed so that regions correlate."""
    rng = np.random.default_rng(seed)
    t = dt * np.arange(n_time)[:, None]
    carrier = np.sin(2 * np.pi * rng.uniform(8, 12, N_REGION) * t)
    slow = 1.2 + np.sin(2 * np.pi * rng.uniform(0.1, 0.5, N_REGION) * t + rng.uniform(0, 6, N_REGION))
    x = rng.normal(size=(n_time, N_REGION)) + 3 * carrier * slow
    return x @ (np.eye(N_REGION) + 0.3 * rng.normal(size=(N_REGION, N_REGION)))


X, Y = waves(0), waves(1)
UPPER = np.triu_indices(N_REGION, 1)
# Compiled for one run: what takes long is the compiler.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
BAND = (8.0, 12.0)
envelope_matrix = jax.jit(envelope_correlation, static_argnums=(1, 2), compiler_options=QUICK)
analytic = jax.jit(lambda x: filtered_envelope_signal(x, DT, BAND), compiler_options=QUICK)


def value(objective, prediction=X, target=Y):
    return float(jax.jit(lambda a: objective(a, target), compiler_options=QUICK)(prediction))


def close(found, expected, rtol=1e-9):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-13)


def rmse(a, b):
    return np.sqrt(np.mean((np.asarray(a) - np.asarray(b)) ** 2))


# --- connectivity ------------------------------------------------------------------------------------------


def test_connectivity():
    a, b = np.corrcoef(X.T), np.corrcoef(Y.T)
    close(value(o.fc_corr()), np.corrcoef(a[UPPER], b[UPPER])[0, 1])
    close(value(o.fc_corr(as_loss=True)), 1 - np.corrcoef(a[UPPER], b[UPPER])[0, 1])
    close(value(o.fc_rmse()), rmse(a[UPPER], b[UPPER]))
    close(value(o.fc_rmse(include_diagonal=True)), rmse(a, b))
    close(value(o.fc_corr()), fc.fc_correlation(a, b))
    lagged = [fc.lagged_correlation(x, 3) for x in (X, Y)]
    close(value(o.lagged_fc(3)), fc.pearson(*lagged))
    close(value(o.lagged_fc(3, "rmse"), X, o.LaggedFC(lagged[1], 3)), rmse(*lagged))


def test_realisations_are_averaged_in_fisher_z():
    pieces = X.reshape(300, 3, N_REGION)
    mean = fc.average_correlations([np.corrcoef(pieces[:, k].T) for k in range(3)])
    close(value(o.fc_rmse(), pieces), rmse(mean[UPPER], np.corrcoef(Y.T)[UPPER]))
    close(value(o.fc_rmse(), o.FC(np.stack([mean, mean]))), rmse(mean[UPPER], np.corrcoef(Y.T)[UPPER]))


def test_cosine():
    a, b = X.ravel(), Y.ravel()
    close(value(o.cosine_sim()), a @ b / np.sqrt(a @ a * (b @ b)))
    close(value(o.cosine_sim(as_loss=True)), 1 - a @ b / np.sqrt(a @ a * (b @ b)))
    close(value(o.cosine_sim(epsilon=1e3)), a @ b / 1e6)


# --- dynamics ----------------------------------------------------------------------------------------------


def test_windows_follow_from_the_repetition_time():
    """60 s and 3 s at a repetition time of 0.72 s: 83.33 and 4.17 samples; 21 steps until windows share none."""
    for objective in (o.fcd, o.fcd_ks, o.fcd_wasserstein):
        options = objective(tr=0.72).options
        assert (options["window"], options["step"], options["n_diag"]) == (83, 4, 21)
        options = objective(tr=2.0).options
        assert (options["window"], options["step"], options["n_diag"]) == (30, 2, 15)
        options = objective(window=30 * u.second, step=1.5 * u.second, tr=720 * u.ms).options
        assert (options["window"], options["step"], options["n_diag"]) == (42, 2, 21)
    assert [fcd.window_frames(seconds, 0.72) for seconds in (60.0, 3.0)] == [83, 4]


def test_windows_in_samples_are_the_published_convention():
    """Every pair of windows counts, those that share samples too; `tr` leaves them out."""
    published = o.fcd(window=30, step=5)
    assert published.options == o.fcd(window_size=30, step_size=5).options == o.fcd(30, 5, n_diag=1).options
    assert o.fcd_ks(window_size=30).options == o.fcd_ks(30, 5).options
    assert o.fcd_ks(window=30, step=5, tr=0.72).options["n_diag"] == 6
    a, b = fcd.fcd(X, 30, 5), fcd.fcd(Y, 30, 5)
    pairs = np.triu_indices(len(a), 1)
    close(value(published), np.corrcoef(a[pairs], b[pairs])[0, 1])


def test_dynamics():
    window, step = 100, 30
    a, b = fcd.fcd(X, window, step), fcd.fcd(Y, window, step)
    apart = [fcd.fcd_values(one, window, step) for one in (a, b)]
    close(value(o.fcd(window, step, tr=DT)), np.corrcoef(*apart)[0, 1])
    close(value(o.fcd(window, step, tr=DT), o.FCD(a), o.FCD(b, window, step)), np.corrcoef(*apart)[0, 1])
    grid = np.linspace(-0.99, 0.99, 100)
    for rule in ("scott", 0.3):
        shares = []
        for values in apart:
            density = stats.gaussian_kde(values, bw_method=rule)(grid)
            shares.append(np.cumsum(density) / density.sum())
        gap = np.abs(shares[0] - shares[1])
        both = (X, Y) if rule == "scott" else (o.FCD(a), o.FCD(b))
        close(value(o.fcd_ks(window, step, tr=DT, bw_method=rule), *both), gap.max())
        found = value(o.fcd_wasserstein(window, step, tr=DT, bw_method=rule), o.FCD(a), o.FCD(b))
        close(found, gap.sum() * (grid[1] - grid[0]))


def test_kernel_distances_come_close_to_exact_ones():
    a, b = fcd.fcd(X, 100, 5), fcd.fcd(Y, 100, 5)
    found = value(o.fcd_ks(100, 5, tr=DT), o.FCD(a), o.FCD(b))
    a, b = fcd.fcd_values(a, 100, 5), fcd.fcd_values(b, 100, 5)
    # 10^4 values: a kernel of 0.16 standard deviations moves the distances by a few hundredths of their range
    assert found == pytest.approx(fcd.ks_distance(a, b), abs=0.03)
    found = value(o.fcd_wasserstein(100, 5, tr=DT), o.FCD(fcd.fcd(X, 100, 5)), o.FCD(fcd.fcd(Y, 100, 5)))
    assert found == pytest.approx(stats.wasserstein_distance(a, b), abs=0.02)


def test_missing_entries_of_a_target_are_left_out():
    blocks = fcd.fcd_segments([Y[:450], Y[450:]], 100, 10)
    known = fcd.fcd_values(blocks, 100, 10)
    grid = np.linspace(-0.99, 0.99, 100)
    shares = []
    for values in (fcd.fcd_values(fcd.fcd(X, 100, 10), 100, 10), known):
        density = stats.gaussian_kde(values)(grid)
        shares.append(np.cumsum(density) / density.sum())
    close(value(o.fcd_ks(100, 10, tr=DT), X, o.FCD(blocks)), np.abs(shares[0] - shares[1]).max())


# --- spectra -----------------------------------------------------------------------------------------------


def welch(x, nperseg=100):
    frequency, psd = signal.welch(x, 1 / DT, nperseg=nperseg, axis=0)
    return frequency, psd.T


def test_spectra():
    frequency, a = welch(X)
    _, b = welch(Y)
    band = (4.0, 20.0)
    keep = (frequency >= 4) & (frequency <= 20)
    expected = rmse(np.log10(a[:, keep]), np.log10(b[:, keep]))
    close(value(o.psd_log(dt=DT, band=band)), expected)
    close(value(o.psd_log(dt=DT, band=band), X, o.PSD(frequency, b)), expected)
    close(expected, spectra.psd_rmse(a, b, frequency, band))
    close(value(o.psd_log(dt=DT, window=None)), rmse(*(np.log10(welch(x, N_TIME)[1][:, 1:]) for x in (X, Y))))
    shape = [np.log10(p[:, keep]) - np.log10(p[:, keep]).mean(axis=1, keepdims=True) for p in (a, b)]
    close(value(o.psd_log(dt=DT, band=band, relative=True), 7 * X), rmse(*shape))
    other = np.arange(4.25, 20, 0.7)
    between = np.array([np.interp(other, frequency, np.log10(one)) for one in a])
    close(
        value(o.psd_log(band=band), o.PSD(frequency, a), o.PSD(other, np.ones((N_REGION, len(other))))),
        rmse(between, 0),
    )


def test_realisations_average_their_spectra():
    pieces = X.reshape(300, 3, N_REGION)
    mean = np.mean([welch(pieces[:, k])[1] for k in range(3)], axis=0)
    close(value(o.psd_log(dt=DT), pieces), rmse(np.log10(mean[:, 1:]), np.log10(welch(Y)[1][:, 1:])))


def test_band_power():
    frequency, a = welch(X)
    _, b = welch(Y)
    edges = (1.0, 20.0)
    inside = (frequency >= 1) & (frequency <= 20)
    names, share = meeg.relative_band_power(b[:, inside], frequency[inside], edges)
    bands = {name: (max(1, meeg.BANDS[name][0]), min(20, meeg.BANDS[name][1])) for name in names}
    own = meeg.relative_band_power(a[:, inside], frequency[inside], edges)[1]
    close(
        value(o.band_power(bands, dt=DT, relative=True), X, o.BandPower(share)),
        rmse(np.log10(own), np.log10(share)),
    )
    close(value(o.band_power(bands, dt=DT, relative=True, log=False)), rmse(own, share))
    alpha = (frequency >= 8) & (frequency <= 13)
    power = [p[:, alpha].sum(axis=1) * 0.5 for p in (a, b)]
    close(value(o.band_power([(8, 13)], dt=DT, log=False)), rmse(*power))


def test_the_soft_peak_is_the_peak_of_a_clear_wave():
    t = DT * np.arange(3000)[:, None]
    noise = 0.1 * np.random.default_rng(0).normal(size=(3000, 3))
    x = np.sin(2 * np.pi * np.array([8.0, 10.0, 11.5]) * t) + noise
    frequency, psd = welch(x)
    exact = spectra.peak_frequency(psd, frequency, (5, 15))
    np.testing.assert_allclose(exact, [8.0, 10.0, 11.5], atol=0.05)
    # bins of 0.5 Hz: the soft peak is within a tenth of one
    assert value(o.spectral_peak((5, 15), dt=DT), x, o.PeakFrequency(exact)) < 0.05
    weight = psd**4.0 * ((frequency >= 5) & (frequency <= 15))
    soft = (weight * frequency).sum(axis=1) / weight.sum(axis=1)
    close(
        value(o.spectral_peak((5, 15)), o.PSD(frequency, psd), o.PeakFrequency(np.full(3, 9.0))),
        rmse(soft, 9.0),
    )
    sharper = value(o.spectral_peak((5, 15), dt=DT, sharpness=50.0), x, o.PeakFrequency([8.0, 10.0, 11.5]))
    assert sharper < 1e-6
    missing = o.PeakFrequency([8.0, np.nan, 12.5])
    found = value(o.spectral_peak((5, 15), dt=DT, sharpness=50.0), x, missing)
    assert found == pytest.approx(np.sqrt(0.5), abs=1e-6)  # over the two regions that have a peak


# --- envelopes and phases ----------------------------------------------------------------------------------


def test_envelopes():
    from mne_connectivity import envelope_correlation as by_mne

    z = np.asarray(analytic(X))
    np.testing.assert_allclose(z, envelopes.analytic_signal(X, 1 / DT, (8.0, 12.0)), atol=1e-12)
    for absolute in (True, False):
        expected = by_mne(z.T[None], orthogonalize="pairwise", absolute=absolute).get_data("dense")[
            0, :, :, 0
        ]
        found = np.asarray(envelope_matrix(z, True, absolute))
        np.testing.assert_allclose(found[UPPER], expected[UPPER], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-15)
    close(np.asarray(envelope_matrix(z, False, False))[UPPER], np.corrcoef(np.abs(z).T)[UPPER])
    a, b = (envelopes.envelope_fc(x, 1 / DT, (8.0, 12.0)) for x in (X, Y))
    close(
        value(o.envelope_fc((8, 12), dt=DT, measure="rmse"), X, o.EnvelopeFC(b)),
        rmse(a[UPPER], b[UPPER]),
        rtol=1e-8,
    )


def test_leakage_makes_no_envelope_correlation():
    rng = np.random.default_rng(5)
    source = waves(6)[:, :1]
    z = analytic(source * [1.0, 0.5, -2.0, 3.0, -1.0] + 1e-9 * rng.normal(size=(N_TIME, 5)))
    assert np.abs(np.asarray(envelope_matrix(z, False, False))[UPPER]).min() > 0.999
    # what is left is independent noise: 900 samples at 4 Hz bandwidth are about 70 independent envelopes
    assert np.abs(np.asarray(envelope_matrix(z, True, False))[UPPER]).max() < 0.4


def test_synchrony_and_metastability():
    tr, band = 0.72, (0.04, 0.07)
    rng = np.random.default_rng(7)
    t = tr * np.arange(1200)[:, None]
    x = np.sin(2 * np.pi * rng.uniform(0.045, 0.065, 6) * t) + 0.5 * rng.normal(size=(1200, 6))
    order = synchrony.order_parameter(x, tr, band=band)
    # The analysis pads the ends, the objective wraps around them; filters of 14 s settle within the series.
    assert value(o.synchrony(dt=tr), x, o.Synchrony(order.mean())) < 0.02
    assert value(o.metastability(dt=tr), x, o.Metastability(synchrony.metastability(x, tr, band=band))) < 0.01
    sos = signal.butter(2, band, "bandpass", fs=1 / tr, output="sos")
    frequency = np.fft.fftfreq(1200, tr)
    gain = np.abs(signal.sosfreqz(sos, np.abs(frequency), fs=1 / tr)[1]) ** 2 * (1 + np.sign(frequency))
    z = np.fft.ifft(gain[:, None] * np.fft.fft(signal.detrend(x, axis=0), axis=0), axis=0)[10:-10]
    expected = np.abs((z / np.abs(z)).mean(axis=1))
    close(value(o.synchrony(dt=tr), x, o.Synchrony(0.0)), expected.mean(), rtol=1e-8)
    close(value(o.metastability(dt=tr), x, o.Metastability(0.0)), expected.std(), rtol=1e-8)
    same = np.repeat(x[:, :1], 4, axis=1)
    close(value(o.synchrony(dt=tr), same, o.Synchrony(1.0)), 0.0)


# --- events and summaries ----------------------------------------------------------------------------------


def test_event_related_averages():
    events = np.array([1.0, 4.31, 10.0])
    at = np.round(events / DT).astype(int)
    cut = [np.mean([x[k - 5 : k + 26] for k in at], axis=0) for x in (X, Y)]
    close(value(o.erp(events, dt=DT)), rmse(*cut))
    base = [c - c[:6].mean(axis=0) for c in cut]
    close(value(o.erp(events, dt=DT, baseline=(-0.1, 0.0))), rmse(*base))
    close(value(o.erp(events, dt=DT), X, o.ERP(cut[1])), rmse(*cut))
    corr = np.corrcoef(cut[0].ravel(), cut[1].ravel())[0, 1]
    close(value(o.erp(events, dt=DT, measure="corr", as_loss=True)), 1 - corr)


def test_summaries():
    close(value(o.level(), X + 2.0), rmse(X.mean(axis=0) + 2, Y.mean(axis=0)))
    close(value(o.amplitude()), rmse(X.std(axis=0), Y.std(axis=0)))
    close(value(o.amplitude(relative=True)), rmse(np.log(X.std(axis=0)), np.log(Y.std(axis=0))))
    a, b = X.var(axis=0), Y.var(axis=0)
    close(value(o.variance()), np.corrcoef(np.log(a), np.log(b))[0, 1])
    close(value(o.variance("rmse"), X, o.Variance(b)), rmse(np.log(a), np.log(b)))
    silent = np.where(np.arange(N_REGION) == 2, 0.0, X)
    rest = np.arange(N_REGION) != 2
    close(value(o.variance(), silent), np.corrcoef(np.log(a[rest]), np.log(b[rest]))[0, 1])


# --- likelihoods -------------------------------------------------------------------------------------------


def test_gaussian_likelihood():
    sd = np.linspace(0.5, 2.0, N_REGION)
    expected = -stats.norm.logpdf(Y, X, sd).sum()
    close(value(o.gaussian(sd)), expected)
    close(value(o.gaussian(), o.Normal(X, sd)), expected)


def test_wishart_likelihood():
    models = [np.cov(waves(k).T) for k in (2, 3)]
    sample, nu = np.cov(Y.T), 40.0
    exact = [stats.wishart.logpdf(nu * sample, nu, model) for model in models]
    found = [value(o.wishart(), o.Covariance(model), o.Covariance(sample, nu)) for model in models]
    close(found[0] - found[1], exact[1] - exact[0], rtol=1e-8)  # up to what does not depend on the model
    close(value(o.wishart(nu), waves(2), Y), found[0])
    close(value(o.wishart(), waves(2), Y), found[0] / nu * dof.effective_dof(Y))
    correlations = [np.corrcoef(waves(2).T), np.corrcoef(Y.T)]
    expected = nu / 2 * (np.linalg.slogdet(correlations[0])[1] + np.trace(np.linalg.solve(*correlations)))
    for prediction in (waves(2), o.FC(correlations[0]), o.Covariance(models[0])):
        close(value(o.wishart(nu, correlation=True), prediction, o.FC(correlations[1])), expected)
    ridge = models[0] + 0.1 * np.mean(np.diag(models[0])) * np.eye(N_REGION)
    close(value(o.wishart(nu, ridge=0.1), waves(2)), value(o.wishart(nu), o.Covariance(ridge)))


def test_whittle_likelihood():
    rng = np.random.default_rng(4)

    def hermitian(n):
        a = rng.normal(size=(6, 4, n)) + 1j * rng.normal(size=(6, 4, n))
        return a @ a.conj().swapaxes(-1, -2) / n

    model, data, tapers = hermitian(20), hermitian(3), np.arange(2.0, 8.0)
    expected = sum(
        k * (np.linalg.slogdet(s)[1] + np.trace(np.linalg.inv(s) @ d).real)
        for k, s, d in zip(tapers, model, data, strict=True)
    )
    close(o.whittle(model, data, tapers), expected)
    frequency = np.arange(6.0)
    close(value(o.cross_spectra(), o.CSD(frequency, model), o.CSD(frequency, data, tapers)), expected)
    # one region and one taper: Whittle's likelihood of a periodogram
    s, p = rng.uniform(1, 2, 6), rng.uniform(0, 3, 6)
    close(o.whittle(s[:, None, None], p[:, None, None], 1), np.sum(np.log(s) + p / s))
    # at its smallest where the model is the data
    best = o.whittle(model, model, 1.0)
    for change in (0.9, 1.1):
        assert o.whittle(change * model, model, 1.0) > best
