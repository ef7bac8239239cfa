"""Fits of one subject by the linearised model: what a fit is given, what is kept of it, and its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.core.errors import DataError
from brainloom.fit.gauge import fix_gauge
from brainloom.fit.predict import (
    constrained,
    correlation,
    covariance,
    jacobian_and_noise,
    seen_features,
)
from brainloom.fit.predictors import Fits, Found, predictor_dataset
from brainloom.fit.problem import FitSetup, Problem, make_problem, setup_from_config
from brainloom.fit.space import GLOBAL
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


def gauged(setup: FitSetup, problem: Problem, theta: jax.Array, config: Mapping) -> dict[str, jax.Array]:
    """Parameters with the scale of the noise and, for oscillators, the saturation."""
    saturation = config["model"]["parameters"].get("beta", 1.0)
    return fix_gauge(setup, problem, theta, config["model"]["noise_level"], saturation)


def describe_fits(
    setup: FitSetup, problem: Problem, fits: Fits, best: int, config: Mapping, frequency: np.ndarray
) -> Found:
    """Parameters of all starts, features of the best one."""
    # one by one, as the program is then the same for any number of starts
    each = [gauged(setup, problem, jnp.asarray(theta), config) for theta in fits.theta]
    out = {f"value_{name}": np.stack([np.asarray(values[name]) for values in each]) for name in each[0]}
    features = _evaluate(setup, problem, jnp.asarray(fits.theta[best]), frequency)
    out |= {f"model_{name}": np.asarray(value) for name, value in features.items()}
    if not np.isfinite(fits.loss).any():  # a control that diverged has no FC; what is left is its start
        out["model_fc"] = np.full_like(out["model_fc"], np.nan)
    return out | {"margin": np.asarray(stability_margin(jnp.asarray(out.pop("model_jacobian"))))}


@partial(jax.jit, static_argnums=0)
def _evaluate(
    setup: FitSetup, problem: Problem, theta: jax.Array, frequency: jax.Array
) -> dict[str, jax.Array]:
    """Features of the fitted model at the linear-noise level, in the units of the data's features."""
    values = constrained(setup, problem, theta)
    jacobian, noise = jacobian_and_noise(setup, problem, values)
    features = seen_features(problem, jacobian, jnp.diag(noise), frequency)
    return {"fc": correlation(covariance(setup, problem, values)), "jacobian": jacobian} | features


def fit_dataset(
    setup: FitSetup, config: Mapping, results: dict, connectome: xr.Dataset, signal: xr.Dataset
) -> xr.Dataset:
    """The fit dataset of docs/datasets.md."""
    labels = list(connectome["region"].values)
    parameters = ["coupling", "homotopic", setup.local, "noise", "gain_in", "gain_out"]
    parameters += ["beta"] if setup.rotating else []
    fitted = {*setup.space.global_names, *setup.space.regional_names}
    own = [name if name != setup.local else "local" for name in parameters]
    about: dict[str, list] = {
        "parameter": parameters,
        "scope": ["global" if name in (*GLOBAL, *setup.space.global_names) else "regional" for name in own],
        "unit": [UNITS[name] for name in parameters],
        "fitted": [name in fitted for name in own],
    }
    ds = predictor_dataset(results, own, about, labels)
    ds["theta"].attrs["long_name"] = "unconstrained coordinate (log deviation from the reference)"
    ds["frequency_hz"] = (
        ("region",),
        np.asarray(signal["peak_frequency"].values if setup.rotating else np.zeros(len(labels))),
        {"units": "Hz", "long_name": "natural frequency of the region"},
    )
    coords = {
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
    return ds.assign_coords(coords).assign_attrs(attrs)
