"""From objects to pure functions: what a model holds as static description and plain arrays, and `lower`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainloom import delays, engine, modules, rollout
from brainloom.core.errors import BrainloomError
from brainloom.core.units import number, plain
from brainloom.engine import HISTORY, Arrays, Structure, Term
from brainloom.models.base import NeuralMass
from brainloom.models.results import as_shown


def node_structure(node: NeuralMass, method: str, dt: float) -> Structure:
    """Static description of uncoupled regions; see `brainloom.engine.Structure`."""
    from brainloom import integrate

    slots = node.noise_slots()
    found = Structure(
        model=type(node),
        method=integrate.check_method(method),
        white=tuple(node.noise_values()),
        processes=tuple((name, process.structure()) for name, process in slots.items()),
        terms=(),
        n_regions=node.varshape[0],
    )
    terms, lags = [], []
    for name, (source, receiver) in node.SELF_DELAYS.items():
        low, high = _delay_bounds(node, name)
        if high > 0.0:
            terms.append(Term(f"own_{name}", "own", source, receiver, delay=name))
            lags.append((low, high))
    if not terms:
        return found
    block, length = delays.block_and_length(min(x[0] for x in lags), max(x[1] for x in lags), dt)
    return replace(found, terms=tuple(terms), block=block, length=length)


def _delay_bounds(node: NeuralMass, name: str) -> tuple[float, float]:
    given = getattr(node, name)
    if isinstance(given, brainstate.nn.Param) and given.fit:
        low, high = next(p.bounds for p in node.PARAMETERS if p.name == name)
        return float(low), float(high)
    given = given.value() if isinstance(given, brainstate.nn.Param) else given
    unit = next(p.unit for p in node.PARAMETERS if p.name == name)
    try:
        value = number(given, unit, name, node.time_unit)
    except TypeError as error:
        raise BrainloomError(
            f"{name} of {type(node).__name__} is traced, so the length of its history is unknown; "
            "make it a Param and train that"
        ) from error
    return float(np.min(value)), float(np.max(value))


def node_values(node: NeuralMass) -> Arrays:
    """Constrained parameters of nodes and their noise as a flat dict of plain arrays."""
    found = node.parameter_values()
    found |= {f"noise_{name}": value for name, value in node.noise_values().items()}
    for slot, process in node.noise_slots().items():
        owner = f"{slot} of {type(node).__name__}"
        values = process.parameter_values(node.noise_unit(slot), node.time_unit, owner)
        found |= {f"noise_{slot}.{name}": value for name, value in values.items()}
    return found


def all_values(model: Any) -> Arrays:
    """Constrained parameters of a model or network as a flat dict of plain arrays."""
    return node_values(model) if isinstance(model, NeuralMass) else model.parameter_values()


def node_of(model: Any) -> NeuralMass:
    """The regions of a network, or the model itself."""
    return model if isinstance(model, NeuralMass) else model.node


def start(
    model: Any, structure: Structure, p: Arrays, batch_size: int | None, key: jax.Array | None
) -> Arrays:
    """Initial state of everything: regions, noise signals and histories."""
    node = node_of(model)
    state = node.initial_values(batch_size, key)
    shape = node.varshape if batch_size is None else (batch_size, *node.varshape)
    state = state | engine.start_noise(structure, p, shape, key)
    return state | engine.start_history(structure, p, state)


def plain_time(value: Any, name: str, time_unit: str) -> float:
    """A duration as a number in the time unit of a model."""
    return float(number(value, "time", name, time_unit))


@dataclass(frozen=True)
class Lowered:
    """
    Pure functions of a model or network on plain arrays; see `lower`.

    Attributes
    ----------
    init : ``init(params, key=None, batch_size=None) -> state``
    step : ``step(params, state, inputs, noise, t) -> (state, outputs)``
    advance : ``advance(params, state, inputs, noise, t)``: leading axis of `noise` and `outputs` is time
    field : ``field(params, state, inputs, t) -> derivative``, coupling included, delays left out
    constrain : ``constrain(params) -> values`` in the units of the model
    params : flat dict of arrays: unconstrained where a parameter is a trainable ``Param``
    trainable : names of those
    noise_shape : (channel, region), the unit-variance increments of one step
    structure : Structure
    """

    init: Callable[..., Arrays]
    step: Callable[..., tuple[Arrays, Arrays]]
    advance: Callable[..., tuple[Arrays, Arrays]]
    field: Callable[..., Arrays]
    constrain: Callable[[Arrays], Arrays]
    params: Arrays
    trainable: tuple[str, ...]
    noise_shape: tuple[int, int]
    structure: Structure | None


def lower(model: Any, dt: Any, method: str | None = None) -> Lowered:
    """
    Turn a model or network into pure functions.

    Parameters
    ----------
    model : NeuralMass or Network
    dt : float or Quantity
        Time step; plain numbers in the time unit of the model.
    method : str, optional
        See `brainloom.integrate`; that of the model if not given. Coupling without delay is evaluated at every
        stage of the scheme.

    Returns
    -------
    Lowered
        States are dicts of arrays (..., region); leading axes are batches. `inputs` maps port names to arrays
        that are held over a step; for `advance` they have a leading time axis, or are numbers. Noise of shape (channel, ...,
        region), one channel a noisy state, is scaled inside.

    Notes
    -----
    The functions hold no state and can be used under ``jit``, ``vmap``, ``grad`` and ``lax.scan``. With delays the
    state holds the histories; `advance` reads them once a block.

    Examples
    --------
    >>> from brainloom.models import LinearStep
    >>> low = lower(LinearStep(2, gamma=-1.0), 0.1)
    >>> state, out = low.step(low.params, low.init(low.params), {}, None, 0.0)
    >>> round(float(out["source"][0]), 6)  # exp(-0.1), from x = 1
    0.904837
    """
    if not hasattr(model, "structure"):
        return _lowered_module(model, dt)
    node = node_of(model)
    step_size = plain_time(dt, "dt", node.time_unit)
    structure = model.structure(node.method if method is None else method, step_size)
    values = all_values(model)
    given = model.trainable()
    raw = {name: param.val.value for name, param in given.items()}

    def constrain(params: Arrays) -> Arrays:
        found = dict(params)
        for name, param in given.items():
            value = param.t.forward(params[name])
            value = value if param.precompute is None else param.precompute(value)
            found[name] = model.read_value(name, value)
        return model.derived_values(found)

    def prepared(params: Arrays) -> Arrays:
        return engine.prepare(structure, constrain(params), step_size)

    def init(params: Arrays, key: jax.Array | None = None, batch_size: int | None = None) -> Arrays:
        return start(model, structure, prepared(params), batch_size, key)

    def outputs(p: Arrays, state: Arrays, ports: Any) -> Arrays:
        found = {}
        for name, one in structure.model.observables().items():
            found[name] = one.function(p, state, ports()) if one.driven else one.function(p, state)
        return found

    def advance(
        params: Arrays, state: Arrays, inputs: Arrays, noise: Any, t: Any = 0.0
    ) -> tuple[Arrays, Arrays]:
        held = {name: value for name, value in inputs.items() if jnp.ndim(value) == 0}
        series = {name: value for name, value in inputs.items() if name not in held}
        rows = jax.tree.leaves((noise, series))
        if not rows:
            raise ValueError(
                "advance takes its number of steps from noise or inputs; give noise of (steps, 0, region)"
            )
        return _advance(params, state, rollout.Drive(held, series), noise, t, rows[0].shape[0])

    def step(
        params: Arrays, state: Arrays, inputs: Arrays, noise: Any = None, t: Any = 0.0
    ) -> tuple[Arrays, Arrays]:
        one = None if noise is None else noise[None]
        state, found = _advance(params, state, rollout.Drive(dict(inputs), {}), one, t, 1)
        return state, jax.tree.map(lambda x: x[0], found)

    def _advance(
        params: Arrays, state: Arrays, drive: Any, noise: Any, t: Any, n: int
    ) -> tuple[Arrays, Arrays]:
        p = prepared(params)
        watch = rollout.Watch(every=1, emit=lambda s, ports: outputs(p, s, ports))
        first = jnp.asarray(t, jnp.result_type(float)) / step_size
        state, found, _ = rollout.run_page(structure, p, state, noise, drive, first, step_size, n, watch)
        return state, found

    def vector_field(params: Arrays, state: Arrays, inputs: Arrays, t: Any = 0.0) -> Arrays:
        return engine.field(structure, prepared(params), state, inputs, t)

    shape = (structure.channels, structure.n_regions)
    return Lowered(init, step, advance, vector_field, constrain, values | raw, tuple(given), shape, structure)


def _lowered_module(model: Any, dt: Any) -> Lowered:
    """`lower` for a module that is not a `NeuralMass`: its own ``update`` is the step, in the order of its arguments."""
    low = modules.lower_module(model, dt)

    def init(params: Arrays, key: jax.Array | None = None, batch_size: int | None = None) -> Arrays:
        return low.state if batch_size is None else modules.lower_module(model, dt, None, batch_size).state

    def step(
        params: Arrays, state: Arrays, inputs: Any, noise: Any = None, t: Any = 0.0
    ) -> tuple[Arrays, Any]:
        given = tuple(inputs.values()) if isinstance(inputs, dict) else tuple(inputs)
        state, found = low.step(
            params, state, given, t * brainunit_of(dt), jnp.floor(t / plain_of(dt) + 1e-6)
        )
        return state, {"output": found}

    def advance(
        params: Arrays, state: Arrays, inputs: Any, noise: Any = None, t: Any = 0.0
    ) -> tuple[Arrays, Any]:
        rows = jax.tree.leaves((noise, inputs))
        if not rows:
            raise ValueError(
                "advance takes its number of steps from noise or inputs; give noise of (steps, 0, 0)"
            )

        def one(carry: tuple, row: Any) -> tuple[tuple, Any]:
            state, now = carry
            state, found = step(params, state, row, None, now)
            return (state, now + plain_of(dt)), found

        start = (state, jnp.asarray(t, jnp.result_type(float)))
        (state, _), found = jax.lax.scan(one, start, inputs, length=rows[0].shape[0])
        return state, found

    def field(*_: Any) -> Arrays:
        raise TypeError(f"{type(model).__name__} has no right-hand side; only NeuralMass models have a field")

    return Lowered(init, step, advance, field, dict, low.params, tuple(low.params), (0, 0), None)


def plain_of(dt: Any) -> float:
    """A time step in its own unit."""
    return float(getattr(dt, "mantissa", dt))


def brainunit_of(dt: Any) -> Any:
    """The unit of a time step, 1 for a plain number."""
    return getattr(dt, "unit", 1.0)


def stateful_step(owner: Any, node: NeuralMass, inputs: Arrays) -> Any:
    """
    One step of a model or network that keeps its states in ``HiddenState`` variables.

    Histories and noise signals are kept by `owner` in a variable of their own, made at the first step.
    """
    dt = plain_time(brainstate.environ.get("dt"), "dt", node.time_unit)
    t = brainstate.environ.get("t", 0.0)
    t = plain(t, "time", "t", node.time_unit)
    structure = owner.structure(node.method, dt)
    p = engine.prepare(structure, all_values(owner), dt)
    own = {name: getattr(node, name).value for name in node.state_names()}
    own = {
        s.name: plain(own[s.name], s.unit, s.name, node.time_unit) for s in node.STATES
    }  # what a user wrote may have a unit
    shape = own[node.state_names()[0]].shape
    memory = owner._memory
    if memory is None and (structure.histories or structure.processes):
        if any(isinstance(x, jax.core.Tracer) for x in own.values()):
            raise BrainloomError(
                f"{type(owner).__name__} keeps a history that was not made before this loop was compiled; call "
                "init_state() while brainstate.environ holds dt"
            )
        memory = _new_memory(structure, p, own, shape)
        owner._memory = memory
    noise = None
    if structure.channels:
        noise = brainstate.random.randn(structure.channels, *shape)[None]
    state = own | ({} if memory is None else memory.value)
    state, _, _ = rollout.run_page(
        structure, p, state, noise, rollout.Drive(inputs, {}), t / dt, dt, 1, rollout.Watch()
    )
    for name in own:
        getattr(node, name).value = state[name]
    if memory is not None:
        memory.value = {name: value for name, value in state.items() if name not in own}
    source = node.observables()["source"]
    return as_shown(source.function(p, state), source, node.time_unit)


def fresh_memory(owner: Any, node: NeuralMass, batch_size: int | None) -> Any:
    """
    Histories and noise signals at the start of a stateful run, as a state variable; None if there are none.

    They need dt; without it in ``brainstate.environ`` they are made at the first step.
    """
    dt = brainstate.environ.get("dt", None)
    if dt is None:
        return None
    dt = plain_time(dt, "dt", node.time_unit)
    structure = owner.structure(node.method, dt)
    if not structure.histories and not structure.processes:
        return None
    p = engine.prepare(structure, all_values(owner), dt)
    shape = node.varshape if batch_size is None else (batch_size, *node.varshape)
    return _new_memory(structure, p, node.initial_values(batch_size), shape)


def _new_memory(structure: Structure, p: Arrays, own: Arrays, shape: tuple[int, ...]) -> Any:
    key = brainstate.random.split_key() if structure.processes else None
    kept = engine.start_noise(structure, p, shape, key) | engine.start_history(structure, p, own)
    return brainstate.ShortTermState(kept) if kept else None


__all__ = [
    "HISTORY",
    "Lowered",
    "all_values",
    "lower",
    "node_of",
    "node_structure",
    "node_values",
    "stateful_step",
]
