"""The contract of a streaming observer: a memory of fixed size, changed at every step of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax


@dataclass(frozen=True)
class Observer:
    """
    Base of all streaming observers.

    A subclass is a frozen dataclass, so that compiled programs can be kept for it. Its methods are pure and
    differentiable; values are plain arrays (..., region) in the units of the model, with batches in front.

    Parameters
    ----------
    source : str
        Observable of the model that is watched.
    name : str
        Key of the result; the default of the class if empty.
    """

    source: str = "source"
    name: str = ""

    def start(self, value: jax.Array) -> Any:
        """Memory before the first step; `value` is the observable then."""
        raise TypeError(f"{type(self).__name__} must define start, step, and sample or finish")

    def step(self, memory: Any, value: jax.Array, dt: Any) -> Any:
        """Memory after a step of length `dt` that has led to `value`."""
        raise TypeError(f"{type(self).__name__} must define start, step, and sample or finish")

    def settled(self, memory: Any) -> Any:
        """Memory when the transient is over; the same by default, as for filters that have to settle."""
        return memory

    def sample(self, memory: Any) -> tuple[Any, Any]:
        """Memory and value at a sample of the run; None always if there is nothing to sample."""
        return memory, None

    def finish(self, memory: Any) -> Any:
        """Result after the last step; None if there is none."""
        return None

    # Axes of the result after time and realisation, for datasets.
    DIMS: ClassVar[tuple[str, ...]] = ("region",)

    def present(self, value: Any, unit: Callable[[Any, int], Any]) -> Any:
        """The result with units: ``unit(value, power)`` puts that power of the unit of the observable on it."""
        return value
