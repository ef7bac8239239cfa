"""Functional connectivity dynamics: how similar the connectivity of two moments is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainloom.analysis.fc import functional_connectivity, upper
from brainloom.core.exact import refuse_tracing

# Relative to its power, a region's variance in a window below this is rounding.
_ROUNDING = 1e-12


def window_frames(seconds: float, tr: float) -> int:
    """Length in whole frames of a duration in seconds, at least 1."""
    return max(1, round(seconds / tr))


def fcd(x: np.ndarray, window: int, step: int) -> np.ndarray:
    """Correlation of the upper triangles of windowed FC, every window with every other.

    Parameters
    ----------
    x : (time, region) array
        One cleaned segment, lines of NaN for scrubbed frames: a window with fewer than half of its frames is NaN.
    window, step : int
        Frames.

    Returns
    -------
    (window, window_to) float64 array; (0, 0) when the segment is shorter than a window.
    """
    refuse_tracing("fcd", "brainloom.objectives.fcd()", x)
    x = np.asarray(x, dtype=np.float64)
    starts = range(0, len(x) - window + 1, step)
    if len(starts) == 0:
        return np.zeros((0, 0))
    if np.isfinite(x).all():
        return _row_correlation(_window_fc(x, window, step))
    parts = [x[start : start + window] for start in starts]
    parts = [part if np.isfinite(part).all() else part[np.isfinite(part).all(axis=1)] for part in parts]
    full = np.array([2 * len(part) >= window for part in parts])
    matrix = np.full((len(parts), len(parts)), np.nan)
    if full.any():
        rows = np.stack(
            [upper(functional_connectivity(part)) for part, use in zip(parts, full, strict=True) if use]
        )
        matrix[np.ix_(full, full)] = functional_connectivity(rows.T)
    return matrix


def _window_fc(x: np.ndarray, window: int, step: int) -> np.ndarray:
    """
    Upper triangles of the FC of every window: (window, pair). A region that is constant in a window correlates 0.

    Windows share most of their frames, so sums of products follow the window: frames that enter are added, frames that
    leave are subtracted.
    """
    x = x - x.mean(axis=0)
    scale = x.std(axis=0)
    x = x / np.where(scale > 0, scale, 1.0)
    n = x.shape[1]
    starts = range(0, len(x) - window + 1, step)
    rows, columns = np.triu_indices(n, k=1)
    place, diagonal = rows * n + columns, np.arange(n) * (n + 1)
    out = np.empty((len(starts), len(rows)))
    products = x[:window].T @ x[:window]
    for k, start in enumerate(starts):
        if k and step < window:
            come, gone = x[start - step + window : start + window], x[start - step : start]
            products += come.T @ come
            products -= gone.T @ gone
        elif k:
            products = x[start : start + window].T @ x[start : start + window]
        mean = x[start : start + window].mean(axis=0)
        power = products.ravel()[diagonal]
        variance = power - window * mean**2
        # Rounding of the sums leaves a constant region a variance of this order.
        root = 1.0 / np.sqrt(np.where(variance > _ROUNDING * power, variance, np.inf))
        covariance = products - np.outer(window * mean, mean)
        covariance *= root[:, None]
        covariance *= root
        np.take(covariance.ravel(), place, out=out[k])
    return np.clip(out, -1.0, 1.0, out=out)


def _row_correlation(rows: np.ndarray) -> np.ndarray:
    """Pearson correlation of every row with every other, 0 where a row is constant, diagonal 1."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.where(norm > 0, norm, 1.0)[:, None]
    matrix = np.clip(rows @ rows.T, -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def fcd_segments(segments: Sequence[np.ndarray], window: int, step: int) -> np.ndarray:
    """`fcd` of several segments as blocks on the diagonal, NaN between windows of different segments.

    Parameters
    ----------
    segments : sequence of (time, region) arrays
    window, step : int
        Frames.

    Returns
    -------
    (window, window_to) float64 array over the windows of all segments.
    """
    blocks = [fcd(segment, window, step) for segment in segments]
    matrix = np.full((sum(map(len, blocks)),) * 2, np.nan)
    start = 0
    for block in blocks:
        matrix[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return matrix


def fcd_values(matrix: np.ndarray, window: int, step: int) -> np.ndarray:
    """Entries above the diagonal whose two windows share no frame; NaN entries are left out.

    Parameters
    ----------
    matrix : (..., window, window_to) array
        Leading axes, for example realisations, are pooled.
    window, step : int
        Frames; windows i and j share no frame when |i - j| * step >= window.

    Returns
    -------
    1-D float64 array.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    rows, columns = np.triu_indices(matrix.shape[-1], k=-(-window // step))
    values = matrix[..., rows, columns].ravel()
    return values[np.isfinite(values)]


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sample Kolmogorov-Smirnov distance, the largest gap between two empirical distributions.

    Parameters
    ----------
    a, b : 1-D arrays

    Returns
    -------
    float between 0 and 1; NaN when one sample is empty.
    """
    refuse_tracing("ks_distance", "brainloom.objectives.fcd_ks() or fcd_wasserstein()", a, b)
    a, b = np.sort(np.ravel(a)), np.sort(np.ravel(b))
    if a.size == 0 or b.size == 0:
        return float("nan")
    points = np.concatenate([a, b])
    below_a = np.searchsorted(a, points, side="right") / a.size
    below_b = np.searchsorted(b, points, side="right") / b.size
    return float(np.abs(below_a - below_b).max())


def fcd_ks(a: np.ndarray, b: np.ndarray, window: int, step: int) -> float:
    """Score `fcd_ks`: KS distance between two FCD matrices over pairs of windows that share no frame.

    Overlapping windows share data, so their correlation says nothing about dynamics and is left out.

    Parameters
    ----------
    a, b : (..., window, window_to) arrays
    window, step : int
        Frames.

    Returns
    -------
    float between 0 and 1; NaN when one side has no such pair.
    """
    refuse_tracing("fcd_ks", "brainloom.objectives.fcd_ks() or fcd_wasserstein()", a, b)
    return ks_distance(fcd_values(a, window, step), fcd_values(b, window, step))
