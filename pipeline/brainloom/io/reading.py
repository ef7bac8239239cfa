"""Read the tables of a BIDS derivative cohort: atlas labels, connectomes, regional BOLD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.layout import sidecars
from brainloom.io.tables import is_number, read_cells, read_json, read_plain_numbers, to_numbers, who

LONGEST_REPETITION_TIME = 20.0


class Atlas(NamedTuple):
    """Label table of an atlas.

    Attributes
    ----------
    labels : list of str, (region,)
    hemisphere : list of str, (region,): ``L``, ``R`` or ``n/a``.
    coordinates : ndarray, (region, 3), mm, NaN where unknown.
    homotope : ndarray of int, (region,), position of the mirror region, -1 without one; or None if the table
        has no such column.
    values : list of str, (region,), value of the region in an atlas image; counts from 1 without such a column.
    """

    labels: list[str]
    hemisphere: list[str]
    coordinates: np.ndarray
    homotope: np.ndarray | None
    values: list[str]


def read_atlas(path: str | Path) -> Atlas:
    """Read ``atlas-<a>_dseg.tsv``: columns ``index, name`` and, as far as given, ``hemisphere, x, y, z, homotope``.

    ``homotope`` names the mirror region, by its name or by its index.

    Raises
    ------
    DataError
        If the table is missing or a name, index, coordinate or homotope in it makes no sense.
    """
    header, *rows = read_cells(path)
    if "name" not in header:
        raise DataError(f"{path}: columns are {', '.join(header)}; the table must have a column named name")
    if not rows:
        raise DataError(f"{path}: table has no regions; add one line a region")
    column = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    labels = column["name"]
    _refuse_repeated(labels, path, "column name")
    index = column.get("index", [str(at + 1) for at in range(len(labels))])
    _refuse_repeated(index, path, "column index")
    hemisphere = [_hemisphere(cell, path, line) for line, cell in enumerate(column.get("hemisphere", []), 2)]
    axes = [column.get(axis, ["n/a"] * len(labels)) for axis in "xyz"]
    coordinates = to_numbers([list(row) for row in zip(*axes, strict=True)], path, list("xyz"), first_line=2)
    homotope = None
    if "homotope" in column:
        homotope = _homotope_column(column["homotope"], labels, index, path)
    return Atlas(labels, hemisphere or ["n/a"] * len(labels), coordinates, homotope, index)


def _refuse_repeated(names: Sequence[str], path: str | Path, field: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(
                f"{path}: {who(path)}{field} has {name!r} more than once; give every region its own"
            )
        seen.add(name)


def _hemisphere(cell: str, path: str | Path, line: int) -> str:
    known = {"l": "L", "left": "L", "lh": "L", "r": "R", "right": "R", "rh": "R"}
    known |= dict.fromkeys(["n/a", "", "b", "m", "bilateral", "midline"], "n/a")
    if cell.lower() not in known:
        raise DataError(f"{path}: hemisphere in line {line} is {cell!r}; it must be L, R or n/a")
    return known[cell.lower()]


def _homotope_column(cells: list[str], labels: list[str], index: list[str], path: str | Path) -> np.ndarray:
    place = {name: at for at, name in enumerate(index)} | {name: at for at, name in enumerate(labels)}
    mirror = np.full(len(labels), -1)
    for at, cell in enumerate(cells):
        if cell.lower() in ("n/a", "", "-1"):
            continue
        if cell not in place or place[cell] == at:
            raise DataError(
                f"{path}: homotope of {labels[at]} is {cell!r}; it must be the name or index of another region, or n/a"
            )
        mirror[at] = place[cell]
    for at, other in enumerate(mirror):
        if other >= 0 and mirror[other] != at:
            raise DataError(
                f"{path}: homotope of {labels[at]} is {labels[other]} but not the other way round; "
                "mirror regions must name each other"
            )
    return mirror


def read_relmat(path: str | Path, labels: Sequence[str] | None = None) -> np.ndarray:
    """Read a connectome, with or without a header line of labels (and a first column of labels).

    Parameters
    ----------
    path : table of numbers.
    labels : region labels of the atlas; a file with a header is put into their order.

    Returns
    -------
    ndarray, (region, region_to), NaN where the file says ``n/a``.

    Raises
    ------
    DataError
        If the file is missing, not square, of another size than ``labels``, or has other labels or words in it.
    """
    rows = read_cells(path)
    header = None
    words = sum(not is_number(cell) for cell in rows[0])
    numbered = labels is not None and len(rows) > len(labels) and set(rows[0]) - {""} == set(labels)
    if numbered or words > len(rows[0]) / 2:
        header, *rows = rows
        if rows and len(rows[0]) == len(rows) + 1 and [row[0] for row in rows] == header[1:]:
            header, rows = header[1:], [row[1:] for row in rows]
    n_rows, n_columns = len(rows), len(rows[0]) if rows else len(header or [])
    expected = n_columns if labels is None else len(labels)
    if n_rows != n_columns or n_rows != expected:
        size = (
            "as many rows as columns"
            if labels is None
            else f"{expected} x {expected}, the regions of the atlas"
        )
        raise DataError(f"{path}: {who(path)}matrix is {n_rows} x {n_columns}; it must be {size}")
    matrix = to_numbers(
        rows, path, header or [str(at + 1) for at in range(n_columns)], first_line=2 if header else 1
    )
    if header is None or labels is None:
        return matrix
    order = match_labels(header, labels, path)
    return matrix[np.ix_(order, order)]


def match_labels(header: Sequence[str], labels: Sequence[str], path: str | Path) -> np.ndarray:
    """Positions in ``header`` of ``labels``.

    Raises
    ------
    DataError
        If the two are not the same set.
    """
    _refuse_repeated(header, path, "header")
    missing = [name for name in labels if name not in set(header)]
    extra = [name for name in header if name not in set(labels)]
    if missing or extra:
        problem = (
            f"lacks the atlas region {missing[0]!r}"
            if missing
            else f"has {extra[0]!r}, which the atlas lacks"
        )
        more = len(missing) + len(extra) - 1
        raise DataError(
            f"{path}: {who(path)}header {problem}{f' ({more} more labels differ)' if more else ''}; "
            "use the names of the atlas table as header"
        )
    place = {name: at for at, name in enumerate(header)}
    return np.array([place[name] for name in labels])


def read_timeseries(path: str | Path, labels: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """Read one run of regional BOLD.

    Parameters
    ----------
    path : table with region labels as header, one line a frame.
    labels : region labels of the atlas; columns are put into their order.

    Returns
    -------
    data : ndarray, (time, region), in the units of the file, NaN where it says ``n/a``.
    labels : list of str, (region,)

    Raises
    ------
    DataError
        If the file is missing, has no header or no frames, other labels than ``labels``, or words among its numbers.
    """
    plain = read_plain_numbers(path)
    header, *rows = read_cells(path) if plain is None else [plain[0]]
    if all(is_number(cell) for cell in header) and (labels is None or set(header) != set(labels)):
        raise DataError(
            f"{path}: {who(path)}line 1 starts with {header[0]!r}; it must be a header with the region labels"
        )
    if plain is None and not rows:
        raise DataError(f"{path}: {who(path)}table has a header and no frames; write the recording into it")
    data = to_numbers(rows, path, header, first_line=2) if plain is None else plain[1]
    if labels is None:
        return data, header
    return data[:, match_labels(header, labels, path)], list(labels)


def read_sidecar(root: str | Path, path: str | Path) -> tuple[dict, dict[str, Path]]:
    """Metadata of a data file by BIDS inheritance.

    Returns
    -------
    content : dict, the nearest file wins.
    origin : dict, key to the JSON file that it comes from.
    """
    content: dict = {}
    origin: dict[str, Path] = {}
    for sidecar in sidecars(root, path):
        found = read_json(sidecar)
        content.update(found)
        origin.update(dict.fromkeys(found, sidecar))
    return content, origin


def read_repetition_time(root: str | Path, path: str | Path, *, default: float | None = None) -> float:
    """Seconds between two frames: ``RepetitionTime``, else one over ``SamplingFrequency``, of the sidecars of a run.

    Parameters
    ----------
    root : folder of the cohort.
    path : table of the run.
    default : s, returned if no sidecar has it.

    Raises
    ------
    DataError
        If no sidecar has it and there is no default, or it is not a plausible number of seconds.
    """
    content, origin = read_sidecar(root, path)
    key = "RepetitionTime" if "RepetitionTime" in content else "SamplingFrequency"
    if key not in content:
        if default is not None:
            return float(default)
        sidecar = Path(path).with_suffix(".json")
        raise DataError(
            f"{sidecar}: {who(path)}RepetitionTime is missing; add it in seconds, or set signal.tr in the configuration"
        )
    value = content[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    seconds = 0.0
    if number and value > 0:
        seconds = float(value) if key == "RepetitionTime" else 1.0 / float(value)
    if not 0 < seconds <= LONGEST_REPETITION_TIME:
        unit = "seconds" if key == "RepetitionTime" else "Hz"
        hint = f" (is {value} in milliseconds?)" if number and value > LONGEST_REPETITION_TIME else ""
        raise DataError(
            f"{origin[key]}: {who(path)}{key} is {value!r}; it must be a positive number of {unit}{hint}"
        )
    return seconds
