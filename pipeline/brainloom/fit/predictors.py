"""Fit models and their controls: connectomes, starts, checkpoints, and the dataset that all ways of fitting share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.fit import checkpoint
from brainloom.fit.controls import control_connectomes

Found = dict[str, np.ndarray]  # what is kept of the fit of one connectome
# Features of BOLD: name of the variable, dimensions besides predictor, unit, long name.
BOLD_FEATURES = {
    "fc": ("fc_model", ("region", "region_to"), "1", "FC of the model, linear-noise"),
    "lag1": ("lag1_model", ("region", "region_to"), "1", "lag-1 correlation of the model through the band"),
    "variance": (
        "variance_model",
        ("region",),
        "1",
        "band-limited variance of the model relative to the mean",
    ),
    "psd": (
        "psd_model",
        ("region", "frequency"),
        "1/Hz",
        "power spectral density of the model, unit variance",
    ),
}


class Fits(NamedTuple):
    """
    Results of all starts of a task.

    Attributes
    ----------
    theta : (start, size) array
        Best points.
    history : (start, step) array
        Objective at every step, NaN after the end.
    loss : (start,) array
        At the best point; not finite where the fit failed.
    n_steps, converged : (start,) arrays
    """

    theta: Any
    history: Any
    loss: Any
    n_steps: Any
    converged: Any


@dataclass(frozen=True)
class Task:
    """
    One connectome to fit to a recording: that of the subject, or a control.

    Attributes
    ----------
    subject, name : str
        Label of the subject; ``model`` or the name of the control.
    problem : dict of arrays
        With the weights of this connectome.
    starts : (start, size) array
    label : str
        Of its checkpoint: differs with everything that the result depends on.
    """

    subject: str
    name: str
    problem: dict[str, Any]
    starts: jax.Array
    label: str


# search(tasks, keep): fits every task and gives the results of each to `keep` as soon as all its starts have ended.
Search = Callable[[Sequence[Task], Callable[[Task, Any], None]], None]


def predictor_tasks(
    subject: str,
    connectome: xr.Dataset,
    donor: xr.Dataset | None,
    config: Mapping,
    *,
    problem: dict[str, Any],
    starts: Callable[[int, jax.Array], jax.Array],
    depends: Any,
) -> list[Task]:
    """
    What is to be fitted for a subject: its connectome and the controls.

    Parameters
    ----------
    subject : str
        Label.
    connectome : xarray.Dataset
    donor : xarray.Dataset, optional
        Connectome of another subject.
    config : mapping
        Sections ``model, fit, seed``; ``controls, modality, code`` where there are some.
    problem : dict of arrays
        ``weights`` are replaced by those of each connectome.
    starts : callable
        ``(n_starts, key) -> (n_starts, size) array``.
    depends : tree of arrays
        What a result depends on besides `problem`.

    Returns
    -------
    list of Task
        ``model`` first.
    """
    weights = connectome["weights"].values
    settings = config.get("controls")
    controls = (
        {}
        if settings is None
        else control_connectomes(
            settings, weights, connectome["lengths"].values, donor_weights(donor, connectome), config["seed"]
        )
    )
    fit, key = config["fit"], named_key(config["seed"], "fit", subject)
    tasks = []
    for name, wiring in {"model": weights, **controls}.items():
        first = starts(fit["starts"] if name == "model" else fit["control_starts"], key)
        given = problem | {"weights": jnp.asarray(wiring * (1.0 - np.eye(len(wiring))), first.dtype)}
        searched = {key: value for key, value in fit.items() if key != "stages"}
        read = [config.get("modality"), searched, config["model"], config.get("code")]
        # Donors and seeds are told apart by their arrays, subjects by the folder name.
        arrays = _flat({"task": given, "depends": depends, "starts": first})
        digest = checkpoint.task_hash(json.dumps(read, sort_keys=True, default=str), arrays)
        label = f"sub-{subject}_{name.replace(':', '-')}_{digest}"
        tasks.append(Task(subject, name, given, first, label))
    return tasks


def fit_tasks(
    tasks: Sequence[Task],
    search: Search,
    describe: Callable[[Task, Any, int], Found],
    checkpoints: Path | None,
) -> dict[str, Found]:
    """
    Fit what has no checkpoint yet, and keep each task as soon as it is done.

    Parameters
    ----------
    tasks : sequence of Task
    search : callable
        See `Search`; its results have the attributes of `Fits`.
    describe : callable
        ``(task, fits, best) -> dict``: what else is kept, ``margin`` and ``value_<name>`` of every start among it.
    checkpoints : pathlib.Path, optional
        Folder of the checkpoints.

    Returns
    -------
    dict of str to dict
        By label: ``theta, history, loss, n_steps, converged, best`` and what `describe` gives.
    """
    found = {}
    for task in tasks:
        known = checkpoint.load(checkpoints, task.label)
        if known is not None:
            found[task.label] = known

    def keep(task: Task, fits: Any) -> None:
        loss = np.asarray(fits.loss)
        best = int(np.nanargmin(np.where(np.isfinite(loss), loss, np.inf)))
        common = {name: getattr(fits, name) for name in Fits._fields}
        made = describe(task, fits, best) | common | {"best": best}
        found[task.label] = {name: np.asarray(value) for name, value in made.items()}
        checkpoint.save(checkpoints, task.label, found[task.label])

    search([task for task in tasks if task.label not in found], keep)
    return found


def subject_results(
    tasks: Sequence[Task],
    found: Mapping[str, Found],
    lost: str,
    refine: Callable[[Task, Found], Found] = lambda task, found: found,
) -> dict[str, Found]:
    """
    Results of the tasks of one subject by predictor.

    Parameters
    ----------
    tasks : sequence of Task
        From `predictor_tasks`.
    found : dict
        From `fit_tasks`.
    lost : str
        What happened, and what to do, where no start of the model ended; ``{n}`` starts.
    refine : callable
        What follows the search of a predictor.

    Returns
    -------
    dict of str to dict
        ``model`` and the names of the controls.

    Raises
    ------
    DataError
        No start of the model ended.
    """
    for task in tasks:
        if task.name == "model" and not np.isfinite(found[task.label]["loss"]).any():
            raise DataError(f"sub-{task.subject}: {lost.format(n=len(task.starts))}")
    return {task.name: refine(task, found[task.label]) for task in tasks}


def _flat(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def donor_weights(donor: xr.Dataset | None, connectome: xr.Dataset) -> np.ndarray | None:
    """Weights of another subject on the same regions; None if there is no such subject."""
    if donor is None or donor.attrs["subject"] == connectome.attrs["subject"]:
        return None
    if list(donor["region"].values) != list(connectome["region"].values):
        return None
    return donor["weights"].values


def family(name: str) -> str:
    """Predictor family of a fitted connectome: the stable name of the metrics tables."""
    return "model_analytic" if name == "model" else name.split(":")[0]


def predictor_dataset(
    results: Mapping[str, Found],
    own: Sequence[str],
    parameters: Mapping[str, Sequence],
    labels: Sequence[str],
) -> xr.Dataset:
    """
    The part of the fit dataset that is the same for every route; see docs/datasets.md.

    Parameters
    ----------
    results : dict
        From `subject_results`.
    own : sequence of str
        Names by which `results` know the parameters.
    parameters : mapping
        ``parameter, scope, unit, fitted``: their public name, ``global`` or ``regional``, unit, and whether fitted.
    labels : sequence of str
        Regions.

    Returns
    -------
    xarray.Dataset
    """
    names, n = list(results), len(labels)
    room = max(len(found["loss"]) for found in results.values())

    def estimates(found: Found) -> np.ndarray:
        rows = [found[f"value_{name}"] for name in own]
        return np.stack([row[:, None] * np.ones(n) if row.ndim == 1 else row for row in rows], axis=1)

    def of_starts(values: np.ndarray) -> np.ndarray:
        """A control may have had fewer starts than the model."""
        empty = np.nan if values.dtype.kind == "f" else 0
        missing = [(0, room - len(values)), *[(0, 0)] * (values.ndim - 1)]
        return np.pad(values, missing, constant_values=empty)

    def stack(name: str) -> np.ndarray:
        return np.stack([results[one][name] for one in names])

    def starts(name: str) -> np.ndarray:
        return np.stack([of_starts(results[one][name]) for one in names])

    each = ("predictor", "start")
    steps = max(1, int(starts("n_steps").max()))
    data: dict[str, Any] = {
        "estimate": (
            (*each, "parameter", "region"),
            np.stack([of_starts(estimates(results[one])) for one in names]),
            {"long_name": "estimate, in the unit of the parameter"},
        ),
        "theta": (
            (*each, "coordinate"),
            starts("theta"),
            {"units": "1", "long_name": "unconstrained coordinate"},
        ),
        "loss": (
            (*each, "step"),
            starts("history")[:, :, :steps],
            {"units": "1", "long_name": "objective at each step"},
        ),
        "final_loss": (each, starts("loss"), {"units": "1", "long_name": "objective reached"}),
        "n_steps": (each, starts("n_steps"), {"units": "1", "long_name": "steps taken"}),
        "converged": (each, starts("converged"), {"long_name": "stopped by itself"}),
        "best_start": (("predictor",), stack("best"), {"long_name": "start with the lowest objective"}),
        "stability_margin": (
            ("predictor",),
            stack("margin"),
            {"units": "1/s", "long_name": "distance of the slowest mode from instability"},
        ),
    }
    for key, (target, dims, unit, text) in BOLD_FEATURES.items():
        if f"model_{key}" in results["model"]:
            attrs = {"units": unit, "long_name": text}
            data[target] = (("predictor", *dims), stack(f"model_{key}"), attrs)
    coords: dict[str, Any] = {
        "predictor": ("predictor", np.array(names, dtype=str)),
        "family": ("predictor", np.array([family(name) for name in names], dtype=str)),
        "start": ("start", np.arange(room)),
        "parameter": ("parameter", np.array(parameters["parameter"], dtype=str)),
        "scope": ("parameter", np.array(parameters["scope"], dtype=str)),
        "unit": ("parameter", np.array(parameters["unit"], dtype=str)),
        "fitted": ("parameter", np.array(parameters["fitted"])),
        "region": ("region", np.array(labels, dtype=str)),
        "region_to": ("region_to", np.array(labels, dtype=str)),
    }
    return xr.Dataset(data, coords=coords)
