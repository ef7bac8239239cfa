"""
Pages: many steps of the engine in compiled loops, with and without delays.

A page is what is simulated between two draws of noise. Samples are taken inside it; nothing else is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from brainloom import coupling, delays, engine
from brainloom.engine import HISTORY, Arrays, Structure

# emit(state, ports): `ports` is called for what arrives at the model, by what needs it
Emit = Callable[[Arrays, Callable[[], Arrays]], Any]


class Drive(NamedTuple):
    """
    Inputs of a page.

    Attributes
    ----------
    held : dict of arrays
        Constant over the page.
    series : dict of (step, ...) arrays
        One row a step, held over it.
    function : callable or None
        ``function(t) -> ports``, sampled at the stages of a step.
    """

    held: Arrays
    series: Arrays
    function: Callable[[Any], Arrays] | None = None


class Watch(NamedTuple):
    """
    What is looked at while time passes.

    Attributes
    ----------
    every : int
        Steps between samples; 0 takes none.
    emit : callable or None
        ``emit(state, ports) -> pytree`` at every sample; ``ports()`` is what arrives at the model then.
    watched : tuple of str
        Observables that streaming observers see.
    scale : tuple of float
        Factor of each watched observable: from the unit of the equations to that of results.
    """

    every: int = 0
    emit: Emit | None = None
    watched: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()


def run_page(
    structure: Structure,
    p: Arrays,
    state: Arrays,
    noise: jax.Array | None,
    drive: Drive,
    first_step: Any,
    dt: Any,
    n_steps: int,
    watch: Watch,
) -> tuple[Arrays, Any, tuple]:
    """
    Simulate one page.

    Parameters
    ----------
    structure : Structure
    p : dict of arrays
        From `engine.prepare`.
    state : dict of arrays
        State of the system, histories included.
    noise : (step, channel, ..., region) array or None
    drive : Drive
    first_step : int, may be traced
        Number of the first step since time 0.
    dt : scalar
    n_steps : int
        A multiple of ``watch.every``.
    watch : Watch

    Returns
    -------
    state
    samples : pytree, leading axis n_steps / every; None without samples
    watched : tuple of (n_steps, ..., region) arrays
    """
    body = _Steps(structure, p, drive.held, drive.function, first_step, dt, watch)
    rows = {"noise": noise, "series": drive.series, "index": jnp.arange(n_steps, dtype=jnp.int32)}
    if structure.block == 0:
        return body.undelayed(state, rows, n_steps)
    return body.delayed(state, rows, n_steps)


class _Steps:
    """The loops of one page; only ever used while a program is traced."""

    def __init__(
        self, structure: Structure, p: Arrays, held: Arrays, function: Any, first: Any, dt: Any, watch: Watch
    ):
        self.structure, self.p, self.held, self.function = structure, p, held, function
        self.first, self.dt, self.watch = first, dt, watch

    def one(self, state: Arrays, row: Mapping[str, Any], reads_at: Any = None) -> tuple[Arrays, tuple]:
        """One step, and what is watched after it."""
        t = (self.first + row["index"]) * self.dt
        inputs = self.held | row["series"]

        def inputs_at(stage: float) -> Arrays:
            return inputs if self.function is None else inputs | self.function(t + stage * self.dt)

        state = engine.step(self.structure, self.p, state, inputs_at, row["noise"], t, self.dt, reads_at)
        if not self.watch.watched:
            return state, ()
        known, ports = self.structure.model.observables(), {}
        if any(known[name].driven for name in self.watch.watched):
            reads = None if reads_at is None else reads_at(1.0)
            ports = engine.port_values(self.structure, self.p, state, inputs_at(1.0), reads)
        seen = (engine.observe(self.structure, self.p, state, name, ports) for name in self.watch.watched)
        scaled = (x if k == 1.0 else k * x for x, k in zip(seen, self.watch.scale, strict=True))
        return state, tuple(scaled)

    def look(self, state: Arrays, row: Mapping[str, Any], reads: Any = None) -> Any:
        """A sample of the present state; `row` is the step just made, `reads` gives what arrives delayed."""
        if self.watch.emit is None:
            return {}

        def ports() -> Arrays:
            t = (self.first + row["index"] + 1) * self.dt
            moving = {} if self.function is None else self.function(t)
            inputs = self.held | row["series"] | moving
            arrived = None if reads is None else reads()
            return engine.port_values(self.structure, self.p, state, inputs, arrived)

        return self.watch.emit(state, ports)

    def undelayed(self, state: Arrays, rows: Any, n_steps: int) -> tuple[Arrays, Any, tuple]:
        every = self.watch.every
        if every == 0 or self.watch.emit is None:
            state, seen = _scan(self.one, state, rows, n_steps)
            return state, None if every == 0 else {}, seen

        def sample(state: Arrays, some: Any) -> tuple[Arrays, Any]:
            if every == 1:
                state, seen = self.one(state, some)
                return state, (self.look(state, some), seen)
            state, seen = jax.lax.scan(self.one, state, some)
            return state, (self.look(state, _last(some)), seen)

        grouped = rows if every == 1 else _grouped(rows, every)
        state, (found, seen) = _scan(sample, state, grouped, n_steps // every)
        if every > 1:
            seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
        return state, found, seen

    def delayed(self, state: Arrays, rows: Any, n_steps: int) -> tuple[Arrays, Any, tuple]:
        """Blocks of steps between reads of the history; the history of the page is one long buffer."""
        every, length = self.watch.every if self.watch.emit is not None else 0, self.structure.length
        batch = state[self.structure.model.state_names()[0]].shape[:-1]
        buffers = {}
        for name in self.structure.histories:
            room = jnp.zeros((self.structure.n_regions, n_steps, *batch), state[HISTORY + name].dtype)
            buffers[name] = jnp.concatenate([state[HISTORY + name], room], axis=1)
        present = {k: v for k, v in state.items() if not k.startswith(HISTORY)}
        span = every or n_steps
        block = _block_size(span, self.structure.block)
        inside = every > 0 and (span % block != 0)  # samples fall inside blocks

        def run(carry: tuple, some: Any, size: int) -> tuple[tuple, Any]:
            return self._block(carry, some, size, emit=inside)

        start = (present, buffers)
        if every == 0 or inside:
            whole = n_steps // block
            head, tail = _cut(rows, whole * block)
            parts = []
            if whole:
                start, part = _scan(lambda c, r: run(c, r, block), start, _grouped(head, block), whole)
                parts.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part))
            if n_steps > whole * block:
                start, part = run(start, tail, n_steps - whole * block)
                parts.append(part)
            samples, seen = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
            thin = every > 1 and block % every > 0  # every step of a block was kept
            found = jax.tree.map(lambda x: x[every - 1 :: every] if thin else x, samples) if inside else None
        else:

            def sample(carry: tuple, some: Any) -> tuple[tuple, Any]:
                if every == block:
                    carry, (_, seen) = run(carry, some, block)
                else:
                    carry, (_, seen) = jax.lax.scan(
                        lambda c, r: run(c, r, block), carry, _grouped(some, block)
                    )
                    seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
                present, buffers = carry
                newest = length + some["index"][-1]
                found = self.look(
                    present, _last(some), lambda: reads_now(self.structure, self.p, buffers, newest)
                )
                return carry, (found, seen)

            start, (found, seen) = _scan(sample, start, _grouped(rows, every), n_steps // every)
            seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
        present, buffers = start
        kept = {HISTORY + name: buffer[:, -length:] for name, buffer in buffers.items()}
        return present | kept, {} if found is None and self.watch.every else found, seen

    def _block(self, carry: tuple, some: Any, size: int, emit: bool) -> tuple[tuple, tuple]:
        """`size` steps from one read of the history; samples, and what is watched at each step."""
        present, buffers = carry
        newest = self.structure.length - 1 + some["index"][0]
        reads = _reads(self.structure, self.p, buffers, newest, size)
        names = self.structure.histories

        def step(state: Arrays, row: Any) -> tuple[Arrays, Any]:
            row, (now, then) = row

            def reads_at(stage: float) -> dict[str, tuple]:
                if stage == 0.0:
                    return now
                if stage == 1.0:
                    return then
                return jax.tree.map(lambda a, b: (1.0 - stage) * a + stage * b, now, then)

            state, seen = self.one(state, row, reads_at)
            kept = {name: engine.observe(self.structure, self.p, state, name) for name in names}
            found = self.look(state, row, lambda: then) if emit and not nested else None
            return state, (kept, seen, found)

        def sample(state: Arrays, rows: Any) -> tuple[Arrays, Any]:
            state, (kept, seen, _) = _scan(step, state, rows, every)
            row, (_, then) = _last(rows)
            return state, (kept, seen, self.look(state, row, lambda: then))

        now = jax.tree.map(lambda x: x[:-1], reads)
        then = jax.tree.map(lambda x: x[1:], reads)
        every = self.watch.every
        nested = emit and every > 1 and size % every == 0
        rows = (some, (now, then))
        if nested:
            present, (kept, seen, found) = _scan(sample, present, _grouped(rows, every), size // every)
            kept, seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (kept, seen))
        else:
            present, (kept, seen, found) = _scan(step, present, rows, size)
        for name in names:
            new = jnp.moveaxis(kept[name], -1, 0)  # (step, ..., region) -> (region, step, ...)
            buffers = buffers | {
                name: jax.lax.dynamic_update_slice_in_dim(buffers[name], new, newest + 1, axis=1)
            }
        return (present, buffers), (found, seen)


def reads_now(structure: Structure, p: Arrays, buffers: Arrays, newest: Any = None) -> dict[str, tuple]:
    """
    Sums over delayed sources at the newest sample, for `engine.port_values`.

    Parameters
    ----------
    structure : Structure
    p : dict of arrays
        From `engine.prepare`.
    buffers : dict of (region, sample, ...) arrays
        Stored samples of each source, by its name or as entries of a state.
    newest : int, optional
        Index of the newest sample; the last one if not given.
    """
    stored = {n: buffers[n] if n in buffers else buffers[HISTORY + n] for n in structure.histories}
    newest = structure.length - 1 if newest is None else newest
    return jax.tree.map(lambda x: x[0], _reads(structure, p, stored, newest, 0))


def _reads(structure: Structure, p: Arrays, buffers: Arrays, newest: Any, size: int) -> dict[str, tuple]:
    """Sums over delayed sources for `size` steps and the end of the last: (size + 1, ..., region) each."""
    terms = (term for term in structure.terms if term.delay)
    return {term.name: _term_reads(structure, p, term, buffers[term.source], newest, size) for term in terms}


def _term_reads(
    structure: Structure, p: Arrays, term: engine.Term, buffer: jax.Array, newest: Any, size: int
) -> tuple:
    sources, fraction, weights = (p[f"{term.name}.{part}"] for part in ("sources", "fraction", "listed"))
    first = p[f"{term.name}.first"] + newest
    kind = coupling.KINDS.get(term.kind)
    linear = kind is None or kind.pre is None
    if linear and structure.block > 1:
        return (delays.delayed_sum(buffer, sources, first, p[f"{term.name}.pair"], size + 2),)
    if structure.block == 1:
        # shorter than a step: what is not there yet is taken from the newest sample
        windows = delays.windows_up_to(buffer, sources, first, size + 2, newest)
    else:
        windows = delays.windows(buffer, sources, first, size + 2)
    if kind is None or kind.pre is None:
        return (delays.interpolated_sum(windows, p[f"{term.name}.pair"]),)
    own = engine.parameters_of(p, term)
    pairs = engine.listed_parameters(own, kind, sources, windows.ndim)
    values = delays.interpolated(windows, fraction)
    flat = (*values.shape[:2], -1)
    found = []
    for channel in kind.pre(own | pairs, values):
        total = jnp.einsum("nd,nds->ns", weights, channel.reshape(flat))
        found.append(jnp.moveaxis(total.reshape(total.shape[0], *channel.shape[2:]), 0, -1))
    return tuple(found)


def _block_size(span: int, most: int) -> int:
    """Steps of a block: a divisor of the sampling interval if one is near the longest that delays allow."""
    if span <= most:
        return span * max(1, most // span)
    fits = [size for size in range(most, 0, -1) if span % size == 0]
    return fits[0] if 2 * fits[0] >= most else most


def _scan(body: Callable, carry: Any, rows: Any, n: int) -> tuple[Any, Any]:
    """`jax.lax.scan`; one step alone is no loop, which would be compiled at every step of a loop in Python."""
    if n != 1:
        return jax.lax.scan(body, carry, rows)
    carry, found = body(carry, jax.tree.map(lambda x: x[0], rows))
    return carry, jax.tree.map(lambda x: x[None], found)


def _grouped(rows: Any, size: int) -> Any:
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // size, size, *x.shape[1:]), rows)


def _cut(rows: Any, at: int) -> tuple[Any, Any]:
    return jax.tree.map(lambda x: x[:at], rows), jax.tree.map(lambda x: x[at:], rows)


def _last(rows: Any) -> Any:
    return jax.tree.map(lambda x: x[-1], rows)
