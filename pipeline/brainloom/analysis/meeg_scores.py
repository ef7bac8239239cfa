"""Scores of EEG and MEG: spectra, peaks and envelope connectivity of model and simulation against the recording."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainloom.analysis.fc import average_correlations, fc_correlation
from brainloom.analysis.metric_rows import MetricRows
from brainloom.analysis.peaks import alpha_peak
from brainloom.analysis.spectra import psd_correlation, psd_rmse
from brainloom.core.errors import DataError
from brainloom.core.modalities import ELECTRIC

#: Splits that are scored, as those of BOLD.
SCORED = ("train", "test")

Features = dict[str, np.ndarray]


def modalities(signal: xr.Dataset) -> list[str]:
    """What a signal dataset holds, any of bold, eeg, meg."""
    return str(signal.attrs.get("modality", "bold")).split(",")


def meeg_band(signal: xr.Dataset, name: str) -> tuple[float, float]:
    """Band in Hz over which spectra of one modality are compared."""
    low, high = json.loads(signal.attrs[f"{name}_config"])["band"]
    return float(low), float(high)


def recorded_features(signal: xr.Dataset, name: str, split: str) -> Features:
    """Features of one split of a recording as plain arrays: `psd`, `envelope_fc`, `peak_frequency`."""
    chosen = signal.sel(split=split)
    return {
        key: chosen[f"{name}_{key}"].values.astype(np.float64)
        for key in ("psd", "envelope_fc", "peak_frequency")
    }


def usable_realisations(simulation: xr.Dataset, name: str) -> list[int]:
    """Positions of the realisations of one modality that did not diverge."""
    psd = simulation[f"{name}_psd"].values
    return [int(k) for k in np.flatnonzero(np.isfinite(psd).all(axis=(1, 2)))]


def simulated_meeg(
    simulation: xr.Dataset, name: str, seeds: Sequence[int], frequency: np.ndarray
) -> Features:
    """Features averaged over realisations; envelope correlations in Fisher z, the peak is that of the mean spectrum."""
    chosen = simulation.isel(seed=list(seeds))
    psd = chosen[f"{name}_psd"].values.mean(axis=0)
    return {
        "psd": psd,
        "envelope_fc": average_correlations(chosen[f"{name}_envelope_fc"].values),
        "peak_frequency": peaks_of(psd, frequency),
    }


def peaks_of(psd: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Alpha peak of each channel in Hz, NaN where there is none or the spectrum does not hold the band."""
    try:
        return alpha_peak(psd, frequency)
    except DataError:
        return np.full(psd.shape[:-1], np.nan)


def meeg_scores(
    prediction: Mapping[str, Any],
    target: Mapping[str, Any],
    frequency: np.ndarray,
    band: Sequence[float],
    prefix: str,
) -> dict[str, float]:
    """
    Compare the features of one modality.

    Parameters
    ----------
    prediction, target : mapping
        ``psd`` (channel, frequency); ``envelope_fc`` (channel, channel) and ``peak_frequency`` (channel,), Hz, where
        the prediction has them.
    frequency : (frequency,) array, Hz
    band : (low, high) in Hz
    prefix : str
        ``eeg`` or ``meg``.

    Returns
    -------
    dict with, each after the prefix,

    - ``psd_r``: Pearson correlation over frequencies of log10 power, mean over channels
    - ``psd_rmse``: root mean square difference of log10 power, decades
    - ``envelope_fc_r``: Pearson correlation of the upper triangles
    - ``peak_error``: absolute difference of the alpha peaks in Hz, mean over channels where both have one; left out
      where there is no such channel
    """
    psd = prediction["psd"], target["psd"]
    out = {
        "psd_r": psd_correlation(*psd, frequency, band),
        "psd_rmse": psd_rmse(*psd, frequency, band),
    }
    if "envelope_fc" in prediction and len(target["envelope_fc"]) > 2:
        out["envelope_fc_r"] = fc_correlation(prediction["envelope_fc"], target["envelope_fc"])
    error = np.abs(prediction["peak_frequency"] - target["peak_frequency"])
    if np.isfinite(error).any():
        out["peak_error"] = float(np.nanmean(error))
    return {f"{prefix}_{key}": value for key, value in out.items()}


def add_meeg_rows(
    rows: MetricRows, signal: xr.Dataset, fit: xr.Dataset, simulation: xr.Dataset, warnings: list[str]
) -> None:
    """
    Add the rows of every modality that is not BOLD.

    Parameters
    ----------
    rows : MetricRows
        Gets ``ceiling`` (own training part against the held-out one), ``model_analytic`` and the controls,
        ``model_simulated`` (mean over realisations, and each).
    signal, fit, simulation : xarray.Dataset
        Datasets of the subject.
    warnings : list of str
        Gets a sentence for what was left out.
    """
    for name in modalities(signal):
        if name in ELECTRIC:
            _add_modality(rows, name, signal, fit, simulation, warnings)


