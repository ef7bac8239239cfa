"""
The works as the best raw JAX loops found: what the public API is held against.

Pages of noise outside the inner scans, weights transposed once, constants folded out of the loop; W2 reads the history
once a block; W4a keeps the start of every page only, and has two forms: a derivative by JAX of everything but the
matrix product, and (`by_hand`) an adjoint of the whole step by hand, which no library can do for every model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fc import fc_loss
from jax import lax
from works import HopfWork, MPRWork, RWWWork

from brainloom.noise import counter

PAGE = 200  # steps between draws of noise; a page of one network stays in the second cache
SETS_PAGE = 20  # the same for 64 networks
BLOCK = 20  # most steps between reads of the history
TARGETS = 4  # regions whose windows are read together where those of all do not fit the cache
CACHE = 1 << 20


def _f(value: Any) -> jax.Array:
    return jnp.asarray(value, jnp.float32)


def _pages(work: HopfWork, size: int) -> jax.Array:
    if work.n_steps % size or size % work.keep:
        raise ValueError(f"{work.n_steps} steps; needed: a multiple of {size}, itself one of {work.keep}")
    return jnp.arange(0, work.n_steps, size, dtype=jnp.int32)


def _one_page(
    kind: str, words: jax.Array, first: jax.Array, size: int, work: HopfWork | RWWWork, channels: int = 2
) -> jax.Array:
    draws = counter.increments(kind, words, first, size, channels, work.n_regions, dtype=jnp.float32)
    return draws * np.float32(work.sigma * np.sqrt(work.dt))


def hopf(work: HopfWork, *, noise: str = "gaussian", seed: int = 0) -> Callable[[], jax.Array]:
    """W1, x as (sample, region), or, with several sets, W5: (set, sample, region)."""
    return _hopf(work, noise, seed) if np.ndim(work.a) == 1 else _hopf_sets(work, noise, seed)


def _hopf(work: HopfWork, noise: str, seed: int) -> Callable[[], jax.Array]:
    n, keep, dt, beta = work.n_regions, work.keep, np.float32(work.dt), np.float32(work.dt * work.beta)

    @jax.jit
    def run(minus: jax.Array, rate: jax.Array, turn: jax.Array, words: jax.Array) -> jax.Array:
        def step(state: tuple, z: jax.Array) -> tuple:
            x, y = state
            grow = rate - beta * (x * x + y * y)
            # subtracted, because a sum would be fused into the matrix product and make that twice as slow
            return ((grow * x - turn * y + z[0]) - x @ minus, (grow * y + turn * x + z[1]) - y @ minus), None

        def sample(state: tuple, z: jax.Array) -> tuple:
            state, _ = lax.scan(step, state, z)
            return state, state[0]

        def page(state: tuple, first: jax.Array) -> tuple:
            z = _one_page(noise, words, first, PAGE, work)
            return lax.scan(sample, state, z.reshape(PAGE // keep, keep, 2, n))

        start = (jnp.full(n, np.float32(work.x0)), jnp.full(n, np.float32(work.y0)))
        return lax.scan(page, start, _pages(work, PAGE))[1].reshape(-1, n)

    minus = _f(-work.dt * work.k * work.weights.T.copy())
    rate = _f(1.0 + work.dt * (work.a - work.k * work.weights.sum(axis=1)))
    words = counter.key_words(jax.random.key(seed), 0)
    turn = _f(dt * work.w)
    return lambda: jax.block_until_ready(run(minus, rate, turn, words))


def _hopf_sets(work: HopfWork, noise: str, seed: int) -> Callable[[], jax.Array]:
    n, keep, sets, beta = work.n_regions, work.keep, len(work.a), np.float32(work.dt * work.beta)

    @jax.jit
    def run(v: jax.Array, rate: jax.Array, turn: jax.Array, gain: jax.Array, words: jax.Array) -> jax.Array:
        def step(state: tuple, z: jax.Array) -> tuple:
            x, y = state
            grow = rate - beta * (x * x + y * y)
            x, y = grow * x - turn * y + z[0] + gain * (x @ v), grow * y + turn * x + z[1] + gain * (y @ v)
            return (x, y), None

        def sample(state: tuple, z: jax.Array) -> tuple:
            state, _ = lax.scan(step, state, z)
            return state, state[0]

        def page(state: tuple, first: jax.Array) -> tuple:
            z = jax.vmap(lambda w: _one_page(noise, w, first, SETS_PAGE, work), out_axes=2)(words)
            return lax.scan(sample, state, z.reshape(SETS_PAGE // keep, keep, 2, sets, n))

        start = tuple(jnp.full((sets, n), np.float32(value)) for value in (work.x0, work.y0))
        return lax.scan(page, start, _pages(work, SETS_PAGE))[1].reshape(-1, sets, n).swapaxes(0, 1)

    gain = np.asarray(work.dt * np.asarray(work.k))[:, None]
    rate = _f(1.0 + work.dt * work.a - gain * work.weights.sum(axis=1))
    keys = jax.random.split(jax.random.key(seed), sets)
    words = jax.vmap(lambda key: counter.key_words(key, 0))(keys)
    rest = (_f(work.weights.T.copy()), rate, _f(work.dt * work.w), _f(gain), words)
    return lambda: jax.block_until_ready(run(*rest))


# --- W4a ---------------------------------------------------------------------------------------------------


@jax.custom_vjp
def _product(x: jax.Array, v: jax.Array, w: jax.Array) -> jax.Array:
    """``x @ v`` with v = w.T at hand in both layouts; they are not differentiated."""
    return x @ v


_product.defvjp(lambda x, v, w: (x @ v, w), lambda w, g: (g @ w, None, None))


def _step(state: tuple, z: jax.Array, rate: jax.Array, gain: jax.Array, fixed: tuple) -> tuple:
    x, y = state
    beta, turn, v, w = fixed
    grow = rate - beta * (x * x + y * y)
    new_x = (grow * x - turn * y + z[0]) + gain * _product(x, v, w)
    return new_x, (grow * y + turn * x + z[1]) + gain * _product(y, v, w)


def _step_back(kept: tuple, slope: tuple) -> tuple:
    """By hand; `gain` must be the same in all regions: its slope is that of their sum, not region by region."""
    (x, y), rate, gain, (beta, turn, _, w) = kept
    p, q = slope
    at_x, at_y = p @ w, q @ w
    grow, cross = rate - beta * (x * x + y * y), 2 * beta * x * y
    back_x = p * (grow - 2 * beta * x * x) + q * (turn - cross) + gain * at_x
    back_y = q * (grow - 2 * beta * y * y) - p * (turn + cross) + gain * at_y
    return (back_x, back_y), None, p * x + q * y, at_x * x + at_y * y, None


_step_by_hand = jax.custom_vjp(_step)
_step_by_hand.defvjp(
    lambda s, z, rate, gain, fixed: (_step(s, z, rate, gain, fixed), (s, rate, gain, fixed)), _step_back
)


def hopf_gradient(
    work: HopfWork, *, noise: str = "gaussian", seed: int = 0, by_hand: bool = False
) -> Callable[[], tuple]:
    """W4a: the loss and its gradient, (1 + region,): in k, then in every a."""
    n, keep, advance = work.n_regions, work.keep, _step_by_hand if by_hand else _step

    @jax.jit
    @jax.value_and_grad
    def run(
        p: jax.Array, strength: jax.Array, fixed: tuple, target: jax.Array, words: jax.Array
    ) -> jax.Array:
        gain = jnp.broadcast_to(p[0] * np.float32(work.dt), (n,))  # its slope is summed once, not every step
        rate = 1.0 + np.float32(work.dt) * p[1:] - gain * strength

        def sample(state: tuple, z: jax.Array) -> tuple:
            state, _ = lax.scan(lambda s, one: (advance(s, one, rate, gain, fixed), None), state, z)
            return state, state[0]

        @jax.checkpoint
        def page(state: tuple, first: jax.Array) -> tuple:
            z = _one_page(noise, words, first, PAGE, work)
            return lax.scan(sample, state, z.reshape(PAGE // keep, keep, 2, n))

        start = (jnp.full(n, np.float32(work.x0)), jnp.full(n, np.float32(work.y0)))
        return fc_loss(lax.scan(page, start, _pages(work, PAGE))[1].reshape(-1, n), target)

    fixed = (
        _f(work.dt * work.beta),
        _f(work.dt * work.w),
        _f(work.weights.T.copy()),
        _f(work.weights),
    )
    words = counter.key_words(jax.random.key(seed), 0)
    rest = (_f(work.weights.sum(axis=1)), fixed, _f(work.target), words)
    p = jnp.concatenate([_f([work.k]), _f(work.a)])
    return lambda: jax.block_until_ready(run(p, *rest))


# --- W2 ----------------------------------------------------------------------------------------------------


def mpr(work: MPRWork) -> Callable[[], jax.Array]:
    """W2: r (1/ms) as (sample, region)."""
    n, keep, f = work.n_regions, work.keep, np.float32
    linked = work.weights > 0
    lags = np.where(linked, work.lags, work.lags[linked].min())
    whole = np.floor(lags).astype(np.int32)
    part, length = lags - whole, int(whole.max()) + 2
    block = max(size for size in range(1, min(BLOCK, whole.min()) + 1) if PAGE % size == 0)
    if work.n_steps % PAGE or PAGE % keep:
        raise ValueError(f"{work.n_steps} steps; needed: a multiple of {PAGE}, itself one of {keep}")
    together = n if 4 * n * n * (block + 2) <= CACHE else TARGETS
    numbers = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0, 1))

    def slope(r: jax.Array, v: jax.Array, received: jax.Array) -> tuple:
        t = f(work.tau) * r
        dr = f(work.delta / (np.pi * work.tau)) + 2 * r * v
        dv = v * v + f(work.eta + work.current) + t * (f(work.j) - f(np.pi**2) * t) + received
        return dr * f(1 / work.tau), dv * f(1 / work.tau)

    def arrive(buffer: jax.Array, first: jax.Array, pair: jax.Array) -> jax.Array:
        """What reaches some targets in a block, (target, block + 1), from one window of each connection."""
        sources = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), first.shape)
        at = jnp.stack([sources, first], axis=-1).reshape(-1, 2)
        windows = lax.gather(buffer, at, numbers, (1, block + 2), mode="promise_in_bounds")
        both = lax.dot_general(pair, windows.reshape(-1, n, block + 2), (((2,), (1,)), ((0,), (0,))))
        return both[:, 0, :-1] + both[:, 1, 1:]

    @jax.jit
    def run(pair: jax.Array, whole: jax.Array) -> jax.Array:
        def step(state: tuple, received: tuple) -> tuple:
            r, v = state
            dr, dv = slope(r, v, received[0])
            dr1, dv1 = slope(r + f(work.dt) * dr, v + f(work.dt) * dv, received[1])
            r, v = r + f(0.5 * work.dt) * (dr + dr1), v + f(0.5 * work.dt) * (dv + dv1)
            return (r, v), r

        def one_block(carry: tuple, index: jax.Array) -> tuple:
            state, buffer = carry
            newest = length - 1 + index * block
            first = newest - whole - 1
            if together == n:
                received = arrive(buffer, first, pair).T
            else:
                some = (first.reshape(-1, together, n), pair.reshape(-1, together, 2, n))
                received = lax.map(lambda one: arrive(buffer, *one), some).reshape(n, block + 1).T
            state, r = lax.scan(step, state, (received[:-1], received[1:]))
            buffer = lax.dynamic_update_slice(buffer, (f(work.tau) * r).T, (0, newest + 1))
            return (state, buffer), r

        def page(carry: tuple, _: None) -> tuple:
            state, past = carry
            buffer = jnp.concatenate([past, jnp.zeros((n, PAGE), f)], axis=1)
            (state, buffer), r = lax.scan(
                one_block, (state, buffer), jnp.arange(PAGE // block, dtype=jnp.int32)
            )
            return (state, buffer[:, -length:]), r.reshape(PAGE // keep, keep, n)[:, -1]

        start = (jnp.full(n, f(work.r0)), jnp.full(n, f(work.v0)))
        carry = (start, jnp.full((n, length), f(work.tau * work.r0)))
        return lax.scan(page, carry, None, length=work.n_steps // PAGE)[1].reshape(-1, n)

    pair = _f(work.k * np.stack([work.weights * part, work.weights * (1 - part)], axis=1))
    whole = jnp.asarray(whole)
    return lambda: jax.block_until_ready(run(pair, whole))
