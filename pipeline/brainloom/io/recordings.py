"""EEG and MEG recordings of any format that MNE opens, read with what BIDS says about them, and prepared."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.meeg_sidecars import (
    TYPES,
    VOLTS,
    dataset_root,
    frequency_of,
    read_channels,
    read_meeg_json,
    read_positions,
)
from brainloom.io.recording import Recording
from brainloom.io.recording_files import EXTENSIONS, KINDS, recording_files, refuse_kind
from brainloom.io.source_series import read_source_series
from brainloom.io.tables import who

__all__ = ["Recording", "read_recording", "read_source_series", "recording_files"]

BADS = ("drop", "interpolate", "keep")
# A typical channel with a larger standard deviation is in a wrong unit, not in a head (V, T).
_LARGEST = {"eeg": 0.1, "ieeg": 1.0, "meg": 1e-6}
# Relative; durations of EDF records round the sampling frequency.
_SAME_FREQUENCY = 1e-4
_BREAKS = ("bad", "edge", "boundary")


def read_recording(
    path: str | Path,
    kind: str = "eeg",
    *,
    root: str | Path | None = None,
    sensor_types: Sequence[str] | None = None,
    bads: str = "drop",
    line_noise: float | str | None = None,
    high_pass: float | None = None,
    low_pass: float | None = None,
    reference: str | None = None,
    resample: float | None = None,
    montage: str | None = None,
) -> Recording:
    """Read one recording in any format that MNE opens, with the BIDS files that apply to it, and prepare it.

    In this order: types and bad channels of ``*_channels.tsv``; positions of ``*_electrodes.tsv``; projections that
    the file brings (MEG); bad channels; line noise; filters; reference; resampling. Filters are MNE's zero-phase FIR
    filters and do not cross boundaries between recordings; resampling is in the frequency domain, without aliases.

    Parameters
    ----------
    path : file (FIF, EDF, BDF, BrainVision ``.vhdr``, EEGLAB ``.set``, ...) or folder (CTF ``.ds``, EGI ``.mff``).
    kind : {"eeg", "meg", "ieeg"}
        Channels to keep.
    root : folder of the dataset up to which sidecars are looked for; found by itself if not given.
    sensor_types : of those of `kind` only these, such as ``["mag"]``.
    bads : {"drop", "interpolate", "keep"}
        What to do with channels marked bad by the file or by ``*_channels.tsv``.
    line_noise : float, "sidecar" or None
        Hz; a notch there and at its multiples below half the (new) sampling frequency. ``"sidecar"`` takes
        ``PowerLineFrequency``.
    high_pass, low_pass : Hz, half amplitude near these edges.
    reference : str, optional
        ``average``, or the name of an electrode, which stays as a channel of zeros; None leaves it as recorded. MEG
        has no reference: no effect.
    resample : Hz, at most the sampling frequency of the file.
    montage : name of a standard montage of MNE (such as ``colin27_1005``), for recordings without positions.

    Returns
    -------
    Recording

    Raises
    ------
    DataError
        If the file cannot be read, holds no such channels or values that are no numbers, contradicts its sidecars,
        or an option does not fit it.
    """
    refuse_kind(kind)
    path = Path(path)
    if bads not in BADS:
        raise DataError(f"bads is {bads!r}; it must be one of {', '.join(BADS)}")
    root = dataset_root(path) if root is None else Path(root)
    raw = open_recording(path)
    content, origin = read_meeg_json(root, path, kind)
    check_frequency(raw, content, origin, path)
    _apply_channels(raw, root, path, kind)
    _pick(raw, path, KINDS[kind] if sensor_types is None else tuple(sensor_types), kind)
    _place(raw, root, path, kind, montage)
    recorded = _recorded_reference(raw, content, kind)
    marked = list(raw.info["bads"])
    with _in_one_sentence(path, "preparing the recording"):
        _handle_bads(raw, path, bads)
        _filter(raw, path, line_noise, high_pass, low_pass, resample, (content, origin))
        final = recorded if kind == "meg" else _reference(raw, path, reference, recorded)
        if resample is not None and resample != raw.info["sfreq"]:
            raw.resample(resample, npad="auto", verbose="error")
    data = raw.get_data().T.copy()
    _check_values(data, path, kind)
    return Recording(
        data=data,
        sampling_frequency=float(raw.info["sfreq"]),
        sensors=list(raw.ch_names),
        kinds=raw.get_channel_types(),
        info=raw.info,
        reference=final,
        bads=marked,
        path=path,
        unit="T" if kind == "meg" else "V",
        spans=_spans(raw, path),
    )


def open_recording(path: Path, *, preload: bool = True) -> Any:
    """
    The recording as MNE reads it, with its samples (`preload`) or without.

    Raises
    ------
    DataError
        It is missing, no recording by its name, or damaged.
    """
    import mne

    if not path.exists():
        raise DataError(f"{path}: {who(path)}file not found; add the recording or leave the subject out")
    if not path.name.endswith(EXTENSIONS):
        raise DataError(
            f"{path}: {who(path)}its extension is not that of a recording; it must be one of {', '.join(EXTENSIONS)}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mne.io.read_raw(path, preload=preload, verbose="error")
    except Exception as error:  # readers of foreign formats raise whatever they meet
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path}: {who(path)}the recording cannot be read ({reason}); export it again, with all of its files"
        ) from error


def check_frequency(raw: Any, content: dict, origin: dict[str, Path], path: Path) -> None:
    """Refuse a recording with another sampling frequency than its sidecar states."""
    stated, found = frequency_of(content, origin, "SamplingFrequency"), float(raw.info["sfreq"])
    if stated is not None and abs(stated - found) > _SAME_FREQUENCY * found:
        raise DataError(
            f"{origin['SamplingFrequency']}: {who(path)}SamplingFrequency is {stated:g} Hz but {path.name} has "
            f"{found:g} Hz; correct the one that is wrong"
        )


def _apply_channels(raw: Any, root: Path, path: Path, kind: str) -> None:
    """Types, units and bad marks of ``*_channels.tsv``."""
    table, channels = read_channels(root, path)
    if table is None:
        return
    unknown = [name for name in channels if name not in raw.ch_names]
    if unknown:
        raise DataError(
            f"{table}: {who(path)}channel {unknown[0]!r} is not in {path.name}"
            f"{f' (nor are {len(unknown) - 1} more)' if len(unknown) > 1 else ''}; use the names of the recording"
        )
    types = {}
    for name, cells in channels.items():
        known = TYPES.get(cells.get("type", "").upper())
        if known is not None and raw.get_channel_types([name])[0] not in KINDS["meg"]:
            types[name] = known
        if known in (*KINDS["eeg"], *KINDS["ieeg"]):
            _scale(raw, name, cells.get("units", "n/a"), table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the unit changes with the type
        raw.set_channel_types(types, verbose="error")
    wanted = [n for n, t in zip(raw.ch_names, raw.get_channel_types(), strict=True) if t in KINDS[kind]]
    unlisted = [name for name in wanted if name not in channels]
    if unlisted:
        raise DataError(
            f"{table}: {who(path)}lacks channel {unlisted[0]!r} of {path.name}; add a line with its type and status"
        )
    bad = [name for name, cells in channels.items() if cells.get("status", "").lower() == "bad"]
    raw.info["bads"] = list(dict.fromkeys([*raw.info["bads"], *bad]))


def _scale(raw: Any, name: str, unit: str, table: Path) -> None:
    """To V where the file itself does not say what its numbers are (some EDF); MNE then leaves them as they are."""
    if unit.lower() in ("n/a", ""):
        return
    if unit not in VOLTS:
        raise DataError(
            f"{table}: units of {name} are {unit!r}; they must be one of {', '.join(VOLTS)} for an electrode"
        )
    if getattr(raw, "_orig_units", {}).get(name) == "n/a":
        raw.apply_function(lambda x: x * VOLTS[unit], picks=[name], verbose="error")


def _pick(raw: Any, path: Path, types: tuple[str, ...], kind: str) -> None:
    found = raw.get_channel_types()
    keep = [name for name, one in zip(raw.ch_names, found, strict=True) if one in types]
    if not keep:
        raise DataError(
            f"{path}: {who(path)}there is no channel of type {' or '.join(types)} in it, but "
            f"{', '.join(sorted(set(found)))}; correct the kind ({kind}) or the types in *_channels.tsv"
        )
    raw.pick(keep, verbose="error")


def _place(raw: Any, root: Path, path: Path, kind: str, montage: str | None) -> None:
    """Positions of the electrodes: of the BIDS files, else of the recording, else of a standard montage."""
    import mne

    if kind == "meg":
        return
    given = read_positions(root, path)
    if given is not None:
        own = {name: at for name, at in given.electrodes.items() if name in raw.ch_names}
        digitised = mne.channels.make_dig_montage(own, **given.landmarks, coord_frame=given.frame)
        raw.set_montage(digitised, on_missing="ignore", verbose="error")
        return
    place = np.array([ch["loc"][:3] for ch in raw.info["chs"]])
    if montage is None or (np.isfinite(place).all() and place.any(axis=1).all()):
        return
    try:
        standard = mne.channels.make_standard_montage(montage)
    except ValueError:
        raise DataError(
            f"montage is {montage!r}, which MNE does not have; see mne.channels.get_builtin_montages()"
        ) from None
    known = {name.lower() for name in standard.ch_names}
    lost = [name for name in raw.ch_names if name.lower() not in known]
    if lost:
        raise DataError(
            f"{path}: {who(path)}electrode {lost[0]!r} is not in the montage {montage}"
            f"{f' (nor are {len(lost) - 1} more)' if len(lost) > 1 else ''}; use another montage, give positions in "
            "*_electrodes.tsv, or mark it as MISC in *_channels.tsv"
        )
    raw.set_montage(standard, match_case=False, verbose="error")


def _recorded_reference(raw: Any, content: dict, kind: str) -> str:
    """Apply the projections of the file, and say what the reference is before ours."""
    import mne

    kind_of_average = mne.io.constants.FIFF.FIFFV_PROJ_ITEM_EEG_AVREF
    averages = [proj["kind"] == kind_of_average for proj in raw.info["projs"]]
    averaged = any(one and proj["active"] for one, proj in zip(averages, raw.info["projs"], strict=True))
    # An average reference that nobody has applied is a wish, not how the data are.
    waiting = [at for at, one in enumerate(averages) if one and not raw.info["projs"][at]["active"]]
    if waiting:
        raw.del_proj(waiting)
    raw.apply_proj(verbose="error")
    if kind == "meg":
        return "none"
    stated = content.get("EEGReference", content.get("iEEGReference"))
    return "average" if averaged else str(stated) if isinstance(stated, str) and stated else "as recorded"


def _handle_bads(raw: Any, path: Path, bads: str) -> None:
    marked = list(raw.info["bads"])
    if not marked or bads == "keep":
        return
    if len(marked) == len(raw.ch_names):
        raise DataError(f"{path}: {who(path)}all of its channels are marked bad; leave the run out")
    if bads == "drop":
        raw.drop_channels(marked)
        return
    place = np.array([ch["loc"][:3] for ch in raw.info["chs"]])
    if not (np.isfinite(place).all() and place.any(axis=1).all()):
        raise DataError(
            f"{path}: {who(path)}bad channels cannot be interpolated without positions; give a montage, or drop them"
        )
    raw.interpolate_bads(reset_bads=True, verbose="error")


def _filter(
    raw: Any,
    path: Path,
    line_noise: float | str | None,
    high_pass: float | None,
    low_pass: float | None,
    resample: float | None,
    sidecar: tuple[dict[str, Any], dict[str, Path]],
) -> None:
    rate = float(raw.info["sfreq"])
    if resample is not None and not 0 < resample <= rate:
        raise DataError(
            f"{path}: {who(path)}cannot be resampled to {resample:g} Hz; it must be above 0 and at most its {rate:g} Hz"
        )
    last = 0.5 * (rate if resample is None else resample)
    for name, edge in (("high_pass", high_pass), ("low_pass", low_pass)):
        if edge is not None and not 0 < edge < last:
            raise DataError(f"{path}: {name} is {edge:g} Hz; it must lie between 0 and {last:g} Hz")
    if high_pass is not None and low_pass is not None and high_pass >= low_pass:
        raise DataError(f"{path}: high_pass is {high_pass:g} Hz; it must be below low_pass, {low_pass:g} Hz")
    skip = ("edge", "bad_acq_skip", "boundary")
    if line_noise is not None:
        line = frequency_of(*sidecar, "PowerLineFrequency") if line_noise == "sidecar" else line_noise
        if isinstance(line, bool) or not isinstance(line, int | float) or not 0 < line < 0.5 * rate:
            raise DataError(
                f"{path}: {who(path)}line noise is {line!r} Hz; give a number below {0.5 * rate:g}, or add "
                "PowerLineFrequency to the sidecar"
            )
        multiples = np.arange(line, last, line)
        if len(multiples):
            raw.notch_filter(multiples, picks="all", skip_by_annotation=skip, verbose="warning")
    if high_pass is not None or low_pass is not None:
        raw.filter(high_pass, low_pass, picks="all", skip_by_annotation=skip, verbose="warning")


def _reference(raw: Any, path: Path, reference: str | None, recorded: str) -> str:
    if reference is None or reference == recorded:
        return recorded
    if reference != "average" and reference not in raw.ch_names:
        raise DataError(
            f"{path}: {who(path)}reference is {reference!r}, which is no electrode of the recording (recorded "
            f"reference: {recorded}); use average, or one of its electrodes such as {raw.ch_names[0]}"
        )
    raw.set_eeg_reference("average" if reference == "average" else [reference],
                          ch_type=[t for t in ("eeg", "ecog", "seeg", "dbs") if t in raw], verbose="error")  # fmt: skip
    return reference


@contextmanager
def _in_one_sentence(path: Path, what: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is longer than the signal.*")
        try:
            yield
        except (RuntimeWarning, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(
                f"{path}: {who(path)}{what} failed ({reason}); use a longer recording or other filter settings"
            ) from error


def _check_values(data: np.ndarray, path: Path, kind: str) -> None:
    if not np.isfinite(data).all():
        raise DataError(
            f"{path}: {who(path)}holds values that are not numbers; export the recording again without gaps"
        )
    typical = float(np.median(data.std(axis=0))) if len(data) else 0.0
    unit = "T" if kind == "meg" else "V"
    if not 0 < typical < _LARGEST[kind]:
        raise DataError(
            f"{path}: {who(path)}the standard deviation of a typical channel is {typical:.3g} {unit}; it must be above 0 "
            f"and below {_LARGEST[kind]:g}: correct the units of the file or of *_channels.tsv"
        )


def _spans(raw: Any, path: Path) -> np.ndarray:
    """Stretches between the marks that begin with bad, edge or boundary."""
    rate, n = float(raw.info["sfreq"]), len(raw.times)
    marks = []
    onsets = raw.annotations.onset - raw.first_time
    for onset, duration, text in zip(
        onsets, raw.annotations.duration, raw.annotations.description, strict=True
    ):
        if str(text).lower().startswith(_BREAKS):
            marks.append(
                (
                    max(0, int(np.floor(onset * rate + 1e-6))),
                    min(n, int(np.ceil((onset + duration) * rate - 1e-6))),
                )
            )
    spans, start = [], 0
    for first, last in sorted(marks):
        if first > start:
            spans.append((start, first))
        start = max(start, last, first)
    if start < n:
        spans.append((start, n))
    if not spans:
        raise DataError(f"{path}: {who(path)}all of it is marked bad; leave the run out")
    return np.array(spans)
