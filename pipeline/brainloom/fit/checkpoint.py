"""Finished parts of a fit, kept outside the outputs so that a killed job resumes where it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np


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
        with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except Exception:  # a truncated archive raises many kinds; any of them means: compute it again
        return None


def save(folder: Path | None, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint whole or not at all."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{name}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **dict(arrays))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / f"{name}.npz")
