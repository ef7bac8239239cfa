"""Fit one subject by the cross-spectra of all its recordings: the route ``spectrum``, as one dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.core.runtime import compiling_alone
from brainloom.engine import Arrays
from brainloom.fit import checkpoint
from brainloom.fit.controls import control_connectomes
from brainloom.fit.predict import correlation
from brainloom.fit.problem import band_nodes
from brainloom.fit.spectral_model import (
    Problem,
    SpectralSetup,
    bold_csd,
    electric_csd,
    network_values,
    parameters,
    rest_state,
)
from brainloom.fit.spectral_network import spectral_network
from brainloom.fit.spectral_posterior import posterior_spectral
from brainloom.fit.spectral_problem import parameter_units, spectral_problem
from brainloom.fit.spectral_search import search_starts
from brainloom.fit.spectral_space import observation_names
from brainloom.fit.subject import donor_weights, family
from brainloom.linear.linearised import linearise
from brainloom.linear.spectra import lagged_band_covariance
from brainloom.linear.stability import rightmost_roots

__all__ = ["fit_subject_spectral", "posterior_spectral", "spectral_network"]

# Nodes of the band in which FC of the model is computed.
BAND_NODES = 192
# Rows of the matrix whose eigenvalues are the characteristic roots, beyond which delays are discretised coarsely.
LARGE = 1200
# Parameters that are reported where they were not fitted too.
REPORTED = ("k", "speed", "noise")


def fit_subject_spectral(
    subject: str,
    connectome: xr.Dataset,
    signal: xr.Dataset,
    donor: xr.Dataset | None,
    config: Mapping,
    checkpoints: Path | None,
) -> xr.Dataset:
    """
    Fit a subject from several starts, and its controls, to the cross-spectra of all modalities at once.

    Parameters
    ----------
    subject : str
        Label.
    connectome, signal : xarray.Dataset
        See `brainloom.fit.spectral_problem.spectral_problem`.
    donor : xarray.Dataset, optional
        Connectome of another subject.
    config : mapping
        Sections ``modality, model, fit`` and ``seed``; ``controls``, and ``signal`` with BOLD.
    checkpoints : pathlib.Path, optional
        Folder where each finished predictor is kept.

    Returns
    -------
    xarray.Dataset
        Dimensions predictor, start, parameter, region, step, frequency, and those of the modalities; see
        docs/datasets.md.

    Raises
    ------
    DataError
        Regions differ, a modality is missing, the network is unstable at the starting values, or no start ended.
    """
    setup, problem = spectral_problem(config, connectome, signal)
    controls = config.get("controls")
    others = (
        {}
        if controls is None
        else control_connectomes(
            controls,
            connectome["weights"].values,
            connectome["lengths"].values,
            donor_weights(donor, connectome),
            config["seed"],
        )
    )
    fit, key = config["fit"], named_key(config["seed"], "fit", subject)
    room = max(fit["starts"], fit["control_starts"] if others else 1)
    grids = _grids(setup, config, signal)
    results = {}
    for name, weights in {"model": connectome["weights"].values, **others}.items():
        n_starts = fit["starts"] if name == "model" else fit["control_starts"]
        starts = setup.space.starts(n_starts, key)
        starts = jnp.concatenate([starts, jnp.zeros((room - n_starts, setup.space.size))])
        task = problem | {"weights": jnp.asarray(weights * (1.0 - np.eye(len(weights))), starts.dtype)}
        settings = json.dumps(
            [config["modality"], fit, config["model"], config.get("code"), n_starts],
            sort_keys=True,
            default=str,
        )
        label = f"sub-{subject}_{name.replace(':', '-')}_{checkpoint.task_hash(settings, _flat(task | grids, starts))}"
        found = checkpoint.load(checkpoints, label)
        if found is None:
            found = _fit_one(setup, task, starts, n_starts, int(fit["max_steps"]), grids)
            checkpoint.save(checkpoints, label, found)
        results[name] = found
        if name == "model" and not np.isfinite(found["loss"]).any():
            raise DataError(
                f"sub-{subject}: the fit found no stable network from any of {n_starts} starts; "
                "change model.parameters or fit.parameters.k.start, or raise fit.starts"
            )
    return _dataset(setup, config, results, connectome, signal, problem)


def _flat(tree: Any, starts: jax.Array) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves} | {
        "starts": np.asarray(starts)
    }


def _grids(setup: SpectralSetup, config: Mapping, signal: xr.Dataset) -> dict[str, Any]:
    """Frequencies at which the features of the fitted model are computed."""
    grids: dict[str, Any] = {}
    for name in setup.modalities:
        if name != "bold":
            grids[f"{name}_frequency"] = jnp.asarray(signal[f"{name}_frequency"].values, float)
            continue
        grids["frequency"] = jnp.asarray(signal["frequency"].values, float)
        settings = config["signal"]
        band = (float(signal.attrs["repetition_time"]), tuple(settings["band"]), settings["filter_order"])
        grids["band"] = tuple(jnp.asarray(x) for x in band_nodes(*band, BAND_NODES))
    return grids


def _fit_one(
    setup: SpectralSetup,
    problem: Problem,
    starts: jax.Array,
    n_starts: int,
    max_steps: int,
    grids: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Fit one connectome and evaluate the best start."""
    with compiling_alone("search_starts"):
        search_starts(setup, problem, starts, 0, max_steps)  # no start: compiles, and computes nothing
    fits = search_starts(setup, problem, starts, n_starts, max_steps)
    loss = np.asarray(fits.loss)
    best = int(np.nanargmin(np.where(np.isfinite(loss), loss, np.inf)))
    values = jax.vmap(lambda theta: parameters(setup, problem, theta))(fits.theta)
    # what a narrow prior fixes is needed to simulate, too
    fixed = [*REPORTED, *observation_names(setup.modalities)]
    wanted = [*dict.fromkeys([one.name for one in setup.space.entries] + fixed)]
    out = {f"value_{name}": np.asarray(values[name]) for name in wanted}
    margin, features = _features(setup, problem, fits.theta[best], grids)
    if not np.isfinite(loss).any():  # a control without a stable network; what is left is its start
        margin, features = np.nan, jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), features)
    return (
        out
        | {f"model_{name}": np.asarray(value) for name, value in features.items()}
        | {
            "theta": np.asarray(fits.theta),
            "fisher": np.asarray(fits.fisher[best]),
            "history": np.asarray(fits.history),
            "loss": loss,
            "n_steps": np.asarray(fits.n_steps),
            "converged": np.asarray(fits.converged),
            "best": np.asarray(best),
            "margin": np.asarray(margin),
        }
    )


