"""
brainloom: personalised whole-brain models for cohorts.

``import brainloom`` is light; each part is imported when it is first used, as in ``brainloom.store``. What users
write most is at the top: every model (``brainloom.HopfStep``), ``Network``, ``Simulator``, ``Fitter``, ``lower``,
``list_models``, noise processes, and the modules ``datasets`` and ``viz``.
"""

from __future__ import annotations

from importlib import import_module, metadata, util
from pkgutil import iter_modules
from typing import Any

try:
    __version__ = metadata.version("brainloom")
except metadata.PackageNotFoundError:  # used from a source tree that is not installed
    __version__ = "0+unknown"


# Public names and the modules that hold them; models and noise processes are found in theirs.
_PUBLIC = {
    "Network": "network",
    "Coupling": "coupling",
    "register_coupling": "coupling",
    "Simulator": "simulate",
    "Sweep": "sweep",
    "BOLD": "observe",
    "BOLDSignal": "observe",
    "HRFBold": "observe",
    "LeadFieldModel": "observe",
    "EEGLeadFieldModel": "observe",
    "MEGLeadFieldModel": "observe",
    "TemporalAverage": "observe",
    "Fitter": "fit.fitter",
    "FitResult": "fit.fitter",
    "Identification": "fit.identification",
    "lower": "models.lowering",
    "list_models": "models",
    "get_model": "models",
    "NeuralMass": "models",
    "HORNSeqLayer": "models.horn_layers",
    "HORNSeqNetwork": "models.horn_layers",
}


def __getattr__(name: str) -> Any:
    """Import a part of the package, or a public name out of one, on first use."""
    if name in _PUBLIC:
        import_module(f"{__name__}.models")  # before brainstate, which would reset jax to single precision
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    if name.endswith("Step"):
        return getattr(import_module(f"{__name__}.models"), name)
    if name.endswith(("Noise", "Process")):
        return getattr(import_module(f"{__name__}.noise"), name)
    if name.startswith("_") or util.find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """The version, the public names and the parts of the package."""
    parts = (part.name for part in iter_modules(__path__) if not part.name.startswith("_"))
    return sorted({"__version__", *_PUBLIC, *parts})
