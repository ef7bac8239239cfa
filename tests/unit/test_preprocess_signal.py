"""The signal step on real files: what it stores, what it refuses."""

import json

import numpy as np
import pytest
from ou_cohort import LABELS, SIGNAL, TR, N, draw, jacobian_of, params, weights_of

from brainloom.analysis.clean import clean
from brainloom.analysis.features import features
from brainloom.analysis.signal_dataset import (
    dvars,
    signal_dataset,
    stored_design,
    stored_runs,
    stored_splits,
    temporal_snr,
)
from brainloom.analysis.split_record import read_record
from brainloom.io import bids
from brainloom.steps.preprocess_signal import main
from brainloom.store import read_dataset

SETTINGS = {
    "study": "ou",
    "seed": 0,
    "precision": "float64",
    "input": {"atlas": "ou12", "task": "rest"},
    "model": {"frequency_band": [0.04, 0.07]},
    "signal": SIGNAL | {"drop_frames": 5},
}


def run_of(subject, n=400):
    return 1000 + 10 * draw(jacobian_of(weights_of(subject)), n, [3, subject])


@pytest.fixture
def cohort(tmp_path):
    root = tmp_path / "data"
    bids.write_atlas(bids.atlas_path(root, "ou12"), LABELS)
    bids.write_participants(root, ["01", "02"])
    for subject in (1, 2):
        for run, n in ((1, 400), (2, 330)):
            path = bids.timeseries_path(root, f"{subject:02d}", task="rest", atlas="ou12", run=run)
            bids.write_timeseries(path, run_of(subject * 10 + run, n), LABELS, TR, digits=9)
    return root


def run_step(root, out, *labels, **changes):
    files = [out / f"{label}.zarr.zip" for label in labels]
    settings = SETTINGS | {"signal": SETTINGS["signal"] | changes}
    code = main(["--input", str(root), "--subject", *labels, "--output", *map(str, files), *params(settings)])
    return code, files


def test_dataset_of_two_runs(cohort, tmp_path):
    code, files = run_step(cohort, tmp_path, "01", "02")
    assert code == 0
    ds = read_dataset(files[0])
    assert (ds.attrs["kind"], ds.attrs["subject"], ds.attrs["status"]) == ("signal", "01", "ok")
    assert ds["bold"].shape == (2, 395, N) and ds["bold"].dtype == np.float32
    assert np.isnan(ds["bold"].values[1, 325:]).all() and np.isfinite(ds["bold"].values[1, :325]).all()
    assert ds.attrs["repetition_time"] == TR
    np.testing.assert_array_equal(ds["n_frames"].sel(split=["train", "test"]), [197 + 162, 198 + 163])
    # Each half is filtered by itself, so the test frames cannot reach the training FC.
    halves = [run_of(11, 400)[5:][:197], run_of(12, 330)[5:][:162]]
    z = [np.arctanh(np.corrcoef(clean(x, TR).T)[0, 1]) for x in halves]
    assert float(ds["fc"].sel(split="train")[0, 1]) == pytest.approx(
        np.tanh((197 * z[0] + 162 * z[1]) / 359), abs=1e-5
    )
    np.testing.assert_allclose(ds["fc"].values, ds["fc"].transpose("split", "region_to", "region").values)
    assert ((ds["peak_frequency"] >= 0.04) & (ds["peak_frequency"] <= 0.07)).all()
    for name, variable in ds.variables.items():
        assert variable.attrs.get("long_name"), name


def test_sessions_on_disk(tmp_path):
    """Two sessions of three are held out, in the order of their numbers; a subject with one is excluded."""
    root = tmp_path / "data"
    bids.write_atlas(bids.atlas_path(root, "ou12"), LABELS)
    bids.write_participants(root, ["01", "02"])
    for subject, session, number, n in (
        ("01", "10", 3, 320),
        ("01", "2", 2, 310),
        ("01", "1", 1, 300),
        ("02", "1", 4, 300),
    ):
        path = bids.timeseries_path(root, subject, task="rest", atlas="ou12", session=session)
        bids.write_timeseries(path, run_of(number, n), LABELS, TR, digits=9)
    code, files = run_step(root, tmp_path, "01", "02", splits="sessions")
    assert code == 0
    first, second = map(read_dataset, files)
    np.testing.assert_array_equal(first["n_frames"], [295, 98, 305 + 315])
    record = json.loads(first.attrs["split_frames"])
    assert [(run["run"], run["session"]) for run in record["runs"]] == [
        ("ses-1_run-1", "1"),
        ("ses-2_run-1", "2"),
        ("ses-10_run-1", "10"),
    ]
    assert record["parts"]["train"] == [["ses-1_run-1", 0, 294]]
    assert record["parts"]["test"] == [["ses-2_run-1", 0, 304], ["ses-10_run-1", 0, 314]]
    alone = features([run_of(1, 300)[5:]], TR, SIGNAL)["fc"]
    np.testing.assert_allclose(first["fc"].sel(split="train"), alone, atol=1e-5)
    assert second.attrs["status"] == "failed"
    assert (
        "sub-02 has only the session ses-1 but signal.splits is sessions; add recordings"
        in second.attrs["reason"]
    )


