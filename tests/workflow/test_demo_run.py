"""The workflow on part of the demo cohort: one bad subject, second run, changed key, new subject, report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from study import Run, copy_subject, environment, snakemake, steps, table, write_settings

from brainloom.cli import main
from brainloom.cohort.layout import KINDS, dataset
from brainloom.store import is_failed, read_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GOOD, BAD, NEW = ("01", "02"), "03", "04"
PER_SUBJECT = ("preprocess_connectome", "preprocess_signal", "fit", "identify", "simulate", "analyse")


def spoil(folder: Path, subject: str) -> str:
    """Make one region of a subject NaN in all frames; returns its name."""
    path = next((folder / f"cohort/sub-{subject}/func").glob("*run-1*_timeseries.tsv"))
    header, *lines = (line.split("\t") for line in path.read_text().splitlines())
    rows = [header, *(["nan", *line[1:]] for line in lines)]
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return header[0]


def datasets(folder: Path) -> dict[str, bytes]:
    """Content of every dataset of the study, by its path."""
    found = sorted((folder / "results/cut").glob("sub-*/*.zarr.zip"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def brainloom(folder: Path, *words: str) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "brainloom.cli", *words]
    return subprocess.run(call, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two good subjects and a bad one, in one batch."""
    path = tmp_path_factory.mktemp("workflow")
    for subject in (*GOOD, BAD):
        copy_subject(path, subject)
    write_settings(path)
    return path


@pytest.fixture(scope="module")
def spoiled(folder) -> str:
    return spoil(folder, BAD)


@pytest.fixture(scope="module")
def first(folder, spoiled) -> Run:
    return snakemake(folder)


@pytest.fixture(scope="module")
def first_datasets(folder, first) -> dict[str, bytes]:
    return datasets(folder)


@pytest.fixture(scope="module")
def second(folder, first, first_datasets) -> Run:
    return snakemake(folder)


@pytest.fixture(scope="module")
def reseeded(folder, second) -> Run:
    write_settings(folder, simulate={"seeds": 3, "transient": 20.0})
    return snakemake(folder)


@pytest.fixture(scope="module")
def reseeded_datasets(folder, reseeded) -> dict[str, bytes]:
    return datasets(folder)


@pytest.fixture(scope="module")
def added(folder, reseeded_datasets) -> Run:
    copy_subject(folder, NEW)
    return snakemake(folder)


def test_the_first_run_computes_everything(first):
    assert first.code == 0, first.text
    assert set(first.jobs) == {
        "index_cohort",
        "group",
        "report",
        "all",
        *(f"{step}_b001" for step in PER_SUBJECT),
    }
    assert first.jobs[0] == "index_cohort"


def test_every_subject_gets_every_dataset(first_datasets):
    wanted = {dataset("cut", subject, kind) for subject in (*GOOD, BAD) for kind in KINDS}
    assert set(first_datasets) == wanted


def test_the_tables_have_their_rows(folder, first):
    results = folder / "results/cut"
    scores = table(results / "metrics.tsv")
    assert {row["subject"] for row in scores} == {*GOOD, "group"}
    held_out = [
        r for r in scores if (r["split"], r["predictor"], r["metric"]) == ("test", "model_analytic", "fc_r")
    ]
    assert len(held_out) == 3
    assert all(-1 < float(row["value"]) < 1 for row in held_out)
    assert {row["subject"] for row in table(results / "parameters.tsv")} == set(GOOD)
    assert json.loads((results / "provenance.json").read_text())
    assert "<html" in (results / "report.html").read_text()[:2000].lower()


def test_each_job_leaves_a_log_and_a_benchmark(folder, first):
    for job in [f"{step}/b001" for step in PER_SUBJECT] + ["index_cohort", "group", "report"]:
        assert (folder / f"logs/cut/{job}.log").is_file()
        header, values = (folder / f"results/cut/benchmarks/{job}.tsv").read_text().splitlines()
        assert float(dict(zip(header.split("\t"), values.split("\t"), strict=True))["s"]) > 0


