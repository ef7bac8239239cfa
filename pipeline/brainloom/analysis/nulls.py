"""Control connectomes: what is left of a fit when the wiring is wrong.

All return a symmetric (region, region) float64 matrix with zero diagonal and the mean strength (mean row sum) of the
input. Real connectomes can have density 1, where degree-preserving rewiring changes nothing; weights are permuted
instead.
"""

from __future__ import annotations

import numpy as np


def _pairs(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column indices above the diagonal, and the symmetrised weights there."""
    weights = np.asarray(weights, dtype=np.float64)
    rows, columns = np.triu_indices(len(weights), k=1)
    return rows, columns, 0.5 * (weights[rows, columns] + weights[columns, rows])


def _assemble(n: int, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, total: float) -> np.ndarray:
    """Symmetric matrix from upper entries, scaled so that they sum to `total`."""
    matrix = np.zeros((n, n))
    matrix[rows, columns] = values * (total / values.sum() if values.sum() > 0 else 1.0)
    return matrix + matrix.T


def edge_shuffle(weights: np.ndarray, seed: int) -> np.ndarray:
    """Random permutation of all edge weights.

    Parameters
    ----------
    weights : (region, region) array
    seed : int

    Returns
    -------
    (region, region) array with the same multiset of weights.
    """
    rows, columns, values = _pairs(weights)
    shuffled = np.random.default_rng(seed).permutation(values)
    return _assemble(len(weights), rows, columns, shuffled, values.sum())


def _known_lengths(lengths: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Lengths above the diagonal; where none was measured (0 or NaN), the longest one.

    A tract length is usually missing because no streamline was found, which is commonest between distant regions.
    """
    lengths = np.asarray(lengths, dtype=np.float64)
    values = 0.5 * (lengths[rows, columns] + lengths[columns, rows])
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        raise ValueError(
            "no connection has a length; distance controls need the lengths of the connectome in mm"
        )
    return np.where(known, values, values[known].max())


def distance_shuffle(weights: np.ndarray, lengths: np.ndarray, seed: int, n_bins: int = 20) -> np.ndarray:
    """Random permutation of edge weights within bins of connection length.

    Keeps the decay of weight with distance, removes the rest of the wiring.

    Parameters
    ----------
    weights, lengths : (region, region) arrays
        Lengths in mm; missing ones (0 or NaN) count as the longest.
    seed : int
    n_bins : int
        Bins of (nearly) equal numbers of edges.

    Returns
    -------
    (region, region) array with the same multiset of weights in every bin.
    """
    rows, columns, values = _pairs(weights)
    order = np.argsort(_known_lengths(lengths, rows, columns), kind="stable")
    random = np.random.default_rng(seed)
    shuffled = values.copy()
    for edges in np.array_split(order, min(n_bins, len(order))):
        shuffled[edges] = values[random.permutation(edges)]
    return _assemble(len(weights), rows, columns, shuffled, values.sum())


def uniform(weights: np.ndarray) -> np.ndarray:
    """All connections equal.

    Parameters
    ----------
    weights : (region, region) array

    Returns
    -------
    (region, region) array.
    """
    rows, columns, values = _pairs(weights)
    return _assemble(len(weights), rows, columns, np.ones_like(values), values.sum())


def length_scale(weights: np.ndarray, lengths: np.ndarray) -> float:
    """Decay length in mm of ``weight ~ exp(-length / scale)``, by least squares on the log of the positive weights.

    Where weights do not fall with length, the mean length is returned.
    """
    rows, columns, values = _pairs(weights)
    distance = _known_lengths(lengths, rows, columns)
    positive = values > 0
    slope = 0.0
    if positive.sum() > 2 and np.ptp(distance[positive]) > 0:
        slope = np.polyfit(distance[positive], np.log(values[positive]), 1)[0]
    # A decay longer than a hundred brains is no decay.
    return float(-1.0 / slope) if slope < -1e-5 else float(distance.mean())


def distance_only(weights: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Weights that fall exponentially with connection length, at the rate fitted to this connectome.

    Parameters
    ----------
    weights, lengths : (region, region) arrays
        Lengths in mm; missing ones (0 or NaN) count as the longest.

    Returns
    -------
    (region, region) array.
    """
    rows, columns, values = _pairs(weights)
    decayed = np.exp(-_known_lengths(lengths, rows, columns) / length_scale(weights, lengths))
    return _assemble(len(weights), rows, columns, decayed, values.sum())
