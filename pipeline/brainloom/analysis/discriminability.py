"""Discriminability: how often two measurements of one subject are closer than measurements of two."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

#: Up to this many subjects all permutations are tried.
_EXACT = 7
# Distances below this share of the largest are equal to 0 but for rounding.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Discriminability:
    """
    Outcome of `discriminability`.

    Attributes
    ----------
    value : float
        1: every subject is closer to itself than to all others; 0.5: as by chance.
    p_value : float
        Of the permutation test.
    n : int
        Subjects.
    """

    value: float
    p_value: float
    n: int


def closer_shares(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """
    What the discriminability would be of each pair of a first and a second measurement, were they of one subject.

    Parameters
    ----------
    first, second : (subject, feature) arrays

    Returns
    -------
    (subject, subject_to) array
        The share of all other measurements that are farther from one of the pair than the other of it is, ties counted
        half, mean over the two directions.
    """
    n = len(first)
    x = np.concatenate([first, second]).astype(np.float64)
    x = x - x.mean(axis=0)
    products = x @ x.T
    squares = np.diag(products)
    distance = squares[:, None] + squares[None, :] - 2.0 * products
    distance[distance < _ROUNDING**2 * max(squares.max(), np.finfo(float).tiny)] = 0.0
    share = np.empty((2 * n, 2 * n))
    for row in range(2 * n):
        others = np.sort(np.delete(distance[row], row))
        upto = np.searchsorted(others, distance[row], side="right")
        below = np.searchsorted(others, distance[row], side="left")
        # of those that are as far, one is the partner itself
        share[row] = (2 * n - 1 - upto + 0.5 * (upto - below - 1)) / (2 * n - 2)
    return 0.5 * (share[:n, n:] + share[n:, :n].T)


def discriminability(
    first: np.ndarray, second: np.ndarray, *, draws: int = 10000, seed: int = 0
) -> Discriminability:
    """
    Discriminability of two measurements of each subject (Bridgeford et al. 2021, PLoS Comput Biol 17:e1009279).

    The probability that the Euclidean distance between the two measurements of a subject is smaller than that of one of them to
    a measurement of another subject. Unlike identification it does not fall as the cohort grows, and unlike an ICC
    it needs no single number. The p value is that of second measurements given to subjects at random, all assignments for up to seven
    subjects.

    Parameters
    ----------
    first, second : (subject, feature) arrays
        At least two subjects, all values finite.
    draws, seed : int
        Random assignments, and the seed of their draw.

    Returns
    -------
    Discriminability
    """
    first, second = np.asarray(first), np.asarray(second)
    n = len(first)
    if n < 2 or first.shape != second.shape:
        raise ValueError(
            f"discriminability needs two measurements of at least 2 subjects, got {first.shape} and {second.shape}"
        )
    share = closer_shares(first, second)
    value = float(np.trace(share) / n)
    places = np.arange(n)
    if n <= _EXACT:
        orders = np.array(list(permutations(range(n))))
        reached = int(np.sum(share[places, orders].mean(axis=1) >= value - 1e-12))
        return Discriminability(value, reached / len(orders), n)
    random = np.random.default_rng(seed)
    reached, left = 1, draws
    while left > 0:
        some = min(left, max(1, 2_000_000 // n))
        orders = random.permuted(np.tile(places, (some, 1)), axis=1)
        reached += int(np.sum(share[places, orders].mean(axis=1) >= value - 1e-12))
        left -= some
    return Discriminability(value, reached / (draws + 1), n)
