"""Linear models over subjects for many values at once, tested by permutation (Freedman & Lane 1983)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

#: Statistics of permutations that are equal but for rounding count as equal.
TIES = 1e-9
#: Numbers held at once while permuting.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Effects:
    """
    Found by `permutation_test`, for m values.

    Attributes
    ----------
    statistic : (m,) array
        t of the covariate (two groups: second minus first), or F if it has several columns. NaN where nothing varies.
    slope, slope_lower, slope_upper : (m,) arrays
        Coefficient and its interval; NaN with several columns.
    size, size_lower, size_upper : (m,) arrays
        Effect size `kind` and its interval.
    kind : str
        ``partial_r``, ``cohen_d`` (two groups) or ``partial_eta2`` (several).
    p, p_fwe : (m,) arrays
        By permutation, two-sided; and corrected for the other values of the same field by the largest statistic.
    df : int
        Residual degrees of freedom.
    n_permutations : int
        Of the statistics compared, the observed one included.
    exact : bool
        Whether these are all that there are.
    smallest_p : float
        That permutations can reach.
    detectable : float
        Effect size found with 80 % power at p < 0.05 without correction.
    """

    statistic: np.ndarray
    slope: np.ndarray
    slope_lower: np.ndarray
    slope_upper: np.ndarray
    size: np.ndarray
    size_lower: np.ndarray
    size_upper: np.ndarray
    kind: str
    p: np.ndarray
    p_fwe: np.ndarray
    df: int
    n_permutations: int
    exact: bool
    smallest_p: float
    detectable: float


def permutation_test(
    values: np.ndarray,
    interest: np.ndarray,
    nuisance: np.ndarray,
    fields: Sequence[int] | np.ndarray,
    *,
    groups: bool,
    permutations: int = 5000,
    seed: int = 0,
    level: float = 0.95,
) -> Effects:
    """
    Test ``value ~ interest + nuisance`` for every value.

    Residuals of the model without the covariate of interest are permuted, fitted values added, and the whole model
    is fitted again. Where the rows of the design can be arranged in no more than `permutations` different ways, all
    are taken, else random ones and the observed one.

    Parameters
    ----------
    values : (subject, m) array
    interest : (subject, q) array
    nuisance : (subject, z) array
        With the constant.
    fields : (m,) integers
        Values of one number are corrected together.
    groups : bool
        Whether `interest` holds dummies of groups.
    permutations : int
    seed : int
    level : float
        Probability mass of the intervals.
    """
    values, interest = (np.asarray(a, dtype=np.float64) for a in (values, interest))
    n, q = interest.shape
    basis_z = _basis(np.asarray(nuisance, dtype=np.float64))
    rest = interest - basis_z @ (basis_z.T @ interest)
    basis_x = _basis(rest)
    df = n - basis_z.shape[1] - q
    residual = values - basis_z @ (basis_z.T @ values)
    length = np.linalg.norm(residual, axis=0)
    varies = length > 1e-10 * np.maximum(np.linalg.norm(values, axis=0), 1e-300)
    unit = residual / np.where(varies, length, 1.0)

    rows, exact = rearrangements(np.hstack([interest, nuisance]), permutations, seed)
    basis = np.hstack([basis_x, basis_z])
    smallest = _smallest_p(basis, rows, q) if exact else 1 / len(rows)
    observed = np.where(varies, _f(basis, unit, q, df), np.nan)
    p, p_fwe = _p_values(observed, basis, unit, rows, np.asarray(fields), q, df)

    nothing = np.full(values.shape[1], np.nan)
    slope, slope_lower, slope_upper = nothing, nothing, nothing
    statistic = observed
    if q == 1:
        norm = float(np.sqrt((rest**2).sum()))
        slope = np.where(varies, (rest.T @ values)[0] / norm**2, np.nan)
        statistic = np.sign(slope) * np.sqrt(observed)
        error = np.sqrt(np.maximum(length**2 - (slope * norm) ** 2, 0) / df) / norm
        width = stats.t.ppf(0.5 + 0.5 * level, df) * error
        slope_lower, slope_upper = slope - width, slope + width
    size, low, high, kind = _sizes(statistic, q, df, n, groups, rest, level)
    needed = float(special.ncfdtrinc(q, df, 0.2, stats.f.ppf(0.95, q, df)))
    if kind == "cohen_d":
        detectable = math.sqrt(needed / float((rest**2).sum()))
    else:
        detectable = needed / (needed + q + df + 1)
        detectable = math.sqrt(detectable) if kind == "partial_r" else detectable
    return Effects(
        statistic, slope, slope_lower, slope_upper, size, low, high, kind, p, p_fwe, df, len(rows), exact,
        smallest, detectable,
    )  # fmt: skip


def rearrangements(design: np.ndarray, most: int, seed: int) -> tuple[np.ndarray, bool]:
    """
    Orders of the rows of a design.

    Parameters
    ----------
    design : (subject, column) array
        Rows that are equal are not told apart.
    most : int
        All different orders are returned if there are no more than these.
    seed : int
        Of random orders.

    Returns
    -------
    rows : (permutation, subject) integers
        Row of the design that each subject gets. Random ones begin with the observed order.
    exact : bool
        Whether they are all.
    """
    n = len(design)
    _, first, place = np.unique(design, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    repeats = np.bincount(place)
    count = math.factorial(n)
    for repeat in repeats:
        count //= math.factorial(int(repeat))
    if count <= most:
        return first[np.array(list(_orders(repeats.tolist())))], True
    rows = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (most, 1)), axis=1)
    rows[0] = np.arange(n)
    return rows, False


def _orders(left: list[int]) -> Iterator[tuple[int, ...]]:
    """All different orders of a multiset, given how often each class is in it."""
    if not any(left):
        yield ()
        return
    for one, n in enumerate(left):
        if n:
            rest = [m - (k == one) for k, m in enumerate(left)]
            for others in _orders(rest):
                yield (one, *others)


def _smallest_p(basis: np.ndarray, rows: np.ndarray, q: int) -> float:
    """Share of orders that give the statistic of the observed one whatever the values: its own, and names swapped."""
    moved = basis[rows]
    same_all = ((basis.T @ moved) ** 2).sum(axis=(1, 2)) > basis.shape[1] - 1e-6
    same_x = ((basis[:, :q].T @ moved[..., :q]) ** 2).sum(axis=(1, 2)) > q - 1e-6
    return float((same_all & same_x).mean())


def _basis(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns."""
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    return u[:, s > 1e-10 * s.max()]


