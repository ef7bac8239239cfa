"""What a lead-field model is given: units, shapes, names and covariances, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

# Before brainstate, which resets jax to single precision when it is imported.
import brainloom.models.declare  # noqa: F401

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import DataError
from brainloom.core.units import UnitError, parse
from brainloom.io.lead_field import LeadField, reference_matrix

DIMS = ("sensor", "region")
AMPERE_METER = parse("A*m")
# Unit of a lead field by that of its sensors.
BY_SENSOR = {"V": "V/(A*m)", "T": "T/(A*m)", "T/m": "T/(A*m^2)"}


def present(value: Any) -> Any:
    """Present (constrained) value of a Param; anything else as it is."""
    return value.value() if isinstance(value, brainstate.nn.Param) else value


def mantissa(value: Any) -> Any:
    """The number of a quantity."""
    return value.mantissa if isinstance(value, u.Quantity) else value


def floats(value: Any) -> jax.Array:
    """Array of the precision in use."""
    return jnp.asarray(value, jnp.result_type(float))


def as_unit(unit: Any) -> u.Unit:
    """Unit of a string, or a unit."""
    return parse(unit) if isinstance(unit, str) else unit


def converted(value: Any, unit: u.Unit, what: str) -> Any:
    """Plain number in a unit; plain ones are in it already."""
    if not isinstance(value, u.Quantity):
        return value
    if value.dim != unit.dim:
        raise UnitError(f"{what} is given in {value.unit}, but it is needed in {unit}")
    return value.to_decimal(unit)


def last(size: Any) -> int:
    """Length of the last axis of a size, a number or a tuple."""
    return int(np.ravel(size)[-1])


def common_unit(field: LeadField, who: str) -> str:
    """The one unit of a lead field."""
    units = list(dict.fromkeys(field.units))
    if len(units) > 1:
        raise DataError(
            f"{who}: lead field has sensors in {' and '.join(units)}, and a signal has one unit; choose with "
            f"LeadField.pick: {', '.join(dict.fromkeys(field.kinds))}"
        )
    return units[0]


def checked_dims(shape: tuple[int, ...], dims: Any, in_size: Any, out_size: Any, who: str) -> tuple[str, ...]:
    """What the first two axes are; `in_size` regions and `out_size` sensors must fit."""
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        raise DataError(
            f"L of {who} has the shape {shape}; it must be (sensor, region), or (sensor, region, 3)"
        )
    if dims is None and shape[0] == shape[1] and shape[0] > 1:
        raise DataError(
            f"L of {who} is square ({shape[0]} x {shape[1]}); say with dims=('sensor', 'region') or "
            "dims=('region', 'sensor') what its axes are"
        )
    dims = DIMS if dims is None else tuple(dims)
    if sorted(dims) != ["region", "sensor"]:
        raise DataError(f"dims of {who} is {dims}; it must be ('sensor', 'region') or ('region', 'sensor')")
    wanted = {"sensor": out_size, "region": in_size}
    wanted = {name: None if size is None else last(size) for name, size in wanted.items()}
    if any(wanted[name] not in (None, n) for name, n in zip(dims, shape, strict=False)):
        swapped = (wanted[dims[1]], wanted[dims[0]]) == shape[:2]
        hint = f"give dims={dims[::-1]}" if swapped else "correct the sizes or L"
        raise DataError(
            f"L of {who} has the shape {shape} for dims={dims}, but there are in_size={in_size} regions and "
            f"out_size={out_size} sensors; {hint}"
        )
    return dims


def leadfield_unit(L: Any, unit: Any, allowed: Sequence[str], who: str) -> u.Unit:
    """Unit of a lead field whose sensors may have the units `allowed`."""
    value = present(L)
    if not isinstance(value, u.Quantity) and not unit:
        raise DataError(f"L of {who} has no unit; give leadfield_unit, such as 'V/(A*m)'")
    found = value.unit if isinstance(value, u.Quantity) else as_unit(unit)
    if all((found * AMPERE_METER).dim != parse(one).dim for one in allowed):
        raise UnitError(
            f"L of {who} is given in {found}, but it is needed in {' or '.join(BY_SENSOR[one] for one in allowed)}"
        )
    return found


def sensor_unit(unit: Any, of_lead_field: u.Unit, allowed: Sequence[str], who: str) -> u.Unit:
    """Unit of the signals, which fits that of the lead field."""
    own = (of_lead_field * AMPERE_METER).dim
    natural = next(one for one in allowed if parse(one).dim == own)
    found = as_unit(unit or natural)
    if found.dim != own:
        raise UnitError(
            f"sensor_unit of {who} is {found}, but L is in {of_lead_field} and gives {natural}; "
            f"choose a unit that converts to {natural}"
        )
    return found


def names(given: Sequence[str] | None, n: int, what: str, who: str) -> tuple[str, ...] | None:
    """Names as text, if there are any."""
    if given is None:
        return None
    if len(given) != n:
        raise DataError(f"{what} of {who} are {len(given)} names for {n} {what}; give one each")
    return tuple(str(name) for name in given)


def reference_of(reference: str, sensors: Sequence[str] | None, n: int, unit: u.Unit, who: str) -> np.ndarray:
    """See `brainloom.io.lead_field.reference_matrix`."""
    if unit.dim != parse("V").dim:
        raise DataError(
            f"reference of {who} is {reference!r}, but magnetic sensors have no reference; leave it out"
        )
    if sensors is None and reference != "average":
        raise DataError(f"reference of {who} is {reference!r}, but its sensors have no names; give sensors")
    return reference_matrix(reference, sensors or [str(at) for at in range(n)], ["eeg"] * n)


def check_orientation(
    orientation: Any, shape: tuple[int, ...], n: int, regions: Sequence[str] | None, who: str
) -> None:
    """A direction for each region of a free lead field."""
    value = present(orientation)
    if len(shape) != 3:
        raise DataError(f"L of {who} has fixed orientations; give L as (sensor, region, 3) to choose them")
    if jnp.shape(value) != (n, 3):
        raise DataError(f"orientation of {who} has the shape {jnp.shape(value)}; it must be ({n}, 3)")
    if isinstance(value, jax.core.Tracer):
        return
    length = np.linalg.norm(np.asarray(value), axis=1)
    odd = ~(np.isfinite(length) & (length > 0))
    if odd.any():
        at = int(np.argmax(odd))
        raise DataError(
            f"orientation of region {regions[at] if regions else at} in {who} has no direction; give a vector"
        )


def check_length(value: Any, n: int, what: str) -> None:
    """A number, or one for each."""
    shape = jnp.shape(mantissa(present(value))) if value is not None else ()
    if shape not in ((), (1,), (n,)):
        raise DataError(f"{what} has the shape {shape}; it must be a number or ({n},)")


def covariance_factor(cov: Any, n: int, unit: u.Unit, what: str) -> np.ndarray:
    """
    A matrix F with F F' = cov, in `unit`.

    By eigenvalues, because the covariance of referenced potentials is singular.
    """
    cov = np.asarray(converted(cov, unit**2, what), dtype=float)
    if cov.shape != (n, n):
        raise DataError(f"{what} has the shape {cov.shape}; it must be ({n}, {n})")
    if not np.isfinite(cov).all() or np.abs(cov - cov.T).max() > 1e-6 * np.abs(cov).max():
        raise DataError(f"{what} is not finite and symmetric; give a covariance")
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    if values[0] < -1e-6 * max(values[-1], 0.0):
        raise DataError(f"{what} has the negative eigenvalue {values[0]:.3g}; give a covariance")
    return vectors * np.sqrt(np.maximum(values, 0.0))
