"""The signal dataset of one subject: its recording, cut into splits, and the features of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainloom.analysis.clean import detrend_only, observed, without, zscore
from brainloom.analysis.fcd import window_frames
from brainloom.analysis.features import features
from brainloom.analysis.spectra import peak_frequency, welch_psd
from brainloom.analysis.split_record import read_record, write_record
from brainloom.analysis.splits import Design, Segments, design_of, segments_of, split_pieces

SPLITS = ("train", "validation", "test")
# The spectrum in which peaks are searched is interpolated to at least this many points per Welch window.
_INTERPOLATION = 8

_PAIR = ("region", "region_to")
# name: (dimensions after `split`, unit, long name)
_BY_SPLIT: dict[str, tuple[tuple[str, ...], str, str]] = {
    "fc": (_PAIR, "1", "functional connectivity (Pearson)"),
    "lag1": (_PAIR, "1", "correlation of region one frame later with region_to"),
    "psd": (("region", "frequency"), "1/Hz", "power spectral density of the detrended, z-scored series"),
    "variance": (("region",), "1", "variance of the band-passed series relative to the mean over regions"),
    "metastability": ((), "1", "standard deviation of the order parameter of phases at 0.04-0.07 Hz"),
    "n_frames": ((), "1", "frames"),
    "effective_dof": ((), "1", "effective degrees of freedom (Bartlett)"),
}


def temporal_snr(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over standard deviation in time of every region, mean over runs weighted by frames: `(region,)`.

    0 for a region without variance. Meaningless, and near 0, for recordings whose mean was removed.
    """
    runs = [without(run, observed(run)) for run in runs]
    frames = [len(run) for run in runs]
    each = []
    for run in runs:
        spread = run.std(axis=0)
        each.append(np.divide(run.mean(axis=0), spread, out=np.zeros_like(spread), where=spread > 0))
    return np.average(each, axis=0, weights=frames)


def dvars(runs: Sequence[np.ndarray]) -> tuple[np.ndarray, str]:
    """Root mean square over regions of the change from frame to frame (DVARS, Power 2012).

    Parameters
    ----------
    runs : sequence of (time, region) arrays

    Returns
    -------
    values : (frames - runs,) array, without the changes to and from scrubbed frames
    unit : "percent of mean", each region relative to its mean; or "standard deviations" where the mean of a region
        is below its standard deviation, as in recordings whose mean was removed.
    """
    every = np.concatenate([run[observed(run)] for run in runs])
    mean, spread = np.abs(every.mean(axis=0)), every.std(axis=0)
    has_mean = bool((mean > spread).all())
    scale = mean / 100 if has_mean else np.where(spread > 0, spread, 1.0)
    values = np.concatenate([np.sqrt(((np.diff(run, axis=0) / scale) ** 2).mean(axis=1)) for run in runs])
    values = values[np.isfinite(values)]
    return values, "percent of mean" if has_mean else "standard deviations"


def natural_frequencies(segments: Segments, tr: float, psd_window: int, band: Sequence[float]) -> np.ndarray:
    """Frequency of the spectral peak of every region within a band, Hz: `(region,)`.

    Parameters
    ----------
    segments : list of (time, region) arrays
        Training data, raw.
    tr : float
        Repetition time in s.
    psd_window : int
        Frames per Welch window.
    band : (low, high) in Hz
    """
    spectra = [
        welch_psd(zscore(detrend_only(x)), tr, psd_window, _INTERPOLATION * psd_window) for x in segments
    ]
    psd = np.average([psd for _, psd in spectra], axis=0, weights=[len(x) for x in segments])
    return peak_frequency(psd, spectra[0][0], band)


def stored_runs(ds: xr.Dataset) -> list[np.ndarray]:
    """Runs of a signal dataset without the padding at their end: list of (time, region) float64 arrays."""
    runs = ds["bold"].transpose("run", "time", "region").values.astype(np.float64)
    return [run[: int(n)] for run, n in zip(runs, ds["run_frames"].values, strict=True)]


def stored_splits(ds: xr.Dataset) -> dict[str, Segments]:
    """The raw segments of every split of a signal dataset, cut as when its features were computed."""
    runs = stored_runs(ds)
    if "split_frames" in ds.attrs:
        pieces, _ = read_record(ds.attrs["split_frames"])
    else:  # of a version that did not write them down
        config, tr = json.loads(ds.attrs["signal_config"]), ds.attrs["repetition_time"]
        pieces = split_pieces(runs, tr, config, design_of(runs, tr, config))
    return {name: segments_of(runs, found) for name, found in pieces.items()}


def stored_design(ds: xr.Dataset) -> Design | None:
    """Names, sessions and gaps of the runs of a signal dataset; None for one that does not say."""
    return read_record(ds.attrs["split_frames"])[1] if "split_frames" in ds.attrs else None


