"""Confound tables as fMRIPrep writes them: columns to regress out, and frames to scrub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainloom.core.errors import DataError
from brainloom.io.tables import read_cells, read_json, to_numbers, who

# What a key that is left out of `signal.confounds` and of `signal.scrub` means.
NO_CONFOUNDS: dict[str, Any] = {"motion": 0, "wm_csf": 0, "global_signal": 0, "compcor": 0, "columns": []}
NO_SCRUB: dict[str, Any] = {
    "fd": None,
    "std_dvars": None,
    "before": 0,
    "after": 0,
    "contiguous": 5,
    "keep": 0.5,
}

_MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
# Number of columns a signal -> what is added to each signal's name.
_EXPANSIONS = {
    1: [""],
    2: ["", "_derivative1"],
    4: ["", "_derivative1", "_power2", "_derivative1_power2"],
}
# Slow drifts that fMRIPrep removed before it computed components; a band that starts above them needs no columns for them.
SLOWEST_COMPCOR = 1 / 128


class Confounds(NamedTuple):
    """Confounds of one run: ``names`` and ``values`` (time, confound); ``kept`` (time,), False where scrubbed."""

    names: list[str]
    values: np.ndarray
    kept: np.ndarray


def choose_columns(
    header: Sequence[str], strategy: Mapping[str, Any], path: str | Path, band: Sequence[float] | None = None
) -> list[str]:
    """Columns of a confound table that a strategy asks for.

    Parameters
    ----------
    header : names of the columns.
    strategy : keys of `NO_CONFOUNDS`, each may be left out.
        ``motion``: 0, 6, 12 (with derivatives) or 24 (with squares) columns. ``wm_csf``: 0, 2, 4 or 8.
        ``global_signal``: 0, 1, 2 or 4. ``compcor``: number of anatomical components of the combined mask.
        ``columns``: further names; a ``*`` at the end stands for anything.
    path : the table, for messages; its JSON sidecar says of which mask the components are.
    band : Hz; components come with the cosine columns if it starts below 1/128 Hz.

    Raises
    ------
    DataError
        A column is missing.
    """
    chosen: list[str] = []
    for key, signals in (
        ("motion", _MOTION),
        ("wm_csf", ["csf", "white_matter"]),
        ("global_signal", ["global_signal"]),
    ):
        count = strategy.get(key, 0)
        if count:
            names = [name + added for name in signals for added in _EXPANSIONS[count // len(signals)]]
            _refuse_missing(names, header, path, f"signal.confounds.{key}: {count}")
            chosen += names
    if strategy.get("compcor", 0):
        chosen += _components(header, strategy["compcor"], path)
        if band is not None and band[0] < SLOWEST_COMPCOR:
            chosen += [name for name in header if re.fullmatch(r"cosine\d+", name)]
    for name in strategy.get("columns", []):
        found = [one for one in header if one.startswith(name[:-1])] if name.endswith("*") else [name]
        _refuse_missing(found or [name], header, path, "signal.confounds.columns")
        chosen += found
    return list(dict.fromkeys(chosen))


def _refuse_missing(names: Sequence[str], header: Sequence[str], path: str | Path, asked: str) -> None:
    missing = [name for name in names if name not in header]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}: {who(path)}table has no column {missing[0]!r}{more}, which {asked} asks for; "
            "correct the configuration, or write the table again with these columns"
        )


def _components(header: Sequence[str], count: int, path: str | Path) -> list[str]:
    names = sorted(name for name in header if re.fullmatch(r"a_comp_cor_\d+", name))
    about = Path(path).with_suffix(".json")
    if about.is_file():
        # The table mixes components of several masks; only the sidecar tells them apart.
        masks = {
            name: value.get("Mask") for name, value in read_json(about).items() if isinstance(value, dict)
        }
        names = [name for name in names if masks.get(name, "combined") == "combined"]
    if len(names) < count:
        raise DataError(
            f"{path}: {who(path)}table has {len(names)} columns a_comp_cor_* of the combined mask, "
            f"signal.confounds.compcor is {count}; lower it, or write the table again with more components"
        )
    return names[:count]


def read_confounds(
    path: str | Path,
    strategy: Mapping[str, Any] | None,
    scrub: Mapping[str, Any] | None = None,
    *,
    frames: int | None = None,
    band: Sequence[float] | None = None,
) -> Confounds:
    """Read the confounds of one run and find the frames to scrub.

    Derivatives have no value in the first frame: it takes that of the second, as in nilearn.

    Parameters
    ----------
    path : tab-separated table, one line a frame.
    strategy : see `choose_columns`; None for no columns.
    scrub : keys of `NO_SCRUB`, each may be left out; None keeps every frame.
        A frame goes if ``framewise_displacement`` is above ``fd`` (mm) or ``std_dvars`` above ``std_dvars``, or if it is
        marked as not in steady state; so do ``before`` and ``after`` frames around it, and then stretches of fewer than
        ``contiguous`` frames between such gaps.
    frames : of the recording; a table of another length is refused.
    band : see `choose_columns`.

    Raises
    ------
    DataError
        The table is missing, of another length, or lacks a column or a number.
    """
    header, *rows = read_cells(path)
    if frames is not None and len(rows) != frames:
        raise DataError(
            f"{path}: {who(path)}table has {len(rows)} lines below its header but the recording has {frames} frames; "
            "give the table of this run"
        )
    names = choose_columns(header, strategy or {}, path, band)
    values = _columns(header, rows, names, path)
    if len(values) > 1:
        values[0] = np.where(np.isnan(values[0]), values[1], values[0])
    kept = np.ones(len(rows), dtype=bool) if scrub is None else ~_scrubbed(header, rows, scrub, path)
    bad = ~np.isfinite(values) & kept[:, None]
    if bad.any():
        line, column = np.argwhere(bad)[0]
        raise DataError(
            f"{path}: {who(path)}line {line + 2}, column {names[column]} is no number; "
            "leave the column out of signal.confounds, or correct the table"
        )
    return Confounds(names, values, kept)


def _columns(header: list[str], rows: list[list[str]], names: Sequence[str], path: str | Path) -> np.ndarray:
    at = [header.index(name) for name in names]
    return to_numbers([[row[place] for place in at] for row in rows], path, list(names), first_line=2)


def _scrubbed(
    header: list[str], rows: list[list[str]], scrub: Mapping[str, Any], path: str | Path
) -> np.ndarray:
    settings = {**NO_SCRUB, **scrub}
    bad = np.zeros(len(rows), dtype=bool)
    for key, name in (("fd", "framewise_displacement"), ("std_dvars", "std_dvars")):
        if settings[key] is None:
            continue
        _refuse_missing([name], header, path, f"signal.scrub.{key}: {settings[key]:g}")
        value = _columns(header, rows, [name], path)[:, 0]
        # There is no motion from the frame before the first.
        bad |= np.nan_to_num(value, nan=0.0) > settings[key]
        if np.isnan(value[1:]).any():
            raise DataError(
                f"{path}: {who(path)}line {int(np.argmax(np.isnan(value[1:]))) + 3}, column {name} is no number; "
                "correct the table, or leave the subject out"
            )
    unsteady = [name for name in header if re.fullmatch(r"non_steady_state_outlier\d+", name)]
    bad |= (_columns(header, rows, unsteady, path) > 0).any(axis=1)
    return scrubbed_frames(bad, settings["before"], settings["after"], settings["contiguous"])


def scrubbed_frames(bad: np.ndarray, before: int = 0, after: int = 0, contiguous: int = 0) -> np.ndarray:
    """Frames that go: bad ones, those around them, and stretches too short to stay.

    Parameters
    ----------
    bad : (time,) bool
    before, after : frames that go with each bad one.
    contiguous : a stretch of fewer good frames between scrubbed ones (or between them and an end of the run) goes too.

    Returns
    -------
    (time,) bool

    Examples
    --------
    >>> scrubbed_frames(np.array([0, 0, 0, 1, 0, 0, 0, 0, 1], bool), after=1, contiguous=3).astype(int)
    array([0, 0, 0, 1, 1, 0, 0, 0, 1])
    """
    bad = np.asarray(bad, dtype=bool)
    gone = bad.copy()
    for shift in range(1, before + 1):
        gone[:-shift] |= bad[shift:]
    for shift in range(1, after + 1):
        gone[shift:] |= bad[:-shift]
    if not gone.any():
        return gone
    edges = np.flatnonzero(np.diff(np.concatenate([[True], gone, [True]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start < contiguous:
            gone[start:stop] = True
    return gone
