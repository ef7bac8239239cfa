"""
The works that are timed: connectomes, parameters and lengths of runs, as plain numpy for every system.

Time is in ms, rates in 1/ms, lengths in mm; W3 and W4b count in s. ``weights[i, j]`` is from region j to region i, rows sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

SHORTEST, LONGEST = 10.0, 150.0  # mm


class Connectome(NamedTuple):
    """Weights (region, region) with rows that sum to 1, and lengths (region, region) in mm, 0 on the diagonal."""

    weights: np.ndarray
    lengths: np.ndarray


def connectome(n_regions: int = 80, seed: int = 0) -> Connectome:
    """Random places; weights fall with the distance, e-fold in 40 mm, and scatter log-normally."""
    rng = np.random.default_rng([seed, n_regions])
    places = rng.normal(size=(n_regions, 3))
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    between = ~np.eye(n_regions, dtype=bool)
    low, high = distance[between].min(), distance[between].max()
    lengths = np.where(between, SHORTEST + (LONGEST - SHORTEST) * (distance - low) / (high - low), 0.0)
    weights = np.where(between, np.exp(-lengths / 40.0 + 0.5 * rng.normal(size=lengths.shape)), 0.0)
    return Connectome(weights / weights.sum(axis=1, keepdims=True), lengths)


@dataclass(frozen=True)
class HopfWork:
    """
    Stochastic Hopf network without delays, diffusive coupling ``k`` of x into x and of y into y, Euler-Maruyama.

    ``a`` is (region,) and ``k`` a number, or (set, region) and (set,) for many sets at once. White noise of
    amplitude ``sigma`` (1/sqrt(ms)) is on both variables. All regions start at ``x0`` and ``y0``; x is kept after
    every ``keep`` steps. ``target`` is the (region, region) FC of the loss.
    """

    weights: np.ndarray
    a: np.ndarray
    w: np.ndarray
    k: float | np.ndarray
    target: np.ndarray
    beta: float = 1.0
    sigma: float = 0.01
    x0: float = 0.1
    y0: float = 0.0
    dt: float = 0.1
    n_steps: int = 100_000
    keep: int = 10

    @property
    def n_regions(self) -> int:
        return len(self.w)


@dataclass(frozen=True)
class MPRWork:
    """
    Montbrio-Pazo-Roxin network without noise, Heun.

    The current of region i is ``k sum_j weights[i, j] tau r_j(t - lengths[i, j] / speed)``, interpolated linearly
    between steps, evaluated at the time of each stage; before time 0 the start is held. ``tau`` in ms, ``speed``
    in mm/ms, ``r0`` in 1/ms, all else is dimensionless. r (1/ms) is kept after every ``keep`` steps.
    """

    weights: np.ndarray
    lengths: np.ndarray
    k: float = 10.0
    speed: float = 5.0
    tau: float = 10.0
    delta: float = 1.0
    eta: float = -5.0
    j: float = 15.0
    current: float = 0.0
    r0: float = 0.002
    v0: float = -2.0
    dt: float = 0.1
    n_steps: int = 100_000
    keep: int = 10

    @property
    def n_regions(self) -> int:
        return len(self.weights)

    @property
    def lags(self) -> np.ndarray:
        """(region, region) delays in steps."""
        return self.lengths / (self.speed * self.dt)


@dataclass(frozen=True)
class RWWWork:
    """
    Reduced Wong-Wang network (Deco et al. 2013), Euler-Maruyama, and BOLD by the Balloon-Windkessel model.

    Region i receives the gating ``k sum_j weights[i, j] S_j``; ``w`` is (region,), the recurrence. The vessels take one
    step for every ``sub`` of the network, driven by the mean of S (1/s) over them, from rest. BOLD is kept after every
    ``keep`` steps; ``target`` is the (region, region) FC of the loss. Time in s, ``sigma`` in 1/sqrt(s).
    """

    weights: np.ndarray
    w: np.ndarray
    k: float
    target: np.ndarray
    sigma: float = 0.001 * 1000**0.5
    a: float = 270.0
    b: float = 108.0
    d: float = 0.154
    gamma: float = 0.641
    tau: float = 0.1
    j: float = 0.2609
    current: float = 0.3
    start: float = 0.1
    kappa: float = 0.65
    flow_gamma: float = 0.41
    transit: float = 0.98
    alpha: float = 0.32
    rho: float = 0.34
    v0: float = 0.02
    k1: float = 7 * 0.34
    k2: float = 2.0
    k3: float = 2 * 0.34 - 0.2
    dt: float = 0.001
    sub: int = 10
    n_steps: int = 299_520
    keep: int = 720

    @property
    def n_regions(self) -> int:
        return len(self.w)


def w1(n_regions: int = 80, n_steps: int = 100_000) -> HopfWork:
    """W1: stochastic Hopf network, 10 s, regions below their bifurcation at about 10 Hz."""
    rng = np.random.default_rng([1, n_regions])
    weights, lengths = connectome(n_regions)
    return HopfWork(
        weights,
        a=rng.uniform(-0.05, -0.02, n_regions),
        w=0.06 * (1.0 + 0.1 * rng.normal(size=n_regions)),
        k=0.02,
        target=np.exp(-lengths / 60.0),
        n_steps=n_steps,
    )


def w2(n_regions: int = 80, n_steps: int = 100_000) -> MPRWork:
    """W2: Montbrio-Pazo-Roxin network with a delay of 2 to 30 ms on every edge."""
    return MPRWork(*connectome(n_regions), n_steps=n_steps)


def w4a(n_regions: int = 80, n_steps: int = 20_000) -> HopfWork:
    """W4a: the network of W1 for the gradient of `plain.fc_loss` in k and in every a."""
    return w1(n_regions, n_steps)


def w5(n_sets: int = 64, n_regions: int = 80, n_steps: int = 100_000) -> HopfWork:
    """W5: the network of W1 for `n_sets` sets of k and a, the first of which is W1's own."""
    rng = np.random.default_rng([5, n_regions])
    one = w1(n_regions, n_steps)
    a = rng.uniform(-0.05, -0.02, (n_sets, n_regions))
    a[0] = one.a
    return replace(one, a=a, k=np.linspace(0.02, 0.05, n_sets))


def w3(n_regions: int = 80, n_samples: int = 416) -> RWWWork:
    """W3: resting-state activity below the bifurcation, and BOLD every 0.72 s for 5 min."""
    rng = np.random.default_rng([3, n_regions])
    weights, lengths = connectome(n_regions)
    return RWWWork(
        weights,
        w=rng.uniform(0.75, 0.9, n_regions),
        k=0.2,
        target=np.exp(-lengths / 60.0),
        n_steps=720 * n_samples,
    )


def w4b(n_regions: int = 80, n_samples: int = 416) -> RWWWork:
    """W4b: W3 for the gradient of `plain.fc_loss` of BOLD in k and in every w."""
    return w3(n_regions, n_samples)
