"""A small good cohort, ways to spoil it, and the steps that must notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brainloom.io import bids
from brainloom.steps import index_cohort, preprocess_connectome, preprocess_signal
from brainloom.store import read_dataset

LABELS = ["V1_L", "V1_R", "M1_L", "M1_R", "A1_L", "A1_R"]
SUBJECTS = ["01", "02", "03"]
N_FRAMES = 400
ROOT = Path("cohort")
WEIGHT = ROOT / "sub-02/dwi/sub-02_atlas-six_meas-weight_relmat.tsv"
LENGTH = ROOT / "sub-02/dwi/sub-02_atlas-six_meas-length_relmat.tsv"
RUN1 = ROOT / "sub-02/func/sub-02_task-rest_run-1_atlas-six_timeseries.tsv"
RUN2 = ROOT / "sub-02/func/sub-02_task-rest_run-2_atlas-six_timeseries.tsv"
ATLAS = ROOT / "atlas-six_dseg.tsv"
PARTICIPANTS = ROOT / "participants.tsv"

Case = tuple[str, Callable[[], None], str]
EVERYWHERE = slice(None)


def make_cohort() -> None:
    """Write three good subjects to ``cohort/`` of the working directory."""
    rng = np.random.default_rng(11)
    bids.write_description(ROOT, name="Bad input")
    bids.write_participants(ROOT, SUBJECTS)
    bids.write_atlas(ATLAS, LABELS, hemisphere=list("LRLRLR"))
    for subject in SUBJECTS:
        for measure, unit in (("weight", 1000.0), ("length", 150.0)):
            half = np.triu(rng.uniform(0.1, 1, (6, 6)), 1)
            path = bids.relmat_path(ROOT, subject, atlas="six", measure=measure)
            bids.write_relmat(path, unit * (half + half.T), {"Units": "1"})
        for run in (1, 2):
            path = bids.timeseries_path(ROOT, subject, task="rest", atlas="six", run=run)
            bids.write_timeseries(path, 9000 + 50 * rng.normal(size=(N_FRAMES, 6)), LABELS, 0.72)


def params(**changes: dict) -> str:
    settings = {
        "study": "faults",
        "seed": 0,
        "precision": "float64",
        "input": {"atlas": "six", "task": "rest"},
        "subjects": "all",
        "connectome": {"symmetrise": True, "transform": "linear", "normalise": "mean_strength"},
        "signal": {"tr": None, "band": [0.01, 0.1], "filter_order": 2, "drop_frames": 5, "splits": "halves"}
        | {"global_signal_regression": False, "fcd_window": 60.0, "fcd_step": 3.0, "psd_window": 128},
        "model": {"frequency_band": [0.04, 0.07]},
    }
    for section, change in changes.items():
        settings[section] = settings[section] | change if isinstance(change, dict) else change
    return json.dumps(settings)


def index(**changes: dict) -> tuple[int, dict[str, tuple[str, str]]]:
    words = ["--input", str(ROOT), "--output", "results/index.tsv", "--params", params(**changes)]
    code = index_cohort.main(words)
    header, *lines = Path("results/index.tsv").read_text().splitlines()
    assert header == "subject\tincluded\treason"
    rows = [line.split("\t") for line in lines]
    return code, {subject: (included, reason) for subject, included, reason in rows}


def preprocess(kind: str, subjects: list[str] = SUBJECTS, **changes: dict) -> dict[str, tuple[str, str]]:
    """Status and reason of each subject after ``preprocess_<kind>``, which must end well."""
    step = {"connectome": preprocess_connectome, "signal": preprocess_signal}[kind]
    outputs = [f"results/{subject}_{kind}.zarr.zip" for subject in subjects]
    words = [
        "--input",
        str(ROOT),
        "--subject",
        *subjects,
        "--output",
        *outputs,
        "--params",
        params(**changes),
    ]
    assert step.main(words) == 0
    attrs = [read_dataset(output).attrs for output in outputs]
    return {at["subject"]: (at["status"], at["reason"]) for at in attrs}


def assert_only_02_is_refused(sentence: str, **changes: dict) -> None:
    code, rows = index(**changes)
    assert rows == {"01": ("yes", ""), "02": ("no", sentence), "03": ("yes", "")}
    assert code == 0


def change(path: Path, row: int | slice, column: int | slice, value: str) -> Callable[[], None]:
    """Overwrite cells of a table; rows count from the first line of the file."""

    def apply() -> None:
        rows = np.array([line.split("\t") for line in path.read_text().splitlines()], dtype=object)
        rows[row, column] = value
        path.write_text("".join("\t".join(cells) + "\n" for cells in rows))

    return apply


def both(*changes: Callable[[], None]) -> Callable[[], None]:
    return lambda: [apply() for apply in changes] and None


def write(path: Path, text: str) -> Callable[[], None]:
    return lambda: path.write_text(text) and None


def lines(path: Path, keep: slice) -> Callable[[], None]:
    return lambda: path.write_text("".join(path.read_text().splitlines(keepends=True)[keep])) and None


def cell(path: Path, row: int, column: int) -> str:
    return path.read_text().splitlines()[row].split("\t")[column]


def parametrize(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("spoil", "sentence"), [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in cases]
    )
