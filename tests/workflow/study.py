"""Run the real workflow on part of the demo cohort, in a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from brainloom.cohort.jobs import study_jobs
from brainloom.cohort.plan import plan_study
from brainloom.core.config import load_config, validate_config

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "data/demo"

# Few steps, seeds and controls: the workflow is tested here, not the models.
SETTINGS: dict[str, Any] = {
    "study": "cut",
    "input": {"path": "cohort", "atlas": "demo40"},
    "fit": {"starts": 2, "max_steps": 15},
    "simulate": {"seeds": 2, "transient": 20.0},
    "analyse": {
        "controls": {
            "other_subject": True,
            "edge_shuffle": 0,
            "distance_shuffle": 0,
            "uniform": False,
            "distance": False,
        }
    },
}


@dataclass(frozen=True)
class Run:
    """What one call of snakemake did."""

    code: int
    jobs: tuple[str, ...]
    text: str


def copy_subject(folder: Path, subject: str) -> None:
    """Add a subject of the demo to the cohort of a study's folder."""
    cohort = folder / "cohort"
    shutil.copytree(DEMO / f"sub-{subject}", cohort / f"sub-{subject}")
    for name in ("dataset_description.json", "atlas-demo40_dseg.tsv"):
        shutil.copy(DEMO / name, cohort / name)
    table = cohort / "participants.tsv"
    header, *lines = (DEMO / "participants.tsv").read_text().splitlines()
    kept = table.read_text().splitlines() if table.exists() else [header]
    kept += [line for line in lines if line.split("\t")[0] == f"sub-{subject}"]
    table.write_text("\n".join(kept) + "\n")


def write_settings(folder: Path, **changes: Any) -> None:
    """Write the configuration of a study's folder."""
    (folder / "study.yaml").write_text(yaml.safe_dump(SETTINGS | changes))


def environment() -> dict[str, str]:
    """The environment of a user who has not activated the one that brainloom is installed in."""
    return os.environ | {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}


def command(*words: str) -> list[str]:
    """The command line of snakemake for a study's folder."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    return [*start, *words, "--configfile", "study.yaml"]


def snakemake(folder: Path, *words: str) -> Run:
    """Call snakemake in a study's folder."""
    done = subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    text = done.stdout + done.stderr
    return Run(done.returncode, tuple(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", text)), text)


def planned(run: Run) -> dict[str, int]:
    """Jobs that a dry run lists, with their counts."""
    lines = run.text[run.text.index("job  ") :].split("\n\n")[0].splitlines()[2:]
    return {line.split()[0]: int(line.split()[1]) for line in lines}


def rules(run: Run) -> Counter[str]:
    """The same by rule, batches together, without the target."""
    assert run.code == 0, run.text
    jobs: Counter[str] = Counter()
    for name, count in planned(run).items():
        jobs[re.sub(r"_b\d+$", "", name)] += count
    return Counter({name: count for name, count in jobs.items() if name not in ("total", "all")})


def counted() -> Counter[str]:
    """Jobs of each rule that `brainloom plan` counts for ``study.yaml`` in the current folder."""
    config = validate_config(load_config("study.yaml"), "study.yaml")
    return Counter(job.rule for job in study_jobs(config, plan_study(config)))


def steps(run: Run) -> set[str]:
    """The steps of the jobs that ran, without their batches."""
    return {re.sub(r"_b\d+$", "", job) for job in run.jobs} - {"all"}


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated table."""
    header, *lines = (line.split("\t") for line in path.read_text().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]
