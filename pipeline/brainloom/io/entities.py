"""Parts of BIDS file names."""

from __future__ import annotations

from pathlib import Path

# Entities that tell one recording from another; files that differ in any other entity are two versions of one.
RUN_ENTITIES = ("ses", "acq", "dir", "run")


def subject_label(subject: str | int) -> str:
    """Label without the ``sub-`` in front; YAML may have read it as a number.

    Examples
    --------
    >>> subject_label("sub-01"), subject_label(101309)
    ('01', '101309')
    """
    return str(subject).removeprefix("sub-")


def entities(path: str | Path) -> dict[str, str]:
    """Entities of a BIDS file name, and its ``suffix``.

    Examples
    --------
    >>> entities("sub-01_task-rest_run-1_timeseries.tsv")
    {'sub': '01', 'task': 'rest', 'run': '1', 'suffix': 'timeseries'}
    """
    *pairs, suffix = Path(path).name.split(".")[0].split("_")
    found = dict(pair.split("-", 1) for pair in pairs if "-" in pair)
    return {**found, "suffix": suffix}
