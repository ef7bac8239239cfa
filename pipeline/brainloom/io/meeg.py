"""EEG or MEG of one subject as a study models it: all runs of a modality, with the lead field of its sensors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.meeg_files import FIF, lead_field_path, meeg_problem, meeg_runs
from brainloom.io.parts import run_label, session_of
from brainloom.io.reading import Atlas


@dataclass
class MeegRecording:
    """Recordings of one modality of one subject, as they are to be modelled.

    Attributes
    ----------
    modality : str
        ``eeg`` or ``meg``.
    runs : list of (time, channel) float64 arrays
        V, T (gradiometers T/m), or the unit of the file for sources; in the reference in which they are compared.
        Samples that are marked bad are NaN in all channels.
    sampling_frequency : float
        Hz.
    channels : list of str
        Sensors; regions where the recording is of sources.
    unit : str
        Of the series.
    reference : str
        ``average``, an electrode, or what is known of it.
    lead_field : (channel, region) array or None
        Unit of the series for a dipole of 1 A m, referenced as they are; None for sources.
    positions : (channel, 3) array or None
        Head coordinates, mm.
    names, sessions : list of str
        Of each run: what tells it from the others, and the label of its session; not known where empty.
    """

    modality: str
    runs: list[np.ndarray]
    sampling_frequency: float
    channels: list[str]
    unit: str
    reference: str = ""
    lead_field: np.ndarray | None = None
    positions: np.ndarray | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)


def load_meeg(
    root: str | Path,
    subject: str,
    task: str,
    modality: str,
    settings: Mapping[str, Any],
    *,
    atlas: Atlas,
    atlas_label: str,
) -> MeegRecording:
    """
    Read one modality of a subject, with its lead field.

    Parameters are those of `check_meeg`. Of MEG with magnetometers and gradiometers the magnetometers are taken.

    Raises
    ------
    DataError
        The subject cannot be used; one sentence.
    """
    problem = meeg_problem(root, subject, task, modality, settings, atlas_label)
    if problem:
        raise DataError(problem)
    runs = meeg_runs(root, subject, task, modality, settings, atlas_label)
    if settings["space"] == "region":
        found = _load_sources(runs, subject, modality, atlas, Path(root))
    else:
        found = _load_sensors(Path(root), runs, subject, modality, settings, atlas)
    return replace(found, names=[*map(run_label, runs)], sessions=[*map(session_of, runs)])


def _with_gaps(data: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Series with NaN in the samples that no uninterrupted stretch holds."""
    kept = np.zeros(len(data), dtype=bool)
    for start, stop in spans:
        kept[start:stop] = True
    return np.where(kept[:, None], data, np.nan) if not kept.all() else data


def _same_frequency(found: Sequence[Any], subject: str) -> float:
    first = found[0].sampling_frequency
    for one in found[1:]:
        if abs(one.sampling_frequency - first) > 1e-6 * first:
            raise DataError(
                f"{one.path}: sub-{subject} is sampled at {one.sampling_frequency:g} Hz but {found[0].path.name} at "
                f"{first:g} Hz; resample the runs to one frequency"
            )
    return float(first)


