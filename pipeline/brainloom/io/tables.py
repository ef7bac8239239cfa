"""Tab-separated tables and JSON files as BIDS writes them: same input, same bytes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

from brainloom.core.errors import DataError

MISSING = ("n/a", "nan", "na", "")


def who(path: str | Path) -> str:
    """``"sub-01 "`` if the file name starts with a subject, else an empty string."""
    first = Path(path).name.split("_")[0]
    return f"{first} " if first.startswith("sub-") else ""


def read_text(path: str | Path) -> str:
    """Text of a UTF-8 file, without a byte-order mark.

    Raises
    ------
    DataError
        If the file does not exist, cannot be read, or is not text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: {who(path)}file not found; add the file or leave the subject out") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: {who(path)}file is not UTF-8 text (byte {error.start}); save it as a tab-separated table"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: {who(path)}file cannot be read ({error.strerror}); correct the file or its permissions"
        ) from None


def read_cells(path: str | Path) -> list[list[str]]:
    """Cells of a tab-separated table, one list a line; empty lines at the end are dropped.

    Raises
    ------
    DataError
        If the file is missing, empty, or its lines differ in length.
    """
    lines = read_text(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path}: {who(path)}table is empty; write the file again")
    rows = [[cell.strip() for cell in line.rstrip("\r\n").split("\t")] for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: {who(path)}line {number} has {len(row)} cells where line 1 has {len(rows[0])}; "
                "every line must have the same number of tab-separated cells"
            )
    return rows


def read_plain_numbers(path: str | Path) -> tuple[list[str], np.ndarray] | None:
    """
    Header and numbers of a table that holds nothing but numbers below its header, ten times faster than by its cells.

    Returns
    -------
    (list of str, (line, column) array) or None
        None where anything is out of the ordinary, such as a missing or ragged cell: `read_cells` then says what.

    Raises
    ------
    DataError
        As `read_text`.
    """
    head, _, body = read_text(path).partition("\n")
    header, lines = [cell.strip() for cell in head.split("\t")], body.rstrip("\n").split("\n")
    if not body or any(line.count("\t") != len(header) - 1 for line in lines):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what cannot be read as a number, where it is no error yet
            values = np.fromstring("\t".join(lines), sep="\t")
    except (ValueError, DeprecationWarning):
        return None
    return (header, values.reshape(len(lines), -1)) if values.size == len(lines) * len(header) else None


def is_number(cell: str) -> bool:
    """Whether a cell is a number or one of the marks for a missing number."""
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def to_numbers(rows: list[list[str]], path: str | Path, columns: list[str], *, first_line: int) -> np.ndarray:
    """Cells as float64, missing cells as NaN.

    Parameters
    ----------
    rows : list of list of str, (line, column)
    path : file of the cells, for messages.
    columns : names of the columns, for messages.
    first_line : 1-based line of ``rows[0]`` in the file.

    Raises
    ------
    DataError
        If a cell is not a number; the message names line and column.
    """
    clean = [["nan" if cell.lower() in MISSING else cell for cell in row] for row in rows]
    try:
        return np.array(clean, dtype=object).reshape(len(rows), len(columns)).astype(float)
    except ValueError:
        for line, row in enumerate(clean, first_line):
            for name, cell in zip(columns, row, strict=True):
                if not is_number(cell):
                    raise DataError(
                        f"{path}: {who(path)}line {line}, column {name} is {cell!r}; "
                        "it must be a number, or n/a where there is none"
                    ) from None
        raise


def format_number(value: float, digits: int) -> str:
    """``value`` with ``digits`` significant digits; ``n/a`` for NaN, and no negative zero."""
    if np.isnan(value):
        return "n/a"
    return f"{float(value) + 0.0:.{digits}g}"


def write_cells(path: str | Path, rows: list[list[str]]) -> Path:
    """Write a tab-separated table, making its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join("\t".join(row) + "\n" for row in rows)
    path.write_bytes(text.encode())
    return path


def read_json(path: str | Path) -> dict:
    """Content of a JSON file that holds an object.

    Raises
    ------
    DataError
        If the file is missing, is not JSON, or is not an object.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: {who(path)}file is not valid JSON (line {error.lineno}: {error.msg}); correct that line"
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: {who(path)}file holds a JSON {type(content).__name__}; it must be an object in braces"
        )
    return content


def write_json(path: str | Path, content: dict) -> Path:
    """Write a JSON object with its keys in the given order, making its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return path
