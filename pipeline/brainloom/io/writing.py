"""Write the tables of a BIDS derivative cohort: same arrays, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brainloom.io.layout import subject_label
from brainloom.io.tables import format_number, write_cells, write_json

BIDS_VERSION = "1.10.0"


def write_description(
    root: str | Path,
    *,
    name: str,
    generated_by: str = "brainloom",
    version: str | None = None,
    **extra: object,
) -> Path:
    """Write ``dataset_description.json`` of a BIDS derivative dataset; ``extra`` are further BIDS keys."""
    maker = {"Name": generated_by} | ({"Version": version} if version else {})
    content = {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative", "GeneratedBy": [maker]}
    return write_json(Path(root) / "dataset_description.json", content | extra)


def write_participants(root: str | Path, subjects: Sequence[str | Mapping[str, object]]) -> Path:
    """Write ``participants.tsv``.

    Parameters
    ----------
    root : folder of the cohort.
    subjects : labels, or one mapping a subject with ``participant_id`` and further columns; a column that a subject
        lacks is written as ``n/a``.
    """
    rows = [dict(s) if isinstance(s, Mapping) else {"participant_id": s} for s in subjects]
    for row in rows:
        row["participant_id"] = f"sub-{subject_label(str(row['participant_id']))}"
    columns = list(dict.fromkeys(["participant_id", *(key for row in rows for key in row)]))
    lines = [columns, *([str(row.get(key, "n/a")) for key in columns] for row in rows)]
    return write_cells(Path(root) / "participants.tsv", lines)


def write_atlas(
    path: str | Path,
    labels: Sequence[str],
    *,
    hemisphere: Sequence[str] | None = None,
    coordinates: np.ndarray | None = None,
    homotope: Sequence[int] | None = None,
    digits: int = 6,
) -> Path:
    """Write the label table of an atlas (see `atlas_path`).

    Parameters
    ----------
    path : file to write.
    labels : (region,)
    hemisphere : (region,), ``L``, ``R`` or ``n/a``.
    coordinates : (region, 3), mm.
    homotope : (region,), position of the mirror region, -1 without one; stored as its name.
    digits : significant digits of the coordinates.
    """
    n = len(labels)
    hemisphere = hemisphere if hemisphere is not None else ["n/a"] * n
    xyz = np.full((n, 3), np.nan) if coordinates is None else np.asarray(coordinates, dtype=float)
    columns = ["index", "name", "hemisphere", "x", "y", "z"] + (["homotope"] if homotope is not None else [])
    rows = [columns]
    for at, label in enumerate(labels):
        row = [str(at + 1), label, str(hemisphere[at]), *(format_number(v, digits) for v in xyz[at])]
        if homotope is not None:
            row.append(labels[homotope[at]] if homotope[at] >= 0 else "n/a")
        rows.append(row)
    return write_cells(path, rows)


def write_relmat(
    path: str | Path,
    matrix: np.ndarray,
    meta: Mapping[str, object] | None = None,
    *,
    labels: Sequence[str] | None = None,
    digits: int = 6,
) -> Path:
    """Write a connectome and its JSON sidecar.

    Parameters
    ----------
    path : file to write (see `relmat_path`).
    matrix : (region, region_to)
    meta : content of the sidecar, such as ``{"Units": "mm"}``; without it no sidecar is written.
    labels : (region,), written as header line if given.
    digits : significant digits.
    """
    rows = [[format_number(value, digits) for value in row] for row in np.asarray(matrix, dtype=float)]
    written = write_cells(path, ([list(labels)] if labels is not None else []) + rows)
    if meta is not None:
        write_json(written.with_suffix(".json"), dict(meta))
    return written


def write_timeseries(
    path: str | Path,
    data: np.ndarray,
    labels: Sequence[str],
    repetition_time: float | None,
    *,
    meta: Mapping[str, object] | None = None,
    digits: int = 6,
) -> Path:
    """Write one run of regional BOLD and its JSON sidecar.

    Parameters
    ----------
    path : file to write (see `timeseries_path`).
    data : (time, region)
    labels : (region,), the header.
    repetition_time : s; None writes no ``RepetitionTime`` (one in the root folder then applies).
    meta : further content of the sidecar.
    digits : significant digits.
    """
    rows = [[format_number(value, digits) for value in row] for row in np.asarray(data, dtype=float)]
    written = write_cells(path, [list(labels), *rows])
    content = ({} if repetition_time is None else {"RepetitionTime": repetition_time}) | dict(meta or {})
    if content:
        write_json(written.with_suffix(".json"), content)
    return written
