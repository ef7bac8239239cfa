"""Files that EEG or MEG of a subject are made from: recordings, what BIDS puts beside them, lead fields."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainloom.core.errors import DataError
from brainloom.io.layout import subject_label
from brainloom.io.meeg_sidecars import inherited
from brainloom.io.recording_files import recording_files, source_series_files

SPHERE = "sphere"
FIF = (".fif", ".fif.gz")
# Suffix and extension of the BIDS files that are read with a recording.
_BESIDE = (("channels", "tsv"), ("electrodes", "tsv"), ("coordsystem", "json"))
_FREE = {"electrodes": ("space",), "coordsystem": ("space",)}


def lead_field_path(subject: str, settings: Mapping[str, Any]) -> Path | None:
    """File of the lead field of a subject; None where it is made from a sphere, or for sources."""
    if settings["space"] == "region" or settings["lead_field"] == SPHERE:
        return None
    return Path(str(settings["lead_field"]).replace("{subject}", subject_label(subject)))


def meeg_runs(
    root: str | Path, subject: str, task: str, modality: str, settings: Mapping[str, Any], atlas: str
) -> list[Path]:
    """Recordings, or source series of the atlas, of one subject; empty if there are none (see `recording_files`)."""
    if settings["space"] == "region":
        return source_series_files(root, subject, task, modality, atlas=atlas)
    return recording_files(root, subject, task, modality)


def meeg_files(
    root: str | Path, subject: str, task: str, modality: str, settings: Mapping[str, Any], atlas: str
) -> list[Path]:
    """
    All files that one modality of a subject is made from, recordings first; those that do not exist are left out.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label.
    task : value of the ``task`` entity.
    modality : ``eeg`` or ``meg``.
    settings : section of the configuration: ``space, lead_field``.
    atlas : value of the ``atlas`` entity of source series.

    Raises
    ------
    DataError
        Two files claim to be the same run.
    """
    found: list[Path] = []
    for run in meeg_runs(root, subject, task, modality, settings, atlas):
        found += _parts(run)
        found += inherited(root, run, modality if settings["space"] == "sensor" else "timeseries", "json")
        if settings["space"] == "sensor":
            for suffix, extension in _BESIDE:
                found += inherited(root, run, suffix, extension, free=_FREE.get(suffix, ()))
    field_file = lead_field_path(subject, settings)
    if field_file is not None:
        found += [path for path in (field_file, field_file.with_suffix(".json")) if path.is_file()]
    # Sidecars are found by absolute paths; everything else starts as the cohort's folder does.
    root, whole = Path(root), Path(root).absolute()
    here = [root / path.relative_to(whole) if path.is_relative_to(whole) else path for path in found]
    return [path for path in dict.fromkeys(here) if path.exists()]


def _parts(run: Path) -> list[Path]:
    """A recording and the files that belong to it: data and markers of BrainVision, samples of EEGLAB."""
    if run.suffix == ".vhdr":
        return [run, *(run.with_suffix(s) for s in (".eeg", ".vmrk"))]
    return [run, run.with_suffix(".fdt")] if run.suffix == ".set" else [run]


def meeg_problem(
    root: str | Path, subject: str, task: str, modality: str, settings: Mapping[str, Any], atlas: str
) -> str:
    """Why one subject cannot be used, as far as file names tell: one sentence, or an empty string."""
    who = f"sub-{subject_label(subject)}"
    try:
        runs = meeg_runs(root, subject, task, modality, settings, atlas)
    except DataError as error:
        return str(error)
    if not runs:
        folder = Path(root) / who / modality
        name = f"{who}_task-{task}_{modality}.*"
        if settings["space"] == "region":
            name = f"{who}_task-{task}_atlas-{atlas}_timeseries.tsv"
        return (
            f"{folder / name}: {who} has no {modality.upper()} recording of task {task}; add it, leave the subject "
            f"out, or take {modality} out of modality"
        )
    path = lead_field_path(subject, settings)
    if path is not None and not path.is_file():
        return (
            f"{path}: {who} lacks this lead field; add it, or correct {modality}.lead_field "
            "(sphere, or a path in which {subject} stands for the label)"
        )
    return ""
