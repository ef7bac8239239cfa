"""EEG or MEG of one subject in the signal dataset: features of each split, and what the spectral route fits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainloom.analysis.clean import detrend_only, observed
from brainloom.analysis.cross_spectra import multitaper_csd
from brainloom.analysis.meeg import meeg_features
from brainloom.analysis.split_record import write_record
from brainloom.analysis.splits import Design, Segments, nested, segments_of
from brainloom.core.errors import DataError
from brainloom.io.meeg import MeegRecording
from brainloom.io.parts import Cut, Piece, electric_cut, training_and_held_out

SPLITS = ("train", "validation", "test")
# Directions of sensor space that are fitted at most: the likelihood costs their third power.
MOST_COMPONENTS = 64
# Singular values of the lead field below this share of the largest are directions that no region reaches.
_RANK = 1e-6


def meeg_pieces(lengths: Sequence[int], cut: Cut, sessions: Sequence[str]) -> dict[str, list[Piece]]:
    """Training, validation and held-out pieces of EEG or MEG, cut as BOLD is.

    Parameters
    ----------
    lengths : sequence of int
        Samples of each run.
    cut : Cut
    sessions : sequence of str
        Of each run.

    Raises
    ------
    DataError
        There are too few runs or sessions, or a run is too short for blocks.
    """
    try:
        train, test = training_and_held_out(lengths, cut, None, sessions)
    except ValueError as err:
        raise DataError(str(err)) from err
    return {"train": train, "validation": nested(train, cut, sessions)[1], "test": test}


def meeg_splits(
    runs: Sequence[np.ndarray], pieces: Mapping[str, Sequence[Piece]], shortest: int
) -> dict[str, Segments]:
    """Segments of each part of EEG or MEG without the samples that are marked bad.

    Parameters
    ----------
    runs : sequence of (time, channel) arrays
        Lines of NaN where samples are marked bad.
    pieces : mapping of split -> pieces
        See `meeg_pieces`.
    shortest : int
        Samples that a segment needs; shorter stretches between bad marks are left out.

    Raises
    ------
    DataError
        Nothing is left of a part.
    """
    found = {
        name: [one for part in segments_of(runs, parts) for one in _stretches(part, shortest)]
        for name, parts in pieces.items()
    }
    for name in ("train", "test"):
        if not found[name]:
            raise DataError(
                f"the {name} part of the recording has no stretch of {shortest} good samples; "
                "shorten the window or use longer recordings"
            )
    return found


def _stretches(part: np.ndarray, shortest: int) -> Segments:
    """Pieces of a series between its lines of NaN that have a number of samples."""
    good = np.isfinite(part).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(int), [0]])))
    return [part[start:stop] for start, stop in edges.reshape(-1, 2) if stop - start >= shortest]


def component_basis(lead_field: np.ndarray | None, n_channels: int) -> np.ndarray:
    """Orthonormal directions of channel space that regions reach: `(channel, component)`.

    Left singular vectors of the lead field, strongest first, at most `MOST_COMPONENTS`; without a lead field the
    channels themselves. The average reference takes one direction away: it is not among them.
    """
    if lead_field is None:
        return np.eye(n_channels)
    vectors, values, _ = np.linalg.svd(lead_field, full_matrices=False)
    rank = int((values > _RANK * values[0]).sum())
    chosen = vectors[:, : min(rank, MOST_COMPONENTS)]
    # The sign of a singular vector is the choice of the library; here its largest entry is positive.
    largest = np.abs(chosen).argmax(axis=0)
    return chosen * np.sign(chosen[largest, np.arange(chosen.shape[1])])


def split_cross_spectra(
    splits: Mapping[str, Segments], sampling_frequency: float, band: Sequence[float], bandwidth: float | None
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, int]]]:
    """Cross-spectra of every split on one grid of frequencies.

    Parameters
    ----------
    splits : mapping of split -> list of (time, channel) arrays
    sampling_frequency : float
        Hz.
    band : (low, high)
        Hz.
    bandwidth : float or None
        Hz. None: the raw periodogram; all segments are then cut to the length of the shortest.

    Returns
    -------
    frequency : (f,) array, Hz
    found : dict of split -> (csd (f, channel, channel), number of tapers). A split that cannot be put on the grid
        (a short validation part) has NaN and 0.
    """
    scored = [part for name in ("train", "test") for part in splits[name]]
    shortest = min(map(len, scored))
    width = 0.5 * sampling_frequency / shortest if bandwidth is None else bandwidth
    raw = width * shortest / sampling_frequency <= 1.0 + 1e-9
    frequency: np.ndarray = np.zeros(0)
    found: dict[str, tuple[np.ndarray, int]] = {}
    for name in ("train", "test", "validation"):
        parts = [part[:shortest] for part in splits[name]] if raw else list(splits[name])
        try:
            if not parts:
                raise DataError("nothing is left of the part")
            spectra = multitaper_csd(parts, sampling_frequency, band, width)
            if name != "train" and not np.array_equal(spectra.frequency, frequency):
                raise DataError(f"the {name} part is too short for the frequencies of the training part")
        except DataError:
            if name != "validation":
                raise
            found[name] = (np.full_like(found["train"][0], np.nan), 0)
            continue
        frequency = spectra.frequency
        found[name] = (spectra.csd, spectra.n_tapers)
    return frequency, found


def _part_features(
    splits: Mapping[str, Segments], rate: float, settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    found = {name: meeg_features(splits[name], rate, settings) for name in ("train", "test")}
    try:
        found["validation"] = meeg_features(splits["validation"], rate, settings)
    except DataError:
        lost = {key: np.full_like(value, np.nan) for key, value in found["train"].items() if key in _BY_SPLIT}
        found["validation"] = lost | {"n_samples": 0}
    return found


_BY_SPLIT = {
    "psd": (("sensor", "frequency"), "{unit}^2/Hz", "power spectral density, one-sided"),
    "envelope_fc": (("sensor", "sensor_to"), "1", "correlation of orthogonalised envelopes in envelope_band"),
    "peak_frequency": (("sensor",), "Hz", "alpha peak, NaN without one"),
    "band_power": (("sensor", "band"), "1", "share of the power in the band"),
}


def meeg_variables(
    recording: MeegRecording,
    settings: Mapping[str, Any],
    *,
    signal: Mapping[str, Any],
    regions: Sequence[str],
) -> xr.Dataset:
    """
    Variables of one modality, to be merged into the signal dataset.

    Parameters
    ----------
    recording : MeegRecording
    settings : mapping
        Section `eeg` or `meg` of the configuration.
    signal : mapping
        Section `signal` of the configuration: ``splits, block, gap``.
    regions : sequence of str
        Labels of the columns of the lead field.

    Returns
    -------
    xarray.Dataset
        See docs/datasets.md; all names start with the modality.

    Raises
    ------
    DataError
        The recordings are too short for the splits or the windows, or a band does not fit.
    """
    name, rate = recording.modality, float(recording.sampling_frequency)
    shortest = int(np.ceil(settings["window"] * rate - 1e-9))
    cut, lengths = electric_cut(signal, settings, rate), list(map(len, recording.runs))
    names = recording.names or [f"run-{k + 1}" for k in range(len(lengths))]
    design = Design(names, recording.sessions or [""] * len(lengths), [cut.gap or 0] * len(lengths))
    pieces = meeg_pieces(lengths, cut, design.sessions)
    splits = meeg_splits(recording.runs, pieces, shortest)
    found = _part_features(splits, rate, settings)
    basis = component_basis(recording.lead_field, len(recording.channels))
    projected = {key: [part @ basis for part in parts] for key, parts in splits.items()}
    grid, spectra = split_cross_spectra(projected, rate, settings["band"], settings["bandwidth"])
    units = {"unit": recording.unit}

    def dims(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{name}_{one}" for one in names)

    data: dict[str, Any] = {
        f"{name}_{key}": (
            ("split", *dims(axes)),
            np.stack([np.asarray(found[split][key]) for split in SPLITS]),
            {"units": unit.format(**units), "long_name": f"{name.upper()}: {text}"},
        )
        for key, (axes, unit, text) in _BY_SPLIT.items()
    }
    data[f"{name}_duration"] = (
        ("split",),
        np.array([sum(map(len, splits[split])) / rate for split in SPLITS]),
        {"units": "s", "long_name": "length of the part"},
    )
    data[f"{name}_basis"] = (
        dims(("sensor", "component")),
        basis,
        {"units": "1", "long_name": "directions of the channels that are fitted, orthonormal"},
    )
    data[f"{name}_csd"] = (
        ("split", *dims(("csd_frequency", "component", "component_to"))),
        np.stack([spectra[split][0] for split in SPLITS]),
        {"units": f"{recording.unit}^2/Hz", "long_name": "cross-spectral density of components, two-sided"},
    )
    data[f"{name}_csd_n"] = (
        ("split",),
        np.array([spectra[split][1] for split in SPLITS], dtype=np.int64),
        {"units": "1", "long_name": "tapers averaged in the cross-spectra"},
    )
    if recording.lead_field is not None:
        data[f"{name}_lead_field"] = (
            (f"{name}_sensor", "region"),
            recording.lead_field,
            {"units": f"{recording.unit}/(A*m)", "long_name": "sensor value of a unit dipole in the region"},
        )
    if recording.positions is not None:
        data[f"{name}_position"] = (
            (f"{name}_sensor", "axis"),
            recording.positions,
            {"units": "mm", "long_name": "position of the sensor in the head"},
        )
    labels = np.array(recording.channels, dtype=str)
    numbers = np.arange(basis.shape[1])
    coords: dict[str, Any] = {
        "split": ("split", np.array(SPLITS), {"long_name": "part of the data"}),
        "region": ("region", np.array(regions, dtype=str), {"long_name": "region"}),
        f"{name}_sensor": (f"{name}_sensor", labels, {"long_name": "sensor"}),
        f"{name}_sensor_to": (f"{name}_sensor_to", labels, {"long_name": "sensor"}),
        f"{name}_frequency": (
            f"{name}_frequency",
            found["train"]["frequency"],
            {"units": "Hz", "long_name": "frequency"},
        ),
        f"{name}_band": (f"{name}_band", np.array(found["train"]["bands"], dtype=str), {"long_name": "band"}),
        f"{name}_component": (f"{name}_component", numbers, {"units": "1", "long_name": "component"}),
        f"{name}_component_to": (f"{name}_component_to", numbers, {"units": "1", "long_name": "component"}),
        f"{name}_csd_frequency": (
            f"{name}_csd_frequency",
            grid,
            {"units": "Hz", "long_name": "middle of the bin"},
        ),
    }
    if recording.positions is not None:
        coords["axis"] = ("axis", np.array(["x", "y", "z"]), {"long_name": "axis of the head"})
    attrs = {
        f"{name}_sampling_frequency": rate,
        f"{name}_reference": recording.reference,
        f"{name}_space": "region" if recording.lead_field is None else "sensor",
        f"{name}_unit": recording.unit,
        f"{name}_config": json.dumps(dict(settings), sort_keys=True),
        f"{name}_split_frames": write_record(cut.how, pieces, design, lengths, 1.0 / rate),
        **{f"{name}_{key}": value for key, value in recording.attrs.items()},
    }
    return xr.Dataset(data, coords=coords, attrs=attrs)


def bold_cross_spectra(
    splits: Mapping[str, Segments],
    tr: float,
    band: Sequence[float],
    bandwidth: float | None,
    labels: Sequence[str],
    shares: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """
    Cross-spectra of BOLD for the spectral route, to be merged into the signal dataset.

    Each segment is detrended, and expressed relative to its mean where every region has one.

    Parameters
    ----------
    splits : mapping of split -> list of (time, region) arrays
        Raw series.
    tr : float
        Repetition time in s.
    band : (low, high)
        Hz.
    bandwidth : float or None
        Hz; None is the raw periodogram.
    labels : sequence of str
        Regions.
    shares : mapping of split -> float, optional
        Of the degrees of freedom within the band, what the regression of confounds has left. Densities are divided by
        it, as a residual variance is; it and the share of frames that were not scrubbed multiply ``bold_csd_n``.

    Returns
    -------
    xarray.Dataset
        ``bold_csd(split, bold_csd_frequency, region, region_to)``, ``bold_csd_n(split)``; attribute ``bold_unit``.
    """
    parts = [part for name in ("train", "test") for part in splits[name]]
    has_mean = all(bool((np.abs(np.nanmean(part, axis=0)) > np.nanstd(part, axis=0)).all()) for part in parts)

    def prepared(part: np.ndarray) -> np.ndarray:
        return detrend_only(part / np.nanmean(part, axis=0) if has_mean else part)

    ready = {name: [prepared(part) for part in splits[name]] for name in SPLITS}
    grid, spectra = split_cross_spectra(ready, 1.0 / tr, band, bandwidth)
    estimates = [np.array([spectra[split][1] for split in SPLITS], dtype=np.int64)]
    frames = {name: [observed(part) for part in splits[name]] for name in SPLITS}
    if shares is not None or not all(one.all() for parts in frames.values() for one in parts):
        left = shares or dict.fromkeys(SPLITS, 1.0)
        kept = [np.concatenate(frames[name]).mean() for name in SPLITS]
        spectra = {name: (csd / left[name], count) for name, (csd, count) in spectra.items()}
        estimates.append(np.array([left[name] for name in SPLITS]) * kept)
    unit = "1" if has_mean else "as recorded"
    return xr.Dataset(
        {
            "bold_csd": (
                ("split", "bold_csd_frequency", "region", "region_to"),
                np.stack([spectra[split][0] for split in SPLITS]),
                {
                    "units": "1/Hz" if has_mean else "(as recorded)^2/Hz",
                    "long_name": "cross-spectral density of BOLD"
                    + (" relative to its mean" if has_mean else "")
                    + ", two-sided",
                },
            ),
            "bold_csd_n": (
                ("split",),
                np.prod(estimates, axis=0),
                {
                    "units": "1",
                    "long_name": "estimates averaged in the cross-spectra: tapers, less what cleaning took",
                },
            ),
        },
        coords={
            "split": ("split", np.array(SPLITS)),
            "region": ("region", np.array(labels, dtype=str)),
            "region_to": ("region_to", np.array(labels, dtype=str)),
            "bold_csd_frequency": ("bold_csd_frequency", grid, {"units": "Hz", "long_name": "frequency"}),
        },
        attrs={"bold_unit": unit},
    )
