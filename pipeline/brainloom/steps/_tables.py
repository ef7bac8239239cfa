"""Tables of a study: tab-separated, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """
    Write a tab-separated table, whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        File to write; its folder is made.
    columns : sequence of str
        Header.
    rows : sequence of sequences of str
        Cells; tabs and line breaks in them become spaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(" ".join(str(cell).split()) for cell in row) for row in (columns, *rows)]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(temporary, path)
