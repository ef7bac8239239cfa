"""
Cross-spectra of any network under its noise, by transfer functions of its regions and one solve a frequency.

Near a fixed point every region answers its ports and its noise by small matrices of its states, ``(s - A)^-1``. The
network is then closed over what regions send: with sources ``s = G K s + s_noise``, G the regions' responses and
K the coupling with ``exp(-i w tau)`` for every delay, one system of (sources x regions) a frequency is solved,
instead of one of (states x regions). Delays are exact.

Densities are two-sided and per Hz: the integral over all frequencies is the covariance, and the power at f > 0 of
a one-sided spectrum is twice that of here. ``S_ij`` is the mean of ``z_i conj(z_j)`` with ``z(f)`` the transform
with ``exp(-2 pi i f t)``. Observables are in the units in which the model declares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from brainloom.engine import Arrays, Structure
from brainloom.linear.linearised import linearise
from brainloom.linear.parts import Linear, local_matrix, loop_matrix, per_second


def source_spectra(
    structure: Structure,
    values: Arrays,
    state: Arrays,
    outputs: Sequence[str],
    frequency_hz: jax.Array,
    time_unit: str,
    inputs: Mapping[str, Any] | None = None,
) -> dict[str, jax.Array]:
    """
    Cross-spectral density of observables at a fixed point.

    Parameters
    ----------
    structure : Structure
        ``model.structure(method, dt)`` or ``lower(model, dt).structure``.
    values : dict of arrays
        Constrained parameters: ``parameter_values()`` of a network, ``constrain(params)`` of a lowered model.
    state : dict of (region,) arrays
        From `brainloom.linear.equilibrium.fixed_point`.
    outputs : sequence of str
        Observables, the driven ones included.
    frequency_hz : (f,) array
        Hz, of either sign.
    time_unit : {"ms", "s"}
        Of the model, ``node.time_unit``.
    inputs : dict of arrays, optional
        Constant inputs at ports.

    Returns
    -------
    dict of (f, region, region) complex arrays
        Observable^2/Hz by name, Hermitian.

    Raises
    ------
    LinearError
        See `brainloom.linear.linearised.linearise`.

    Examples
    --------
    >>> import numpy as np
    >>> from brainloom.models import LinearStep
    >>> from brainloom.models.lowering import lower
    >>> low = lower(LinearStep(1, gamma=-2.0, noise_x=3.0, time_unit="s"), 0.01)
    >>> state = {"x": np.zeros(1)}
    >>> found = source_spectra(low.structure, low.constrain(low.params), state, ["x"], np.zeros(1), "s")
    >>> float(found["x"][0, 0, 0].real)  # (noise / gamma)^2
    2.25
    """
    linear = linearise(structure, values, state, outputs, inputs)
    blocks = cross_spectra(linear, frequency_hz, time_unit)
    return {name: blocks[name, name] for name in outputs}


def joint_spectra(
    structure: Structure,
    values: Arrays,
    state: Arrays,
    outputs: Sequence[str],
    frequency_hz: jax.Array,
    time_unit: str,
    inputs: Mapping[str, Any] | None = None,
) -> dict[tuple[str, str], jax.Array]:
    """
    As `source_spectra`, with the cross-spectra between different observables.

    Returns
    -------
    dict of (f, region, region) complex arrays
        ``[a, b][f, i, j]`` is the density of a in region i with b in region j, for every pair.
    """
    linear = linearise(structure, values, state, outputs, inputs)
    return cross_spectra(linear, frequency_hz, time_unit, joint=True)


def cross_spectra(
    linear: Linear, frequency_hz: jax.Array, time_unit: str, *, joint: bool = False
) -> dict[tuple[str, str], jax.Array]:
    """
    Spectra of the outputs of a linear network; several calls may share one `linearise`.

    Parameters
    ----------
    linear : Linear
    frequency_hz : (f,) array
    time_unit : {"ms", "s"}
    joint : bool
        Cross-spectra of different outputs too.

    Returns
    -------
    dict of (f, region, region) complex arrays by pairs of outputs
    """
    per_second(time_unit)
    return _cross_spectra(linear, frequency_hz, time_unit, joint)


@partial(jax.jit, static_argnums=(2, 3))
def _cross_spectra(
    linear: Linear, frequency_hz: jax.Array, time_unit: str, joint: bool
) -> dict[tuple[str, str], jax.Array]:
    scale = per_second(time_unit)
    s = 2j * jnp.pi * scale * jnp.asarray(frequency_hz, linear.a.dtype)
    answers, passed = jax.vmap(partial(_responses, linear))(s)
    names = linear.outputs
    pairs = [(a, b) for a in names for b in names if joint or a == b]
    return {
        (a, b): scale * _density(linear, answers, passed, names.index(a), names.index(b)) for a, b in pairs
    }


def _responses(linear: Linear, s: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """
    At one frequency: what noise does within regions, and how what they send reaches the outputs of all.

    Returns
    -------
    answers : (output and source, channel, region) array
        Rows of outputs, then of sources, for unit white noise.
    passed : (output, region, source, region) array or None
        None without couplings.
    """
    n_outputs, n_ports = linear.z.shape[0], linear.b.shape[1]
    k, _, n = linear.a.shape
    entries = [one.state for one in linear.noise if one.state >= 0]
    kicks = jnp.eye(k, dtype=linear.a.dtype)[:, jnp.asarray(entries, int)]
    columns = jnp.concatenate(
        [jnp.moveaxis(linear.b, -1, 0), jnp.broadcast_to(kicks, (n, *kicks.shape))], axis=-1
    )
    inner = jnp.linalg.solve(local_matrix(linear, s), columns.astype(s.dtype))
    rows = jnp.concatenate([linear.z, linear.c])
    reached = jnp.einsum("rki,ikq->rqi", rows.astype(s.dtype), inner)
    reached = reached.at[:n_outputs, :n_ports].add(linear.d)
    answers, seen = [], 0
    for one in linear.noise:
        at = one.port
        if one.state >= 0:
            at, seen = n_ports + seen, seen + 1
        gain = one.amplitude if one.rate is None else one.amplitude / (one.rate + s)
        answers.append(reached[:, at] * gain)
    stacked = jnp.stack(answers, axis=1) if answers else jnp.zeros((rows.shape[0], 0, n), s.dtype)
    if not linear.links:
        return stacked, None
    ports = reached[:, :n_ports]
    onto_outputs = loop_matrix(linear, ports[:n_outputs], s)
    around = loop_matrix(linear, ports[n_outputs:], s)
    closed = jnp.eye(around.shape[0], dtype=s.dtype) - around
    passed = jnp.linalg.solve(closed.T, onto_outputs.T).T
    return stacked, passed.reshape(n_outputs, n, linear.c.shape[0], n)


def _density(linear: Linear, answers: jax.Array, passed: jax.Array | None, a: int, b: int) -> jax.Array:
    """Cross-spectral density of two outputs from the responses of `_responses` at all frequencies."""
    n_outputs = linear.z.shape[0]
    apart = [k for k, one in enumerate(linear.noise) if one.factor is None]
    n = linear.a.shape[-1]
    eye = jnp.eye(n, dtype=answers.dtype)
    y = answers[:, :, jnp.asarray(apart, int)]
    left, right, sent = y[:, a], y[:, b], y[:, n_outputs:]
    # noise that is independent between regions: every product within a region is summed over channels first
    found = jnp.sum(left * jnp.conj(right), axis=1)[:, :, None] * eye
    if passed is not None:
        onto_a, onto_b = passed[:, a], jnp.conj(passed[:, b])  # (f, region, source, region)
        here = jnp.einsum("fmci,fci->fmi", sent, jnp.conj(right))
        there = jnp.einsum("fci,fmci->fmi", left, jnp.conj(sent))
        both = jnp.einsum("fmci,fnci->fmni", sent, jnp.conj(sent))
        found = found + jnp.einsum("fimj,fmj->fij", onto_a, here) + jnp.einsum("fmi,fjmi->fij", there, onto_b)
        spread = jnp.einsum("fimk,fmnk->fink", onto_a, both)
        found = found + _contracted(spread, onto_b)
    for k, one in enumerate(linear.noise):
        if one.factor is not None:
            found = found + _contracted(
                _mixed(one.factor, answers[:, :, k], passed, a, n_outputs)[:, :, None],
                jnp.conj(_mixed(one.factor, answers[:, :, k], passed, b, n_outputs))[:, :, None],
            )
    return found


def _contracted(left: jax.Array, right: jax.Array) -> jax.Array:
    """``sum left[f, i, m, k] right[f, j, m, k]`` as one matrix product a frequency."""
    f, n = left.shape[:2]
    return left.reshape(f, n, -1) @ jnp.swapaxes(right.reshape(f, n, -1), -1, -2)


def _mixed(
    factor: jax.Array, answers: jax.Array, passed: jax.Array | None, output: int, n_outputs: int
) -> jax.Array:
    """Response of an output of every region to the independent draws behind correlated noise, (f, region, draw)."""
    n = answers.shape[-1]
    own = answers[:, output, :, None] * jnp.eye(n, dtype=answers.dtype)
    if passed is not None:
        own = own + jnp.einsum("fimk,fmk->fik", passed[:, output], answers[:, n_outputs:])
    return own @ factor.astype(answers.dtype)
