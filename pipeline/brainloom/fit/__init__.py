"""Gradient fits of network models to recordings, and what the data identify of them."""

from __future__ import annotations

from importlib import import_module, util
from typing import Any

# Public functions and classes, and the modules that hold them.
_PUBLIC = {
    "identify": "identifiability",
    "Identification": "identification",
    "profile": "profiles",
    "Profile": "profiles",
}


def __getattr__(name: str) -> Any:
    """Import a module of this package on first use, as in ``brainloom.fit.parameters``, or a public name of one."""
    if name in _PUBLIC:
        import_module("brainloom.models")  # before brainstate, which would reset jax to single precision
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    if name.startswith("_") or util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
