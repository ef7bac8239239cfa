"""Which frames of which run belong to the training part of a recording and which are held out; light to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from brainloom.io.entities import RUN_ENTITIES, entities

# s; what stands in for a setting that is not given.
DEFAULT_BLOCK = 120.0


class Piece(NamedTuple):
    """Frames `start` to `stop` - 1 of the run with the number `run`, from 0."""

    run: int
    start: int
    stop: int


class Cut(NamedTuple):
    """How the runs of a recording are cut, in frames.

    Attributes
    ----------
    how : ``halves``, ``runs``, ``sessions`` or ``blocks``.
    block : shortest block.
    gap : frames between a training and a held-out piece of one run; None where the recording says it.
    """

    how: str = "halves"
    block: int = 1
    gap: int | None = 0


def cut_of(signal: Mapping[str, Any], seconds: float) -> Cut:
    """What section `signal` of the configuration asks for, at `seconds` a frame.

    Examples
    --------
    >>> cut_of({"splits": "blocks", "block": 100.0, "gap": None}, 0.72)
    Cut(how='blocks', block=139, gap=None)
    """
    how, gap = signal.get("splits", "halves"), signal.get("gap")
    block = _frames(signal.get("block", DEFAULT_BLOCK), seconds) if how == "blocks" else 1
    # Halves without a gap are the published protocol; blocks have many borders, and need one.
    nothing = None if how == "blocks" else 0
    return Cut(how, block, nothing if gap is None else _frames(gap, seconds))


def electric_cut(signal: Mapping[str, Any], settings: Mapping[str, Any], rate: float) -> Cut:
    """What section `signal` asks for of EEG or MEG at a sampling frequency in Hz: between blocks one window of spectra."""
    cut = cut_of(signal, 1.0 / rate)
    return cut if cut.gap is not None else cut._replace(gap=_frames(settings["window"], 1.0 / rate))


def _frames(duration: float, seconds: float) -> int:
    return ceil(duration / seconds - 1e-6)


def pieces_of_run(frames: int, cut: Cut, gap: int | None = None) -> list[tuple[int, int]]:
    """First frame of each piece of a run that is filtered by itself, and the one after its last.

    Blocks are as many as fit, an even number, and share what is left over. No piece at all: two blocks do not fit.

    Parameters
    ----------
    frames : int
        Of the run.
    cut : Cut
    gap : int
        Frames between two pieces; 0 if neither this nor `cut` says it.

    Examples
    --------
    >>> pieces_of_run(7, Cut("halves")), pieces_of_run(7, Cut("runs"))
    ([(0, 3), (3, 7)], [(0, 7)])
    >>> pieces_of_run(100, Cut("blocks", 20), gap=2)
    [(0, 23), (25, 49), (51, 74), (76, 100)]
    """
    if cut.how not in ("halves", "blocks"):
        return [(0, frames)]
    width = max(gap if gap is not None else cut.gap or 0, 0)
    count = 2 if cut.how == "halves" else (frames + width) // (cut.block + width) // 2 * 2
    if count == 0:
        return []
    inside = max(frames - (count - 1) * width, 0)
    ends = [inside * k // count for k in range(count + 1)]
    return [(start + k * width, stop + k * width) for k, (start, stop) in enumerate(pairwise(ends))]


def training_and_held_out(
    lengths: Sequence[int], cut: Cut, gaps: Sequence[int] | None = None, sessions: Sequence[str] | None = None
) -> tuple[list[Piece], list[Piece]]:
    """Pieces of a recording for training, and those that are held out.

    Parameters
    ----------
    lengths : frames of each run.
    cut : Cut
    gaps : frames between training and held-out pieces in each run.
    sessions : label of the session of each run, empty for none; of one session if not given.

    Raises
    ------
    ValueError
        There are too few runs or sessions, or a run is too short for two blocks.
    """
    every = [
        [Piece(run, *piece) for piece in pieces_of_run(n, cut, None if gaps is None else gaps[run])]
        for run, n in enumerate(lengths)
    ]
    whole = [piece for pieces in every for piece in pieces]
    if cut.how == "runs":
        if len(lengths) < 2:
            raise ValueError(
                f"signal.splits is runs, which needs at least 2 runs, and there is {len(lengths)}; use halves"
            )
        half = len(lengths) // 2
        return whole[:half], whole[half:]
    if cut.how == "sessions":
        labels = list(sessions) if sessions is not None else [""] * len(lengths)
        order = list(dict.fromkeys(labels))
        if len(order) < 2:
            raise ValueError(
                f"signal.splits is sessions, which needs at least 2 sessions, and there is {len(order)}; "
                f"use {'runs' if len(lengths) > 1 else 'halves'}"
            )
        first = set(order[: len(order) // 2])
        return [p for p in whole if labels[p.run] in first], [p for p in whole if labels[p.run] not in first]
    if cut.how not in ("halves", "blocks"):
        raise ValueError(f"signal.splits is {cut.how}; it must be halves, runs, sessions or blocks")
    for run, pieces in enumerate(every):
        if not pieces:
            raise ValueError(
                f"run {run + 1} has {lengths[run]} frames, too few for two blocks of {cut.block} and a gap of "
                f"{(cut.gap if gaps is None else gaps[run]) or 0}; shorten signal.block or signal.gap"
            )
    return [p for pieces in every for p in pieces[0::2]], [p for pieces in every for p in pieces[1::2]]


def session_of(path: str | Path) -> str:
    """Label of the session in a file name, empty without one."""
    return entities(path).get("ses", "")


def run_label(path: str | Path) -> str:
    """What tells a run from the others of its subject.

    Examples
    --------
    >>> run_label("sub-01_ses-b_task-rest_run-2_bold.nii.gz"), run_label("sub-01_task-rest_bold.nii.gz")
    ('ses-b_run-2', 'run-1')
    """
    named = entities(path)
    return "_".join(f"{key}-{named[key]}" for key in RUN_ENTITIES if key in named) or "run-1"


def too_few(paths: Sequence[Path], who: str, how: str) -> str:
    """One sentence if the recordings of a subject are too few for the split, or nothing."""
    if how == "runs" and len(paths) < 2:
        return (
            f"{paths[0]}: {who} has only this run but signal.splits is runs; add a second run, or set signal.splits to "
            "halves"
        )
    labels = list(dict.fromkeys(map(session_of, paths)))
    if how == "sessions" and len(labels) < 2:
        only = (
            f"only the session ses-{labels[0]}"
            if labels[0]
            else "no sessions (ses-<label> in names of files)"
        )
        return (
            f"{paths[0]}: {who} has {only} but signal.splits is sessions; add recordings of a second session, or set "
            f"signal.splits to {'runs' if len(paths) > 1 else 'halves'}"
        )
    return ""


def piece_name(at: int, count: int, cut: Cut) -> str:
    """How a piece of a run is called in messages."""
    if cut.how == "halves":
        return ("the first half", "the second half")[at]
    return f"block {at + 1} of {count}" if cut.how == "blocks" else "the run"
