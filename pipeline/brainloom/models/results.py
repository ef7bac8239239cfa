"""Values of the loop with the units that users see."""

from __future__ import annotations

from typing import Any

from brainloom.core.units import parse
from brainloom.models.declare import Observable


def as_shown(value: Any, one: Observable, time_unit: str) -> Any:
    """
    A plain array of an observable with its published unit.

    Parameters
    ----------
    value : array in the unit of the equations
    one : Observable
    time_unit : {"ms", "s"}

    Returns
    -------
    array (dimensionless observables) or Quantity
    """
    return powered(value, 1, one=one, time_unit=time_unit)


def powered(value: Any, power: int, *, one: Observable, time_unit: str) -> Any:
    """A plain array with a power of the published unit of an observable, as covariances need."""
    unit = parse(one.unit, time_unit)
    if unit.is_unitless and unit == parse("1"):
        return value
    found = value * unit**power
    return found.in_unit(parse(one.shown) ** power) if one.shown else found