def _add_modality(
    rows: MetricRows,
    name: str,
    signal: xr.Dataset,
    fit: xr.Dataset,
    simulation: xr.Dataset,
    warnings: list[str],
) -> None:
    frequency, band = signal[f"{name}_frequency"].values, meeg_band(signal, name)
    data = {split: recorded_features(signal, name, split) for split in SCORED}

    def score(prediction: Mapping[str, Any], split: str) -> dict[str, float]:
        return meeg_scores(prediction, data[split], frequency, band, name)

    rows.add("test", "ceiling", score(data["train"], "test"))
    if not np.isfinite(data["test"]["peak_frequency"]).any():
        warnings.append(
            f"The held-out {name.upper()} has no alpha peak above the aperiodic part of its spectrum: no error of it."
        )
    if f"{name}_psd_model" in fit:
        for family, predictors in families(fit).items():
            found = [fit[f"{name}_psd_model"].sel(predictor=one).values for one in predictors]
            good = [
                {"psd": psd, "peak_frequency": peaks_of(psd, frequency)}
                for psd in found
                if np.isfinite(psd).all()
            ]
            for split in SCORED if good else ():
                if predictors[0] in (family, "model"):
                    rows.add(split, family, score(good[0], split))
                else:
                    rows.add_repeated(split, family, {k: score(one, split) for k, one in enumerate(good)})
    if f"{name}_psd" not in simulation:
        return
    seeds = usable_realisations(simulation, name)
    lost = simulation.sizes["seed"] - len(seeds)
    if lost:
        warnings.append(
            f"{lost} of {simulation.sizes['seed']} realisations of {name.upper()} diverged and are left out."
        )
    for split in SCORED if seeds else ():
        mean = simulated_meeg(simulation, name, seeds, frequency)
        rows.add(split, "model_simulated", score(mean, split), n=len(seeds))
        for k in seeds:
            one = simulated_meeg(simulation, name, [k], frequency)
            rows.add(split, "model_simulated", score(one, split), seed=k)


def families(fit: xr.Dataset) -> dict[str, list[str]]:
    """Predictors of a fit by the name they have in the tables: the model first, random controls together."""
    found: dict[str, list[str]] = {}
    for predictor in map(str, fit["predictor"].values):
        name = predictor.partition(":")[0]
        found.setdefault("model_analytic" if name == "model" else name, []).append(predictor)
    return found


def group_mean_scores(signals: Mapping[str, xr.Dataset]) -> list[tuple[str, str, str, float]]:
    """
    Score the mean of all other subjects as predictor of each.

    Log power and Fisher z are averaged over the training and held-out parts of the others; nothing of the subject
    itself enters. Subjects with other sensors or frequencies are passed over.

    Parameters
    ----------
    signals : mapping of subject -> signal dataset
        At least the variables of EEG and MEG.

    Returns
    -------
    list of (subject, split, metric, value)
    """
    out: list[tuple[str, str, str, float]] = []
    for name in ELECTRIC:
        having = {label: ds for label, ds in signals.items() if f"{name}_psd" in ds}
        for label, own in having.items():
            others = [ds for other, ds in having.items() if other != label and _same_grid(own, ds, name)]
            if not others:
                continue
            frequency, band = own[f"{name}_frequency"].values, meeg_band(own, name)
            parts = [recorded_features(ds, name, split) for ds in others for split in SCORED]
            log_power = np.mean([np.log(np.maximum(p["psd"], np.finfo(float).tiny)) for p in parts], axis=0)
            mean = {
                "psd": np.exp(log_power),
                "envelope_fc": average_correlations([p["envelope_fc"] for p in parts]),
                "peak_frequency": peaks_of(np.exp(log_power), frequency),
            }
            for split in SCORED:
                target = recorded_features(own, name, split)
                scores = meeg_scores(mean, target, frequency, band, name)
                out += [(label, split, metric, value) for metric, value in scores.items()]
    return [row for row in out if np.isfinite(row[3])]


def _same_grid(a: xr.Dataset, b: xr.Dataset, name: str) -> bool:
    return list(a[f"{name}_sensor"].values) == list(b[f"{name}_sensor"].values) and np.array_equal(
        a[f"{name}_frequency"].values, b[f"{name}_frequency"].values
    )
