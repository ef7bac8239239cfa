"""Which strength of regularisation gives parameters that can be trusted, and what they are then worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brainloom.analysis.discriminability import Discriminability, discriminability
from brainloom.analysis.fc import fisher_z, upper
from brainloom.analysis.group_stats import (
    PairedComparison,
    fingerprint_matrix,
    icc31,
    identification,
    paired_comparison,
)


@dataclass(frozen=True)
class Reliability:
    """
    The trade-off between fit and reliability over a cohort.

    Attributes
    ----------
    validation, validation_se : (strength,) arrays
        Mean over subjects of ``fc_r`` on the validation part, and the standard error of its difference to the best.
    icc_inside : (strength, field) array
        Median over coordinates of ICC(3,1) between the halves of the training part.
    icc_halves : (strength, coordinate) array
        ICC(3,1) between training and held-out part. It is reported, and chooses nothing.
    chosen : int
        Place of the strength for interpretation.
    identified : (subject,) bool array
        At that strength: the held-out FC of the subject is predicted best by its own model.
    comparisons : dict of (strength, predictor) to PairedComparison
        Held-out ``fc_r`` of the own connectome minus that of a control.
    discriminability : dict of (strength, str) to Discriminability
        Of fits to the training part and to the held-out part: ``fc`` of the models, ``parameters``.
    """

    validation: np.ndarray
    validation_se: np.ndarray
    icc_inside: np.ndarray
    icc_halves: np.ndarray
    chosen: int
    identified: np.ndarray
    comparisons: dict[tuple[int, str], PairedComparison]
    discriminability: dict[tuple[int, str], Discriminability]


def assess(
    theta: np.ndarray,
    validation: np.ndarray,
    fields: Mapping[str, slice],
    fc: np.ndarray,
    other_fc: np.ndarray,
    test_fc: np.ndarray,
    test: np.ndarray,
    predictors: list[str],
    seed: int,
) -> Reliability:
    """
    Choose the strength for interpretation, and describe what it gives.

    Of the strengths whose validation score is within one standard error of the best (of the paired difference over
    subjects; the rule of Breiman et al. 1984, Classification and Regression Trees, section 3.4.3), the one whose
    fields agree best between the two halves of the training part: the largest mean over fields of the median ICC.
    Held-out data choose nothing.

    Parameters
    ----------
    theta : (subject, strength, part, coordinate) array
        Parts as in `brainloom.cohort.reliability.PARTS`: train, test, first and second half of train, early.
    validation : (subject, strength) array
    fields : mapping of str to slice
        Coordinates of every fitted field.
    fc, other_fc : (subject, strength, region, region) arrays
        Models of the training part, and of the held-out part.
    test_fc : (subject, region, region) array
    test : (subject, strength, predictor) array
        Held-out ``fc_r``.
    predictors : list of str
        The own connectome first.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Reliability

    Raises
    ------
    ValueError
        Fewer than three subjects.
    """
    n = len(theta)
    if n < 3:
        raise ValueError(f"reliability over subjects needs at least 3 of them, got {n}")
    mean = np.nanmean(validation, axis=0)
    best = int(np.nanargmax(mean))
    behind = validation[:, [best]] - validation
    error = np.nanstd(behind, axis=0, ddof=1) / np.sqrt(n)
    inside = icc31(np.moveaxis(theta[:, :, 2:4], 2, 1))
    halves = icc31(np.moveaxis(theta[:, :, 0:2], 2, 1))
    median = np.array([[np.nanmedian(row[part]) for part in fields.values()] for row in inside])
    near = mean >= mean[best] - error
    chosen = int(np.nanargmax(np.where(near, np.nanmean(median, axis=1), -np.inf)))
    matrix = fingerprint_matrix(list(fc[:, chosen]), list(test_fc))
    comparisons, discriminable = {}, {}
    for k in range(test.shape[1]):
        for name, (a, b) in {
            "fc": tuple(np.asarray(fisher_z(upper(part[:, k]))) for part in (fc, other_fc)),
            "parameters": (theta[:, k, 0], theta[:, k, 1]),
        }.items():
            discriminable[k, name] = discriminability(a, b, seed=seed)
        for j, name in enumerate(predictors[1:], 1):
            both = np.isfinite(test[:, k, 0]) & np.isfinite(test[:, k, j])
            if both.sum() >= 2:
                comparisons[k, name] = paired_comparison(test[both, k, 0], test[both, k, j], seed=seed)
    return Reliability(
        validation=mean,
        validation_se=error,
        icc_inside=median,
        icc_halves=halves,
        chosen=chosen,
        identified=identification(matrix)[0],
        comparisons=comparisons,
        discriminability=discriminable,
    )
