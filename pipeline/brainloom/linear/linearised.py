"""Networks near a fixed point, by automatic differentiation of their regions and couplings one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import coupling, engine
from brainloom.core.errors import BrainloomError
from brainloom.engine import Arrays, Structure, Term
from brainloom.linear.parts import Channel, Feedback, Linear, Link
from brainloom.noise import MultiplicativeNoise, OUProcess, WhiteNoise


class LinearError(BrainloomError, ValueError):
    """A model or its noise has no linear theory here; the sentence says why and what to do."""


def linearise(
    structure: Structure,
    values: Arrays,
    state: Arrays,
    outputs: Sequence[str] = (),
    inputs: Mapping[str, Any] | None = None,
    *,
    noise: bool = True,
) -> Linear:
    """
    Linear network around a state.

    Parameters
    ----------
    structure : Structure
        Static description, ``model.structure(method, dt)`` or ``lower(model, dt).structure``.
    values : dict of arrays
        Constrained parameters, ``parameter_values()`` of a network or ``constrain(params)`` of a lowered model.
    state : dict of (region,) arrays
        The fixed point, see `brainloom.linear.equilibrium.fixed_point`.
    outputs : sequence of str
        Observables to follow.
    inputs : dict of arrays, optional
        Constant inputs at ports.
    noise : bool
        Whether to take up the noise, which then needs a linear theory.

    Returns
    -------
    Linear
        In the units in which the model declares its states, ports and observables, and its time unit.

    Raises
    ------
    LinearError
        A map, a model whose own equations couple regions, unknown outputs, or noise without a linear theory.
    """
    check_model(structure)
    known = structure.model.observables()
    unknown = [name for name in outputs if name not in known]
    if unknown:
        raise LinearError(
            f"{structure.model.__name__} has no observable {', '.join(unknown)}; it has {', '.join(known)}"
        )
    return _linearise(structure, tuple(outputs), noise, dict(values), dict(state), dict(inputs or {}))


# Compiled once for a structure where it is not part of a compiled function already.
@partial(jax.jit, static_argnums=(0, 1, 2))
def _linearise(
    structure: Structure, outputs: tuple[str, ...], noise: bool, values: Arrays, state: Arrays, given: Arrays
) -> Linear:
    p, full, inputs = at_rest(structure, values, state, given)
    names = structure.model.state_names()
    ports = _ports(structure)
    sources = _sources(structure)
    own_terms = [term for term in structure.terms if term.kind == "own"]
    arriving = engine.port_values(structure, p, full, inputs)
    for term in own_terms:
        arriving[term.port] = engine.observe(structure, p, full, term.source)
    n = structure.n_regions
    rest = {name: value for name, value in full.items() if name not in names}
    plain = ito(structure)

    def local(x: jax.Array, u: jax.Array) -> jax.Array:
        """Derivatives, sources, own delayed observables and outputs, one row each."""
        own = rest | dict(zip(names, x, strict=True))
        there = arriving | dict(zip(ports, u, strict=True))
        slope = engine.with_signals(plain, p, own, structure.model.rhs(p, own, there, 0.0))
        found = [slope[name] for name in names]
        found += [engine.observe(structure, p, own, name) for name in sources]
        found += [engine.observe(structure, p, own, term.source) for term in own_terms]
        found += [engine.observe(structure, p, own, name, there) for name in outputs]
        return jnp.stack([jnp.broadcast_to(one, (n,)) for one in found])

    dtype = jnp.result_type(float)
    x = jnp.stack([jnp.broadcast_to(jnp.asarray(state[name], dtype), (n,)) for name in names])
    u = (
        jnp.stack([jnp.broadcast_to(jnp.asarray(arriving[k], dtype), (n,)) for k in ports])
        if ports
        else x[:0]
    )
    size = len(names) + len(ports)
    basis = jnp.broadcast_to(jnp.eye(size, dtype=dtype)[:, :, None], (size, size, n))

    def along(direction: jax.Array) -> jax.Array:
        return jax.jvp(local, (x, u), (direction[: len(names)], direction[len(names) :]))[1]

    slopes = jax.vmap(along, out_axes=1)(basis)  # (row, state or port, region)
    cuts = [len(names), len(names) + len(sources), len(names) + len(sources) + len(own_terms)]
    field, sent, returned, seen = jnp.split(slopes, cuts)
    k = len(names)
    feedback = tuple(
        Feedback(row[:k], jnp.broadcast_to(values[term.delay], (n,)), ports.index(term.port))
        for term, row in zip(own_terms, returned, strict=True)
    )
    links = tuple(
        _link(structure, p, full, term, ports, sources) for term in structure.terms if term.kind != "own"
    )
    return Linear(
        a=field[:, :k],
        b=field[:, k:],
        c=sent[:, :k],
        z=seen[:, :k],
        d=seen[:, k:],
        links=links,
        feedback=feedback,
        noise=_channels(structure, p, full, ports) if noise else (),
        outputs=outputs,
    )


def at_rest(
    structure: Structure, values: Arrays, state: Arrays, inputs: Mapping[str, Any] | None = None
) -> tuple[Arrays, Arrays, Arrays]:
    """Prepared parameters, the state with noise signals at their means, and inputs as arrays."""
    p = engine.prepare(structure, values, 1.0)
    means = engine.start_noise(structure, p, (structure.n_regions,), None)
    given = {name: jnp.asarray(value) for name, value in (inputs or {}).items()}
    unknown = sorted(set(given) - set(structure.model.port_names()))
    if unknown:
        raise LinearError(
            f"{structure.model.__name__} has no port {', '.join(unknown)}; "
            f"it has {', '.join(structure.model.port_names())}"
        )
    return p, dict(state) | means, given


def ito(structure: Structure) -> Structure:
    """The same system as an Ito equation: what a scheme of the other kind adds is left out."""
    return replace(structure, method="euler")


def check_model(structure: Structure) -> None:
    """
    Refuse models without a linear theory of separate regions.

    Raises
    ------
    LinearError
    """
    name = structure.model.__name__
    if structure.model.MAP:
        raise LinearError(
            f"{name} is a map in discrete time; spectra by linear theory need a differential equation"
        )
    if structure.model.CATEGORY == "network":
        raise LinearError(
            f"the equations of {name} couple regions by themselves; take its matrix with "
            "brainloom.linear.jacobian and use brainloom.linear.spectra.cross_spectrum"
        )


# --- parts ---------------------------------------------------------------------------------------------------


def _ports(structure: Structure) -> tuple[str, ...]:
    """Ports that something arrives at, couplings first."""
    names = [term.port for term in structure.terms]
    states = structure.model.state_names()
    names += [slot for slot, process in structure.processes if not process[0].WHITE and slot not in states]
    return tuple(dict.fromkeys(names))


def _sources(structure: Structure) -> tuple[str, ...]:
    return tuple(dict.fromkeys(term.source for term in structure.terms if term.kind != "own"))


def _link(
    structure: Structure, p: Arrays, full: Arrays, term: Term, ports: Sequence[str], sources: Sequence[str]
) -> Link:
    kind = coupling.KINDS[term.kind]
    own = engine.parameters_of(p, term)
    x = jnp.broadcast_to(engine.observe(structure, p, full, term.source), (structure.n_regions,))
    weights = coupling.prepared_weights(term.kind, p[term.weights])
    if kind.pre is None:
        channels, slopes = (x,), (jnp.ones_like(x),)
    else:
        pairs = {part: coupling.per_pair(own[part]) for part in kind.pairwise}
        plain = all(jnp.ndim(own[part]) == 0 for part in kind.pairwise)
        sent = x if plain else jnp.broadcast_to(x, weights.shape)
        pre = partial(kind.pre, own | pairs)
        channels, slopes = jax.jvp(pre, (sent,), (jnp.ones_like(sent),))
    sums = tuple(jnp.sum(weights * channel, axis=-1) for channel in channels)
    degree = p[f"{term.name}.degree"]

    def combine(sums: tuple, target: jax.Array) -> jax.Array:
        return jnp.broadcast_to(kind.combine(own, sums, target, degree), x.shape)

    still = tuple(jnp.zeros_like(one) for one in sums)
    one, none = jnp.ones_like(x), jnp.zeros_like(x)
    total = jnp.zeros_like(weights)
    for index, slope in enumerate(slopes):
        moved = (*still[:index], one, *still[index + 1 :])
        gain = jax.jvp(combine, (sums, x), (moved, none))[1]
        total = total + gain[:, None] * weights * slope
    return Link(
        weights=total,
        instant=jax.jvp(combine, (sums, x), (still, one))[1],
        delay=p[term.delay] if term.delay else None,
        port=ports.index(term.port),
        source=sources.index(term.source),
    )


def _channels(structure: Structure, p: Arrays, full: Arrays, ports: Sequence[str]) -> tuple[Channel, ...]:
    names, n = structure.model.state_names(), structure.n_regions
    found = []
    for name in structure.white:
        amplitude = jnp.broadcast_to(p[f"noise_{name}"], (n,))
        found.append(Channel(amplitude, None, None, names.index(name), -1))
    for slot, process in structure.processes:
        own = engine.process_parameters(p, slot)
        at = (names.index(slot), -1) if slot in names else (-1, ports.index(slot))
        factor = own.get("factor")
        if issubclass(process[0], OUProcess):
            rate = jnp.broadcast_to(1.0 / own["tau"], (n,))
            found.append(Channel(own["sigma"] * jnp.sqrt(2.0 * rate), rate, factor, *at))
        elif issubclass(process[0], (WhiteNoise, MultiplicativeNoise)):
            unmixed = {name: value for name, value in own.items() if name != "factor"}
            x = jnp.broadcast_to(full[slot], (n,))
            amplitude = process[0].kick(process, unmixed, x, jnp.ones_like(x), 1.0)
            found.append(Channel(amplitude, None, factor, *at))
        else:
            raise LinearError(
                f"noise_{slot} of {structure.model.__name__} is {process[0].__name__}, which has no spectrum in "
                "linear theory here; give white noise or an OUProcess"
            )
    return tuple(found)
