"""Objectives on the synchrony of phases: the Kuramoto order parameter, its mean and its variability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from brainloom.objectives.analytic import analytic_signal
from brainloom.objectives.arrays import modulus, root
from brainloom.objectives.base import (
    Objective,
    check_finite,
    hertz,
    is_feature,
    read_signal,
    seconds,
    split_unit,
)
from brainloom.objectives.features import Metastability, Synchrony

EDGE = 10  # samples, as in `brainloom.analysis.synchrony`


def order_parameter(
    x: jax.Array, dt: float, band: tuple[float, float] | None, order: int = 2, edge: int = EDGE
) -> jax.Array:
    """
    Kuramoto order parameter ``R(t) = |mean_j exp(i phase_j(t))|`` of the phases in a band; differentiable.

    Parameters
    ----------
    x : (time, ..., region) array
    dt : float
        s
    band : (low, high) in Hz, or None
    order : int
        Of the Butterworth band-pass, whose gain is applied forwards and backwards.
    edge : int
        Samples dropped at both ends.

    Returns
    -------
    (time - 2 edge, ...) array between 0 and 1. A silent region has no phase and counts as 0.
    """
    z = analytic_signal(x, dt, band, order, edge)
    size = modulus(z)
    return modulus(jnp.mean(z / jnp.where(size > 0.0, size, 1.0), axis=-1))


def synchrony(*, dt: Any = None, band: Sequence[Any] | None = (0.04, 0.07), order: int = 2) -> Objective:
    """
    Absolute difference of the synchrony of prediction and target: the mean over time of the order parameter.

    Takes signals (time, ..., region), whose values are averaged over realisations, or `Synchrony`.

    Parameters
    ----------
    dt : number of s or Quantity
        Interval of the samples; not needed for two features.
    band : (low, high)
        Hz, narrow enough for a phase to have a meaning; None takes the series as it is.
    order : int
        Of the Butterworth band-pass.
    """
    return Objective("synchrony", _difference, **_options(dt, band, order))


def metastability(*, dt: Any = None, band: Sequence[Any] | None = (0.04, 0.07), order: int = 2) -> Objective:
    """
    Absolute difference of the metastability: the standard deviation over time of the order parameter (Shanahan 2010).

    Takes signals (time, ..., region) or `Metastability`; parameters are those of `synchrony`. Away from the ends it is
    `brainloom.analysis.synchrony.metastability`, whose filter pads where this one wraps around.
    """
    return Objective("metastability", _difference, **_options(dt, band, order))


def _options(dt: Any, band: Sequence[Any] | None, order: int) -> dict[str, Any]:
    return {"dt": None if dt is None else seconds(dt, "dt"), "band": hertz(band), "order": order}


def _difference(prediction: Any, target: Any, who: str, dt: float | None, band: Any, order: int) -> jax.Array:
    feature, statistic = _KINDS[who]
    both = []
    for value, role in ((prediction, "prediction"), (target, "target")):
        if is_feature(value, who, role, feature):
            number = split_unit(value.value)[0]
            check_finite(value.value, who, role)
            both.append(jnp.mean(number))
            continue
        if dt is None:
            raise ValueError(f"the {role} of {who} is a signal; give dt, the interval of its samples")
        x, _ = read_signal(value, who, role, least=2 * EDGE + 2)
        both.append(jnp.mean(statistic(order_parameter(x, dt, band, order))))
    return jnp.abs(both[0] - both[1])


def _sd(x: jax.Array) -> jax.Array:
    return root(jnp.mean((x - jnp.mean(x, axis=0)) ** 2, axis=0))


_KINDS: dict[str, tuple[type, Callable]] = {
    "synchrony": (Synchrony, lambda x: jnp.mean(x, axis=0)),
    "metastability": (Metastability, _sd),
}
