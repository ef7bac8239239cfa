"""Objective on the correlation of amplitude envelopes (EEG, MEG), with leakage removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from brainloom.objectives.analytic import analytic_signal
from brainloom.objectives.arrays import centre, compare, modulus, unit_norm, upper, without_noise
from brainloom.objectives.base import (
    Objective,
    hertz,
    is_feature,
    one_of,
    read_matrix,
    read_signal,
    same_shape,
    seconds,
)
from brainloom.objectives.features import EnvelopeFC


def envelope_correlation(z: jax.Array, orthogonalize: bool = True, absolute: bool = True) -> jax.Array:
    """
    Correlation of amplitude envelopes, after pairwise orthogonalisation (Hipp et al. 2012).

    From z_i everything in phase with z_j is removed, ``Im(z_i conj(z_j) / |z_j|)``; its envelope is correlated with
    that of z_j; both directions are averaged. Signals mixed without delay from one source thereby correlate 0.

    Parameters
    ----------
    z : (time, region) complex array
        Analytic signals.
    orthogonalize : bool
        False correlates the envelopes as they are.
    absolute : bool
        Absolute values before the two directions are averaged, as ``mne_connectivity.envelope_correlation`` has it.

    Returns
    -------
    (region, region) array, symmetric, diagonal 0. A silent region correlates 0.
    """
    size = modulus(z)
    envelope = unit_norm(centre(size))
    if not orthogonalize:
        found = envelope.T @ envelope
        return jnp.where(jnp.eye(z.shape[1], dtype=bool), 0.0, found)
    direction = jnp.conj(z) / jnp.where(size > 0.0, size, 1.0)
    regions = jnp.arange(z.shape[1])

    # One region at a time, computed again in the backward pass: (region, region, time) would fill memory.
    @jax.checkpoint
    def one(i: jax.Array) -> jax.Array:
        rest = jnp.imag(z[:, i, None] * direction)
        scale = jnp.max(jax.lax.stop_gradient(size[:, i]))
        rest = without_noise(jnp.where(regions == i, 0.0, rest), scale[None, None])
        return jnp.sum(unit_norm(centre(jnp.abs(rest))) * envelope, axis=0)

    found = jax.lax.map(one, regions)
    if absolute:
        found = jnp.abs(found)
    return 0.5 * (found + found.T)


def envelope_fc(
    band: Sequence[Any] | None = None,
    *,
    dt: Any = None,
    orthogonalize: bool = True,
    absolute: bool = True,
    measure: str = "corr",
    as_loss: bool = False,
    order: int = 4,
    edge: Any = None,
) -> Objective:
    """
    Comparison of envelope correlations over the pairs of regions.

    Takes signals (time, ..., region) or `EnvelopeFC` on either side; units do not matter. Signals are detrended,
    band-passed and made analytic in one Fourier transform; matrices are averaged over realisations.

    Parameters
    ----------
    band : (low, high), optional
        Hz; None for signals that are band-passed already.
    dt : number of s or Quantity
        Interval of the samples; not needed for two `EnvelopeFC`.
    orthogonalize, absolute : bool
        See `envelope_correlation`.
    measure : {"corr", "rmse"}
        Pearson correlation of the two upper triangles, or root mean square difference.
    as_loss : bool
        1 - r for ``"corr"``.
    order : int
        Of the Butterworth band-pass, whose gain is applied forwards and backwards.
    edge : number of s or Quantity, optional
        Dropped at both ends of the analytic signal; one period of the lower edge of the band by default.
    """
    hz = hertz(band)
    interval = None if dt is None else seconds(dt, "dt")
    one_of(measure, ("corr", "rmse"), "measure")
    drop = (
        (0.0 if hz is None else 1.0 / hz[0])
        if edge is None
        else (0.0 if edge == 0 else seconds(edge, "edge"))
    )
    options = {"orthogonalize": orthogonalize, "absolute": absolute, "measure": measure, "as_loss": as_loss}
    return Objective("envelope_fc", _envelope_fc, band=hz, dt=interval, order=order, edge=drop, **options)


def _envelope_fc(
    prediction: Any, target: Any, who: str, measure: str, as_loss: bool, **options: Any
) -> jax.Array:
    a, b = (_read(x, who, role, **options) for x, role in ((prediction, "prediction"), (target, "target")))
    same_shape(a, b, who)
    least = 3 if measure == "corr" else 2
    if a.shape[-1] < least:
        raise ValueError(
            f"{who} compares pairs of regions and needs at least {least} regions, not {a.shape[-1]}"
        )
    return compare(upper(a), upper(b), measure, as_loss)


def _read(
    value: Any,
    who: str,
    role: str,
    band: Any,
    dt: float | None,
    order: int,
    edge: float,
    orthogonalize: bool,
    absolute: bool,
) -> jax.Array:
    if is_feature(value, who, role, EnvelopeFC):
        return read_matrix(value.matrix, who, role)[0]
    if dt is None:
        raise ValueError(f"the {role} of {who} is a signal; give dt, the interval of its samples")
    drop = round(edge / dt)
    x, _ = read_signal(value, who, role, EnvelopeFC, least=2 * drop + 4)
    z = analytic_signal(x, dt, band, order, drop)
    return jnp.mean(
        jax.vmap(lambda one: envelope_correlation(one, orthogonalize, absolute), in_axes=1)(z), axis=0
    )
