"""Where the files of a BIDS derivative cohort are: the one place where input paths are made and found.

Light to import: the Snakefile uses it while it is parsed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from brainloom.core.errors import DataError
from brainloom.io.tables import read_cells

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


def atlas_path(root: str | Path, atlas: str) -> Path:
    """Label table of the atlas."""
    return Path(root) / f"atlas-{atlas}_dseg.tsv"


def timeseries_path(
    root: str | Path, subject: str | int, *, task: str, atlas: str, run: int = 1, session: str | None = None
) -> Path:
    """Table of one run of regional BOLD; its sidecar has the same name with ``.json``."""
    folder, prefix = _subject_folder(root, subject, session)
    return folder / "func" / f"{prefix}_task-{task}_run-{run}_atlas-{atlas}_timeseries.tsv"


def relmat_path(
    root: str | Path, subject: str | int, *, atlas: str, measure: str, session: str | None = None
) -> Path:
    """Table of one connectome; ``measure`` is ``weight`` or ``length``."""
    folder, prefix = _subject_folder(root, subject, session)
    return folder / "dwi" / f"{prefix}_atlas-{atlas}_meas-{measure}_relmat.tsv"


def _subject_folder(root: str | Path, subject: str | int, session: str | None) -> tuple[Path, str]:
    name = f"sub-{subject_label(subject)}"
    folder = Path(root) / name
    return (folder, name) if session is None else (folder / f"ses-{session}", f"{name}_ses-{session}")


def read_participants(root: str | Path) -> list[tuple[int, str]]:
    """Lines of ``participants.tsv`` in order.

    Returns
    -------
    list of (1-based line, label), with repeated labels kept.

    Raises
    ------
    DataError
        If the table has no column ``participant_id`` or a label that is not letters and digits.
    """
    path = Path(root) / "participants.tsv"
    try:
        stat = path.stat()
    except OSError:
        return list(_participants(path, 0, 0))
    return list(_participants(path, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=8)  # every subject of a large cohort asks for it
def _participants(path: Path, _changed: int, _size: int) -> tuple[tuple[int, str], ...]:
    header, *rows = read_cells(path)
    if "participant_id" not in header:
        raise DataError(
            f"{path}: first column is {header[0]!r}; the table must have a column named participant_id"
        )
    column = header.index("participant_id")
    found = []
    for line, row in enumerate(rows, 2):
        label = subject_label(row[column])
        if not re.fullmatch(r"[0-9A-Za-z+]+", label):
            raise DataError(
                f"{path}: participant_id in line {line} is {row[column]!r}; "
                "it must be sub- and then letters and digits only"
            )
        found.append((line, label))
    return tuple(found)


def list_subjects(root: str | Path) -> list[str]:
    """Labels of the cohort, each once: in the order of ``participants.tsv``, or of the ``sub-*`` folders.

    Raises
    ------
    DataError
        If there is no such folder, or nobody in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: input folder not found; correct input.path in the configuration")
    if (root / "participants.tsv").exists():
        labels = list(dict.fromkeys(label for _, label in read_participants(root)))
    else:
        labels = sorted(folder.name.removeprefix("sub-") for folder in root.glob("sub-*") if folder.is_dir())
    if not labels:
        raise DataError(f"{root}: no subjects found; add participants.tsv and one folder sub-<label> each")
    return labels


def duplicate_subjects(root: str | Path) -> dict[str, str]:
    """One sentence for every label that ``participants.tsv`` lists more than once."""
    path = Path(root) / "participants.tsv"
    if not path.exists():
        return {}
    lines: dict[str, list[int]] = {}
    for line, label in read_participants(root):
        lines.setdefault(label, []).append(line)
    return {
        label: f"{path}: participant_id sub-{label} is listed {len(found)} times "
        f"(lines {', '.join(map(str, found))}); keep one line a subject"
        for label, found in lines.items()
        if len(found) > 1
    }


def _order(path: Path) -> tuple:
    found = entities(path)
    # Numbers inside labels sort as numbers, so run-10 comes after run-2.
    parts = [re.split(r"(\d+)", found.get(name, "")) for name in RUN_ENTITIES]
    return tuple(tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in part if p) for part in parts)


