"""
The works as the first loop in JAX that comes to mind.

Noise is drawn inside the scan; the weights are used as they are; W2 keeps a ring buffer and gathers one pair of samples
for every connection at every stage; the gradients go through the plain scan. BOLD takes an Euler step with every step
of the network, which its output shows: it differs by about 1 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fc import fc_loss
from works import HopfWork, MPRWork, RWWWork


def _draw(key: jax.Array, shape: tuple[int, ...], noise: str) -> jax.Array:
    if noise == "gaussian":
        return jax.random.normal(key, shape)
    ones = jax.lax.population_count(jax.random.bits(key, shape)).astype(jnp.float32)
    return (ones - 16.0) / jnp.sqrt(8.0)


def _simulate(work: HopfWork, weights: jax.Array, w: jax.Array, a: Any, k: Any, key: Any, noise: str) -> Any:
    n, strength = work.n_regions, weights.sum(axis=1)

    def step(state: tuple, key: jax.Array) -> tuple:
        x, y = state
        z = _draw(key, (2, n), noise) * work.sigma * jnp.sqrt(work.dt)
        grow = a - work.beta * (x**2 + y**2)
        dx = grow * x - w * y + k * (weights @ x - strength * x)
        dy = grow * y + w * x + k * (weights @ y - strength * y)
        x, y = x + work.dt * dx + z[0], y + work.dt * dy + z[1]
        return (x, y), x

    start = (jnp.full(n, work.x0), jnp.full(n, work.y0))
    _, x = jax.lax.scan(step, start, jax.random.split(key, work.n_steps))
    return x[work.keep - 1 :: work.keep]


def hopf(work: HopfWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], jax.Array]:
    """W1 or, with several sets, W5."""
    weights, w = jnp.asarray(work.weights, jnp.float32), jnp.asarray(work.w, jnp.float32)
    a, k = jnp.asarray(work.a, jnp.float32), jnp.asarray(work.k, jnp.float32)
    key = jax.random.key(seed)

    def one(a: jax.Array, k: jax.Array, key: jax.Array) -> jax.Array:
        return _simulate(work, weights, w, a, k, key, noise)

    if a.ndim == 1:
        run = jax.jit(one)
        return lambda: jax.block_until_ready(run(a, k, key))
    run, keys = jax.jit(jax.vmap(one)), jax.random.split(key, len(a))
    return lambda: jax.block_until_ready(run(a, k, keys))


def hopf_gradient(work: HopfWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], tuple]:
    """W4a."""
    weights, w = jnp.asarray(work.weights, jnp.float32), jnp.asarray(work.w, jnp.float32)
    target, key = jnp.asarray(work.target, jnp.float32), jax.random.key(seed)

    @jax.jit
    @jax.value_and_grad
    def run(p: jax.Array) -> jax.Array:
        return fc_loss(_simulate(work, weights, w, p[1:], p[0], key, noise), target)

    p = jnp.concatenate([jnp.asarray([work.k]), jnp.asarray(work.a)]).astype(jnp.float32)
    return lambda: jax.block_until_ready(run(p))


def mpr(work: MPRWork) -> Callable[[], jax.Array]:
    """W2."""
    n = work.n_regions
    whole = np.floor(work.lags).astype(np.int32)
    part, columns = jnp.asarray(work.lags - whole, jnp.float32), jnp.arange(n)
    weights, lag, depth = jnp.asarray(work.weights, jnp.float32), jnp.asarray(whole), int(whole.max()) + 2

    def slope(r: jax.Array, v: jax.Array, received: jax.Array) -> tuple:
        t = work.tau * r
        dr = work.delta / (jnp.pi * work.tau) + 2 * r * v
        dv = v**2 + work.eta + work.j * t - (jnp.pi * t) ** 2 + work.current + received
        return dr / work.tau, dv / work.tau

    def step(state: tuple, i: jax.Array) -> tuple:
        r, v, ring = state

        def received(now: jax.Array) -> jax.Array:
            first, second = ring[(now - lag) % depth, columns], ring[(now - lag - 1) % depth, columns]
            return work.k * (weights * ((1 - part) * first + part * second)).sum(axis=1)

        dr, dv = slope(r, v, received(i))
        dr1, dv1 = slope(r + work.dt * dr, v + work.dt * dv, received(i + 1))
        r, v = r + 0.5 * work.dt * (dr + dr1), v + 0.5 * work.dt * (dv + dv1)
        return (r, v, ring.at[(i + 1) % depth].set(work.tau * r)), r

    @jax.jit
    def run(r: jax.Array, v: jax.Array, ring: jax.Array) -> jax.Array:
        _, kept = jax.lax.scan(step, (r, v, ring), jnp.arange(work.n_steps))
        return kept[work.keep - 1 :: work.keep]

    start = (jnp.full(n, work.r0), jnp.full(n, work.v0), jnp.full((depth, n), work.tau * work.r0))
    return lambda: jax.block_until_ready(run(*start))


def _bold(work: RWWWork, weights: jax.Array, w: jax.Array, k: Any, key: Any, noise: str) -> jax.Array:
    def step(state: tuple, key: jax.Array) -> tuple:
        s, x, f, v, q = state
        y = work.a * (work.j * (w * s + k * (weights @ s)) + work.current) - work.b
        rate = y / (1 - jnp.exp(-work.d * y))
        z = _draw(key, s.shape, noise) * work.sigma * jnp.sqrt(work.dt)
        s = s + work.dt * (-s / work.tau + (1 - s) * work.gamma * rate) + z
        dx = s - work.kappa * x - work.flow_gamma * (f - 1)
        dv = (f - v ** (1 / work.alpha)) / work.transit
        extraction = 1 - (1 - work.rho) ** (1 / f)
        dq = (f * extraction / work.rho - v ** (1 / work.alpha) * q / v) / work.transit
        x, f, v, q = x + work.dt * dx, f + work.dt * x, v + work.dt * dv, q + work.dt * dq
        bold = work.v0 * (work.k1 * (1 - q) + work.k2 * (1 - q / v) + work.k3 * (1 - v))
        return (s, x, f, v, q), bold

    one = jnp.ones(work.n_regions, jnp.float32)
    start = (work.start * one, 0 * one, one, one, one)
    _, bold = jax.lax.scan(step, start, jax.random.split(key, work.n_steps))
    return bold[work.keep - 1 :: work.keep]


def rww(work: RWWWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], jax.Array]:
    """W3."""
    weights, w = jnp.asarray(work.weights, jnp.float32), jnp.asarray(work.w, jnp.float32)
    run, key = jax.jit(lambda w, k, key: _bold(work, weights, w, k, key, noise)), jax.random.key(seed)
    return lambda: jax.block_until_ready(run(w, work.k, key))


def rww_gradient(work: RWWWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], tuple]:
    """W4b."""
    weights, target = jnp.asarray(work.weights, jnp.float32), jnp.asarray(work.target, jnp.float32)
    key = jax.random.key(seed)

    @jax.jit
    @jax.value_and_grad
    def run(p: jax.Array) -> jax.Array:
        return fc_loss(_bold(work, weights, p[1:], p[0], key, noise), target)

    p = jnp.concatenate([jnp.asarray([work.k]), jnp.asarray(work.w)]).astype(jnp.float32)
    return lambda: jax.block_until_ready(run(p))
