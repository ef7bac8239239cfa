"""Recovery of parameters: recordings are simulated from a fitted model with the subject's own design, and fitted again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.analysis.clean import observed
from brainloom.analysis.signal_dataset import signal_dataset, stored_design, stored_runs
from brainloom.cohort.fits import fit_subject
from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.fit.posterior import posterior_dataset
from brainloom.fit.predict import functional_connectivity
from brainloom.fit.realise import fitted_network, run_network
from brainloom.fit.subject import subject_problem, subject_setup

_ENDS = ("estimate", "lower", "upper")


def simulated_signal(
    subject: str, connectome: xr.Dataset, signal: xr.Dataset, fit: xr.Dataset, config: Mapping, replicate: int
) -> tuple[xr.Dataset, float]:
    """
    A recording of the fitted model that has the design of the subject's own.

    Runs have the number, the lengths and the repetition time of those that were recorded, and the same frames are
    missing. Nothing is added to the model's BOLD; filter, splits and features are those of the recording.

    Parameters
    ----------
    subject : str
        Label.
    connectome, signal, fit : xarray.Dataset
    config : mapping
        Keys ``simulate.dt, simulate.transient, seed``.
    replicate : int
        Each has noise of its own.

    Returns
    -------
    signal : xarray.Dataset
        As `brainloom.analysis.signal_dataset.signal_dataset` makes it of a recording.
    dt : float
        The step that was taken, s.

    Raises
    ------
    DataError
        The simulation diverged, or its splits cannot be made.
    """
    runs, tr = stored_runs(signal), float(signal.attrs["repetition_time"])
    lengths = [len(run) for run in runs]
    which = ("recover", subject, str(replicate))
    bold, dt = run_network(
        fitted_network(connectome, fit),
        config["simulate"],
        tr,
        max(lengths),
        len(runs),
        key=named_key(config["seed"], *which),
        start_key=named_key(config["seed"], *which, "start"),
    )
    bold = bold.reshape(len(runs), max(lengths), -1)  # one run has no axis of realisations
    if not np.isfinite(bold).all():
        raise DataError(f"sub-{subject}: the simulation diverged with dt {dt:g} s; lower simulate.dt")
    new = [np.where(observed(run)[:, None], x[: len(run)], np.nan) for run, x in zip(runs, bold, strict=True)]
    labels = [str(label) for label in signal["region"].values]
    settings, band = json.loads(signal.attrs["signal_config"]), json.loads(signal.attrs["frequency_band"])
    try:
        made = signal_dataset(new, tr, labels, settings, band, design=stored_design(signal))
    except ValueError as err:
        raise DataError(f"sub-{subject}: {err}") from None
    return made.assign_attrs(subject=subject), dt


def recover_subject(
    subject: str,
    connectome: xr.Dataset,
    signal: xr.Dataset,
    fit: xr.Dataset,
    config: Mapping,
    checkpoints: Path | None = None,
) -> xr.Dataset:
    """
    Simulate recordings at a subject's best fit, fit each as the subject was fitted, and keep truth and estimates.

    Parameters
    ----------
    subject : str
        Label.
    connectome, signal, fit : xarray.Dataset
    config : mapping
        Sections ``model, fit, identify, simulate, signal, recovery`` and ``seed``; ``code``.
    checkpoints : pathlib.Path, optional
        Folder where each finished fit is kept.

    Returns
    -------
    xarray.Dataset
        ``truth, bias (parameter, region)``, ``estimate, lower, upper, identified (replicate, parameter, region)`` of
        what was fitted, ``fc_r, fc_r_recording, lost (replicate)``. A replicate that diverged or could not be fitted
        is lost: its numbers are NaN.

    Raises
    ------
    DataError
        All replicates are lost.
    """
    config = {key: value for key, value in config.items() if key != "controls"}
    true_fc = _best_fc(connectome, signal, fit, config)
    rows: list[dict[str, Any] | None] = []
    steps, reasons = [], []
    for replicate in range(config["recovery"]["replicates"]):
        try:
            recorded, dt = simulated_signal(subject, connectome, signal, fit, config, replicate)
            again = fit_subject(subject, connectome, recorded, None, config, checkpoints)
        except DataError as err:
            rows.append(None)
            reasons.append(str(err))
            continue
        steps.append(dt)
        found = posterior_dataset(connectome, recorded, again, config)
        rows.append(
            {name: found[name].values for name in (*_ENDS, "identified")}
            | {
                "fc_r": _upper_r(_best_fc(connectome, recorded, again, config), true_fc),
                "fc_r_recording": _upper_r(recorded["fc"].sel(split="train").values, true_fc),
                "template": found,
            }
        )
    good = [row for row in rows if row is not None]
    if not good:
        raise DataError(f"no simulated recording could be fitted: {reasons[0]}")
    return _dataset(fit, rows, good[0]["template"], steps[0])


def _best_fc(connectome: xr.Dataset, signal: xr.Dataset, fit: xr.Dataset, config: Mapping) -> np.ndarray:
    """FC of the model at the coordinates where the best start ended, after all stages."""
    setup = subject_setup(config, connectome)
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    problem = subject_problem(setup, config, connectome, signal)
    return np.asarray(functional_connectivity(setup, problem, jnp.asarray(best["theta"].values)))


def _upper_r(first: np.ndarray, second: np.ndarray) -> float:
    pairs = np.triu_indices(len(first), 1)
    return float(np.corrcoef(first[pairs], second[pairs])[0, 1])


def _dataset(fit: xr.Dataset, rows: list, template: xr.Dataset, dt: float) -> xr.Dataset:
    """The recovery dataset of docs/datasets.md."""
    names = template["parameter"].values.astype(str)
    best = fit.sel(predictor="model").isel(start=int(fit["best_start"].sel(predictor="model")))
    truth = best["estimate"].sel(parameter=names).values
    lost = np.array([row is None for row in rows])

    def stack(name: str, empty: Any) -> np.ndarray:
        return np.stack([empty if row is None else row[name] for row in rows])

    ends = {name: stack(name, np.full_like(truth, np.nan)) for name in _ENDS}
    each, field = ("replicate", "parameter", "region"), ("parameter", "region")
    data: dict[str, Any] = {
        "truth": (field, truth, {"long_name": "parameter that recordings were simulated with"}),
        "estimate": (each, ends["estimate"], {"long_name": "estimate from a simulated recording"}),
        "lower": (each, ends["lower"], {"long_name": "lower end of the interval"}),
        "upper": (each, ends["upper"], {"long_name": "upper end of the interval"}),
        "identified": (
            each,
            stack("identified", np.full(truth.shape, "")).astype(str),
            {"long_name": "whether the simulated recording identifies it"},
        ),
        "bias": (
            field,
            np.nanmean(np.log(ends["estimate"] / truth), axis=0),
            {"units": "1", "long_name": "log of estimate over truth, mean over replicates"},
        ),
        "fc_r": (
            ("replicate",),
            stack("fc_r", np.nan).astype(float),
            {"units": "1", "long_name": "correlation of the refitted model's FC with that of the true model"},
        ),
        "fc_r_recording": (
            ("replicate",),
            stack("fc_r_recording", np.nan).astype(float),
            {
                "units": "1",
                "long_name": "correlation of the simulated training FC with that of the true model",
            },
        ),
        "lost": (("replicate",), lost, {"long_name": "diverged, or could not be fitted"}),
    }
    coords = {name: template[name] for name in ("parameter", "scope", "unit", "region")}
    ds = xr.Dataset(data, coords=coords)
    ds = ds.assign_coords(replicate=("replicate", np.arange(len(rows)), {"long_name": "simulated recording"}))
    return ds.assign_attrs(level=float(template.attrs["level"]), dt=dt, model=str(fit.attrs["model"]))
