"""What is decided while the Snakefile is read: wrong settings, missing files, data still to be fetched."""

import json
from pathlib import Path

import pytest
from study import ROOT, copy_subject, counted, planned, rules, snakemake, write_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("planned")
    for subject in ("01", "02"):
        copy_subject(path, subject)
    write_settings(path)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fit": {"starts": -1}}, "study.yaml: fit.starts is -1; it must be at least 1"),
        (
            {"input": {"path": "nowhere"}},
            "nowhere: input folder not found; correct input.path in the configuration",
        ),
        (
            {"simulate": {"dt": 0.1}},
            "simulate.dt is 0.1; it must divide the repetition time 0.72 s, such as 0.09",
        ),
        (
            {"group": {"tests": [{"covariate": "age"}]}},
            "group.tests names age, which is no column of cohort/participants.tsv",
        ),
        ({"subjects": ["99"]}, "no subject of study cut can be used: cohort/participants.tsv: sub-99"),
    ],
)
def test_wrong_settings_stop_before_anything_runs(folder, changes, said):
    write_settings(folder, **changes)
    run = snakemake(folder)
    assert run.code == 1
    assert said in run.text
    assert "Traceback" not in run.text
    assert run.jobs == ()
    assert not (folder / "results").exists()


def test_a_dry_run_plans_one_job_a_step_and_batch_and_writes_nothing(folder):
    write_settings(folder)
    run = snakemake(folder, "--dry-run")
    assert run.code == 0, run.text
    assert planned(run)["fit_b001"] == planned(run)["group"] == planned(run)["index_cohort"] == 1
    assert planned(run)["total"] == 10
    assert not (folder / "results").exists()


def test_the_target_recovery_plans_its_jobs_and_what_they_need(folder):
    write_settings(folder)
    run = snakemake(folder, "recovery", "--dry-run")
    assert run.code == 0, run.text
    steps = ("preprocess_connectome_b001", "preprocess_signal_b001", "fit_b001", "recover_b001")
    once = dict.fromkeys(("index_cohort", *steps, "recovery_group", "recovery"), 1)
    assert planned(run) == once | {"total": 7}


def test_the_target_recovery_is_refused_where_spectra_are_fitted(folder):
    spectrum = {"route": "spectrum", "parameters": {"k": {}}}
    write_settings(folder, fit=spectrum, model={"name": "JansenRitStep"})
    run = snakemake(folder, "recovery", "--dry-run")
    assert run.code == 1
    assert "the target recovery needs fit.route fc, and that of study cut is spectrum; simulate" in run.text


def test_a_subject_without_files_does_not_stop_the_others(tmp_path):
    for subject in ("01", "02"):
        copy_subject(tmp_path, subject)
    next((tmp_path / "cohort/sub-02/dwi").glob("*weight_relmat.tsv")).unlink()
    write_settings(tmp_path, simulate={"seeds": 0})
    run = snakemake(tmp_path, "--dry-run", "--quiet", "host")
    assert run.code == 0, run.text
    assert "sub-01_desc-fit" in run.text
    assert "sub-02_desc" not in run.text
    # Nor is anything simulated, as the settings say.
    assert "sub-01_desc-metrics" in run.text and "simulat" not in run.text


def test_the_plan_of_a_study_counts_these_jobs(tmp_path, monkeypatch):
    for subject in ("01", "02", "03"):
        copy_subject(tmp_path, subject)
    write_settings(tmp_path, pool={"rank": [2]}, reliability={"lambda": [0.1, 0.01]}, subjects_per_job=2)
    monkeypatch.chdir(tmp_path)
    assert counted() == rules(snakemake(tmp_path, "--dry-run"))
    assert counted()["reliability"] == 2 and counted()["pool"] == 1


@pytest.mark.parametrize("study", ["hcp", "hcp_linear"])
def test_the_hcp_studies_begin_with_the_download(tmp_path, monkeypatch, study):
    (tmp_path / "study.yaml").write_text((ROOT / f"config/studies/{study}.yaml").read_text())
    run = snakemake(tmp_path, "--dry-run")
    assert run.code == 0, run.text
    assert planned(run)["fetch_hcp"] == 1
    assert planned(run)["fit_b001"] == planned(run)["fit_b002"] == 1
    monkeypatch.chdir(tmp_path)
    assert counted() == rules(run)


def test_settings_with_quotes_and_spaces_reach_a_step_unharmed(tmp_path):
    """Parameters travel through a shell."""
    cohort = tmp_path / "it's a cohort"
    copy_subject(tmp_path, "01")
    (tmp_path / "cohort").rename(cohort)
    write_settings(tmp_path, input={"path": cohort.name, "atlas": "demo40"})
    run = snakemake(tmp_path, "results/cut/sub-01/sub-01_desc-connectome.zarr.zip")
    assert run.code == 0, run.text
    assert run.jobs == ("index_cohort", "preprocess_connectome_b001")
    assert "sub-01: ok" in (tmp_path / "logs/cut/index_cohort.log").read_text()


def test_the_defaults_run_the_demo_from_the_repository(tmp_path, monkeypatch):
    """`snakemake --cores all` without any file is the demo study."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "study.yaml").write_text("{}\n")
    run = snakemake(tmp_path, "--dry-run")
    assert run.code == 0, run.text
    subjects = json.dumps(planned(run))
    assert "fit_b001" in subjects and "fit_b002" in subjects and "fit_b003" not in subjects
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text((ROOT / "config/studies/demo.yaml").read_text())
    assert counted() == rules(run)
