"""The route of fits of functional connectivity in the configuration: its two models, their values, what must agree."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from brainloom.core.config_modality import complete_parameters, shown
from brainloom.core.model_table import MODELS

# Starting values of each model's own parameters, in 1/s.
MODEL_PARAMETERS: dict[str, dict[str, float]] = {
    "HopfStep": {"a": -0.02, "beta": 1.0},
    "LinearStep": {"gamma": -0.1},
}
# Time step in s of simulations of these models if the configuration names none.
FC_TIME_STEP = 0.072
# The name under which `fit.regional` may call the model's local parameter instead of "local".
LOCAL_NAME = {"HopfStep": "a", "LinearStep": "gamma"}
# What fit.parameters may name: of the network there is one value, fields have one a region or one for all.
NETWORK = ("coupling", "homotopic")
FIELDS = ("local", "noise", "gain_in", "gain_out")
# Scales of these are not told apart by FC: they start at 1.
WITHOUT_START = ("noise", "gain_in", "gain_out")
# A prior narrower than this fixes a parameter at its start.
FIXED = 1e-3


def public(name: str) -> str:
    """The name of a field in the code: ``local`` for what each model calls its own way."""
    return "local" if name in LOCAL_NAME.values() else name


def fitted_names(parameters: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """What a complete ``fit.parameters`` of this route fits: its names in the code, without those a narrow prior fixes."""
    return {public(name): one for name, one in parameters.items() if one["prior_sd"] > FIXED}


def given_starts(parameters: Mapping[str, Mapping]) -> dict[str, float]:
    """Reference values that a complete ``fit.parameters`` gives, by their names in the code."""
    return {public(name): float(one["start"]) for name, one in parameters.items() if one["start"] is not None}


def complete_fc_route(config: dict[str, Any]) -> None:
    """Fill in the values that depend on the model, in place."""
    complete_parameters(config)
    name = config["model"]["name"]
    config["model"]["parameters"] = MODEL_PARAMETERS[name] | config["model"]["parameters"]
    own = LOCAL_NAME[name]
    config["fit"]["regional"] = ["local" if field == own else field for field in config["fit"]["regional"]]
    if config["simulate"]["dt"] is None:
        config["simulate"]["dt"] = FC_TIME_STEP


def fc_contradictions(config: dict[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """
    Find what does not fit each other in the sections of the model and its fit.

    Parameters
    ----------
    config : dict
        Complete, and valid against the schema.

    Returns
    -------
    list of (tuple of str, str)
        The place of each mistake, and a sentence.
    """
    found: list[tuple[tuple[str, ...], str]] = []

    def report(path: str, value: Any, must: str) -> None:
        found.append((tuple(path.split(".")), f"{path} is {shown(value)}; it must be {must}"))

    model, fit = config["model"], config["fit"]
    if model["name"] not in MODEL_PARAMETERS:
        other = "; fit.route spectrum takes every model" if model["name"] in MODELS else ""
        report("model.name", model["name"], f"one of {', '.join(MODEL_PARAMETERS)}{other}")
        return found
    own = MODEL_PARAMETERS[model["name"]]
    for key, value in model["parameters"].items():
        if key not in own:
            sentence = (
                f"model.parameters.{key} is not a parameter of {model['name']}, which has {', '.join(own)}"
            )
            found.append((("model", "parameters", key), sentence))
        elif key in ("a", "gamma") and value >= 0:
            report(
                f"model.parameters.{key}", value, "a number below 0 (1/s; the fit is of the stable regime)"
            )
        elif key == "beta" and value <= 0:
            report("model.parameters.beta", value, "a number above 0 (1/s)")
    local = LOCAL_NAME[model["name"]]
    for field in fit["regional"]:
        if field in LOCAL_NAME.values() and field != local:
            sentence = (
                f"fit.regional names {field}, which {model['name']} does not have; write local or {local}"
            )
            found.append((("fit", "regional"), sentence))
    if "local" in fit["regional"] and local in fit["regional"]:
        sentence = f"fit.regional names local and {local}, which are the same; write one of them"
        found.append((("fit", "regional"), sentence))
    found += _parameter_contradictions(fit, local)
    if not fit["global"] and not fit["regional"]:
        report("fit.global", fit["global"], "at least one name if fit.regional is empty")
    if not fit["objective"]["fc"] and not fit["objective"]["lag1"]:
        report("fit.objective", fit["objective"], "above 0 in fc or in lag1")
    levels = config["simulate"]["noise_levels"]
    if model["noise_level"] not in levels:
        report("simulate.noise_levels", levels, f"a list with model.noise_level ({model['noise_level']})")
    return found


def _parameter_contradictions(fit: dict[str, Any], local: str) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong with ``fit.parameters`` on this route."""
    found: list[tuple[tuple[str, ...], str]] = []
    known = [*NETWORK, *FIELDS]
    given = fit["parameters"]

    def report(name: str, key: str, value: Any, must: str) -> None:
        path = ("fit", "parameters", name, key)
        found.append((path, f"fit.parameters.{name}.{key} is {shown(value)}; it must be {must}"))

    for name, one in given.items():
        if name not in known and name != local:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"fit.route fc knows {', '.join(known)} ({local})"
            found.append(
                (("fit", "parameters", name), f"fit.parameters names {name}, which is not fitted; {hint}")
            )
            continue
        start = one.get("start")
        if name in NETWORK and one.get("scope") == "regional":
            report(name, "scope", "regional", "global, as there is one a network")
        if name in WITHOUT_START and start is not None:
            report(name, "start", start, "null, as FC does not tell its scale")
        elif public(name) == "local" and start is not None and start >= 0:
            report(name, "start", start, "a number below 0 (1/s; the fit is of the stable regime)")
        elif name in NETWORK and start is not None and start <= 0:
            report(name, "start", start, "a number above 0")
    if "local" in given and local in given:
        sentence = f"fit.parameters names local and {local}, which are the same; write one of them"
        found.append((("fit", "parameters"), sentence))
    if given and not any(one.get("prior_sd", 1.0) > FIXED for one in given.values()):
        sentence = "fit.parameters fixes all that it names by narrow priors; leave one free, with a prior_sd above 0.001"
        found.append((("fit", "parameters"), sentence))
    return found
