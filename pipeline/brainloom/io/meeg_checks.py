"""Is the EEG or MEG of a subject usable? Looked at without reading its samples; each check raises one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.layout import subject_label
from brainloom.io.meeg import read_lead_field
from brainloom.io.meeg_files import FIF, SPHERE, lead_field_path, meeg_problem, meeg_runs
from brainloom.io.meeg_sidecars import TYPES, read_channels, read_meeg_json, read_positions
from brainloom.io.parts import electric_cut, pieces_of_run, too_few
from brainloom.io.reading import Atlas
from brainloom.io.recording_files import KINDS
from brainloom.io.recordings import check_frequency, open_recording


def check_meeg(
    root: str | Path,
    subject: str,
    task: str,
    modality: str,
    settings: Mapping[str, Any],
    *,
    signal: Mapping[str, Any],
    atlas: Atlas,
    atlas_label: str,
) -> None:
    """
    Check one modality of a subject without reading its samples.

    Parameters
    ----------
    root, subject, task, modality, settings : see `meeg_files`
    signal : section of the configuration: ``splits, block, gap``.
    atlas : label table, with the centres of the regions.
    atlas_label : its name.

    Raises
    ------
    DataError
        Files are missing or cannot be read, sensors have no positions, the recording is too short or too coarse in
        time, or the lead field does not fit; one sentence.
    """
    problem = meeg_problem(root, subject, task, modality, settings, atlas_label)
    if problem:
        raise DataError(problem)
    runs = meeg_runs(root, subject, task, modality, settings, atlas_label)
    who = f"sub-{subject_label(subject)}"
    problem = too_few(runs, who, signal["splits"])
    if problem:
        raise DataError(problem)
    if settings["space"] == "region":
        return
    sphere = settings["lead_field"] == SPHERE
    if sphere and not np.isfinite(atlas.coordinates).all():
        region = atlas.labels[int(np.argmin(np.isfinite(atlas.coordinates).all(axis=1)))]
        raise DataError(
            f"atlas-{atlas_label}_dseg.tsv: {who} cannot have a lead field of a sphere, because region {region!r} has no x, "
            f"y, z; add the centres of the regions in mm (MNI), or give {modality}.lead_field a file"
        )
    for path in runs:
        _check_header(Path(root), path, who, modality, settings, signal, sphere)
    if not sphere:
        table = lead_field_path(subject, settings)
        assert table is not None
        if not table.name.endswith(FIF):
            read_lead_field(table, None, atlas, modality)


def _check_header(
    root: Path,
    path: Path,
    who: str,
    modality: str,
    settings: Mapping[str, Any],
    signal: Mapping[str, Any],
    sphere: bool,
) -> None:
    raw = open_recording(path, preload=False)
    rate, seconds = float(raw.info["sfreq"]), raw.n_times / float(raw.info["sfreq"])
    content, origin = read_meeg_json(root, path, modality)
    check_frequency(raw, content, origin, path)
    for key in ("band", "envelope_band"):
        if settings[key][1] >= 0.5 * rate:
            raise DataError(
                f"{path}: {who} sampling frequency is {rate:g} Hz, so frequencies end at {0.5 * rate:g} Hz but "
                f"{modality}.{key} ends at {settings[key][1]:g} Hz; lower it"
            )
    cut = electric_cut(signal, settings, rate)
    borders = pieces_of_run(raw.n_times, cut)
    if not borders:
        raise DataError(
            f"{path}: {who} lasts {seconds:.3g} s, too short for two blocks of {cut.block / rate:g} s (signal.block) and a "
            f"gap of {(cut.gap or 0) / rate:g} s; shorten signal.block, or set signal.splits to halves"
        )
    part = min(stop - start for start, stop in borders) / rate
    if part < settings["window"]:
        where = {"halves": "each half", "blocks": "a block"}.get(cut.how, "the run")
        raise DataError(
            f"{path}: {who} lasts {seconds:.3g} s, which leaves {part:.3g} s for {where}, less than {modality}.window "
            f"({settings['window']:g} s); add a longer recording or shorten the window"
        )
    good, named = _good_channels(raw, root, path, modality)
    if len(good) < 2:
        raise DataError(
            f"{path}: {who} has {len(good)} good {modality.upper()} channels; at least 2 are needed, so correct types "
            "and status in *_channels.tsv or leave the subject out"
        )
    reference = settings["reference"]
    if modality == "eeg" and reference not in (None, "average") and reference not in named:
        raise DataError(
            f"{path}: {who} has no electrode {reference!r}; set eeg.reference to average, or to one of its electrodes such "
            f"as {named[0]}"
        )
    if sphere and modality == "eeg" and settings["montage"] is None and read_positions(root, path) is None:
        place = np.array([raw.info["chs"][raw.ch_names.index(name)]["loc"][:3] for name in good])
        lost = ~(np.isfinite(place).all(axis=1) & place.any(axis=1))
        if lost.any():
            raise DataError(
                f"{path}: {who} electrode {good[int(np.argmax(lost))]} has no position; add *_electrodes.tsv, or name a "
                "standard montage in eeg.montage"
            )


def _good_channels(raw: Any, root: Path, path: Path, modality: str) -> tuple[list[str], list[str]]:
    """Channels of the modality that are not bad, and all of them."""
    _, listed = read_channels(root, path)
    types = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    for name, cells in listed.items():
        known = TYPES.get(cells.get("type", "").upper())
        if known is not None and types.get(name) not in KINDS["meg"]:
            types[name] = known
    named = [name for name in raw.ch_names if types[name] in KINDS[modality]]
    bad = {name for name, cells in listed.items() if cells.get("status", "").lower() == "bad"}
    return [name for name in named if name not in bad | set(raw.info["bads"])], named
