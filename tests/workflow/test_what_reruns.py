"""Which connectomes are read again when files, settings and subjects change: the cheapest step stands for all."""

import os
from pathlib import Path

import pytest
from study import Run, copy_subject, snakemake, write_settings

from brainloom.cohort.layout import dataset

INDEX = "index_cohort"
B1, B2 = "preprocess_connectome_b001", "preprocess_connectome_b002"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two subjects whose connectomes are done."""
    for subject in ("01", "02"):
        copy_subject(tmp_path, subject)
    write_settings(tmp_path)
    assert set(connectomes(tmp_path, "01", "02").jobs) == {INDEX, B1}
    return tmp_path


def connectomes(folder: Path, *subjects: str) -> Run:
    run = snakemake(folder, *(dataset("cut", subject, "connectome") for subject in subjects))
    assert run.code == 0, run.text
    return run


def weights(folder: Path, subject: str) -> Path:
    return next((folder / f"cohort/sub-{subject}/dwi").glob("*weight_relmat.tsv"))


def test_a_new_subject_and_a_changed_key_at_once_reach_everybody(folder):
    """Snakemake overlooks the changed key behind a rerun index, were the index no checkpoint."""
    copy_subject(folder, "03")
    write_settings(folder, connectome={"transform": "log"})
    assert set(connectomes(folder, "01", "02", "03").jobs) == {INDEX, B1, B2}
    assert connectomes(folder, "01", "02", "03").jobs == ()


def test_a_changed_file_reruns_its_batch_and_a_touched_one_nothing(folder):
    os.utime(weights(folder, "01"))
    assert connectomes(folder, "01", "02").jobs == ()
    path = weights(folder, "01")
    header, rest = path.read_text().split("\n", 1)
    path.write_text(header + "\n" + rest.replace("\t1", "\t2"))
    assert set(connectomes(folder, "01", "02").jobs) == {INDEX, B1}


def test_subjects_come_and_go_without_work_for_the_others(folder):
    copy_subject(folder, "03")
    assert set(connectomes(folder, "01", "02", "03").jobs) == {INDEX, B2}
    write_settings(folder, subjects=["01", "03"])
    assert connectomes(folder, "01", "03").jobs == (INDEX,)
    write_settings(folder, subjects_per_job=1)
    assert connectomes(folder, "01", "02", "03").jobs == (INDEX,)
