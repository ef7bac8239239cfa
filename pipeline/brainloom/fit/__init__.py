"""Gradient fits of network models to recordings, and what the data identify of them."""

from __future__ import annotations

from importlib import import_module, util
from typing import Any


def __getattr__(name: str) -> Any:
    """Import a module of this package on first use, as in ``brainloom.fit.parameters``."""
    if name.startswith("_") or util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
