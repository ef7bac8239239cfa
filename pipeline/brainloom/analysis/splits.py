"""Training, validation and test parts of the runs of one subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from brainloom.analysis.clean import clean, minimum_frames, observed
from brainloom.analysis.dof import decorrelation_frames
from brainloom.io.parts import Cut, Piece, cut_of, training_and_held_out

Segments = list[np.ndarray]
Pieces = list[Piece]


class Design(NamedTuple):
    """What the recording of a subject says about its splits, for each run.

    Attributes
    ----------
    names : what tells the run from the others.
    sessions : label of its session, empty without one.
    gaps : frames between training and held-out pieces.
    """

    names: list[str]
    sessions: list[str]
    gaps: list[int]


def design_of(
    runs: Sequence[np.ndarray],
    tr: float,
    signal_config: Mapping[str, Any],
    *,
    names: Sequence[str] | None = None,
    sessions: Sequence[str] | None = None,
) -> Design:
    """Sessions and gaps of the runs of a subject.

    Parameters
    ----------
    runs : sequence of (time, region) arrays
        Raw series after the first frames were dropped, lines of NaN for scrubbed frames.
    tr : float
        Repetition time in s.
    signal_config : mapping
        Section `signal` of the configuration. Where it asks for blocks and for no gap in particular, the gap is the
        decorrelation time of each run (`brainloom.analysis.dof.decorrelation_frames`), a single number of all of it.
    names, sessions : sequence of str, optional
        Of each run; without them they are numbered, and of one session.
    """
    gap = cut_of(signal_config, tr).gap
    band, order = signal_config.get("band", (0.01, 0.1)), signal_config.get("filter_order", 2)
    gaps = [
        decorrelation_frames(clean(run, tr, band=band, order=order)) if gap is None else gap for run in runs
    ]
    names = [f"run-{k + 1}" for k in range(len(runs))] if names is None else list(names)
    return Design(names, [""] * len(runs) if sessions is None else list(sessions), gaps)


def segments_of(runs: Sequence[np.ndarray], pieces: Sequence[Piece]) -> Segments:
    """The frames of each piece: list of (time, region) arrays, views of the runs."""
    return [runs[run][start:stop] for run, start, stop in pieces]


def _window(pieces: Sequence[Piece], start: int, stop: int) -> Pieces:
    """Frames `start` to `stop` of the joined pieces, as pieces that never cross a border between them."""
    found, offset = [], 0
    for run, first, last in pieces:
        size = last - first
        low, high = max(0, start - offset), min(size, stop - offset)
        if low < high:
            found.append(Piece(run, first + low, first + high))
        offset += size
    return found


def _frames(pieces: Sequence[Piece]) -> int:
    return sum(stop - start for _, start, stop in pieces)


def nested(train: Sequence[Piece], cut: Cut, sessions: Sequence[str]) -> tuple[Pieces, Pieces]:
    """What of the training part comes before the validation part, without a gap yet, and the validation part.

    The validation part is the last session of the training part if there are two; the last third of its blocks, at
    least one; else the last third of its frames.
    """
    train = list(train)
    if cut.how == "sessions":
        last = sessions[train[-1].run]
        if any(sessions[piece.run] != last for piece in train):
            return tuple(
                [p for p in train if (sessions[p.run] == last) == is_last] for is_last in (False, True)
            )  # type: ignore[return-value]
    if cut.how == "blocks" and len(train) > 1:
        at = len(train) - max(1, len(train) // 3)
        return train[:at], train[at:]
    total = _frames(train)
    border = total - total // 3
    return _window(train, 0, border), _window(train, border, total)


def _too_near(early: Sequence[Piece], validation: Sequence[Piece], gap: int) -> bool:
    """Whether a piece of the one is nearer than the gap to a piece of the other."""
    return any(one.run == other.run and other.start - one.stop < gap for one in early for other in validation)


def _long_enough(runs: Sequence[np.ndarray], pieces: Sequence[Piece], shortest: int) -> Pieces:
    return [piece for piece in pieces if observed(segments_of(runs, [piece])[0]).sum() >= shortest]


def split_pieces(
    runs: Sequence[np.ndarray], tr: float, signal_config: Mapping[str, Any], design: Design
) -> dict[str, Pieces]:
    """Frames of every part of the runs of a subject; see `make_splits`.

    Parameters
    ----------
    runs : sequence of (time, region) float64 arrays
    tr : float
        Repetition time in s.
    signal_config : mapping
        Section `signal` of the configuration: `splits, block, gap, band, filter_order`.
    design : Design
    """
    cut = cut_of(signal_config, tr)
    band, order = signal_config.get("band", (0.01, 0.1)), signal_config.get("filter_order", 2)
    train, test = training_and_held_out([len(run) for run in runs], cut, design.gaps, design.sessions)
    shortest = minimum_frames(order)
    for piece in (*train, *test):
        if piece.stop - piece.start < 3 * shortest:
            raise ValueError(
                f"a part of a run has {piece.stop - piece.start} frames after the cut into {cut.how}; at least "
                f"{3 * shortest} are needed"
            )
    before, validation = nested(train, cut, design.sessions)
    gap = max(
        decorrelation_frames(clean(part, tr, band=band, order=order)) for part in segments_of(runs, train)
    )
    gap = max(gap, *design.gaps)
    by_frames = cut.how in ("halves", "runs")
    early = (
        _window(train, 0, max(_frames(before) - gap, 0))
        if by_frames or _too_near(before, validation, gap)
        else before
    )
    early, validation = (_long_enough(runs, pieces, shortest) for pieces in (early, validation))
    if not early or not validation:
        raise ValueError(
            f"the training part has {_frames(train)} frames, too few for a validation third and a gap of {gap}"
        )
    return {"train": train, "train_early": early, "validation": validation, "test": test}


def halves(segments: Segments, order: int = 2) -> tuple[Segments, Segments]:
    """First and second half of the frames of several segments, which share no frame and are filtered by themselves.

    Parameters
    ----------
    segments : list of (time, region) arrays
        Raw, such as the training part of `make_splits`.
    order : int
        Of the filter, which needs some frames.

    Raises
    ------
    ValueError
        A half is too short to be filtered.
    """
    whole = [Piece(at, 0, len(segment)) for at, segment in enumerate(segments)]
    total, shortest = _frames(whole), minimum_frames(order)
    found = tuple(
        segments_of(segments, _long_enough(segments, _window(whole, start, stop), shortest))
        for start, stop in ((0, total // 2), (total // 2, total))
    )
    if not all(found):
        raise ValueError(f"half of the training part has fewer than {shortest} frames in one piece")
    return found  # type: ignore[return-value]


def make_splits(
    runs: Sequence[np.ndarray],
    tr: float,
    how: str = "halves",
    *,
    band: Sequence[float] | None = (0.01, 0.1),
    order: int = 2,
    sessions: Sequence[str] | None = None,
    **settings: Any,
) -> dict[str, Segments]:
    """Cut runs into parts that share no frame, before any filtering.

    Parameters
    ----------
    runs : sequence of (time, region) arrays
        Raw series after the first frames were dropped.
    tr : float
        Repetition time in s.
    how : "halves", "runs", "sessions" or "blocks"
        `halves`: the first half of every run is for training, the second half for testing. `runs`, `sessions`: the
        first half of the runs or sessions (rounded down) is for training, the others for testing. `blocks`: every run
        is cut into an even number of blocks, the first, third, ... for training, the others for testing.
    band, order
        Filter used to measure the decorrelation time (see `brainloom.analysis.clean.clean`).
    sessions : sequence of str, optional
        Label of the session of each run.
    **settings
        ``block``, ``gap``: s, see section `signal` of the configuration.

    Returns
    -------
    dict with the keys below, each a list of (time, region) segments that are to be detrended and filtered one by one:

    - ``train``: the whole training part
    - ``train_early``: its beginning, up to one decorrelation time before ``validation``
    - ``validation``: the last third of the frames of the training part; of blocks, the last third of them; of several
      sessions, the last one
    - ``test``: held out; nothing may be chosen with it

    Raises
    ------
    ValueError
        `how` is unknown, there are too few runs or sessions, or a part is too short to be filtered.
    """
    arrays = [np.asarray(run, dtype=np.float64) for run in runs]
    config = {"splits": how, "band": band, "filter_order": order, **settings}
    design = design_of(arrays, tr, config, sessions=sessions)
    pieces = split_pieces(arrays, tr, config, design)
    return {name: segments_of(arrays, found) for name, found in pieces.items()}
