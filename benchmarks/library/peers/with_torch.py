"""The works as eager PyTorch loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import timing
import torch

torch.set_num_threads(1)


def _simulate(work: Any, weights: Any, w: Any, a: Any, k: Any) -> Any:
    strength, kick = weights.sum(1), work.sigma * work.dt**0.5
    x, y = torch.full(a.shape, work.x0), torch.full(a.shape, work.y0)
    kept, transposed = [], weights.T
    for step in range(work.n_steps):
        grow = a - work.beta * (x * x + y * y)
        dx = grow * x - w * y + k * (x @ transposed - strength * x)
        dy = grow * y + w * x + k * (y @ transposed - strength * y)
        x = x + work.dt * dx + kick * torch.randn(a.shape)
        y = y + work.dt * dy + kick * torch.randn(a.shape)
        if (step + 1) % work.keep == 0:
            kept.append(x)
    return torch.stack(kept)


def _arrays(work: Any) -> list[Any]:
    k = np.asarray(work.k)
    return [
        torch.as_tensor(np.asarray(value), dtype=torch.float32)
        for value in (work.weights, work.w, work.a, k[:, None] if k.ndim else k)
    ]


def hopf(work: Any) -> Callable[[], Any]:
    weights, w, a, k = _arrays(work)

    def run() -> Any:
        with torch.no_grad():
            return _simulate(work, weights, w, a, k)

    return run


def gradient(work: Any) -> Callable[[], Any]:
    weights, w, a, k = _arrays(work)
    target, off = torch.as_tensor(work.target, dtype=torch.float32), 1 - torch.eye(work.n_regions)

    def run() -> Any:
        p, q = a.clone().requires_grad_(), k.clone().requires_grad_()
        z = _simulate(work, weights, w, p, q)
        z = z - z.mean(0)
        z = z / z.norm(dim=0)
        loss = (((z.T @ z - target) * off) ** 2).sum() / off.sum()
        loss.backward()
        return p.grad, q.grad

    return run


def mpr(work: Any) -> Callable[[], Any]:
    n, pi = work.n_regions, np.pi
    whole = torch.as_tensor(np.floor(work.lags).astype(np.int64))
    part = torch.as_tensor(work.lags, dtype=torch.float32) - whole
    weights, columns, depth = (
        torch.as_tensor(work.weights, dtype=torch.float32),
        torch.arange(n),
        int(whole.max()) + 2,
    )

    def slope(r: Any, v: Any, received: Any) -> tuple:
        t = work.tau * r
        dv = v * v + work.eta + work.j * t - (pi * t) ** 2 + work.current + received
        return (work.delta / (pi * work.tau) + 2 * r * v) / work.tau, dv / work.tau

    def run() -> Any:
        with torch.no_grad():
            r, v = torch.full((n,), work.r0), torch.full((n,), work.v0)
            ring, kept = torch.full((depth, n), work.tau * work.r0), []

            def received(now: int) -> Any:
                first, second = ring[(now - whole) % depth, columns], ring[(now - whole - 1) % depth, columns]
                return work.k * (weights * (first + part * (second - first))).sum(1)

            for step in range(work.n_steps):
                dr, dv = slope(r, v, received(step))
                dr1, dv1 = slope(r + work.dt * dr, v + work.dt * dv, received(step + 1))
                r, v = r + 0.5 * work.dt * (dr + dr1), v + 0.5 * work.dt * (dv + dv1)
                ring[(step + 1) % depth] = work.tau * r
                if (step + 1) % work.keep == 0:
                    kept.append(r)
            return torch.stack(kept)

    return run


if __name__ == "__main__":
    eager = "eager loop, float32, the same equations and interpolation"
    names = ("W1", "W2", "W2-400", "W4a", "W5")
    timing.main(
        "torch",
        {"W1": hopf, "W2": mpr, "W2-400": mpr, "W4a": gradient, "W5": hopf},
        dict.fromkeys(names, eager),
        {},
    )
