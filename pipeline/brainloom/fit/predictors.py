"""Fit the model and its controls one after the other: connectomes, starts, checkpoints, and their common dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.core.runtime import compiling_alone
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


@dataclass(frozen=True)
class Route:
    """
    What differs between ways of fitting.

    Attributes
    ----------
    problem : dict
        Arrays of the fit; ``weights`` are replaced by those of each connectome.
    starts : callable
        ``(n_starts, key) -> (n_starts, size) array``.
    search : callable
        ``(problem, starts, n_starts) -> fits`` with ``theta, history, loss, n_steps, converged``, all with an axis of
        starts; those from `n_starts` on are not used. The compiled program does not depend on `n_starts`.
    describe : callable
        ``(problem, fits, best) -> dict``: what else is kept, ``margin`` and ``value_<name>`` of every start among it.
    depends : tree of arrays
        What a result depends on besides `problem`.
    lost : str
        What happened, and what to do, where no start of the model ended; ``{n}`` starts.
    refine : callable, optional
        ``(name, problem, found, label) -> found``: what follows the search of a predictor; `label` is that of its
        checkpoint.
    """

    problem: dict[str, Any]
    starts: Callable[[int, jax.Array], jax.Array]
    search: Callable[[dict[str, Any], jax.Array, int], Any]
    describe: Callable[[dict[str, Any], Any, int], Found]
    depends: Any
    lost: str
    refine: Callable[[str, dict[str, Any], Found, str], Found] | None = None


def fit_predictors(
    subject: str,
    connectome: xr.Dataset,
    donor: xr.Dataset | None,
    config: Mapping,
    checkpoints: Path | None,
    route: Route,
) -> dict[str, Found]:
    """
    Fit the connectome of a subject and its controls.

    Parameters
    ----------
    subject : str
        Label.
    connectome : xarray.Dataset
    donor : xarray.Dataset, optional
        Connectome of another subject.
    config : mapping
        Sections ``model, fit, seed``; ``controls, modality, code`` where there are some.
    checkpoints : pathlib.Path, optional
        Folder where each finished predictor is kept.
    route : Route

    Returns
    -------
    dict of str to dict
        ``model`` and the names of the controls, each with ``theta, history, loss, n_steps, converged, best`` and what
        the route describes.

    Raises
    ------
    DataError
        No start of the model ended.
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
    room = max(fit["starts"], fit["control_starts"] if controls else 1)  # one shape, so one program, for all
    results = {}
    for name, wiring in {"model": weights, **controls}.items():
        n_starts = fit["starts"] if name == "model" else fit["control_starts"]
        starts = route.starts(n_starts, key)
        starts = jnp.concatenate([starts, jnp.zeros((room - n_starts, starts.shape[1]))])
        task = route.problem | {"weights": jnp.asarray(wiring * (1.0 - np.eye(len(wiring))), starts.dtype)}
        searched = {key: value for key, value in fit.items() if key != "stages"}
        read = [config.get("modality"), searched, config["model"], config.get("code"), n_starts]
        arrays = _flat({"task": task, "depends": route.depends, "starts": starts})
        # Donors and seeds are told apart by their arrays, subjects by the folder name.
        digest = checkpoint.task_hash(json.dumps(read, sort_keys=True, default=str), arrays)
        label = f"sub-{subject}_{name.replace(':', '-')}_{digest}"
        found = checkpoint.load(checkpoints, label)
        if found is None:
            found = _fit_one(route, task, starts, n_starts)
            checkpoint.save(checkpoints, label, found)
        if name == "model" and not np.isfinite(found["loss"]).any():
            raise DataError(f"sub-{subject}: {route.lost.format(n=n_starts)}")
        results[name] = found if route.refine is None else route.refine(name, task, found, label)
    return results


def _fit_one(route: Route, task: dict[str, Any], starts: jax.Array, n_starts: int) -> Found:
    """Fit one connectome and evaluate the best start."""
    with compiling_alone("fit"):
        route.search(task, starts, 0)  # no start: compiles, and computes nothing
    fits = route.search(task, starts, n_starts)
    loss = np.asarray(fits.loss)
    best = int(np.nanargmin(np.where(np.isfinite(loss), loss, np.inf)))
    common = ("theta", "history", "loss", "n_steps", "converged")
    found = route.describe(task, fits, best) | {name: getattr(fits, name) for name in common} | {"best": best}
    return {name: np.asarray(value) for name, value in found.items()}


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
        From `fit_predictors`.
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

    def estimates(found: Found) -> np.ndarray:
        rows = [found[f"value_{name}"] for name in own]
        return np.stack([row[:, None] * np.ones(n) if row.ndim == 1 else row for row in rows], axis=1)

    def stack(name: str) -> np.ndarray:
        return np.stack([results[one][name] for one in names])

    each = ("predictor", "start")
    steps = max(1, int(stack("n_steps").max()))
    data: dict[str, Any] = {
        "estimate": (
            (*each, "parameter", "region"),
            np.stack([estimates(results[one]) for one in names]),
            {"long_name": "estimate, in the unit of the parameter"},
        ),
        "theta": (
            (*each, "coordinate"),
            stack("theta"),
            {"units": "1", "long_name": "unconstrained coordinate"},
        ),
        "loss": (
            (*each, "step"),
            stack("history")[:, :, :steps],
            {"units": "1", "long_name": "objective at each step"},
        ),
        "final_loss": (each, stack("loss"), {"units": "1", "long_name": "objective reached"}),
        "n_steps": (each, stack("n_steps"), {"units": "1", "long_name": "steps taken"}),
        "converged": (each, stack("converged"), {"long_name": "stopped by itself"}),
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
        "start": ("start", np.arange(results["model"]["theta"].shape[0])),
        "parameter": ("parameter", np.array(parameters["parameter"], dtype=str)),
        "scope": ("parameter", np.array(parameters["scope"], dtype=str)),
        "unit": ("parameter", np.array(parameters["unit"], dtype=str)),
        "fitted": ("parameter", np.array(parameters["fitted"])),
        "region": ("region", np.array(labels, dtype=str)),
        "region_to": ("region_to", np.array(labels, dtype=str)),
    }
    return xr.Dataset(data, coords=coords)
