"""The works once more as plain numpy in float64, slow and easy to read: what every fast version is checked against."""

from __future__ import annotations

import numpy as np
from works import HopfWork, MPRWork, RWWWork


def hopf(work: HopfWork, draws: np.ndarray | None = None) -> np.ndarray:
    """
    x of a Hopf work.

    Parameters
    ----------
    work : HopfWork
    draws : (step, 2, region) or (step, 2, set, region) array, optional
        Unit-variance increments of x and y; no noise if not given.

    Returns
    -------
    (sample, region) or (sample, set, region) array
    """
    a, w = np.asarray(work.a, dtype=float), np.asarray(work.w, dtype=float)
    weights, k = np.asarray(work.weights, dtype=float), np.asarray(work.k, dtype=float)[..., None]
    strength = weights.sum(axis=1)
    x, y = np.full(a.shape, work.x0), np.full(a.shape, work.y0)
    kept = []
    for step in range(work.n_steps):
        grow = a - work.beta * (x * x + y * y)
        dx = grow * x - w * y + k * (x @ weights.T - strength * x)
        dy = grow * y + w * x + k * (y @ weights.T - strength * y)
        x, y = x + work.dt * dx, y + work.dt * dy
        if draws is not None:
            x = x + work.sigma * np.sqrt(work.dt) * draws[step, 0]
            y = y + work.sigma * np.sqrt(work.dt) * draws[step, 1]
        if (step + 1) % work.keep == 0:
            kept.append(x)
    return np.array(kept)


def mpr(work: MPRWork) -> np.ndarray:
    """r (1/ms) of a Montbrio-Pazo-Roxin work: (sample, region)."""
    n = work.n_regions
    whole = np.floor(work.lags).astype(int)
    part, columns = work.lags - whole, np.arange(n)[None, :]
    depth = whole.max() + 2
    past = np.empty((depth + work.n_steps, n))  # tau r, one row a step; row depth - 1 is time 0
    past[:depth] = work.tau * work.r0

    def coupled(row: int) -> np.ndarray:
        delayed = (1 - part) * past[row - whole, columns] + part * past[row - whole - 1, columns]
        return work.k * (work.weights * delayed).sum(axis=1)

    def slope(r: np.ndarray, v: np.ndarray, received: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dr = work.delta / (np.pi * work.tau) + 2 * r * v
        t = work.tau * r
        dv = v**2 + work.eta + work.j * t - (np.pi * t) ** 2 + work.current + received
        return dr / work.tau, dv / work.tau

    # A delay that reaches the diagonal (weight 0) may ask for the step in the making: any number does.
    past[depth:] = 0.0
    r, v, kept = np.full(n, work.r0), np.full(n, work.v0), []
    for step in range(work.n_steps):
        row = depth - 1 + step
        dr, dv = slope(r, v, coupled(row))
        dr1, dv1 = slope(r + work.dt * dr, v + work.dt * dv, coupled(row + 1))
        r, v = r + 0.5 * work.dt * (dr + dr1), v + 0.5 * work.dt * (dv + dv1)
        past[row + 1] = work.tau * r
        if (step + 1) % work.keep == 0:
            kept.append(r)
    return np.array(kept)


def rww(work: RWWWork, draws: np.ndarray | None = None) -> np.ndarray:
    """BOLD of a reduced Wong-Wang work, (sample, region); `draws` are (step, region), of unit variance."""
    s = np.full(work.n_regions, work.start)
    vessels = np.array([np.zeros_like(s), *[np.ones_like(s)] * 3])
    kept, mean = [], np.zeros_like(s)

    def slope(state: np.ndarray, z: np.ndarray) -> np.ndarray:
        signal, f, v, q = state
        extraction = 1 - (1 - work.rho) ** (1 / f)
        return np.array(
            [
                z - work.kappa * signal - work.flow_gamma * (f - 1),
                signal,
                (f - v ** (1 / work.alpha)) / work.transit,
                (f * extraction / work.rho - q * v ** (1 / work.alpha - 1)) / work.transit,
            ]
        )

    for step in range(work.n_steps):
        y = work.a * (work.j * (work.w * s + work.k * (work.weights @ s)) + work.current) - work.b
        rate = y / -np.expm1(-work.d * y)
        s = s + work.dt * (-s / work.tau + (1 - s) * work.gamma * rate)
        if draws is not None:
            s = s + work.sigma * np.sqrt(work.dt) * draws[step]
        mean = mean + s / work.sub
        if (step + 1) % work.sub == 0:
            h = work.dt * work.sub
            vessels = vessels + h * slope(vessels + 0.5 * h * slope(vessels, mean), mean)
            mean = np.zeros_like(s)
        if (step + 1) % work.keep == 0:
            _, _, v, q = vessels
            kept.append(work.v0 * (work.k1 * (1 - q) + work.k2 * (1 - q / v) + work.k3 * (1 - v)))
    return np.array(kept)


def fc_loss(x: np.ndarray, target: np.ndarray) -> float:
    """Mean squared difference of the Pearson correlations of all pairs of regions from those of `target`."""
    pairs = np.triu_indices(x.shape[1], k=1)
    return float(np.mean((np.corrcoef(x, rowvar=False)[pairs] - target[pairs]) ** 2))


def threefry(key: tuple[int, int], counter: np.ndarray, rounds: int = 13) -> np.ndarray:
    """Threefry-2x32 (Salmon et al. 2011): (2, ...) words of uint32 from (2, ...) counters."""
    turns = (13, 15, 26, 6, 17, 29, 16, 24)
    keys = [np.uint32(key[0]), np.uint32(key[1]), np.uint32(key[0] ^ key[1] ^ 0x1BD11BDA)]
    with np.errstate(over="ignore"):
        a, b = np.asarray(counter, dtype=np.uint32) + np.array(keys[:2]).reshape(
            2, *[1] * (np.ndim(counter) - 1)
        )
        for at in range(rounds):
            a, turn = a + b, turns[at % 8]
            b = (b << np.uint32(turn) | b >> np.uint32(32 - turn)) ^ a
            if at % 4 == 3:
                n = at // 4 + 1
                a, b = a + keys[n % 3], b + keys[(n + 1) % 3] + np.uint32(n)
    return np.stack([a, b])


def draws(n_steps: int, n_regions: int, *, noise: str, seed: int = 0, set_: int = 0) -> np.ndarray:
    """Unit-variance increments (step, 2, region), ``gaussian`` or ``weak``, as the C limits draw them."""
    counter = np.arange(n_steps * n_regions).reshape(n_steps, n_regions)
    first, second = threefry((seed, 0), np.stack([counter, np.full_like(counter, set_)]))
    if noise == "weak":
        return (np.bitwise_count(np.stack([first, second], axis=1)).astype(float) - 16) / np.sqrt(8.0)
    radius = np.sqrt(-2.0 * np.log((first >> np.uint32(8) | np.uint32(1)) / 2.0**24))
    radius = np.where(second & np.uint32(1), -radius, radius)
    angle = np.pi * second.view(np.int32) / 2.0**32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
