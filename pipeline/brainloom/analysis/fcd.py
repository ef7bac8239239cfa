"""Functional connectivity dynamics: how similar the connectivity of two moments is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainloom.analysis.fc import functional_connectivity, upper
from brainloom.core.exact import refuse_tracing


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
