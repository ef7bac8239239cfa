"""Statistics over subjects: identification, reliability, paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from brainloom.analysis.fc import upper


def fingerprint_matrix(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """Pearson correlation of every subject's prediction with every subject's held-out FC.

    Parameters
    ----------
    predictions, targets : sequences of (region, region) arrays, one a subject

    Returns
    -------
    (subject, subject_to) array: [s, t] is prediction of s against target of t.
    """
    a, b = (upper(np.asarray(m)) for m in (predictions, targets))
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    return (a @ b.T) / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


def identification(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which subjects are identified.

    Parameters
    ----------
    matrix : (subject, subject_to) array from `fingerprint_matrix`
        A subject with NaN is not identified and competes with nobody.

    Returns
    -------
    identified : (subject,) bool
        ``matrix[s, s] > matrix[t, s]`` for all other t: the subject's held-out FC is predicted best by its own
        prediction.
    reverse : (subject,) bool
        ``matrix[s, s] > matrix[s, t]`` for all other t: the subject's prediction fits its own held-out FC best.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    others = np.where(np.eye(len(matrix), dtype=bool) | np.isnan(matrix), -np.inf, matrix)
    own = np.diag(matrix)
    return own > others.max(axis=0), own > others.max(axis=1)


def icc31(values: np.ndarray) -> np.ndarray:
    """Intraclass correlation ICC(3,1): two-way mixed effects, consistency, single measurement (Shrout & Fleiss 1979).

    ``(MS_subjects - MS_error) / (MS_subjects + (k - 1) MS_error)``

    Parameters
    ----------
    values : (subject, session, ...) array
        At least 2 subjects and 2 sessions.

    Returns
    -------
    (...) array; NaN where nothing varies.
    """
    values = np.asarray(values, dtype=np.float64)
    n, k = values.shape[:2]
    if n < 2 or k < 2:
        raise ValueError(f"ICC needs at least 2 subjects and 2 sessions, got {n} and {k}")
    grand = values.mean(axis=(0, 1), keepdims=True)
    subject = values.mean(axis=1, keepdims=True)
    session = values.mean(axis=0, keepdims=True)
    ms_subject = k * ((subject - grand) ** 2).sum(axis=(0, 1)) / (n - 1)
    ms_error = ((values - subject - session + grand) ** 2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    total = ms_subject + (k - 1) * ms_error
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (ms_subject - ms_error) / total, np.nan)


@dataclass(frozen=True)
class PairedComparison:
    """Outcome of `paired_comparison`.

    Attributes
    ----------
    mean, lower, upper : float
        Mean difference over subjects and its bootstrap interval.
    p_value : float
        Two-sided Wilcoxon signed-rank test; 1 when all differences are 0.
    n_better : int
        Subjects with a positive difference.
    n : int
        Subjects.
    """

    mean: float
    lower: float
    upper: float
    p_value: float
    n_better: int
    n: int


def paired_comparison(
    a: np.ndarray, b: np.ndarray, *, level: float = 0.95, draws: int = 10000, seed: int = 0
) -> PairedComparison:
    """Compare two predictors over the same subjects, ``a - b``.

    Parameters
    ----------
    a, b : (subject,) arrays
        The same score of the same subjects; at least two subjects.
    level : float
        Probability mass of the percentile bootstrap interval of the mean.
    draws, seed : int
        Resamples of subjects, and the seed of their draw.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(difference)
    if n < 2:
        raise ValueError(f"a paired comparison needs at least 2 subjects, got {n}")
    picks = np.random.default_rng(seed).integers(0, n, (draws, n))
    means = difference[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    p_value = stats.wilcoxon(difference).pvalue if np.any(difference != 0) else 1.0
    return PairedComparison(
        mean=float(difference.mean()),
        lower=float(low),
        upper=float(high),
        p_value=float(p_value),
        n_better=int((difference > 0).sum()),
        n=n,
    )
