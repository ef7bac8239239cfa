"""What pooled fits learn of a cohort besides its mean: directions in which subjects differ, and maps that fields follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainloom.cohort.pooled_model import PooledSetup
from brainloom.core.errors import DataError

# A direction is held at least by this share of the precision elsewhere, however much subjects differ along it.
LOOSEST = 0.005
# Precision of what maps explain of a field, relative to that of other coordinates.
MAP_SHARE = 0.01


@dataclass(frozen=True)
class Directions:
    """
    Leading principal directions of the coordinates of subjects.

    Attributes
    ----------
    centre : (size,) array
        Mean over subjects.
    rows : (direction, size) array
        Orthonormal.
    ratio : (direction,) array
        Variance of a coordinate that the directions leave, over the variance along each direction: at most 1.
    """

    centre: np.ndarray
    rows: np.ndarray
    ratio: np.ndarray


def learn_directions(theta: np.ndarray, number: int) -> Directions:
    """
    Covariance of subjects as few directions and the same variance everywhere else.

    Parameters
    ----------
    theta : (subject, size) array
        Coordinates of fits around one prior.
    number : int

    Raises
    ------
    DataError
        There are too few subjects for so many directions.

    Notes
    -----
    Probabilistic principal components (Tipping & Bishop 1999, J. R. Stat. Soc. B 61, 611) with the covariance
    of the fits in place of that of the subjects; `LOOSEST` bounds what few fits would make too loose.
    """
    if len(theta) < number + 2:
        raise DataError(
            f"{number} directions of a cohort cannot be learned from {len(theta)} fits that converged; "
            "set pool.directions to []"
        )
    centre = theta.mean(axis=0)
    _, scale, rows = np.linalg.svd(theta - centre, full_matrices=False)
    left = float(np.sum(scale[number:] ** 2)) / theta.shape[1]
    ratio = np.clip(left / np.maximum(scale[:number] ** 2, 1e-300), LOOSEST, 1.0)
    return Directions(centre, rows[:number], ratio)


def direction_penalty(directions: Directions, precision: np.ndarray) -> dict[str, np.ndarray]:
    """
    Arrays of a problem for `brainloom.cohort.pooled_model.pooled_objective`: looser along the directions.

    Parameters
    ----------
    directions : Directions
    precision : (size,) array
        The same in all coordinates.
    """
    ease = precision.min() * (1.0 - directions.ratio)
    return {"precision": precision, "directions": directions.rows, "ease": ease}


def map_penalty(
    setup: PooledSetup, precision: np.ndarray, maps: np.ndarray, strength: float
) -> dict[str, np.ndarray]:
    """
    Arrays of a problem that pull each regional field to a constant plus a linear combination of maps.

    What a field has of the constant is held by `precision`, what it has of the maps by a hundredth of it (a coefficient
    rests on all regions), and the rest of it by ``strength / regions`` more.

    Parameters
    ----------
    setup : PooledSetup
    precision : (size,) array
    maps : (region, map) array
    strength : float
    """
    n = len(maps)
    basis = np.linalg.qr(np.column_stack([np.ones(n), maps]))[0].T
    names = setup.own.space.regional_names
    rows, ease = (
        np.zeros((len(basis) * len(names), setup.size)),
        np.full((len(names), len(basis)), strength / n),
    )
    precision = precision.copy()
    for k, name in enumerate(names):
        part = setup.blocks[name]
        ease[k, 1:] += (1.0 - MAP_SHARE) * precision[part].min()
        precision[part] += strength / n
        rows[k * len(basis) : (k + 1) * len(basis), part] = basis
    return {"precision": precision, "directions": rows, "ease": ease.ravel()}


def map_coefficients(setup: PooledSetup, theta: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """
    Least-squares coefficients of the maps in every regional field: (field, map), log units per unit of the map.

    Parameters
    ----------
    setup : PooledSetup
    theta : (size,) array
    maps : (region, map) array
    """
    design = np.column_stack([np.ones(len(maps)), maps])
    fields = np.stack([theta[setup.blocks[name]] for name in setup.own.space.regional_names], axis=1)
    return np.linalg.lstsq(design, fields, rcond=None)[0][1:].T


def jackknife(estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Mean and standard error of estimates that each leave out one subject or fold.

    Parameters
    ----------
    estimates : (fold, ...) array

    Examples
    --------
    >>> mean, error = jackknife(np.array([2.5, 2.0, 1.5]))  # leave-one-out means of 1, 2, 3
    >>> float(mean), round(float(error), 3)
    (2.0, 0.577)
    """
    n = len(estimates)
    mean = estimates.mean(axis=0)
    return mean, np.sqrt((n - 1) / n * np.sum((estimates - mean) ** 2, axis=0))
