"""The plan of a study counts the jobs that snakemake would run."""

from collections import Counter

from study import copy_subject, snakemake, write_settings
from test_before_the_run import planned

from brainloom.cohort.jobs import study_jobs
from brainloom.cohort.plan import plan_study
from brainloom.core.config import load_config, validate_config


def counted() -> Counter[str]:
    """Jobs of a rule, in the current folder."""
    config = validate_config(load_config("study.yaml"), "study.yaml")
    return Counter(job.rule for job in study_jobs(config, plan_study(config)))


def of_snakemake(folder) -> Counter[str]:
    run = snakemake(folder, "--dry-run")
    assert run.code == 0, run.text
    jobs: Counter[str] = Counter()
    for name, count in planned(run).items():
        if name not in ("total", "all"):
            jobs[name.rsplit("_b", 1)[0] if name[-3:].isdigit() else name] += count
    return jobs


def test_with_pooling_and_reliability(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for subject in ("01", "02", "03"):
        copy_subject(tmp_path, subject)
    write_settings(tmp_path, pool={"rank": [2]}, reliability={"lambda": [0.1, 0.01]}, subjects_per_job=2)
    assert counted() == of_snakemake(tmp_path)
    assert counted()["reliability"] == 2 and counted()["pool"] == 1
