"""Runs without a gradient: one compiled program a page size, whatever the duration, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import engine, runs
from brainloom.engine import Arrays
from brainloom.run_plan import CALL, Plan, portions, steps_in_pages


def forward(
    plan: Plan, n_transient: int, n_samples: int, call: tuple, progress: bool | None
) -> tuple[tuple, Any]:
    """A run without a gradient: compiled pages, a traced number of them at a time."""
    values, carry, words, held, _, first, dt = call
    steps = n_transient + n_samples * plan.every
    bar = _bar(steps, progress)
    nothing = jnp.asarray(0, jnp.int32)
    for size, n in _calls(steps_in_pages(plan, n_transient)):
        count = jnp.asarray(n, jnp.int32)
        carry, _ = runs.run_open(plan, size, values, carry, words, held, first, nothing, count, dt, None)
        first = first + size * n
        bar(size * n, carry)
    if n_transient and plan.observers:
        carry = runs.settle_now(plan, values, carry, dt)
    parts: dict[str, list] = {}
    done = 0
    for size, n in _calls(portions(plan, n_samples)):
        room = _room(plan, values, carry, held, size * _capacity(n))
        index, count = jnp.asarray(done, jnp.int32), jnp.asarray(n, jnp.int32)
        carry, found = runs.run_open(plan, size, values, carry, words, held, first, index, count, dt, room)
        for name, value in found.items():
            m = plan.ratio_of(name)
            rows = (done + size * n) // m - done // m  # those that are complete
            parts.setdefault(name, []).append(jax.tree.map(lambda x, rows=rows: x[:rows], value))
        first, done = first + size * n * plan.every, done + size * n
        bar(size * n * plan.every, carry)
    bar(0, None)
    joined = {
        name: some[0] if len(some) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *some)
        for name, some in parts.items()
    }
    return carry, joined


def _calls(pages: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pages of each call of a compiled program."""
    return [(size, min(CALL, n - done)) for size, n in pages for done in range(0, n, CALL)]


def _capacity(n: int) -> int:
    return 1 << (n - 1).bit_length()


# Shapes of samples by plan and state: they are found by tracing, which costs more than a short run.
_SHAPES: dict[tuple, Any] = {}


def _room(plan: Plan, values: Arrays, carry: tuple, held: Arrays, n: int) -> Any:
    """Zeros for the samples of one call, `n` base samples at most."""

    def one(values: Arrays, carry: tuple, held: Arrays) -> Any:
        p = engine.prepare(plan.structure, values, 1.0)
        look = runs.looking(plan, p)
        state, memory = carry
        inputs = held if plan.function is None else held | plan.function(0.0)
        ports = partial(engine.port_values, plan.structure, p, state, inputs)
        found = {} if look is None else look(state, ports)
        for observer, q, kept in plan.each(p, memory):
            value = observer.sample(q, kept)[1] if observer.SAMPLES else None
            found |= {} if value is None else {observer.name: value}
        return found

    leaves, tree = jax.tree.flatten((values, carry, held))
    place = (plan, tree, tuple((x.shape, x.dtype) for x in leaves))
    found = _SHAPES.get(place)
    if found is None:
        found = jax.eval_shape(one, values, carry, held)
        if plan.looker is None:  # otherwise made for one run only
            _SHAPES[place] = found
    room = {}
    for name, shapes in found.items():
        m = plan.ratio_of(name)
        rows = n if m == 1 else n // m + 2
        room[name] = jax.tree.map(lambda x, rows=rows: jnp.zeros((rows, *x.shape), x.dtype), shapes)
    return room


def _bar(steps: int, progress: bool | None) -> Callable[[int, Any], None]:
    """Progress of a run: shown if asked for, or once it turns out to be long."""
    if progress is False:
        return lambda done, carry: None
    from tqdm import tqdm

    bar = tqdm(total=steps, unit="step", unit_scale=True, leave=False, delay=0.0 if progress else 10.0)

    def move(done: int, carry: Any) -> None:
        if carry is None:
            bar.close()
            return
        if progress or bar.n:
            jax.block_until_ready(carry)
        bar.update(done)

    return move
