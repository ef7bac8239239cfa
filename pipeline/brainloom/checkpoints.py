"""Which checkpoints a run needs so that its gradient stays within a budget of memory."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import engine, runs
from brainloom.core.errors import BrainloomError
from brainloom.engine import Arrays
from brainloom.reverse import Checkpoints, kept_starts
from brainloom.run_plan import PAGE, Plan, portions, steps_in_pages

UNITS = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}
# Levels of checkpoints, and steps of a page, that are tried; the cheapest first: a level costs a run forward.
LEVELS, PAGES = (1, 2, 3, 4), (PAGE, 50, 10)


class MemoryBudgetError(BrainloomError, ValueError):
    """No checkpoints make a gradient fit; the sentence says what it needs at least."""


def budget(memory: Any) -> float:
    """
    Bytes of a budget: a number, or text such as ``"1 GB"``, ``"500 MB"`` or ``"2 GiB"``.

    Raises
    ------
    ValueError
        It is neither, or not positive.
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmg]?i?b?)\s*", str(memory), re.IGNORECASE)
    size = float("nan")
    if found is not None and found[2].upper() in UNITS:
        with suppress(ValueError):
            size = float(found[1]) * UNITS[found[2].upper()]
    if not size > 0:
        raise ValueError(
            f"memory is {memory!r}; give a positive number of bytes, or text such as '1 GB' or '500 MB'"
        )
    return size


def chosen(
    plan: Plan, n_transient: int, n_samples: int, window: int | None, memory: Any, call: tuple
) -> tuple[Plan, Checkpoints]:
    """
    The cheapest checkpoints whose estimate is within a budget, and the plan with the length of its pages.

    Parameters
    ----------
    plan : Plan
    n_transient, n_samples : int
    window : int or None
        See `brainloom.reverse.Checkpoints`.
    memory : number or str
        See `budget`.
    call : tuple
        What `brainloom.reverse.run_fixed` is called with.

    Raises
    ------
    MemoryBudgetError
        None is; it names the smallest budget that works.
    """
    room, least = budget(memory), float("inf")
    costs: dict[int, tuple[float, float]] = {}
    for levels in LEVELS:
        for longest in lengths(plan):
            one, kept = replace(plan, longest=longest), Checkpoints(levels, window)
            if longest not in costs:
                costs[longest] = page_bytes(one, call)
            need = estimate(one, n_transient, n_samples, kept, call, costs[longest])
            if need <= room:
                return one, kept
            least = min(least, need)
    raise MemoryBudgetError(
        f"memory is {memory!r}, but the gradient of this run needs {least / 1e6:.3g} MB with the most checkpoints; give "
        f"memory='{1.01 * least / 1e6:.3g} MB', simulate fewer regions or realisations at once, or keep fewer samples"
    )


def lengths(plan: Plan) -> list[int]:
    """Lengths of pages that change no result: whole strides of the observers."""
    strides = [k for k in plan.strides if 1 < k <= PAGE]
    return [n for n in PAGES if n == PAGE or all(n % k == 0 for k in strides)]


def page_bytes(plan: Plan, call: tuple) -> tuple[float, float]:
    """
    What the backward pass of one page holds, and what its samples take.

    The residuals are those that JAX's own linearisation of a page asks for, found from shapes alone.
    """
    values, carry, words, held, series, first, dt = call
    long = plan.every > plan.longest
    n = 1 if long else max(1, plan.longest // plan.every)
    steps = plan.page if long else n * plan.every
    moving = {k: v for k, v in values.items() if isinstance(v, jax.core.Tracer)}
    fixed = {k: v for k, v in values.items() if k not in moving}
    rows = jax.tree.map(lambda x: jax.ShapeDtypeStruct((steps, *x.shape[1:]), x.dtype), series)

    def inside(moving: Arrays, carry: tuple, held: Arrays, rows: Arrays) -> tuple:
        p = engine.prepare(plan.structure, fixed | moving, dt)
        if long:
            return runs.page(plan, p, carry, words, held, rows, first, dt, steps)
        return runs.sample_page(plan, p, carry, words, held, rows, first, dt, n, 0)

    def sampled(carry: tuple) -> Any:
        p = engine.prepare(plan.structure, values, dt)
        given = jax.tree.map(lambda x: jnp.zeros((plan.every, *x.shape[1:]), x.dtype), series)
        return runs.sample_page(plan, p, carry, words, held, given, first, dt, 1, 0)[1]

    shapes = jax.tree.map(_shape, (moving, carry, held))
    residuals = jax.eval_shape(lambda *given: jax.vjp(inside, *given)[1], *shapes, rows)
    draws = steps * plan.structure.channels * plan.structure.n_regions * (plan.batch or 1)
    noise = draws * jnp.dtype(jnp.result_type(float)).itemsize
    return size_of(residuals) + noise, size_of(jax.eval_shape(sampled, shapes[1]))


def estimate(
    plan: Plan, n_transient: int, n_samples: int, kept: Checkpoints, call: tuple, cost: tuple[float, float]
) -> float:
    """
    Bytes that the gradient of a run holds at its peak, from shapes alone.

    Starts of pages that are kept, one page with its residuals and their copy, samples with their cotangents,
    parameters with theirs.

    Parameters
    ----------
    plan, n_transient, n_samples, kept, call
        See `chosen`.
    cost : (float, float)
        From `page_bytes`.
    """
    values, carry, _, held, series, _, _ = call
    one_page, one_sample = cost
    among, within = kept.of_windows()
    starts = 0
    if kept.window is None:
        starts += sum(kept_starts(n, kept.levels) for _, n in steps_in_pages(plan, n_transient))
        starts += _starts(plan, n_samples, within)
    else:
        windows = max(1, n_samples // kept.window)
        inside = _starts(plan, min(n_samples, kept.window), within)
        starts += windows * inside if among == 0 else kept_starts(windows, among) + inside
    return (
        starts * size_of(carry)
        + 2.0 * one_page
        + 3.0 * n_samples * one_sample
        + 3.0 * size_of((values, held, carry))
        + size_of(series)
    )


def _starts(plan: Plan, n_samples: int, levels: int) -> int:
    """Starts of pages that a stretch of samples keeps at once."""
    long = plan.every > plan.longest
    inside = -(-plan.every // plan.page) if long else 1
    total = 0
    for _, n in portions(plan, n_samples):
        if not long:
            total += kept_starts(n, levels)
        elif levels < 2:
            total += n * inside
        else:
            total += kept_starts(n, levels - 1) + inside
    return total


def size_of(tree: Any) -> float:
    """Bytes of all arrays."""
    leaves = jax.tree.leaves(tree)
    return float(sum(x.size * _itemsize(x.dtype) for x in map(_shape, leaves)))


def _itemsize(dtype: Any) -> int:
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else jnp.dtype(dtype).itemsize


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return (
        x if isinstance(x, jax.ShapeDtypeStruct) else jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x))
    )
