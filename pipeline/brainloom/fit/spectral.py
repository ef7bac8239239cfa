"""Fit one subject by the cross-spectra of all its recordings: the route ``spectrum``, as one dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.core.runtime import compiling_alone
from brainloom.engine import Arrays
from brainloom.fit.predict import correlation
from brainloom.fit.predictors import (
    Found,
    Task,
    fit_tasks,
    predictor_dataset,
    predictor_tasks,
    subject_results,
)
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
from brainloom.fit.spectral_search import Search, search_starts
from brainloom.fit.spectral_space import observation_names
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
    grids, max_steps = _grids(setup, config, signal), int(config["fit"]["max_steps"])
    tasks = predictor_tasks(
        subject, connectome, donor, config, problem=problem, starts=setup.space.starts, depends=grids
    )
    room = max(len(task.starts) for task in tasks)  # one shape, so one program, for all

    def search(tasks: Sequence[Task], keep: Callable[[Task, Search], None]) -> None:
        for task in tasks:
            starts = jnp.pad(task.starts, [(0, room - len(task.starts)), (0, 0)])
            with compiling_alone("fit"):
                search_starts(
                    setup, task.problem, starts, 0, max_steps
                )  # no start: compiles, computes nothing
            fits = search_starts(setup, task.problem, starts, len(task.starts), max_steps)
            keep(task, Search(*(values[: len(task.starts)] for values in fits)))

    found = fit_tasks(
        tasks, search, lambda task, fits, best: _describe(setup, task.problem, fits, best, grids), checkpoints
    )
    results = subject_results(
        tasks,
        found,
        "the fit found no stable network from any of {n} starts; "
        "change model.parameters or fit.parameters.k.start, or raise fit.starts",
    )
    return _dataset(setup, config, results, connectome, signal, problem)


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


def _describe(
    setup: SpectralSetup, problem: Problem, fits: Search, best: int, grids: Mapping[str, Any]
) -> Found:
    """Parameters of all starts; features and information at the best one."""
    values = jax.vmap(lambda theta: parameters(setup, problem, theta))(fits.theta)
    # what a narrow prior fixes is needed to simulate, too
    fixed = [*REPORTED, *observation_names(setup.modalities)]
    wanted = [*dict.fromkeys([one.name for one in setup.space.entries] + fixed)]
    out = {f"value_{name}": np.asarray(values[name]) for name in wanted}
    margin, features = _features(setup, problem, fits.theta[best], grids)
    if not np.isfinite(fits.loss).any():  # a control without a stable network; what is left is its start
        margin, features = np.nan, jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), features)
    out |= {f"model_{name}": np.asarray(value) for name, value in features.items()}
    return out | {"fisher": np.asarray(fits.fisher[best]), "margin": np.asarray(margin)}


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


def _dataset(
    setup: SpectralSetup,
    config: Mapping,
    results: dict,
    connectome: xr.Dataset,
    signal: xr.Dataset,
    problem: Problem,
) -> xr.Dataset:
    """The fit dataset of docs/datasets.md."""
    entries = {one.name: one for one in setup.space.entries}
    listed = [name.removeprefix("value_") for name in results["model"] if name.startswith("value_")]
    units = parameter_units(config, signal, setup.structure.model, setup.time_unit)
    units |= {one.name: one.unit for one in entries.values()}
    declared = {p.name: p.unit for p in setup.structure.model.PARAMETERS}
    labels = connectome["region"].values.astype(str)
    about = {
        "parameter": listed,
        "scope": ["regional" if name in entries and entries[name].regional else "global" for name in listed],
        "unit": [declared.get(name, units.get(name, "1")) for name in listed],
        "fitted": [name in entries for name in listed],
    }
    ds = predictor_dataset(results, listed, about, list(labels))
    ds["final_loss"].attrs["long_name"] += ", negative log posterior density"
    ds["stability_margin"].attrs["long_name"] += ", with delays"

    def variable(dims: tuple[str, ...], values: np.ndarray, unit: str, text: str) -> tuple:
        return dims, values, {"units": unit, "long_name": text}

    def stack(name: str) -> np.ndarray:
        return np.stack([found[name] for found in results.values()])

    data: dict[str, Any] = {
        "fisher": variable(
            ("predictor", "coordinate", "coordinate_to"),
            stack("fisher"),
            "1",
            "Fisher information of the recordings at the best start",
        ),
        "frequency_hz": variable(
            ("region",), np.full(len(labels), np.nan), "Hz", "natural frequency, not used here"
        ),
    }
    coordinates = np.array(setup.space.labels(list(labels)), dtype=str)
    coords: dict[str, Any] = {
        "coordinate": ("coordinate", coordinates),
        "coordinate_to": ("coordinate_to", coordinates),
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
    return ds.assign(data).assign_coords(coords).assign_attrs(attrs)
