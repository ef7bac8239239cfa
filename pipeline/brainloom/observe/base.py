"""
Contracts of what is measured while a simulation runs: streaming observers, and filters behind them.

Both are modules: a parameter may be a number, an array, a quantity or ``brainstate.nn.Param(..., fit=True)``, and a
`Fitter` finds it where the module is an attribute of the model that is fitted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import jax

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.declare import Arrays, Parameter

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp

from brainloom.core.units import number, plain


class Part(brainstate.nn.Module):
    """
    Base of observers and filters: declared parameters, and settings that compiled programs are keyed by.

    Two parts with the same type and settings are equal, whatever their parameters: those reach the loop as arrays.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()
    # Attributes that a compiled program depends on; hashable.
    STATIC: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **parameters: Any) -> None:
        super().__init__()
        known = {p.name: p.default for p in self.PARAMETERS}
        unknown = sorted(set(parameters) - set(known))
        if unknown:
            has = ", ".join(known) or "none"
            raise TypeError(f"{type(self).__name__} has no parameter {', '.join(unknown)}; it has {has}")
        for name, value in (known | parameters).items():
            setattr(self, name, value)

    def values(self, unit: Any, time_unit: str) -> Arrays:
        """
        Parameters as plain arrays, for the loop.

        Parameters
        ----------
        unit : brainunit.Unit
            Unit of the incoming signal.
        time_unit : {"ms", "s"}
            Unit of time of the model.

        Returns
        -------
        dict of arrays
        """
        return {p.name: self.read(p, p.unit, time_unit) for p in self.PARAMETERS}

    def read(self, parameter: Parameter, unit: str, time_unit: str = "s") -> jax.Array:
        """Present (constrained) value of one parameter as a plain array in a unit."""
        value = getattr(self, parameter.name)
        value = value.value() if isinstance(value, brainstate.nn.Param) else value
        return plain(value, unit, f"{parameter.name} of {type(self).__name__}", time_unit)

    def static(self) -> Any:
        """The part without its parameters: what programs are compiled for."""
        other = copy.copy(self)
        for name in set(vars(self)) - {*self.STATIC, "_name", "_in_size", "_out_size"}:
            object.__delattr__(other, name)
        return other

    def settings(self) -> tuple:
        """Type and settings."""
        return (type(self), *(getattr(self, name) for name in self.STATIC))

    def __hash__(self) -> int:
        return hash(self.settings())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.settings() == other.settings()


class Filter(Part):
    """
    A pure function of a signal: of each sample, or of the whole series.

    A filter is called on arrays or quantities with time first, or follows an observer: ``observer >> filter``.
    """

    # True: acts on each sample, inside the loop; False: on the series of samples after the run.
    SPATIAL: ClassVar[bool] = False
    # Name of the last axis of the result; None: that of the input.
    DIMS: ClassVar[tuple[str, ...] | None] = None

    def at(self, p: Arrays, value: jax.Array) -> jax.Array:
        """One sample, (..., region), of a spatial filter."""
        raise TypeError(
            f"{type(self).__name__} must define at(p, value), or series(p, x, dt) and SPATIAL = False"
        )

    def series(self, p: Arrays, x: jax.Array, dt: float) -> jax.Array:
        """A series, (time, ..., region), sampled every `dt` seconds."""
        return self.at(p, x)

    def times(self, ts: Any, dt: float) -> Any:
        """Times of the output samples, in s, from those of the input."""
        return ts

    def out_step(self, dt: float) -> float:
        """Time between the output samples, in s, from that of the input."""
        return dt

    def out_unit(self, unit: Any) -> Any:
        """Unit of the output from that of the input."""
        return unit

    def update(self, signal: Any, dt: Any = None) -> Any:
        """
        Apply the filter to a signal.

        Parameters
        ----------
        signal : array or Quantity, (time, ..., region)
        dt : number (s) or Quantity, optional
            Time between samples; filters in time need it.
        """
        unit = u.get_unit(signal)
        x = signal.mantissa if isinstance(signal, u.Quantity) else jnp.asarray(signal, jnp.result_type(float))
        if dt is None and not self.SPATIAL:
            raise ValueError(f"{type(self).__name__} acts on time; give dt, the time between samples")
        step = None if dt is None else float(number(dt, "s", "dt"))
        found = self.series(self.values(unit, "s"), x, step)  # type: ignore[arg-type]
        out = self.out_unit(unit)
        return found if out == u.UNITLESS else found * out


