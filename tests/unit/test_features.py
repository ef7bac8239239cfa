"""Features of one and of several segments against their parts, and against a process with known FC."""

import numpy as np
import pytest
from scipy import signal

from brainloom.analysis.clean import clean
from brainloom.analysis.fcd import fcd
from brainloom.analysis.features import features, relative_variance
from brainloom.analysis.scores import (
    fc_scores,
    feature_scores,
    log_weight_correlation,
    variance_correlation,
)
from brainloom.analysis.synchrony import metastability, order_parameter

TR = 0.72
CONFIG = {
    "band": (0.01, 0.1),
    "filter_order": 2,
    "global_signal_regression": False,
    "fcd_window": 60.0,
    "fcd_step": 3.0,
    "psd_window": 128,
}


def recording(n=500, seed=30, regions=6):
    random = np.random.default_rng(seed)
    return signal.lfilter(
        [1], [1, -0.8], random.normal(size=(n, regions)) @ random.normal(size=(regions, regions)), axis=0
    )


def test_one_segment():
    x = recording() * np.arange(1, 7) + 1000
    found = features(x, TR, CONFIG)
    cleaned = clean(x, TR)
    np.testing.assert_allclose(found["fc"], np.corrcoef(cleaned.T), atol=1e-12)
    np.testing.assert_allclose(
        found["lag1"][2, 4], np.corrcoef(cleaned[1:, 2], cleaned[:-1, 4])[0, 1], atol=1e-12
    )
    np.testing.assert_allclose(found["fcd"], fcd(cleaned, 83, 4), atol=1e-12)
    detrended = signal.detrend(x, axis=0)
    frequency, psd = signal.welch((detrended / detrended.std(axis=0)).T, fs=1 / TR, nperseg=128)
    np.testing.assert_allclose(found["psd"], psd, rtol=1e-9)
    np.testing.assert_allclose(found["frequency"], frequency)
    b, a = signal.butter(2, np.array([0.01, 0.1]) * 2 * TR, "band")
    variance = signal.filtfilt(b, a, detrended, axis=0).var(axis=0)
    np.testing.assert_allclose(found["variance"], variance / variance.mean(), rtol=1e-6)
    assert found["n_frames"] == 500


def test_segments_are_averaged_by_frames():
    parts = [recording(300, 31), recording(600, 32)]
    one, two = (features(part, TR, CONFIG) for part in parts)
    both = features(parts, TR, CONFIG)
    z = (np.arctanh(one["fc"][0, 1]) + 2 * np.arctanh(two["fc"][0, 1])) / 3
    assert both["fc"][0, 1] == pytest.approx(np.tanh(z), abs=1e-13)
    np.testing.assert_allclose(both["psd"], (one["psd"] + 2 * two["psd"]) / 3, rtol=1e-12)
    np.testing.assert_allclose(both["variance"], (one["variance"] + 2 * two["variance"]) / 3, rtol=1e-12)
    assert both["metastability"] == pytest.approx((one["metastability"] + 2 * two["metastability"]) / 3)
    assert both["n_frames"] == 900
    assert both["effective_dof"] == pytest.approx(one["effective_dof"] + two["effective_dof"])
    assert len(both["fcd"]) == len(one["fcd"]) + len(two["fcd"])


def test_fc_converges_to_the_truth():
    """Instantaneous mixing of equal spectra: FC is that of the mixing at any band; 0.02 after 40,000 frames."""
    random = np.random.default_rng(33)
    mixing = random.normal(size=(5, 5))
    x = signal.lfilter([1], [1, -0.7], random.normal(size=(40_000, 5)), axis=0) @ mixing.T
    covariance = mixing @ mixing.T
    scale = np.sqrt(np.diag(covariance))
    found = features(x, TR, CONFIG | {"fcd_step": 3000.0})
    np.testing.assert_allclose(found["fc"], covariance / np.outer(scale, scale), atol=0.05)
    np.testing.assert_allclose(found["variance"], np.diag(covariance) / np.diag(covariance).mean(), rtol=0.1)


def test_metastability_of_locked_and_drifting_oscillators():
    """Equal phases: R = 1 always. Two tones: R = |cos(pi df t)|, whose standard deviation is sqrt(1/2 - 4/pi^2)."""
    t = np.arange(4000) * TR
    locked = np.sin(2 * np.pi * 0.055 * t)[:, None] * np.array([1.0, 3.0, 0.5])
    assert metastability(locked, TR) < 1e-6
    np.testing.assert_allclose(order_parameter(locked, TR), 1.0, atol=1e-6)
    pair = np.stack([np.sin(2 * np.pi * f * t) for f in (0.05, 0.06)], axis=1)
    assert metastability(pair, TR) == pytest.approx(np.sqrt(0.5 - 4 / np.pi**2), abs=0.01)


def test_scores_of_features():
    a, b = features(recording(500, 34), TR, CONFIG), features(recording(500, 35), TR, CONFIG)
    scores = feature_scores(a, b, a["frequency"], CONFIG["band"])
    assert set(scores) == {"fc_r", "fc_z", "fc_rmse", "lag1_r", "psd_r", "psd_rmse", "variance_r"}
    assert scores["lag1_r"] == pytest.approx(
        np.corrcoef(a["lag1"].ravel(), b["lag1"].ravel())[0, 1], abs=1e-12
    )
    assert scores["fc_z"] == pytest.approx(np.arctanh(scores["fc_r"]), abs=1e-12)
    logs = np.log(a["variance"]), np.log(b["variance"])
    assert scores["variance_r"] == pytest.approx(np.corrcoef(*logs)[0, 1], abs=1e-12)
    perfect = feature_scores(a, a, a["frequency"], CONFIG["band"])
    assert perfect["psd_rmse"] == perfect["fc_rmse"] == 0
    assert perfect["fc_z"] == pytest.approx(np.arctanh(0.999))
    assert fc_scores(-a["fc"], a["fc"])["fc_r"] == pytest.approx(-1.0)


def test_variance_and_weights_that_are_zero_are_left_out():
    assert np.isnan(variance_correlation(np.zeros(3), np.ones(3)))
    assert variance_correlation([0, 1, 2, 4], [5, 1, 2, 4]) == pytest.approx(1.0)
    np.testing.assert_array_equal(relative_variance(np.full((100, 2), 3.0), TR, CONFIG), 0.0)
    weights = np.array([[0, 1.0, 0, 8], [1, 0, 2, 4], [0, 2, 0, 0], [8, 4, 0, 0]])
    fc = np.array([[1, 0.1, 0.9, 0.4], [0.1, 1, 0.2, 0.3], [0.9, 0.2, 1, 0.7], [0.4, 0.3, 0.7, 1]])
    assert log_weight_correlation(weights, fc) == pytest.approx(1.0)
