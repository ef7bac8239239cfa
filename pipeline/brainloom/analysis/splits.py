"""Training, validation and test parts of the runs of one subject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainloom.analysis.clean import clean, minimum_frames, observed
from brainloom.analysis.dof import decorrelation_frames

Segments = list[np.ndarray]


def _halves(runs: Segments) -> tuple[Segments, Segments]:
    cut = [len(run) // 2 for run in runs]
    return [run[:n] for run, n in zip(runs, cut, strict=True)], [
        run[n:] for run, n in zip(runs, cut, strict=True)
    ]


def _by_run(runs: Segments) -> tuple[Segments, Segments]:
    if len(runs) < 2:
        raise ValueError(
            f"signal.splits is runs, which needs at least 2 runs, and there is {len(runs)}; use halves"
        )
    n_train = len(runs) // 2
    return runs[:n_train], runs[n_train:]


def _cut(segments: Segments, start: int, stop: int, shortest: int) -> Segments:
    """Frames `start` to `stop` of the joined segments, as pieces that never cross a border between segments."""
    pieces, offset = [], 0
    for segment in segments:
        piece = segment[max(0, start - offset) : max(0, stop - offset)]
        if len(piece) and observed(piece).sum() >= shortest:
            pieces.append(piece)
        offset += len(segment)
    return pieces


def train_and_test(runs: Sequence[np.ndarray], how: str) -> tuple[Segments, Segments]:
    """Training and held-out segments of runs, cut as `make_splits` says.

    Parameters
    ----------
    runs : sequence of (time, channel) arrays
    how : "halves" or "runs"

    Raises
    ------
    ValueError
        `how` is unknown, or there are too few runs.
    """
    cutters = {"halves": _halves, "runs": _by_run}
    if how not in cutters:
        raise ValueError(f"signal.splits is {how}; it must be halves or runs")
    return cutters[how](list(runs))


def last_third(segments: Segments, shortest: int) -> Segments:
    """Pieces of the last third of the frames of several segments, without those below a number of frames."""
    total = sum(map(len, segments))
    return _cut(segments, total - total // 3, total, shortest)


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
    total, shortest = sum(map(len, segments)), minimum_frames(order)
    found = _cut(segments, 0, total // 2, shortest), _cut(segments, total // 2, total, shortest)
    if not all(found):
        raise ValueError(f"half of the training part has fewer than {shortest} frames in one piece")
    return found


def make_splits(
    runs: Sequence[np.ndarray],
    tr: float,
    how: str = "halves",
    *,
    band: Sequence[float] | None = (0.01, 0.1),
    order: int = 2,
) -> dict[str, Segments]:
    """Cut runs into parts that share no frame, before any filtering.

    Parameters
    ----------
    runs : sequence of (time, region) arrays
        Raw series after the first frames were dropped.
    tr : float
        Repetition time in s.
    how : "halves" or "runs"
        `halves`: the first half of every run is for training, the second half for testing. `runs`: the first half of
        the runs (rounded down) is for training, the others for testing.
    band, order
        Filter used to measure the decorrelation time (see `brainloom.analysis.clean.clean`).

    Returns
    -------
    dict with the keys below, each a list of (time, region) segments that are to be detrended and filtered one by one:

    - ``train``: the whole training part
    - ``train_early``: its beginning, up to one decorrelation time before ``validation``
    - ``validation``: the last third of the frames of the training part
    - ``test``: held out; nothing may be chosen with it

    Raises
    ------
    ValueError
        `how` is unknown, there are too few runs, or a part is too short to be filtered.
    """
    arrays = [np.asarray(run, dtype=np.float64) for run in runs]
    train, test = train_and_test(arrays, how)
    shortest = minimum_frames(order)
    for part in (*train, *test):
        if len(part) < 3 * shortest:
            raise ValueError(
                f"a part of a run has {len(part)} frames after the cut into {how}; at least {3 * shortest} are needed"
            )
    total = sum(map(len, train))
    border = total - total // 3
    gap = max(decorrelation_frames(clean(part, tr, band=band, order=order)) for part in train)
    early = _cut(train, 0, max(border - gap, 0), shortest)
    validation = _cut(train, border, total, shortest)
    if not early or not validation:
        raise ValueError(
            f"the training part has {total} frames, too few for a validation third and a gap of {gap}"
        )
    return {"train": train, "train_early": early, "validation": validation, "test": test}
