"""Fit many problems in one compiled program: slots that are refilled as fits end, on one device or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from brainloom.core.errors import BrainloomError
from brainloom.core.runtime import compiling_alone
from brainloom.fit.lbfgs import Search, begin, run

Objective = Callable[[Any, dict[str, Any], jax.Array], jax.Array]
# Slots side by side: on a CPU they take turns, so more of them save nothing; an accelerator wants work.
CPU_SLOTS, ACCELERATOR_SLOTS = 8, 256
# Evaluations between two looks at which fits have ended.
ROUND = 32
AXIS = "fit"
# Of the memory of an accelerator.
SHARE = 0.8


class MemoryBudgetError(BrainloomError, ValueError):
    """One fit alone takes more memory than it may."""


class Settings(NamedTuple):
    """
    When a search ends.

    Attributes
    ----------
    max_steps : int
    patience : int
    tolerance : float
        Converged: `patience` steps together improve the objective by less than this fraction.
    """

    max_steps: int = 500
    patience: int = 20
    tolerance: float = 5e-4


DEFAULT = Settings()


@dataclass(frozen=True)
class Outcome:
    """
    Result of one fit.

    Attributes
    ----------
    index : int
        Place of its problem in the list.
    theta : (size,) array
        Best point; that of the start where the objective was never finite.
    loss : float
        NaN where it was never finite: the fit failed, others are not concerned.
    history : (max_steps,) array
        Objective at each accepted step, NaN after the last.
    n_steps, n_evaluations : int
    converged : bool
    """

    index: int
    theta: np.ndarray
    loss: float
    history: np.ndarray
    n_steps: int
    n_evaluations: int
    converged: bool


def fit_batch(
    objective: Objective,
    setup: Any,
    problems: Sequence[Mapping[str, Any]],
    starts: np.ndarray,
    settings: Settings = DEFAULT,
    *,
    slots: int | None = None,
    side_by_side: bool | None = None,
    memory: float | None = None,
    devices: Sequence[Any] | None = None,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """
    Minimise an objective over many problems, such as every subject, control and start of a cohort.

    A program holds as many fits as there are slots. It makes some evaluations of each, then fits that have ended
    make room for the next in line: no fit waits for another, and nothing is compiled twice for the same shapes.
    Each evaluation belongs to one step of L-BFGS (`brainloom.fit.lbfgs`).

    Parameters
    ----------
    objective : callable
        ``objective(setup, problem, theta) -> scalar``, differentiable.
    setup : hashable
        What the program depends on besides shapes.
    problems : sequence of mappings of arrays
        All of the same names and shapes: subjects with fewer regions or frames are padded, and masked by arrays
        of the problem.
    starts : (problem, size) array
    settings : Settings
    slots : int, optional
        Fits at once; 8 on CPUs, 256 on each accelerator, never more than there are problems.
    side_by_side : bool, optional
        Evaluate the slots as one batch, as accelerators like it, or in turns, which is faster on a CPU and lets
        ended fits rest. By default what suits the device. Numbers agree to rounding.
    memory : float, optional
        Bytes that the program may take on each device; slots are halved until it does. By default most of what an
        accelerator has; not limited on a CPU.
    devices : sequence of jax devices, optional
        Slots are spread over them; the first device alone by default on a CPU, all of them on accelerators.
    tell : callable, optional
        Gets each outcome as soon as it is there, so that it can be saved.

    Returns
    -------
    list of Outcome
        One a problem, in their order. They do not depend on slots or on what else is in the batch.

    Raises
    ------
    ValueError
        Problems differ in names or shapes, or do not match the starts.
    MemoryBudgetError
        A single slot takes more than `memory`.
    """
    _check(problems, starts)
    if not len(problems):
        return []
    devices = list(devices) if devices is not None else _devices()
    on_cpu = devices[0].platform == "cpu"
    memory = memory or _most_of(devices[0])
    together = not on_cpu if side_by_side is None else side_by_side
    wanted = slots or (CPU_SLOTS if on_cpu else ACCELERATOR_SLOTS * len(devices))
    # in turns an empty slot costs nothing, and with one number of slots there is one program
    n_slots = min(max(wanted, 1), len(problems)) if together or slots else wanted
    n_slots = -(-n_slots // len(devices)) * len(devices)
    arrays = [{name: np.asarray(value) for name, value in problem.items()} for problem in problems]
    points = np.asarray(starts)
    while True:
        bench = _Bench(objective, setup, settings, arrays[0], points[0], n_slots, together, devices)
        if memory is None or bench.bytes() <= memory:
            break
        if n_slots <= len(devices):
            raise MemoryBudgetError(
                f"one fit takes {bench.bytes() / 1e6:.0f} MB and memory is {memory / 1e6:.0f} MB; allow more, "
                "or fit fewer parameters"
            )
        n_slots = max(n_slots // 2 // len(devices), 1) * len(devices)
    with compiling_alone("fit_batch"):
        bench.go()  # nobody is in yet: compiles, and computes nothing
    waiting = iter(range(len(problems)))
    held: dict[int, int] = {}
    found: dict[int, Outcome] = {}

    def next_in_line(place: int) -> None:
        held.pop(place, None)
        index = next(waiting, None)
        if index is not None:
            bench.put(place, arrays[index], points[index])
            held[place] = index

    for place in range(n_slots):
        next_in_line(place)
    while held:
        done = bench.go()
        for place in [place for place in held if done[place]]:
            outcome = bench.outcome(place, held[place])
            found[outcome.index] = outcome
            tell(outcome)
            next_in_line(place)
    return [found[index] for index in range(len(problems))]


class _Bench:
    """The slots on their devices, and the two programs that work on them."""

    def __init__(
        self,
        objective: Objective,
        setup: Any,
        settings: Settings,
        problem: Mapping[str, np.ndarray],
        start: np.ndarray,
        n_slots: int,
        together: bool,
        devices: Sequence[Any],
    ) -> None:
        self._mesh = Mesh(np.array(devices), (AXIS,))
        spread = NamedSharding(self._mesh, PartitionSpec(AXIS))
        empty = begin(jnp.asarray(start), settings.max_steps)
        rest = empty._replace(done=jnp.ones((), bool))  # an empty slot costs nothing in turns
        self._settings, self._how = settings, (objective, setup, settings, together, self._mesh)
        self._advance: Callable[[Any, Search], Search] = partial(_advance, *self._how)
        repeat = lambda x: jax.device_put(np.broadcast_to(np.asarray(x), (n_slots, *np.shape(x))), spread)  # noqa: E731
        self._problems = jax.tree.map(repeat, dict(problem))
        self._searches = jax.tree.map(repeat, rest)

    def bytes(self) -> int:
        """Memory of the program on one device; 0 where the backend does not tell."""
        compiled = _advance.lower(*self._how, self._problems, self._searches).compile()
        self._advance = compiled  # what is compiled to be measured is what runs
        found = compiled.memory_analysis()
        if found is None:
            return 0
        return int(found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes)

    def put(self, place: int, problem: Mapping[str, np.ndarray], start: np.ndarray) -> None:
        """Start a fit in a slot."""
        self._problems, self._searches = _insert(
            self._settings.max_steps, self._problems, self._searches, place, dict(problem), jnp.asarray(start)
        )

    def go(self) -> np.ndarray:
        """One round; which slots are done."""
        self._searches = self._advance(self._problems, self._searches)
        return np.asarray(self._searches.done)

    def outcome(self, place: int, index: int) -> Outcome:
        """What a slot has found."""
        names = ("theta", "value", "history", "n_steps", "n_evaluations", "converged")
        found = {name: np.asarray(getattr(self._searches, name)[place]) for name in names}
        loss = float(found["value"])
        return Outcome(
            index=index,
            theta=found["theta"],
            loss=loss if np.isfinite(loss) else float("nan"),
            history=found["history"],
            n_steps=int(found["n_steps"]),
            n_evaluations=int(found["n_evaluations"]),
            converged=bool(found["converged"]),
        )


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _advance(
    objective: Objective,
    setup: Any,
    settings: Settings,
    together: bool,
    mesh: Mesh,
    problems: Any,
    searches: Any,
) -> Search:
    def one(problem: Any, search: Search) -> Search:
        loss = partial(objective, setup, problem)
        return run(loss, search, ROUND, settings.patience, settings.tolerance)

    def here(problems: Any, searches: Any) -> Search:
        if together:
            return jax.vmap(one)(problems, searches)
        return jax.lax.map(lambda pair: one(*pair), (problems, searches))

    if mesh.size == 1:
        return here(problems, searches)
    spread = PartitionSpec(AXIS)
    return jax.shard_map(here, mesh=mesh, in_specs=(spread, spread), out_specs=spread, check_vma=False)(
        problems, searches
    )


@partial(jax.jit, static_argnums=0)
def _insert(
    max_steps: int, problems: Any, searches: Search, place: jax.Array, problem: Any, start: jax.Array
) -> tuple[Any, Search]:
    put = lambda all_slots, new: all_slots.at[place].set(new)  # noqa: E731
    return jax.tree.map(put, problems, problem), jax.tree.map(put, searches, begin(start, max_steps))


def _devices() -> list[Any]:
    found = jax.local_devices()
    return found[:1] if found[0].platform == "cpu" else found


def _most_of(device: Any) -> float | None:
    """Bytes of a device that may be used; None where it does not tell, as CPUs do not."""
    known = device.memory_stats() or {}
    return SHARE * known["bytes_limit"] if "bytes_limit" in known else None


def _check(problems: Sequence[Mapping[str, Any]], starts: np.ndarray) -> None:
    if np.ndim(starts) != 2 or len(starts) != len(problems):
        raise ValueError(
            f"starts have shape {np.shape(starts)} for {len(problems)} problems; give one row for each problem"
        )
    shapes = [{name: np.shape(value) for name, value in problem.items()} for problem in problems]
    for k, shape in enumerate(shapes):
        for name in sorted({*shape, *shapes[0]}):
            if shape.get(name) != shapes[0].get(name):
                raise ValueError(
                    f"{name} of problem {k} has shape {shape.get(name)}, that of problem 0 {shapes[0].get(name)}; "
                    "pad them to one shape and mask what was added"
                )
