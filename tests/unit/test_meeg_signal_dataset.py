"""EEG and sources in the signal dataset: read from files with a lead field, cut, and refused where they do not fit."""

import json
import warnings

import numpy as np
import pytest
from electric_cohort import (
    ATLAS,
    CENTRES,
    EEG,
    ELECTRODES,
    LABELS,
    RATE,
    SECONDS,
    atlas,
    lead_field,
    sources,
    write_electric_cohort,
)

from brainloom.analysis.meeg import meeg_features
from brainloom.analysis.meeg_dataset import (
    component_basis,
    meeg_pieces,
    meeg_splits,
    meeg_variables,
    split_cross_spectra,
)
from brainloom.analysis.meeg_scores import group_mean_scores, meeg_scores, peaks_of, recorded_features
from brainloom.cohort.plan import inputs, plan_study
from brainloom.cohort.settings import settings_json
from brainloom.core.config import validate_config
from brainloom.core.errors import DataError
from brainloom.io import bids
from brainloom.io.meeg import MeegRecording, load_meeg
from brainloom.io.meeg_checks import check_meeg
from brainloom.io.parts import Cut
from brainloom.io.simulated import write_bids_recording
from brainloom.steps import index_cohort, preprocess_signal
from brainloom.store import read_dataset

STUDY = {
    "study": "electric",
    "input": {"path": "cohort", "atlas": ATLAS},
    "model": {"name": "JansenRitStep"},
    "eeg": {"montage": "colin27_1020"},
    "fit": {"route": "spectrum", "parameters": {"k": {}}},
    "modality": ["bold", "eeg"],
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("electric")
    write_electric_cohort(root / "cohort", ["01", "02"], kinds=("bold", "eeg", "source"))
    return root


def check(root, settings, splits="halves"):
    check_meeg(
        root, "01", "rest", "eeg", settings, signal={"splits": splits}, atlas=atlas(root), atlas_label=ATLAS
    )


def load(root, settings, subject="01"):
    return load_meeg(root, subject, "rest", "eeg", settings, atlas=atlas(root), atlas_label=ATLAS)


def refused(call, *args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run_signal(cohort, monkeypatch, **changes):
    monkeypatch.chdir(cohort)
    config = validate_config(STUDY | changes)
    words = ["--input", "cohort", "--subject", "01", "02", "--output", "one.zarr.zip", "two.zarr.zip"]
    assert preprocess_signal.main([*words, "--params", settings_json(config, "preprocess_signal")]) == 0
    return read_dataset(cohort / "one.zarr.zip")


def test_a_recording_is_read_with_the_lead_field_of_its_electrodes(cohort):
    found = load(cohort / "cohort", EEG)
    assert (found.channels, found.unit, found.reference) == (ELECTRODES, "V", "average")
    assert found.runs[0].shape == (round(SECONDS * RATE), len(ELECTRODES))
    # Positions went through single precision of the FIF file.
    np.testing.assert_allclose(
        found.lead_field, lead_field().gain, atol=1e-4 * np.abs(lead_field().gain).max()
    )
    np.testing.assert_allclose(found.runs[0].sum(axis=1), 0, atol=1e-9 * np.abs(found.runs[0]).max() * 1e3)
    # 20 nA m in each region make the signal; the rest is sensor noise of 0.1 uV.
    expected = 20e-9 * sources("01") @ lead_field().gain.T
    assert np.abs(found.runs[0] - expected).std() < 1.1e-7 < 0.2 * expected.std()


def test_a_reference_electrode_is_left_out(cohort):
    found = load(cohort / "cohort", EEG | {"reference": "C3"})
    assert "C3" not in found.channels and found.reference == "C3"
    expected = lead_field(None).gain
    at = ELECTRODES.index("C3")
    kept = [k for k in range(len(ELECTRODES)) if k != at]
    np.testing.assert_allclose(found.lead_field, (expected - expected[at])[kept], atol=1e-2)


def test_a_matrix_and_a_montage_serve_as_lead_field(cohort, tmp_path):
    """Rows in another order, more of them than electrodes, in microvolts a nA m, relative to infinity."""
    names = [*reversed(ELECTRODES), "Cz"]
    rows = np.vstack([lead_field(None).gain[::-1], np.ones(len(LABELS))]) * 1e-3
    lines = ["\t".join(["sensor", *LABELS])]
    lines += ["\t".join([name, *(f"{x:.9g}" for x in row)]) for name, row in zip(names, rows, strict=True)]
    (tmp_path / "sub-01.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "sub-01.json").write_text(json.dumps({"Units": "uV/(nA*m)"}))
    settings = EEG | {"lead_field": str(tmp_path / "sub-{subject}.tsv")}
    check(cohort / "cohort", settings)
    np.testing.assert_allclose(load(cohort / "cohort", settings).lead_field, lead_field().gain, rtol=1e-6)
    assert "sub-02 lacks this lead field" in refused(load, cohort / "cohort", settings, "02")
    (tmp_path / "sub-01.tsv").write_text("\n".join(lines[:4]) + "\n")
    text = refused(load, cohort / "cohort", settings)
    assert str(tmp_path / "sub-01.tsv") in text and "no sensor" in text


def test_sources_need_no_lead_field(cohort):
    found = load(cohort / "cohort", EEG | {"space": "region"})
    assert (found.channels, found.unit, found.lead_field) == (LABELS, "nA*m", None)
    np.testing.assert_allclose(found.runs[0], 20 * sources("01"), rtol=1e-6)
    ds = meeg_variables(found, EEG, signal={"splits": "halves"}, regions=LABELS)
    assert ds.attrs["eeg_space"] == "region" and "eeg_lead_field" not in ds
    np.testing.assert_array_equal(ds["eeg_basis"], np.eye(len(LABELS)))


def test_meg_takes_its_magnetometers_and_the_position_of_its_helmet(tmp_path):
    from brainloom.io.lead_fields import sphere_lead_field
    from brainloom.io.sphere import CENTRE, _meg_info

    write_electric_cohort(tmp_path, ["01"], kinds=())
    field = sphere_lead_field(CENTRES, kind="meg", regions=LABELS)
    series = 20e-9 * sources("01") @ field.gain.T
    helmet = _meg_info("neuromag", None, np.asarray(CENTRE, float))
    write_bids_recording(
        tmp_path, "01", series, RATE, list(field.sensors), kind="meg", positions=helmet, task="rest"
    )
    settings = EEG | {"reference": None, "montage": None}
    place = {"atlas": atlas(tmp_path), "atlas_label": ATLAS}
    check_meeg(tmp_path, "01", "rest", "meg", settings, signal={"splits": "halves"}, **place)
    found = load_meeg(tmp_path, "01", "rest", "meg", settings, **place)
    assert len(found.channels) == 102 and (found.unit, found.reference, found.attrs["kind"]) == (
        "T",
        "none",
        "mag",
    )
    expected = field.pick(found.channels).gain
    np.testing.assert_allclose(found.lead_field, expected, atol=1e-4 * np.abs(expected).max())
    assert component_basis(found.lead_field, 102).shape == (102, 6)


def test_the_signal_dataset_holds_all_modalities(cohort, monkeypatch):
    ds = run_signal(cohort, monkeypatch)
    assert ds.attrs["status"] == "ok" and ds.attrs["modality"] == "bold,eeg"
    alone = bids.read_timeseries(
        bids.timeseries_path(cohort / "cohort", "01", task="rest", atlas=ATLAS), LABELS
    )[0]
    np.testing.assert_allclose(ds["bold"].values[0], alone[5:], rtol=1e-6)
    recording = load(cohort / "cohort", EEG)
    half = len(recording.runs[0]) // 2
    for split, part in (("train", recording.runs[0][:half]), ("test", recording.runs[0][half:])):
        found = meeg_features(part, RATE, EEG)
        for key in ("psd", "envelope_fc", "peak_frequency", "band_power"):
            np.testing.assert_allclose(ds[f"eeg_{key}"].sel(split=split), found[key], rtol=1e-12)
    # 30 s in bins of 1 Hz: 29 tapers; the validation part is the last third of the training part.
    np.testing.assert_array_equal(ds["eeg_csd_n"], [29, 9, 29])
    np.testing.assert_allclose(ds["eeg_duration"], [30, 10, 30])
    # Two-sided density of what the basis keeps: twice its diagonal is the one-sided spectrum.
    power = 2 * np.einsum("fii->f", ds["eeg_csd"].sel(split="test").values.real).sum()
    psd = ds["eeg_psd"].sel(split="test").sum("eeg_sensor")
    assert power == pytest.approx(float(psd.sum()) * 0.5, rel=0.03)  # bins of 1 Hz against lines 0.5 Hz apart
    basis = ds["eeg_basis"].values
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    np.testing.assert_allclose(basis @ basis.T @ ds["eeg_lead_field"].values, ds["eeg_lead_field"], rtol=1e-6)
    # The raw periodogram of relative changes, on one grid for both halves.
    assert ds.attrs["bold_unit"] == "1" and list(ds["bold_csd_n"]) == [1, 0, 1]
    assert np.isnan(ds["bold_csd"].sel(split="validation")).all()
    change = alone[5:] / alone[5:].mean(axis=0) - 1
    total = np.einsum("fii->f", ds["bold_csd"].sel(split="test").values.real)
    assert 0 < total.sum() * 2 / 294 < change.var(axis=0).sum()
    for name, variable in ds.variables.items():
        assert variable.attrs.get("long_name"), name


def test_a_study_without_bold(cohort, monkeypatch):
    ds = run_signal(cohort, monkeypatch, modality=["eeg"])
    assert ds.attrs["status"] == "ok" and "bold" not in ds and "fc" not in ds
    assert list(ds["region"].values) == LABELS and ds.attrs["modality"] == "eeg"


def test_the_plan_knows_the_files_of_every_modality(cohort, monkeypatch):
    monkeypatch.chdir(cohort)
    plan = plan_study(validate_config(STUDY))
    assert plan.subjects == ("01", "02")
    files = inputs(plan, ["01"], "signal")
    assert "cohort/sub-01/eeg/sub-01_task-rest_run-1_eeg.fif" in files
    assert "cohort/sub-01/eeg/sub-01_task-rest_run-1_eeg.json" in files
    assert any("timeseries.tsv" in path and "/func/" in path for path in files)
    only = inputs(plan_study(validate_config(STUDY | {"modality": ["eeg"]})), ["01"], "signal")
    assert not any("/func/" in path for path in only)


def test_a_subject_without_eeg_is_left_out_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_electric_cohort(tmp_path / "cohort", ["01", "02"])
    (tmp_path / "cohort/sub-02/eeg/sub-02_task-rest_run-1_eeg.fif").unlink()
    config = validate_config(STUDY)
    plan = plan_study(config)
    assert plan.subjects == ("01",)
    assert "sub-02 has no EEG recording of task rest" in plan.excluded["02"]
    words = ["--input", "cohort", "--output", "index.tsv", "--params", settings_json(config, "index_cohort")]
    assert index_cohort.main(words) == 0
    rows = (tmp_path / "index.tsv").read_text().splitlines()
    assert rows[1] == "01\tyes\t" and rows[2].startswith("02\tno\t")
    # A subject whose EEG is too short keeps its row, with the reason.
    assert "less than eeg.window (40 s)" in refused(check, tmp_path / "cohort", EEG | {"window": 40.0})


@pytest.mark.parametrize(
    ("changes", "splits", "said"),
    [
        ({"montage": None, "lead_field": "none.fif"}, "halves", "sub-01 lacks this lead field"),
        ({}, "runs", "has only this run but signal.splits is runs"),
        ({"band": [1.0, 60.0]}, "halves", "frequencies end at 50 Hz but eeg.band ends at 60 Hz"),
        ({"reference": "Cz"}, "halves", "no electrode 'Cz'; set eeg.reference to average"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused_by_its_header(cohort, changes, splits, said):
    assert said in refused(check, cohort / "cohort", EEG | changes, splits)


def test_a_sphere_needs_centres_of_the_regions(cohort, tmp_path):
    bids.write_atlas(bids.atlas_path(tmp_path, ATLAS), LABELS)
    text = refused(
        check_meeg,
        cohort / "cohort",
        "01",
        "rest",
        "eeg",
        EEG,
        signal={"splits": "halves"},
        atlas=atlas(tmp_path),
        atlas_label=ATLAS,
    )
    assert "region 'V1_L' has no x, y, z" in text
    assert CENTRES.shape == (6, 3)


def test_marked_samples_are_in_no_segment():
    x = np.arange(4000.0)[:, None] * np.ones(2)
    x[300:320] = np.nan
    x[2500:2600] = np.nan
    pieces = meeg_pieces([4000], Cut("halves"), [""])
    found = meeg_splits([x], pieces, 200)
    assert [len(part) for part in found["train"]] == [300, 1680]
    assert [(part[0, 0], part[-1, 0]) for part in found["test"]] == [(2000, 2499), (2600, 3999)]
    assert found["validation"][0][0, 0] == 2000 - 2000 // 3
    with pytest.raises(DataError, match="no stretch of 1800 good samples"):
        meeg_splits([x], pieces, 1800)


def test_blocks_and_sessions_of_eeg():
    series = 1e-6 * sources("01")
    recording = MeegRecording("eeg", [series], RATE, LABELS, "V", "none")
    ds = meeg_variables(recording, EEG, signal={"splits": "blocks", "block": 10.0}, regions=LABELS)
    # four blocks of 13.5 s, and between them one window of 2 s
    np.testing.assert_allclose(ds["eeg_duration"], [27.0, 13.5, 27.0])
    record = json.loads(ds.attrs["eeg_split_frames"])
    assert record["parts"]["test"] == [["run-1", 1550, 2899], ["run-1", 4650, 5999]]
    assert record["runs"] == [{"run": "run-1", "session": "", "frames": 6000, "gap": 200}]
    assert np.isfinite(ds["eeg_psd"]).all() and np.isfinite(ds["eeg_envelope_fc"]).all()
    pieces = meeg_pieces([500, 600, 700], Cut("sessions"), ["a", "a", "b"])
    assert [piece.run for piece in pieces["train"]] == [0, 1] and [p.run for p in pieces["test"]] == [2]
    assert pieces["validation"] == [(1, 234, 600)]


def test_blocks_that_do_not_fit_are_refused_by_the_header(cohort):
    with pytest.raises(DataError, match=r"lasts 60 s, too short for two blocks of 30 s .* and a gap of 2 s"):
        check_meeg(
            cohort / "cohort",
            "01",
            "rest",
            "eeg",
            EEG,
            signal={"splits": "blocks", "block": 30.0},
            atlas=atlas(cohort / "cohort"),
            atlas_label=ATLAS,
        )
    assert "no sessions (ses-<label> in names of files)" in refused(check, cohort / "cohort", EEG, "sessions")


def test_cross_spectra_of_both_halves_share_one_grid():
    x = np.random.default_rng(4).normal(size=(601, 3))
    frequency, found = split_cross_spectra(
        {"train": [x[:300]], "test": [x[300:]], "validation": [x[200:300]]}, 0.5, (0.01, 0.1), None
    )
    np.testing.assert_allclose(frequency, np.arange(6, 61) / 600)
    assert found["train"][1] == found["test"][1] == 1 and found["validation"][1] == 0
    wide, found = split_cross_spectra(
        {"train": [x[:300]], "test": [x[300:]], "validation": [x[200:300]]}, 0.5, (0.01, 0.1), 0.015
    )
    assert len(wide) == 6 and [found[name][1] for name in ("train", "validation", "test")] == [8, 2, 8]
    # A bin of 1/200 Hz is a line of the validation part, whose grid is another one.
    _, found = split_cross_spectra(
        {"train": [x[:300]], "test": [x[300:]], "validation": [x[200:300]]}, 0.5, (0.01, 0.1), 0.005
    )
    assert [found[name][1] for name in ("train", "validation", "test")] == [2, 0, 2]
    assert np.isnan(found["validation"][0]).all() and found["validation"][0].shape == found["train"][0].shape


def test_the_basis_spans_what_regions_reach():
    field = lead_field().gain
    basis = component_basis(field, len(field))
    assert basis.shape == (8, 6)
    np.testing.assert_allclose(basis @ (basis.T @ field), field, atol=1e-9 * np.abs(field).max())
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-9)  # the average reference
    assert (basis[np.abs(basis).argmax(axis=0), np.arange(6)] > 0).all()


def test_scores_of_a_known_prediction():
    frequency = np.arange(1.0, 40.5, 0.5)
    peak = lambda f0, gain: gain * (1 / frequency + 5 * np.exp(-((frequency - f0) ** 2) / 2))  # noqa: E731
    data = {"psd": np.stack([peak(10, 1), peak(11, 2), peak(9, 1)]), "envelope_fc": np.eye(3)}
    data["envelope_fc"] = np.array([[1, 0.5, 0.1], [0.5, 1, 0.3], [0.1, 0.3, 1]])
    data["peak_frequency"] = peaks_of(data["psd"], frequency)
    np.testing.assert_allclose(data["peak_frequency"], [10, 11, 9], atol=0.15)
    same = meeg_scores(data, data, frequency, (1, 40), "eeg")
    assert same == {
        "eeg_psd_r": pytest.approx(1),
        "eeg_psd_rmse": 0,
        "eeg_envelope_fc_r": pytest.approx(1),
        "eeg_peak_error": 0,
    }
    louder = {"psd": 10 * data["psd"], "peak_frequency": data["peak_frequency"] + 0.5}
    scores = meeg_scores(louder, data, frequency, (1, 40), "meg")
    assert scores["meg_psd_rmse"] == pytest.approx(1) and scores["meg_peak_error"] == pytest.approx(0.5)
    assert scores["meg_psd_r"] == pytest.approx(1) and "meg_envelope_fc_r" not in scores
    flat = peaks_of(np.stack([1 / frequency] * 3), frequency)
    assert np.isnan(flat).all()
    assert "eeg_peak_error" not in meeg_scores(
        data | {"peak_frequency": flat}, data, frequency, (1, 40), "eeg"
    )


def test_the_group_mean_holds_nothing_of_the_subject():
    rng = np.random.default_rng(2)
    signals = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for subject in ("01", "02", "03"):
            series = 1e-6 * sources(subject) * rng.uniform(0.5, 2)
            recording = MeegRecording("eeg", [series], RATE, LABELS, "V", "none")
            signals[subject] = meeg_variables(recording, EEG, signal={"splits": "halves"}, regions=LABELS)
    rows = {(s, split, metric): value for s, split, metric, value in group_mean_scores(signals)}
    parts = [recorded_features(signals[s], "eeg", split) for s in ("02", "03") for split in ("train", "test")]
    mean = np.exp(np.mean([np.log(p["psd"]) for p in parts], axis=0))
    target = recorded_features(signals["01"], "eeg", "test")["psd"]
    rmse = np.sqrt(np.mean((np.log10(mean) - np.log10(target)) ** 2))
    assert rows["01", "test", "eeg_psd_rmse"] == pytest.approx(rmse)
    assert {metric for _, _, metric in rows} >= {
        "eeg_psd_r",
        "eeg_psd_rmse",
        "eeg_envelope_fc_r",
        "eeg_peak_error",
    }
    assert group_mean_scores({"01": signals["01"]}) == []
