"""Brain maps of an atlas, such as myelin or a gradient: a table with a value a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.tables import MISSING, is_number, read_cells

# Regions that a sentence names before it counts the others.
NAMED = 5


@dataclass(frozen=True)
class BrainMaps:
    """
    Maps in the order of the regions of a study.

    Attributes
    ----------
    names : tuple of str
    values : (region, map) array
        Mean 0 and standard deviation 1 over regions, in no unit.
    """

    names: tuple[str, ...]
    values: np.ndarray


def read_brain_maps(path: str | Path, labels: Sequence[str]) -> BrainMaps:
    """
    Read a table with a column ``region`` and one column a map.

    Parameters
    ----------
    path : file
        Tab-separated. Regions may be in any order; those that are not in `labels` are left out.
    labels : (region,)
        Regions of the study.

    Raises
    ------
    DataError
        In one sentence: the table is missing or damaged, a region has no value, a map is constant or follows from the
        others, or there are too many of them.
    """
    header, *rows = read_cells(Path(path))
    if "region" not in header or len(header) < 2:
        raise DataError(
            f"{path}: columns are {', '.join(header)}; there must be region, and one column a map"
        )
    if twice := _twice(header):
        raise DataError(f"{path}: column {twice} is there twice; keep one")
    at = header.index("region")
    cells = {row[at]: row for row in rows}
    if twice := _twice([row[at] for row in rows]):
        raise DataError(f"{path}: region {twice} is listed twice; keep one line a region")
    places = {name: k for k, name in enumerate(header) if k != at}
    for name, k in places.items():
        lost = [label for label in labels if label not in cells or cells[label][k].lower() in MISSING]
        if lost:
            more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
            regions = f"region{'s' if len(lost) > 1 else ''} {', '.join(lost[:NAMED])}{more}"
            raise DataError(
                f"{path}: map {name} has no value for {regions}; add what is missing, or leave the map out"
            )
        for label in labels:
            text = cells[label][k]
            if not (is_number(text) and np.isfinite(float(text))):
                raise DataError(
                    f"{path}: map {name} of region {label} is {text!r}; it must be a finite number"
                )
    values = np.array([[float(cells[label][k]) for k in places.values()] for label in labels])
    if len(places) > len(labels) // 2:
        raise DataError(
            f"{path}: {len(places)} maps are too many for {len(labels)} regions; keep half as many or fewer"
        )
    spread = values.std(axis=0)
    for name, sd, size in zip(places, spread, np.abs(values).max(axis=0), strict=True):
        if sd <= 1e-12 * size:
            raise DataError(f"{path}: map {name} is the same in all regions; leave it out")
    values = (values - values.mean(axis=0)) / spread
    if np.linalg.matrix_rank(values) < len(places):
        raise DataError(f"{path}: one of the maps {', '.join(places)} follows from the others; leave it out")
    return BrainMaps(tuple(places), values)


def _twice(names: Sequence[str]) -> str:
    return next((name for name in names if list(names).count(name) > 1), "")
