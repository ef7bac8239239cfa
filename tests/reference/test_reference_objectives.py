"""
Objectives of two formula-defined signals against the table of reference values.

Values come from the definitions in other code; they agree to rounding, far within the tolerances of the table.
"""

from __future__ import annotations

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import cases

# isort: split
import jax
import numpy as np
import pytest

from brainloom import objectives

# The conventions of the table: windows of 30 samples every 5, all pairs of windows, Scott's rule on 100 points.
OBJECTIVES = {
    "objective_timeseries_rmse": objectives.timeseries_rmse(),
    "objective_fc_corr": objectives.fc_corr(),
    "objective_fcd_ks": objectives.fcd_ks(window=30, step=5),
}


def signals():
    t, r = np.arange(300)[:, None], np.arange(5)
    prediction = np.sin(2 * np.pi * (0.02 + 0.007 * r) * t + 0.5 * r)
    target = np.sin(2 * np.pi * (0.021 + 0.006 * r) * t + 0.4 * r)
    slow = 0.3 * np.sin(2 * np.pi * 0.013 * t * (r + 1)), 0.25 * np.cos(2 * np.pi * 0.011 * t * (r + 1))
    return prediction + slow[0], target + slow[1]


@pytest.mark.parametrize("entry", cases("objective"))
def test_objective(entry):
    found = jax.jit(OBJECTIVES[entry["id"]])(*signals())
    np.testing.assert_allclose(found, entry["expected"], rtol=entry["tolerance"]["rtol"])


def test_other_conventions_of_the_table_are_options():
    prediction, target = signals()
    same = objectives.fcd_ks(window_size=30, step_size=5)(prediction, target)
    np.testing.assert_allclose(same, OBJECTIVES["objective_fcd_ks"](prediction, target), rtol=1e-12)
    # by other packages: the root mean square over the whole FC matrix, and the correlation of all pairs of windows
    whole = objectives.fc_rmse(include_diagonal=True)(prediction, target)
    np.testing.assert_allclose(whole, 0.07923381583812, rtol=1e-10)
    np.testing.assert_allclose(objectives.fc_rmse()(prediction, target), whole * np.sqrt(5 / 4), rtol=1e-10)
    found = objectives.fcd(window=30, step=5)(prediction, target)
    np.testing.assert_allclose(found, 0.09258752054923, rtol=1e-10)
    found = objectives.fcd_wasserstein(window=30, step=5)(prediction, target)
    np.testing.assert_allclose(found, 0.02058918074041, rtol=1e-10)
