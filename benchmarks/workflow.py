"""
Wall time and scores of whole workflows.

``python benchmarks/workflow.py demo hcp_linear hcp`` runs each study in a folder of its own with an empty compile cache,
then again with nothing to do, and writes ``benchmarks/results/workflow_<study>.json``. The HCP studies download their
data first (not counted). ``hcp_two_fields`` and ``hcp_linear_two_fields`` are the same with the local parameter and the
noise amplitude as the only regional fields, without controls.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _machine import machine

ROOT = Path(__file__).resolve().parents[1]
NO_CONTROLS = "analyse: {controls: {other_subject: false, edge_shuffle: 0, distance_shuffle: 0, uniform: false, distance: false}}\n"
VARIANTS = {
    "hcp_two_fields": ("hcp", "study: hcp_two_fields\nfit: {regional: [local, noise]}\n" + NO_CONTROLS),
    "hcp_linear_two_fields": (
        "hcp_linear",
        "study: hcp_linear_two_fields\nfit: {regional: [local, noise]}\n" + NO_CONTROLS,
    ),
}


def snakemake(folder: Path, cache: Path, *arguments: str) -> float:
    """Run snakemake in `folder`; seconds."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--cores",
        "all",
        *arguments,
    ]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"BRAINLOOM_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.perf_counter() - start


def group_scores(path: Path) -> dict[str, float]:
    """Cohort values of the test split, and the correlation of analytic and simulated FC."""
    with open(path, newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file, delimiter="\t")
            if row["subject"] == "group" and row["split"] == "test"
        ]
    wanted = (
        "fc_r",
        "fcd_ks",
        "psd_r",
        "identification",
        "analytic_simulated_r",
        "analytic_simulated_r_strong",
    )
    return {
        f"{row['predictor']} {row['metric']}": float(row["value"]) for row in rows if row["metric"] in wanted
    }


def measure(name: str) -> None:
    """Run one study twice and write its figures."""
    study, extra = VARIANTS.get(name, (name, ""))
    with tempfile.TemporaryDirectory(prefix="brainloom-benchmark-") as scratch:
        folder, facts = Path(scratch), machine()
        shutil.copytree(ROOT / "data", folder / "data")
        configs = [str(ROOT / "config" / "studies" / f"{study}.yaml")]
        if extra:
            (folder / "extra.yaml").write_text(extra)
            configs.append("extra.yaml")
        arguments = ("--configfile", *configs)
        if study != "demo":
            subprocess.run(
                [sys.executable, "-m", "brainloom.steps.fetch_hcp", "--output", "resources/hcp"],
                cwd=folder,
                check=True,
            )
            snakemake(folder, folder / "cache", "--touch", *arguments)
        first = snakemake(folder, folder / "cache", *arguments)
        second = snakemake(folder, folder / "cache", *arguments)
        results = folder / "results" / name
        steps = {}
        for file in sorted((results / "benchmarks").rglob("*.tsv")):
            with open(file, newline="") as table:
                steps[str(file.relative_to(results / "benchmarks").with_suffix(""))] = float(
                    next(csv.DictReader(table, delimiter="\t"))["s"]
                )
        figures = {"study": name, "first_run_s": round(first, 1), "second_run_s": round(second, 1)}
        figures |= {"steps_s": steps, "scores": group_scores(results / "metrics.tsv"), "machine": facts}
    out = ROOT / "benchmarks" / "results" / f"workflow_{name}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{name}: first run {first:.0f} s, second {second:.1f} s -> {out.relative_to(ROOT)}")


if __name__ == "__main__":
    for study_name in sys.argv[1:] or ["demo"]:
        measure(study_name)
