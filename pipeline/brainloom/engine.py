"""
The time loop of nodes and networks: pure functions on plain arrays.

Everything that runs a model runs these: one field, one step, one page of steps. A page is what is simulated
between two draws of noise; within it delayed networks go block by block (see `brainloom.delays`).

Shapes: a state variable is (..., region) with any batch axes in front; a history is (region, sample, ...) with
the batch axes behind; noise is (channel, ..., region) for one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import coupling, delays, integrate

Arrays = dict[str, jax.Array]
HISTORY = "history."


@dataclass(frozen=True)
class Term:
    """
    One input of the regions that depends on their states.

    Attributes
    ----------
    name : str
        Prefix of its parameters.
    kind : str
        Coupling function; ``own`` reads a region's own delayed observable.
    source, port : str
    weights : str
        Key of the weights among the parameters.
    delay : str
        Key of the delays (target, source); empty if there are none.
    listed : bool
        Connections are a padded list of sources, not a full matrix.
    """

    name: str
    kind: str
    source: str
    port: str
    weights: str = ""
    delay: str = ""
    listed: bool = False


@dataclass(frozen=True)
class Structure:
    """
    What compiled programs are keyed by: everything about a model that is not an array.

    Attributes
    ----------
    model : type
        Class with `rhs`, `observables`, `state_names`.
    method : str
    white : tuple of str
        States with white noise of a plain amplitude.
    processes : tuple of (slot, structure)
        Noise processes by the state or port that they are attached to.
    terms : tuple of Term
    n_regions : int
    block, length : int
        Steps per read of the history and its samples; 0 without delays.
    """

    model: Any
    method: str
    white: tuple[str, ...]
    processes: tuple[tuple[str, tuple], ...]
    terms: tuple[Term, ...]
    n_regions: int
    block: int = 0
    length: int = 0

    @property
    def channels(self) -> int:
        """Independent draws of one region in one step."""
        return len(self.white) + len(self.processes)

    @property
    def histories(self) -> tuple[str, ...]:
        """Observables that are stored."""
        return tuple(dict.fromkeys(term.source for term in self.terms if term.delay))


# --- preparation: once a run, outside every loop ----------------------------------------------------------


def prepare(structure: Structure, values: Arrays, dt: Any) -> Arrays:
    """
    Parameters and what follows from them.

    Parameters
    ----------
    structure : Structure
    values : dict of arrays
        Constrained parameters of nodes, noise and couplings.
    dt : scalar

    Returns
    -------
    dict of arrays
        `values` and, for every coupling, transposed weights or the interpolation weights of its delays.
    """
    p = dict(values)
    for name in structure.white:
        p[f"noise_{name}.step"] = values[f"noise_{name}"] * jnp.sqrt(dt)
    for slot, process in structure.processes:
        made = getattr(process[0], "prepare", None)  # coefficients that depend on dt, made once a run
        if made is not None:
            found = made(process, process_parameters(p, slot), dt)
            p |= {f"noise_{slot}.{name}": value for name, value in found.items()}
    for term in structure.terms:
        if term.kind == "own":
            whole, fraction = delays.split(jnp.broadcast_to(values[term.delay], (structure.n_regions,)), dt)
            p |= {f"{term.name}.first": -whole[:, None] - 1, f"{term.name}.fraction": fraction[:, None]}
            p[f"{term.name}.sources"] = jnp.arange(structure.n_regions, dtype=jnp.int32)[:, None]
            p[f"{term.name}.listed"] = jnp.ones_like(fraction)[:, None]
            p[f"{term.name}.pair"] = delays.pair_weights(fraction[:, None], p[f"{term.name}.listed"])
            continue
        weights = values[term.weights]
        p[f"{term.name}.degree"] = jnp.sum(weights, axis=-1)
        weights = coupling.prepared_weights(term.kind, weights)
        if not term.delay and not term.listed:
            # transposed and laid out once: x @ V reads V row by row, and nothing is transposed in the loop
            p[f"{term.name}.V"] = jnp.asarray(weights).T
            p[f"{term.name}.W"] = weights
            continue
        sources = values[f"{term.name}.sources"]
        real = values[f"{term.name}.real"]
        p[f"{term.name}.listed"] = jnp.take_along_axis(weights, sources, axis=1) * real
        if term.delay:
            whole, fraction = delays.split(values[term.delay], dt)
            p[f"{term.name}.fraction"] = jnp.take_along_axis(fraction, sources, axis=1) * real
            p[f"{term.name}.first"] = (
                -jnp.take_along_axis(whole, sources, axis=1) * real.astype(jnp.int32) - 1
            )
            p[f"{term.name}.pair"] = delays.pair_weights(p[f"{term.name}.fraction"], p[f"{term.name}.listed"])
    return p


def start_history(structure: Structure, p: Arrays, state: Arrays) -> Arrays:
    """Histories held constant at the given state, as entries of a state."""
    found = {}
    for name in structure.histories:
        value = observe(structure, p, state, name)
        value = jnp.broadcast_to(value, state[structure.model.state_names()[0]].shape)
        first = jnp.moveaxis(value, -1, 0)[:, None]
        found[HISTORY + name] = jnp.repeat(first, structure.length, axis=1)
    return found


def start_noise(structure: Structure, p: Arrays, shape: tuple[int, ...], key: jax.Array | None) -> Arrays:
    """States of the noise signals, drawn from their stationary laws (their means without a key)."""
    found: Arrays = {}
    for index, (slot, process) in enumerate(structure.processes):
        if process[0].WHITE:
            continue
        # batch first: a realisation does not depend on their number
        draws = (*shape, process[0].n_start(process))
        dtype = jnp.result_type(float)
        normal = (
            jnp.zeros(draws, dtype)
            if key is None
            else jax.random.normal(jax.random.fold_in(key, 7919 + index), draws, dtype)
        )
        normal = jnp.moveaxis(normal, -1, 0)
        state = process[0].start(process, process_parameters(p, slot), normal)
        found |= {f"noise_{slot}.{k}": jnp.broadcast_to(v, shape) for k, v in state.items()}
    return found


# --- field -------------------------------------------------------------------------------------------------


def observe(
    structure: Structure, p: Arrays, state: Arrays, name: str, inputs: Arrays | None = None
) -> jax.Array:
    """One observable of the model at a state; `inputs` are needed by the driven ones."""
    found = structure.model.observables()[name]
    return found.function(p, state, inputs or {}) if found.driven else found.function(p, state)


def port_values(
    structure: Structure, p: Arrays, state: Arrays, inputs: Arrays, reads: dict[str, tuple] | None = None
) -> Arrays:
    """
    What arrives at the ports: inputs, couplings and noise signals.

    Parameters
    ----------
    structure : Structure
    p : dict of arrays
        From `prepare`.
    state, inputs : dict of arrays
    reads : dict of tuples of arrays, optional
        Sums over delayed sources, one a channel, by the name of the term. A delayed term without its read
        takes the present state, as if it had no delay.

    Returns
    -------
    dict of arrays
    """
    ports = dict(inputs)
    for term in structure.terms:
        given = None if reads is None else reads.get(term.name)
        if term.kind == "own":
            if given is not None:
                ports[term.port] = given[0]
            continue
        kind = coupling.KINDS[term.kind]
        own = parameters_of(p, term)
        target = observe(structure, p, state, term.source)
        sums = _present_sums(p, term, kind, own, target) if given is None else given
        arriving = kind.combine(own, sums, target, p[f"{term.name}.degree"])
        ports[term.port] = ports.get(term.port, 0.0) + arriving
    names = structure.model.state_names()
    for slot, process in structure.processes:
        if not process[0].WHITE and slot not in names:
            ports[slot] = ports.get(slot, 0.0) + state[f"noise_{slot}.value"]
    return ports


def field(
    structure: Structure, p: Arrays, state: Arrays, inputs: Arrays, t: Any, reads: Any = None
) -> Arrays:
    """Derivative of the coupled system, noise signals included; see `port_values`."""
    ports = port_values(structure, p, state, inputs, reads)
    slope = structure.model.rhs(p, state, ports, t)
    return with_signals(structure, p, state, slope)


def parameters_of(p: Arrays, term: Term) -> Arrays:
    """Parameters of one coupling without their prefix."""
    return {name: p[f"{term.name}.{name}"] for name in coupling.KINDS[term.kind].parameters}


def _present_sums(p: Arrays, term: Term, kind: coupling.Kind, own: Arrays, x: jax.Array) -> tuple:
    plain = kind.pre is None or all(jnp.ndim(own[part]) == 0 for part in kind.pairwise)
    if f"{term.name}.V" in p:
        if plain:
            channels = (x,) if kind.pre is None else kind.pre(own, x)
            return tuple(channel @ p[f"{term.name}.V"] for channel in channels)
        pairs = {part: coupling.per_pair(own[part]) for part in kind.pairwise}
        found = kind.pre(own | pairs, x[..., None, :])  # type: ignore[misc]
        return tuple(jnp.sum(p[f"{term.name}.W"] * one, axis=-1) for one in found)
    sources, weights = p[f"{term.name}.sources"], p[f"{term.name}.listed"]
    sent = x[..., sources]
    channels = (sent,) if kind.pre is None else kind.pre(own | listed_parameters(own, kind, sources), sent)
    return tuple(jnp.sum(weights * channel, axis=-1) for channel in channels)


def listed_parameters(own: Arrays, kind: coupling.Kind, sources: jax.Array, n_axes: int = 2) -> Arrays:
    """Parameters per target or per pair in the layout of a list of sources, with trailing axes up to `n_axes`."""
    found = {}
    for part in kind.pairwise:
        value = coupling.per_pair(own[part])
        if jnp.ndim(value) == 2:
            value = jnp.take_along_axis(value, sources, axis=1) if value.shape[1] > 1 else value
            value = value.reshape(*value.shape, *(1,) * (n_axes - 2))
        found[part] = value
    return found


def with_signals(structure: Structure, p: Arrays, state: Arrays, slope: Arrays) -> Arrays:
    """Derivatives with what noise processes add to them: signals, and the drift of multiplicative noise."""
    names = structure.model.state_names()
    slope = dict(slope)
    for slot, process in structure.processes:
        if slot not in names:
            continue
        if not process[0].WHITE:
            slope[slot] = slope[slot] + state[f"noise_{slot}.value"]
        else:
            slope[slot] = slope[slot] + _drift_correction(structure, p, state, slot, process)
    return slope


def _drift_correction(structure: Structure, p: Arrays, state: Arrays, slot: str, process: tuple) -> Any:
    """``-g g'/2`` for Ito noise in a Stratonovich scheme, ``+g g'/2`` for the reverse, else 0."""
    meant = process[0].interpretation(process)
    scheme = "stratonovich" if structure.method == "stochastic_heun" else "ito"
    if meant in ("additive", scheme):
        return 0.0
    x = state[slot]

    def g(value: jax.Array) -> jax.Array:
        return process[0].kick(process, process_parameters(p, slot), value, jnp.ones_like(value), 1.0)

    value, slope = jax.jvp(g, (x,), (jnp.ones_like(x),))
    return (-0.5 if meant == "ito" else 0.5) * value * slope


def process_parameters(p: Arrays, slot: str) -> Arrays:
    """Parameters of the noise process at a state or port, without their prefix."""
    start = f"noise_{slot}."
    return {name.removeprefix(start): value for name, value in p.items() if name.startswith(start)}


# --- one step ------------------------------------------------------------------------------------------------

# inputs at a stage of the step: inputs_at(stage) -> dict of port arrays
InputsAt = Callable[[float], Arrays]


def step(
    structure: Structure,
    p: Arrays,
    state: Arrays,
    inputs_at: InputsAt,
    noise: jax.Array | None,
    t: Any,
    dt: Any,
    reads_at: Callable[[float], dict[str, tuple]] | None = None,
) -> Arrays:
    """
    One step of every state variable and noise signal; histories are left alone.

    Parameters
    ----------
    structure : Structure
    p : dict of arrays
        From `prepare`.
    state : dict of arrays
    inputs_at : callable
        ``inputs_at(stage) -> ports``: the stage is the fraction of the step that has passed.
    noise : (channel, ..., region) array or None
        Unit-variance draws.
    t, dt : scalars
    reads_at : callable, optional
        ``reads_at(stage)``: sums over delayed sources.
    """
    model = structure.model
    names = model.state_names()
    own = {name: state[name] for name in names}
    extra = {name: value for name, value in state.items() if name not in own}

    def ports(values: Arrays, stage: float) -> Arrays:
        reads = None if reads_at is None else reads_at(stage)
        return port_values(structure, p, extra | values, inputs_at(stage), reads)

    def f(values: Arrays, stage: float) -> Arrays:
        return with_signals(
            structure, p, extra | values, model.rhs(p, values, ports(values, stage), t + stage * dt)
        )

    kicks = None if noise is None else _kicks(structure, p, noise, dt)
    if _is_map(model):
        moved = model.discrete_step(p, own, ports(own, 0.0))
        still: Any = dict.fromkeys(names, 0.0)
        pushed = with_signals(structure, p, state, still).items()
        added = {k: dt * push for k, push in pushed if not isinstance(push, float)}
        for kick in (added, kicks(own) if callable(kicks) else kicks or {}):
            moved = moved | {k: moved[k] + more for k, more in kick.items()}
    else:

        def diagonal(values: Arrays) -> tuple[Arrays, Arrays]:
            arriving = ports(values, 0.0)  # held: the diagonal is that of the regions themselves
            return integrate.diagonal_jacobian(
                lambda x: with_signals(structure, p, extra | x, model.rhs(p, x, arriving, t)), values
            )

        moved = integrate.stage_step(structure.method, f, own, dt, noise=kicks, diagonal=diagonal)
    return moved | _next_signals(structure, p, extra, noise, dt)


def _is_map(model: type) -> bool:
    return bool(getattr(model, "MAP", False))


def _kicks(structure: Structure, p: Arrays, noise: jax.Array, dt: Any) -> Any:
    fixed = {name: p[f"noise_{name}.step"] * noise[k] for k, name in enumerate(structure.white)}
    moving = [
        (slot, process, noise[len(structure.white) + k])
        for k, (slot, process) in enumerate(structure.processes)
        if process[0].WHITE
    ]
    if not moving:
        return fixed

    def at(values: Arrays) -> Arrays:
        found = dict(fixed)
        for slot, process, draws in moving:
            kick = process[0].kick(process, process_parameters(p, slot), values[slot], draws, dt)
            found[slot] = found.get(slot, 0.0) + kick
        return found

    return at


def _next_signals(structure: Structure, p: Arrays, extra: Arrays, noise: jax.Array | None, dt: Any) -> Arrays:
    found: Arrays = {}
    for k, (slot, process) in enumerate(structure.processes):
        if process[0].WHITE:
            continue
        start = f"noise_{slot}."
        now = {n.removeprefix(start): v for n, v in extra.items() if n.startswith(start)}
        draws = jnp.zeros_like(now["value"]) if noise is None else noise[len(structure.white) + k]
        new = process[0].advance(process, process_parameters(p, slot), now, draws, dt)
        found |= {start + name: value for name, value in new.items()}
    return found
