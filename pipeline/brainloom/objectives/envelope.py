"""Objective on the correlation of amplitude envelopes (EEG, MEG), with leakage removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from brainloom.objectives.analytic import filtered_envelope_signal
from brainloom.objectives.arrays import (
    average_correlations,
    centre,
    compare,
    modulus,
    unit_norm,
    upper,
    without_noise,
)
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


def envelope_correlation(z: jax.Array, orthogonalize: bool = True, absolute: bool = False) -> jax.Array:
    """
    Correlation of amplitude envelopes, each pair made orthogonal first (Hipp et al. 2012).

    From z_i everything in phase with z_j is removed, ``Im(z_i conj(z_j) / |z_j|)``; its envelope is correlated with
    that of z_j; both directions are averaged. What reaches two channels at the same moment makes no correlation.

    Parameters
    ----------
    z : (time, region) complex array
        Analytic signals.
    orthogonalize : bool
        False correlates the envelopes as they are.
    absolute : bool
        Absolute values before the two directions are averaged, the default of
        ``mne_connectivity.envelope_correlation``; False keeps signs, as `brainloom.analysis.envelopes`.

    Returns
    -------
    (region, region) array, symmetric, diagonal 1. A silent region correlates 0 with the others.
    """
    # The result does not depend on the scale; squares of volts and teslas are kept far from underflow.
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(z)), axis=0)
    z = z / jnp.where(largest > 0.0, largest, 1.0)
    size = modulus(z)
    envelope = unit_norm(centre(size))
    own = jnp.eye(z.shape[1], dtype=bool)
    if not orthogonalize:
        return jnp.where(own, 1.0, envelope.T @ envelope)
    direction = jnp.conj(z) / jnp.where(size > 0.0, size, 1.0)
    regions = jnp.arange(z.shape[1])

    # One region at a time, computed again in the backward pass: (region, region, time) would fill memory.
    @jax.checkpoint
    def one(i: jax.Array) -> jax.Array:
        rest = jnp.where(regions == i, 0.0, jnp.imag(z[:, i, None] * direction))
        rest = without_noise(rest, jnp.ones((), size.dtype))
        return jnp.sum(unit_norm(centre(jnp.abs(rest))) * envelope, axis=0)

    found = jax.lax.map(one, regions)
    if absolute:
        found = jnp.abs(found)
    return jnp.where(own, 1.0, 0.5 * (found + found.T))


def envelope_fc(
    band: Sequence[Any] | None = None,
    *,
    dt: Any = None,
    orthogonalize: bool = True,
    absolute: bool = False,
    measure: str = "corr",
    as_loss: bool = False,
) -> Objective:
    """
    Comparison of envelope correlations over the pairs of regions.

    Takes signals (time, ..., region) or `EnvelopeFC` on either side; units do not matter. The matrix of a signal is
    that of `brainloom.analysis.envelopes.envelope_fc`; matrices of realisations are averaged in Fisher z.

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
    """
    one_of(measure, ("corr", "rmse"), "measure")
    signal = {"band": hertz(band), "dt": None if dt is None else seconds(dt, "dt")}
    how = {"orthogonalize": orthogonalize, "absolute": absolute}
    return Objective("envelope_fc", _envelope_fc, measure=measure, as_loss=as_loss, **signal, **how)


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
    value: Any, who: str, role: str, band: Any, dt: float | None, orthogonalize: bool, absolute: bool
) -> jax.Array:
    if is_feature(value, who, role, EnvelopeFC):
        return read_matrix(value.matrix, who, role)[0]
    if dt is None:
        raise ValueError(f"the {role} of {who} is a signal; give dt, the interval of its samples")
    x, _ = read_signal(value, who, role, EnvelopeFC, least=4)
    z = filtered_envelope_signal(x, dt, band)
    return average_correlations(
        jax.vmap(lambda one: envelope_correlation(one, orthogonalize, absolute), in_axes=1)(z)
    )
