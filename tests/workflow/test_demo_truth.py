"""The demo's known parameters come back: fitted by the workflow's own steps, from the data in the repository."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from brainloom.cohort.settings import step_settings
from brainloom.core.config import load_config, validate_config
from brainloom.io.bids import list_subjects
from brainloom.steps import fit, identify, preprocess_connectome, preprocess_signal
from brainloom.store import read_dataset

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "data" / "demo"
NO_CONTROLS = {
    "other_subject": False, "edge_shuffle": 0, "distance_shuffle": 0, "uniform": False, "distance": False
}  # fmt: skip


@pytest.fixture(scope="module")
def posteriors(tmp_path_factory):
    """Posterior of each demo subject, from one start and without controls."""
    folder = tmp_path_factory.mktemp("truth")
    path = ROOT / "config" / "studies" / "demo.yaml"
    config = validate_config(load_config(path), path)
    config["fit"]["starts"] = 1
    config["analyse"]["controls"] = NO_CONTROLS
    subjects = list_subjects(DEMO)

    def files(kind):
        return [str(folder / f"{subject}_{kind}.zarr.zip") for subject in subjects]

    def run(step, name, *arguments):
        settings = json.dumps(step_settings(config, name))
        assert step.main([*arguments, "--params", settings]) == 0

    raw = ("--input", str(DEMO), "--subject", *subjects, "--output")
    run(preprocess_connectome, "preprocess_connectome", *raw, *files("connectome"))
    run(preprocess_signal, "preprocess_signal", *raw, *files("signal"))
    given = ("--connectome", *files("connectome"), "--signal", *files("signal"))
    run(fit, "fit", *given, "--donor", *files("connectome"), "--output", *files("fit"))
    run(identify, "identify", *given, "--fit", *files("fit"), "--output", *files("posterior"))
    return dict(zip(subjects, map(read_dataset, files("posterior")), strict=True))


@pytest.fixture(scope="module")
def truth():
    """True values: subject -> parameter -> list, in the order of the regions."""
    found: dict = {}
    with open(DEMO / "truth.tsv", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.setdefault(row["subject"], {}).setdefault(row["parameter"], []).append(float(row["value"]))
    return found


def test_the_true_couplings_differ_by_more_than_a_factor_of_two(truth):
    couplings = [values["coupling"][0] for values in truth.values()]
    assert max(couplings) > 2.0 * min(couplings)


def test_global_coupling_is_recovered_across_subjects(posteriors, truth):
    estimate = [float(p["estimate"].sel(parameter="coupling")[0]) for p in posteriors.values()]
    true = [truth[subject]["coupling"][0] for subject in posteriors]
    assert np.corrcoef(true, estimate)[0, 1] >= 0.9


def test_the_regional_map_is_recovered_within_each_subject(posteriors, truth):
    for subject, posterior in posteriors.items():
        estimate = posterior["estimate"].sel(parameter="noise").values
        assert np.corrcoef(truth[subject]["noise"], estimate)[0, 1] >= 0.8, subject


def test_intervals_cover_the_truth_about_as_often_as_they_say(posteriors, truth):
    covered = []
    for subject, posterior in posteriors.items():
        field = posterior.sel(parameter="noise")
        true = np.array(truth[subject]["noise"])
        covered += list((field["lower"].values <= true) & (true <= field["upper"].values))
    # 240 intervals of 90 %: the standard error is 2 %, their errors are correlated, and the demo saturates
    assert 0.8 <= np.mean(covered) <= 1.0


def test_what_the_data_do_not_say_is_not_called_identified(posteriors):
    for posterior in posteriors.values():
        labels = posterior["identified"].sel(parameter="a").values
        assert set(labels) <= {"weak", "no"}  # the demo's a hardly varies and FC hardly depends on it
