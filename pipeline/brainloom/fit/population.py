"""Searches without gradients: the populations of all starts are evaluated by one compiled program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np

from brainloom.fit.cma_es import CMAES
from brainloom.fit.evaluate import Loss
from brainloom.fit.record import Record
from brainloom.fit.resume import Tape
from brainloom.fit.task import Task
from brainloom.fit.trainable import Leaves

# In units of the scales of the parameters.
WIDTH = 0.5
# CMA-ES ends where its population is narrower than this part of the first one.
NARROW = 1e-6
# A start ends after so many generations without a finite loss.
PATIENCE = 10
# Losses beyond are all the same to nevergrad.
LARGEST = 1e20
# Optimisers of nevergrad that do not run with the versions that we ask for.
BROKEN = ("NGOpt", "MetaModel", "BO", "BayesOptimBO", "SQP", "Cobyla")


class Search(Protocol):
    """A search in standardised coordinates, 0 at the start."""

    def ask(self) -> np.ndarray:
        """The points of a generation, (population, size); the first of all is the start."""
        ...

    def tell(self, losses: np.ndarray) -> None:
        """Their losses."""
        ...

    def width(self) -> float:
        """Present width of the population, infinite if not known."""
        ...


def cmaes(task: Task) -> None:
    """
    CMA-ES.

    Parameters
    ----------
    task : Task
        Its optimizer is None, the size of the population, or a mapping with ``population`` and ``sd``: the first
        standard deviation in units of the scales of the parameters (0.5), see `starts.scales`. A step is a generation.
    """
    given = {"population": task.optimizer} if isinstance(task.optimizer, int) else task.optimizer
    options = _options(given, "cmaes", ("population", "sd"), task)

    def new(size: int, seed: list[int]) -> Search:
        return CMAES(np.zeros(size), options["sd"], options["population"], seed)

    _search(task, new, options)


def nevergrad(task: Task) -> None:
    """
    An optimiser of nevergrad.

    Parameters
    ----------
    task : Task
        Its optimizer is the name, such as ``"CMA"`` (if not given), ``"DE"``, ``"PSO"`` or ``"OnePlusOne"``, or a
        mapping with ``method``, ``population`` and ``sd``. A step is a generation of ``population`` evaluations.
    """
    given = {"method": task.optimizer} if isinstance(task.optimizer, str) else task.optimizer
    options = _options(given, "nevergrad", ("method", "population", "sd"), task)
    make = _optimizer_of_nevergrad(options["method"])
    _search(task, partial(_Nevergrad, make, options, task.steps), options)


def _search(task: Task, new: Any, options: Mapping[str, Any]) -> None:
    """All starts side by side: a generation of each is evaluated in one call."""
    trainable, tape, records = task.trainable, Tape(task.checkpoint), task.records
    low, high, scale = (trainable.flat(side) for side in (task.low, task.high, task.scales))
    origins = np.stack([trainable.flat(start) for start in task.starts])
    n_starts, population, size = len(origins), options["population"], origins.shape[1]

    loss, chunk = task.loss, None if task.chunk is None else min(task.chunk, n_starts * population)
    losses_of = loss.compiled(("population", chunk), lambda: _losses_of(loss, chunk))

    def evaluated(leaves: list[np.ndarray]) -> tuple[np.ndarray, None, None]:
        return np.asarray(losses_of(leaves, loss.fixed), float), None, None

    searches = [new(size, [*task.words, k]) for k in range(n_starts)]
    for record in records:
        record.patience = max(record.patience, PATIENCE * population)
    points, called_off = np.empty((n_starts, population, size)), False
    for _ in range(task.steps):
        live = [k for k, record in enumerate(records) if not record.ended and not record.converged]
        if not live or called_off:
            break
        for k in live:  # others keep their places, as the program has one shape
            points[k] = mirrored(origins[k] + scale * searches[k].ask(), low, high)
        flat = points.reshape(-1, size)
        leaves = _stacked(task, flat)
        values, _, _, replayed = tape.evaluate(flat, partial(evaluated, leaves))
        for k in live:
            record, rows = records[k], range(k * population, (k + 1) * population)
            record.n_steps += 1
            for row in rows:
                usable = np.isfinite(values[row])
                # callbacks hear no more of a fit that they have ended
                if record.add(
                    [leaf[row] for leaf in leaves], values[row], usable, silent=replayed or called_off
                ):
                    break
            called_off |= record.called_off
            if not record.ended:
                searches[k].tell(values[rows.start : rows.stop])
                if searches[k].width() < NARROW * options["sd"]:
                    record.message, record.converged = "the population does not move any more", True
        tape.save()
    tape.save(last=True)
    for record in records:
        _close(record, task.steps, population, called_off)


def _losses_of(loss: Loss, chunk: int | None) -> Any:
    """The compiled losses of a population."""

    @jax.jit
    def losses(leaves: Leaves, fixed: Any) -> jax.Array:
        def one(at: Leaves) -> jax.Array:
            return loss(at, fixed)[0]

        return jax.vmap(one)(leaves) if chunk is None else jax.lax.map(one, leaves, batch_size=chunk)

    return losses


def _close(record: Record, steps: int, population: int, called_off: bool) -> None:
    if record.ended or record.converged:
        return
    record.message = "ended by a callback" if called_off else f"made {steps} generations"
    record.converged = not record.improved(max(10, steps // 4) * population)


def _stacked(task: Task, points: np.ndarray) -> list[np.ndarray]:
    """Points as leaves with an axis for the points; in the types of the parameters, so that they compile once."""
    parts = np.split(points, np.cumsum([int(np.prod(x.shape)) for x in task.low])[:-1], axis=1)
    return [
        part.reshape(len(points), *leaf.shape).astype(leaf.dtype)
        for part, leaf in zip(parts, task.starts[0], strict=True)
    ]


def mirrored(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Points outside of bounds, seen in mirrors that stand there; the loss of a search is continuous so."""
    both = np.isfinite(low) & np.isfinite(high)
    width = np.where(both, high - low, 1.0)
    origin = np.where(both, low, 0.0)
    away = np.mod(points - origin, 2.0 * width)
    inside = origin + np.where(away > width, 2.0 * width - away, away)
    points = np.where(both & ((points < low) | (points > high)), inside, points)
    points = np.where(points < low, 2.0 * low - points, points)
    points = np.where(points > high, 2.0 * high - points, points)
    return np.clip(points, low, high)  # rounding


