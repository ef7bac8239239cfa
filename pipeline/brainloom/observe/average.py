"""Mean of an observable over each sampling interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from brainloom.observe.base import Observer


class Sum(NamedTuple):
    """Sum of values, (..., region), and their number."""

    total: jax.Array
    n: jax.Array


@dataclass(frozen=True)
class TemporalAverage(Observer):
    """
    Mean over each sampling interval: every step since the last sample counts once.

    Parameters
    ----------
    source : str
    name : str
        ``"average"`` if not given.

    Notes
    -----
    The result is (time, [batch,] region) in the unit of the observable. The transient is left
    out, and so are steps after the last sample.

    Examples
    --------
    >>> from brainloom import HopfStep, Simulator
    >>> run = Simulator(HopfStep(2), dt=0.1).run
    >>> run(20.0, sample_every=1.0, monitors=[], observe=[TemporalAverage("x")])["average"].shape
    (20, 2)
    """

    name: str = "average"

    def start(self, value: jax.Array) -> Sum:
        """See `Observer.start`."""
        return Sum(jnp.zeros_like(value), jnp.zeros((), value.dtype))

    def step(self, memory: Sum, value: jax.Array, dt: jax.Array) -> Sum:
        """See `Observer.step`."""
        return Sum(memory.total + value, memory.n + 1.0)

    def settled(self, memory: Sum) -> Sum:
        """See `Observer.settled`."""
        return jax.tree.map(jnp.zeros_like, memory)

    def sample(self, memory: Sum) -> tuple[Sum, jax.Array]:
        """See `Observer.sample`."""
        return self.settled(memory), memory.total / jnp.maximum(memory.n, 1.0)

    def present(self, value: Any, unit: Callable[[Any, int], Any]) -> Any:
        """See `Observer.present`."""
        return unit(value, 1)
