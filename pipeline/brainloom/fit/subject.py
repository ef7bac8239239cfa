"""Fit one subject: the model on its own connectome and on the control connectomes, as one dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.core.runtime import compiling_alone
from brainloom.fit import checkpoint
from brainloom.fit.controls import control_connectomes
from brainloom.fit.gauge import fix_gauge
from brainloom.fit.optimise import fit_starts
from brainloom.fit.predict import (
    constrained,
    correlation,
    covariance,
    jacobian_and_noise,
    lag1_covariances,
    model_spectrum,
)
from brainloom.fit.problem import FitSetup, Problem, make_problem, setup_from_config
from brainloom.linear.jacobian import stability_margin

UNITS = {
    "coupling": "1/s",
    "homotopic": "1",
    "a": "1/s",
    "gamma": "1/s",
    "noise": "state/sqrt(s)",
    "gain_in": "1",
    "gain_out": "1",
    "beta": "1/s",
}


def subject_setup(config: Mapping, connectome: xr.Dataset) -> FitSetup:
    """Static settings of a subject's fit: from the config, and whether its connectome is symmetric."""
    weights = connectome["weights"].values
    return setup_from_config(config, len(weights), symmetric=bool(np.array_equal(weights, weights.T)))


def subject_problem(setup: FitSetup, config: Mapping, connectome: xr.Dataset, signal: xr.Dataset) -> Problem:
    """
    Arrays of a subject's fit, with the training part of its recording as the target.

    Raises
    ------
    DataError
        The regions of connectome and recording differ.
    """
    labels, recorded = connectome["region"].values, signal["region"].values
    if list(labels) != list(recorded):
        first = next(
            (k for k, pair in enumerate(zip(labels, recorded, strict=False)) if pair[0] != pair[1]), None
        )
        found = (
            f"{len(labels)} and {len(recorded)} regions"
            if first is None
            else f"region {first + 1} is {labels[first]} and {recorded[first]}"
        )
        raise DataError(
            f"sub-{signal.attrs['subject']}: connectome and recording have different regions "
            f"({found}); use one atlas for both"
        )
    train = signal.sel(split="train")
    return make_problem(
        setup,
        config,
        weights=connectome["weights"].values,
        homotope=connectome["homotope"].values,
        fc=train["fc"].values,
        lag1=train["lag1"].values,
        frequency_hz=signal["peak_frequency"].values,
        repetition_time=float(signal.attrs["repetition_time"]),
    )


def fit_subject(
    subject: str,
    connectome: xr.Dataset,
    signal: xr.Dataset,
    donor: xr.Dataset | None,
    config: Mapping,
    checkpoints: Path | None,
) -> xr.Dataset:
    """
    Fit a subject from several starts, and its controls.

    Parameters
    ----------
    subject : str
        Label.
    connectome, signal : xarray.Dataset
    donor : xarray.Dataset, optional
        Connectome of another subject.
    config : mapping
        Sections ``model, fit, controls, signal`` and ``seed``.
    checkpoints : pathlib.Path, optional
        Folder where each finished predictor is kept.

    Returns
    -------
    xarray.Dataset
        Dimensions predictor, start, parameter, region, step, frequency; see docs/datasets.md.

    Raises
    ------
    DataError
        Regions differ, or the fit diverged from every start.
    """
    setup = subject_setup(config, connectome)
    problem = subject_problem(setup, config, connectome, signal)
    controls = control_connectomes(
        config["controls"],
        connectome["weights"].values,
        connectome["lengths"].values,
        donor_weights(donor, connectome),
        config["seed"],
    )
    fit, key = config["fit"], named_key(config["seed"], "fit", subject)
    room = max(fit["starts"], fit["control_starts"] if controls else 1)
    frequency = signal["frequency"].values
    results = {}
    for name, weights in {"model": connectome["weights"].values, **controls}.items():
        n_starts = fit["starts"] if name == "model" else fit["control_starts"]
        starts = setup.space.starts(n_starts, key)
        starts = jnp.concatenate([starts, jnp.zeros((room - n_starts, setup.space.size))])
        task = problem | {"weights": jnp.asarray(weights, starts.dtype)}
        arrays = {k: np.asarray(v) for k, v in task.items()} | {"starts": np.asarray(starts)}
        settings = json.dumps([config["fit"], config["model"], config["code"], n_starts], sort_keys=True)
        # Donors and seeds are told apart by their arrays, subjects by the folder name.
        label = f"sub-{subject}_{name.replace(':', '-')}_{checkpoint.task_hash(settings, arrays)}"
        found = checkpoint.load(checkpoints, label)
        if found is None:
            found = _fit_one(setup, task, starts, n_starts, config, frequency)
            checkpoint.save(checkpoints, label, found)
        results[name] = found
        if name == "model" and not np.isfinite(found["loss"]).any():
            raise DataError(
                f"sub-{subject}: the fit diverged from all {n_starts} starts; "
                "check the recording, or raise fit.lambda or fit.starts"
            )
    return _dataset(setup, config, results, connectome, signal)


