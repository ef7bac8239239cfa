"""
One run of the workflow over a large synthetic cohort: wall time, processor time and memory of every rule.

``python benchmarks/cohort_workflow.py --subjects 60`` writes a cohort of N subjects as BIDS derivatives (80 regions,
`LinearStep` networks with own connectomes and regional fields, 1,200 frames of 0.72 s), a configuration for the analytic
stage alone (no controls, no simulation, 162 parameters a subject, training and test half), runs ``snakemake --cores 2`` with an
empty compile cache, and adds what it took to ``benchmarks/results/cohort_workflow.json``. Options switch on the rest of a study,
one by one, so that the difference of two runs is what a part costs. ``--folder`` keeps cohort and results for further runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from _machine import machine

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.linalg import expm, solve_continuous_lyapunov

from brainloom.io import bids

ROOT = Path(__file__).resolve().parents[1]
SEED, N, TR, ATLAS, TASK = 2026, 80, 0.72, "synthetic80", "rest"
LABELS = [f"Region{k // 2 + 1:02d}_{'LR'[k % 2]}" for k in range(N)]
CONTROLS = {
    "other_subject": True,
    "edge_shuffle": 2,
    "distance_shuffle": 2,
    "uniform": True,
    "distance": True,
}
NO_CONTROLS = {
    "other_subject": False,
    "edge_shuffle": 0,
    "distance_shuffle": 0,
    "uniform": False,
    "distance": False,
}
STRENGTHS = [0.1, 0.03, 0.01, 0.003, 0.001]


def label(number: int) -> str:
    """Label of a subject."""
    return f"{number + 1:05d}"


def write_subject(root: Path, number: int, frames: int) -> None:
    """Draw a subject around a common brain, simulate its recording exactly (frame by frame), and write its files."""
    common, own = np.random.default_rng(SEED), np.random.default_rng([SEED, number])
    places = common.normal(size=(N, 3)) * (35.0, 45.0, 30.0)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    pattern = 0.9 * common.normal(size=(N, N)) + 0.45 * own.normal(size=(N, N))
    weights = 1e4 * np.exp(-distance / 30.0 + 0.7 * (pattern + pattern.T))
    np.fill_diagonal(weights, 0.0)
    gamma = -0.01 - 0.09 * np.exp(0.3 * common.normal(size=N) + 0.15 * own.normal(size=N))
    noise = np.exp(0.3 * common.normal(size=N) + 0.3 * own.normal(size=N))
    base = weights / weights.sum(1).mean()
    base[np.arange(N), np.arange(N) ^ 1] += 0.6
    flow = 0.3 * np.exp(0.3 * own.normal()) * base
    drift = np.diag(gamma - flow.sum(1)) + flow
    stationary = solve_continuous_lyapunov(drift, -np.diag(noise**2))
    forward = expm(TR * drift)
    root_of_noise = np.linalg.cholesky(stationary - forward @ stationary @ forward.T)
    x = np.linalg.cholesky(stationary) @ own.normal(size=N)
    steps = own.normal(size=(frames, N)) @ root_of_noise.T
    series = np.empty((frames, N))
    for k in range(frames):
        x = forward @ x + steps[k]
        series[k] = x
    series = 1000.0 + 10.0 * series / series.std()
    subject = label(number)
    for measure, matrix in (("weight", weights), ("length", 1.2 * distance)):
        bids.write_relmat(bids.relmat_path(root, subject, atlas=ATLAS, measure=measure), matrix, digits=5)
    run = bids.timeseries_path(root, subject, task=TASK, atlas=ATLAS)
    run.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(run, series, fmt="%.1f", delimiter="\t", header="\t".join(LABELS), comments="")
    # The sidecar comes last: a subject that has it is complete.
    run.with_suffix(".json").write_text(json.dumps({"RepetitionTime": TR}) + "\n", encoding="utf-8")


def write_cohort(root: Path, subjects: int, frames: int, workers: int) -> float:
    """Add the subjects that the cohort lacks; seconds."""
    begun = time.perf_counter()
    run = [bids.timeseries_path(root, label(k), task=TASK, atlas=ATLAS) for k in range(subjects)]
    lacking = [k for k in range(subjects) if not run[k].with_suffix(".json").exists()]
    if lacking:
        root.mkdir(parents=True, exist_ok=True)
        bids.write_description(root, name="synthetic cohort of brainloom's benchmarks")
        bids.write_atlas(bids.atlas_path(root, ATLAS), LABELS, hemisphere=[name[-1] for name in LABELS])
        with ProcessPoolExecutor(workers) as pool:
            list(
                pool.map(write_subject, [root] * len(lacking), lacking, [frames] * len(lacking), chunksize=4)
            )
        there = sorted(path.name for path in root.glob("sub-*"))
        bids.write_participants(root, [name.removeprefix("sub-") for name in there])
    return time.perf_counter() - begun


def study(given: argparse.Namespace, data: Path) -> dict:
    """Configuration of the run that the command line describes."""
    config = {
        "study": given.name,
        "input": {"path": str(data), "atlas": ATLAS, "task": TASK},
        "subjects": [label(k) for k in range(given.subjects)],
        "model": {"name": given.model},
        "signal": {"drop_frames": 0, "splits": "halves"},
        "fit": {"lambda": 0.01, "starts": given.starts, "control_starts": 1},
        "simulate": {"seeds": given.simulate},
        "analyse": {"controls": CONTROLS if given.controls else NO_CONTROLS, "fcd": not given.no_fcd},
        "subjects_per_job": given.batch,
    }
    if given.reliability:
        config["reliability"] = {
            "lambda": STRENGTHS[: given.reliability] if given.reliability > 1 else [0.01]
        }
    if given.pool:
        config["pool"] = {"rank": [4], "lambda": [0.003]}
    return config


class Watch(threading.Thread):
    """Peak memory of snakemake itself, MB, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.done = pid, 0.0, threading.Event()

    def run(self) -> None:
        """Read the high-water mark until the process ends."""
        while not self.done.wait(0.5):
            try:
                text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
            except OSError:
                return
            found = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")]
            self.peak = max([self.peak, *(int(value) / 1024 for value in found)])