def _features(
    setup: SpectralSetup, problem: Problem, theta: jax.Array, grids: Mapping[str, Any]
) -> tuple[float, dict[str, jax.Array]]:
    """Distance of the slowest mode from instability (1/s), and the features of the model."""
    values, state, features = _evaluate(setup, problem, theta, dict(grids))
    linear = linearise(setup.structure, values, state)
    size = (linear.a.shape[0] + 16) * linear.a.shape[-1]
    roots = rightmost_roots(linear, setup.time_unit, n_roots=1, n_nodes=16 if size <= LARGE else 8)
    return -float(roots[0].real), features


@partial(jax.jit, static_argnums=0)
def _evaluate(
    setup: SpectralSetup, problem: Problem, theta: jax.Array, grids: dict[str, Any]
) -> tuple[Arrays, Arrays, dict[str, jax.Array]]:
    """Values and fixed point of the network, and features of every modality as the recording has them."""
    given = parameters(setup, problem, theta)
    values = network_values(setup, problem, given)
    state, _ = rest_state(setup, values, problem["guess"])
    out: dict[str, jax.Array] = {}
    for name in setup.modalities:
        if name != "bold":
            node = grids[f"{name}_frequency"][:, None]
            csd = electric_csd(problem, given, setup, (values, state), node, name, "sensor")
            out[f"{name}_psd"] = 2.0 * jnp.real(jnp.diagonal(csd, axis1=1, axis2=2)).T
            continue
        frequency, weight = grids["band"]
        csd = bold_csd(problem, given, setup, (values, state), frequency[:, None])
        zero, one = (
            lagged_band_covariance(csd, frequency, weight, lag) for lag in (0.0, problem["repetition_time"])
        )
        variance = jnp.diag(zero)
        csd = bold_csd(problem, given, setup, (values, state), grids["frequency"][:, None])
        psd = jnp.real(jnp.diagonal(csd, axis1=1, axis2=2)).T
        step = grids["frequency"][1] - grids["frequency"][0]
        out |= {
            "fc": correlation(zero),
            "lag1": correlation(zero, one),
            "variance": variance / jnp.mean(variance),
            "psd": psd / (step * jnp.sum(psd, axis=1, keepdims=True)),
        }
    return values, state, out


