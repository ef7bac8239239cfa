"""
brainloom: personalised whole-brain models for cohorts.

``import brainloom`` is light; each part is imported when it is first used, as in ``brainloom.store``.
"""

from __future__ import annotations

from importlib import import_module, metadata, util
from pkgutil import iter_modules
from typing import Any

try:
    __version__ = metadata.version("brainloom")
except metadata.PackageNotFoundError:  # used from a source tree that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import a part of the package on first use."""
    if name.startswith("_") or util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """The version and the parts of the package."""
    return sorted(
        {"__version__", *(part.name for part in iter_modules(__path__) if not part.name.startswith("_"))}
    )
