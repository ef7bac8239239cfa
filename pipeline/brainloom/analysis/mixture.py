"""Mixture of a subject's own FC with the mean FC of the others: the best prediction without a model.

Correlation matrices are mixed on the log-Euclidean path, ``exp(w log own + (1 - w) log group)``. The weight `w` is
chosen inside the training part (its beginning predicts its last third) and then raised to the amount of data of the
whole training part: if the error of an FC falls as 1 / nu with nu effective degrees of freedom, and the others differ
from the subject by a fixed variance, the best odds w / (1 - w) are proportional to nu.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainloom.analysis.fc import fc_correlation, fisher_z

# Eigenvalues below this are noise of a short, band-passed recording; the score does not depend on the exact value.
_FLOOR = 1e-4
#: The weight is chosen on this many subjects at most, evenly spaced: more change its score by less than rounding of the grid.
MAX_CHOOSERS = 200


def matrix_log(matrix: np.ndarray) -> np.ndarray:
    """Matrix logarithm of a symmetric matrix, eigenvalues raised to at least 1e-4.

    Parameters
    ----------
    matrix : (region, region) array
    """
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.log(np.maximum(values, _FLOOR))) @ vectors.T


def mix(log_own: np.ndarray, log_group: np.ndarray, weight: float) -> np.ndarray:
    """Log-Euclidean mixture of two correlation matrices, scaled back to unit diagonal.

    Parameters
    ----------
    log_own, log_group : (region, region) arrays
        From `matrix_log`.
    weight : float
        Share of the subject's own matrix, 0 to 1.

    Returns
    -------
    (region, region) float64 array.
    """
    values, vectors = np.linalg.eigh(weight * log_own + (1.0 - weight) * log_group)
    mixed = (vectors * np.exp(values)) @ vectors.T
    scale = np.sqrt(np.diag(mixed))
    mixed = mixed / np.outer(scale, scale)
    np.fill_diagonal(mixed, 1.0)
    return mixed


def leave_one_out_mean(matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mean in Fisher z of the matrices of all other subjects, for every subject.

    Parameters
    ----------
    matrices : sequence of (region, region) arrays
        One a subject, at least two.

    Returns
    -------
    list of (region, region) arrays.
    """
    if len(matrices) < 2:
        raise ValueError("a leave-one-out mean needs at least two subjects")
    if len(matrices) == 2:
        return [matrices[1].copy(), matrices[0].copy()]
    # One sum for all: as many means as subjects, each over all others, would take the square of their number.
    total = np.sum(np.asarray([fisher_z(matrix) for matrix in matrices]), axis=0)
    ones = np.all([np.diagonal(matrix) == 1.0 for matrix in matrices])
    means = []
    for matrix in matrices:
        mean = np.tanh((total - fisher_z(matrix)) / (len(matrices) - 1))
        if ones:
            np.fill_diagonal(mean, 1.0)
        means.append(mean)
    return means


def choose_weight(
    early: Sequence[np.ndarray],
    group: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    grid: Sequence[float] = tuple(np.linspace(0, 1, 21)),
) -> tuple[float, np.ndarray]:
    """Weight with the best mean correlation between mixtures of the early part and the validation part.

    Parameters
    ----------
    early, group, validation : sequences of (region, region) arrays
        One a subject. None of them may hold test data of any subject. Of more than `MAX_CHOOSERS` subjects, so many.
    grid : sequence of float
        Weights that are tried.

    Returns
    -------
    weight : float
    scores : (weight,) array, mean `fc_r` over subjects at each weight of the grid
    """
    if not len(early) == len(group) == len(validation):
        raise ValueError(
            f"{len(early)}, {len(group)} and {len(validation)} matrices are not of the same subjects"
        )
    chosen = np.unique(np.linspace(0, len(early) - 1, min(len(early), MAX_CHOOSERS)).round().astype(int))
    scores = np.mean([_mixture_scores(early[k], group[k], validation[k], grid) for k in chosen], axis=0)
    return float(grid[int(np.argmax(scores))]), scores


def _mixture_scores(
    own: np.ndarray, others: np.ndarray, target: np.ndarray, grid: Sequence[float]
) -> list[float]:
    """Score of the mixture with each weight of a grid."""
    logs = matrix_log(own), matrix_log(others)
    return [fc_correlation(mix(*logs, weight), target) for weight in grid]


def rescale_weight(weight: float, dof_chosen: float, dof_used: float) -> float:
    """Weight for an FC from more data than the one the weight was chosen for: odds times the ratio of dof.

    Parameters
    ----------
    weight : float
        Chosen for an FC with `dof_chosen` effective degrees of freedom.
    dof_chosen, dof_used : float
        Effective degrees of freedom, positive.

    Examples
    --------
    >>> round(rescale_weight(0.5, 30.0, 60.0), 3)
    0.667
    """
    own = weight * dof_used
    rest = (1.0 - weight) * dof_chosen
    return float(own / (own + rest))