_BOLD_FEATURES = {
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


def _dataset(
    setup: SpectralSetup,
    config: Mapping,
    results: dict,
    connectome: xr.Dataset,
    signal: xr.Dataset,
    problem: Problem,
) -> xr.Dataset:
    """The fit dataset of docs/datasets.md."""
    names, first = list(results), results["model"]
    entries = {one.name: one for one in setup.space.entries}
    listed = [name.removeprefix("value_") for name in first if name.startswith("value_")]
    n, n_starts = setup.space.n_regions, first["theta"].shape[0]
    units = parameter_units(config, signal, setup.structure.model, setup.time_unit)
    units |= {one.name: one.unit for one in entries.values()}
    declared = {p.name: p.unit for p in setup.structure.model.PARAMETERS}

    def estimates(found: dict) -> np.ndarray:
        rows = [found[f"value_{name}"] for name in listed]
        return np.stack([row[:, None] * np.ones(n) if row.ndim == 1 else row for row in rows], axis=1)

    def stack(name: str) -> np.ndarray:
        return np.stack([results[p][name] for p in names])

    def variable(dims: tuple[str, ...], values: np.ndarray, unit: str, text: str) -> tuple:
        return dims, values, {"units": unit, "long_name": text} if unit else {"long_name": text}

    each = ("predictor", "start")
    steps = max(1, int(stack("n_steps").max()))
    data: dict[str, Any] = {
        "estimate": variable(
            (*each, "parameter", "region"), np.stack([estimates(results[p]) for p in names]), "",
            "estimate, in the unit of the parameter",
        ),
        "theta": variable((*each, "coordinate"), stack("theta"), "1", "unconstrained coordinate"),
        "loss": variable((*each, "step"), stack("history")[:, :, :steps], "1", "objective at each step"),
        "final_loss": variable(each, stack("loss"), "1", "objective reached, negative log posterior density"),
        "n_steps": variable(each, stack("n_steps"), "1", "steps taken"),
        "converged": variable(each, stack("converged"), "", "stopped by itself"),
        "best_start": variable(("predictor",), stack("best"), "", "start with the lowest objective"),
        "stability_margin": variable(
            ("predictor",), stack("margin"), "1/s", "distance of the slowest mode from instability, with delays"
        ),
        "fisher": variable(
            ("predictor", "coordinate", "coordinate_to"), stack("fisher"), "1",
            "Fisher information of the recordings at the best start",
        ),
        "frequency_hz": variable(("region",), np.full(n, np.nan), "Hz", "natural frequency, not used here"),
    }  # fmt: skip
    labels = connectome["region"].values.astype(str)
    coords: dict[str, Any] = {
        "predictor": ("predictor", np.array(names, dtype=str)),
        "family": ("predictor", np.array([family(name) for name in names], dtype=str)),
        "start": ("start", np.arange(n_starts)),
        "parameter": ("parameter", np.array(listed, dtype=str)),
        "scope": (
            "parameter",
            np.array(
                ["regional" if name in entries and entries[name].regional else "global" for name in listed]
            ),
        ),
        "unit": (
            "parameter",
            np.array([declared.get(name, units.get(name, "1")) for name in listed], dtype=str),
        ),
        "fitted": ("parameter", np.array([name in entries for name in listed])),
        "region": ("region", labels),
        "region_to": ("region_to", labels),
        "coordinate": ("coordinate", np.array(setup.space.labels(list(labels)), dtype=str)),
        "coordinate_to": ("coordinate_to", np.array(setup.space.labels(list(labels)), dtype=str)),
    }
    attrs: dict[str, Any] = {
        "model": setup.structure.model.__name__,
        "route": "spectrum",
        "modality": ",".join(setup.modalities),
        "model_config": json.dumps(dict(config["model"]), sort_keys=True),
        "noise_ratio": json.dumps({name: float(problem["noise_ratio"][name]) for name in setup.noisy}),
    }
    for name in setup.modalities:
        if name == "bold":
            for key, (target, dims, unit, text) in _BOLD_FEATURES.items():
                data[target] = variable(("predictor", *dims), stack(f"model_{key}"), unit, text)
            coords["frequency"] = ("frequency", signal["frequency"].values, {"units": "Hz"})
            attrs["repetition_time"] = float(signal.attrs["repetition_time"])
            continue
        unit = str(signal.attrs.get(f"{name}_unit", "V"))
        data[f"{name}_psd_model"] = variable(
            ("predictor", f"{name}_sensor", f"{name}_frequency"),
            stack(f"model_{name}_psd"),
            f"{unit}^2/Hz",
            f"power spectral density of the model's {name.upper()}, one-sided, sensor noise included",
        )
        for axis in ("sensor", "frequency"):
            coords[f"{name}_{axis}"] = signal[f"{name}_{axis}"].variable
        if f"{name}_lead_field" in signal:
            data[f"{name}_lead_field"] = signal[f"{name}_lead_field"].variable
        attrs |= {
            key: value
            for key, value in signal.attrs.items()
            if key in (f"{name}_sampling_frequency", f"{name}_unit", f"{name}_reference", f"{name}_space")
        }
    return xr.Dataset(data, coords=coords, attrs=attrs)
