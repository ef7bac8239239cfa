"""What a run is asked for: intervals as numbers of steps, monitors as observables, inputs as arrays of ports."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from brainloom.core.units import number, parse, quantity
from brainloom.engine import Arrays
from brainloom.models.base import NeuralMass
from brainloom.models.lowering import node_of
from brainloom.observe.base import Observer

Monitors = str | Sequence[str] | Callable | Mapping[str, Any] | None


def interval_steps(interval: Any, dt: float, unit: str, name: str = "sample_every", *, least: int = 1) -> int:
    """
    Number of steps of a time interval; integers are numbers of steps already.

    Raises
    ------
    ValueError
        dt does not divide the interval; the message names the nearest dt that does.
    """
    if isinstance(interval, (int, np.integer)) and not isinstance(interval, bool):
        steps = int(interval)
    else:
        length = float(number(interval, "time", name, unit))
        steps = round(length / dt)
        if abs(steps * dt - length) > 1e-6 * abs(length) + 1e-12:
            what = "the sampling interval" if name == "sample_every" else name
            raise ValueError(
                f"dt {dt:g} does not divide {what} {length:g}; use dt {length / max(steps, 1):g}"
            )
    if steps < least:
        raise ValueError(f"{name} is {interval}; it must be at least {least} step{'s' * (least != 1)}")
    return steps


def window_samples(truncate: Any, dt: float, unit: str, times: Sampling) -> int:
    """
    Base samples of a window of truncated backpropagation.

    Raises
    ------
    ValueError
        A sample of some result would fall into two windows.
    """
    steps = interval_steps(truncate, dt, unit, "truncate")
    rows = times.every * math.lcm(times.ratio, *times.ratios)
    if steps % rows:
        raise ValueError(
            f"truncate is {steps * dt:g} {unit}; it must be a multiple of the sampling interval, {rows * dt:g} {unit}, "
            "so that the gradient of each sample stays in one window"
        )
    return steps // times.every


def whole_steps(duration: Any, dt: float, unit: str) -> int:
    """Number of steps of a run; a rest shorter than dt is dropped with a warning."""
    ratio = float(number(duration, "time", "duration", unit)) / dt
    steps = round(ratio)
    if abs(ratio - steps) > 1e-6 * max(1.0, abs(ratio)):
        steps = int(np.floor(ratio))
        warnings.warn(f"duration {duration} is not a multiple of dt; it runs for {steps} steps", stacklevel=3)
    if steps < 1:
        raise ValueError(f"duration {duration} is shorter than one step of {dt:g} {unit}")
    return steps


def monitor_names(model: Any, monitors: Monitors) -> tuple[tuple[str, Any], ...]:
    """
    Names of the results and what they are: an observable or a function of the model.

    Raises
    ------
    ValueError
        An unknown observable; the message lists the known ones.
    """
    known = node_of(model).observables()
    if monitors is None:
        given: dict[str, Any] = {"output": "source"}
    elif callable(monitors):
        given = {"output": monitors}
    elif isinstance(monitors, str):
        given = {monitors: monitors}
    elif isinstance(monitors, Mapping):
        given = dict(monitors)
    else:
        given = {name: name for name in monitors}
    found = []
    for name, what in given.items():
        if isinstance(what, str):
            what = what.removeprefix("node.")
            if what not in known:
                raise ValueError(
                    f"{type(node_of(model)).__name__} has no observable {what!r}; it has {', '.join(known)}"
                )
        found.append((name, what))
    return tuple(found)


def check_observers(node: NeuralMass, observers: tuple, monitors: tuple[tuple[str, Any], ...]) -> None:
    """
    Check that observers know their observables and that results do not share a name.

    Raises
    ------
    TypeError
        Something that is not an observer.
    ValueError
        An unknown observable, or a name that is taken.
    """
    known = node.observables()
    taken = {"ts", "diverged", *(name for name, _ in monitors)}
    for one in observers:
        if not isinstance(one, Observer):
            raise TypeError(
                f"observe holds a {type(one).__name__}; give observers, such as brainloom.observe.BOLD(tr)"
            )
        if one.source not in known:
            raise ValueError(
                f"observer {one.name} cannot watch {one.source!r} of {type(node).__name__}; it can {', '.join(known)}"
            )
        if one.name in taken:
            raise ValueError(f"two results are called {one.name!r}; give the observer another name")
        taken.add(one.name)


def observer_values(node: NeuralMass, observers: tuple) -> Arrays:
    """Parameters of observers as plain arrays, beside those of the model."""
    found: Arrays = {}
    for one in observers:
        what = node.observables()[one.source]
        unit = parse(what.shown or what.unit, node.time_unit)
        values = one.values(unit, node.time_unit)
        found |= {f"observe.{one.name}.{name}": value for name, value in values.items()}
    return found


def shown_factor(node: NeuralMass, source: str) -> float:
    """Factor from the unit of the equations to that of results."""
    what = node.observables()[source]
    if not what.shown:
        return 1.0
    return float(number(quantity(1.0, what.unit, node.time_unit), what.shown, source))


class Sampling(NamedTuple):
    """Times of a run, in the words of `brainloom.run_plan.Plan`."""

    every: int
    ratio: int
    ratios: tuple[int, ...]
    strides: tuple[int, ...]


def sampling(
    node: NeuralMass, observers: tuple, monitors: tuple, sample_every: Any, dt: float, n_steps: int
) -> Sampling:
    """
    Sampling intervals of a run.

    Raises
    ------
    ValueError
        An interval is longer than the run.
    """
    unit = node.time_unit
    given = None if sample_every is None else interval_steps(sample_every, dt, unit)
    intervals = []
    for one in observers:
        own = one.interval()
        steps = given or 1 if own is None else interval_steps(own, dt, unit, f"the interval of {one.name}")
        intervals.append(steps)
    needed = [(given or 1, "sample_every")] if monitors else []
    needed += [
        (k, f"the sampling interval of {one.name}")
        for k, one in zip(intervals, observers, strict=True)
        if one.SAMPLES
    ] or [(given or 1, "sample_every")] * (not monitors)
    for steps, name in needed:
        if steps > n_steps:
            raise ValueError(
                f"{name} ({steps} steps) is longer than what is left of the run ({n_steps} steps)"
            )
    every = math.gcd(*(steps for steps, _ in needed))
    ratios = tuple(k // every if one.SAMPLES else 1 for k, one in zip(intervals, observers, strict=True))
    second = float(number(quantity(1.0, "time", unit), "s", "dt"))
    strides = tuple(
        _divisor(k if one.SAMPLES else every, one.stride(dt * second))
        for k, one in zip(intervals, observers, strict=True)
    )
    return Sampling(every, (given or 1) // every if monitors else 1, ratios, strides)


def _divisor(n: int, most: int) -> int:
    """Largest divisor of `n` that is not above `most`."""
    return next(k for k in range(max(1, min(n, most)), 0, -1) if n % k == 0)


def port_inputs(node: NeuralMass, inputs: Any, n_steps: int, dt: float) -> tuple[Arrays, Arrays, Any]:
    """Inputs as constants, rows a step, and a function of time; units checked."""
    if inputs is None:
        return {}, {}, None
    if callable(inputs):
        return {}, {}, _TimeInputs(inputs, node, dt)
    first = node.port_names()[0] if node.PORTS else ""
    given = dict(inputs) if isinstance(inputs, Mapping) else {first: inputs}
    values = node.port_values(**given)
    held, series = {}, {}
    for name, value in values.items():
        if isinstance(inputs, Mapping) and (value.ndim == 0 or (value.ndim == 1 and len(value) != n_steps)):
            held[name] = value
        elif value.ndim == 0 or value.shape[0] != n_steps:
            raise ValueError(
                f"inputs of {name} have {np.shape(value)[:1] or 'no'} rows but the run has {n_steps} steps"
            )
        else:
            series[name] = value[:, None] if value.ndim == 1 else value
    return held, series, None


class _TimeInputs:
    """Inputs as a function of time; equal for the same function, model class and dt, so programs are shared."""

    def __init__(self, function: Callable, node: NeuralMass, dt: float) -> None:
        self.function, self.node = function, node
        code = getattr(function, "__code__", None)
        bound = getattr(function, "__self__", None) is not None
        self.both = code is not None and code.co_argcount - bound >= 2
        self.dt = dt if self.both else None  # only the number of a step depends on it

    def _same(self) -> tuple:
        return self.function, type(self.node), self.node.time_unit, self.dt

    def __hash__(self) -> int:
        return hash(self._same())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _TimeInputs) and self._same() == other._same()

    def __call__(self, t: Any) -> Arrays:
        time = quantity(t, "time", self.node.time_unit)
        if self.both:
            # the step that has begun; a hundredth of a step is more than times are rounded by
            found = self.function(jnp.floor(t / self.dt + 0.01).astype(jnp.int32), time)
        else:
            found = self.function(time)
        if isinstance(found, Mapping):
            return self.node.port_values(**found)
        return self.node.port_values(*(found if isinstance(found, tuple) else (found,)))


class Looker:
    """The model in a given state, for monitors that are functions of it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, state: Arrays) -> Any:
        node = node_of(self.model).with_state(state)
        if node_of(self.model) is self.model:
            return node
        other = copy.copy(self.model)
        object.__setattr__(other, "node", node)
        return other