def donor_weights(donor: xr.Dataset | None, connectome: xr.Dataset) -> np.ndarray | None:
    """Weights of another subject on the same regions; None if there is no such subject."""
    if donor is None or donor.attrs["subject"] == connectome.attrs["subject"]:
        return None
    if list(donor["region"].values) != list(connectome["region"].values):
        return None
    return donor["weights"].values


def _fit_one(
    setup: FitSetup,
    problem: Problem,
    starts: jax.Array,
    n_starts: int,
    config: Mapping,
    frequency: np.ndarray,
) -> dict[str, np.ndarray]:
    """Fit one connectome and evaluate the best start."""
    max_steps = config["fit"]["max_steps"]
    with compiling_alone("fit_starts"):
        fit_starts(setup, problem, starts, 0, max_steps)  # no start: compiles, and computes nothing
    fits = fit_starts(setup, problem, starts, n_starts, max_steps)
    loss = np.asarray(fits.loss)
    best = int(np.nanargmin(np.where(np.isfinite(loss), loss, np.inf)))
    level = config["model"]["noise_level"]
    saturation = config["model"]["parameters"].get("beta", 1.0)
    values = jax.vmap(lambda theta: fix_gauge(setup, problem, theta, level, saturation))(fits.theta)
    out = {f"value_{name}": np.asarray(value) for name, value in values.items()}
    out |= {
        f"model_{name}": np.asarray(v)
        for name, v in _evaluate(setup, problem, fits.theta[best], frequency).items()
    }
    if not np.isfinite(loss).any():  # a control that diverged has no FC; what is left is its start
        out["model_fc"] = np.full_like(out["model_fc"], np.nan)
    margin = stability_margin(jnp.asarray(out.pop("model_jacobian")))
    return out | {
        "fc_model": out.pop("model_fc"),
        "theta": np.asarray(fits.theta),
        "history": np.asarray(fits.history),
        "loss": loss,
        "n_steps": np.asarray(fits.n_steps),
        "converged": np.asarray(fits.converged),
        "best": np.asarray(best),
        "margin": np.asarray(margin),
    }


@partial(jax.jit, static_argnums=0)
def _evaluate(
    setup: FitSetup, problem: Problem, theta: jax.Array, frequency: jax.Array
) -> dict[str, jax.Array]:
    """Features of the fitted model at the linear-noise level, in the units of the data's features."""
    values = constrained(setup, problem, theta)
    fine = {"frequency": problem["fine_frequency"], "band_weight": problem["fine_weight"]}
    zero, one = lag1_covariances(setup, problem | fine, values)
    variance = jnp.diag(zero)
    # Frequency 0 is left out of the integral and kept in the output, as Welch's method does.
    spectrum = model_spectrum(setup, problem, values, frequency)
    step = frequency[1] - frequency[0]
    return {
        "fc": correlation(covariance(setup, problem, values)),
        "lag1": correlation(zero, one),
        "variance": variance / jnp.mean(variance),
        "psd": spectrum / (step * jnp.sum(spectrum, axis=1, keepdims=True)),
        "jacobian": jacobian_and_noise(setup, problem, values)[0],
    }


