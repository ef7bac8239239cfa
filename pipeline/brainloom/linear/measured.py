"""What linear theory says about measurements: covariances, BOLD through its haemodynamics, and sensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from brainloom import engine
from brainloom.engine import Arrays, Structure
from brainloom.linear.linearised import LinearError, at_rest, linearise
from brainloom.linear.lyapunov import lyapunov
from brainloom.linear.parts import Linear, full_jacobian, link_matrix
from brainloom.linear.transfer import source_spectra
from brainloom.observe.balloon import transfer


def observable_at(
    structure: Structure, values: Arrays, state: Arrays, name: str, inputs: Mapping[str, Any] | None = None
) -> jax.Array:
    """
    Value of an observable at a fixed point, what arrives at the ports included.

    Parameters as of `brainloom.linear.linearised.linearise`.

    Returns
    -------
    (region,) array
    """
    p, full, given = at_rest(structure, values, state, inputs)
    ports = engine.port_values(structure, p, full, given)
    return jnp.broadcast_to(engine.observe(structure, p, full, name, ports), (structure.n_regions,))


def bold_spectra(
    structure: Structure,
    values: Arrays,
    state: Arrays,
    frequency_hz: jax.Array,
    time_unit: str,
    balloon: Arrays,
    *,
    gain: Any = 1.0,
    baseline: Any = 0.0,
    source: str = "bold",
    inputs: Mapping[str, Any] | None = None,
) -> jax.Array:
    """
    Cross-spectral density of BOLD, by its linear response around the steady drive.

    The drive is ``z = gain (observable - baseline)``; vessels rest at the z of the fixed point, not at 0.

    Parameters
    ----------
    structure, values, state, time_unit, inputs
        See `brainloom.linear.transfer.source_spectra`.
    frequency_hz : (f,) array
        Hz, of either sign. A sampled signal folds what is above its Nyquist frequency: add the densities at
        f + m / TR.
    balloon : dict of arrays
        Haemodynamic parameters, scalars or (region,); see `brainloom.observe.balloon.transfer`.
    gain : scalar or (region,) array
        1/s per unit of the observable.
    baseline : scalar or (region,) array
        In the unit in which the model declares the observable.
    source : str
        Observable.

    Returns
    -------
    (f, region, region) complex array
        BOLD^2/Hz.
    """
    neural = source_spectra(structure, values, state, (source,), frequency_hz, time_unit, inputs)[source]
    rest = gain * (observable_at(structure, values, state, source, inputs) - baseline)
    response = gain * transfer(balloon, frequency_hz, rest)
    return response[:, :, None] * neural * jnp.conj(response)[:, None, :]


def sensor_spectra(spectra: jax.Array, lead_field: jax.Array, noise: jax.Array | None = None) -> jax.Array:
    """
    Cross-spectral density at sensors.

    Parameters
    ----------
    spectra : (f, region, region) complex array
        Of dipole moments, moment^2/Hz.
    lead_field : (sensor, region) array
        Signal per moment, referenced as the data are.
    noise : scalar, (sensor,) or (sensor, sensor) array, optional
        Two-sided density of the sensor noise, signal^2/Hz: ``variance / sampling frequency`` for noise that is
        independent from sample to sample. The covariance of sensors, if it is a matrix.

    Returns
    -------
    (f, sensor, sensor) complex array
    """
    field = jnp.asarray(lead_field).astype(spectra.dtype)
    found = field @ spectra @ field.T
    if noise is None:
        return found
    noise = jnp.asarray(noise)
    if noise.ndim < 2:
        noise = jnp.diag(jnp.broadcast_to(noise, (field.shape[0],)))
    return found + noise.astype(found.dtype)


def covariance_from_spectra(spectra: jax.Array, frequency_hz: jax.Array) -> jax.Array:
    """
    Covariance within a band: the integral over frequencies of both signs, by the trapezoidal rule.

    Parameters
    ----------
    spectra : (f, n, n) complex array
    frequency_hz : (f,) array
        Ascending, not negative; equal steps are not needed.

    Returns
    -------
    (n, n) real array
    """
    step = jnp.diff(frequency_hz)
    weight = jnp.concatenate([step, step[:1] * 0.0]) + jnp.concatenate([step[:1] * 0.0, step])
    return jnp.einsum("f,fij->ij", weight, jnp.real(spectra))


def stationary_covariance(
    structure: Structure,
    values: Arrays,
    state: Arrays,
    outputs: Sequence[str],
    inputs: Mapping[str, Any] | None = None,
) -> jax.Array:
    """
    Covariance of observables at a fixed point without delays, by the Lyapunov equation.

    Parameters
    ----------
    structure, values, state, outputs, inputs
        See `brainloom.linear.transfer.source_spectra`.

    Returns
    -------
    (output * region, output * region) array
        Blocks in the order of `outputs`. It has no meaning if the fixed point is not stable.

    Raises
    ------
    LinearError
        The network has delays: integrate its spectra with `covariance_from_spectra`.
    """
    linear = linearise(structure, values, state, outputs, inputs)
    if linear.feedback or any(link.delay is not None for link in linear.links):
        raise LinearError(
            "the covariance of a network with delays does not follow from a Lyapunov equation; integrate its "
            "spectra with covariance_from_spectra"
        )
    return _covariance(linear)


@jax.jit
def _covariance(linear: Linear) -> jax.Array:
    k, _, n = linear.a.shape
    eye = jnp.eye(n, dtype=linear.a.dtype)
    size = k * n
    read = jnp.einsum("oki,ij->oikj", linear.z, eye)
    for link in linear.links:
        passed = link_matrix(link, jnp.zeros((), eye.dtype))
        read = read + jnp.einsum("oi,ij,lj->oilj", linear.d[:, link.port], passed, linear.c[link.source])
    n_outputs = linear.z.shape[0]
    read = read.reshape(n_outputs * n, size)
    matrix = full_jacobian(linear)
    noise = jnp.zeros((size, size), eye.dtype)
    for one in linear.noise:
        unit = (
            jnp.zeros((k, n), eye.dtype).at[one.state].set(1.0) if one.state >= 0 else linear.b[:, one.port]
        )
        enters = jnp.einsum("ki,ij->kij", unit, eye).reshape(k * n, n)
        shape = eye if one.factor is None else one.factor
        spread = one.amplitude[:, None] * shape
        spread = spread @ spread.T
        if one.rate is None:
            noise = noise.at[:size, :size].add(enters @ spread @ enters.T)
            continue
        # a filtered noise is a state of its own
        now = matrix.shape[0]
        enters = jnp.concatenate([enters, jnp.zeros((now - size, n), eye.dtype)])
        matrix = jnp.block([[matrix, enters], [jnp.zeros((n, now), eye.dtype), -jnp.diag(one.rate)]])
        noise = jnp.block([[noise, jnp.zeros((now, n), eye.dtype)], [jnp.zeros((n, now), eye.dtype), spread]])
        seen = linear.d[:, one.port][:, :, None] * eye if one.port >= 0 else jnp.zeros((n_outputs, n, n))
        read = jnp.concatenate([read, seen.reshape(n_outputs * n, n).astype(eye.dtype)], axis=1)
    return read @ lyapunov(matrix, noise) @ read.T
