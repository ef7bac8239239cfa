"""The route of fits of functional connectivity in the configuration: its two models, their values, what must agree."""

from __future__ import annotations

from typing import Any

from brainloom.core.config_modality import shown
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


def complete_fc_route(config: dict[str, Any]) -> None:
    """Fill in the values that depend on the model, in place."""
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
    if not fit["global"] and not fit["regional"]:
        report("fit.global", fit["global"], "at least one name if fit.regional is empty")
    if not fit["objective"]["fc"] and not fit["objective"]["lag1"]:
        report("fit.objective", fit["objective"], "above 0 in fc or in lag1")
    levels = config["simulate"]["noise_levels"]
    if model["noise_level"] not in levels:
        report("simulate.noise_levels", levels, f"a list with model.noise_level ({model['noise_level']})")
    return found
