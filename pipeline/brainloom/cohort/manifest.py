"""The append-only list of which subject is computed in which batch, ``results/<study>/batches.tsv``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from brainloom.core.errors import ConfigError

HEADER = "batch\tsubject"
# In place of a batch: the subject left before its batch ran, or its files are gone.
LEFT = "-"

Row = tuple[str, str]


def read_manifest(path: str | Path) -> list[Row]:
    """
    Read the rows of a manifest.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; none yet is an empty manifest.

    Returns
    -------
    list of (str, str)
        Batch and subject, oldest first. The last row of a subject counts.

    Raises
    ------
    ConfigError
        The file is not such a table.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [tuple(line.split("\t")) for line in lines[1:] if line]
    if not lines or lines[0] != HEADER or not all(map(_is_row, rows)):
        raise ConfigError(
            f"{path} is not a list of batches (two columns, batch and subject); restore it, or delete it to "
            "form new batches, which computes the study again"
        )
    return rows  # type: ignore[return-value]


def members(rows: Sequence[Row]) -> dict[str, str]:
    """
    Where each subject stands now.

    Parameters
    ----------
    rows : sequence of (str, str)
        Of a manifest.

    Returns
    -------
    dict of str to str
        Subject to batch, in the order in which they entered their batch, without those that left.

    Examples
    --------
    >>> members([("b001", "01"), ("b001", "02"), ("-", "01"), ("b002", "01")])
    {'02': 'b001', '01': 'b002'}
    """
    current: dict[str, str] = {}
    for batch, subject in rows:
        current.pop(subject, None)
        if batch != LEFT:
            current[subject] = batch
    return current


def extend_manifest(
    rows: Sequence[Row],
    subjects: Sequence[str],
    *,
    size: int,
    has_run: Callable[[str], bool],
    usable: Callable[[str], bool],
) -> list[Row]:
    """
    Add rows until every subject of the study has a batch; rows that are there stay.

    A batch that ran keeps its members, also those that the study no longer names, because another set of
    members would make all of them run again.

    Parameters
    ----------
    rows : sequence of (str, str)
        The manifest so far.
    subjects : sequence of str
        Labels that the study wants and whose files exist.
    size : int
        Subjects in a batch at most.
    has_run : callable
        Whether there are results of a subject.
    usable : callable
        Whether the input files of a subject exist.

    Returns
    -------
    list of (str, str)
        The old rows and the new ones.

    Examples
    --------
    >>> extend_manifest([("b001", "01")], ["01", "02"], size=4, has_run=lambda s: s == "01", usable=lambda s: True)
    [('b001', '01'), ('b002', '02')]
    """
    rows = list(rows)
    wanted = set(subjects)
    for subject in members(rows):
        if subject not in wanted and not (has_run(subject) and usable(subject)):
            rows.append((LEFT, subject))
    current = members(rows)
    names = [batch for batch, _ in rows if batch != LEFT]
    count = max((int(name[1:]) for name in names), default=0)
    last = names[-1] if names else ""
    inside = [subject for subject, batch in current.items() if batch == last]
    closed = any(has_run(subject) for batch, subject in rows if batch == last)
    room = 0 if not last or closed else size - len(inside)
    for subject in subjects:
        if subject in current:
            continue
        if room <= 0:
            count += 1
            last, room = f"b{count:03d}", size
        rows.append((last, subject))
        room -= 1
    return rows


def write_manifest(path: str | Path, rows: Sequence[Row]) -> None:
    """
    Write a manifest, whole or not at all.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; folders are made.
    rows : sequence of (str, str)
        Batch and subject.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text("\n".join([HEADER, *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _is_row(cells: tuple[str, ...]) -> bool:
    """Whether a line of the file can be one of ours."""
    return len(cells) == 2 and bool(
        re.fullmatch(r"b\d{3,}|-", cells[0]) and re.fullmatch(r"[0-9A-Za-z+]+", cells[1])
    )