def test_the_training_features_of_blocks_do_not_know_the_other_blocks(cohort, tmp_path):
    """Neither held-out blocks nor gaps: whatever stands there, training and validation features are the same bits."""
    _, (file,) = run_step(cohort, tmp_path, "01", splits="blocks", block=120.0, gap=24.0)
    ds = read_dataset(file)
    runs, config = stored_runs(ds), json.loads(ds.attrs["signal_config"])
    changed = [np.random.default_rng(1).normal(1000, 50, size=run.shape) for run in runs]
    for run, start, stop in read_record(ds.attrs["split_frames"])[0]["train"]:
        changed[run][start:stop] = runs[run][start:stop]
    again = signal_dataset(changed, TR, LABELS, config, (0.04, 0.07), design=stored_design(ds))
    for name in ("fc", "lag1", "psd", "variance", "effective_dof"):
        for split in ("train", "validation"):
            np.testing.assert_array_equal(again[name].sel(split=split), ds[name].sel(split=split))
        assert not np.array_equal(again[name].sel(split="test"), ds[name].sel(split="test"))
    np.testing.assert_array_equal(again["fc_early"], ds["fc_early"])
    np.testing.assert_array_equal(again["peak_frequency"], ds["peak_frequency"])


@pytest.mark.parametrize("changes", [{}, {"splits": "blocks", "block": 120.0}], ids=["halves", "blocks"])
def test_features_can_be_computed_again_from_the_dataset(cohort, tmp_path, changes):
    _, files = run_step(cohort, tmp_path, "01", **changes)
    ds = read_dataset(files[0])
    splits = stored_splits(ds)
    for split in ("train", "validation", "test"):
        found = features(splits[split], TR, json.loads(ds.attrs["signal_config"]))
        np.testing.assert_array_equal(found["fc"], ds["fc"].sel(split=split))
        np.testing.assert_array_equal(found["psd"], ds["psd"].sel(split=split))
        size = len(found["fcd"])
        stored = ds["fcd"].sel(split=split).values
        np.testing.assert_array_equal(found["fcd"].astype(np.float32), stored[:size, :size])
        assert np.isnan(stored[size:]).all()


def test_same_input_same_bytes_in_any_batch(cohort, tmp_path):
    _, (first, _) = run_step(cohort, tmp_path / "a", "01", "02")
    _, (again,) = run_step(cohort, tmp_path / "b", "01")
    assert first.read_bytes() == again.read_bytes()


def test_subject_that_cannot_be_used_is_excluded_and_the_other_computed(cohort, tmp_path, capsys):
    path = bids.timeseries_path(cohort, "01", task="rest", atlas="ou12", run=1)
    bids.write_timeseries(path, run_of(11)[:70], LABELS, TR)
    code, files = run_step(cohort, tmp_path, "01", "02")
    assert code == 0
    failed = read_dataset(files[0])
    assert failed.attrs["status"] == "failed" and "has 70 frames" in failed.attrs["reason"]
    assert read_dataset(files[1]).attrs["status"] == "ok"
    assert "excluded" in capsys.readouterr().err


def test_problem_of_the_analysis_names_the_subject(cohort, tmp_path):
    file = tmp_path / "x.zarr.zip"
    settings = SETTINGS | {"model": {"frequency_band": [0.0402, 0.0404]}}
    words = ["--input", str(cohort), "--subject", "01", "--output", str(file), *params(settings)]
    assert main(words) == 0
    assert read_dataset(file).attrs["reason"] == (
        "sub-01: no frequency of the spectrum lies between 0.0402 and 0.0404 Hz; use a longer psd_window"
    )


def test_quality_measures():
    """White noise of sd 1 around 200: tSNR 200, DVARS sqrt(2) sd or 0.707%; to 5%."""
    run = 200 + np.random.default_rng(5).normal(size=(2000, N))
    np.testing.assert_allclose(temporal_snr([run]), 200, rtol=0.06)
    values, unit = dvars([run[:900], run[900:]])
    assert len(values) == 1998 and unit == "percent of mean"
    assert np.median(values) == pytest.approx(np.sqrt(2) / 2, rel=0.05)
    values, unit = dvars([run - run.mean(axis=0)])
    assert unit == "standard deviations"
    assert np.median(values) == pytest.approx(np.sqrt(2), rel=0.05)
    np.testing.assert_array_equal(temporal_snr([np.ones((5, 2))]), 0)


def test_runs_split_and_short_windows():
    runs = [run_of(k, 120) for k in (1, 2)]
    ds = signal_dataset(runs, TR, LABELS, SIGNAL | {"splits": "runs", "fcd_window": 300.0}, (0.04, 0.07))
    assert ds["fcd"].shape == (3, 0, 0)
    np.testing.assert_allclose(ds["fc"].sel(split="test"), np.corrcoef(clean(runs[1], TR).T), atol=1e-5)
