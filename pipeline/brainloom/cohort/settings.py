"""Which part of the configuration each workflow step reads, and so what makes it run again."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from brainloom.core.modalities import ELECTRIC, MODALITIES

# What the analytic objective of route fc depends on.
_ONE_FIT = (
    "model.name",
    "model.parameters",
    "fit.parameters",
    "fit.global",
    "fit.regional",
    "fit.objective",
    "fit.lambda",
    "fit.margin",
    "fit.through_band",
    "fit.max_steps",
)
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
        "signal.block",
        "signal.gap",
        "input.atlas_image",
        "signal.confounds",
        "signal.scrub",
    ),
    "preprocess_connectome": ("input.atlas", "input.task", "connectome"),
    "preprocess_signal": ("input.atlas", "input.task", "input.atlas_image", "signal", "model.frequency_band"),
    "fit": ("model", "fit", "analyse.controls", "signal.band", "signal.filter_order"),
    "identify": ("model", "fit", "identify", "signal.band", "signal.filter_order"),
    "simulate": ("model", "simulate", "signal"),
    "analyse": ("model.name", "analyse.fcd", "analyse.controls.rewire"),
    "reliability": (
        *_ONE_FIT,
        "analyse.controls",
        "reliability",
        "signal.band",
        "signal.filter_order",
    ),
    "pool": (
        *_ONE_FIT,
        "pool",
        "signal.band",
        "signal.filter_order",
    ),
    "recover": (
        "model",
        "fit",
        "identify",
        "simulate.dt",
        "simulate.transient",
        "signal.band",
        "signal.filter_order",
        "recovery",
    ),
    "recovery_group": ("model.name",),
    "group": ("model.name", "group"),
    "report": ("input", "model", "connectome", "signal", "fit", "identify", "simulate", "analyse", "group"),
}
# With the route spectrum, in place of the above: the steps read the modalities and their sections too.
_SPECTRUM: dict[str, tuple[str, ...]] = {
    "index_cohort": (*SECTIONS["index_cohort"], "modality", *ELECTRIC),
    "preprocess_signal": (*SECTIONS["preprocess_signal"], "modality", *ELECTRIC),
    "fit": (
        "model",
        "fit",
        "analyse.controls",
        "signal.band",
        "signal.filter_order",
        "modality",
        *ELECTRIC,
    ),
    "identify": ("model", "fit", "identify", "signal.band", "signal.filter_order", "modality", *ELECTRIC),
    "simulate": ("model", "simulate", "signal", "modality", *ELECTRIC),
    "analyse": (*SECTIONS["analyse"], "modality"),
    **dict.fromkeys(("pool", "reliability", "recover"), ()),  # for route fc only
    "group": (*SECTIONS["group"], "modality"),
    "report": (*SECTIONS["report"], "modality", *ELECTRIC),
}
# What only one of the two routes reads, and what nothing reads while it is empty.
_ONLY_FC = (
    "model.frequency_band",
    "model.noise_level",
    "fit.global",
    "fit.regional",
    "fit.objective.fc",
    "fit.objective.lag1",
    "fit.through_band",
    "fit.backend",
    "fit.lambda",
    "fit.margin",
    "identify.prior_sd",
    "simulate.noise_levels",
)
_ONLY_SPECTRUM = (
    "model.coupling",
    "fit.route",
    "fit.objective.bold",
    "fit.objective.eeg",
    "fit.objective.meg",
    "simulate.stored",
    "signal.bandwidth",
)
# Read by every step.
COMMON = ("study", "seed", "precision")
_ABSENT = object()
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
    config = used_part(config)
    names = (SECTIONS if config["route"] == "fc" else SECTIONS | _SPECTRUM)[step]
    if step == "simulate" and "export" in config["simulate"]:
        names = (*names, "input.atlas")  # part of the names of the files
    for name in names:
        value: Any = config
        for part in name.split("."):
            value = value.get(part, _ABSENT)
            if value is _ABSENT:
                break
        if value is _ABSENT:
            continue
        name = _RENAMED.get(name, name)
        *parents, last = name.split(".")
        place = found
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return found


def used_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    A configuration without the keys that nothing reads, so that changing them makes nothing run again.

    These are the keys of the other route of fits, of modalities that are not used, of images and confounds that are not
    asked for, of stages where there is only the analytic one, and of empty lists of exports.

    Parameters
    ----------
    config : mapping
        Validated.

    Returns
    -------
    dict
        A copy; the key ``route`` is that of the fit.
    """
    found = copy.deepcopy(dict(config))
    route, modality = found["fit"]["route"], found["modality"]
    unused = [*(_ONLY_SPECTRUM if route == "fc" else _ONLY_FC)]
    if not found["fit"]["parameters"]:
        unused.append("fit.parameters")
    if found["fit"]["stages"] == ["analytic"]:
        unused.append("fit.stages")
    if not found["group"]["tests"]:
        unused += ["group.tests", "group.permutations", "group.harmonise"]
    if not found["analyse"]["controls"].get("rewire"):
        unused.append("analyse.controls.rewire")
    if not found["simulate"]["export"]:
        unused.append("simulate.export")
    unused += [
        f"{section}.{key}"
        for section, key in (
            ("input", "atlas_image"),
            *(("signal", k) for k in ("confounds", "scrub", "gap")),
        )
        if found[section][key] is None
    ]
    if found["signal"]["splits"] != "blocks":
        unused.append("signal.block")
    if "bold" not in modality:
        found["signal"] = {key: found["signal"][key] for key in ("splits", "block", "gap")}
    for name in MODALITIES:
        if name not in modality:
            unused += [name, f"fit.objective.{name}"]
    for path in unused:
        *parents, last = path.split(".")
        place = found
        for part in parents:
            place = place.get(part, {})
        place.pop(last, None)
    return found | {"route": route}


def settings_json(config: Mapping[str, Any], step: str) -> str:
    """The text of `step_settings` for ``--params``: one line of JSON, the same for the same settings."""
    return json.dumps(step_settings(config, step), sort_keys=True, ensure_ascii=True)
