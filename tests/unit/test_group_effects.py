"""Tests of covariates: designs, the group step with its table and report, and what is refused before any compute."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ou_cohort import ANALYSE, GROUP, KINDS, LABELS, params, store, subject_inputs
from scipy import stats

from brainloom.analysis.covariates import make_design
from brainloom.analysis.group_effects import effects_part, estimates_of, with_motion
from brainloom.cohort.check import check_study
from brainloom.cohort.covariates import covariate_problems
from brainloom.core.config import validate_config
from brainloom.core.errors import DataError
from brainloom.io.participants import Covariate, read_covariates
from brainloom.report.html import write_report
from brainloom.report.results import Results, read_benchmarks, read_tables
from brainloom.steps.analyse import main as analyse
from brainloom.steps.group import main
from brainloom.store import read_dataset

SUBJECTS = [f"{k:02d}" for k in range(1, 9)]
AGE = dict(zip(SUBJECTS, (23.0, 31.0, 38.0, 44.0, 52.0, 59.0, 66.0, 71.0), strict=True))
GROUPS = dict(zip(SUBJECTS, "PCPCCPCP", strict=True))
TESTS = [{"covariate": "age", "nuisance": ["motion"]}, {"covariate": "diagnosis"}, {"covariate": "hand"}]
AFFECTED = 3  # a region whose rate grows with age
ALL = {name: Covariate(name, cells, name != "age") for name, cells in (("age", AGE), ("diagnosis", GROUPS))}


def write_participants(folder, *, lacks=()):
    lines = ["participant_id\tage\tdiagnosis\thand"]
    for label in SUBJECTS:
        age = "n/a" if label in lacks else f"{AGE[label]:g}"
        lines.append(f"sub-{label}\t{age}\t{'patient' if GROUPS[label] == 'P' else 'control'}\tright")
    path = folder / "participants.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects")
    random = np.random.default_rng(0)
    files = []
    for label in SUBJECTS:
        inputs = subject_inputs(int(label), n=200)
        estimate = inputs["posterior"]["estimate"].values * np.exp(0.1 * random.normal(size=(2, len(LABELS))))
        estimate[0] = estimate[0, 0]
        estimate[1, AFFECTED] *= np.exp(0.06 * (AGE[label] - 48.0))
        inputs["posterior"]["estimate"][:] = estimate
        stored = store(folder, inputs)
        stored["metrics"] = folder / f"sub-{label}" / "metrics.zarr.zip"
        lists = [w for k in ("connectome", "signal", "fit", "simulation") for w in (f"--{k}", str(stored[k]))]
        assert analyse([*lists, "--output", str(stored["metrics"]), *params(ANALYSE)]) == 0
        files.append(stored)
    (folder / "index.tsv").write_text(
        "subject\tincluded\treason\n" + "".join(f"{label}\tyes\t\n" for label in SUBJECTS)
    )
    return folder, files


def run(cohort, tests, *, lacks=(), harmonise=None):
    folder, files = cohort
    settings = GROUP | {
        "group": {"mixture": False, "tests": tests, "permutations": 2000, "harmonise": harmonise}
    }
    lists = [word for kind in KINDS for word in (f"--{kind}", *(str(f[kind]) for f in files))]
    code = main(
        [
            *("--index", str(folder / "index.tsv"), *lists, "--output", str(folder / "group.zarr.zip")),
            *("--tables", str(folder / "t"), "--participants", str(write_participants(folder, lacks=lacks))),
            *params(settings),
        ]
    )
    assert code == 0
    return settings


def test_the_group_step_tests_finds_and_reports(cohort):
    folder, files = cohort
    settings = run(cohort, TESTS, lacks=("04",))
    table = pd.read_csv(folder / "t" / "effects.tsv", sep="\t")
    assert " ".join(table.columns) == "test parameter region statistic estimate lower upper p p_fwe p_fdr n"
    found = table.set_index(["test", "parameter", "region", "statistic"])
    age, motion, rate, coupling = [], [], [], []
    for label, stored in zip(SUBJECTS, files, strict=True):
        if label != "04":
            age.append(AGE[label])
            motion.append(read_dataset(stored["signal"]).attrs["dvars_median"])
        estimate = read_dataset(stored["posterior"])["estimate"].values
        rate.append(np.log(-estimate[1]))
        coupling.append(np.log(estimate[0, 0]))
    design = np.column_stack([np.ones(7), motion, age])
    used = [k for k, label in enumerate(SUBJECTS) if label != "04"]
    slope = np.linalg.lstsq(design, np.array(rate)[used], rcond=None)[0][-1]
    for region, expected in zip(LABELS, slope, strict=True):
        row = found.loc[("age | motion", "gamma", region, "slope")]
        # parameters.tsv has ten digits, effects.tsv six.
        assert row["estimate"] == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert row["lower"] < row["estimate"] < row["upper"]
        assert row["n"] == 7
    planted = found.loc[("age | motion", "gamma", LABELS[AFFECTED], "partial_r")]
    assert planted["estimate"] > 0.9
    assert planted["p"] < 0.01
    assert planted["p"] <= planted["p_fwe"] < 0.05
    patient = np.array([GROUPS[label] == "P" for label in SUBJECTS])
    coupling = np.array(coupling)
    t = found.loc[("diagnosis", "coupling", "global", "t")]
    expected = stats.ttest_ind(coupling[patient], coupling[~patient])
    assert t["estimate"] == pytest.approx(expected.statistic, rel=1e-4)
    assert t["p"] == t["p_fwe"] == pytest.approx(round(t["p"] * 70) / 70, rel=1e-4)  # of 70 assignments
    ps = table[table["statistic"] == "t"]
    np.testing.assert_allclose(ps["p_fdr"], stats.false_discovery_control(ps["p"]), rtol=1e-4)
    assert len(table) == 2 * 3 * (1 + len(LABELS))

    ds = read_dataset(folder / "group.zarr.zip")
    gamma = ds["effect_size"].values[0, ds["effect_parameter"].values == "gamma"]
    assert gamma[AFFECTED] == pytest.approx(planted["estimate"], rel=1e-5)
    assert ds["effect_identified"].values.tolist() == [1.0] + [0.0] * len(LABELS)
    notes = json.loads(ds.attrs["effect_notes"])
    assert "Left out of test age | motion: sub-04 (no age)." in notes
    assert "Test hand was not made: hand has one value only" in " ".join(notes)
    assert any("8 subjects (4 control, 4 patient); effects of |d| 2." in note for note in notes)

    page = folder / "report.html"
    results = Results(
        "ou",
        **read_tables(folder / "t"),
        datasets={},
        group=folder / "group.zarr.zip",
        params=settings,
        benchmarks=read_benchmarks(None),
    )
    write_report(results, output=page, provenance=folder / "provenance.json")
    text = page.read_text()
    section = text[text.index('id="effects"') : text.index('<section id="agreement"')]
    assert "Left out of test age | motion: sub-04 (no age)." in section
    heads = re.findall("<h4>(.*?)</h4>", section)
    assert heads == ["Age, adjusted for motion", "Diagnosis (patient minus control)"]
    first = section[section.index("<tbody>") :]
    assert LABELS[AFFECTED] in first[: first.index("</tr>")]
    assert section.count('id="fig-effects-') == 2


def test_without_tests_there_is_no_table_and_none_is_left(cohort):
    folder, _ = cohort
    run(cohort, TESTS[:1])
    assert (folder / "t" / "effects.tsv").is_file()
    run(cohort, [])
    assert not (folder / "t" / "effects.tsv").exists()
    assert not [
        name for name in read_dataset(folder / "group.zarr.zip").variables if name.startswith("effect_")
    ]


def test_tests_that_cannot_be_made_leave_an_empty_table_and_a_reason(cohort):
    folder, _ = cohort
    run(cohort, TESTS[2:])
    assert len((folder / "t" / "effects.tsv").read_text().splitlines()) == 1
    assert "was not made" in json.loads(read_dataset(folder / "group.zarr.zip").attrs["effect_notes"])[0]


def rows_of(values, parameter="a", identified="yes"):
    """Rows of parameters.tsv from (subject, region) values."""
    return [
        (subject, "M", parameter, f"r{k}", str(value), "0", "0", "1", identified)
        for subject, line in values.items()
        for k, value in enumerate(line)
    ]


def test_scale_follows_the_sign_and_incomplete_subjects_are_left_out():
    rows = rows_of({"1": (-1.0, -2.0), "2": (-3.0, -4.0), "3": (-1.0, float("nan"))})
    rows += rows_of({"1": (-1.0,), "2": (3.0,), "3": (1.0,)}, "b")
    found = estimates_of(rows)
    assert found.subjects == ["1", "2"]
    assert found.scales == {"a": "log", "b": "linear"}
    np.testing.assert_allclose(found.values, [[0.0, np.log(2), -1.0], [np.log(3), np.log(4), 3.0]])
    settings = {"tests": [{"covariate": "age"}], "permutations": 100, "harmonise": None}
    assert "as an estimate is missing: sub-3" in effects_part(rows, {}, settings, 0)[2][0]


def test_harmonised_sites_no_longer_hide_an_effect():
    """Two sites that differ in mean and spread; age is balanced over them."""
    random = np.random.default_rng(1)
    labels = [str(k) for k in range(40)]
    age = {label: float(20 + 2 * (k // 2)) for k, label in enumerate(labels)}
    site = {label: "ab"[k % 2] for k, label in enumerate(labels)}
    values = {}
    for label in labels:
        shift, scale = (4.0, 0.7) if site[label] == "b" else (0.0, 0.3)
        values[label] = np.exp(shift + 0.03 * (age[label] - 40) + scale * random.normal(size=6))
    covariates = {"age": Covariate("age", age, False), "site": Covariate("site", site, True)}
    test = {"tests": [{"covariate": "age"}], "permutations": 500}
    plain, harmonised = (
        effects_part(rows_of(values), covariates, test | {"harmonise": column}, 0)[1]
        for column in (None, "site")
    )
    assert float(plain["effect_p_fwe"].min()) > 0.05
    assert float(harmonised["effect_p_fwe"].max()) < 0.05
    # Standard error of a slope: 0.5 / (sqrt(40) * 11.5) = 0.007; mean of six regions, three of them.
    assert float(harmonised["effect_slope"].mean()) == pytest.approx(0.03, abs=0.01)


def test_harmonised_sites_keep_the_error_rate_where_groups_are_uneven():
    """100 cohorts without an effect; 85 % of one site and 15 % of the other are patients, the sites differ."""
    random = np.random.default_rng(2)
    n, wrong = 40, 0
    place = np.arange(n) % 2
    labels = [f"{k:02d}" for k in range(n)]
    site = Covariate("site", dict(zip(labels, np.array(["a", "b"])[place].tolist(), strict=True)), True)
    for seed in range(100):
        patient = random.random(n) < np.where(place == 0, 0.85, 0.15)
        group = dict(zip(labels, np.where(patient, "p", "c").tolist(), strict=True))
        noise = random.normal(size=(n, 10)) * np.array([0.5, 1.0])[place][:, None]
        values = dict(zip(labels, np.exp(noise + place[:, None]), strict=True))
        known = {"site": site, "diagnosis": Covariate("diagnosis", group, True)}
        settings = {"tests": [{"covariate": "diagnosis"}], "permutations": 200, "harmonise": "site"}
        _, ds, _ = effects_part(rows_of(values), known, settings, seed)
        wrong += bool(ds["effect_p_fwe"].min() <= 0.05)
    # Binomial of 100 at 0.05: mean 5, standard deviation 2.2; three of them. Without means of sites in the test: near 25.
    assert wrong <= 11


def test_designs():
    both = [*SUBJECTS]
    design = make_design({"covariate": "diagnosis", "nuisance": ["age"]}, ALL, both)
    assert design.name == "diagnosis | age"
    assert (design.levels, design.counts) == (("C", "P"), (4, 4))
    assert design.interest[:, 0].tolist() == [float(GROUPS[label] == "P") for label in SUBJECTS]
    three = dict(zip(SUBJECTS, "aabbbccc", strict=True))
    assert make_design({"covariate": "x"}, {"x": Covariate("x", three, True)}, both).interest.shape == (8, 2)
    codes = {label: 1.0 + (GROUPS[label] == "P") for label in SUBJECTS}
    assert make_design({"covariate": "x"}, {"x": Covariate("x", codes, False)}, both).levels == ("1", "2")


@pytest.mark.parametrize(
    ("test", "subjects", "said"),
    [
        ({"covariate": "sex"}, SUBJECTS, "sex is not among the covariates age, diagnosis"),
        ({"covariate": "age", "nuisance": ["copy"]}, SUBJECTS, "cannot be told from that of copy"),
        ({"covariate": "diagnosis"}, ["01", "02", "04"], "has a group of one subject (P)"),
        ({"covariate": "age", "nuisance": ["diagnosis"]}, SUBJECTS[:4], "4 subjects are too few"),
        ({"covariate": "age"}, ["01"], "age has one value only in the 1 subjects"),
    ],
)
def test_impossible_designs_are_refused_in_a_sentence(test, subjects, said):
    known = dict(ALL)
    if "copy" in test.get("nuisance", ()):
        known["copy"] = Covariate("copy", {label: 3 * age - 7 for label, age in AGE.items()}, False)
    with pytest.raises(ValueError, match=re.escape(said)):
        make_design(test, known, subjects)


def test_columns_of_participants(tmp_path):
    path = write_participants(tmp_path, lacks=("02",))
    found = read_covariates(path)
    assert list(found) == ["age", "diagnosis", "hand"]
    assert found["age"].values["01"] == 23.0
    assert "02" not in found["age"].values
    assert not found["age"].categorical
    path.with_suffix(".json").write_text('{"age": {"Levels": {"23": "young"}}}')
    assert read_covariates(path)["age"].categorical
    assert read_covariates(path)["age"].values["01"] == "23"
    path.write_text("participant_id\tage\n01\t3\nsub-01\t4\n")
    with pytest.raises(DataError, match=r"participants\.tsv: participant_id sub-01 is listed twice"):
        read_covariates(path)


def test_motion_is_of_one_unit_and_a_column_of_that_name_wins():
    motion = {"1": (1.0, "percent of mean"), "2": (2.0, "percent of mean"), "3": (0.5, "standard deviations")}
    assert with_motion({}, motion)["motion"].values == {"1": 1.0, "2": 2.0}
    own = Covariate("motion", {"1": 9.0}, False)
    assert with_motion({"motion": own}, motion)["motion"] is own


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (
            {"tests": [{"covariate": "sex"}]},
            "names sex, which is no column of {0}; the table has age, diagnosis, hand",
        ),
        (
            {"tests": [{"covariate": "age"}], "harmonise": "site"},
            "group.harmonise names site, which is no column",
        ),
        ({"tests": [{"covariate": "hand"}]}, "{0}: test hand cannot be made: hand has one value only"),
        ({"tests": [{"covariate": "age"}], "harmonise": "hand"}, "{0}: All subjects are of one site (right)"),
        ({"tests": [{"covariate": "age", "nuisance": ["motion"]}]}, ""),
        ({"tests": [{"covariate": "motion"}]}, ""),
    ],
)
def test_covariates_are_checked_before_any_compute(tmp_path, group, said):
    path = write_participants(tmp_path)
    config = validate_config({"group": group, "input": {"path": str(tmp_path)}})
    problems = covariate_problems(config, SUBJECTS)
    assert len(problems) == bool(said)
    if said:
        assert said.format(path) in problems[0]


def test_check_of_a_study_names_the_column_that_is_not_there(monkeypatch):
    """The demo cohort has no covariates."""
    monkeypatch.chdir(Path(__file__).parents[2])
    config = validate_config({"group": {"tests": [{"covariate": "age"}]}})
    assert check_study(config)[0] == [
        "group.tests names age, which is no column of data/demo/participants.tsv; the table has no column but participant_id"
    ]
