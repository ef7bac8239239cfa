"""The stages of a fit in the configuration: what each key is if it is left out, and what must agree, in one sentence each."""

from __future__ import annotations

from typing import Any

from brainloom.core.config_modality import shown

# What a simulation stage does where it does not say.
STAGE_DEFAULTS: dict[str, Any] = {
    "stage": "simulation",
    "backend": "grad",
    "optimizer": None,
    "rate": 0.02,
    "steps": 100,
    "population": None,
    "realisations": 4,
    "duration": None,
    "transient": 30.0,
    "dt": None,
    "objective": {"fc": 1.0},
    "controls": False,
}
# Optimisers of each backend that a stage may name; the first is the one if it names none. Others take what they know.
OPTIMIZERS = {"grad": ("adam", "lbfgs"), "nevergrad": ("CMA", "DE", "PSO", "OnePlusOne")}
POPULATIONS = ("cmaes", "nevergrad")
# Terms of an objective that compare moments with moments, so that they need two windows without a common frame.
WINDOWED = ("fcd_ks", "fcd_wasserstein")

Found = list[tuple[tuple[Any, ...], str]]


def complete_stages(config: dict[str, Any]) -> None:
    """Fill in what simulation stages leave out, in place; ``analytic`` stays a word."""
    stages = []
    for one in config["fit"]["stages"]:
        given = {"stage": one} if isinstance(one, str) else dict(one)
        stages.append(
            given["stage"] if given["stage"] == "analytic" else STAGE_DEFAULTS | _without_null(given)
        )
    config["fit"]["stages"] = stages


def simulation_stages(fit: dict[str, Any]) -> list[dict[str, Any]]:
    """The simulation stages of a complete section ``fit``, in order."""
    return [one for one in fit.get("stages", ()) if isinstance(one, dict)]


def stage_contradictions(config: dict[str, Any]) -> Found:
    """
    Find what does not fit each other in ``fit.stages``.

    Parameters
    ----------
    config : dict
        Complete but for the stages, and valid against the schema.

    Returns
    -------
    list of (tuple, str)
        The place of each mistake, and a sentence.
    """
    stages = config["fit"]["stages"]
    kinds = [one if isinstance(one, str) else one.get("stage", "simulation") for one in stages]
    if kinds[0] != "analytic" or kinds.count("analytic") > 1:
        must = "a list that begins with analytic, once, and may go on with simulation"
        return [(("fit", "stages"), f"fit.stages is {shown(stages)}; it must be {must}")]
    if len(kinds) > 1 and config["fit"]["route"] != "fc":
        sentence = (
            f"fit.stages is {shown(stages)}; it must be [analytic] if fit.route is spectrum, whose stages do not "
            "simulate in this version"
        )
        return [(("fit", "stages"), sentence)]
    found: Found = []
    for number, one in enumerate(stages[1:], 1):
        given = STAGE_DEFAULTS | _without_null({} if isinstance(one, str) else one)
        found += _one_stage(number, given, config)
    return found


def _one_stage(number: int, stage: dict[str, Any], config: dict[str, Any]) -> Found:
    found: Found = []

    def report(key: str, must: str) -> None:
        path = ("fit", "stages", number, key)
        found.append((path, f"fit.stages[{number}].{key} is {shown(stage[key])}; it must be {must}"))

    backend, optimizer, signal = stage["backend"], stage["optimizer"], config["signal"]
    if optimizer is not None and backend in OPTIMIZERS and optimizer not in OPTIMIZERS[backend]:
        report("optimizer", f"null or one of {', '.join(OPTIMIZERS[backend])} if backend is {backend}")
    if optimizer is not None and backend == "cmaes":
        report("optimizer", "null if backend is cmaes, which is one method")
    if stage["population"] is not None and backend not in POPULATIONS:
        report("population", f"null if backend is {backend}, which moves one point at a time")
    if not any(stage["objective"].values()):
        report("objective", "above 0 in at least one term")
    if stage["duration"] is not None:
        windowed = [name for name in WINDOWED if stage["objective"].get(name)]
        if windowed and stage["duration"] < 2.0 * signal["fcd_window"] + signal["fcd_step"]:
            least = 2.0 * signal["fcd_window"] + signal["fcd_step"]
            report(
                "duration",
                f"null or at least {least:g} s, two windows of FC dynamics and a step, for {windowed[0]}",
            )
        elif stage["duration"] * signal["band"][0] < 1.0:
            report(
                "duration",
                f"null or at least {1 / signal['band'][0]:g} s, one period of where signal.band starts",
            )
    return found


def _without_null(stage: dict[str, Any]) -> dict[str, Any]:
    """Keys that were given; null asks for the default."""
    return {key: value for key, value in stage.items() if value is not None}
