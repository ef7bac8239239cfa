"""Functional connectivity: correlations at lag 0 and 1, and how two matrices compare."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from brainloom.core.exact import refuse_tracing

# Correlations are clipped here before atanh, so that a duplicated region does not give infinity.
_CLIP = 0.999


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of every column of `a` with every column of `b`; 0 where a column is constant."""
    a = a - a.mean(axis=0)
    b = b - b.mean(axis=0)
    norm_a, norm_b = np.sqrt((a**2).sum(axis=0)), np.sqrt((b**2).sum(axis=0))
    a = a / np.where(norm_a > 0, norm_a, 1.0)
    b = b / np.where(norm_b > 0, norm_b, 1.0)
    return np.clip(a.T @ b, -1.0, 1.0)


def functional_connectivity(x: np.ndarray) -> np.ndarray:
    """Pearson correlation between all regions.

    Parameters
    ----------
    x : (time, region) array

    Returns
    -------
    (region, region) float64 array, symmetric, diagonal 1. A constant region correlates 0 with the others.
    """
    refuse_tracing("functional_connectivity", "brainloom.objectives.fc_corr() or fc_rmse()", x)
    x = np.asarray(x, dtype=np.float64)
    matrix = _correlate(x, x)
    matrix = 0.5 * (matrix + matrix.T)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def lagged_correlation(x: np.ndarray, lag: int = 1) -> np.ndarray:
    """Lagged Pearson correlation ``C[i, j] = corr(x_i(t + lag), x_j(t))`` over the pairs of frames that are both there.

    Parameters
    ----------
    x : (time, region) array, lines of NaN for scrubbed frames
    lag : int
        Frames, at least 0.

    Returns
    -------
    (region, region) float64 array, in general not symmetric.
    """
    x = np.asarray(x, dtype=np.float64)
    later, earlier = x[lag:], x[: len(x) - lag]
    both = np.isfinite(later).all(axis=1) & np.isfinite(earlier).all(axis=1)
    return _correlate(later, earlier) if both.all() else _correlate(later[both], earlier[both])


def upper(matrix: np.ndarray) -> np.ndarray:
    """Entries above the diagonal, row by row.

    Parameters
    ----------
    matrix : (..., region, region) array

    Returns
    -------
    (..., pair) array.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    n = matrix.shape[-1]
    return matrix.reshape(*matrix.shape[:-2], n * n)[..., _above_diagonal(n)]


@lru_cache(maxsize=16)
def _above_diagonal(n: int) -> np.ndarray:
    """Places of the entries above the diagonal of a flattened (n, n) matrix."""
    rows, columns = np.triu_indices(n, k=1)
    return rows * n + columns


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two vectors; NaN when one of them does not vary."""
    a = np.ravel(np.asarray(a, dtype=np.float64))
    b = np.ravel(np.asarray(b, dtype=np.float64))
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / norm, -1.0, 1.0)) if norm > 0 else float("nan")


def fc_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of the untransformed upper triangles of two (region, region) matrices (`fc_r`)."""
    refuse_tracing("fc_correlation", "brainloom.objectives.fc_corr()", a, b)
    return pearson(upper(a), upper(b))


def fc_rmse(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square difference of the upper triangles of two (region, region) matrices (`fc_rmse`)."""
    refuse_tracing("fc_rmse", "brainloom.objectives.fc_rmse()", a, b)
    return float(np.sqrt(np.mean((upper(a) - upper(b)) ** 2)))


def fisher_z(r: np.ndarray | float) -> np.ndarray | float:
    """Fisher's z = atanh(r), with |r| clipped at 0.999."""
    return np.arctanh(np.clip(r, -_CLIP, _CLIP))


def average_correlations(
    matrices: Sequence[np.ndarray] | np.ndarray, weights: Sequence[float] | None = None
) -> np.ndarray:
    """Weighted mean of correlation matrices in Fisher z.

    Parameters
    ----------
    matrices : sequence of (region, region) arrays
        Correlations at any lag.
    weights : sequence of float, optional
        For example the frames of each segment; equal by default.

    Returns
    -------
    (region, region) float64 array. A single matrix comes back as it is. A diagonal of ones stays ones.
    """
    stack = np.asarray(matrices, dtype=np.float64)
    if len(stack) == 1:
        return stack[0].copy()
    mean = np.tanh(np.average(fisher_z(stack), axis=0, weights=weights))
    if (np.diagonal(stack, axis1=1, axis2=2) == 1.0).all():
        np.fill_diagonal(mean, 1.0)
    return mean
