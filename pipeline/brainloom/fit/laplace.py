"""From second derivatives to errors: covariances, directions that nothing holds, stiff and sloppy directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Eigenvalues below this part of the largest are zero, in double and in single precision.
FLAT = {8: 1e-10, 4: 3e-5}
# Directions with a smaller part of the largest eigenvalue are sloppy where the loss is no likelihood.
SLOPPY = 1e-3
# A coordinate that takes part in a direction without curvature by more than this (squared) has no finite error.
PART = 1e-6


@dataclass
class Spectrum:
    """
    Eigenvalues and eigenvectors of the data's curvature in units of the scale of each coordinate.

    Attributes
    ----------
    value : (direction,) array
        Descending.
    vector : (direction, size) array
        Rows; of scaled coordinates.
    n_flat, n_sloppy : int
        Directions that nothing in the data holds; sloppy ones, these included.
    condition : float
        Largest by smallest eigenvalue; infinite with flat directions.
    rule : str
        What sloppy means.
    """

    value: np.ndarray
    vector: np.ndarray
    n_flat: int
    n_sloppy: int
    condition: float
    rule: str


def spectrum(data: np.ndarray, scale: np.ndarray, likelihood: bool, itemsize: int) -> Spectrum:
    """
    Stiff and sloppy directions.

    Parameters
    ----------
    data : (size, size) array
        Curvature of the data's part of the loss.
    scale : (size,) array
        Size of a usual change of each coordinate: the sd of its prior, if it has one.
    likelihood : bool
        The curvature is information: 1 halves the variance of a prior with that scale as sd.
    itemsize : int
        Bytes of a number, which say what zero is.
    """
    value, vector = np.linalg.eigh(scale[:, None] * data * scale)
    value, vector = value[::-1], vector.T[::-1]
    top = max(value[0], 0.0) if len(value) else 0.0
    flat = np.abs(value) <= FLAT[itemsize] * max(top, np.abs(value).max(initial=0.0))
    if likelihood:
        sloppy, rule = value < 1.0, "the data say less of it than its prior does, or its own size without one"
    else:
        sloppy, rule = value < SLOPPY * top, f"its curvature is below {SLOPPY:g} of the largest"
    sloppy = sloppy | flat
    positive = value[~flat & (value > 0.0)]
    condition = float(top / positive.min()) if len(positive) and not flat.any() else float("inf")
    # a direction and its opposite are one: the largest part is positive
    sign = np.sign(vector[np.arange(len(vector)), np.abs(vector).argmax(axis=1)])
    return Spectrum(value, vector * sign[:, None], int(flat.sum()), int(sloppy.sum()), condition, rule)


@dataclass
class Inverse:
    """
    Inverse of a curvature where it is positive.

    Attributes
    ----------
    root : (size, rank) array
        ``root @ root.T`` is the inverse.
    free : (size, n) array
        Orthonormal directions without curvature.
    negative : float
        Lowest eigenvalue by the largest, of the scaled curvature, where that is below zero; 0 at a minimum.
    """

    root: np.ndarray
    free: np.ndarray
    negative: float

    def apply(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse times a matrix or vector."""
        return self.root @ (self.root.T @ matrix)

    def unbounded(self, scale: np.ndarray) -> np.ndarray:
        """(size,) bool: coordinates that take part in a direction without curvature."""
        if not self.free.shape[1]:
            return np.zeros(len(self.free), bool)
        parts = self.free / scale[:, None]
        parts = parts / np.linalg.norm(parts, axis=0)
        return (parts**2).max(axis=1) > PART


def inverse(total: np.ndarray, scale: np.ndarray, itemsize: int) -> Inverse:
    """
    Inverse of the curvature of the whole loss.

    Parameters
    ----------
    total : (size, size) array
    scale : (size,) array
        See `spectrum`.
    itemsize : int
    """
    value, vector = np.linalg.eigh(scale[:, None] * total * scale)
    top = np.abs(value).max(initial=0.0)
    fine = value > FLAT[itemsize] * top
    low = float(value.min(initial=0.0))
    # single precision sees small negative values at every flat minimum
    negative = low / top if top > 0.0 and low < -100.0 * FLAT[itemsize] * top else 0.0
    root = scale[:, None] * vector[:, fine] / np.sqrt(value[fine])
    return Inverse(root, scale[:, None] * vector[:, ~fine], negative)


def with_prior(covariance: np.ndarray, unbounded: np.ndarray, variance: np.ndarray) -> tuple:
    """
    A covariance of estimates joined with independent priors, where the curvature is no information.

    Parameters
    ----------
    covariance : (size, size) array
    unbounded : (size,) bool array
        Coordinates whose estimate has no finite error.
    variance : (size,) array
        Of the priors; infinite where there is none.

    Returns
    -------
    covariance, unbounded
    """
    some = np.isfinite(variance)
    if not some.any():
        return covariance, unbounded
    # as good as infinite beside the prior
    wide = np.where(unbounded & some, 1e10 * np.where(some, variance, 1.0), 0.0)
    given = covariance + np.diag(wide)
    gain = np.linalg.solve(given[np.ix_(some, some)] + np.diag(variance[some]), given[some])
    return given - given[:, some] @ gain, unbounded & ~some
