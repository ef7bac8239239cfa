"""What a dataset says about its own making: versions, hashes, seed, precision; never time, host or date."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("brainloom", "jax", "brainstate", "brainunit", "numpy", "scipy", "xarray", "zarr")


def json_hash(obj: Any) -> str:
    """
    SHA-256 of an object's canonical JSON text: sorted keys, no spaces.

    Parameters
    ----------
    obj : JSON-like
        Anything `json.dumps` takes. The order of the keys of a dict does not matter.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> json_hash({"a": 1, "b": 2}) == json_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: str | os.PathLike) -> str:
    """
    SHA-256 of a file's bytes.

    Parameters
    ----------
    path : path-like
        An existing file.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def _versions() -> str:
    """JSON of the installed versions, from package metadata, so that nothing heavy is imported."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return json.dumps(found, sort_keys=True)


def provenance_attrs(
    step: str,
    params: dict[str, Any],
    inputs: dict[str, str],
    *,
    seed: int | None = None,
    precision: str | None = None,
    device: str = "cpu",
) -> dict[str, str | int]:
    """
    Attributes that record how a dataset was made.

    Parameters
    ----------
    step : str
        Name of the workflow step.
    params : dict
        The part of the config that the step read; only its hash is kept.
    inputs : dict of str to str
        Name of each input and its hash.
    seed : int, optional
        Seed of the study; -1 is recorded where none applies.
    precision : str, optional
        ``"float64"`` or ``"float32"``; ``"none"`` is recorded where none applies.
    device : str
        Kind of device, ``"cpu"`` or ``"gpu"``.

    Returns
    -------
    dict
        JSON scalars only: ``step, config_hash, input_hashes, versions, seed, precision, device``. The same
        call gives the same values on every machine with the same packages.
    """
    return {
        "step": step,
        "config_hash": json_hash(params),
        "input_hashes": json.dumps(inputs, sort_keys=True),
        "versions": _versions(),
        "seed": -1 if seed is None else int(seed),
        "precision": precision or "none",
        "device": device,
    }
