"""Archives of arrays on disk, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an archive whole or not at all; the same arrays give the same bytes."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **dict(arrays))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive; a damaged one raises errors of many kinds, none of which runs code."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
