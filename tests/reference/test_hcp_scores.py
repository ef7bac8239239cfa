"""Held-out scores on seven real subjects stay where they were measured (METHODS: 0.746 and 0.767 known; pooled 0.82 to 0.83)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brainloom.analysis.fc import average_correlations, fc_correlation
from brainloom.cohort.settings import step_settings
from brainloom.core.config import load_config, validate_config
from brainloom.io.hcp import SUBJECTS
from brainloom.steps import fetch_hcp, fit, pool, preprocess_connectome, preprocess_signal
from brainloom.store import read_dataset

ROOT = Path(__file__).resolve().parents[2]
STUDY = ROOT / "config" / "studies" / "hcp_linear.yaml"
pytestmark = pytest.mark.slow


def files(folder, kind):
    return [str(folder / f"{subject}_{kind}.zarr.zip") for subject in SUBJECTS]


def run(step, name, config, *arguments):
    assert step.main([*arguments, "--params", json.dumps(step_settings(config, name))]) == 0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder with the connectomes and signals of the real cohort, fetched and preprocessed."""
    folder = tmp_path_factory.mktemp("hcp")
    if fetch_hcp.main(["--output", str(folder / "raw")]) != 0:
        pytest.skip("the real cohort could not be fetched: no package index")
    config = validate_config(load_config(STUDY), STUDY)
    raw = ("--input", str(folder / "raw"), "--subject", *SUBJECTS, "--output")
    for kind, step in (("connectome", preprocess_connectome), ("signal", preprocess_signal)):
        run(step, f"preprocess_{kind}", config, *raw, *files(folder, kind))
    return folder


def held_out(folder):
    """FC of the training and of the held-out part of every subject."""
    signals = [read_dataset(path)["fc"] for path in files(folder, "signal")]
    return [[fc.sel(split=split).values.astype(float) for fc in signals] for split in ("train", "test")]


def given(folder):
    return ("--connectome", *files(folder, "connectome"), "--signal", *files(folder, "signal"))


@pytest.mark.parametrize(
    ("regional", "known"), [(["local", "noise"], 0.74), (["local", "noise", "gain_in", "gain_out"], 0.76)]
)
def test_linear_model_predicts_held_out_fc(cohort, tmp_path, regional, known):
    config = validate_config(load_config(STUDY), STUDY)
    config["fit"] |= {"regional": regional, "starts": 3}
    config["analyse"]["controls"] = {
        "other_subject": False, "edge_shuffle": 0, "distance_shuffle": 0, "uniform": False, "distance": False
    }  # fmt: skip
    donors = ("--donor", *files(cohort, "connectome"))
    run(fit, "fit", config, *given(cohort), *donors, "--output", *files(tmp_path, "fit"))
    fitted = [read_dataset(path)["fc_model"].sel(predictor="model") for path in files(tmp_path, "fit")]
    scores = [fc_correlation(a.values, b) for a, b in zip(fitted, held_out(cohort)[1], strict=True)]
    # the margin that the known figures are given with
    assert np.mean(scores) >= known - 0.003


def test_pooled_fits_predict_better_than_the_others_and_the_own_recording(cohort, tmp_path):
    config = validate_config(load_config(STUDY), STUDY)
    config["pool"] |= {"rank": [8], "lambda": [0.001], "learn_shrinkage": False}
    run(
        pool, "pool", config, *given(cohort), "--output", *files(tmp_path, "pooled"),
        "--cohort", str(tmp_path / "pool.zarr.zip"),
    )  # fmt: skip
    train, test = held_out(cohort)
    whole = [average_correlations([a, b], [1, 1]) for a, b in zip(train, test, strict=True)]
    fitted = [read_dataset(path)["fc_model"].values for path in files(tmp_path, "pooled")]
    pooled, own = (
        np.array([fc_correlation(a, b) for a, b in zip(found, test, strict=True)])
        for found in (fitted, train)
    )
    others = [
        average_correlations([fc for j, fc in enumerate(whole) if j != k]) for k in range(len(SUBJECTS))
    ]
    group = np.array([fc_correlation(a, b) for a, b in zip(others, test, strict=True)])
    assert pooled.mean() >= 0.82
    assert pooled.mean() > own.mean()
    assert (pooled > group).all()