def _f(basis: np.ndarray, unit: np.ndarray, q: int, df: int) -> np.ndarray:
    """F of the first q columns of an orthonormal basis (..., subject, column): (..., m), for residuals of length 1."""
    squares = (np.swapaxes(basis, -1, -2) @ unit) ** 2
    explained = squares[..., :q, :].sum(axis=-2)
    left = np.maximum(1 - squares.sum(axis=-2), 1e-15)
    return explained / left * (df / q)


def _p_values(
    observed: np.ndarray,
    basis: np.ndarray,
    unit: np.ndarray,
    rows: np.ndarray,
    fields: np.ndarray,
    q: int,
    df: int,
) -> tuple[np.ndarray, np.ndarray]:
    """p of every value, and p corrected within its field: (m,) each."""
    n, m = unit.shape
    finite = np.isfinite(observed)
    least = np.where(finite, observed * (1 - TIES), np.inf)
    reached, exceeded = np.zeros(m), np.zeros(m)
    size = max(1, _CHUNK // (basis.shape[1] * (n + m)))
    for start in range(0, len(rows), size):
        found = np.where(finite, _f(basis[rows[start : start + size]], unit, q, df), -np.inf)
        reached += (found >= least).sum(axis=0)
        for field in np.unique(fields):
            inside = fields == field
            largest = found[:, inside].max(axis=1, keepdims=True)
            exceeded[inside] += (largest >= least[inside]).sum(axis=0)
    return tuple(np.where(finite, count / len(rows), np.nan) for count in (reached, exceeded))  # type: ignore[return-value]


def _sizes(
    statistic: np.ndarray, q: int, df: int, n: int, groups: bool, rest: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Effect size with its interval: noncentral t for d, Fisher's z for r, noncentral F for eta squared."""
    above, below = 0.5 + 0.5 * level, 0.5 - 0.5 * level
    if q > 1:
        low, high = (special.ncfdtrinc(q, df, p, statistic) for p in (above, below))
        size = q * statistic / (q * statistic + df)
        return size, low / (low + q + df + 1), high / (high + q + df + 1), "partial_eta2"
    if groups:  # slope over the residual standard deviation
        factor = 1 / np.sqrt((rest**2).sum())
        low, high = (factor * special.nctdtrinc(df, p, statistic) for p in (above, below))
        return factor * statistic, low, high, "cohen_d"
    size = statistic / np.sqrt(statistic**2 + df)
    if df < 3:  # Fisher's z of a partial correlation has variance 1 / (df - 1)
        return size, np.full_like(size, np.nan), np.full_like(size, np.nan), "partial_r"
    z, width = np.arctanh(np.clip(size, -1 + 1e-15, 1 - 1e-15)), stats.norm.ppf(above) / math.sqrt(df - 1)
    return size, np.tanh(z - width), np.tanh(z + width), "partial_r"
