"""Predictions of time, memory and disk before a study is started."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from toy_cohort import toy_config, write_cohort

from brainloom.cli import main
from brainloom.cohort.costs import control_count, typical_steps
from brainloom.cohort.jobs import Job, schedule, study_jobs
from brainloom.cohort.plan import plan_study
from brainloom.cohort.planning import Prediction, describe_prediction, predict
from brainloom.cohort.saved_plan import MEASURED, read_plan, read_probe
from brainloom.core.errors import ConfigError

# What the probe of a study of 80 regions says on a laptop.
PROBE = {
    "connectome_s": 1.0,
    "connectome_mb": 100.0,
    "connectome_bytes": 70_000,
    "signal_s": 0.3,
    "signal_start_s": 1.8,
    "signal_mb": 180.0,
    "signal_bytes": 850_000,
    "import_s": 2.5,
    "regions": 80,
    "coordinates": 322,
    "step_s": 0.002,
    "describe_s": 0.1,
    "fit_compile_s": 8.0,
    "fit_mb": 800.0,
    "fit_bytes": 150_000,
    "simulate_s": 0.3,
    "simulate_compile_s": 5.0,
    "simulate_share": 0.1,
    "segment_s": 120.0,
    "test_s": 430.0,
    "repetition_time": 0.72,
    "simulate_mb": 700.0,
    "simulation_bytes": 1_000_000,
    "subject": "01",
    "core_share": 0.97,
}


@pytest.fixture
def cohort(tmp_path, monkeypatch) -> Path:
    write_cohort(tmp_path / "cohort", ["01", "02", "03"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(*, subjects: int | None = None, cores: int = 2, **changes: object) -> Prediction:
    config = toy_config(**changes)
    return predict(config, plan_study(config), PROBE, cores=cores, subjects=subjects)


def seconds(found: Prediction) -> dict[str, float]:
    return {row.rule: row.total_s for row in found.rows}


def test_work_on_twice_the_subjects_is_twice_the_work(cohort):
    small, large, larger = (planned(subjects=n) for n in (800, 1600, 3200))
    for name in ("fit", "identify", "simulate", "analyse", "preprocess_signal"):
        first, second = (seconds(b)[name] - seconds(a)[name] for a, b in ((small, large), (large, larger)))
        assert second == pytest.approx(2 * first, rel=1e-9)  # what compiles once does not grow
        assert seconds(large)[name] / seconds(small)[name] == pytest.approx(2, rel=0.02)
    assert large.disk_mb == pytest.approx(2 * small.disk_mb, rel=1e-3)
    assert large.wall_s / small.wall_s == pytest.approx(2, rel=0.05)


def test_starts_controls_seeds_and_strengths_scale_the_rules_that_run_them(cohort):
    import_s, compile_s = PROBE["import_s"], PROBE["fit_compile_s"]

    def work(rule: str, **changes: object) -> float:
        # one batch of three subjects, less the start of its process and compiling
        parts = {"fit": 1.0, "reliability": 0.6}
        return seconds(planned(**changes))[rule] - import_s - parts[rule] * compile_s

    none = {"other_subject": False, "edge_shuffle": 0, "distance_shuffle": 0, "uniform": False}
    alone = {"analyse": {"controls": none | {"distance": False}}}
    described = 3 * PROBE["describe_s"]
    one = work("fit", fit={"starts": 1}, **alone) - described
    assert work("fit", fit={"starts": 3}, **alone) - described == pytest.approx(3 * one)
    twice = {"analyse": {"controls": none | {"distance": True}}}
    assert work("fit", fit={"starts": 1}, **twice) - 2 * described == pytest.approx(2 * one)
    grid = [
        work("reliability", reliability={"lambda": strengths}, **alone)
        for strengths in ([0.1, 0.01], [0.1, 0.03, 0.01, 0.001])
    ]
    assert grid[1] == pytest.approx(2 * grid[0])


def test_more_cores_are_faster_until_no_job_is_left_for_them(cohort):
    walls = [planned(subjects=40, cores=cores).wall_s for cores in (1, 2, 10, 1000)]
    assert walls[0] > walls[1] > walls[2]
    work = sum(row.total_s for row in planned(subjects=40).rows)
    assert walls[0] > work  # and snakemake itself
    longest = sum(row.job_s for row in planned(subjects=40).rows if row.rule not in ("identify",))
    assert longest - 20 < walls[3] < walls[2] + 1


def test_memory_is_that_of_the_jobs_that_run_side_by_side(cohort):
    one, two = (planned(subjects=8, cores=cores).memory_mb for cores in (1, 2))
    assert two == pytest.approx(2 * one) and one == PROBE["fit_mb"]
    assert planned(subjects=8, cores=64).memory_mb == two  # two batches
    large = planned(subjects=4000, cores=2)
    assert large.memory_mb == {row.rule: row.memory_mb for row in large.rows}["group"]  # it runs alone


def test_schedule_of_a_chain_and_of_independent_jobs():
    chain = [Job("preprocess_connectome", 0, 1), Job("preprocess_signal", 0, 1), Job("fit", 0, 1)]
    spent = [3.0, 5.0, 7.0]
    overhead = schedule(chain, [0.0, 0.0, 0.0], 2)
    assert schedule(chain, spent, 1) - schedule(chain, [0.0] * 3, 1) == pytest.approx(15.0)
    assert schedule(chain, spent, 2) - overhead == pytest.approx(12.0)
    assert schedule([], [], 2) == 0.0


def test_jobs_whose_files_are_there_are_not_left(cohort):
    config = toy_config()
    plan = plan_study(config)
    assert not any(job.done for job in study_jobs(config, plan))
    for label in ("01", "02", "03"):
        path = cohort / f"results/toy/sub-{label}/sub-{label}_desc-connectome.zarr.zip"
        path.parent.mkdir(parents=True)
        path.touch()
    found = planned(cores=1)
    assert {row.rule: row.left for row in found.rows}["preprocess_connectome"] == 0
    assert {row.rule: row.left for row in found.rows}["fit"] == 1
    assert found.left_wall_s < found.wall_s
    pretended = study_jobs(config, plan, 3)
    assert not any(job.done for job in pretended)


def test_counts_that_the_configuration_gives(cohort):
    config = toy_config()
    assert control_count(config, 3) == 7
    assert control_count(config, 1) == 6  # nobody else's connectome
    assert typical_steps(config, 10**6) == config["fit"]["max_steps"]
    jobs = Counter(job.rule for job in study_jobs(config, plan_study(config), 9))
    assert jobs["fit"] == 3 and jobs["group"] == 1 and "pool" not in jobs


def test_the_table_names_every_rule_and_the_totals(cohort):
    found = planned(pool={"rank": [4]}, reliability={"lambda": [0.1, 0.01]})
    text = describe_prediction(found)
    lines = text.splitlines()
    assert lines[0] == "study toy: 3 subjects on 2 cores"
    rules = [line.split()[0] for line in lines[3 : 3 + len(found.rows)]]
    assert rules == [row.rule for row in found.rows]
    assert {"pool", "reliability"} <= set(rules)
    assert lines[-1] == "On an idle machine, within a factor of 2 either way."
    assert [line.split()[0] for line in lines[-5:-1]] == ["time", "left", "memory", "disk"]
    loaded = describe_prediction(replace(found, wall_s=90.0, core_share=0.5)).splitlines()
    assert loaded[-1] == "This one is busy: the probe got 50% of a core; so loaded, the study takes 3 min."


def test_a_real_probe_of_a_tiny_cohort(cohort, capsys):
    """Measured, kept for the report, read again without measuring; nothing of the study is started."""
    (cohort / "study.yaml").write_text(
        "study: toy\ninput: {path: cohort, atlas: four}\nfit: {regional: [noise]}\nsimulate: {seeds: 2}\n"
    )
    assert main(["plan", "study.yaml", "--save", "--json", "mine.json", "--cores", "2"]) == 0
    text = capsys.readouterr().out
    kept = cohort / "results/toy/plan.json"
    assert sorted(path.name for path in kept.parent.rglob("*")) == ["plan.json"]
    assert json.loads(Path("mine.json").read_text()) == json.loads(kept.read_text())
    found = read_plan(kept)
    assert set(found["probe"]) == set(PROBE) == set(MEASURED)
    assert found["probe"]["regions"] == 4 and found["probe"]["coordinates"] == 6
    assert 0.3 < found["probe"]["import_s"] < 60 and 50 < found["probe"]["fit_mb"] < 5000
    assert {"study", "subjects", "cores", "rows", "wall_s", "memory_mb", "disk_mb", "uncertainty"} <= set(
        found["prediction"]
    )
    assert main(["plan", "study.yaml", "--no-probe", "--cores", "2"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cores", "0"], "--cores is 0; it must be at least 1"),
        (["--subjects", "-2"], "--subjects is -2; it must be at least 1"),
        (["--subjects", "9", "--save"], "--save keeps the plan of the study as it is; leave out --subjects"),
        (
            ["--no-probe"],
            "results/toy/plan.json is not there yet; run brainloom plan with --save and without --no-probe",
        ),
    ],
)
def test_wrong_arguments_are_told_in_one_sentence(cohort, capsys, words, said):
    (cohort / "study.yaml").write_text("study: toy\ninput: {path: cohort, atlas: four}\n")
    assert main(["plan", "study.yaml", *words]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_cohort_that_cannot_be_probed_is_told_with_the_reason(cohort, capsys):
    for run in (cohort / "cohort").rglob("*_timeseries.tsv"):
        run.write_text("\n".join(run.read_text().splitlines()[:12]) + "\n")
    (cohort / "study.yaml").write_text('study: toy\ninput: {path: cohort, atlas: four}\nsubjects: ["02"]\n')
    assert main(["plan", "study.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: no subject could be used for the probe: cohort/sub-02/func/sub-02_task-rest"
    )
    assert "add a longer run or leave the subject out" in said
    assert said.count("\n") == 1


def test_a_damaged_plan_is_named(tmp_path):
    path = tmp_path / "plan.json"
    assert read_plan(path) == {}
    path.write_text('{"prediction": {"rows": []}}')
    with pytest.raises(ConfigError, match=r"plan\.json is not a plan of a study; delete it"):
        read_plan(path)
    path.write_text('{"prediction": {"rows": [{"total_s": 1, "memory_mb": 2}]}, "probe": {"step_s": 1}}')
    assert read_plan(path)["probe"] == {"step_s": 1}  # enough for a report
    with pytest.raises(ConfigError, match="make it anew with brainloom plan --save"):
        read_probe(path)


def test_a_study_without_simulation_is_planned_without_it(cohort):
    found = planned(simulate={"seeds": 0}, subjects=100)
    assert "simulate" not in seconds(found) and found.wall_s < planned(subjects=100).wall_s
    assert seconds(found)["analyse"] < seconds(planned(subjects=100))["analyse"]
