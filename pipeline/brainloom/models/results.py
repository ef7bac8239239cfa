"""Values of the loop with the units that users see."""

from __future__ import annotations

from typing import Any

from brainloom.core.units import parse, quantity
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
    found = quantity(value, one.unit, time_unit)
    return found.in_unit(parse(one.shown)) if one.shown else found
