"""The works as plain loops for numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import timing
from numba import njit


@njit(fastmath=True)
def _hopf(weights, a, w, k, beta, sigma, dt, x0, y0, n_steps, keep, rng):  # type: ignore[no-untyped-def]
    n = len(a)
    x, y = np.full(n, x0), np.full(n, y0)
    new_x, new_y, kept = np.empty_like(x), np.empty_like(y), np.empty((n_steps // keep, n), np.float32)
    kick = sigma * np.float32(np.sqrt(dt))
    for step in range(n_steps):
        for i in range(n):
            cx = cy = np.float32(0)
            for j in range(n):
                cx += weights[i, j] * (x[j] - x[i])
                cy += weights[i, j] * (y[j] - y[i])
            grow = a[i] - beta * (x[i] * x[i] + y[i] * y[i])
            new_x[i] = (
                x[i] + dt * (grow * x[i] - w[i] * y[i] + k * cx) + kick * np.float32(rng.standard_normal())
            )
            new_y[i] = (
                y[i] + dt * (grow * y[i] + w[i] * x[i] + k * cy) + kick * np.float32(rng.standard_normal())
            )
        x[:], y[:] = new_x, new_y
        if (step + 1) % keep == 0:
            kept[step // keep] = x
    return kept


@njit(fastmath=True)
def _received(weights, whole, part, ring, depth, now, k, out):  # type: ignore[no-untyped-def]
    n = len(out)
    for i in range(n):
        total = np.float32(0)
        for j in range(n):
            at = now - whole[i, j]
            first, second = ring[at % depth, j], ring[(at - 1) % depth, j]
            total += weights[i, j] * (first + part[i, j] * (second - first))
        out[i] = k * total


@njit(fastmath=True)
def _mpr(weights, whole, part, tau, delta, eta, j_own, k, r0, v0, dt, n_steps, keep):  # type: ignore[no-untyped-def]
    n, depth, pi = len(weights), whole.max() + 2, np.float32(np.pi)
    r, v = np.full(n, r0), np.full(n, v0)
    ring = np.full((depth, n), tau * r0)
    now, then, kept = np.empty_like(r), np.empty_like(r), np.empty((n_steps // keep, n), np.float32)
    for step in range(n_steps):
        _received(weights, whole, part, ring, depth, step + depth, k, now)
        _received(weights, whole, part, ring, depth, step + depth + 1, k, then)
        for i in range(n):
            t = tau * r[i]
            dr = (delta / (pi * tau) + 2 * r[i] * v[i]) / tau
            dv = (v[i] * v[i] + eta + j_own * t - (pi * t) ** 2 + now[i]) / tau
            p, q = r[i] + dt * dr, v[i] + dt * dv
            t = tau * p
            dr1 = (delta / (pi * tau) + 2 * p * q) / tau
            dv1 = (q * q + eta + j_own * t - (pi * t) ** 2 + then[i]) / tau
            r[i] += np.float32(0.5) * dt * (dr + dr1)
            v[i] += np.float32(0.5) * dt * (dv + dv1)
            ring[(step + 1) % depth, i] = tau * r[i]
        if (step + 1) % keep == 0:
            kept[step // keep] = r
    return kept


def hopf(work: Any) -> Callable[[], Any]:
    f, sets = np.float32, np.atleast_2d(work.a).astype(np.float32)
    gains = np.broadcast_to(np.asarray(work.k, f), len(sets))
    weights, w = work.weights.astype(f), work.w.astype(f)
    rest = (
        f(work.beta),
        f(work.sigma),
        f(work.dt),
        f(work.x0),
        f(work.y0),
        work.n_steps,
        work.keep,
        np.random.default_rng(0),
    )
    return lambda: [_hopf(weights, a, w, k, *rest) for a, k in zip(sets, gains, strict=True)]


def mpr(work: Any) -> Callable[[], Any]:
    f = np.float32
    whole = np.floor(work.lags).astype(np.int64)
    arrays = (work.weights.astype(f), whole, (work.lags - whole).astype(f))
    numbers = map(f, (work.tau, work.delta, work.eta, work.j, work.k, work.r0, work.v0, work.dt))
    rest = (*numbers, work.n_steps, work.keep)
    return lambda: _mpr(*arrays, *rest)


if __name__ == "__main__":
    exact = "plain loops, float32, fastmath, the same equations and interpolation"
    timing.main(
        "numba",
        {"W1": hopf, "W2": mpr, "W2-400": mpr, "W5": hopf},
        dict.fromkeys(("W1", "W2", "W2-400", "W5"), exact),
        {"W4a": "no gradients"},
    )
