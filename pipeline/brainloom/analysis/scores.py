"""Scores of a prediction against the features of one split of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainloom.analysis.fc import fc_correlation, fc_rmse, fisher_z, pearson
from brainloom.analysis.spectra import psd_correlation, psd_rmse


def fc_scores(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """How well one FC matrix predicts another.

    Parameters
    ----------
    prediction, target : (region, region) arrays

    Returns
    -------
    dict with `fc_r` (Pearson correlation of the untransformed upper triangles), `fc_z` (Fisher z of it) and
    `fc_rmse` (root mean square difference of the upper triangles).
    """
    r = fc_correlation(prediction, target)
    return {"fc_r": r, "fc_z": float(fisher_z(r)), "fc_rmse": fc_rmse(prediction, target)}


def variance_correlation(prediction: np.ndarray, target: np.ndarray) -> float:
    """Score `variance_r`: Pearson correlation across regions of log variance; regions without variance are left out.

    Parameters
    ----------
    prediction, target : (region,) arrays of variances in any unit
    """
    prediction, target = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    keep = (prediction > 0) & (target > 0)
    if keep.sum() < 2:
        return float("nan")
    return pearson(np.log(prediction[keep]), np.log(target[keep]))


def feature_scores(
    prediction: Mapping[str, Any],
    target: Mapping[str, Any],
    frequency: np.ndarray,
    band: Sequence[float] | None,
) -> dict[str, float]:
    """All scores that compare features without a time axis.

    Parameters
    ----------
    prediction, target : mapping
        `fc`, `lag1` (region, region), `psd` (region, frequency), `variance` (region,), as made by
        `brainloom.analysis.features.features`. What the prediction does not have is not scored.
    frequency : (frequency,) array, Hz
    band : (low, high) in Hz
        Frequencies over which spectra are compared.

    Returns
    -------
    dict with the scores of `fc_scores` and

    - ``lag1_r``: Pearson correlation over all entries of the lag-1 matrices, diagonal included
    - ``psd_r``, ``psd_rmse``: see `brainloom.analysis.spectra`
    - ``variance_r``: see `variance_correlation`
    """
    out = fc_scores(prediction["fc"], target["fc"]) if "fc" in prediction else {}
    if "lag1" in prediction:
        out["lag1_r"] = pearson(prediction["lag1"], target["lag1"])
    if "psd" in prediction:
        out["psd_r"] = psd_correlation(prediction["psd"], target["psd"], frequency, band)
        out["psd_rmse"] = psd_rmse(prediction["psd"], target["psd"], frequency, band)
    if "variance" in prediction:
        out["variance_r"] = variance_correlation(prediction["variance"], target["variance"])
    return out


def log_weight_correlation(weights: np.ndarray, fc: np.ndarray) -> float:
    """Pearson correlation of log connection weights and FC over the pairs that are connected.

    Parameters
    ----------
    weights, fc : (region, region) arrays

    Returns
    -------
    float; NaN when fewer than two pairs are connected.
    """
    rows, columns = np.triu_indices(len(weights), k=1)
    edge = np.asarray(weights, dtype=np.float64)[rows, columns]
    keep = edge > 0
    if keep.sum() < 2:
        return float("nan")
    return pearson(np.log(edge[keep]), np.asarray(fc, dtype=np.float64)[rows, columns][keep])
