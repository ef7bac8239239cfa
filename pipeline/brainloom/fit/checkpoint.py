"""Finished parts of a fit, kept outside the outputs so that a killed job resumes where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brainloom.fit.archive import read_npz, write_npz


def task_hash(static: str, arrays: Mapping[str, np.ndarray]) -> str:
    """
    Hash of everything that a fit's result depends on.

    Parameters
    ----------
    static : str
        Settings, as text.
    arrays : mapping of str to array

    Returns
    -------
    str, 32 hexadecimal digits
    """
    digest = hashlib.sha256(static.encode())
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:32]


def load(folder: Path | None, name: str) -> dict[str, np.ndarray] | None:
    """The arrays of a checkpoint, or None if there is none or it is damaged (it is then made again)."""
    if folder is None:
        return None
    try:
        return read_npz(folder / f"{name}.npz")
    except Exception:  # a truncated archive raises many kinds; any of them means: compute it again
        return None


def save(folder: Path | None, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint whole or not at all."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_npz(folder / f"{name}.npz", arrays)
