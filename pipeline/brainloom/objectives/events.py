"""Objective on event-related averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.units import number
from brainloom.objectives.arrays import compare
from brainloom.objectives.base import (
    Objective,
    check_finite,
    is_feature,
    one_of,
    read_signal,
    same_shape,
    scale_to,
    seconds,
    split_unit,
)
from brainloom.objectives.features import ERP


def erp(
    events: Any,
    *,
    dt: Any,
    window: Sequence[Any] = (-0.1, 0.5),
    baseline: Sequence[Any] | None = None,
    measure: str = "rmse",
    as_loss: bool = False,
) -> Objective:
    """
    Comparison of event-related averages, over time and regions.

    Takes signals (time, ..., region), averaged over events and realisations, or `ERP`, on either side.

    Parameters
    ----------
    events : (event,) array of s, or Quantity
        Times of the events from the first sample on; they are rounded to samples.
    dt : number of s or Quantity
        Interval of the samples.
    window : (start, stop)
        Part of the signal around each event, s; both ends included.
    baseline : (start, stop), optional
        Part of the window whose mean is subtracted from each region, s. An `ERP` is taken as it is.
    measure : {"rmse", "corr"}
        Root mean square difference in the unit of the target, or Pearson correlation, for which units do not matter.
    as_loss : bool
        1 - r for ``"corr"``.
    """
    interval = seconds(dt, "dt")
    one_of(measure, ("corr", "rmse"), "measure")
    at = np.atleast_1d(number(events, "s", "events"))
    if at.ndim != 1 or at.size == 0:
        raise ValueError("events must be one series of at least one time")
    first, last = _samples(window, interval, "window")
    rest = None if baseline is None else _samples(baseline, interval, "baseline")
    if rest is not None and not first <= rest[0] <= rest[1] <= last:
        raise ValueError(f"baseline is {baseline}; it must lie in the window {window}")
    options = {"first": first, "last": last, "baseline": rest, "measure": measure, "as_loss": as_loss}
    return Objective("erp", _erp, events=tuple(np.round(at / interval).astype(int).tolist()), **options)


def _samples(span: Sequence[Any], interval: float, name: str) -> tuple[int, int]:
    start, stop = (round(float(number(edge, "s", name)) / interval) for edge in span)
    if start > stop:
        raise ValueError(f"{name} ends before it starts")
    return start, stop


def _erp(prediction: Any, target: Any, who: str, measure: str, as_loss: bool, **options: Any) -> jax.Array:
    a, unit = _read(prediction, who, "prediction", **options)
    b, wanted = _read(target, who, "target", **options)
    same_shape(a, b, who)
    if measure == "rmse":
        a = a * scale_to(unit, wanted)
    return compare(a, b, measure, as_loss)


def _read(
    value: Any, who: str, role: str, events: tuple[int, ...], first: int, last: int, baseline: Any
) -> tuple[jax.Array, u.Unit]:
    """Average (time, region) around the events, and its unit."""
    n = last - first + 1
    if is_feature(value, who, role, ERP):
        x, unit = split_unit(value.values)
        if x.ndim != 2 or x.shape[0] != n:
            raise ValueError(
                f"the {role} of {who} has shape {x.shape}; the window holds {n} samples, so it must be ({n}, region)"
            )
        check_finite(value.values, who, role)
        return x, unit
    x, unit = read_signal(value, who, role)
    if min(events) + first < 0 or max(events) + last >= x.shape[0]:
        raise ValueError(
            f"the window of an event leaves the {role} of {who}, which has {x.shape[0]} samples; "
            "leave out events at its ends"
        )
    index = np.asarray(events)[:, None] + np.arange(first, last + 1)
    mean = jnp.mean(x[index], axis=(0, 2))
    if baseline is not None:
        mean = mean - jnp.mean(mean[baseline[0] - first : baseline[1] - first + 1], axis=0)
    return mean, unit
