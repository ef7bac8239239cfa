"""Runs with a gradient: pages as checkpoints, checkpoints of groups of pages, windows that end the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import engine, runs
from brainloom.engine import Arrays
from brainloom.run_plan import Plan, portions, steps_in_pages

Body = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Checkpoints:
    """
    What a run keeps for its gradient.

    Attributes
    ----------
    levels : int
        0 keeps everything. 1 keeps the start of every page, 2 that of groups of pages and, while one group is gone
        through backwards, of its pages, and so on: about ``levels * n ** (1 / levels)`` starts for n pages, and
        ``levels`` more runs forward.
    window : int or None
        Base samples after which the gradient ends: no derivative passes from one window to the one before.
    """

    levels: int = 1
    window: int | None = None

    def of_windows(self) -> tuple[int, int]:
        """Levels among windows, and among the pages of one."""
        if self.window is None or self.levels == 0:
            return 0, self.levels
        return self.levels // 2, self.levels - self.levels // 2


def group_size(n: int, levels: int) -> int:
    """Members of a group where `n` are kept in so many levels: near ``n ** (1 - 1 / levels)``, without a rest if possible."""
    aim = n ** (1 - 1 / levels)
    near = [g for g in range(max(2, math.ceil(aim / 1.5)), int(aim * 1.5) + 1) if n % g == 0]
    return min(near, key=lambda g: abs(math.log(g / aim))) if near else max(2, round(aim))


def in_groups(body: Body, carry: Any, rows: Any, n: int, levels: int) -> tuple[Any, Any]:
    """
    `jax.lax.scan` over `n` rows whose memory for a gradient is bounded by nested checkpoints.

    Parameters
    ----------
    body : callable
        ``body(carry, row) -> (carry, found)``.
    carry : pytree
    rows : pytree
        Leading axis `n`.
    n : int
    levels : int
        See `Checkpoints`.
    """
    keep = jax.checkpoint if levels else (lambda f: f)
    if n == 1:
        carry, found = keep(body)(carry, jax.tree.map(lambda x: x[0], rows))
        return carry, jax.tree.map(lambda x: x[None], found)
    if levels < 2 or n < 4:
        return jax.lax.scan(keep(body), carry, rows)
    size = group_size(n, levels)
    whole = n // size
    cut = whole * size
    head = jax.tree.map(lambda x: x[:cut].reshape(whole, size, *x.shape[1:]), rows)

    def group(carry: Any, some: Any) -> tuple[Any, Any]:
        return in_groups(body, carry, some, size, levels - 1)

    carry, found = jax.lax.scan(jax.checkpoint(group), carry, head)
    found = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    if cut < n:
        tail = jax.tree.map(lambda x: x[cut:], rows)
        carry, last = in_groups(body, carry, tail, n - cut, levels - 1)
        found = jax.tree.map(lambda *x: jnp.concatenate(x), found, last)
    return carry, found


def kept_starts(n: int, levels: int) -> int:
    """How many starts `in_groups` holds at once."""
    if levels == 0 or n == 0:
        return 0
    if levels < 2 or n < 4:
        return n
    size = group_size(n, levels)
    whole, rest = divmod(n, size)
    return whole + kept_starts(size, levels - 1) + kept_starts(rest, levels - 1)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def run_fixed(
    plan: Plan,
    n_transient: int,
    n_samples: int,
    kept: Checkpoints,
    values: Arrays,
    carry: tuple,
    words: jax.Array,
    held: Arrays,
    series: Arrays,
    first: jax.Array,
    dt: jax.Array,
) -> tuple[tuple, Any]:
    """
    A fixed number of steps, then of base samples; differentiable.

    Starts of pages are kept as `kept` says; the rest is computed again in the backward pass, noise included. Windows
    are counted from the end of the transient, which is then without a gradient.
    """
    p = engine.prepare(plan.structure, values, dt)
    among, within = kept.of_windows()

    def still(p: Arrays, carry: tuple) -> tuple:
        at = 0
        for size, n in steps_in_pages(plan, n_transient):

            def one(carry: tuple, row: Any, at: int = at, size: int = size) -> tuple[tuple, None]:
                number, some = row
                start = first + at + number * size
                return runs.page(plan, p, carry, words, held, some, start, dt, size)[0], None

            carry, _ = in_groups(one, carry, _rows(series, at, n, size), n, kept.levels)
            at += size * n
        return carry

    def stretch(carry: tuple, series: Arrays, begin: Any, n_samples: int) -> tuple[tuple, Any]:
        """Samples from step `begin` on."""
        parts: dict[str, list] = {}
        done = 0
        for size, n in portions(plan, n_samples):

            def one(carry: tuple, row: Any, done: int = done, size: int = size) -> tuple[tuple, Any]:
                number, some = row
                index = done + number * size
                start = begin + index * plan.every
                inner = jax.checkpoint if within else (lambda f: f)
                return runs.sample_page(plan, p, carry, words, held, some, start, dt, size, index, inner)

            # an interval longer than a page has checkpoints inside
            levels = within if plan.every <= plan.longest else max(0, within - 1)
            rows = _rows(series, done * plan.every, n, size * plan.every)
            carry, found = in_groups(one, carry, rows, n, levels)
            for name, value in found.items():
                rows_of = _rows_of_pages(value, plan.ratio_of(name), size, done)
                parts.setdefault(name, []).append(rows_of)
            done += size * n
        return carry, {name: _joined(some) for name, some in parts.items()}

    if kept.window is None:
        carry = runs.settle(plan, p, still(p, carry))
        rest = jax.tree.map(lambda x: x[n_transient:], series)
        return stretch(carry, rest, first + n_transient, n_samples)
    constant = jax.lax.stop_gradient
    carry = runs.settle(plan, p, constant(still(constant(p), constant(carry))))
    size = kept.window
    steps = size * plan.every
    whole, last = divmod(n_samples, size)
    after = jax.tree.map(lambda x: x[n_transient:], series)
    begin = first + n_transient

    def window(carry: tuple, row: Any) -> tuple[tuple, Any]:
        number, some = row
        return stretch(constant(carry), some, begin + number * steps, size)

    found: list[Any] = []
    if whole:
        carry, several = in_groups(window, carry, _rows(after, 0, whole, steps), whole, among)
        found.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), several))
    if last:
        tail = jax.tree.map(lambda x: x[whole * steps :], after)
        carry, one = stretch(constant(carry), tail, begin + whole * steps, last)
        found.append(one)
    return carry, _joined(found)


def _rows(series: Arrays, at: int, n: int, steps: int) -> tuple[jax.Array, Arrays]:
    """`n` pages of `steps` steps from step `at` on: their numbers, and inputs of (page, step, ...)."""
    cut = jax.tree.map(lambda x: x[at : at + n * steps].reshape(n, steps, *x.shape[1:]), series)
    return jnp.arange(n, dtype=jnp.int32), cut


def _joined(parts: list) -> Any:
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def _rows_of_pages(value: Any, ratio: int, size: int, done: int) -> Any:
    """Rows of (page, row, ...) samples; where a row takes several pages, that of the page which ends it."""
    if ratio <= size:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), value)
    first = (-(done // size) - 1) % (ratio // size)
    return jax.tree.map(lambda x: x[first :: ratio // size, 0], value)
