"""Compiled runs: pages of the engine, one after the other, with noise made page by page."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import engine, rollout
from brainloom.engine import Arrays
from brainloom.noise import counter
from brainloom.run_plan import Plan, parameters_of


def looking(plan: Plan, p: Arrays) -> Callable | None:
    """Monitors as a function of state and ports; None if there are none."""
    observables = plan.structure.model.observables()
    if not plan.monitors:
        return None

    def look(state: Arrays, ports: Callable[[], Arrays]) -> dict[str, Any]:
        found = {}
        for name, what in plan.monitors:
            if callable(what):
                found[name] = what(plan.looker(state))
            else:
                one = observables[what]
                found[name] = one.function(p, state, ports()) if one.driven else one.function(p, state)
        return found

    return look


def start_observers(plan: Plan, p: Arrays, state: Arrays) -> tuple:
    """Memories of the streaming observers before the first step."""
    structure, found = plan.structure, []
    shape = state[structure.model.state_names()[0]].shape
    for one in plan.observers:
        driven = structure.model.observables()[one.source].driven
        ports = engine.port_values(structure, p, state, {}) if driven else {}
        value = plan.watched[one.source] * engine.observe(structure, p, state, one.source, ports)
        found.append(one.start(parameters_of(p, one.name), jnp.broadcast_to(value, shape)))
    return tuple(found)


@partial(jax.jit, static_argnums=0)
def opening(plan: Plan, values: Arrays, state: Arrays, key: jax.Array, noisy: bool, dt: Any) -> tuple:
    """
    Everything before the first step: noise signals, histories and observers beside the state of the regions.

    Parameters
    ----------
    plan : Plan
    values, state : dict of arrays
    key : jax.random key
    noisy : bool
        False: noise signals start at their means.
    dt : scalar

    Returns
    -------
    (state, memory)
    """
    structure = plan.structure
    p = engine.prepare(structure, values, dt)
    shape = next(iter(state.values())).shape
    drawn = engine.start_noise(structure, p, shape, key)
    still = engine.start_noise(structure, p, shape, None)
    signals = {name: jnp.where(noisy, value, still[name]) for name, value in drawn.items()}
    full = state | signals
    full = full | engine.start_history(structure, p, full)
    return full, start_observers(plan, p, full)


@partial(jax.jit, static_argnums=0)
def watch_anew(plan: Plan, values: Arrays, state: Arrays, dt: Any) -> tuple:
    """Observers at the start of a run that continues another."""
    return start_observers(plan, engine.prepare(plan.structure, values, dt), state)


@partial(jax.jit, static_argnums=1)
def realisation_words(key: jax.Array, batch: int | None) -> jax.Array:
    """The words that the draws of each realisation follow from; see `noise.counter.key_words`."""
    if batch is None:
        return counter.key_words(key, 0)
    return jax.vmap(lambda m: counter.key_words(key, m))(jnp.arange(batch))


@jax.jit
def all_finite(state: Arrays) -> jax.Array:
    """Whether every region of every state is finite, one bool a realisation."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x), axis=-1) for x in state.values()]), axis=0)


def settle(plan: Plan, p: Arrays, carry: tuple) -> tuple:
    """Tell the observers that the transient is over: averages begin anew then."""
    state, memory = carry
    return state, tuple(one.settled(q, kept) for one, q, kept in plan.each(p, memory))


def page(
    plan: Plan,
    p: Arrays,
    carry: tuple,
    words: jax.Array,
    held: Arrays,
    series: Arrays,
    first: Any,
    dt: Any,
    n_steps: int,
    index: Any = None,
) -> tuple[tuple, dict[str, Any]]:
    """
    One page with its noise and its observers; see `rollout.run_page`.

    `index` is the number of base samples before this page, which ends at one; None takes no samples. Results that
    are sampled less often than once a page have one row: what a sample at its end would be.
    """
    structure = plan.structure
    state, memory = carry
    noise = None
    if structure.channels:

        def draw(one: jax.Array) -> jax.Array:
            shape = (n_steps, structure.channels, structure.n_regions)
            return counter.increments(plan.noise, one, first, *shape, dtype=jnp.result_type(float))

        noise = draw(words) if plan.batch is None else jax.vmap(draw, out_axes=2)(words)
    emit = None if index is None else looking(plan, p)
    watch = rollout.Watch(
        every=0 if index is None else plan.every,
        emit=emit,
        watched=tuple(plan.watched),
        scale=tuple(plan.watched.values()),
    )
    drive = rollout.Drive(held, series, plan.function)
    state, found, seen = rollout.run_page(structure, p, state, noise, drive, first, dt, n_steps, watch)
    rows = dict(zip(plan.watched, seen, strict=True))
    size = 0 if index is None else n_steps // plan.every
    kept = []
    for (one, q, before), wanted in zip(plan.each(p, memory), plan.strides, strict=True):
        ratio = plan.ratio_of(one.name)
        span = math.gcd(wanted, ratio * plan.every if ratio <= size else n_steps)
        some = rows[one.source] if span == 1 else _means(rows[one.source], span)
        kept.append(_observed(one, q, before, some, dt * span, size, index, ratio))
    if index is None:
        return (state, tuple(memory for memory, _ in kept)), {}
    results = jax.tree.map(lambda x: _thinned(x, plan.ratio), found or {})
    named = {one.name: x for one, (_, x) in zip(plan.observers, kept, strict=True) if x is not None}
    return (state, tuple(memory for memory, _ in kept)), results | named


