"""A fit that is killed goes on from its checkpoints and ends with the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from brainloom.cohort.settings import settings_json
from brainloom.core.config import validate_config
from brainloom.io import bids
from brainloom.steps import preprocess_connectome, preprocess_signal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUBJECTS = ("01", "02")
N_REGIONS = 30
CONTROLS = {
    "other_subject": True,
    "edge_shuffle": 4,
    "distance_shuffle": 2,
    "uniform": True,
    "distance": True,
}
# The model and its controls, of each subject: one checkpoint each.
N_CHECKPOINTS = len(SUBJECTS) * (1 + 1 + 4 + 2 + 1 + 1)


def write_cohort(root: Path) -> None:
    """Two subjects whose recordings follow their connectomes."""
    labels = [f"{side}_{place}" for place in range(N_REGIONS // 2) for side in "LR"]
    for subject in SUBJECTS:
        rng = np.random.default_rng(int(subject))
        weights = np.triu(rng.lognormal(size=(N_REGIONS, N_REGIONS)), 1)
        weights += weights.T
        lengths = np.triu(rng.uniform(10, 150, weights.shape), 1)
        for measure, matrix in (("weight", weights), ("length", lengths + lengths.T)):
            bids.write_relmat(bids.relmat_path(root, subject, atlas="x", measure=measure), matrix)
        rates = weights / weights.sum(axis=1).mean()
        jacobian = 0.3 * (rates - np.diag(rates.sum(axis=1))) - 0.3 * np.eye(N_REGIONS)
        state, frames = np.zeros(N_REGIONS), []
        for _ in range(800):
            state = state + 0.72 * jacobian @ state + rng.normal(size=N_REGIONS)
            frames.append(state)
        path = bids.timeseries_path(root, subject, task="rest", atlas="x")
        bids.write_timeseries(path, np.array(frames), labels, 0.72)
    bids.write_atlas(bids.atlas_path(root, "x"), labels, homotope=[place ^ 1 for place in range(N_REGIONS)])
    bids.write_participants(root, SUBJECTS)
    bids.write_description(root, name="kill")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, dict]:
    """Connectomes and signals, and the configuration."""
    folder = tmp_path_factory.mktemp("kill")
    write_cohort(folder / "cohort")
    config = validate_config(
        {
            "study": "kill",
            "input": {"path": "cohort", "atlas": "x"},
            "fit": {"starts": 2, "control_starts": 2, "max_steps": 150},
            "analyse": {"controls": CONTROLS},
        }
    )
    for step, kind in ((preprocess_connectome, "connectome"), (preprocess_signal, "signal")):
        words = ["--input", str(folder / "cohort"), "--subject", *SUBJECTS]
        outputs = [str(folder / f"{subject}_{kind}.zarr.zip") for subject in SUBJECTS]
        params = settings_json(config, f"preprocess_{kind}")
        assert step.main([*words, "--output", *outputs, "--params", params]) == 0
    return folder, config


def fit(prepared: tuple[Path, dict], out: Path) -> subprocess.Popen:
    """Start the fit of both subjects, with outputs and checkpoints in a folder of their own."""
    folder, config = prepared
    out.mkdir(exist_ok=True)
    connectomes = [str(folder / f"{subject}_connectome.zarr.zip") for subject in SUBJECTS]
    words = ["--connectome", *connectomes, "--donor", *connectomes[::-1]]
    words += ["--signal", *(str(folder / f"{subject}_signal.zarr.zip") for subject in SUBJECTS)]
    words += ["--output", *(str(path) for path in outputs(out)), "--checkpoints", str(out / "checkpoints")]
    words += ["--params", settings_json(config, "fit")]
    with open(out / "log", "a") as log:
        return subprocess.Popen([sys.executable, "-m", "brainloom.steps.fit", *words], stdout=log, stderr=log)


def outputs(out: Path) -> list[Path]:
    return [out / f"{subject}_fit.zarr.zip" for subject in SUBJECTS]


def checkpoints(out: Path) -> dict[str, int]:
    """Finished checkpoints, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "checkpoints").glob("*.npz")}


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory) -> Path:
    """Folder of a fit that nobody killed."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert fit(prepared, out).wait() == 0, (out / "log").read_text()
    assert len(checkpoints(out)) == N_CHECKPOINTS
    return out


def contents(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in outputs(out)]


@pytest.mark.parametrize("share", [0.15, 0.7], ids=["in the first subject", "in the second subject"])
def test_a_killed_fit_goes_on_where_it_was(prepared, undisturbed, tmp_path, share):
    process = fit(prepared, tmp_path)
    while len(checkpoints(tmp_path)) < share * N_CHECKPOINTS:
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = checkpoints(tmp_path)
    assert share * N_CHECKPOINTS <= len(kept) < N_CHECKPOINTS
    assert not outputs(tmp_path)[1].exists()

    assert fit(prepared, tmp_path).wait() == 0, (tmp_path / "log").read_text()
    after = checkpoints(tmp_path)
    assert len(after) == N_CHECKPOINTS
    assert {name: after[name] for name in kept} == kept
    assert contents(tmp_path) == contents(undisturbed)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_damaged_checkpoint_is_made_again(prepared, undisturbed, tmp_path):
    shutil.copytree(undisturbed / "checkpoints", tmp_path / "checkpoints")
    names = sorted(checkpoints(tmp_path))
    whole = tmp_path / "checkpoints" / names[0]
    whole.write_bytes(whole.read_bytes()[:500])
    (tmp_path / "checkpoints" / names[1]).write_bytes(b"")
    assert fit(prepared, tmp_path).wait() == 0, (tmp_path / "log").read_text()
    assert contents(tmp_path) == contents(undisturbed)
    assert whole.read_bytes() == (undisturbed / "checkpoints" / names[0]).read_bytes()


def test_checkpoints_of_other_settings_are_not_used(prepared, undisturbed, tmp_path):
    """The same folder serves another regularisation: nothing of the first fit may leak into the second."""
    folder, config = prepared
    shutil.copytree(undisturbed / "checkpoints", tmp_path / "checkpoints")
    other = json.loads(json.dumps(config))
    other["fit"]["lambda"] = 0.1
    assert fit((folder, other), tmp_path).wait() == 0, (tmp_path / "log").read_text()
    assert len(checkpoints(tmp_path)) == 2 * N_CHECKPOINTS
    assert not set(contents(tmp_path)) & set(contents(undisturbed))
