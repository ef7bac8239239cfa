"""The workflow on the demo of BOLD and EEG: a joint fit with its datasets, tables, exports and report."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from study import ROOT, Run, snakemake, steps, table

from brainloom.cohort.layout import KINDS, dataset
from brainloom.store import is_failed, read_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DEMO = ROOT / "data/demo-eeg"
SUBJECTS = ("01", "02")
STUDY = "eegcut"
# As the shipped study, with few realisations and steps.
CHANGES = {
    "study": STUDY,
    "subjects": list(SUBJECTS),
    "simulate": {
        "seeds": 2,
        "transient": 10.0,
        "export": ["bids", "fif"],
        "stored": {"seeds": 1, "duration": 5.0},
    },
    "analyse": {
        "controls": {
            "other_subject": False,
            "edge_shuffle": 0,
            "distance_shuffle": 0,
            "uniform": True,
            "distance": False,
        }
    },
}


def write_settings(folder: Path, **objective: float) -> None:
    """The shipped study with changes, on the demo where it is."""
    config = yaml.safe_load((ROOT / "config/studies/demo_eeg.yaml").read_text()) | CHANGES
    config["input"] = config["input"] | {"path": "cohort"}
    config["fit"] = config["fit"] | {"starts": 1, "objective": objective}
    (folder / "study.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("demo-eeg")
    shutil.copytree(DEMO, path / "cohort", ignore=shutil.ignore_patterns("sub-03"))
    write_settings(path, bold=1.0, eeg=1.0)
    return path


@pytest.fixture(scope="module")
def first(folder) -> Run:
    run = snakemake(folder)
    assert run.code == 0, run.text
    return run


@pytest.fixture(scope="module")
def rows(folder, first) -> dict[tuple[str, str, str, str], float]:
    """Scores by subject, split, predictor and metric."""
    found = table(folder / f"results/{STUDY}/metrics.tsv")
    return {(r["subject"], r["split"], r["predictor"], r["metric"]): float(r["value"]) for r in found}


def one(folder: Path, subject: str, kind: str):
    return read_dataset(folder / dataset(STUDY, subject, kind))


def test_all_steps_run_and_nobody_is_left_out(folder, first):
    assert steps(first) == {
        *("index_cohort", "preprocess_connectome", "preprocess_signal", "fit", "identify", "simulate"),
        *("analyse", "group", "report"),
    }
    assert [(r["subject"], r["included"]) for r in table(folder / f"results/{STUDY}/cohort.tsv")] == [
        (subject, "yes") for subject in SUBJECTS
    ]
    for subject in SUBJECTS:
        assert not any(is_failed(one(folder, subject, kind)) for kind in KINDS)


def test_signal_and_simulation_hold_the_same_features(folder, first):
    signal, simulation = one(folder, "01", "signal"), one(folder, "01", "simulation")
    assert signal.attrs["modality"] == simulation.attrs["modality"] == "bold,eeg"
    for name in (
        "fc",
        "psd",
        "variance",
        "eeg_psd",
        "eeg_envelope_fc",
        "eeg_peak_frequency",
        "eeg_band_power",
    ):
        assert signal[name].shape[1:] == simulation[name].shape[1:], name
        assert np.isfinite(simulation[name].values).all() or "peak" in name
    assert simulation["eeg"].shape == (1, 1250, 16)  # 5 s at 250 Hz
    assert simulation["bold"].shape == (2, 150, 20)
    assert simulation.attrs["diverged"] == 0


def test_the_fit_finds_the_known_parameters(folder, first):
    """Half a recording each: the inhibitory rate to some percent, coupling and speed to a quarter."""
    truth = {(r["subject"], r["parameter"]): float(r["value"]) for r in table(DEMO / "truth.tsv")}
    found = table(folder / f"results/{STUDY}/parameters.tsv")
    named = {(r["subject"], r["parameter"]): r for r in found if r["parameter"] in ("k", "b", "speed")}
    assert set(named) == {(subject, name) for subject in SUBJECTS for name in ("k", "b", "speed")}
    for (subject, name), row in named.items():
        value, low, high = (float(row[key]) for key in ("estimate", "lower", "upper"))
        true = truth[subject, name]
        assert low < value < high and row["region"] == "global"
        assert abs(value / true - 1) < {"b": 0.06, "k": 0.25, "speed": 0.25}[name], row
        # 90 % intervals miss now and then; three times as wide ones do not.
        assert value * (low / value) ** 3 < true < value * (high / value) ** 3, row


def test_both_modalities_are_scored(rows):
    fitted = {"fc_r", "psd_r", "eeg_psd_r", "eeg_psd_rmse"}
    for subject in (*SUBJECTS, "group"):
        for predictor, metrics in {
            "model_analytic": fitted,
            "model_simulated": fitted | {"eeg_envelope_fc_r", "fcd_ks"},
            "ceiling": fitted | {"eeg_envelope_fc_r"},
            "control_uniform": fitted,
            "group_mean": {"fc_r", "eeg_psd_r", "eeg_psd_rmse", "eeg_envelope_fc_r"},
        }.items():
            for metric in metrics:
                assert np.isfinite(rows[subject, "test", predictor, metric]), (subject, predictor, metric)
    for subject in SUBJECTS:
        # The recordings are of this model: spectra differ by the sampling error of 30 s only.
        assert rows[subject, "test", "model_analytic", "eeg_psd_r"] > 0.9
        assert rows[subject, "test", "model_simulated", "eeg_psd_r"] > 0.85
        assert rows[subject, "test", "model_analytic", "eeg_psd_rmse"] < 0.2
        assert rows[subject, "test", "model_simulated", "eeg_psd_rmse"] < 0.2


def test_the_report_shows_every_modality(folder, first):
    page = (folder / f"results/{STUDY}/report.html").read_text()
    assert '<section id="electric">' in page and "<h2>EEG and MEG</h2>" in page
    names = set(re.findall(r'id="fig-([\w-]+)"', page))
    assert {
        "eeg-spectra",
        "score-eeg-psd-r",
        "score-eeg-psd-rmse",
        "score-eeg-envelope-fc-r",
        "truth-estimate",
    } <= names
    for subject in SUBJECTS:
        own = {f"sub-{subject}-eeg-{part}" for part in ("psd", "envelope", "lead-field")}
        assert {*own, f"sub-{subject}-fc", f"sub-{subject}-psd"} <= names
    assert "Frequency (Hz)" in page and "Power density (V²/Hz)" in page
    assert "EEG spectra of the model correlate with the held-out ones at" in page
    assert "curvature of the likelihood of the cross-spectra" in page


def test_exports_open_where_they_are_meant_to(folder, first):
    import mne

    from brainloom.io import bids
    from brainloom.io.recordings import read_recording, recording_files

    root = folder / f"results/{STUDY}/sub-01/export"
    simulation = one(folder, "01", "simulation")
    (path,) = recording_files(root, "01", "sim", "eeg")
    raw = mne.io.read_raw(path, verbose="error")
    np.testing.assert_allclose(raw.get_data().T, simulation["eeg"].values[0], rtol=1e-6, atol=1e-12)
    assert raw.ch_names == list(simulation["eeg_sensor"].values)
    assert read_recording(path, root=root).reference == "average"
    run = bids.timeseries_path(root, "01", task="sim", atlas="demo20")
    data, _ = bids.read_timeseries(run, list(simulation["region"].values))
    np.testing.assert_allclose(data, simulation["bold"].values[0], rtol=1e-6)
    assert bids.read_repetition_time(root, run) == 2.0


def test_a_second_run_does_nothing_and_a_new_weight_runs_the_fit_and_what_reads_it(folder, first):
    again = snakemake(folder)
    assert again.jobs == () and "Nothing to be done" in again.text
    write_settings(folder, bold=1.0, eeg=0.5)
    dry = snakemake(folder, "--dry-run")
    assert dry.code == 0, dry.text
    planned = {re.sub(r"_b\d+$", "", name) for name in re.findall(r"^rule (\w+):", dry.text, flags=re.M)}
    planned |= {
        re.sub(r"_b\d+$", "", name) for name in re.findall(r"^(\w+_b\d+)\s+\d+$", dry.text, flags=re.M)
    }
    assert {"fit", "identify", "simulate", "analyse"} <= planned
    assert not {"index_cohort", "preprocess_connectome", "preprocess_signal"} & planned
