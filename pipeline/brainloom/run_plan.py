"""What a run is compiled for: its plan, and how its samples are cut into pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from brainloom.engine import Arrays, Structure

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
        Steps between base samples: the largest interval that all sampling intervals are multiples of.
    monitors : tuple of (name, observable or callable)
    observers : tuple
        Streaming observers without their parameters, see `brainloom.observe.Observer.static`.
    noise : str
        Kind of the draws.
    batch : int or None
    function : callable or None
        Inputs as a function of time.
    looker : callable or None
        ``looker(state) -> model`` for monitors that are functions of the model.
    ratio : int
        Base samples per sample of the monitors.
    ratios : tuple of int
        Base samples per sample of each observer.
    strides : tuple of int
        Steps whose mean is enough for each observer; divides its own interval.
    scales : tuple of float
        Factor of the observable of each observer, from the unit of the equations to that of results.
    longest : int
        Steps of a page at most.
    """

    structure: Structure
    every: int
    monitors: tuple[tuple[str, Any], ...]
    observers: tuple
    noise: str
    batch: int | None
    function: Callable | None = None
    looker: Any = None
    ratio: int = 1
    ratios: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    longest: int = PAGE

    @property
    def page(self) -> int:
        """Steps of a page that holds no sample."""
        most = self.longest
        span = math.lcm(1, *(k for k in self.strides if k <= most))
        return most - most % span if span <= most else most

    @property
    def watched(self) -> dict[str, float]:
        """Observables that observers see, and the factor of each."""
        return {one.source: k for one, k in zip(self.observers, self.scales, strict=True)}

    def ratio_of(self, name: str) -> int:
        """Base samples per sample of a result."""
        named = {one.name: m for one, m in zip(self.observers, self.ratios, strict=True)}
        return named.get(name, self.ratio)

    def each(self, p: Arrays, memory: tuple) -> Iterator[tuple[Any, Arrays, Any]]:
        """Observers, their parameters and their memories."""
        for one, kept in zip(self.observers, memory, strict=True):
            yield one, parameters_of(p, one.name), kept


def parameters_of(p: Arrays, name: str) -> Arrays:
    """Parameters of an observer among all values."""
    start = f"observe.{name}."
    return {k.removeprefix(start): v for k, v in p.items() if k.startswith(start)}


def portions(plan: Plan, n_samples: int) -> list[tuple[int, int]]:
    """
    Pages of `n_samples` base samples as (samples of a page, number of such pages).

    Whole pages come first, then shorter ones. No page crosses the end of an interval of a result that it does not
    end with, so that each row of a result belongs to one page or each page to one row.
    """
    ratios = {plan.ratio, *plan.ratios}

    def fits(size: int, done: int) -> bool:
        return all((size % m == 0 and done % m == 0) or (m % size == 0 and done % size == 0) for m in ratios)

    found, done = [], 0
    while done < n_samples:
        most = max(1, min(n_samples - done, plan.longest // plan.every))
        size = next(size for size in range(most, 0, -1) if fits(size, done))
        n = (n_samples - done) // size
        found.append((size, n))
        done += n * size
    return found


def steps_in_pages(plan: Plan, n_steps: int) -> list[tuple[int, int]]:
    """A transient as (steps of a page, number of such pages)."""
    whole, rest = divmod(n_steps, plan.page)
    return [(plan.page, whole)] * (whole > 0) + [(rest, 1)] * (rest > 0)