def _dataset(
    setup: FitSetup, config: Mapping, results: dict, connectome: xr.Dataset, signal: xr.Dataset
) -> xr.Dataset:
    """The fit dataset of docs/datasets.md."""
    names = list(results)
    labels = list(connectome["region"].values)
    parameters = ["coupling", "homotopic", setup.local, "noise", "gain_in", "gain_out"]
    parameters += ["beta"] if setup.rotating else []
    scope = ["global", "global"] + ["regional"] * (len(parameters) - 2)
    fitted = {*setup.space.global_names, *setup.space.regional_names}
    own = [name if name != setup.local else "local" for name in parameters]
    first = results["model"]
    n_starts, n = first["theta"].shape[0], len(labels)

    def estimates(found: dict) -> np.ndarray:
        rows = [found[f"value_{name}"] for name in own]
        return np.stack([row[:, None] * np.ones(n) if row.ndim == 1 else row for row in rows], axis=1)

    def stack(name: str) -> np.ndarray:
        return np.stack([results[p][name] for p in names])

    pair = ("predictor", "region", "region_to")
    steps = max(1, int(stack("n_steps").max()))
    data = {
        "estimate": (
            ("predictor", "start", "parameter", "region"),
            np.stack([estimates(results[p]) for p in names]),
            {"long_name": "estimate, in the unit of the parameter"},
        ),
        "theta": (
            ("predictor", "start", "coordinate"),
            stack("theta"),
            {"units": "1", "long_name": "unconstrained coordinate (log deviation from the reference)"},
        ),
        "loss": (
            ("predictor", "start", "step"),
            stack("history")[:, :, :steps],
            {"units": "1", "long_name": "objective at each step"},
        ),
        "final_loss": (
            ("predictor", "start"),
            stack("loss"),
            {"units": "1", "long_name": "objective reached"},
        ),
        "n_steps": (("predictor", "start"), stack("n_steps"), {"units": "1", "long_name": "steps taken"}),
        "converged": (("predictor", "start"), stack("converged"), {"long_name": "stopped by itself"}),
        "best_start": (("predictor",), stack("best"), {"long_name": "start with the lowest objective"}),
        "stability_margin": (
            ("predictor",),
            stack("margin"),
            {"units": "1/s", "long_name": "distance of the slowest mode from instability"},
        ),
        "fc_model": (pair, stack("fc_model"), {"units": "1", "long_name": "FC of the model, linear-noise"}),
        "lag1_model": (
            pair,
            stack("model_lag1"),
            {"units": "1", "long_name": "lag-1 correlation of the model through the band"},
        ),
        "variance_model": (
            ("predictor", "region"),
            stack("model_variance"),
            {"units": "1", "long_name": "band-limited variance of the model relative to the mean"},
        ),
        "psd_model": (
            ("predictor", "region", "frequency"),
            stack("model_psd"),
            {"units": "1/Hz", "long_name": "power spectral density of the model, unit variance"},
        ),
        "frequency_hz": (
            ("region",),
            np.asarray(signal["peak_frequency"].values if setup.rotating else np.zeros(n)),
            {"units": "Hz", "long_name": "natural frequency of the region"},
        ),
    }
    coords = {
        "predictor": ("predictor", np.array(names, dtype=str)),
        "family": ("predictor", np.array([family(name) for name in names], dtype=str)),
        "start": ("start", np.arange(n_starts)),
        "parameter": ("parameter", np.array(parameters, dtype=str)),
        "scope": ("parameter", np.array(scope, dtype=str)),
        "unit": ("parameter", np.array([UNITS[name] for name in parameters], dtype=str)),
        "fitted": ("parameter", np.array([name in fitted for name in own])),
        "region": ("region", np.array(labels, dtype=str)),
        "region_to": ("region_to", np.array(labels, dtype=str)),
        "frequency": ("frequency", signal["frequency"].values, {"units": "Hz"}),
        "coordinate": ("coordinate", np.array(setup.space.labels(labels, local=setup.local), dtype=str)),
    }
    attrs = {
        "model": setup.model.__name__,
        "local_parameter": setup.local,
        "through_band": setup.through_band,
        "noise_level": float(config["model"]["noise_level"]),
        "lambda": float(config["fit"]["lambda"]),
        "margin": float(config["fit"]["margin"]),
        "repetition_time": float(signal.attrs["repetition_time"]),
    }
    return xr.Dataset(data, coords=coords, attrs=attrs)


def family(name: str) -> str:
    """Predictor family of a fitted connectome: the stable name of the metrics tables."""
    return "model_analytic" if name == "model" else name.split(":")[0]
