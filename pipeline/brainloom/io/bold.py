"""BOLD of one subject, from regional tables or from images: read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.bold_files import bold_options
from brainloom.io.confounds import NO_SCRUB, Confounds, read_confounds
from brainloom.io.layout import duplicate_subjects, subject_files, subject_label
from brainloom.io.parts import cut_of, piece_name, pieces_of_run, run_label, session_of, too_few
from brainloom.io.reading import Atlas, read_atlas, read_repetition_time, read_sidecar, read_timeseries

# Spread relative to the largest value below which a series holds only rounding noise.
CONSTANT_TOLERANCE = 1e-9
# Repetition times closer than this, in s, are the same one written with fewer digits.
TIME_TOLERANCE = 1e-4
# The band-pass filter pads both ends; a part must be this many times as long as its padding.
FILTER_PARTS = 3
# Degrees of freedom that confounds must leave in the band of a part.
LEAST_FREEDOM = 10


class RawBold(NamedTuple):
    """Checked runs of one subject.

    Attributes
    ----------
    runs : each (time, region), regional means as recorded.
    repetition_time : s.
    atlas : label table.
    confounds : `brainloom.io.confounds.Confounds` of each run, or no item where the study asks for none.
    notes : sentences about what was not as expected and still could be used.
    names, sessions : of each run: what tells it from the others, and the label of its session (empty without one).
    """

    runs: list[np.ndarray]
    repetition_time: float
    atlas: Atlas
    confounds: list[Confounds]
    notes: list[str]
    names: list[str]
    sessions: list[str]


def load_bold(
    root: str | Path,
    subject: str,
    atlas: str,
    task: str,
    *,
    signal: Mapping[str, Any],
    atlas_image: str | None = None,
) -> RawBold:
    """Read and check the runs of one subject.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label.
    atlas, task : entities of the file names.
    signal : section of the configuration; ``tr`` (s) stands in for a missing ``RepetitionTime``.
    atlas_image : path of the atlas image if the runs are images, in which ``{subject}`` stands for the label.

    Returns
    -------
    RawBold
        Frames are all there: ``drop_frames`` and scrubbing are checked against, not applied.

    Raises
    ------
    DataError
        The subject cannot be used, in one sentence.
    """
    files = bold_files(root, subject, atlas, task, signal, atlas_image)
    table = read_atlas(files["atlas"])
    notes: list[str] = []
    runs = [
        read_timeseries(path, table.labels)[0]
        if path.suffix == ".tsv"
        else _read_image(root, path, files, signal, notes)
        for path in files["bold"]
    ]
    seconds = load_repetition_time(root, files["bold"], tr=signal.get("tr"))
    check_bold(subject, runs, table.labels, files, repetition_time=seconds, signal=signal)
    confounds = _load_confounds(subject, [len(run) for run in runs], files, seconds, signal)
    names, sessions = ([of(path) for path in files["bold"]] for of in (run_label, session_of))
    return RawBold(runs, seconds, table, confounds, notes, names, sessions)


def _read_image(
    root: str | Path, path: Path, files: Mapping[str, Any], signal: Mapping[str, Any], notes: list[str]
) -> np.ndarray:
    from brainloom.io.fmri import image_kind, read_bold_image, table_of

    labels = read_atlas(files["atlas"]).labels if image_kind(path) == "ptseries" else None
    series = read_bold_image(
        path,
        files["atlas_image"],
        dict(enumerate(labels, 1)) if labels else table_of(files["atlas"]),
        repetition_time=signal.get("tr"),
        sidecar=_sidecar_time(root, path),
    )
    notes += [f"{path.name}: {note}" for note in series.notes]
    return series.data


def bold_files(
    root: str | Path,
    subject: str,
    atlas: str,
    task: str,
    signal: Mapping[str, Any],
    atlas_image: str | None = None,
) -> dict[str, Any]:
    """`brainloom.io.layout.subject_files` of a subject that is listed once.

    Raises
    ------
    DataError
        ``participants.tsv`` lists it more than once, or two files claim to be the same run.
    """
    twice = duplicate_subjects(root).get(subject_label(subject))
    if twice:
        raise DataError(twice)
    options = bold_options({"input": {"atlas_image": atlas_image}, "signal": signal})
    return subject_files(root, subject, atlas, task, **options)


def check_bold_files(
    root: str | Path,
    subject: str,
    atlas: str,
    task: str,
    *,
    signal: Mapping[str, Any],
    atlas_image: str | None = None,
) -> None:
    """Check the runs of one subject before anything is computed: tables whole, of images the header, atlas and confounds.

    Parameters and errors are those of `load_bold`.
    """
    files = bold_files(root, subject, atlas, task, signal, atlas_image)
    if all(path.suffix == ".tsv" for path in files["bold"]):
        load_bold(root, subject, atlas, task, signal=signal, atlas_image=atlas_image)
        return
    from brainloom.io.fmri import check_bold_image

    frames = [check_bold_image(path, files["atlas_image"], files["atlas"]) for path in files["bold"]]
    seconds = load_repetition_time(root, files["bold"], tr=signal.get("tr"))
    _check_band(subject, files, seconds, signal)
    for path, count in zip(files["bold"], frames, strict=True):
        _check_frames(subject, path, count, seconds, signal)
    _load_confounds(subject, frames, files, seconds, signal)


def _load_confounds(
    subject: str, frames: Sequence[int], files: Mapping[str, Any], seconds: float, signal: Mapping[str, Any]
) -> list[Confounds]:
    strategy, scrub, band = (signal.get(key) for key in ("confounds", "scrub", "band"))
    found = []
    for path, count in zip(files["confounds"], frames, strict=bool(files["confounds"])):
        one = read_confounds(path, strategy, scrub, frames=count, band=band)
        _check_kept(f"sub-{subject_label(subject)}", path, one, seconds, signal)
        found.append(one)
    return found


def _check_kept(
    who: str, path: Path, confounds: Confounds, seconds: float, signal: Mapping[str, Any]
) -> None:
    """Refuse a part of which scrubbing and confounds leave too little."""
    drop, band, cut = signal.get("drop_frames", 0), signal.get("band"), cut_of(signal, seconds)
    share = {**NO_SCRUB, **(signal.get("scrub") or {})}["keep"]
    needed, reason = _needed_frames(signal, seconds)
    kept = confounds.kept[drop:]
    borders = pieces_of_run(len(kept), cut)
    for at, (start, stop) in enumerate(borders):
        where = piece_name(at, len(borders), cut)
        left, total = int(kept[start:stop].sum()), stop - start
        if left < needed or left < share * total:
            limit = (
                f"{needed} are needed ({reason})"
                if left < needed
                else f"{share:.0%} are needed (signal.scrub.keep)"
            )
            raise DataError(
                f"{path}: {who} keeps {left} of {total} frames of {where} after scrubbing; at least {limit}, so raise the "
                "thresholds of signal.scrub or leave the subject out"
            )
        # A band of width b over T seconds holds 2 b T independent numbers (Shannon), frames permitting.
        freedom = min(left, 2 * (band[1] - band[0]) * left * seconds) if band else left
        if confounds.names and freedom - len(confounds.names) < LEAST_FREEDOM:
            raise DataError(
                f"{path}: {who} has {len(confounds.names)} confounds but {left} frames of {where} hold about {freedom:.0f} "
                f"degrees of freedom in signal.band; at least {LEAST_FREEDOM} must be left, so take fewer confounds in "
                "signal.confounds or a longer run"
            )


def _check_band(
    subject: str, files: Mapping[str, Any], repetition_time: float, signal: Mapping[str, Any]
) -> None:
    who, band = f"sub-{subject_label(subject)}", signal.get("band")
    nyquist = 0.5 / repetition_time
    if band is not None and band[1] >= nyquist:
        raise DataError(
            f"{files['bold'][0]}: {who} repetition time is {repetition_time:.6g} s, so frequencies end at "
            f"{nyquist:.4g} Hz but signal.band ends at {band[1]:.4g} Hz; lower signal.band"
        )
    problem = too_few(files["bold"], who, signal.get("splits", "halves"))
    if problem:
        raise DataError(problem)


def _check_frames(
    subject: str, path: Path, frames: int, repetition_time: float, signal: Mapping[str, Any]
) -> list[tuple[int, int]]:
    """Borders of the parts of a run that is long enough."""
    who, cut = f"sub-{subject_label(subject)}", cut_of(signal, repetition_time)
    needed, reason = _needed_frames(signal, repetition_time)
    left = max(frames - signal.get("drop_frames", 0), 0)
    borders = pieces_of_run(left, cut)
    if not borders:
        raise DataError(
            f"{path}: {who} has {frames} frames, which leaves {left} for two blocks of {cut.block} (signal.block)"
            f"{f' and a gap of {cut.gap}' if cut.gap else ''}; shorten signal.block, or set signal.splits to halves"
        )
    shortest = min(stop - start for start, stop in borders)
    if shortest < needed:
        where = {"halves": "each half", "blocks": "a block"}.get(cut.how, "the run")
        fix = "set a longer signal.block" if cut.how == "blocks" else "add a longer run"
        raise DataError(
            f"{path}: {who} has {frames} frames, which leaves {shortest} for {where}; "
            f"at least {needed} are needed ({reason}), so {fix} or leave the subject out"
        )
    return borders


def check_bold(
    subject: str,
    runs: Sequence[np.ndarray],
    labels: Sequence[str],
    files: Mapping[str, Any],
    *,
    repetition_time: float,
    signal: Mapping[str, Any],
) -> None:
    """Check the runs of one subject.

    Parameters
    ----------
    subject : label.
    runs : each (time, region).
    labels : (region,)
    files : ``bold``: paths of the runs for messages.
    repetition_time : s.
    signal : section of the configuration: ``band, filter_order, drop_frames, splits``.

    Raises
    ------
    DataError
        Wrong shape, values that are not numbers, a band above the Nyquist frequency, too few runs or frames for the
        splits, a region that is constant over a part.
    """
    who, drop = f"sub-{subject_label(subject)}", signal.get("drop_frames", 0)
    _check_band(subject, files, repetition_time, signal)
    for run, path in zip(runs, files["bold"], strict=True):
        # Frame 1 of a table is in line 2.
        what, first = ("line", 2) if path.suffix == ".tsv" else ("frame", 1)
        if run.ndim != 2 or run.shape[1] != len(labels):
            size = " x ".join(map(str, run.shape))
            raise DataError(
                f"{path}: {who} run is {size}; it must have {len(labels)} columns, the regions of the atlas"
            )
        bad = ~np.isfinite(run)
        if bad.any():
            region = int(np.argmax(bad.sum(axis=0)))
            raise DataError(
                f"{path}: {who} region {labels[region]!r} has {bad[:, region].sum()} of {len(run)} frames that are not "
                f"numbers, the first in {what} {int(np.argmax(bad[:, region])) + first}; "
                "leave the region or the subject out, or fill the frames"
            )
        for start, stop in _check_frames(subject, path, len(run), repetition_time, signal):
            part = run[drop + start : drop + stop]
            constant = part.std(axis=0) <= CONSTANT_TOLERANCE * np.abs(part).max(axis=0)
            if constant.any():
                region = int(np.argmax(constant))
                raise DataError(
                    f"{path}: {who} region {labels[region]!r} is {part[0, region]:.6g} in all frames of {what}s "
                    f"{drop + start + first} to {drop + stop + first - 1}; leave the region or the subject out"
                )


def _needed_frames(signal: Mapping[str, Any], repetition_time: float) -> tuple[int, str]:
    """Fewest frames of a training or test part, and why."""
    order = signal.get("filter_order", 2)
    padding = FILTER_PARTS * (3 * (2 * order + 1) + 1)
    if signal.get("band") is None:
        return padding, "three times the padding of the filter"
    low = signal["band"][0]
    period = int(np.ceil(round(1.0 / (low * repetition_time), 6)))
    if period > padding:
        return period, f"one period of {low:g} Hz, the lower end of signal.band"
    return padding, "three times the padding of the filter"


def load_repetition_time(root: str | Path, runs: Sequence[Path], *, tr: float | None = None) -> float:
    """Repetition time that all runs of a subject share, in s.

    Parameters
    ----------
    root : folder of the cohort.
    runs : paths of the runs.
    tr : s, from the configuration; used where no sidecar and no header has one, and refused where they have another one.

    Raises
    ------
    DataError
        It is missing, differs between runs or between header and sidecar, or differs from ``tr``.
    """
    found = {path: _repetition_time(root, path, tr) for path in runs}
    first, *others = found
    who = first.name.split("_")[0]
    for other in others:
        if abs(found[other] - found[first]) > TIME_TOLERANCE:
            raise DataError(
                f"{_about(other)}: {who} RepetitionTime is {found[other]:.6g} s but {found[first]:.6g} s in "
                f"{_about(first).name}; all runs of a subject must have the same"
            )
    if tr is not None and abs(found[first] - tr) > TIME_TOLERANCE:
        raise DataError(
            f"{_about(first)}: {who} RepetitionTime is {found[first]:.6g} s but signal.tr is {tr:.6g} s; "
            "correct the one that is wrong, or set signal.tr to null"
        )
    return found[first]


def _about(path: Path) -> Path:
    return path.with_name(path.name.split(".")[0] + ".json")


def _sidecar_time(root: str | Path, path: Path) -> float | None:
    content, _ = read_sidecar(root, path)
    known = "RepetitionTime" in content or "SamplingFrequency" in content
    return read_repetition_time(root, path) if known else None


def _repetition_time(root: str | Path, path: Path, tr: float | None) -> float:
    if path.suffix == ".tsv":
        return read_repetition_time(root, path, default=tr)
    from brainloom.io.image_header import read_bold_header, repetition_time_of

    return repetition_time_of(path, read_bold_header(path), _sidecar_time(root, path), tr)
