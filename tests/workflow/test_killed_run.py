"""A killed job and a killed snakemake: the documented recovery gives the bytes of an undisturbed run."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from study import command, copy_subject, environment, snakemake, write_settings

from brainloom.cohort.layout import dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SUBJECTS = ("01", "02")
TARGETS = tuple(dataset("cut", subject, "fit") for subject in SUBJECTS)
CONTROLS = {
    "other_subject": True,
    "edge_shuffle": 8,
    "distance_shuffle": 4,
    "uniform": True,
    "distance": True,
}
N_CHECKPOINTS = len(SUBJECTS) * (1 + 1 + 8 + 4 + 1 + 1)


def prepare(folder: Path) -> Path:
    for subject in SUBJECTS:
        copy_subject(folder, subject)
    fit = {"starts": 2, "control_starts": 2, "max_steps": 100}
    write_settings(folder, fit=fit, analyse={"controls": CONTROLS})
    return folder


def contents(folder: Path) -> list[bytes]:
    return [(folder / path).read_bytes() for path in TARGETS]


def n_checkpoints(folder: Path) -> int:
    return len(list((folder / "results/cut/checkpoints").glob("*.npz")))


def descendants(pid: int) -> dict[int, str]:
    """Processes below a process, with their command lines."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found |= {child: words} | descendants(child)
    return found


def start_and_wait_for_the_fit(folder: Path, more: int) -> tuple[subprocess.Popen, dict[int, str]]:
    """Start snakemake; return once the fit has written some more checkpoints, with the processes of the job."""
    before = n_checkpoints(folder)
    with open(folder / "log", "a") as log:
        process = subprocess.Popen(
            command(*TARGETS), cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    while n_checkpoints(folder) < before + more:
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.005)
    jobs = {pid: words for pid, words in descendants(process.pid).items() if "brainloom.steps.fit" in words}
    assert jobs, "the fit ended before it could be killed"
    return process, jobs


def end(pids: dict[int, str]) -> None:
    """Kill processes that are still there, and wait until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in pids):
        time.sleep(0.01)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[bytes]:
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    run = snakemake(folder, *TARGETS)
    assert run.code == 0, run.text
    return contents(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def job_killed(folder) -> int:
    """Exit code of a snakemake whose fit job was killed once; the study is left as it was then."""
    process, job = start_and_wait_for_the_fit(folder, more=2)
    end(job)
    return process.wait()


@pytest.fixture(scope="module")
def snakemake_killed(folder, job_killed) -> int:
    """Checkpoints there were when snakemake was killed in the next attempt, and then its orphans."""
    process, job = start_and_wait_for_the_fit(folder, more=2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert any(state(pid) != "Z" for pid in job), "a killed snakemake should leave its job running"
    end(job)
    return n_checkpoints(folder)


def test_a_killed_job_fails_the_run_and_leaves_no_output(folder, job_killed):
    assert job_killed == 1
    text = (folder / "log").read_text()
    assert "Error in rule fit_b001" in text
    assert "At least one job did not complete successfully" in text


def test_after_a_killed_snakemake_the_documented_recovery_works(folder, undisturbed, snakemake_killed):
    assert 4 <= snakemake_killed < N_CHECKPOINTS
    locked = snakemake(folder, *TARGETS)
    assert locked.code == 1
    assert "--unlock" in locked.text
    assert snakemake(folder, "--unlock").code == 0
    again = snakemake(folder, *TARGETS)
    assert again.code == 0, again.text
    assert set(again.jobs) == {"fit_b001"}
    assert n_checkpoints(folder) == N_CHECKPOINTS
    assert contents(folder) == undisturbed
    assert "Nothing to be done" in snakemake(folder, *TARGETS).text