def signal_dataset(
    runs: Sequence[np.ndarray],
    tr: float,
    labels: Sequence[str],
    signal_config: Mapping[str, Any],
    frequency_band: Sequence[float],
    *,
    design: Design | None = None,
) -> xr.Dataset:
    """Cut runs into splits and compute the features of each.

    Parameters
    ----------
    runs : sequence of (time, region) arrays
        Raw series with the first frames already dropped, lines of NaN for scrubbed frames.
    tr : float
        Repetition time in s.
    labels : sequence of str
        Region labels.
    signal_config : mapping
        Section `signal` of the configuration.
    frequency_band : (low, high) in Hz
        Where the natural frequency of each region is searched.
    design : Design, optional
        Sessions of the runs and gaps in them; runs of one session, and gaps as the runs say, if not given.

    Returns
    -------
    xarray.Dataset
        `bold(run, time, region)` float32 padded with NaN and NaN in scrubbed frames, `run_frames(run)` with them, the features of
        `brainloom.analysis.features.features` with dimension `split` (train, validation, test; FCD padded with NaN),
        `fc_early(region, region_to)` and `effective_dof_early` of the training part before the validation part,
        `tsnr(region)`, `peak_frequency(region)` of the training part.

    Raises
    ------
    ValueError
        The runs are too few or too short for the splits, or a band does not fit the repetition time.
    """
    # Features come from the stored numbers, so that they can be computed again from the dataset.
    stored = [np.asarray(run, dtype=np.float32) for run in runs]
    runs = [run.astype(np.float64) for run in stored]
    design = design_of(runs, tr, signal_config) if design is None else design
    pieces = split_pieces(runs, tr, signal_config, design)
    splits = {name: segments_of(runs, one) for name, one in pieces.items()}
    found = {name: features(segments, tr, signal_config) for name, segments in splits.items()}
    early = found.pop("train_early")

    bold = np.full((len(runs), max(map(len, runs)), len(labels)), np.nan, dtype=np.float32)
    for index, run in enumerate(stored):
        bold[index, : len(run)] = run
    n_windows = max(len(found[name]["fcd"]) for name in SPLITS)
    fcd = np.full((len(SPLITS), n_windows, n_windows), np.nan, dtype=np.float32)
    for index, name in enumerate(SPLITS):
        size = len(found[name]["fcd"])
        fcd[index, :size, :size] = found[name]["fcd"]
    motion, motion_unit = dvars(runs)

    def variable(dims: tuple[str, ...], values: Any, units: str, long_name: str) -> tuple:
        return dims, np.asarray(values), {"units": units, "long_name": long_name}

    data = {
        name: variable(("split", *dims), np.stack([found[split][name] for split in SPLITS]), units, long_name)
        for name, (dims, units, long_name) in _BY_SPLIT.items()
    }
    data["bold"] = variable(
        ("run", "time", "region"), bold, "as recorded", "regional BOLD, first frames dropped"
    )
    data["run_frames"] = variable(
        ("run",), [len(run) for run in runs], "1", "frames of the run, scrubbed ones too"
    )
    data["fcd"] = variable(
        ("split", "window", "window_to"), fcd, "1", "functional connectivity dynamics, NaN between segments"
    )
    data["fc_early"] = variable(_PAIR, early["fc"], "1", "functional connectivity before the validation part")
    data["effective_dof_early"] = variable(
        (), early["effective_dof"], "1", "effective degrees of freedom before the validation part"
    )
    data["tsnr"] = variable(("region",), temporal_snr(runs), "1", "temporal signal-to-noise ratio")
    data["peak_frequency"] = variable(
        ("region",),
        natural_frequencies(splits["train"], tr, signal_config["psd_window"], frequency_band),
        "Hz",
        "spectral peak of the training part within the frequency band of the model",
    )
    coords = {
        "split": ("split", np.array(SPLITS), {"long_name": "part of the data"}),
        "region": ("region", np.array(labels, dtype=str), {"long_name": "region"}),
        "region_to": ("region_to", np.array(labels, dtype=str), {"long_name": "region"}),
        "run": ("run", np.arange(1, len(runs) + 1), {"long_name": "run", "units": "1"}),
        "time": variable(("time",), np.arange(bold.shape[1]) * tr, "s", "time since the first frame kept"),
        "frequency": variable(("frequency",), found["train"]["frequency"], "Hz", "frequency"),
    }
    attrs = {
        "repetition_time": float(tr),
        "band": json.dumps(signal_config["band"]),
        "frequency_band": json.dumps(list(frequency_band)),
        "splits": signal_config["splits"],
        "split_frames": write_record(signal_config["splits"], pieces, design, list(map(len, runs)), tr),
        "filter_order": signal_config["filter_order"],
        "global_signal_regression": bool(signal_config["global_signal_regression"]),
        "fcd_window_frames": window_frames(signal_config["fcd_window"], tr),
        "fcd_step_frames": window_frames(signal_config["fcd_step"], tr),
        "scrubbed_frames": int(sum((~observed(run)).sum() for run in runs)),
        "dvars_median": float(np.median(motion)),
        "dvars_unit": motion_unit,
        "signal_config": json.dumps(dict(signal_config), sort_keys=True),
    }
    return xr.Dataset(data, coords=coords, attrs=attrs)
