"""The split that was made of a recording, written down: frames of every part by run, sessions and gaps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from brainloom.analysis.splits import Design
from brainloom.io.parts import Piece


def write_record(
    how: str, pieces: Mapping[str, Sequence[Piece]], design: Design, lengths: Sequence[int], seconds: float
) -> str:
    """
    Text of the attribute ``split_frames`` of the signal dataset.

    Parameters
    ----------
    how : str
        ``signal.splits``.
    pieces : mapping of str to pieces
        By part.
    design : Design
    lengths : sequence of int
        Frames of each run.
    seconds : float
        Of a frame.

    Returns
    -------
    str
        JSON: ``how``, ``seconds``; ``runs``, a list with ``run, session, frames, gap``; and for every part a list of
        run, first and last frame, from 0.
    """
    runs = [
        {"run": name, "session": session, "frames": int(frames), "gap": int(gap)}
        for name, session, frames, gap in zip(
            design.names, design.sessions, lengths, design.gaps, strict=True
        )
    ]
    found = {
        part: [[design.names[run], int(start), int(stop) - 1] for run, start, stop in each]
        for part, each in pieces.items()
    }
    return json.dumps({"how": how, "seconds": float(seconds), "runs": runs, "parts": found})


def read_record(text: str) -> tuple[dict[str, list[Piece]], Design]:
    """What `write_record` wrote down.

    Examples
    --------
    >>> made = {"train": [Piece(0, 0, 40)], "test": [Piece(0, 50, 90)]}
    >>> design = Design(["run-1"], [""], [10])
    >>> read_record(write_record("halves", made, design, [90], 2.0)) == (made, design)
    True
    """
    record = json.loads(text)
    names = [run["run"] for run in record["runs"]]
    pieces = {
        part: [Piece(names.index(run), first, last + 1) for run, first, last in each]
        for part, each in record["parts"].items()
    }
    return pieces, Design(
        names, [run["session"] for run in record["runs"]], [run["gap"] for run in record["runs"]]
    )
