"""
Subjects of a few regions whose target FC is that of the model at known parameters, and their fits.

Tests of fits, of what they identify and of their simulations share the fits: each is made once a session.
"""

from __future__ import annotations

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.analysis.signal_dataset import signal_dataset
from brainloom.cohort.batch import Outcome, Settings, fit_batch
from brainloom.cohort.fits import fit_subject
from brainloom.core.config import validate_config
from brainloom.fit.predict import constrained, correlation, covariance, lag1_covariances, objective
from brainloom.fit.problem import FitSetup, Problem
from brainloom.fit.space import FitSpace
from brainloom.fit.subject import subject_problem, subject_setup
from brainloom.models import get_model

TR = 0.72
N = 8
LABELS = [f"Area{k // 2}_{'LR'[k % 2]}" for k in range(N)]
HOMOTOPE = np.arange(N) ^ 1
N_FRAMES = 1600


def linear_setup(n_regions: int) -> FitSetup:
    """`LinearStep` with its local rate and noise, seen through the band, on a symmetric connectome."""
    space = FitSpace(("coupling", "homotopic"), ("local", "noise"), n_regions)
    return FitSetup(
        get_model("LinearStep"), "gamma", space, symmetric=True, through_band=True, lag1_weight=0.0
    )


def small_config(model: str, **fit: object) -> dict:
    """What the steps of a fit read, with a weak penalty so that estimates are near the truth."""
    parameters = {"a": -0.05} if model == "HopfStep" else {"gamma": -0.1}
    config = validate_config(
        {
            "study": "small",
            "model": {"name": model, "parameters": parameters, "noise_level": 0.1},
            "fit": {"starts": 2, "control_starts": 1, "lambda": 1e-6, "max_steps": 400} | fit,
            "simulate": {"dt": 0.12, "seeds": 24, "transient": 0.0, "noise_levels": [0.1]},
            "signal": {"fcd_window": 60.0, "fcd_step": 20.0, "psd_window": 64, "drop_frames": 0},
        }
    )
    return config | {"controls": config["analyse"]["controls"], "code": "test"}


def connectome(subject: str, *, symmetric: bool = True) -> xr.Dataset:
    """Random weights of mean strength 1."""
    rng = np.random.default_rng(int(subject))
    weights, lengths = rng.lognormal(sigma=0.8, size=(N, N)), rng.uniform(20, 150, (N, N))
    weights = (weights + weights.T if symmetric else weights) * (1 - np.eye(N))
    pair = ("region", "region_to")
    return xr.Dataset(
        {
            "weights": (pair, weights / weights.sum(axis=1).mean()),
            "lengths": (pair, (lengths + lengths.T) * (1 - np.eye(N))),
            "homotope": ("region", HOMOTOPE),
        },
        coords={"region": LABELS, "region_to": LABELS},
        attrs={"subject": subject, "kind": "connectome", "status": "ok", "reason": ""},
    )


def true_theta(setup: FitSetup, subject: str) -> np.ndarray:
    """Coordinates of a subject; the log noise has mean 0, as FC does not tell its scale."""
    rng = np.random.default_rng([7, int(subject)])
    fields = 0.4 * rng.normal(size=(len(setup.space.regional_names), N))
    fields -= fields.mean(axis=1, keepdims=True)
    return np.concatenate([np.array([0.3, -0.4])[: len(setup.space.global_names)], fields.ravel()])


def exact_targets(setup: FitSetup, problem: Problem, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FC and lag-1 correlation of the model itself."""
    values = constrained(setup, problem, jnp.asarray(theta))
    lagged = correlation(*lag1_covariances(setup, problem, values))
    return np.asarray(correlation(covariance(setup, problem, values))), np.asarray(lagged)


def signal(config: dict, subject: str, wiring: xr.Dataset) -> xr.Dataset:
    """A recording's dataset whose correlations are replaced by those of the model at the true parameters."""
    rng = np.random.default_rng([8, int(subject)])
    noise = rng.normal(size=(N_FRAMES, N)) + rng.normal(size=(N_FRAMES, 1))
    found = signal_dataset([noise], TR, LABELS, config["signal"], config["model"]["frequency_band"])
    found = found.assign_attrs(subject=subject, kind="signal", status="ok", reason="")
    found["peak_frequency"] = found["peak_frequency"].copy(data=rng.uniform(0.04, 0.07, N))
    setup = subject_setup(config, wiring)
    problem = subject_problem(setup, config, wiring, found)
    fc, lag1 = exact_targets(setup, problem, true_theta(setup, subject))
    for name, matrix in (("fc", fc), ("lag1", lag1)):
        found[name] = found[name].copy(data=np.broadcast_to(matrix, found[name].shape))
    return found


@lru_cache
def subject_inputs(model: str, subject: str = "1") -> tuple[dict, xr.Dataset, xr.Dataset]:
    """Config, connectome and signal."""
    config = small_config(model)
    wiring = connectome(subject)
    return config, wiring, signal(config, subject, wiring)


@lru_cache
def subject_fit(model: str, subject: str = "1") -> xr.Dataset:
    """The fit dataset, with all controls."""
    config, wiring, recorded = subject_inputs(model, subject)
    return fit_subject(subject, wiring, recorded, connectome("2"), config, None)


def fits_of(setup: FitSetup, problem: Problem, starts: np.ndarray, max_steps: int = 400) -> list[Outcome]:
    """One problem fitted from several starts."""
    return fit_batch(objective, setup, [problem] * len(starts), np.asarray(starts), Settings(max_steps))
