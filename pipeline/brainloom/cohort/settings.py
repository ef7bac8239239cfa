"""Which part of the configuration each workflow step reads, and so what makes it run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Keys below a section are written with a dot. A step sees nothing else of the configuration.
SECTIONS: dict[str, tuple[str, ...]] = {
    "index_cohort": (
        "input.atlas",
        "input.task",
        "subjects",
        "connectome.symmetrise",
        "signal.tr",
        "signal.band",
        "signal.filter_order",
        "signal.drop_frames",
        "signal.splits",
    ),
    "preprocess_connectome": ("input.atlas", "input.task", "connectome"),
    "preprocess_signal": ("input.atlas", "input.task", "signal", "model.frequency_band"),
    "fit": ("model", "fit", "analyse.controls", "signal.band", "signal.filter_order"),
    "identify": ("model", "fit", "identify", "signal.band", "signal.filter_order"),
    "simulate": ("model", "simulate", "signal"),
    "analyse": ("model.name", "analyse.fcd"),
    "group": ("model.name", "group"),
    "report": ("input", "model", "connectome", "signal", "fit", "identify", "simulate", "analyse", "group"),
}
# Read by every step.
COMMON = ("study", "seed", "precision")
# A key that the step knows under a shorter name.
_RENAMED = {"analyse.controls": "controls"}


def step_settings(config: Mapping[str, Any], step: str) -> dict[str, Any]:
    """
    Take from a configuration what one step reads.

    Parameters
    ----------
    config : mapping
        Validated: see `brainloom.core.config.validate_config`.
    step : str
        Name of the step.

    Returns
    -------
    dict
        The common keys and the step's sections; ``analyse.controls`` is called ``controls``.

    Examples
    --------
    >>> from brainloom.core.config import validate_config
    >>> sorted(step_settings(validate_config({}), "fit"))
    ['controls', 'fit', 'model', 'precision', 'seed', 'signal', 'study']
    """
    found: dict[str, Any] = {key: config[key] for key in COMMON}
    for name in SECTIONS[step]:
        value: Any = config
        for part in name.split("."):
            value = value[part]
        name = _RENAMED.get(name, name)
        *parents, last = name.split(".")
        place = found
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return found


def settings_json(config: Mapping[str, Any], step: str) -> str:
    """The text of `step_settings` for ``--params``: one line of JSON, the same for the same settings."""
    return json.dumps(step_settings(config, step), sort_keys=True, ensure_ascii=True)
