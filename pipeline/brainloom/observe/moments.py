"""Mean, covariance and functional connectivity of a run, without its trajectory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from brainloom.models.declare import Arrays
from brainloom.observe.base import Observer


class Moments(NamedTuple):
    """
    Running moments.

    Attributes
    ----------
    steps, n : scalar
        Steps that were made, and values that are counted.
    origin : (..., region) array
        The first value; what follows is relative to it, so that a large mean costs no digits.
    mean : (..., region) array
    squares : (..., region, region) array
        Sum of products of deviations from the mean.
    lost : (..., region, region) array or None
        What rounding has taken off `squares`; only kept in single precision.
    """

    steps: jax.Array
    n: jax.Array
    origin: jax.Array
    mean: jax.Array
    squares: jax.Array
    lost: jax.Array | None


class RunningMoments(Observer):
    """
    Mean and covariance over all steps, or every k-th.

    Mean and sum of products of each page of steps are joined to those before (Chan et al. 1983, Am Stat 37:242);
    in single precision the sum is compensated (Kahan 1965, CACM 8:40), so that its error does not grow
    with the number of steps.

    Parameters
    ----------
    source : str
    name : str
        ``"moments"`` if not given.
    every : int
        Steps between the values that count. Each costs as much as the square of the number of regions.

    Notes
    -----
    The result is a dict of ``mean`` ([batch,] region), ``covariance`` ([batch,] region, region) with n - 1 below,
    and ``count``, with the unit of the observable. The transient is left out.

    Examples
    --------
    >>> from brainloom import HopfStep, Simulator
    >>> run = Simulator(HopfStep(2, a=0.25), dt=0.1).run
    >>> found = run(400.0, transient=100.0, monitors=[], observe=[RunningMoments("x")])["moments"]
    >>> int(found["count"]), found["covariance"].shape
    (3000, (2, 2))
    """

    STATIC: ClassVar[tuple[str, ...]] = ("source", "name", "every")
    SAMPLES: ClassVar[bool] = False
    NAME: ClassVar[str] = "moments"

    def __init__(self, source: str = "source", name: str = "", every: int = 1) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every is {every}; it is a number of steps, at least 1")
        super().__init__(source, name)
        self.every = every

    def start(self, p: Arrays, value: jax.Array) -> Moments:
        """See `Observer.start`."""
        pairs = jnp.zeros((*value.shape, value.shape[-1]), value.dtype)
        nothing = jnp.zeros_like(value)
        lost = pairs if jnp.finfo(value.dtype).bits < 64 else None
        return Moments(jnp.zeros((), jnp.int32), jnp.zeros((), value.dtype), nothing, nothing, pairs, lost)

    def page(self, p: Arrays, memory: Moments, values: jax.Array, dt: Any) -> Moments:
        """See `Observer.page`."""
        n_rows = values.shape[0]
        if self.every == 1:
            counted, weight = values, jnp.ones(n_rows, values.dtype)
        else:
            place = (-memory.steps - 1) % self.every + self.every * jnp.arange(-(-n_rows // self.every))
            weight = (place < n_rows).astype(values.dtype)
            counted = jnp.take(values, jnp.minimum(place, n_rows - 1), axis=0)
        return _counted(memory._replace(steps=memory.steps + n_rows), counted, weight)

    def settled(self, p: Arrays, memory: Moments) -> Moments:
        """See `Observer.settled`."""
        return jax.tree.map(jnp.zeros_like, memory)

    def finish(self, p: Arrays, memory: Moments) -> Any:
        """See `Observer.finish`."""
        covariance = memory.squares / jnp.maximum(memory.n - 1.0, 1.0)
        return {"mean": memory.origin + memory.mean, "covariance": covariance, "count": memory.n}

    def present(self, value: Any, unit: Callable[[Any, int], Any]) -> Any:
        """See `Observer.present`."""
        found = {"mean": unit(value["mean"], 1), "covariance": unit(value["covariance"], 2)}
        return found | {"count": value["count"]}


class RunningFC(RunningMoments):
    """
    Functional connectivity, Pearson's correlation over all steps or every k-th; see `RunningMoments`.

    Parameters
    ----------
    source : str
    name : str
        ``"fc"`` if not given.
    every : int

    Notes
    -----
    The result is ([batch,] region, region). A region that does not vary, beyond the rounding of its values, has
    the correlation 0 with all others and itself, and no gradient.

    Examples
    --------
    >>> from brainloom import HopfStep, Simulator
    >>> run = Simulator(HopfStep(2, a=0.25, w=[0.3, 0.6]), dt=0.1).run
    >>> fc = run(1000.0, transient=100.0, monitors=[], observe=[RunningFC("x", every=10)])["fc"]
    >>> bool(abs(fc[0, 1]) < 0.1), round(float(fc[1, 1]), 3)
    (True, 1.0)
    """

    NAME: ClassVar[str] = "fc"
    DIMS: ClassVar[tuple[str, ...]] = ("region", "region_to")

    def present(self, value: Any, unit: Callable[[Any, int], Any]) -> Any:
        """See `Observer.present`; a correlation has no unit."""
        return value

    def finish(self, p: Arrays, memory: Moments) -> jax.Array:
        """See `Observer.finish`."""
        found = super().finish(p, memory)
        return correlation(found["covariance"], found["mean"])


@jax.jit
def correlation(covariance: jax.Array, mean: jax.Array) -> jax.Array:
    """
    Pearson's correlation of a covariance.

    Parameters
    ----------
    covariance : (..., region, region) array
    mean : (..., region) array
        Says how far rounding alone makes values differ.

    Returns
    -------
    (..., region, region) array
        0 in rows and columns of regions that do not vary.
    """
    kind = jnp.finfo(covariance.dtype)
    variance = jnp.diagonal(covariance, axis1=-2, axis2=-1)
    # below the square root of the smallest number, the quotient has no finite derivative
    least = jnp.maximum((4.0 * kind.eps * mean) ** 2, kind.tiny**0.5)
    varies = variance > jax.lax.stop_gradient(least)
    spread = jnp.sqrt(jnp.where(varies, variance, 1.0))
    both = varies[..., :, None] & varies[..., None, :]
    return jnp.where(both, covariance, 0.0) / spread[..., :, None] / spread[..., None, :]


def _counted(memory: Moments, values: jax.Array, weight: jax.Array) -> Moments:
    """Moments with rows, (row, ..., region), that count with weight 1 or 0."""
    more = jnp.sum(weight)
    n = memory.n + more
    some = jnp.maximum(more, 1.0)
    origin = jnp.where(memory.n == 0.0, jax.lax.stop_gradient(values[0]), memory.origin)
    away = values - origin
    column = weight.reshape(-1, *(1,) * (values.ndim - 1))
    mean = jnp.sum(column * away, axis=0) / some
    spread = column * (away - mean)
    change = mean - memory.mean
    new = jnp.einsum("t...i,t...j->...ij", spread, away - mean)
    new = new + (memory.n * more / jnp.maximum(n, 1.0)) * change[..., :, None] * change[..., None, :]
    mean = memory.mean + jnp.where(more > 0, more / jnp.maximum(n, 1.0), 0.0) * change
    if memory.lost is None:
        return Moments(memory.steps, n, origin, mean, memory.squares + new, None)
    new = new - memory.lost
    squares = memory.squares + new
    # rounding has no derivative
    lost = jax.lax.stop_gradient((squares - memory.squares) - new)
    return Moments(memory.steps, n, origin, mean, squares, lost)
