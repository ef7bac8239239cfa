"""Simulated signals where other programs look for them: BIDS derivatives, and FIF files that MNE opens.

Every file is made in a folder beside its place and then moved, so a reader sees the old file, none or the new one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.core.modalities import ELECTRIC
from brainloom.io.layout import subject_label, timeseries_path
from brainloom.io.tables import write_json
from brainloom.io.writing import write_description, write_timeseries

# BIDS folder of each kind of regional signal, and the key of its sampling.
FOLDERS = {"bold": "func", "eeg": "eeg", "meg": "meg"}
# Eight digits keep a signal to better than 1e-7 of its value; the files stay readable.
DIGITS = 8
FIF_ENDINGS = ("raw.fif", "_eeg.fif", "_meg.fif", "_ieeg.fif")
_UNITS = {"eeg": "V", "seeg": "V", "ecog": "V", "dbs": "V", "mag": "T", "grad": "T/m"}


def write_bids_derivative(
    folder: str | Path,
    subject: str | int,
    data: Any,
    regions: Sequence[str],
    sampling_interval: Any,
    *,
    atlas: str,
    kind: str = "bold",
    task: str = "sim",
    run: int = 1,
    session: str | None = None,
    unit: str = "arbitrary",
    meta: Mapping[str, object] | None = None,
    name: str = "Signals simulated by brainloom",
    digits: int = DIGITS,
) -> Path:
    """Write one run of regional signals as ``sub-X_task-sim_run-1_atlas-A_timeseries.tsv`` with its JSON sidecar.

    What `brainloom.io.bids.read_timeseries` and `brainloom.io.recordings.read_source_series` read.
    ``dataset_description.json`` is added to the folder where there is none.

    Parameters
    ----------
    folder : root of the derivative dataset, made if need be.
    subject : label, with or without ``sub-``.
    data : (time, region) array; or a quantity, which is written in its own unit.
    regions : labels, the header.
    sampling_interval : s, or a quantity of time.
    atlas : value of the ``atlas`` entity.
    kind : {"bold", "eeg", "meg"}
        Folder (``func``, ``eeg``, ``meg``) and key of the sidecar: ``RepetitionTime`` for BOLD, else
        ``SamplingFrequency``.
    task, run, session : further entities.
    unit : str
        ``Units`` of the sidecar, of plain arrays.
    meta : further keys of the sidecar, such as the seed and parameters of the simulation.
    name : ``Name`` in a new ``dataset_description.json``.
    digits : significant digits.

    Returns
    -------
    Path of the table.

    Raises
    ------
    DataError
        If the data are not (time, region), hold values that are no numbers, or the interval is not above 0.
    """
    if kind not in FOLDERS:
        raise DataError(f"kind of signal is {kind!r}; it must be one of {', '.join(FOLDERS)}")
    if hasattr(data, "unit") and hasattr(data, "to_decimal"):
        unit, data = str(data.unit), data.to_decimal(data.unit)
    values = _values(data, regions, "region")
    seconds = _plain(sampling_interval, "s", "sampling_interval")
    if not 0 < seconds < float("inf"):
        raise DataError(f"sampling_interval is {seconds:g} s; it must be above 0")
    place = timeseries_path(folder, subject, task=task, atlas=atlas, run=run, session=session)
    place = place.parent.parent / FOLDERS[kind] / place.name
    sampling = {"RepetitionTime": seconds} if kind == "bold" else {"SamplingFrequency": _rate(seconds)}
    content = {**sampling, "Units": unit, "Simulated": True} | dict(meta or {})
    _description(folder, name)
    with _moved_when_complete(place.parent) as made:
        write_timeseries(made / place.name, values, list(regions), None, meta=content, digits=digits)
    return place


def write_bids_recording(
    folder: str | Path,
    subject: str | int,
    data: Any,
    sampling_frequency: Any,
    sensors: Sequence[str],
    *,
    kind: str = "eeg",
    positions: Any = None,
    reference: str | None = None,
    task: str = "sim",
    run: int = 1,
    session: str | None = None,
    meta: Mapping[str, object] | None = None,
    name: str = "Signals simulated by brainloom",
) -> Path:
    """Write one run of sensor signals as ``sub-X_task-sim_run-1_eeg.fif`` with its JSON sidecar.

    What `brainloom.io.recordings.recording_files` finds. Parameters are those of `write_raw_fif` and
    `write_bids_derivative`; `kind` is ``eeg`` or ``meg``. Returns the path of the FIF file.
    """
    if kind not in ELECTRIC:
        raise DataError(f"kind of recording is {kind!r}; it must be eeg or meg")
    session_name = "" if session is None else f"_ses-{session}"
    base = Path(folder) / f"sub-{subject_label(subject)}"
    base = base / kind if session is None else base / f"ses-{session}" / kind
    place = base / f"sub-{subject_label(subject)}{session_name}_task-{task}_run-{run}_{kind}.fif"
    content: dict[str, object] = {
        "TaskName": task,
        "SamplingFrequency": _plain(sampling_frequency, "Hz", "sampling_frequency"),
        "PowerLineFrequency": "n/a",
        "Simulated": True,
    }
    if kind == "eeg":
        content["EEGReference"] = reference or "n/a"
    _description(folder, name)
    with _moved_when_complete(place.parent) as made:
        write_json(made / place.with_suffix(".json").name, content | dict(meta or {}))
        _save(made / place.name, data, sampling_frequency, sensors, kind, positions, reference, double=False)
    return place


def write_raw_fif(
    path: str | Path,
    data: Any,
    sampling_frequency: Any,
    sensors: Sequence[str],
    kind: str | Sequence[str] = "eeg",
    positions: Any = None,
    *,
    reference: str | None = None,
    double: bool = False,
) -> Path:
    """Write sensor signals as an MNE Raw FIF file.

    Parameters
    ----------
    path : file whose name ends with ``raw.fif``, ``_eeg.fif``, ``_meg.fif`` or ``_ieeg.fif``, as MNE expects.
    data : (time, sensor) array in V (EEG, iEEG), T (magnetometers) or T/m (planar gradiometers), or a quantity that
        converts to it.
    sampling_frequency : Hz, or a quantity of frequency.
    sensors : names, (sensor,)
    kind : type of all or of each: ``eeg``, ``seeg``, ``ecog``, ``dbs``, ``mag`` or ``grad``; ``meg`` takes the types of
        `positions` and is ``mag`` without.
    positions : where the sensors are, one of

        - None;
        - (sensor, 3) array or a mapping from names to positions, m, in MNE's head frame;
        - the name of a standard montage of MNE;
        - ``mne.Info`` that has these sensors, such as that of the lead field or of the recording that was simulated.
    reference : str, optional
        ``average`` or the electrode that EEG is referenced to: marked in the file, so that MNE does not reference
        again.
    double : bool
        Numbers of 64 bits; single precision (7 digits) otherwise, as MNE does.

    Returns
    -------
    Path of the file.

    Raises
    ------
    DataError
        If data, names, types and positions do not fit each other.
    """
    path = Path(path)
    with _moved_when_complete(path.parent) as made:
        _save(made / path.name, data, sampling_frequency, sensors, kind, positions, reference, double=double)
    return path


def _save(
    path: Path,
    data: Any,
    sampling_frequency: Any,
    sensors: Sequence[str],
    kind: str | Sequence[str],
    positions: Any,
    reference: str | None,
    *,
    double: bool,
) -> None:
    import mne

    if not path.name.endswith(FIF_ENDINGS):
        raise DataError(
            f"{path.name}: the name must end with one of {', '.join(FIF_ENDINGS)}, as MNE expects"
        )
    names = [str(name) for name in sensors]
    template = positions if isinstance(positions, mne.Info) else None
    kinds = _kinds(kind, names, template)
    units = {_UNITS[one] for one in kinds}
    if hasattr(data, "to_decimal") and len(units) == 1:
        data = _plain(data, units.pop(), "data")
    values = _values(data, names, "sensor")
    rate = _plain(sampling_frequency, "Hz", "sampling_frequency")
    if not 0 < rate < float("inf"):
        raise DataError(f"sampling_frequency is {rate:g} Hz; it must be above 0")
    info = mne.create_info(names, rate, kinds, verbose="error")
    if template is not None:
        with info._unlock():
            info["chs"] = [
                _renumbered(template["chs"][template.ch_names.index(name)], at)
                for at, name in enumerate(names)
            ]
            info["dev_head_t"], info["dig"] = template["dev_head_t"], template["dig"]
    raw = mne.io.RawArray(values.T, info, verbose="error")
    if template is None and positions is not None:
        raw.set_montage(_montage(positions, names), match_case=False, verbose="error")
    if reference is not None and "eeg" in raw:
        raw.set_eeg_reference(ref_channels=[], verbose="error")  # marks the file, changes no sample
    raw.save(path, fmt="double" if double else "single", verbose="error")


def _renumbered(channel: Mapping[str, Any], at: int) -> Any:
    copied = channel.copy()  # type: ignore[attr-defined]
    copied["scanno"], copied["logno"] = at + 1, at + 1
    copied["cal"], copied["range"] = 1.0, 1.0
    return copied


def _kinds(kind: str | Sequence[str], names: list[str], template: Any) -> list[str]:
    if len(set(names)) != len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise DataError(f"sensor {twice!r} is named twice; give every sensor its own name")
    if template is not None:
        lost = [name for name in names if name not in template.ch_names]
        if lost:
            raise DataError(
                f"sensor {lost[0]!r} is not in the info that is given as positions; use its names"
            )
        own = dict(zip(template.ch_names, template.get_channel_types(), strict=True))
        return [own[name] for name in names]
    kinds = [kind] * len(names) if isinstance(kind, str) else list(kind)
    if len(kinds) != len(names):
        raise DataError(f"{len(kinds)} kinds are given for {len(names)} sensors; give one, or one each")
    kinds = ["mag" if one == "meg" else one for one in kinds]
    unknown = [one for one in kinds if one not in _UNITS]
    if unknown:
        raise DataError(f"kind of sensor is {unknown[0]!r}; it must be one of meg, {', '.join(_UNITS)}")
    return kinds


def _montage(positions: Any, names: list[str]) -> Any:
    import mne

    if isinstance(positions, str):
        try:
            standard = mne.channels.make_standard_montage(positions)
        except ValueError:
            raise DataError(f"montage is {positions!r}, which MNE does not have") from None
        known = {name.lower() for name in standard.ch_names}
        lost = [name for name in names if name.lower() not in known]
        if lost:
            raise DataError(
                f"sensor {lost[0]!r} is not in the montage {positions}; use its names, or give positions"
            )
        return standard
    if isinstance(positions, Mapping):
        lost = [name for name in names if name not in positions]
        if lost:
            raise DataError(f"sensor {lost[0]!r} has no position; give one for every sensor")
        positions = [positions[name] for name in names]
    xyz = np.asarray(positions, dtype=float)
    if xyz.shape != (len(names), 3) or not np.isfinite(xyz).all():
        raise DataError(
            f"positions are of shape {xyz.shape}; they must be finite and ({len(names)}, 3), in m"
        )
    if np.abs(xyz).max(initial=0.0) > 1.0:
        raise DataError(f"a position is {np.abs(xyz).max():g} m from the centre of the head; are they in mm?")
    return mne.channels.make_dig_montage(dict(zip(names, xyz, strict=True)), coord_frame="head")


def _values(data: Any, labels: Sequence[str], axis: str) -> np.ndarray:
    values = np.asarray(data, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(labels) or not len(values):
        raise DataError(
            f"data are of shape {values.shape} for {len(labels)} labels; they must be (time, {axis}) with at least one sample"
        )
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise DataError(
            f"data hold values that are not numbers from sample {first} on; a simulation that diverged is not written"
        )
    return values


def _plain(value: Any, unit: str, name: str) -> Any:
    """A number or array in the unit; plain ones are taken to be in it."""
    if not hasattr(value, "to_decimal"):
        return float(value) if np.ndim(value) == 0 else value
    from brainloom.core.units import number

    plain = np.asarray(number(value, unit, name))
    return float(plain) if plain.ndim == 0 else plain


def _rate(seconds: float) -> float:
    """One over an interval; a whole number where rounding alone keeps it from being one."""
    rate = 1.0 / seconds
    return float(round(rate)) if abs(rate - round(rate)) < 1e-9 * rate else rate


def _description(folder: str | Path, name: str) -> None:
    from brainloom import __version__

    if (Path(folder) / "dataset_description.json").exists():
        return
    with _moved_when_complete(Path(folder)) as made:
        write_description(made, name=name, version=__version__)


@contextmanager
def _moved_when_complete(folder: Path) -> Iterator[Path]:
    """A new folder whose files move to `folder` if nothing is raised, the sidecars before what they describe."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=folder))
    try:
        yield made
        for path in sorted(made.iterdir(), key=lambda path: (path.suffix != ".json", path.name)):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)