def test_a_bad_subject_is_left_out_with_its_reason_and_the_others_go_on(folder, first, spoiled):
    rows = {row["subject"]: row for row in table(folder / "results/cut/cohort.tsv")}
    assert [rows[subject]["included"] for subject in (*GOOD, BAD)] == ["yes", "yes", "no"]
    assert spoiled in rows[BAD]["reason"] and f"sub-{BAD}" in rows[BAD]["reason"]
    assert spoiled in {row["subject"]: row for row in table(folder / "results/cut/index.tsv")}[BAD]["reason"]
    for kind in KINDS[1:]:
        assert is_failed(read_dataset(folder / dataset("cut", BAD, kind)))
        assert not is_failed(read_dataset(folder / dataset("cut", GOOD[0], kind)))


def test_the_end_of_a_run_says_who_is_out_and_why(first, spoiled):
    summary = first.text[first.text.index("study cut:") :]
    assert summary.startswith("study cut: 2 of 3 subjects included, 1 excluded\nexcluded sub-03: ")
    assert spoiled in summary.splitlines()[1]


def test_status_and_check_return_1_for_an_excluded_subject(folder, first, spoiled):
    status = brainloom(folder, "status", "cut")
    assert status.returncode == 1, status.stderr
    assert "excluded sub-03: " in status.stdout
    check = brainloom(folder, "check", "study.yaml")
    assert check.returncode == 1
    assert spoiled in check.stdout


def test_every_dataset_can_be_shown_and_exported(folder, first, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for place, path in enumerate(
        [*(dataset("cut", GOOD[0], kind) for kind in KINDS), "results/cut/group.zarr.zip"]
    ):
        assert main(["show", path]) == 0
        to = ("zarr", "netcdf")[place % 2]
        assert main(["export", path, "--to", to, "--output", str(tmp_path / f"{place}.{to}")]) == 0
    assert capsys.readouterr().err == ""


def test_a_second_run_does_nothing(second, first_datasets, folder):
    assert second.code == 0
    assert "Nothing to be done" in second.text
    assert second.jobs == ()


def test_a_changed_key_reruns_only_the_steps_that_read_it(reseeded, first_datasets, reseeded_datasets):
    assert reseeded.code == 0, reseeded.text
    assert steps(reseeded) == {"simulate", "analyse", "group", "report"}
    changed = {path for path in first_datasets if first_datasets[path] != reseeded_datasets[path]}
    kinds = (
        "simulation",
        "metrics",
    )  # of the bad subject, whose failure also records settings and inputs, too
    assert changed == {dataset("cut", subject, kind) for subject in (*GOOD, BAD) for kind in kinds}


def test_a_new_subject_runs_alone_then_group_and_report(folder, added, reseeded_datasets):
    assert added.code == 0, added.text
    assert set(added.jobs) == {
        "index_cohort",
        "group",
        "report",
        "all",
        *(f"{step}_b002" for step in PER_SUBJECT),
    }
    after = datasets(folder)
    assert {path: after[path] for path in reseeded_datasets} == reseeded_datasets
    assert set(after) - set(reseeded_datasets) == {dataset("cut", NEW, kind) for kind in KINDS}
    assert NEW in {row["subject"] for row in table(folder / "results/cut/metrics.tsv")}


def test_a_bad_recording_leaves_its_connectome_to_the_control_of_another(folder, added):
    """The new subject entered after the bad one, whose connectome is in order."""
    fit = read_dataset(folder / dataset("cut", NEW, "fit"))
    assert list(fit["predictor"].values) == ["model", "control_other_subject"]


def test_results_do_not_depend_on_the_batch(folder, added, tmp_path):
    """Subject 01, computed with two others above, is computed by itself."""
    copy_subject(tmp_path, GOOD[0])
    copy_subject(tmp_path, GOOD[1])
    write_settings(tmp_path, simulate={"seeds": 3, "transient": 20.0}, subjects_per_job=1)
    target = dataset("cut", GOOD[0], "fit")
    alone = snakemake(tmp_path, target)
    assert alone.code == 0, alone.text
    assert "fit_b001" in alone.jobs and "fit_b002" not in alone.jobs
    assert (tmp_path / target).read_bytes() == (folder / target).read_bytes()


def test_snakemake_s_own_report_is_made(folder, added):
    made = snakemake(folder, "--report", "snakemake-report.html")
    assert made.code == 0, made.text
    page = (folder / "snakemake-report.html").read_text()
    for text in ("Cohort report", "Tables", "Provenance", "metrics.tsv", "report.html"):
        assert text in page
