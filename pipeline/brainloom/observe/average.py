"""Samples of an observable, and its mean over each sampling interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from brainloom.models.declare import Arrays
from brainloom.observe.base import Observer


class Sum(NamedTuple):
    """Sum of values, (..., region), and their number."""

    total: jax.Array
    n: jax.Array


class Sample(Observer):
    """
    The observable itself at each sample: subsampling, and the start of a chain of filters.

    Parameters
    ----------
    source : str
    name : str
        ``"sample"`` if not given.
    every : Quantity, number or int, optional
        Sampling interval: a time, or a number of steps if it is an int; that of the run if not given.

    Examples
    --------
    >>> from brainloom import HopfStep, Simulator
    >>> run = Simulator(HopfStep(2), dt=0.1).run
    >>> run(20.0, observe=[Sample("x", every=5.0)])["sample"].shape
    (4, 2)
    """

    STATIC: ClassVar[tuple[str, ...]] = ("source", "name")
    NAME: ClassVar[str] = "sample"

    def __init__(self, source: str = "source", name: str = "", every: Any = None) -> None:
        super().__init__(source, name)
        self.every = every

    def interval(self) -> Any:
        """See `Observer.interval`."""
        return self.every

    def start(self, p: Arrays, value: jax.Array) -> Any:
        """See `Observer.start`."""
        return value

    def page(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> Any:
        """See `Observer.page`."""
        return values[-1]

    def sample(self, p: Arrays, memory: Any) -> tuple[Any, jax.Array]:
        """See `Observer.sample`."""
        return memory, memory

    def samples(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> tuple[Any, Any]:
        """See `Observer.samples`."""
        return values[-1, -1], values[:, -1]

    def present(self, value: Any, unit: Callable[[Any, int], Any]) -> Any:
        """See `Observer.present`."""
        return unit(value, 1)


class TemporalAverage(Sample):
    """
    Mean over each sampling interval: every step since the last sample counts once.

    Parameters
    ----------
    source : str
    name : str
        ``"average"`` if not given.
    every : Quantity, number or int, optional
        Sampling interval: a time, or a number of steps if it is an int; that of the run if not given.

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

    NAME: ClassVar[str] = "average"

    def start(self, p: Arrays, value: jax.Array) -> Sum:
        """See `Observer.start`."""
        return Sum(jnp.zeros_like(value), jnp.zeros((), value.dtype))

    def page(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> Sum:
        """See `Observer.page`; rows of one page stand for the same number of steps."""
        return Sum(memory.total + jnp.sum(values, axis=0) * dt, memory.n + values.shape[0] * dt)

    def settled(self, p: Arrays, memory: Sum) -> Sum:
        """See `Observer.settled`."""
        return jax.tree.map(jnp.zeros_like, memory)

    def sample(self, p: Arrays, memory: Any) -> tuple[Sum, jax.Array]:
        """See `Observer.sample`."""
        some = memory.n > 0
        return self.settled(p, memory), memory.total / jnp.where(some, memory.n, 1.0)

    def samples(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> tuple[Sum, jax.Array]:
        """See `Observer.samples`; the memory is empty where an interval is not longer than a page."""
        return self.settled(p, memory), jnp.mean(values, axis=1)
