"""Objectives on what each region does by itself: mean level, amplitude and variance."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp

from brainloom.objectives.arrays import centre, compare, log_of, root
from brainloom.objectives.base import (
    Objective,
    check_finite,
    is_feature,
    one_of,
    read_signal,
    same_shape,
    scale_to,
    split_unit,
)
from brainloom.objectives.features import Amplitude, Level, Variance


def level() -> Objective:
    """
    Root mean square difference, over regions, of the mean over time (a firing rate, say), in the unit of the target.

    Takes signals (time, ..., region), averaged over realisations too, or `Level`.
    """
    return Objective("level", _summary)


def amplitude(relative: bool = False) -> Objective:
    """
    Root mean square difference, over regions, of the standard deviation over time, in the unit of the target.

    Takes signals (time, ..., region) or `Amplitude`. The variance is averaged over realisations before its root.

    Parameters
    ----------
    relative : bool
        Difference of natural logarithms instead: 0.1 is 10 %.
    """
    return Objective("amplitude", _summary, relative=relative)


def variance(measure: str = "corr", as_loss: bool = False) -> Objective:
    """
    Comparison of the natural logarithm of the variance over time, across regions.

    Takes signals (time, ..., region), averaged over realisations, or `Variance`.

    Parameters
    ----------
    measure : {"corr", "rmse"}
        Pearson correlation across regions, for which units do not matter and regions without variance are left out,
        or root mean square difference.
    as_loss : bool
        1 - r for ``"corr"``.
    """
    one_of(measure, ("corr", "rmse"), "measure")
    return Objective("variance", _summary, measure=measure, as_loss=as_loss)


_KINDS = {"level": (Level, 1), "amplitude": (Amplitude, 1), "variance": (Variance, 2)}


def _summary(
    prediction: Any,
    target: Any,
    who: str,
    relative: bool = False,
    measure: str = "rmse",
    as_loss: bool = False,
) -> jax.Array:
    a, unit = _read(prediction, who, "prediction")
    b, wanted = _read(target, who, "target")
    same_shape(a, b, who)
    if measure == "corr" and a.shape[-1] < 2:
        raise ValueError(f"{who} correlates across regions and needs at least 2, not {a.shape[-1]}")
    if measure == "rmse":
        a = a * scale_to(unit, wanted)
    if who != "variance" and not relative:
        return compare(a, b, measure, as_loss)
    both = ((a > 0.0) & (b > 0.0)).astype(a.dtype)
    return compare(log_of(a), log_of(b), measure, as_loss, jnp.where(jnp.isnan(a), 1.0, both))


def _read(value: Any, who: str, role: str) -> tuple[jax.Array, u.Unit]:
    feature, power = _KINDS[who]
    if is_feature(value, who, role, feature):
        x, unit = split_unit(value.values)
        if x.ndim < 1:
            raise ValueError(f"the {role} of {who} has no axis; it must be (..., region)")
        check_finite(value.values, who, role)
        return x.reshape(-1, x.shape[-1]).mean(axis=0), unit
    x, unit = read_signal(value, who, role)
    if who == "level":
        return jnp.mean(x, axis=(0, 1)), unit
    found = jnp.mean(centre(x) ** 2, axis=(0, 1))
    return (found if who == "variance" else root(found)), unit**power