def _find(root: str | Path, subject: str | int, folder: str, want: dict[str, str]) -> list[Path]:
    base = Path(root) / f"sub-{subject_label(subject)}"
    found = []
    for path in [*base.glob(f"{folder}/*.tsv"), *base.glob(f"ses-*/{folder}/*.tsv")]:
        named = entities(path)
        # Newer BIDS calls the parcellation "seg", older derivatives "atlas".
        named["atlas"] = named.get("atlas", named.get("seg", ""))
        if all(named.get(key) == value for key, value in want.items()):
            found.append(path)
    found.sort(key=lambda path: (_order(path), path.name))
    return found


def _refuse_versions(found: list[Path], subject: str, what: str, *, many: bool) -> None:
    seen: dict[tuple, Path] = {}
    for path in found:
        key = _order(path) if many else ()
        if key in seen:
            raise DataError(
                f"{path}: sub-{subject} has two files for the same {what}, the other is {seen[key].name}; "
                "keep one of them in this folder"
            )
        seen[key] = path


def subject_files(root: str | Path, subject: str | int, atlas: str, task: str) -> dict[str, Any]:
    """Input files of one subject, in its folder or in its session folders.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label, with or without ``sub-``.
    atlas : value of the ``atlas`` (or ``seg``) entity.
    task : value of the ``task`` entity.

    Returns
    -------
    dict
        ``atlas``, ``weight``, ``length``: path; ``bold``: paths of the runs in order; ``bold_json``: the sidecars
        that apply to them and exist, the general ones first. What does not exist is given as the path where it is
        expected.

    Raises
    ------
    DataError
        If two files claim to be the same run or connectome.
    """
    files = _tables(root, subject_label(subject), atlas, task)
    files["bold_json"] = list(dict.fromkeys(path for run in files["bold"] for path in sidecars(root, run)))
    return files


def _tables(root: str | Path, label: str, atlas: str, task: str) -> dict[str, Any]:
    files: dict[str, Any] = {"atlas": atlas_path(root, atlas)}
    for measure in ("weight", "length"):
        found = _find(root, label, "dwi", {"atlas": atlas, "meas": measure, "suffix": "relmat"})
        _refuse_versions(found, label, f"connectome ({measure})", many=False)
        files[measure] = found[0] if found else relmat_path(root, label, atlas=atlas, measure=measure)
    runs = _find(root, label, "func", {"atlas": atlas, "task": task, "suffix": "timeseries"})
    _refuse_versions(runs, label, "run", many=True)
    files["bold"] = runs or [timeseries_path(root, label, task=task, atlas=atlas)]
    return files


def missing_files(root: str | Path, subject: str | int, atlas: str, task: str) -> list[Path]:
    """Tables of one subject that do not exist, each as the path where it is expected."""
    files = _tables(root, subject_label(subject), atlas, task)
    wanted = [files["atlas"], files["weight"], files["length"], *files["bold"]]
    return [path for path in wanted if not path.is_file()]


def input_problem(root: str | Path, subject: str | int, atlas: str, task: str) -> str:
    """Why one subject cannot be used, as far as file names tell: one sentence, or an empty string."""
    label = subject_label(subject)
    try:
        listed_twice = duplicate_subjects(root).get(label)
        if listed_twice:
            return listed_twice
        participants = Path(root) / "participants.tsv"
        if participants.exists() and label not in list_subjects(root):
            return f"{participants}: sub-{label} is not in this table; add its line, or correct subjects in the configuration"
        missing = missing_files(root, label, atlas, task)
    except DataError as error:
        return str(error)
    if not missing:
        return ""
    more = f" and {len(missing) - 1} more of its files" if len(missing) > 1 else ""
    return f"{missing[0]}: sub-{label} lacks this file{more}; add what is missing or leave the subject out"


def sidecars(root: str | Path, path: str | Path) -> list[Path]:
    """JSON files that apply to a data file by the BIDS inheritance principle, the general ones first.

    A file applies if it lies in the folder of the data file or in one above it up to ``root``, has the same suffix,
    and all its entities are entities of the data file.
    """
    root, path = Path(root), Path(path)
    named = entities(path)
    folders = [folder for folder in reversed(path.parents) if folder == root or root in folder.parents]
    found = []
    for folder in folders:
        here = [
            candidate
            for candidate in folder.glob(f"*{named['suffix']}.json")
            if entities(candidate).items() <= named.items()
        ]
        found += sorted(here, key=lambda candidate: (len(entities(candidate)), candidate.name))
    return found