class Observer(Part):
    """
    Base of all streaming observers: a memory of fixed size that sees every step of a simulation.

    The methods are pure and differentiable. Values are plain arrays, (..., region) with batches in front, in the
    unit that results show; `p` is what `values` returned.

    Parameters
    ----------
    source : str
        Observable of the model that is watched.
    name : str
        Key of the result; the default of the class if empty.
    """

    STATIC: ClassVar[tuple[str, ...]] = ("source", "name")
    # Axes of the result after time and realisation, for datasets.
    DIMS: ClassVar[tuple[str, ...]] = ("region",)
    # Whether `sample` returns something.
    SAMPLES: ClassVar[bool] = True
    NAME: ClassVar[str] = ""
    source: str
    name: str = ""

    def __init__(self, source: str = "source", name: str = "", **parameters: Any) -> None:
        super().__init__(**parameters)
        self.source, self.name = source, name or self.NAME

    # --- time ---------------------------------------------------------------------------------------------

    def interval(self) -> Any:
        """Time between samples, a quantity or a number of steps; None: that of the run."""
        return None

    def stride(self, dt: float) -> int:
        """Steps of `dt` seconds whose mean is enough for `page`; 1 to see each value."""
        return 1

    # --- the loop -----------------------------------------------------------------------------------------

    def start(self, p: Arrays, value: jax.Array) -> Any:
        """Memory before the first step; `value` is the observable then."""
        raise TypeError(f"{type(self).__name__} must define start, step (or page), and sample or finish")

    def step(self, p: Arrays, memory: Any, value: jax.Array, dt: Any) -> Any:
        """Memory after a step of length `dt`, in the time unit of the model, that has led to `value`."""
        raise TypeError(f"{type(self).__name__} must define start, step (or page), and sample or finish")

    def page(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> Any:
        """Memory after several steps: `values` is (row, ..., region), `dt` the time between rows."""

        def one(memory: Any, value: jax.Array) -> tuple[Any, None]:
            return self.step(p, memory, value, dt), None

        return jax.lax.scan(one, memory, values)[0]

    def settled(self, p: Arrays, memory: Any) -> Any:
        """Memory when the transient is over; the same by default, as for filters that have to settle."""
        return memory

    def sample(self, p: Arrays, memory: Any) -> tuple[Any, Any]:
        """Memory and value at a sample of the run; None always if there is nothing to sample."""
        return memory, None

    def samples(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> tuple[Any, Any]:
        """Several samples: `values` is (sample, row, ..., region)."""

        def one(memory: Any, rows: jax.Array) -> tuple[Any, Any]:
            return self.sample(p, self.page(p, memory, rows, dt))

        if values.shape[0] == 1:
            memory, found = one(memory, values[0])
            return memory, jax.tree.map(lambda x: x[None], found)
        return jax.lax.scan(one, memory, values)

    def finish(self, p: Arrays, memory: Any) -> Any:
        """Result after the last step; None if there is none."""
        return None

    # --- after the run ------------------------------------------------------------------------------------

    def whole(self, p: Arrays, x: Any, dt: float) -> Any:
        """The result from all its samples, (time, ...), `dt` seconds apart."""
        return x

    def times(self, ts: Any, dt: float) -> Any:
        """Times of the result, in s, from those of the samples."""
        return ts

    def present(self, value: Any, unit: Callable[[Any, int], Any]) -> Any:
        """The result with units: ``unit(value, power)`` puts that power of the unit of the observable on it."""
        return value

    def out_unit(self, unit: Any) -> Any:
        """Unit of the samples from that of the observable."""
        return unit

    def __rshift__(self, other: Filter) -> Piped:
        return Piped(self, other)


class Piped(Observer):
    """
    An observer followed by a filter: ``observer >> filter``.

    Spatial filters act on each sample inside the loop, so only their result is kept; the others, and what follows
    them, on the series of samples after the run.
    """

    STATIC: ClassVar[tuple[str, ...]] = ("source", "name", "first", "then")

    def __init__(self, first: Observer, then: Filter, name: str = "") -> None:
        if not isinstance(then, Filter):
            raise TypeError(f"{type(then).__name__} cannot follow an observer; give a Filter")
        if not first.SAMPLES:
            raise TypeError(f"{type(first).__name__} has no samples that {type(then).__name__} could filter")
        super().__init__(first.source, name or first.name)
        self.first, self.then = first, then

    def static(self) -> Any:
        """See `Part.static`."""
        other = super().static()
        other.first, other.then = self.first.static(), self.then.static()
        return other

    @property
    def DIMS(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Filter.DIMS`."""
        return self.first.DIMS if self.then.DIMS is None else self.then.DIMS

    def _in_loop(self) -> bool:
        before = self.first._in_loop() if isinstance(self.first, Piped) else True
        return before and self.then.SPATIAL

    def values(self, unit: Any, time_unit: str) -> Arrays:
        """See `Part.values`."""
        first = {f"first.{k}": v for k, v in self.first.values(unit, time_unit).items()}
        then = self.then.values(self.first.out_unit(unit), time_unit)
        return first | {f"then.{k}": v for k, v in then.items()}

    def interval(self) -> Any:
        """See `Observer.interval`."""
        return self.first.interval()

    def stride(self, dt: float) -> int:
        """See `Observer.stride`."""
        return self.first.stride(dt)

    def start(self, p: Arrays, value: jax.Array) -> Any:
        """See `Observer.start`."""
        return self.first.start(_of(p, "first"), value)

    def page(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> Any:
        """See `Observer.page`."""
        return self.first.page(_of(p, "first"), memory, values, dt)

    def settled(self, p: Arrays, memory: Any) -> Any:
        """See `Observer.settled`."""
        return self.first.settled(_of(p, "first"), memory)

    def sample(self, p: Arrays, memory: Any) -> tuple[Any, Any]:
        """See `Observer.sample`."""
        memory, found = self.first.sample(_of(p, "first"), memory)
        return memory, self.then.at(_of(p, "then"), found) if self._in_loop() else found

    def samples(self, p: Arrays, memory: Any, values: jax.Array, dt: Any) -> tuple[Any, Any]:
        """See `Observer.samples`."""
        memory, found = self.first.samples(_of(p, "first"), memory, values, dt)
        return memory, self.then.at(_of(p, "then"), found) if self._in_loop() else found

    def whole(self, p: Arrays, x: Any, dt: float) -> Any:
        """See `Observer.whole`."""
        x = self.first.whole(_of(p, "first"), x, dt)
        return x if self._in_loop() else self.then.series(_of(p, "then"), x, self._step(dt))

    def _step(self, dt: float) -> float:
        """Time between the samples that reach the filter, in s."""
        return self.first.out_step(dt) if isinstance(self.first, Piped) else dt

    def out_step(self, dt: float) -> float:
        """Time between the samples of the result, in s."""
        return self._step(dt) if self._in_loop() else self.then.out_step(self._step(dt))

    def times(self, ts: Any, dt: float) -> Any:
        """See `Observer.times`."""
        ts = self.first.times(ts, dt)
        return ts if self._in_loop() else self.then.times(ts, self._step(dt))

    def out_unit(self, unit: Any) -> Any:
        """See `Observer.out_unit`."""
        return self.then.out_unit(self.first.out_unit(unit))

    def present(self, value: Any, unit: Callable[[Any, int], Any]) -> Any:
        """See `Observer.present`."""
        out = self.out_unit(u.get_unit(unit(1.0, 1)))
        return value if out == u.UNITLESS else value * out


def _of(p: Arrays, part: str) -> Arrays:
    return {k.removeprefix(f"{part}."): v for k, v in p.items() if k.startswith(f"{part}.")}