def _options(given: Any, backend: str, known: tuple[str, ...], task: Task) -> dict[str, Any]:
    if given is not None and (not isinstance(given, Mapping) or set(given) - set(known)):
        kind = "the name of an optimiser" if backend == "nevergrad" else "the size of a population"
        raise TypeError(
            f"backend {backend!r} takes {kind}, or a dict of its {', '.join(known)}, "
            f"not {given if isinstance(given, Mapping) else type(task.optimizer).__name__}"
        )
    n = len(task.trainable.flat(task.starts[0]))
    options: dict[str, Any] = {
        "method": "CMA",
        "population": 4 + int(3.0 * math.log(n)) if n > 1 else 4,
        "sd": WIDTH,
    }
    options |= dict(given or {})
    if not isinstance(options["population"], int) or options["population"] < 4:
        raise ValueError(f"population is {options['population']}; it must be a whole number, at least 4")
    if not options["sd"] > 0.0:
        raise ValueError(f"sd is {options['sd']}; it must be positive")
    return options


def _optimizer_of_nevergrad(name: str) -> Any:
    import nevergrad as ng

    if name not in ng.optimizers.registry:
        raise ValueError(f"nevergrad has no optimiser {name!r}; take 'CMA', 'DE', 'PSO' or 'OnePlusOne'")
    if name in BROKEN or name.startswith(("NGOpt", "MetaModel", "BO", "Bayes")):
        raise ValueError(
            f"{name} of nevergrad fails with the versions of its libraries that brainloom asks for; "
            "take 'CMA', 'DE', 'PSO' or 'OnePlusOne'"
        )
    return ng.optimizers.registry[name]


class _Nevergrad:
    """An optimiser of nevergrad as a `Search`."""

    def __init__(self, make: Any, options: Mapping[str, Any], steps: int, size: int, seed: list[int]) -> None:
        import nevergrad as ng

        self._population = options["population"]
        space = ng.p.Array(init=np.zeros(size)).set_mutation(sigma=options["sd"])
        space.random_state = np.random.RandomState(np.random.SeedSequence(seed).generate_state(4))
        budget = steps * self._population
        self._search = make(parametrization=space, budget=budget, num_workers=self._population)
        self._search.suggest(np.zeros(size))
        self._worst = 0.0

    def ask(self) -> np.ndarray:
        self._asked = [self._search.ask() for _ in range(self._population)]
        return np.stack([candidate.value for candidate in self._asked])

    def tell(self, losses: np.ndarray) -> None:
        finite = losses[np.isfinite(losses)]
        self._worst = max([self._worst, *np.abs(finite)])
        for candidate, loss in zip(self._asked, losses, strict=True):
            loss = loss if np.isfinite(loss) else 10.0 * (1.0 + self._worst)
            self._search.tell(candidate, float(np.clip(loss, -LARGEST, LARGEST)))

    def width(self) -> float:
        return float("inf")
