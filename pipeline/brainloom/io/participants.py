"""Covariates of subjects: the columns of ``participants.tsv``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainloom.core.errors import DataError
from brainloom.io.layout import subject_label
from brainloom.io.tables import MISSING, is_number, read_cells, read_json


@dataclass(frozen=True)
class Covariate:
    """
    One column of ``participants.tsv``.

    Attributes
    ----------
    name : str
    values : mapping of str to str or float
        By label without ``sub-``; subjects whose cell is missing are not in it. Numbers are floats.
    categorical : bool
        Whether values name groups: a cell is no number, or ``participants.json`` has ``Levels`` for the column.
    """

    name: str
    values: Mapping[str, str | float]
    categorical: bool


def read_covariates(path: str | Path) -> dict[str, Covariate]:
    """
    Columns of a table of participants but ``participant_id``, in their order.

    Parameters
    ----------
    path : file; a JSON file of the same name beside it is read too.

    Raises
    ------
    DataError
        If the table is missing or damaged, or lists a subject twice.
    """
    path = Path(path)
    header, *rows = read_cells(path)
    if "participant_id" not in header:
        raise DataError(f"{path}: the table has no column participant_id; add it")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: column {twice} is there twice; keep one")
    at = header.index("participant_id")
    labels = [subject_label(row[at]) for row in rows]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"{path}: participant_id sub-{twice} is listed twice; keep one line a subject")
    sidecar = read_json(path.with_suffix(".json")) if path.with_suffix(".json").is_file() else {}
    found = {}
    for place, name in enumerate(header):
        if place == at:
            continue
        described = sidecar.get(name)
        levels = isinstance(described, dict) and "Levels" in described
        cells = {label: row[place] for label, row in zip(labels, rows, strict=True)}
        cells = {label: cell for label, cell in cells.items() if cell.lower() not in MISSING}
        categorical = levels or not all(is_number(cell) for cell in cells.values())
        found[name] = Covariate(
            name,
            {label: cell if categorical else float(cell) for label, cell in cells.items()},
            categorical,
        )
    return found
