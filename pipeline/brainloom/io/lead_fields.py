"""
Lead fields of regions: from any forward model of MNE, from a sphere, or from a matrix of the user.

`LeadField` and the other builders are in `brainloom.io.lead_field`, `contacts`, `forward` and `sphere`, and found here as
well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.contacts import contact_lead_field
from brainloom.io.forward import lead_field_from_forward
from brainloom.io.lead_field import UNITS, LeadField, positions_of
from brainloom.io.sphere import sphere_lead_field
from brainloom.io.tables import read_cells, read_json, to_numbers

__all__ = [
    "LeadField",
    "contact_lead_field",
    "lead_field_from_forward",
    "lead_field_from_matrix",
    "sphere_lead_field",
]


def lead_field_from_matrix(
    matrix: Any,
    *,
    sensors: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    unit: str | Sequence[str] | None = None,
    dims: tuple[str, str] | None = None,
    kind: str | None = None,
    reference: str | None = None,
    orientation: Any = None,
) -> LeadField:
    """
    Lead field from a matrix of the user.

    Parameters
    ----------
    matrix : path of a TSV or npy file, array, Quantity, or xarray.DataArray
        (sensor, region), or (sensor, region, 3) for free orientation; see `dims`. A table has only numbers, or
        names in its first line and column; then its first cell may say what the lines are, ``sensor`` or ``region``.
        A JSON file beside it, of the same name, may give ``Units``, ``Dims`` and ``Reference``.
    sensors, regions : sequence of str, optional
        Names of the rows and columns. Where the matrix has names itself: what is taken from it, in this order.
    unit : str or sequence of str
        One for all or one for each sensor of the matrix, such as ``"V/(A*m)"`` or ``"uV/(nA*m)"``. A Quantity and a
        JSON file bring their own.
    dims : ("sensor", "region") or ("region", "sensor"), optional
        What rows and columns are. A square matrix needs it, unless its names tell.
    kind : {"eeg", "seeg", "ecog", "dbs", "mag", "grad"}, optional
        By the unit if not given.
    reference : str, optional
        What the matrix is relative to; see `LeadField`.
    orientation : (region, 3) array, optional
        That of the dipoles, if known.

    Raises
    ------
    DataError
        Shape, names or unit do not fit.

    Examples
    --------
    >>> field = lead_field_from_matrix([[1.0, 2.0, 3.0]], sensors=["Cz"], unit="uV/(nA*m)")
    >>> field.gain, field.regions
    (array([[1000., 2000., 3000.]]), ('region0', 'region1', 'region2'))
    """
    where = f"{matrix}: " if isinstance(matrix, (str, os.PathLike)) else ""
    lines: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    if isinstance(matrix, (str, os.PathLike)):
        side = Path(matrix).with_suffix(".json")
        said = read_json(side) if side.is_file() else {}
        unit = said.get("Units") if unit is None else unit
        reference = said.get("Reference") if reference is None else reference
        if dims is None and "Dims" in said:
            dims = tuple(said["Dims"])
        matrix, lines, columns, corner = _read_matrix(Path(matrix))
        if dims is None and corner in ("sensor", "region"):
            dims = ("sensor", "region") if corner == "sensor" else ("region", "sensor")
    elif hasattr(matrix, "dims") and hasattr(matrix, "coords"):
        dims = tuple(matrix.dims[:2]) if dims is None else dims
        unit = matrix.attrs.get("units") if unit is None else unit
        lines, columns = (
            [str(name) for name in matrix[dim].values] if dim in matrix.coords else None for dim in dims
        )
        matrix = matrix.values
    elif hasattr(matrix, "mantissa"):
        unit = str(matrix.unit) if unit is None else unit
        matrix = np.asarray(matrix.mantissa)
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim not in (2, 3) or (matrix.ndim == 3 and matrix.shape[2] != 3):
        raise DataError(
            f"{where}lead field has the shape {matrix.shape}; it must be (sensor, region), or (sensor, region, 3)"
        )
    if dims is None:
        dims = _dims_by_names(matrix.shape, lines, columns, sensors, regions, where)
    if sorted(dims) != ["region", "sensor"]:
        raise DataError(f"{where}dims is {dims}; it must be ('sensor', 'region') or ('region', 'sensor')")
    if dims[0] == "region":
        matrix, lines, columns = np.swapaxes(matrix, 0, 1), columns, lines
    matrix, found = _in_si(matrix, unit, where)
    kinds = found if kind is None else [kind] * len(found)
    if kind is not None and (kind not in UNITS or any(UNITS[one] != UNITS[kind] for one in found)):
        raise DataError(f"{where}kind is {kind!r}, but the unit is that of {found[0]}; correct one of them")
    names = []
    for given, read, n, what in (
        (sensors, lines, matrix.shape[0], "sensor"),
        (regions, columns, matrix.shape[1], "region"),
    ):
        if read is None and given is not None and len(given) != n:
            raise DataError(
                f"{where}lead field has {n} {what}s with dims={dims}, but {len(given)} names are given; "
                "correct the names, or say with dims what rows and columns are"
            )
        names.append(list(read or given or [f"{what}{at}" for at in range(n)]))
    for wanted, has, what in ((sensors, names[0], "sensor"), (regions, names[1], "region")):
        if wanted is not None:
            positions_of(wanted, has, f"{what} in {where}".removesuffix(" in ").rstrip(": "))
    field = LeadField(matrix, names[0], kinds, names[1], orientation, reference)
    return field if sensors is None and regions is None else field.pick(sensors, regions)


def _read_matrix(path: Path) -> tuple[np.ndarray, list[str] | None, list[str] | None, str]:
    """Values, names of lines and of columns, and the first cell."""
    if path.suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False), None, None, ""
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: file cannot be read as an array ({error}); save it with numpy.save"
            ) from None
    if path.suffix != ".tsv":
        raise DataError(f"{path}: lead field is a {path.suffix or 'file without suffix'}; give .tsv or .npy")
    rows = read_cells(path)
    corner = rows[0][0].strip().lower()
    try:
        float(corner)
    except ValueError:
        columns, lines = rows[0][1:], [row[0] for row in rows[1:]]
        cells = [row[1:] for row in rows[1:]]
        return to_numbers(cells, path, columns, first_line=2), lines, columns, corner
    columns = [str(at) for at in range(1, len(rows[0]) + 1)]
    return to_numbers(rows, path, columns, first_line=1), None, None, ""


def _dims_by_names(
    shape: tuple[int, ...], lines: Any, columns: Any, sensors: Any, regions: Any, where: str
) -> tuple[str, str]:
    """What rows and columns are, by names that are found in them; sensors first where the shape allows it."""
    for names, ours, others in (
        (sensors, ("sensor", "region"), ("region", "sensor")),
        (regions, ("region", "sensor"), ("sensor", "region")),
    ):
        if names is not None and lines is not None and columns is not None:
            in_lines, in_columns = (set(map(str, names)) <= set(some) for some in (lines, columns))
            if in_lines != in_columns:
                return ours if in_lines else others
    if shape[0] == shape[1]:
        raise DataError(
            f"{where}lead field is square ({shape[0]} x {shape[1]}) and its names do not tell what is what; "
            "give dims=('sensor', 'region') or dims=('region', 'sensor')"
        )
    return ("sensor", "region")


def _in_si(matrix: np.ndarray, unit: Any, where: str) -> tuple[np.ndarray, list[str]]:
    """Rows in the units of `UNITS`, and the kind of each sensor."""
    import brainunit as u

    from brainloom.core.units import parse

    if unit is None:
        raise DataError(f"{where}lead field has no unit; give unit='V/(A*m)', 'T/(A*m)' or 'T/(A*m^2)'")
    units = [unit] * len(matrix) if isinstance(unit, (str, u.Unit)) else list(unit)
    if len(units) != len(matrix):
        raise DataError(
            f"{where}{len(units)} units are given for {len(matrix)} sensors; give one, or one each"
        )
    factors, kinds = [], []
    for one in units:
        try:
            parsed = one if isinstance(one, u.Unit) else u.parse_unit(one)
        except ValueError:
            parsed = u.UNITLESS
        fits = [kind for kind in UNITS if parsed.dim == parse(UNITS[kind]).dim]
        if not fits:
            raise DataError(
                f"{where}lead field is given in {one}; it must be in a unit of V/(A*m), T/(A*m) or T/(A*m^2)"
            )
        kinds.append(fits[0])
        factors.append(float(u.Quantity(1.0, unit=parsed).to_decimal(parse(UNITS[fits[0]]))))
    return matrix * np.array(factors).reshape(-1, *[1] * (matrix.ndim - 1)), kinds
