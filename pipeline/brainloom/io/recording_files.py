"""Where the EEG and MEG of a BIDS cohort are: recordings of sensors, and source activity of regions."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from brainloom.core.errors import DataError
from brainloom.io.layout import RUN_ENTITIES, entities, subject_label

KINDS = {"eeg": ("eeg",), "meg": ("mag", "grad"), "ieeg": ("seeg", "ecog", "dbs")}
# Every extension that MNE opens by itself and that is a recording, not a part of one (.eeg, .vmrk, .fdt).
EXTENSIONS = (
    ".fif", ".fif.gz", ".edf", ".bdf", ".gdf", ".vhdr", ".ahdr", ".set", ".cnt", ".mff", ".ds", ".sqd", ".con", ".nxe",
    ".cdt", ".nedf", ".lay", ".mefd",
)  # fmt: skip


def recording_files(
    root: str | Path, subject: str | int, task: str, kind: str = "eeg", *, session: str | None = None
) -> list[Path]:
    """Recordings of one subject in order: ``sub-X/[ses-Y/]<kind>/sub-X_[ses-Y_]task-T_[..._]<kind>.<extension>``.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label, with or without ``sub-``.
    task : value of the ``task`` entity.
    kind : {"eeg", "meg", "ieeg"}
        Folder and suffix.
    session : one session only.

    Returns
    -------
    list of Path, one a run; of a recording in several parts (``split``) the first; empty if there is none.

    Raises
    ------
    DataError
        If two files claim to be the same run.
    """
    refuse_kind(kind)
    suffix = [extension.removesuffix(".gz") for extension in EXTENSIONS]
    return _runs(root, subject, task, kind, session, lambda path, named: (
        named["suffix"] == kind and path.name.removesuffix(".gz").endswith(tuple(suffix))
        and int(named.get("split", "1")) == 1
    ))  # fmt: skip


def source_series_files(
    root: str | Path, subject: str | int, task: str, kind: str = "eeg", *, atlas: str | None = None
) -> list[Path]:
    """Source activity of regions of one subject: ``.../<kind>/sub-X_task-T_[run-N_]atlas-A_timeseries.tsv``.

    Also ``.npy`` and ``.ptseries.nii``. Parameters, result and faults are those of `recording_files`; `atlas` is the
    value of the ``atlas`` (or ``seg``) entity, any if None.
    """
    refuse_kind(kind)
    endings = ("_timeseries.tsv", "_timeseries.npy", ".ptseries.nii")
    return _runs(root, subject, task, kind, None, lambda path, named: (
        path.name.endswith(endings) and (atlas is None or named.get("atlas", named.get("seg")) == atlas)
    ))  # fmt: skip


def _order(path: Path) -> tuple:
    """What tells one run from another, numbers in labels as numbers: run-10 comes after run-2."""
    found = entities(path)
    parts = [re.split(r"(\d+)", found.get(name, "")) for name in RUN_ENTITIES]
    return tuple(tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in part if p) for part in parts)


def _runs(
    root: str | Path,
    subject: str | int,
    task: str,
    kind: str,
    session: str | None,
    wanted: Callable[[Path, dict[str, str]], bool],
) -> list[Path]:
    label = subject_label(subject)
    base = Path(root) / f"sub-{label}"
    folders = [f"ses-{session}/{kind}"] if session is not None else [kind, f"ses-*/{kind}"]
    found = [
        path
        for folder in folders
        for path in base.glob(f"{folder}/sub-{label}_*")
        if entities(path).get("task") == task and wanted(path, entities(path))
    ]
    found.sort(key=lambda path: (_order(path), path.name))
    for one, other in pairwise(found):
        if _order(one) == _order(other):
            raise DataError(
                f"{other}: sub-{label} has two files for the same run of {kind}, the other is {one.name}; they must "
                f"differ in {', '.join(RUN_ENTITIES)}: keep one of them in this folder"
            )
    return found


def refuse_kind(kind: str) -> None:
    if kind not in KINDS:
        raise DataError(f"kind of recording is {kind!r}; it must be one of {', '.join(KINDS)}")