def _observed(
    one: Any, q: Arrays, memory: Any, rows: jax.Array, dt: Any, size: int, index: Any, ratio: int
) -> tuple[Any, Any]:
    """Memory and samples of one observer after a page of `size` base samples."""
    if size == 0 or not one.SAMPLES:
        return one.page(q, memory, rows, dt), None
    if ratio <= size:
        n = size // ratio
        return one.samples(q, memory, rows.reshape(n, rows.shape[0] // n, *rows.shape[1:]), dt)
    return _sampled(one, q, one.page(q, memory, rows, dt), (index + size) % ratio == 0)


def _means(rows: jax.Array, n: int) -> jax.Array:
    return jnp.mean(rows.reshape(rows.shape[0] // n, n, *rows.shape[1:]), axis=1)


def _sampled(one: Any, q: Arrays, memory: Any, complete: Any) -> tuple[Any, Any]:
    """A sample; the memory goes on as if there had been none where the interval is not over."""
    after, value = one.sample(q, memory)
    memory = jax.tree.map(lambda a, b: jnp.where(complete, a, b), after, memory)
    return memory, jax.tree.map(lambda x: x[None], value)


def _thinned(x: jax.Array, ratio: int) -> jax.Array:
    """Every `ratio`-th of the samples of a page, or the last one."""
    return x if ratio == 1 else x[ratio - 1 :: ratio] if ratio <= x.shape[0] else x[-1:]


def sample_page(
    plan: Plan,
    p: Arrays,
    carry: tuple,
    words: Any,
    held: Any,
    series: Any,
    first: Any,
    dt: Any,
    n_samples: int,
    index: Any,
    keep: Callable[[Callable], Callable] = lambda f: f,
) -> tuple[tuple, Any]:
    """
    `n_samples` base samples; intervals longer than a page go page by page without storing anything.

    `keep` wraps the pages of a long interval, with `jax.checkpoint` where a gradient is taken.
    """
    if plan.every <= plan.longest:
        return page(plan, p, carry, words, held, series, first, dt, n_samples * plan.every, index)
    # n_samples is 1 here
    size = plan.page
    whole, rest = divmod(plan.every, size)
    cut = whole * size

    def one(carry: tuple, row: Any) -> tuple[tuple, None]:
        number, some = row
        return page(plan, p, carry, words, held, some, first + number * size, dt, size)[0], None

    paged = jax.tree.map(lambda x: x[:cut].reshape(whole, size, *x.shape[1:]), series)
    carry, _ = jax.lax.scan(keep(one), carry, (jnp.arange(whole), paged))
    last = jax.tree.map(lambda x: x[cut:], series)
    if rest:
        final = keep(lambda carry, some: page(plan, p, carry, words, held, some, first + cut, dt, rest)[0])
        carry = final(carry, last)
    state, memory = carry
    look = looking(plan, p)

    def ports() -> Arrays:
        row = jax.tree.map(lambda x: x[-1], series)
        moving = {} if plan.function is None else plan.function((first + plan.every) * dt)
        arrived = rollout.reads_now(plan.structure, p, state)
        return engine.port_values(plan.structure, p, state, held | row | moving, arrived)

    found = {} if look is None else jax.tree.map(lambda x: x[None], look(state, ports))
    after = []
    for observer, q, kept in plan.each(p, memory):
        if observer.SAMPLES:
            done = (index + 1) % plan.ratio_of(observer.name) == 0
            kept, value = _sampled(observer, q, kept, done)
            found |= {} if value is None else {observer.name: value}
        after.append(kept)
    return (state, tuple(after)), found


@partial(jax.jit, static_argnums=(0, 1))
def run_open(
    plan: Plan,
    size: int,
    values: Arrays,
    carry: tuple,
    words: jax.Array,
    held: Arrays,
    first: jax.Array,
    index: jax.Array,
    n_pages: jax.Array,
    dt: jax.Array,
    room: Any,
) -> tuple[tuple, Any]:
    """
    A traced number of pages of `size` base samples, written into `room`: other durations compile nothing new.

    Only forward; `reverse.run_fixed` has a gradient. ``room`` is None where nothing is to be kept (the transient, whose
    pages have `size` steps). `index` is the number of base samples before.
    """
    p = engine.prepare(plan.structure, values, dt)

    def still(k: jax.Array, carry: tuple) -> tuple:
        return page(plan, p, carry, words, held, {}, first + k * size, dt, size)[0]

    if room is None:
        return jax.lax.fori_loop(0, n_pages, still, carry), None

    def body(k: jax.Array, state: tuple) -> tuple:
        carry, room = state
        start = first + k * (size * plan.every)
        before = index + k * size
        carry, found = sample_page(plan, p, carry, words, held, {}, start, dt, size, before)
        placed = {}
        for name, new in found.items():
            row = before // plan.ratio_of(name) - index // plan.ratio_of(name)

            def write(kept: jax.Array, some: jax.Array, row: jax.Array = row) -> jax.Array:
                return jax.lax.dynamic_update_slice_in_dim(kept, some, row, axis=0)

            placed[name] = jax.tree.map(write, room[name], new)
        return carry, placed

    return jax.lax.fori_loop(0, n_pages, body, (carry, room))


settle_now = jax.jit(
    lambda plan, values, carry, dt: settle(plan, engine.prepare(plan.structure, values, dt), carry),
    static_argnums=0,
)
