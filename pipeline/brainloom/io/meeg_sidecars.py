"""What BIDS files say about a recording: sampling frequency, reference, types and quality of channels, positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.layout import entities
from brainloom.io.tables import MISSING, read_cells, read_json, to_numbers, who

# BIDS channel types that MNE must be told; MEG sensors say themselves what they are.
TYPES = {
    "EEG": "eeg",
    "EOG": "eog",
    "VEOG": "eog",
    "HEOG": "eog",
    "ECG": "ecg",
    "EMG": "emg",
    "SEEG": "seeg",
    "ECOG": "ecog",
    "DBS": "dbs",
    "TRIG": "stim",
    "RESP": "resp",
    "GSR": "gsr",
    "TEMP": "temperature",
    "MISC": "misc",
    "AUDIO": "misc",
    "EYEGAZE": "misc",
    "PUPIL": "misc",
    "REF": "misc",
    "SYSCLOCK": "misc",
    "ADC": "misc",
    "DAC": "misc",
    "OTHER": "misc",
}
VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "nV": 1e-9}
_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
# x to the right, y to the front: the axes of MNE's head frame.
_RAS = ("captrak", "elektaneuromag", "neuromagelektamegin")
# x to the front, y to the left
_ALS = ("ctf", "eeglab", "eeglab-hj")
_TEMPLATES = ("mni", "fsaverage", "icbm")


class Positions(NamedTuple):
    """Electrode positions in m.

    Attributes
    ----------
    electrodes : dict of str to (3,) array
    landmarks : dict, ``nasion``, ``lpa`` and ``rpa`` in the same frame; empty where unknown.
    frame : str, ``head`` (MNE's head frame) or ``unknown`` (only the landmarks say how to get there).
    """

    electrodes: dict[str, np.ndarray]
    landmarks: dict[str, np.ndarray]
    frame: str


def dataset_root(path: str | Path) -> Path:
    """Folder up to which sidecars apply: the nearest one with a ``dataset_description.json``, else the one above
    ``sub-<label>``, else that of the file."""
    parents = list(Path(path).absolute().parents)
    for folder in parents:
        if (folder / "dataset_description.json").is_file():
            return folder
    for folder in parents:
        if folder.name.startswith("sub-"):
            return folder.parent
    return parents[0]


def inherited(
    root: str | Path, path: str | Path, suffix: str, extension: str, *, free: Sequence[str] = ()
) -> list[Path]:
    """Files that apply to a recording by the BIDS inheritance principle, the general ones first.

    Parameters
    ----------
    root : folder of the dataset.
    path : recording.
    suffix, extension : of the files looked for, such as ``channels`` and ``tsv``.
    free : entities that the recording need not have, such as ``space``.
    """
    root, path = Path(root).absolute(), Path(path).absolute()
    named = entities(path) | {"suffix": suffix}
    found = []
    for folder in reversed(path.parents):
        if folder != root and root not in folder.parents:
            continue
        here = []
        for candidate in folder.glob(f"*{suffix}.{extension}"):
            own = entities(candidate)
            if {key: value for key, value in own.items() if key not in free}.items() <= named.items():
                here.append((len(own), candidate.name, candidate))
        found += [candidate for *_, candidate in sorted(here)]
    return found


def read_meeg_json(root: str | Path, path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Path]]:
    """Content of all ``*_<kind>.json`` that apply, the nearest wins, and for each key the file that it comes from."""
    content: dict[str, Any] = {}
    origin: dict[str, Path] = {}
    for sidecar in inherited(root, path, kind, "json"):
        found = read_json(sidecar)
        content |= found
        origin |= dict.fromkeys(found, sidecar)
    return content, origin


def frequency_of(content: dict[str, Any], origin: dict[str, Path], key: str) -> float | None:
    """A frequency of a sidecar in Hz; None where the key is absent or ``n/a``.

    Raises
    ------
    DataError
        If it is neither a positive number nor ``n/a``.
    """
    value = content.get(key)
    if value is None or (isinstance(value, str) and value.lower() in MISSING):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise DataError(f"{origin[key]}: {key} is {value!r}; it must be a positive number of Hz, or n/a")
    return float(value)


def read_channels(root: str | Path, path: str | Path) -> tuple[Path | None, dict[str, dict[str, str]]]:
    """Nearest ``*_channels.tsv`` that applies: its path, and by name of the channel its ``type, units, status``.

    Raises
    ------
    DataError
        If it has no column ``name``, a channel twice, or another status than good, bad or n/a.
    """
    tables = inherited(root, path, "channels", "tsv")
    if not tables:
        return None, {}
    table = tables[-1]
    header, *rows = read_cells(table)
    if "name" not in header:
        raise DataError(
            f"{table}: {who(table)}columns are {', '.join(header)}; the table must have a column named name"
        )
    found: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, 2):
        cells = dict(zip(header, row, strict=True))
        name = cells["name"]
        if name in found:
            raise DataError(
                f"{table}: {who(table)}channel {name} is listed twice (line {line}); keep one line a channel"
            )
        if cells.get("status", "n/a").lower() not in ("good", "bad", *MISSING):
            raise DataError(
                f"{table}: {who(table)}status of {name} is {cells['status']!r}; it must be good, bad or n/a"
            )
        found[name] = cells
    return table, found


def read_positions(root: str | Path, path: str | Path) -> Positions | None:
    """Electrode positions of ``*_electrodes.tsv`` with its ``*_coordsystem.json``, ready for MNE's head frame.

    CapTrak and Neuromag coordinates are head coordinates; those of CTF and EEGLAB are turned by 90 degrees; those in
    a template (MNI, fsaverage) go through the transform of MNE's fsaverage. Any other system needs the positions of
    nasion, LPA and RPA in ``coordsystem.json``; where those are given, they are used for every system.

    Returns
    -------
    Positions, or None without a table or where nothing says how to reach the head frame (a warning is given).

    Raises
    ------
    DataError
        If a column, the file with the coordinate system, or its unit is missing.
    """
    tables = inherited(root, path, "electrodes", "tsv", free=("space",))
    if not tables:
        return None
    table = tables[-1]
    header, *rows = read_cells(table)
    lacking = [name for name in ("name", "x", "y", "z") if name not in header]
    if lacking:
        raise DataError(
            f"{table}: {who(table)}column {lacking[0]} is missing; the table needs name, x, y and z"
        )
    column = {name: [row[at] for row in rows] for at, name in enumerate(header)}
    xyz = to_numbers(
        [list(row) for row in zip(column["x"], column["y"], column["z"], strict=True)],
        table,
        list("xyz"),
        first_line=2,
    )
    system_file, content = _coordinate_system(root, path, table)
    system, scale = _system(content, system_file)
    landmarks = _landmarks(content, scale)
    known = np.isfinite(xyz).all(axis=1)
    xyz = xyz * scale
    frame = "head"
    if landmarks:
        frame = "unknown"
    elif system in _ALS:
        xyz = xyz[:, [1, 0, 2]] * [-1.0, 1.0, 1.0]
    elif system.startswith(_TEMPLATES):
        xyz = _template_to_head(xyz)
    elif system not in _RAS:
        import warnings

        warnings.warn(
            f"{system_file}: the coordinate system is {system or 'not named'} and nasion, LPA and RPA are not given; "
            "the positions of the electrodes are not used",
            stacklevel=2,
        )
        return None
    electrodes = {name: at for name, at, ok in zip(column["name"], xyz, known, strict=True) if ok}
    return Positions(electrodes, landmarks, frame)


def _coordinate_system(root: str | Path, path: str | Path, table: Path) -> tuple[Path, dict[str, Any]]:
    space = entities(table).get("space")
    files = [
        one
        for one in inherited(root, path, "coordsystem", "json", free=("space",))
        if entities(one).get("space") == space
    ]
    if not files:
        raise DataError(
            f"{table}: {who(table)}there is no *_coordsystem.json beside it; add it with the coordinate system and its units"
        )
    return files[-1], read_json(files[-1])


def _system(content: dict[str, Any], path: Path) -> tuple[str, float]:
    for prefix in ("EEG", "iEEG", "MEG"):
        unit = content.get(f"{prefix}CoordinateUnits")
        if unit is None:
            continue
        if unit not in _METRES:
            raise DataError(f"{path}: {prefix}CoordinateUnits is {unit!r}; it must be m, cm or mm")
        return str(content.get(f"{prefix}CoordinateSystem", "")).lower(), _METRES[unit]
    raise DataError(f"{path}: EEGCoordinateUnits is missing; add m, cm or mm")


def _landmarks(content: dict[str, Any], scale: float) -> dict[str, np.ndarray]:
    for key in ("AnatomicalLandmark", "Fiducials"):
        given = {str(name).upper(): at for name, at in (content.get(f"{key}Coordinates") or {}).items()}
        if {"NAS", "LPA", "RPA"} <= given.keys():
            own = _METRES.get(content.get(f"{key}CoordinateUnits", ""), scale)
            names = {"nasion": "NAS", "lpa": "LPA", "rpa": "RPA"}
            return {name: np.asarray(given[short], dtype=float) * own for name, short in names.items()}
    return {}


def _template_to_head(xyz: np.ndarray) -> np.ndarray:
    import mne

    trans = mne.read_trans(
        Path(mne.__file__).parent / "data" / "fsaverage" / "fsaverage-trans.fif", verbose="error"
    )
    if trans["from"] == mne.io.constants.FIFF.FIFFV_COORD_HEAD:
        trans = mne.transforms.invert_transform(trans)
    return mne.transforms.apply_trans(trans, xyz)
