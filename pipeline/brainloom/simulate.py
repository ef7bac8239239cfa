"""Run a model or network in time: sampled inside the loop, batched, continued, differentiated."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainloom import checkpoints, engine, reverse, runs, stiffness
from brainloom.arguments import (
    Looker,
    Monitors,
    check_observers,
    interval_steps,
    monitor_names,
    observer_values,
    port_inputs,
    sampling,
    shown_factor,
    whole_steps,
    window_samples,
)
from brainloom.core.errors import BrainloomError
from brainloom.core.units import number, plain, quantity, shown
from brainloom.engine import Arrays
from brainloom.forward import forward
from brainloom.models.base import NeuralMass
from brainloom.models.lowering import all_values, node_of
from brainloom.models.results import as_shown, powered
from brainloom.modules import run_module
from brainloom.network import Network
from brainloom.run_plan import Plan
from brainloom.trajectories import Trajectories


class DivergenceError(BrainloomError, FloatingPointError):
    """A simulation left the range of numbers; the sentence says when and what to change."""


class Simulator:
    """
    Simulate a model or network.

    Parameters
    ----------
    model : NeuralMass, Network or brainstate module
        A module that brainloom does not know is run by its ``update``.
    dt : number or Quantity, optional
        Time step; plain numbers are in the time unit of the model. ``brainstate.environ``'s if not given.
    method : str, optional
        See `brainloom.integrate`; that of the model if not given.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainloom.models import HopfStep
    >>> res = Simulator(HopfStep(2, a=0.25), dt=0.1 * u.ms).run(20 * u.ms, monitors=["x"], transient=5 * u.ms)
    >>> res["x"].shape, res["ts"][0]
    ((150, 2), 5.1 * ms)
    """

    def __init__(self, model: Any, dt: Any = None, *, method: str | None = None) -> None:
        self.model = model
        self.method = method
        self.dt = dt
        if dt is not None and not isinstance(dt, jax.core.Tracer):
            size = float(np.asarray(getattr(dt, "mantissa", dt)))
            if not size > 0:
                raise ValueError(f"dt is {dt}; it must be positive")
        self._left: tuple[Any, int] | None = None  # where the last run ended: its carry and its step

    def run(
        self,
        duration: Any,
        *,
        inputs: Any = None,
        monitors: Monitors = None,
        observe: Sequence[Any] = (),
        transient: Any = None,
        sample_every: Any = None,
        batch_size: int | None = None,
        key: jax.Array | None = None,
        noise: str = "gaussian",
        remat: bool = True,
        memory: float | str | None = None,
        truncate: Any = None,
        initial: Mapping[str, Any] | None = None,
        history: Mapping[str, Any] | None = None,
        init_states: bool = True,
        progress: bool | None = None,
        check: bool = True,
    ) -> Trajectories:
        """
        Simulate and return what was asked for.

        Parameters
        ----------
        duration : number or Quantity
            Simulated time, the transient included.
        inputs : array, dict of arrays, callable, optional
            What arrives at the ports. An array has one row a step, (step, ...), for the first port; a dict names
            the ports, and its values may be constants. A callable ``f(i, t)`` or ``f(t)`` returns a value for the
            first port, a tuple in the order of the ports, or a dict; it is sampled at the stages of each step.
            Arrays are held over a step.
        monitors : str, sequence of str, callable or dict, optional
            Observables by name (``"x"``, ``"node.x"``); a callable gets the model in its present state, its value
            is called ``output``; a dict gives names. Without monitors and observers ``output`` is the source
            observable.
        observe : sequence of observers, optional
            Streaming observers, see `brainloom.observe`; they see every step and keep no trajectory.
        transient : number, Quantity or int, optional
            Time, or number of steps, that is simulated first and dropped.
        sample_every : number, Quantity or int, optional
            Sampling interval, a multiple of dt, or a number of steps; every step if not given.
        batch_size : int, optional
            Independent realisations: results are (time, batch, region).
        key : jax.random key, optional
            Noise and random starts. Draws are a function of key, realisation, step and region: they depend
            neither on the batch size nor on how a run is cut into pieces. Without a key a noisy model takes one
            from ``brainstate.random``, which is an error inside ``jax.jit`` and its like.
        noise : {"gaussian", "weak", "three_point"}
            Law of the increments, see `brainloom.noise.counter.increments`.
        remat : bool
            Keep only the start of every page of 200 steps for the gradient and compute the rest again.
        memory : number or str, optional
            Most bytes that the gradient of this run may hold, such as ``"500 MB"``: checkpoints of groups of pages,
            and shorter pages, where they are needed. Without it memory grows by one state (histories included) a
            page. In a batch by `jax.vmap` it holds for each member.
        truncate : number or Quantity, optional
            Time after which the gradient ends: none flows from one such window to the one before, nor into the
            transient. The run itself is the same. A multiple of all sampling intervals.
        initial : dict of arrays, optional
            Start of states, (region,) or (batch, region).
        history : dict of (sample, region) arrays, optional
            Delayed observables before time 0, one sample a step, the newest (time 0) last; what is older than the
            first sample repeats it. Without it the start is held constant.
        init_states : bool
            False continues the last run of this simulator: state, histories, noise and time.
        progress : bool, optional
            Show a progress bar; by default for runs that take more than about ten seconds.
        check : bool
            Warn if dt is too long for the fastest rate at the start.

        Returns
        -------
        Trajectories
            A dict, and a pytree, with ``.to_xarray()``. The monitors, (time, [batch,] region) arrays, with units where they have one; ``ts`` (time,), the
            time after each sampled step; ``diverged``, one bool or one a realisation.

        Raises
        ------
        DivergenceError
            A single run diverged. In a batch the realisations that did are flagged, with a warning.
        ValueError
            Intervals that dt does not divide, unknown monitors, a missing key.
        """
        if not isinstance(self.model, (NeuralMass, Network)):
            unused = {
                "observe": observe,
                "initial": initial,
                "history": history,
                "init_states": not init_states,
                "memory": memory is not None,
                "truncate": truncate is not None,
            }
            refused = [name for name, given in unused.items() if given]
            if refused:
                raise ValueError(
                    f"{type(self.model).__name__} is run by its own update and cannot take {', '.join(refused)}; "
                    "build it on brainloom.models.NeuralMass for that"
                )
            return run_module(
                self.model,
                self._step_of_environment(),
                duration,
                inputs=inputs,
                monitors=monitors,
                transient=transient,
                sample_every=sample_every,
                batch_size=batch_size,
                remat=remat,
            )
        node = node_of(self.model)
        unit = node.time_unit
        dt = float(number(self._step_of_environment(), "time", "dt", unit))
        n_transient = 0 if transient is None else interval_steps(transient, dt, unit, "transient", least=0)
        n_steps = whole_steps(duration, dt, unit)
        if n_transient >= n_steps:
            raise ValueError(
                f"transient ({n_transient} steps) must be shorter than the run ({n_steps} steps)"
            )
        structure = self.model.structure(self.method or node.method, dt)
        watched = tuple(observe)
        names = monitor_names(self.model, [] if monitors is None and observe else monitors)
        check_observers(node, watched, names)
        values = all_values(self.model) | observer_values(node, watched)
        held, series, function = port_inputs(node, inputs, n_steps, dt)
        looker = Looker(self.model) if any(callable(what) for _, what in names) else None
        times = sampling(node, watched, names, sample_every, dt, n_steps - n_transient)
        plan = Plan(
            structure,
            times.every,
            names,
            tuple(one.static() for one in watched),
            noise,
            batch_size,
            function,
            looker,
            times.ratio,
            times.ratios,
            times.strides,
            tuple(shown_factor(node, one.source) for one in watched),
        )
        n_samples = (n_steps - n_transient) // times.every
        traced = _is_traced((values, held, series, initial, key))
        if memory is not None and not remat:
            raise ValueError(
                f"remat is False and memory is {memory!r}; leave remat out, memory says what is kept"
            )
        window = None if truncate is None else window_samples(truncate, dt, unit, times)
        if key is None and (structure.channels or _starts_at_random(node)):
            key = _key_of_brainstate()
        first = 0
        step = jnp.asarray(dt, jnp.result_type(float))
        if init_states or self._left is None:
            state = _given_start(node, node.initial_values(batch_size, key), initial)
            seed = jax.random.key(0) if key is None else key
            state, kept_by_observers = runs.opening(plan, values, state, seed, key is not None, step)
            carry = (_given_history(node, state, history or {}, structure), kept_by_observers)
            if check:
                stiffness.check(structure, values, state, dt, unit)
        else:
            (state, _), first = self._left
            carry = (state, runs.watch_anew(plan, values, state, step))
        words = runs.realisation_words(jax.random.key(0) if key is None else key, batch_size)
        call = (
            values,
            carry,
            words,
            held,
            series,
            jnp.asarray(first, jnp.int32),
            step,
        )
        if traced or series:
            kept = reverse.Checkpoints(int(remat), window)
            if memory is not None:
                plan, kept = checkpoints.chosen(plan, n_transient, n_samples, window, memory, call)
            carry, found = reverse.run_fixed(plan, n_transient, n_samples, kept, *call)
        else:
            carry, found = forward(plan, n_transient, n_samples, call, progress)
        base = first + n_transient + times.every * np.arange(1, n_samples + 1)
        last = first + n_transient + n_samples * times.every
        return self._result(plan, watched, values, carry, found, base, dt, batch_size, last)

    def _step_of_environment(self) -> Any:
        dt = brainstate.environ.get("dt", None) if self.dt is None else self.dt
        if dt is None:
            raise ValueError("dt is not set; pass Simulator(model, dt=...) or brainstate.environ.set(dt=...)")
        return dt

    def _result(
        self,
        plan: Plan,
        watched: tuple,
        values: Arrays,
        carry: tuple,
        found: dict,
        base: np.ndarray,
        dt: float,
        batch: int | None,
        last: int,
    ) -> Trajectories:
        node = node_of(self.model)
        unit = node.time_unit
        state, memory = carry
        known = node.observables()
        result = Trajectories(units={"ts": unit})
        lead = () if batch is None else ("realisation",)
        main = plan.ratio if plan.monitors else next((m for m in plan.ratios), 1)
        for name, _ in plan.monitors:
            value, what = found[name], dict(plan.monitors)[name]
            result[name] = as_shown(value, known[what], unit) if isinstance(what, str) else value
            if isinstance(what, str):
                result.dims[name] = ("time", *lead, "region")
                result.units[name] = known[what].shown or shown(known[what].unit, unit)
        second = float(number(quantity(1.0, "time", unit), "s", "dt"))
        ends = base * dt
        for one, kept, ratio in zip(watched, memory, plan.ratios, strict=True):
            q, show = (
                runs.parameters_of(values, one.name),
                partial(powered, one=known[one.source], time_unit=unit),
            )
            final = one.finish(q, kept)
            value, timed = final, final is None
            if timed and one.name in found:
                step = ratio * plan.every * dt * second
                value = one.whole(q, found[one.name], step)
                own = one.times(ends[ratio - 1 :: ratio] * second, step)
                if len(own) != len(ends[main - 1 :: main]) or not np.allclose(
                    own, ends[main - 1 :: main] * second
                ):
                    result[f"{one.name}_ts"] = quantity(jnp.asarray(own / second), "time", unit)
                    result.units[f"{one.name}_ts"] = unit
            if value is not None:
                result[one.name] = one.present(value, show)
                own_time = f"{one.name}_time" if f"{one.name}_ts" in result else "time"
                result.dims[one.name] = (*((own_time,) if timed else ()), *lead, *one.DIMS)
        result["ts"] = quantity(jnp.asarray(ends[main - 1 :: main], jnp.result_type(float)), "time", unit)
        result["diverged"] = ~runs.all_finite({name: state[name] for name in node.state_names()})
        if not _is_traced((state,)):
            self._left = (carry, last)
            _write_states(node, state)
            _report(np.asarray(result["diverged"]), float(ends[-1]), unit, self.model)
        return result


def _key_of_brainstate() -> jax.Array:
    with jax.ensure_compile_time_eval():
        brainstate.random.DEFAULT.check_if_deleted()  # its first key is made now, never inside a trace
    try:
        return brainstate.random.split_key()
    except brainstate.TraceContextError as error:
        raise ValueError(
            "a noisy model inside a transformation of jax needs its noise named: pass key="
        ) from error


def _starts_at_random(node: NeuralMass) -> bool:
    return any(s.draw is not None and getattr(node, f"init_{s.name}") is None for s in node.STATES)


def _given_start(node: NeuralMass, state: Arrays, initial: Any) -> Arrays:
    if not initial:
        return state
    unknown = set(initial) - set(node.state_names())
    if unknown:
        raise ValueError(
            f"{type(node).__name__} has no state {', '.join(sorted(unknown))}; it has {', '.join(node.state_names())}"
        )
    units = {s.name: s.unit for s in node.STATES}
    given = {
        name: jnp.broadcast_to(
            plain(value, units[name], f"initial {name}", node.time_unit), state[name].shape
        )
        for name, value in initial.items()
    }
    return state | given


def _given_history(node: NeuralMass, state: Arrays, history: Mapping[str, Any], structure: Any) -> Arrays:
    known = node.observables()
    unknown = set(history) - set(structure.histories)
    if unknown:
        stored = ", ".join(structure.histories) or "none"
        raise ValueError(
            f"history of {', '.join(sorted(unknown))} is not needed; delayed observables: {stored}"
        )
    found = dict(state)
    for name, given in history.items():
        past = plain(given, known[name].unit, f"history of {name}", node.time_unit)
        if past.ndim != 2 or past.shape[1] != structure.n_regions or past.shape[0] < 1:
            raise ValueError(
                f"history of {name} has shape {past.shape}; it must be (sample, {structure.n_regions})"
            )
        missing = max(0, structure.length - past.shape[0])
        rows = jnp.concatenate([jnp.repeat(past[:1], missing, axis=0), past])[-structure.length :]
        rows = rows.T.reshape(*rows.T.shape, *(1,) * (state[engine.HISTORY + name].ndim - 2))
        found[engine.HISTORY + name] = jnp.broadcast_to(rows, state[engine.HISTORY + name].shape)
    return found


def _is_traced(tree: Any) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _write_states(node: NeuralMass, state: Arrays) -> None:
    """Leave the model in its last state, as a run of its own `update` would."""
    for name in node.state_names():
        setattr(node, name, brainstate.HiddenState(state[name]))


def _report(diverged: np.ndarray, end: float, unit: str, model: Any) -> None:
    name = type(node_of(model)).__name__
    advice = "use a smaller dt, less noise or weaker coupling"
    if diverged.ndim == 0 and diverged:
        raise DivergenceError(f"the simulation of {name} diverged before {end:g} {unit}; {advice}")
    if diverged.any():
        lost = ", ".join(str(k) for k in np.flatnonzero(diverged)[:8])
        warnings.warn(
            f"{int(diverged.sum())} of {diverged.size} simulations of {name} diverged before {end:g} {unit} "
            f"(realisations {lost}); {advice}",
            stacklevel=4,
        )
