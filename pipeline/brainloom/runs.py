"""Compiled runs: pages of the engine, one after the other, with noise made page by page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import engine, rollout
from brainloom.engine import Arrays, Structure
from brainloom.noise import counter

# Steps between two draws of noise: long enough to vectorise, short enough to stay in the cache.
PAGE = 200
# Pages that one call of a compiled program makes at most; between calls there is room for a progress bar.
CALL = 512


@dataclass(frozen=True)
class Plan:
    """
    What a run is compiled for.

    Attributes
    ----------
    structure : Structure
    every : int
        Steps between samples.
    monitors : tuple of (name, observable or callable)
    observers : tuple
        Streaming observers, see `brainloom.simulate.Simulator.run`.
    noise : str
        Kind of the draws.
    batch : int or None
    function : callable or None
        Inputs as a function of time.
    looker : callable or None
        ``looker(state) -> model`` for monitors that are functions of the model.
    """

    structure: Structure
    every: int
    monitors: tuple[tuple[str, Any], ...]
    observers: tuple
    noise: str
    batch: int | None
    function: Callable | None = None
    looker: Any = None


def watch(plan: Plan, p: Arrays, dt: Any, *, emit: bool) -> rollout.Watch:
    """Monitors and observers of a plan as functions of the loop."""
    structure = plan.structure
    observables = structure.model.observables()

    def look(state: Arrays, ports: Callable[[], Arrays]) -> dict[str, Any]:
        found = {}
        for name, what in plan.monitors:
            if callable(what):
                found[name] = what(plan.looker(state))
            else:
                one = observables[what]
                found[name] = one.function(p, state, ports()) if one.driven else one.function(p, state)
        return found

    def each(memory: Any, state: Arrays) -> Any:
        return tuple(
            one.step(kept, engine.observe(structure, p, state, one.source), dt)
            for one, kept in zip(plan.observers, memory, strict=True)
        )

    def sample(memory: Any) -> tuple[Any, dict[str, Any]]:
        found, kept = {}, []
        for one, state in zip(plan.observers, memory, strict=True):
            state, value = one.sample(state)
            kept.append(state)
            if value is not None:
                found[one.name] = value
        return tuple(kept), found

    return rollout.Watch(
        every=plan.every if emit else 0,
        emit=look if emit else None,
        each=each if plan.observers else None,
        sample=sample if plan.observers and emit else None,
    )


def start_observers(plan: Plan, p: Arrays, state: Arrays) -> tuple:
    """Memories of the streaming observers before the first step."""
    return tuple(one.start(engine.observe(plan.structure, p, state, one.source)) for one in plan.observers)


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


def settle(plan: Plan, carry: tuple) -> tuple:
    """Tell the observers that define `settled` that the transient is over: averages begin anew then."""
    state, memory = carry
    pairs = zip(plan.observers, memory, strict=True)
    return state, tuple(one.settled(kept) if hasattr(one, "settled") else kept for one, kept in pairs)


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
    *,
    emit: bool,
) -> tuple[tuple, Any]:
    """One page with its noise; see `rollout.run_page`."""
    structure = plan.structure
    noise = None
    if structure.channels:

        def draw(one: jax.Array) -> jax.Array:
            shape = (n_steps, structure.channels, structure.n_regions)
            return counter.increments(plan.noise, one, first, *shape, dtype=jnp.result_type(float))

        noise = draw(words) if plan.batch is None else jax.vmap(draw, out_axes=2)(words)
    drive = rollout.Drive(held, series, plan.function)
    return rollout.run_page(
        structure, p, carry, noise, drive, first, dt, n_steps, watch(plan, p, dt, emit=emit)
    )


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
) -> tuple[tuple, Any]:
    """`n_samples` samples; intervals longer than a page go page by page without storing anything."""
    if plan.every <= PAGE:
        return page(plan, p, carry, words, held, series, first, dt, n_samples * plan.every, emit=True)
    # n_samples is 1 here
    rest = plan.every % PAGE

    def one(carry: tuple, row: Any) -> tuple[tuple, None]:
        index, some = row
        return page(plan, p, carry, words, held, some, first + index * PAGE, dt, PAGE, emit=False)

    whole = plan.every // PAGE
    cut = whole * PAGE
    paged = jax.tree.map(lambda x: x[:cut].reshape(whole, PAGE, *x.shape[1:]), series)
    carry, _ = jax.lax.scan(jax.checkpoint(one), carry, (jnp.arange(whole), paged))
    last = jax.tree.map(lambda x: x[cut:], series)
    if rest:
        carry, _ = page(plan, p, carry, words, held, last, first + cut, dt, rest, emit=False)
    look = watch(plan, p, dt, emit=True)
    state, memory = carry
    found = {}

    def ports() -> Arrays:
        row = jax.tree.map(lambda x: x[-1], series)
        moving = {} if plan.function is None else plan.function((first + plan.every) * dt)
        arrived = rollout.reads_now(plan.structure, p, state)
        return engine.port_values(plan.structure, p, state, held | row | moving, arrived)

    if look.emit is not None:
        found = look.emit(state, ports)
    if look.sample is not None:
        memory, more = look.sample(memory)
        found = found | more
    return (state, memory), jax.tree.map(lambda x: x[None], found)


def group(plan: Plan, n_samples: int) -> int:
    """Samples of a page."""
    return max(1, min(n_samples, PAGE // plan.every))


@partial(jax.jit, static_argnums=(0, 1))
def run_open(
    plan: Plan,
    size: int,
    values: Arrays,
    carry: tuple,
    words: jax.Array,
    held: Arrays,
    first: jax.Array,
    n_pages: jax.Array,
    dt: jax.Array,
    room: Any,
) -> tuple[tuple, Any]:
    """
    A traced number of pages of `size` samples, written into `room`: other durations compile nothing new.

    Only forward; `run_fixed` has a gradient. ``room`` is None where nothing is to be kept (the transient).
    """
    p = engine.prepare(plan.structure, values, dt)

    def body(k: jax.Array, state: tuple) -> tuple:
        carry, room = state
        start = first + k * (size * plan.every if room is not None else size)
        if room is None:
            return page(plan, p, carry, words, held, {}, start, dt, size, emit=False)[0], None
        carry, found = sample_page(plan, p, carry, words, held, {}, start, dt, size)
        room = jax.tree.map(
            lambda kept, new: jax.lax.dynamic_update_slice_in_dim(kept, new, k * size, axis=0), room, found
        )
        return carry, room

    carry, room = jax.lax.fori_loop(0, n_pages, body, (carry, room))
    return (settle(plan, carry) if room is None else carry), room


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def run_fixed(
    plan: Plan,
    n_transient: int,
    n_samples: int,
    remat: bool,
    values: Arrays,
    carry: tuple,
    words: jax.Array,
    held: Arrays,
    series: Arrays,
    first: jax.Array,
    dt: jax.Array,
) -> tuple[tuple, Any]:
    """
    A fixed number of steps, then of samples; differentiable.

    With `remat` every page is a checkpoint: its start is kept, the rest is computed again in the backward pass,
    noise included. Memory is one carry a page plus the inside of one page.
    """
    p = engine.prepare(plan.structure, values, dt)
    keep = jax.checkpoint if remat else (lambda f: f)

    def still(carry: tuple, row: Any, n_steps: int) -> tuple[tuple, None]:
        start, some = row
        return page(plan, p, carry, words, held, some, start, dt, n_steps, emit=False)

    def sampled(carry: tuple, row: Any, n: int) -> tuple[tuple, Any]:
        start, some = row
        return sample_page(plan, p, carry, words, held, some, start, dt, n)

    before, after = (
        jax.tree.map(lambda x, s=s: x[s], series) for s in (slice(0, n_transient), slice(n_transient, None))
    )
    carry, _ = _pages(keep, still, carry, before, first, n_transient, PAGE, 1)
    carry = settle(plan, carry)
    size = group(plan, n_samples)
    return _pages(keep, sampled, carry, after, first + n_transient, n_samples, size, plan.every)


def _pages(
    keep: Any, body: Any, carry: tuple, series: Any, first: Any, n: int, size: int, steps: int
) -> tuple[tuple, Any]:
    """`n` units of `steps` steps, `size` units at a time; what is left over runs as a shorter page."""
    size = min(size, n) or 1
    whole = n // size
    cut = whole * size * steps
    found = None
    if whole:
        paged = jax.tree.map(lambda x: x[:cut].reshape(whole, size * steps, *x.shape[1:]), series)
        starts = first + jnp.arange(whole, dtype=jnp.int32) * (size * steps)
        carry, found = jax.lax.scan(keep(lambda c, r: body(c, r, size)), carry, (starts, paged))
        found = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    if n % size:
        last = jax.tree.map(lambda x: x[cut:], series)
        carry, rest = keep(lambda c, r: body(c, r, n % size))(carry, (first + cut, last))
        found = rest if found is None else jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, rest)
    return carry, found
