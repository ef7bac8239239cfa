"""Correlations corrected for the noise of the held-out FC: known truths, both lengths, the rows of the table."""

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

from brainloom.analysis.attenuation import held_out_reliability, with_corrected
from brainloom.analysis.fc import fc_correlation, functional_connectivity
from brainloom.analysis.metric_rows import COLUMNS

N, SUBJECTS = 24, 60


def recording(rng, n_train, n_test):
    """True FC of a network of three communities, and FC of two independent samples of it."""
    mixing = rng.normal(size=(N, 4)) * np.repeat(np.eye(4)[:3] + 0.3, N // 3, axis=0) + 0.2
    covariance = mixing @ mixing.T + np.eye(N)
    scale = np.sqrt(np.diag(covariance))
    true = covariance / np.outer(scale, scale)
    root = linalg.cholesky(true)
    return true, *(functional_connectivity(rng.normal(size=(n, N)) @ root) for n in (n_train, n_test))


@pytest.mark.parametrize(("n_train", "n_test"), [(40, 40), (80, 20), (20, 80)])
def test_the_true_covariance_attains_everything(n_train, n_test):
    rng = np.random.default_rng(1)
    raw, corrected = [], []
    for _ in range(SUBJECTS):
        true, train, test = recording(rng, n_train, n_test)
        r = fc_correlation(true, test)
        reliability = held_out_reliability(fc_correlation(train, test), n_train, n_test)
        raw.append(r)
        corrected.append(r / np.sqrt(reliability))
    # Short samples hide much of it, and the correction restores it. Errors of the 276 correlations of a sample depend on
    # each other, so that one subject scatters; three standard errors of the mean and 0.02 for what is not linear.
    assert np.mean(raw) < 0.95
    assert np.mean(corrected) == pytest.approx(
        1.0, abs=0.02 + 3 * np.std(corrected, ddof=1) / np.sqrt(SUBJECTS)
    )
    assert abs(np.mean(corrected) - 1.0) < 0.4 * (1.0 - np.mean(raw))


def test_reliability_of_parts_of_one_length_is_their_correlation():
    assert held_out_reliability(0.813, 600, 600) == pytest.approx(0.813, rel=1e-12)
    long, short = held_out_reliability(0.7, 300, 900), held_out_reliability(0.7, 900, 300)
    assert np.sqrt(long * short) == pytest.approx(0.7, rel=1e-12) and long > short
    assert held_out_reliability(1.0, 200, 600) == pytest.approx(1.0)
    for r in (0.0, -0.2, np.nan):
        assert np.isnan(held_out_reliability(r, 600, 600))


def test_rows_of_the_table():
    def row(subject, predictor, metric, value, split="test", n=1):
        return (subject, "LinearStep", split, predictor, metric, value, n)

    table = pd.DataFrame(
        [
            row("01", "ceiling", "fc_r", 0.64), row("01", "model_analytic", "fc_r", 0.6), row("01", "model_analytic", "fc_r", 0.9, "train"),
            row("02", "ceiling", "fc_r", 0.81), row("02", "model_analytic", "fc_r", 0.9), row("02", "model_simulated", "fc_r", 0.45, n=16),
            row("03", "ceiling", "fc_r", -0.1), row("03", "model_analytic", "fc_r", 0.1), row("group", "model_analytic", "fc_r", 0.5),
        ],
        columns=list(COLUMNS),
    )  # fmt: skip
    out, warnings = with_corrected(table, dict.fromkeys(("01", "02", "03"), (300.0, 300.0)))
    new = out[~out["metric"].isin(["fc_r"])].set_index(["subject", "predictor", "metric"])["value"]
    assert new["01", "model_analytic", "fc_r_corrected"] == pytest.approx(0.6 / 0.8)
    assert new["01", "ceiling", "fc_r_corrected"] == pytest.approx(0.8)
    assert new["02", "model_simulated", "fc_r_corrected"] == pytest.approx(0.5)
    assert new["02", "ceiling", "fc_reliability"] == pytest.approx(0.81)
    assert new["group", "model_analytic", "fc_r_corrected"] == pytest.approx((0.75 + 1.0) / 2)
    assert new["group", "ceiling", "fc_reliability"] == pytest.approx((0.64 + 0.81) / 2)
    assert "03" not in new.index.get_level_values("subject") and len(warnings) == 1
    assert "sub-03" in warnings[0] and "do not correlate" in warnings[0]
    assert set(out[out["metric"] == "fc_r_corrected"]["split"]) == {"test"}
    assert list(dict.fromkeys(out["subject"])) == ["01", "02", "03", "group"]  # those of a subject together
    pd.testing.assert_frame_equal(with_corrected(table, {})[0], table)