def _load_sensors(
    root: Path, runs: Sequence[Path], subject: str, modality: str, settings: Mapping[str, Any], atlas: Atlas
) -> MeegRecording:
    from brainloom.io.recordings import read_recording

    reference = settings["reference"] if modality == "eeg" else None
    found = [
        read_recording(path, modality, root=root, reference=reference, montage=settings["montage"])
        for path in runs
    ]
    rate = _same_frequency(found, subject)
    kinds = dict(zip(found[0].sensors, found[0].kinds, strict=True))
    chosen = "mag" if "mag" in kinds.values() else found[0].kinds[0]
    # A channel that is bad in one run is left out of all; a reference electrode is zero by definition.
    sensors = [
        name
        for name in found[0].sensors
        if kinds[name] == chosen and name != reference and all(name in one.sensors for one in found)
    ]
    if len(sensors) < 2:
        raise DataError(
            f"{runs[0]}: sub-{subject} has {len(sensors)} channels that are good in all runs; at least 2 are needed"
        )
    series = []
    for one in found:
        data = one.data[:, [one.sensors.index(name) for name in sensors]]
        if one.reference == "average":
            data = data - data.mean(axis=1, keepdims=True)
        series.append(_with_gaps(data, one.spans))
    known = found[0].reference
    if modality == "eeg" and known != "average" and known not in found[0].sensors:
        raise DataError(
            f"{runs[0]}: sub-{subject} reference of the recording is {known!r}, to which no lead field can be referred; "
            "set eeg.reference to average"
        )
    path = lead_field_path(subject, settings)
    if path is None:
        lead_field = _sphere(
            found[0], [*sensors, *([known] if known in found[0].sensors else [])], atlas, modality
        )
    else:
        lead_field = read_lead_field(
            path, found[0].sensors if known in found[0].sensors else sensors, atlas, modality
        )
    wanted = [name for name in lead_field.sensors if name in sensors or name == known]
    lead_field = lead_field.pick(wanted)
    if modality == "eeg":
        lead_field = lead_field.referenced(known)
    lead_field = lead_field.pick(sensors)
    unit = lead_field.units[0].partition("/(A*m")[0] + ("/m" if chosen == "grad" else "")
    return MeegRecording(
        modality,
        series,
        rate,
        sensors,
        unit,
        known,
        lead_field.gain,
        lead_field.sensor_positions
        if lead_field.sensor_positions is not None
        else _positions(found[0], sensors),
        {
            "bads": ", ".join(dict.fromkeys(name for one in found for name in one.bads)),
            "kind": chosen,
            "mne": version("mne"),  # readers and lead fields are its own
        },
    )


def _positions(recording: Any, sensors: Sequence[str]) -> np.ndarray | None:
    """Positions of sensors in the head, mm; None where one is not known."""
    place = np.array(
        [recording.info["chs"][recording.info.ch_names.index(name)]["loc"][:3] for name in sensors]
    )
    known = np.isfinite(place).all() and place.any(axis=1).all()
    return 1e3 * place if known else None


def _sphere(recording: Any, sensors: Sequence[str], atlas: Atlas, modality: str) -> Any:
    from brainloom.io.lead_fields import sphere_lead_field

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # centres that are moved inside by some mm
        return sphere_lead_field(
            atlas.coordinates,
            kind=modality,
            montage=recording.info,
            sensors=list(sensors),
            regions=atlas.labels,
            reference=None,
        )


def read_lead_field(path: Path, sensors: Sequence[str] | None, atlas: Atlas, modality: str) -> Any:
    """
    Lead field of a file, for the regions of an atlas.

    Parameters
    ----------
    path : forward solution (FIF), or matrix (TSV, npy).
    sensors : names that are wanted, in their order; all if None.
    atlas : label table; regions of a forward solution are the sources nearest to the centres.
    modality : ``eeg`` or ``meg``.

    Returns
    -------
    LeadField

    Raises
    ------
    DataError
        The file cannot be read or lacks a sensor or region; the sentence names it.
    """
    from brainloom.io.lead_fields import lead_field_from_forward, lead_field_from_matrix

    try:
        if path.name.endswith(FIF):
            found = lead_field_from_forward(path, atlas.coordinates, regions=atlas.labels, space="mni")
            if found.free:
                found = found.fixed("strongest")
            return found if sensors is None else found.pick(sensors)
        return lead_field_from_matrix(path, sensors=sensors, regions=atlas.labels)
    except DataError as error:
        text = str(error)
        raise DataError(text if str(path) in text else f"{path}: {text}") from None


def _load_sources(
    runs: Sequence[Path], subject: str, modality: str, atlas: Atlas, root: Path
) -> MeegRecording:
    from brainloom.io.source_series import read_source_series

    found = [read_source_series(path, atlas.labels, root=root) for path in runs]
    rate = _same_frequency(found, subject)
    series = [_with_gaps(one.data, one.spans) for one in found]
    return MeegRecording(modality, series, rate, list(atlas.labels), found[0].unit, "none")
