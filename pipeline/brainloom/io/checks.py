"""Is the input of a subject usable? Each check raises one sentence: file, subject, field, value found, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.connectome import find_homotopes, prepare_lengths
from brainloom.io.connectome import symmetrise as both_ways
from brainloom.io.layout import duplicate_subjects, input_problem, subject_files, subject_label
from brainloom.io.reading import Atlas, read_atlas, read_relmat, read_repetition_time, read_timeseries

# Tables are stored with about 6 digits, so mirrored entries may differ in the last one.
ASYMMETRY_TOLERANCE = 1e-5
# Spread relative to the largest value below which a series holds only rounding noise.
CONSTANT_TOLERANCE = 1e-9
# Repetition times closer than this, in s, are the same one written with fewer digits.
TIME_TOLERANCE = 1e-4
# The band-pass filter pads both ends; a part must be this many times as long as its padding.
FILTER_PARTS = 3


class RawConnectome(NamedTuple):
    """Checked connectome tables of one subject: ``weights, lengths`` (region, region_to), mm, as in the files."""

    weights: np.ndarray
    lengths: np.ndarray
    atlas: Atlas


class RawBold(NamedTuple):
    """Checked runs of one subject: ``runs``, each (time, region) as in the file, and seconds between frames."""

    runs: list[np.ndarray]
    repetition_time: float
    atlas: Atlas


def check_connectome(
    subject: str,
    weights: np.ndarray,
    lengths: np.ndarray,
    labels: Sequence[str],
    files: Mapping[str, Any],
    *,
    symmetrise: bool = True,
) -> None:
    """Check weights and lengths of one subject; the diagonal is ignored.

    Parameters
    ----------
    subject : label.
    weights : ndarray, (region, region_to), [i, j] from j to i.
    lengths : ndarray, (region, region_to), mm; may be n/a or 0 where the weight is 0.
    labels : (region,)
    files : ``weight`` and ``length``: paths for messages.
    symmetrise : if false, asymmetric tables are refused.

    Raises
    ------
    DataError
        Wrong shape, missing, negative or asymmetric entries, a region without connections, a connection without length.
    """
    who = f"sub-{subject_label(subject)}"
    n = len(labels)
    for field, matrix in (("weight", weights), ("length", lengths)):
        if matrix.shape != (n, n):
            size = " x ".join(map(str, matrix.shape))
            raise DataError(
                f"{files[field]}: {who} matrix is {size}; it must be {n} x {n}, the regions of the atlas"
            )
    off = ~np.eye(n, dtype=bool)
    weights = np.where(off, weights, 0.0)
    lengths = np.where(off, lengths, 0.0)
    _refuse_missing_weights(who, weights, labels, files["weight"])
    needed = np.where(weights + weights.T > 0, lengths, 0.0)
    for field, matrix in (("weight", weights), ("length", lengths)):
        at = _first(matrix < 0)
        if at is not None:
            raise DataError(
                f"{files[field]}: {who} {field} {_edge(labels, at)} is {matrix[at]:.6g}; "
                f"a {field} cannot be negative, so correct the table"
            )
    if not symmetrise:
        for field, matrix in (("weight", weights), ("length", needed)):
            at = _first(np.abs(matrix - matrix.T) > ASYMMETRY_TOLERANCE * np.nanmax(matrix, initial=0.0))
            if at is not None:
                raise DataError(
                    f"{files[field]}: {who} {field} {_edge(labels, at)} is {matrix[at]:.6g} and "
                    f"{matrix[at[::-1]]:.6g} the other way; set connectome.symmetrise to true or make the table symmetric"
                )
    strength = weights.sum(axis=0) + weights.sum(axis=1)
    if (strength == 0).any():
        lonely = np.flatnonzero(strength == 0)
        more = f" ({len(lonely)} such regions)" if len(lonely) > 1 else ""
        raise DataError(
            f"{files['weight']}: {who} region {labels[lonely[0]]!r} has only weights of 0{more}; "
            "leave the region out of the atlas and all tables, or leave the subject out"
        )
    # A pair that is connected in one direction only may have its length there only.
    at = _first(off & (weights + weights.T > 0) & ~(lengths > 0) & ~(lengths.T > 0))
    if at is not None:
        found = "n/a" if np.isnan(lengths[at]) else "0"
        weight = max(weights[at], weights[at[::-1]])
        raise DataError(
            f"{files['length']}: {who} length {_edge(labels, at)} is {found} although the weight is {weight:.6g}; "
            "every connection needs a length in mm"
        )
    at = _first(np.isinf(lengths))
    if at is not None:
        raise DataError(
            f"{files['length']}: {who} length {_edge(labels, at)} is infinite; write n/a where there is no connection"
        )
    at = _first(np.isnan(prepare_lengths(lengths, both_ways(weights))[0]))
    if at is not None:
        raise DataError(
            f"{files['length']}: {who} length {_edge(labels, at)} is missing and no chain of connections links the two; "
            "give this length in mm"
        )


def _refuse_missing_weights(who: str, weights: np.ndarray, labels: Sequence[str], path: Path) -> None:
    bad = ~np.isfinite(weights)
    if not bad.any():
        return
    count = (bad | bad.T).sum(axis=1)
    worst = int(np.argmax(count))
    raise DataError(
        f"{path}: {who} region {labels[worst]!r} has {count[worst]} of {len(labels) - 1} weights that are not numbers; "
        "write 0 where there is no connection, or leave the region or the subject out"
    )


def _first(mask: np.ndarray) -> tuple[int, int] | None:
    found = np.argwhere(mask)
    return (int(found[0][0]), int(found[0][1])) if len(found) else None


def _edge(labels: Sequence[str], at: tuple[int, int]) -> str:
    return f"from {labels[at[1]]!r} to {labels[at[0]]!r}"


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
    who = f"sub-{subject_label(subject)}"
    band, splits, drop = signal.get("band"), signal.get("splits", "halves"), signal.get("drop_frames", 0)
    nyquist = 0.5 / repetition_time
    if band is not None and band[1] >= nyquist:
        raise DataError(
            f"{files['bold'][0]}: {who} repetition time is {repetition_time:.6g} s, so frequencies end at "
            f"{nyquist:.4g} Hz but signal.band ends at {band[1]:.4g} Hz; lower signal.band"
        )
    if splits == "runs" and len(runs) < 2:
        raise DataError(
            f"{files['bold'][0]}: {who} has only this run but signal.splits is runs; "
            "add a second run, or set signal.splits to halves"
        )
    needed, reason = _needed_frames(signal, repetition_time)
    for run, path in zip(runs, files["bold"], strict=True):
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
                f"numbers, the first in line {int(np.argmax(bad[:, region])) + 2}; "
                "leave the region or the subject out, or fill the frames"
            )
        usable = max(len(run) - drop, 0)
        cuts = [0, usable // 2, usable] if splits == "halves" else [0, usable]
        shortest = int(min(np.diff(cuts)))
        if shortest < needed:
            where = "each half" if splits == "halves" else "the run"
            raise DataError(
                f"{path}: {who} has {len(run)} frames, which leaves {shortest} for {where}; "
                f"at least {needed} are needed ({reason}), so add a longer run or leave the subject out"
            )
        for start, stop in pairwise(cuts):
            part = run[drop + start : drop + stop]
            constant = part.std(axis=0) <= CONSTANT_TOLERANCE * np.abs(part).max(axis=0)
            if constant.any():
                region = int(np.argmax(constant))
                raise DataError(
                    f"{path}: {who} region {labels[region]!r} is {part[0, region]:.6g} in all frames of lines "
                    f"{drop + start + 2} to {drop + stop + 1}; leave the region or the subject out"
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


def load_connectome(
    root: str | Path, subject: str, atlas: str, task: str, *, symmetrise: bool = True
) -> RawConnectome:
    """Read and check the connectome of one subject.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label.
    atlas, task : entities of the file names.
    symmetrise : see `check_connectome`.

    Raises
    ------
    DataError
        The subject cannot be used, in one sentence.
    """
    files = _files(root, subject, atlas, task)
    table = read_atlas(files["atlas"])
    weights, lengths = (read_relmat(files[measure], table.labels) for measure in ("weight", "length"))
    check_connectome(subject, weights, lengths, table.labels, files, symmetrise=symmetrise)
    try:
        find_homotopes(table.labels, table.homotope)
    except DataError as error:
        raise DataError(f"{files['atlas']}: {error}") from None
    return RawConnectome(weights, lengths, table)


def load_bold(root: str | Path, subject: str, atlas: str, task: str, *, signal: Mapping[str, Any]) -> RawBold:
    """Read and check the runs of one subject.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label.
    atlas, task : entities of the file names.
    signal : section of the configuration; ``tr`` (s) stands in for a missing ``RepetitionTime``.

    Returns
    -------
    RawBold
        Frames are all there: ``drop_frames`` is checked against, not applied.

    Raises
    ------
    DataError
        The subject cannot be used, in one sentence.
    """
    files = _files(root, subject, atlas, task)
    table = read_atlas(files["atlas"])
    runs = [read_timeseries(path, table.labels)[0] for path in files["bold"]]
    seconds = load_repetition_time(root, files["bold"], tr=signal.get("tr"))
    check_bold(subject, runs, table.labels, files, repetition_time=seconds, signal=signal)
    return RawBold(runs, seconds, table)


def load_repetition_time(root: str | Path, runs: Sequence[Path], *, tr: float | None = None) -> float:
    """Repetition time that all runs of a subject share, in s.

    Parameters
    ----------
    root : folder of the cohort.
    runs : paths of the runs.
    tr : s, from the configuration; used where no sidecar has one, and refused where a sidecar has another one.

    Raises
    ------
    DataError
        It is missing, differs between runs, or differs from ``tr``.
    """
    found = {path: read_repetition_time(root, path, default=tr) for path in runs}
    first, *others = found
    who = first.name.split("_")[0]
    for other in others:
        if abs(found[other] - found[first]) > TIME_TOLERANCE:
            raise DataError(
                f"{other.with_suffix('.json')}: {who} RepetitionTime is {found[other]:.6g} s but {found[first]:.6g} s in "
                f"{first.with_suffix('.json').name}; all runs of a subject must have the same"
            )
    if tr is not None and abs(found[first] - tr) > TIME_TOLERANCE:
        raise DataError(
            f"{first.with_suffix('.json')}: {who} RepetitionTime is {found[first]:.6g} s but signal.tr is {tr:.6g} s; "
            "correct the one that is wrong, or set signal.tr to null"
        )
    return found[first]


def _files(root: str | Path, subject: str, atlas: str, task: str) -> dict[str, Any]:
    twice = duplicate_subjects(root).get(subject_label(subject))
    if twice:
        raise DataError(twice)
    return subject_files(root, subject, atlas, task)


def check_subject(
    root: str | Path,
    subject: str,
    atlas: str,
    task: str,
    *,
    signal: Mapping[str, Any],
    symmetrise: bool = True,
) -> None:
    """Check everything that a study reads of one subject.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label.
    atlas, task : entities of the file names.
    signal : section of the configuration (see `load_bold`).
    symmetrise : see `check_connectome`.

    Raises
    ------
    DataError
        The first problem found, in one sentence.
    """
    problem = input_problem(root, subject, atlas, task)
    if problem:
        raise DataError(problem)
    load_connectome(root, subject, atlas, task, symmetrise=symmetrise)
    load_bold(root, subject, atlas, task, signal=signal)
