"""
Linear networks as small matrices of every region and the matrices that couple them.

A region is ``x' = A x + B u``, ``s = C x`` (what it sends) and ``z = Z x + D u`` (what is observed). Ports get
``u_i = sum_j K_ij s_j(t - tau_ij) + T_i s_i``. Systems that are solved have the size of what is sent, (sources x
regions), instead of (states x regions).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["weights", "instant", "delay"],
    meta_fields=["port", "source"],
)
@dataclass(frozen=True)
class Link:
    """
    One coupling near the fixed point.

    Attributes
    ----------
    weights : (region, region) array
        What a change of source j adds at the port of region i, after `delay`.
    instant : (region,) array
        What a change of the receiving region's own observable adds, without delay.
    delay : (region, region) array or None
        In the time unit of the model.
    port, source : int
        Rows of the ports and sources of a `Linear`.
    """

    weights: jax.Array
    instant: jax.Array
    delay: jax.Array | None
    port: int
    source: int


@partial(jax.tree_util.register_dataclass, data_fields=["row", "delay"], meta_fields=["port"])
@dataclass(frozen=True)
class Feedback:
    """A region's own delayed observable: `row` (state, region) is its derivative, `delay` (region,)."""

    row: jax.Array
    delay: jax.Array
    port: int


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["amplitude", "rate", "factor"],
    meta_fields=["state", "port"],
)
@dataclass(frozen=True)
class Channel:
    """
    One noise of every region: white, or white through a low-pass filter.

    Attributes
    ----------
    amplitude : (region,) array
        Of the white noise, per sqrt(time).
    rate : (region,) array or None
        The signal is the noise times ``1 / (rate + s)``; None for white noise.
    factor : (region, region) array or None
        Mixes independent draws of the regions; None if they are independent.
    state, port : int
        Where it enters; the other one is -1.
    """

    amplitude: jax.Array
    rate: jax.Array | None
    factor: jax.Array | None
    state: int
    port: int


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["a", "b", "c", "z", "d", "links", "feedback", "noise"],
    meta_fields=["outputs"],
)
@dataclass(frozen=True)
class Linear:
    """
    A network near a fixed point; see `linearise`.

    Attributes
    ----------
    a : (state, state, region) array
    b : (state, port, region) array
    c : (source, state, region) array
    z : (output, state, region) array
    d : (output, port, region) array
    links : tuple of Link
    feedback : tuple of Feedback
    noise : tuple of Channel
    outputs : tuple of str
    """

    a: jax.Array
    b: jax.Array
    c: jax.Array
    z: jax.Array
    d: jax.Array
    links: tuple[Link, ...]
    feedback: tuple[Feedback, ...]
    noise: tuple[Channel, ...]
    outputs: tuple[str, ...]


def link_matrix(link: Link, s: jax.Array) -> jax.Array:
    """What sources add at the port for signals ``exp(s t)``: (region, region)."""
    weights = link.weights if link.delay is None else link.weights * jnp.exp(-s * link.delay)
    return weights + jnp.diag(link.instant)


def local_matrix(linear: Linear, s: jax.Array) -> jax.Array:
    """``s - A`` of every region with its own delayed feedback, (region, state, state)."""
    a = linear.a
    for one in linear.feedback:
        a = a + linear.b[:, one.port][:, None] * one.row[None] * jnp.exp(-s * one.delay)
    return s * jnp.eye(a.shape[0], dtype=a.dtype) - jnp.moveaxis(a, -1, 0)


def loop_matrix(linear: Linear, ports_to_rows: jax.Array, s: jax.Array) -> jax.Array:
    """
    Sources to what follows from them after one passage through a coupling and a region.

    Parameters
    ----------
    linear : Linear
    ports_to_rows : (row, port, region) array
        Response of each row to each port within a region.
    s : scalar

    Returns
    -------
    (row * region, source * region) array
    """
    rows, _, n = ports_to_rows.shape
    sources = linear.c.shape[0]
    columns = [jnp.zeros((rows, n, n), ports_to_rows.dtype) for _ in range(sources)]
    for link in linear.links:
        passed = ports_to_rows[:, link.port, :, None] * link_matrix(link, s)
        columns[link.source] = columns[link.source] + passed
    return jnp.stack(columns, axis=2).reshape(rows * n, sources * n)


def solve(linear: Linear, shift: Any, right: jax.Array) -> jax.Array:
    """
    Solve ``(shift - J) x = right`` with the Jacobian J of the whole network without delays.

    Parameters
    ----------
    linear : Linear
    shift : scalar
        Real.
    right : (state, region) array

    Returns
    -------
    (state, region) array
    """
    still = without_delays(linear)
    # linear in `right` all the way, as reverse mode asks for
    inner = jnp.linalg.inv(local_matrix(still, jnp.asarray(shift, right.dtype)))
    own = jnp.einsum("ikl,li->ki", inner, right)
    if not linear.links:
        return own
    by_port = jnp.einsum("ikl,lqi->kqi", inner, linear.b)
    sources, _, n = linear.c.shape
    reached = jnp.einsum("mki,kqi->mqi", linear.c, by_port)
    loop = loop_matrix(still, reached, jnp.zeros((), right.dtype))
    alone = jnp.einsum("mki,ki->mi", linear.c, own).reshape(-1)
    sent = jnp.linalg.solve(jnp.eye(sources * n, dtype=loop.dtype) - loop, alone).reshape(sources, n)
    for link in still.links:
        arriving = link_matrix(link, jnp.zeros((), right.dtype)) @ sent[link.source]
        own = own + by_port[:, link.port] * arriving
    return own


def without_delays(linear: Linear) -> Linear:
    """The same network with every delay 0."""
    links = tuple(replace(link, delay=None) for link in linear.links)
    feedback = tuple(replace(one, delay=jnp.zeros_like(one.delay)) for one in linear.feedback)
    return replace(linear, links=links, feedback=feedback)


def full_jacobian(linear: Linear) -> jax.Array:
    """
    Jacobian of the whole network with every delay 0.

    Returns
    -------
    (state * region, state * region) array, 1/time; blocks in the order of the states.
    """
    still = without_delays(linear)
    k, _, n = linear.a.shape
    zero = jnp.zeros((), linear.a.dtype)
    own = -local_matrix(still, zero)  # (region, state, state)
    found = jnp.einsum("ikl,ij->kilj", own, jnp.eye(n, dtype=own.dtype))
    for link in still.links:
        passed = link_matrix(link, zero)
        found = found + jnp.einsum("ki,ij,lj->kilj", linear.b[:, link.port], passed, linear.c[link.source])
    return found.reshape(k * n, k * n)


def per_second(time_unit: str) -> float:
    """
    One Hz in cycles per unit of time of a model.

    Raises
    ------
    ValueError
        The unit is neither ``ms`` nor ``s``.
    """
    if time_unit not in ("ms", "s"):
        raise ValueError(f"time_unit is {time_unit!r}; it must be 'ms' or 's', that of the model")
    return {"ms": 1e-3, "s": 1.0}[time_unit]
