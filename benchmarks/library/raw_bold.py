"""
W3 and W4b as the best raw JAX loops found; see ``raw.py``.

Pages of noise outside the inner scans, one step of the vessels for every ten of the network, states as differences from
rest, weights transposed once, constants folded out of the loop. The gradient keeps the start of every page only, with
a derivative by JAX of everything but the matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fc import fc_loss
from jax import lax
from raw import _f, _one_page, _product
from works import RWWWork

from brainloom.noise import counter

PAGES = 3  # of noise in a sampling interval


def _pump(work: RWWWork, y: tuple, z: jax.Array) -> tuple:
    """One explicit midpoint step of s, f - 1, v - 1, q - 1."""
    h, log_rho = np.float32(work.dt * work.sub), np.float32(np.log(1 - work.rho))
    per_t, more = np.float32(1 / work.transit), np.float32(1 / work.alpha - 1)

    def slope(s: jax.Array, f: jax.Array, v: jax.Array, q: jax.Array) -> tuple:
        power, f1 = jnp.exp(jnp.log(1 + v) * more), 1 + f
        taken = f1 * (1 - jnp.exp(log_rho / f1)) * np.float32(1 / work.rho)
        ds = z - np.float32(work.kappa) * s - np.float32(work.flow_gamma) * f
        return ds, s, (f1 - power * (1 + v)) * per_t, (taken - power * (1 + q)) * per_t

    half = [a + 0.5 * h * b for a, b in zip(y, slope(*y), strict=True)]
    return tuple(a + h * b for a, b in zip(y, slope(*half), strict=True))


def _signal(work: RWWWork, y: tuple) -> jax.Array:
    _, _, v, q = y
    found = np.float32(work.k1) * q + np.float32(work.k2) * (q - v) / (1 + v) + np.float32(work.k3) * v
    return -np.float32(work.v0) * found


@jax.custom_jvp
def _rate(y: jax.Array, d: jax.Array) -> jax.Array:
    """H(y), by its series where the quotient loses its digits."""
    u = d * y
    small = jnp.abs(u) < 1e-2
    below = jnp.where(small, 1.0, 1 - jnp.exp(-u))
    return jnp.where(small, (1 + u * (0.5 + u * (1 / 12))) / d, y / below)


@_rate.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    y, d = primals
    u = d * y
    small, e = jnp.abs(u) < 1e-2, jnp.exp(-u)
    q = 1 / jnp.where(small, 1.0, 1 - e)
    h = jnp.where(small, (1 + u * (0.5 + u * (1 / 12))) / d, y * q)
    return h, jnp.where(small, 0.5 + u * (1 / 6), (1 - d * h * e) * q) * tangents[0]


def _simulate(work: RWWWork, noise: str, words: jax.Array, received: Callable, wrap: Callable) -> jax.Array:
    """BOLD, with ``received(s)`` the argument y of H."""
    n, sub, size = work.n_regions, work.sub, work.keep // PAGES
    leak, rate = np.float32(1 - work.dt / work.tau), np.float32(work.dt * work.gamma)
    d = np.float32(work.d)

    def step(s: jax.Array, z: jax.Array) -> tuple:
        y = received(s)
        s = leak * s + (1 - s) * (rate * _rate(y, d)) + z
        return s, s

    def pump(vessels: tuple, z: jax.Array) -> tuple:
        return _pump(work, vessels, z), None

    @wrap
    def page(carry: tuple, first: jax.Array) -> tuple:
        s, vessels = carry
        z = _one_page(noise, words, first, size, work, channels=1)
        s, all_s = lax.scan(step, s, z.reshape(size, n))
        mean = all_s.reshape(size // sub, sub, n).mean(axis=1)
        vessels, _ = lax.scan(pump, vessels, mean)
        return (s, vessels), None

    def sample(carry: tuple, firsts: jax.Array) -> tuple:
        carry, _ = lax.scan(page, carry, firsts)
        return carry, _signal(work, carry[1])

    firsts = jnp.arange(0, work.n_steps, size, dtype=jnp.int32).reshape(-1, PAGES)
    rest = (jnp.zeros(n, jnp.float32),) * 4
    return lax.scan(sample, (jnp.full(n, np.float32(work.start)), rest), firsts)[1]


def rww(work: RWWWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], jax.Array]:
    """W3: BOLD as (sample, region)."""
    aj, offset = work.a * work.j, np.float32(work.a * work.current - work.b)

    @jax.jit
    def run(minus: jax.Array, own: jax.Array, words: jax.Array) -> jax.Array:
        # subtracted, because a sum would be fused into the matrix product and make that twice as slow
        return _simulate(work, noise, words, lambda s: (own * s + offset) - s @ minus, lambda f: f)

    rest = (
        _f(-aj * work.k * work.weights.T.copy()),
        _f(aj * work.w),
        counter.key_words(jax.random.key(seed), 0),
    )
    return lambda: jax.block_until_ready(run(*rest))


def rww_gradient(work: RWWWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], tuple]:
    """W4b: the loss and its gradient, (1 + region,): in k, then in every w."""
    aj, offset = np.float32(work.a * work.j), np.float32(work.a * work.current - work.b)

    @jax.jit
    @jax.value_and_grad
    def run(p: jax.Array, v: jax.Array, w: jax.Array, target: jax.Array, words: jax.Array) -> jax.Array:
        gain = jnp.broadcast_to(p[0] * aj, (work.n_regions,))  # its slope is summed once, not every step
        own = p[1:] * aj

        def received(s: jax.Array) -> jax.Array:
            return (own * s + offset) + gain * _product(s, v, w)

        return fc_loss(_simulate(work, noise, words, received, jax.checkpoint), target)

    rest: tuple[Any, ...] = (_f(work.weights.T.copy()), _f(work.weights), _f(work.target))
    words = counter.key_words(jax.random.key(seed), 0)
    p = jnp.concatenate([_f([work.k]), _f(work.w)])
    return lambda: jax.block_until_ready(run(p, *rest, words))
