"""What the report says of the attainable, of features that were not fitted, and of FC dynamics: no more than the numbers."""

import pandas as pd

from brainloom.analysis.metric_rows import COLUMNS
from brainloom.report.generalisation_sections import (
    attainable_sentences,
    discriminability_sentences,
    dynamics_sentences,
    fitted_features,
    unfitted_sentences,
)


def table(values, metric="lag1_r", subjects=6):
    """Rows of some predictors, each a little different in every subject."""
    rows = [
        (f"{k:02d}", "HopfStep", "test", predictor, name, value + 0.003 * (k % 3), 1)
        for key, value in values.items()
        for predictor, name in [key if isinstance(key, tuple) else (key, metric)]
        for k in range(subjects)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_below_above_and_not_told_apart():
    found = unfitted_sentences(
        table({"model_analytic": 0.7, "model_simulated": 0.9, "ceiling": 0.81, "stationary_train": 0.8}), {}
    )
    assert len(found) == 1
    assert "Model (analytic) 0.703, below the stationary null (\u22120.100" in found[0]
    assert "Model (simulated) 0.903, above the stationary null (+0.100" in found[0]
    assert "ceiling (own training data) 0.813, stationary null (training part) 0.803" in found[0]
    mixed = table({"model_analytic": 0.8, "stationary_train": 0.8})
    mixed.loc[:2, "value"] += 0.1
    mixed.loc[3:5, "value"] -= 0.1
    assert "not told apart from the stationary null" in unfitted_sentences(mixed, {})[0]
    one = unfitted_sentences(table({"model_analytic": 0.7, "stationary_train": 0.8}, subjects=1), {})
    assert "\u22120.100 against the stationary null" in one[0] and "below" not in one[0]
    assert unfitted_sentences(table({"model_analytic": 0.7}), {}) == []


def test_what_was_fitted_after_all_is_said():
    hopf = {
        "model": {"name": "HopfStep"},
        "fit": {"objective": {"fc": 1.0, "lag1": 0.5}, "stages": ["analytic"]},
    }
    assert set(fitted_features(hopf)) == {"lag1_r", "psd_r"}
    stages = {
        "model": {"name": "LinearStep"},
        "fit": {"stages": ["analytic", {"objective": {"variance": 1.0}}]},
    }
    assert set(fitted_features(stages)) == {"variance_r"}
    assert set(fitted_features({"fit": {"route": "spectrum"}})) == {"lag1_r", "psd_r", "variance_r"}
    text = unfitted_sentences(table({"model_analytic": 0.7, "stationary_train": 0.8}), fitted_features(hopf))[
        0
    ]
    assert "(fitted: fit.objective.lag1)" in text


def test_dynamics_are_held_against_the_run_to_run_distance_and_the_null():
    near = {"model_simulated": 0.34, "ceiling": 0.33, "stationary_surrogate": 0.16}
    first, second = dynamics_sentences(table(near, "fcd_ks"))
    assert "0.343 from those of the held-out part" in first and "is within 0.05 of" in first
    assert "held-out part itself are 0.163" in second and "no evidence of dynamics beyond one" in second
    far = near | {"model_simulated": 0.39, "stationary_surrogate": 0.5, "stationary_train": 0.6}
    first, second = dynamics_sentences(table(far, "fcd_ks"))
    assert "+0.060 farther, so not within 0.05" in first and "closer than all of them" in second
    assert "of the training part, which know as much as the model, are 0.603" in second
    values = {"model_simulated": 0.17, "empirical": 0.16, "stationary_surrogate": 0.15}
    (only,) = dynamics_sentences(table(values, "metastability"))
    assert "Metastability of the simulated model is 0.173, of the held-out part 0.163" in only
    assert dynamics_sentences(table({"ceiling": 0.3}, "fcd_ks")) == []


def test_the_attainable_and_discriminability():
    rows = table(
        {
            ("ceiling", "fc_reliability"): 0.81,
            ("ceiling", "fc_r_corrected"): 0.9,
            ("model_analytic", "fc_r_corrected"): 0.8,
        }
    )
    (text,) = attainable_sentences(rows)
    assert "reliability is 0.813" in text and "model reaches 0.803" in text and "training FC 0.903" in text
    assert attainable_sentences(rows[rows["metric"] != "fc_reliability"]) == []
    cohort = pd.DataFrame(
        [
            ("group", "HopfStep", "test", "ceiling", "discriminability", 0.97, 1),
            ("group", "HopfStep", "test", "ceiling", "discriminability_p", 0.0002, 1),
        ],
        columns=list(COLUMNS),
    )
    (text,) = discriminability_sentences(cohort)
    assert "the recorded FC 0.970 (p 0.0002)" in text and "parameters" not in text
    assert discriminability_sentences(rows) == []
