"""Units at the border: strings to units, quantities to plain arrays in the unit that is declared."""

from __future__ import annotations

from functools import cache
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import BrainloomError


class UnitError(BrainloomError, TypeError):
    """A quantity has a unit that does not fit; the message names both units."""


@cache
def parse(unit: str, time_unit: str = "ms") -> u.Unit:
    """
    Unit of a string such as ``"1/time"``, ``"mV/s"`` or ``"rad/ms"``.

    Parameters
    ----------
    unit : str
        ``time`` stands for the time unit of the model; ``rad`` counts as 1; a trailing ``/sqrt(time)`` is that
        of noise amplitudes.
    time_unit : {"ms", "s"}

    Returns
    -------
    brainunit.Unit
    """
    if unit.endswith("/sqrt(time)"):
        return parse(unit.removesuffix("/sqrt(time)"), time_unit) / u.parse_unit(time_unit) ** 0.5
    text = unit.replace("time", time_unit).replace("rad", "1")
    return u.UNITLESS if text in ("1", "1/1") else u.parse_unit(text)


def shown(unit: str, time_unit: str = "ms") -> str:
    """The unit as it is written in messages and datasets."""
    return unit.replace("time", time_unit)


def plain(value: Any, unit: str, name: str, time_unit: str = "ms") -> Any:
    """
    Number or array in the declared unit; plain numbers are taken as they are.

    Parameters
    ----------
    value : number, array or brainunit.Quantity
    unit : str
        What the value is wanted in; see `parse`.
    name : str
        What the value is, for the message.
    time_unit : {"ms", "s"}

    Returns
    -------
    array of the precision in use

    Raises
    ------
    UnitError
        The dimensions differ; the message names both units.
    """
    if isinstance(value, u.Quantity):
        wanted = parse(unit, time_unit)
        if value.dim != wanted.dim:
            raise UnitError(
                f"{name} is given in {value.unit}, but it is needed in {shown(unit, time_unit)}; "
                f"give a quantity that converts to {shown(unit, time_unit)}, or a plain number in it"
            )
        value = value.to_decimal(wanted)
    return jnp.asarray(value, dtype=jnp.result_type(float))


def number(value: Any, unit: str, name: str, time_unit: str = "ms") -> np.ndarray:
    """
    As `plain`, in double precision and outside of any tracing, for what a program is planned by.

    Raises
    ------
    TypeError
        The value is traced.
    """
    mantissa = value.mantissa if isinstance(value, u.Quantity) else value
    if isinstance(mantissa, jax.core.Tracer):
        raise TypeError(f"{name} is traced, but it must be known before the program is compiled")
    found = np.asarray(mantissa, dtype=float)
    if not isinstance(value, u.Quantity):
        return found
    wanted = parse(unit, time_unit)
    if value.dim != wanted.dim:
        plain(value, unit, name, time_unit)  # says what is wrong
    return np.asarray(u.Quantity(found, unit=value.unit).to_decimal(wanted), dtype=float)


def quantity(value: Any, unit: str, time_unit: str = "ms") -> Any:
    """A plain array with its unit put back; dimensionless ones stay plain."""
    parsed = parse(unit, time_unit)
    return value if parsed == u.UNITLESS else value * parsed
