"""
Seconds per subject and start of a fit after compilation, and of one value and gradient.

``python benchmarks/fit_speed.py`` fetches the HCP cohort into ``resources/hcp`` if it is not there, fits every subject
with both models and four regional fields, and writes ``benchmarks/results/fit_speed.json`` with medians.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _machine import machine

from brainloom.core.runtime import configure

configure(threads=1, precision="float64")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from brainloom.cohort.batch import Settings, fit_batch  # noqa: E402
from brainloom.cohort.settings import step_settings  # noqa: E402
from brainloom.core.config import load_config, validate_config  # noqa: E402
from brainloom.fit.predict import objective  # noqa: E402
from brainloom.fit.subject import subject_problem, subject_setup  # noqa: E402
from brainloom.io.hcp import SUBJECTS  # noqa: E402
from brainloom.steps import preprocess_connectome, preprocess_signal  # noqa: E402
from brainloom.store import read_dataset  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def datasets(folder: Path, config: dict) -> list[tuple]:
    """Connectome and signal of every subject, made by the workflow's own steps."""
    out = []
    for step in (preprocess_connectome, preprocess_signal):
        kind = step.__name__.rsplit("_", 1)[1]
        files = [str(folder / f"{subject}_{kind}.zarr.zip") for subject in SUBJECTS]
        settings = json.dumps(step_settings(config, f"preprocess_{kind}"))
        step.main(
            [
                "--input",
                str(ROOT / "resources/hcp"),
                "--subject",
                *SUBJECTS,
                "--output",
                *files,
                "--params",
                settings,
            ]
        )
        out.append([read_dataset(file) for file in files])
    return list(zip(*out, strict=True))


def measure(study: str, folder: Path) -> dict[str, float]:
    """Median seconds over subjects."""
    path = ROOT / "config" / "studies" / f"{study}.yaml"
    config = validate_config(load_config(path), path)
    settings = step_settings(config, "fit")
    starts_n, max_steps = config["fit"]["starts"], config["fit"]["max_steps"]
    per_start, steps, evaluations = [], [], []
    for index, (connectome, signal) in enumerate(datasets(folder, config)):
        setup = subject_setup(settings, connectome)
        problem = subject_problem(setup, settings, connectome, signal)
        starts = setup.space.starts(starts_n, jax.random.key(0))
        gradient = jax.jit(jax.value_and_grad(objective, argnums=2), static_argnums=0)
        work = ([problem] * starts_n, np.asarray(starts), Settings(max_steps))
        if index == 0:  # compile
            fit_batch(objective, setup, [problem], work[1][:1], Settings(max_steps))
        start = time.perf_counter()
        found = fit_batch(objective, setup, *work)
        per_start.append((time.perf_counter() - start) / starts_n)
        steps.append(statistics.mean(one.n_steps for one in found))
        jax.block_until_ready(gradient(setup, problem, starts[0]))
        for _ in range(20):
            start = time.perf_counter()
            jax.block_until_ready(gradient(setup, problem, starts[0]))
            evaluations.append(time.perf_counter() - start)
    return {
        "parameters": setup.space.size,
        "fit_s_per_subject_and_start": round(statistics.median(per_start), 3),
        "steps": statistics.median(steps),
        "value_and_gradient_ms": round(1e3 * statistics.median(evaluations), 2),
    }


def main() -> None:
    """Measure both studies."""
    import tempfile

    if not (ROOT / "resources" / "hcp").exists():
        subprocess.run(
            [sys.executable, "-m", "brainloom.steps.fetch_hcp", "--output", "resources/hcp"],
            cwd=ROOT,
            check=True,
        )
    figures = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        for study in ("hcp_linear", "hcp"):
            figures[study] = measure(study, Path(folder))
            print(study, figures[study])
    (ROOT / "benchmarks" / "results" / "fit_speed.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
