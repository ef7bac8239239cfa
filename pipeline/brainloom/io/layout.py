"""Where the files of a BIDS derivative cohort are: the one place where input paths are made and found.

Light to import: the Snakefile uses it while it is parsed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from brainloom.core.errors import DataError
from brainloom.io.bold_files import confounds_path, expected_image, find_images, own_atlas
from brainloom.io.entities import RUN_ENTITIES, entities, subject_label
from brainloom.io.tables import read_cells


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


def subject_files(
    root: str | Path,
    subject: str | int,
    atlas: str,
    task: str,
    *,
    atlas_image: str | None = None,
    confounds: bool = False,
) -> dict[str, Any]:
    """Input files of one subject, in its folder or in its session folders.

    Parameters
    ----------
    root : folder of the cohort.
    subject : label, with or without ``sub-``.
    atlas : value of the ``atlas`` (or ``seg``) entity.
    task : value of the ``task`` entity.
    atlas_image : the runs are BOLD images and this is their atlas (`brainloom.io.bold_files`); None: they are tables, or
        parcel series where there are no tables.
    confounds : whether each run needs its table of confounds.

    Returns
    -------
    dict
        ``atlas``, ``weight``, ``length``: path; ``atlas_image``: path or None; ``bold``: paths of the runs in order;
        ``confounds``: a path for each run, or none at all; ``bold_json``: the sidecars that apply to the runs and exist,
        the general ones first. What does not exist is given as the path where it is expected.

    Raises
    ------
    DataError
        If two files claim to be the same run or connectome.
    """
    label = subject_label(subject)
    files = _files(root, label, atlas, task, atlas_image, confounds)
    about = {path: path.with_suffix(".json") for path in files["confounds"]}
    found = [path for run in files["bold"] for path in sidecars(root, run)]
    files["bold_json"] = list(dict.fromkeys([*found, *(path for path in about.values() if path.is_file())]))
    return files


def _files(
    root: str | Path, label: str, atlas: str, task: str, atlas_image: str | None, confounds: bool
) -> dict[str, Any]:
    files: dict[str, Any] = {"atlas": atlas_path(root, atlas)}
    for measure in ("weight", "length"):
        found = _find(root, label, "dwi", {"atlas": atlas, "meas": measure, "suffix": "relmat"})
        _refuse_versions(found, label, f"connectome ({measure})", many=False)
        files[measure] = found[0] if found else relmat_path(root, label, atlas=atlas, measure=measure)
    tables = _find(root, label, "func", {"atlas": atlas, "task": task, "suffix": "timeseries"})
    runs = find_images(root, label, atlas, task, atlas_image) if atlas_image or not tables else tables
    runs.sort(key=lambda path: (_order(path), path.name))
    _refuse_versions(runs, label, "run", many=True)
    files["atlas_image"] = own_atlas(atlas_image, label) if atlas_image else None
    expected = expected_image if atlas_image else timeseries_path
    files["bold"] = runs or [
        expected(root, label, task=task, atlas=str(atlas_image) if atlas_image else atlas)
    ]
    files["confounds"] = [confounds_path(run) for run in files["bold"]] if confounds else []
    return files


def missing_files(
    root: str | Path,
    subject: str | int,
    atlas: str,
    task: str,
    *,
    atlas_image: str | None = None,
    confounds: bool = False,
    bold: bool = True,
) -> list[Path]:
    """Files of one subject that do not exist, each as the path where it is expected (see `subject_files`).

    With ``bold=False`` those of BOLD are not looked for.
    """
    files = _files(root, subject_label(subject), atlas, task, atlas_image, confounds)
    image = [files["atlas_image"]] if atlas_image else []
    wanted = [files["atlas"], *image, files["weight"], files["length"], *files["bold"], *files["confounds"]]
    if not bold:
        wanted = [files["atlas"], files["weight"], files["length"]]
    return [path for path in wanted if not path.is_file()]


def input_problem(
    root: str | Path,
    subject: str | int,
    atlas: str,
    task: str,
    *,
    atlas_image: str | None = None,
    confounds: bool = False,
    bold: bool = True,
) -> str:
    """Why one subject cannot be used, as far as file names tell: one sentence, or an empty string."""
    label = subject_label(subject)
    try:
        listed_twice = duplicate_subjects(root).get(label)
        if listed_twice:
            return listed_twice
        participants = Path(root) / "participants.tsv"
        if participants.exists() and label not in list_subjects(root):
            return f"{participants}: sub-{label} is not in this table; add its line, or correct subjects in the configuration"
        missing = missing_files(
            root, label, atlas, task, atlas_image=atlas_image, confounds=confounds, bold=bold
        )
    except DataError as error:
        return str(error)
    if not missing:
        return ""
    if atlas_image and Path(atlas_image) in missing:  # one for the whole cohort
        return f"{atlas_image}: atlas image not found; correct input.atlas_image in the configuration"
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
