"""What follows the analytic stage of a subject's fit: simulation stages of the model and, if asked for, of its controls."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainloom.core.config_stages import simulation_stages
from brainloom.fit import checkpoint
from brainloom.fit.problem import FitSetup, Problem
from brainloom.fit.simulated import Stage

Found = dict[str, np.ndarray]
Describe = Callable[[Problem, np.ndarray], Found]
NUMBERS = {
    "loss": "objective reached in the stage",
    "start_loss": "objective of the stage where it began",
    "validation": "objective of the stage on the validation part, with noise of its own: the lowest on its way",
    "start_validation": "the same where it began",
    "share": "share of the way of the stage that is kept, 0 for nothing",
}


def simulate_stages(
    name: str,
    problem: Problem,
    found: Found,
    *,
    stages: list[Stage],
    describe: Describe,
    folder: Path | None,
    label: str,
) -> Found:
    """
    Go on from the best start of the analytic stage.

    Parameters
    ----------
    name : str
        ``model`` or a control, whose stages are those with ``controls``.
    problem : dict of arrays
        Of the analytic stage, with the weights of this connectome.
    found : dict of arrays
        What the analytic stage has found.
    stages : list of Stage
    describe : callable
        ``(problem, theta) -> dict`` of what changes with the coordinates of the best start: ``value_<name>`` and
        ``margin``.
    folder : pathlib.Path, optional
        Of checkpoints.
    label : str
        Of the checkpoint of the analytic stage.

    Returns
    -------
    dict of arrays
        `found`, with the kept coordinates and what they describe at the best start, and ``stage_<name>`` with an axis of
        stages, the analytic one first. Features of the model stay those of the analytic stage.
    """
    chosen = [one for one in stages if name == "model" or one.settings["controls"]]
    best = int(found["best"])
    theta = np.asarray(found["theta"][best])
    rows: dict[str, list[Any]] = {key: [np.nan] for key in NUMBERS}
    rows["loss"], rows["share"] = [float(found["loss"][best])], [1.0]
    kept, steps, reached, histories = [True], [int(found["n_steps"][best])], [theta], [np.zeros(0)]
    if not np.isfinite(theta).all() or not np.isfinite(rows["loss"][0]):
        chosen = []
    for one in chosen:
        digest = checkpoint.task_hash(
            json.dumps([dict(one.settings), one.config["seed"], one.signal.attrs["signal_config"]]),
            {"theta": theta, "bold": one.signal["bold"].values},
        )
        made = one.fit(problem, theta, folder, f"{label}_stage-{one.number}-{digest}")
        for key, row in rows.items():
            row.append(float(made[key]))
        kept.append(bool(made["kept"]))
        steps.append(int(made["n_steps"]))
        reached.append(made["reached"])
        histories.append(made["history"])
        theta = made["theta"]
    if chosen:
        # where the analytic stage has ended is where the first simulation began
        rows["validation"][0] = rows["start_validation"][1]
    for _ in range(len(stages) - len(chosen)):
        for row in rows.values():
            row.append(np.nan)
        kept.append(False)
        steps.append(0)
        reached.append(np.full_like(theta, np.nan))
        histories.append(np.zeros(0))
    out = dict(found)
    if any(kept[1:]):
        out["theta"] = np.array(found["theta"])
        out["theta"][best] = theta
        for key, value in describe(problem, theta).items():
            if key.startswith("value_"):
                out[key] = np.array(found[key])
                out[key][best] = value
            else:
                out[key] = np.asarray(value)
    longest = max(map(len, histories))
    history = np.full((len(histories), max(1, longest)), np.nan)
    for place, values in zip(history, histories, strict=True):
        place[: len(values)] = values
    return (
        out
        | {f"stage_{key}": np.asarray(row) for key, row in rows.items()}
        | {
            "stage_kept": np.asarray(kept),
            "stage_steps": np.asarray(steps),
            "stage_theta": np.stack(reached),
            "stage_history": history,
        }
    )


def stages_of(subject: str, setup: FitSetup, signal: xr.Dataset, config: Mapping) -> list[Stage]:
    """The simulation stages that a configuration asks for."""
    return [
        Stage(subject, number, settings, setup, signal, config)
        for number, settings in enumerate(simulation_stages(config["fit"]), 1)
    ]


def stage_names(stages: list[Stage]) -> list[str]:
    """Names of all stages: ``analytic``, ``simulation``; several simulations are numbered."""
    several = len(stages) > 1
    return ["analytic", *(f"simulation {one.number}" if several else "simulation" for one in stages)]


def stage_variables(results: Mapping[str, Found], stages: list[Stage]) -> xr.Dataset:
    """
    What the stages add to the fit dataset; see docs/datasets.md. Nothing if there are only analytic ones.

    Parameters
    ----------
    results : dict
        By predictor, from `simulate_stages`.
    stages : list of Stage

    Returns
    -------
    xarray.Dataset
        Attribute ``stage``: the last stage that was kept for the model.
    """
    if not stages:
        return xr.Dataset()
    names = stage_names(stages)
    each = ("predictor", "stage")
    data: dict[str, Any] = {
        f"stage_{key}": (
            each,
            np.stack([one[f"stage_{key}"] for one in results.values()]),
            {"units": "1", "long_name": text},
        )
        for key, text in NUMBERS.items()
    }
    data["stage_kept"] = (
        each,
        np.stack([one["stage_kept"] for one in results.values()]),
        {"long_name": "the stage is better on the validation part than where it began, and kept"},
    )
    data["stage_steps"] = (
        each,
        np.stack([one["stage_steps"] for one in results.values()]),
        {"units": "1", "long_name": "steps taken"},
    )
    data["stage_theta"] = (
        (*each, "coordinate"),
        np.stack([one["stage_theta"] for one in results.values()]),
        {"units": "1", "long_name": "unconstrained coordinate that the stage has reached"},
    )
    longest = max(one["stage_history"].shape[1] for one in results.values())
    histories = np.full((len(results), len(names), longest), np.nan)
    for place, one in zip(histories, results.values(), strict=True):
        place[:, : one["stage_history"].shape[1]] = one["stage_history"]
    data["stage_history"] = (
        (*each, "stage_step"),
        histories,
        {"units": "1", "long_name": "objective of the stage at each evaluation"},
    )
    last = int(np.flatnonzero(results["model"]["stage_kept"])[-1])
    coords = {"predictor": list(results), "stage": np.array(names, dtype=str)}
    return xr.Dataset(data, coords=coords, attrs={"stage": names[last]})