def run_workflow(folder: Path, cores: int, *targets: str) -> dict[str, float]:
    """Run snakemake in `folder` on ``study.yaml``: wall and processor seconds, and peak memory of snakemake itself."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--cores",
        str(cores),
    ]
    command += ["--configfile", "study.yaml", *targets]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"BRAINLOOM_CACHE": str(folder / "cache")}
    with open(folder / "snakemake.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        watch = Watch(process.pid)
        watch.start()
        code = process.wait()
        watch.done.set()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise SystemExit((folder / "snakemake.log").read_text(encoding="utf-8")[-6000:])
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_s": round(time.perf_counter() - begun, 1),
        "processor_s": round(busy, 1),
        "snakemake_peak_mb": round(watch.peak),
    }


def rule_costs(results: Path) -> dict[str, dict[str, float]]:
    """Of every rule: jobs, seconds of all jobs, processor seconds, and the largest peak memory in MB."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for file in sorted((results / "benchmarks").rglob("*.tsv")):
        with open(file, newline="", encoding="utf-8") as table:
            rows[file.relative_to(results / "benchmarks").with_suffix("").parts[0]] += csv.DictReader(
                table, delimiter="\t"
            )

    def numbers(rule: str, column: str) -> list[float]:
        return [float(row[column]) if row[column] not in ("-", "NA") else 0.0 for row in rows[rule]]

    return {
        rule: {
            "jobs": len(rows[rule]),
            "wall_s": round(sum(numbers(rule, "s")), 1),
            "processor_s": round(sum(numbers(rule, "cpu_time")), 1),
            "peak_mb": round(max(numbers(rule, "max_rss"))),
        }
        for rule in rows
    }


def disk(folder: Path) -> float:
    """MB of all files below a folder."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def measure(given: argparse.Namespace) -> dict:
    """Write the cohort, run the study once, and collect what it cost."""
    folder = given.folder.resolve()
    data = folder / "data"
    written = write_cohort(data, given.subjects, given.frames, given.cores)
    print(f"cohort of {given.subjects} in {data}: {written:.0f} s", flush=True)
    if given.only_write:
        return {}
    facts = machine()
    for old in (folder / "results" / given.name, folder / "logs" / given.name, folder / ".snakemake"):
        shutil.rmtree(old, ignore_errors=True)
    if not given.warm:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "study.yaml").write_text(json.dumps(study(given, data)), encoding="utf-8")
    planned = {}
    if given.plan:
        command = [sys.executable, "-m", "brainloom.cli", "plan", "study.yaml", "--cores", str(given.cores)]
        subprocess.run([*command, "--save", "--json", "plan.json"], cwd=folder, check=True)
        planned = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["prediction"]
    took = run_workflow(folder, given.cores)
    again = run_workflow(folder, given.cores)
    results = folder / "results" / given.name
    rules = rule_costs(results)
    page = (results / "report.html").stat().st_size / 1e6
    jobs_s = sum(one["processor_s"] for one in rules.values())
    return {
        "subjects": given.subjects,
        "options": {key: str(value) for key, value in vars(given).items() if key not in ("folder", "out")},
        **took,
        "snakemake_and_starts_s": round(took["processor_s"] - jobs_s, 1),
        "second_run_s": again["wall_s"],
        "subjects_per_hour": round(3600 * given.subjects / took["wall_s"]),
        "processor_s_a_subject": round(took["processor_s"] / given.subjects, 3),
        "rules": rules,
        "report_mb": round(page, 2),
        "results_mb": disk(results),
        "planned": planned,
        "machine": facts,
    }


def main() -> None:
    """Read the command line, measure, and add to the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--model", default="LinearStep", choices=["LinearStep", "HopfStep"])
    parser.add_argument("--frames", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=25, help="subjects_per_job")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--starts", type=int, default=1)
    parser.add_argument("--simulate", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--reliability", type=int, default=0, metavar="STRENGTHS", help="fits to all parts")
    parser.add_argument("--controls", action="store_true")
    parser.add_argument("--pool", action="store_true")
    parser.add_argument("--no-fcd", action="store_true")
    parser.add_argument("--plan", action="store_true", help="predict first, with brainloom plan")
    parser.add_argument("--warm", action="store_true", help="keep the compile cache of the run before")
    parser.add_argument("--only-write", action="store_true", help="write the cohort and stop")
    parser.add_argument("--folder", type=Path, help="where cohort and results stay (default: temporary)")
    parser.add_argument("--name", default="cohort", help="of the study, and in the results")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cohort_workflow.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="brainloom-benchmark-") as scratch:
        given.folder = given.folder or Path(scratch)
        given.folder.mkdir(parents=True, exist_ok=True)
        found = measure(given)
    if not found:
        return
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    known[f"{given.name} {given.subjects}"] = found
    given.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    rules = ", ".join(f"{rule} {one['processor_s']:.0f}" for rule, one in found["rules"].items())
    print(f"{given.subjects} subjects: {found['wall_s']} s, {found['processor_s']} s of a core ({rules})")


if __name__ == "__main__":
    main()
