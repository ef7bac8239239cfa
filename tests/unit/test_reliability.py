"""Regularisation between fit and reliability: the choice, what it may see, the step and the group's part."""

import numpy as np
import pandas as pd
import pytest
from ou_cohort import (
    ANALYSE,
    GROUP,
    KINDS,
    SIGNAL,
    TR,
    N,
    draw,
    jacobian_of,
    params,
    store,
    subject_inputs,
    weights_of,
)

from brainloom.analysis.fc import fc_correlation
from brainloom.analysis.features import fc_of_part, features
from brainloom.analysis.group_stats import icc31, paired_comparison
from brainloom.analysis.reliability import assess
from brainloom.analysis.splits import halves
from brainloom.cohort.reliability import PARTS
from brainloom.steps.analyse import main as analyse
from brainloom.steps.group import main as group
from brainloom.steps.reliability import main, model_for_interpretation
from brainloom.store import failed_dataset, read_dataset

S, L, C = 5, 4, 6
FIELDS = {"gamma": slice(0, 3), "noise": slice(3, 6)}


def arrays(seed=0):
    """Fits of five subjects: the stronger the penalty, the more alike the halves of the training part."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(S, 1, 1, C))
    spread = np.array([0.1, 0.3, 1.0, 3.0])[:, None, None]
    theta = own + spread * rng.normal(size=(S, L, len(PARTS), C))
    validation = (
        np.array([0.60, 0.69, 0.70, 0.705]) + 0.05 * rng.normal(size=(S, 1)) + 0.01 * rng.normal(size=(S, L))
    )
    fc = np.stack([[np.corrcoef(rng.normal(size=(7, 30))) for _ in range(L)] for _ in range(S)])
    test_fc = fc[:, 1] + 0.05 * rng.normal(size=(S, 7, 7))
    test = 0.7 + 0.02 * rng.normal(size=(S, L, 3)) - np.array([0.0, 0.05, 0.0])
    return theta, validation, fc, test_fc, test


def assessed(theta, validation, fc, test_fc, test):
    names = ["model", "control_uniform", "control_distance"]
    other_fc = 0.9 * fc + 0.1 * np.eye(7)
    return assess(theta, validation, FIELDS, fc, other_fc, test_fc, test, names, 0)


def test_the_choice_is_the_most_reliable_within_one_standard_error():
    theta, validation, *rest = arrays()
    found = assessed(theta, validation, *rest)
    mean = validation.mean(axis=0)
    best = int(np.argmax(mean))
    error = (validation[:, [best]] - validation).std(axis=0, ddof=1) / np.sqrt(S)
    near = np.flatnonzero(mean >= mean[best] - error)
    assert 0 not in near and len(near) > 1  # the strongest is far behind, and there is something to choose
    inside = [icc31(np.stack([theta[:, k, 2], theta[:, k, 3]], axis=1)) for k in range(L)]
    median = np.array([[np.median(row[part]) for part in FIELDS.values()] for row in inside])
    np.testing.assert_allclose(found.icc_inside, median, rtol=1e-12)
    assert found.chosen == near[np.argmax(median[near].mean(axis=1))]


def test_held_out_data_choose_nothing():
    theta, validation, fc, test_fc, test = arrays()
    before = assessed(theta, validation, fc, test_fc, test)
    rng = np.random.default_rng(5)
    moved = theta.copy()
    moved[:, :, PARTS.index("test")] = rng.normal(size=moved[:, :, 1].shape)
    after = assessed(moved, validation, fc, test_fc + rng.normal(size=test_fc.shape), rng.random(test.shape))
    assert after.chosen == before.chosen
    np.testing.assert_array_equal(after.icc_inside, before.icc_inside)
    assert np.abs(after.icc_halves - before.icc_halves).max() > 0.1
    # fits that agree discriminate, fits to noise do not; with five subjects the smallest p is one in 120
    own, none = (found.discriminability[0, "parameters"] for found in (before, after))
    assert own.value == 1.0 and own.p_value == pytest.approx(1 / 120)
    assert none.value < 0.8 and before.discriminability[0, "fc"].value == 1.0


def test_what_the_connectome_is_worth_is_a_paired_comparison():
    theta, validation, fc, test_fc, test = arrays()
    found = assessed(theta, validation, fc, test_fc, test)
    expected = paired_comparison(test[:, 2, 0], test[:, 2, 1], seed=0)
    assert found.comparisons[2, "control_uniform"] == expected
    assert expected.mean > 0.0
    gap = test.copy()
    gap[1, 2, 1] = np.nan
    assert assessed(theta, validation, fc, test_fc, gap).comparisons[2, "control_uniform"].n == S - 1


def test_two_subjects_are_too_few():
    theta, validation, fc, test_fc, test = arrays()
    with pytest.raises(ValueError, match="needs at least 3 of them, got 2"):
        assessed(theta[:2], validation[:2], fc[:2], test_fc[:2], test[:2])


def test_halves_share_no_frame():
    runs = [np.arange(100.0)[:, None] * np.ones(2), 200 + np.arange(61.0)[:, None] * np.ones(2)]
    first, second = halves(runs)
    seen = [np.concatenate([piece[:, 0] for piece in part]) for part in (first, second)]
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate([run[:, 0] for run in runs]))
    assert abs(len(seen[0]) - len(seen[1])) <= 1
    with pytest.raises(ValueError, match="half of the training part has fewer than"):
        halves([np.zeros((8, 2))])


def test_fc_of_a_part_is_that_of_its_features():
    x = draw(jacobian_of(weights_of(1)), 300, 5)
    whole = features([x[:150], x[150:]], TR, SIGNAL)
    fc, dof = fc_of_part([x[:150], x[150:]], TR, SIGNAL)
    np.testing.assert_array_equal(fc, whole["fc"])
    assert dof == whole["effective_dof"]


STUDY = {
    **GROUP,
    "model": {"name": "LinearStep", "parameters": {"gamma": -0.1}},
    "fit": {
        "lambda": 0.001,
        "margin": 0.01,
        "max_steps": 60,
        "through_band": True,
        "objective": {"fc": 1.0, "lag1": 0.0},
        "global": ["coupling"],
        "regional": ["local", "noise"],
    },
    "controls": {
        "other_subject": True,
        "edge_shuffle": 1,
        "distance_shuffle": 0,
        "uniform": True,
        "distance": False,
    },
    "reliability": {"lambda": [0.003, 0.1], "regional": None},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reliability")
    files, curves = [], []
    for k in range(1, 5):
        inputs = subject_inputs(k, n=400)
        more = {"homotope": ("region", np.arange(N) ^ 1)}
        lengths = (("region", "region_to"), 50.0 + np.abs(np.subtract.outer(np.arange(N), np.arange(N))))
        inputs["connectome"] = inputs["connectome"].assign_coords(more).assign(lengths=lengths)
        stored = store(folder, inputs)
        stored["metrics"] = folder / f"metrics{k}.zarr.zip"
        lists = [
            w for one in ("connectome", "signal", "fit", "simulation") for w in (f"--{one}", str(stored[one]))
        ]
        assert analyse([*lists, "--output", str(stored["metrics"]), *params(ANALYSE)]) == 0
        files.append(stored)
        curves.append(folder / f"reliability{k}.zarr.zip")
    words = [
        "--connectome",
        *(str(f["connectome"]) for f in files),
        "--signal",
        *(str(f["signal"]) for f in files),
    ]
    donors = [files[k - 1]["connectome"] for k in range(4)]
    words += ["--donor", *map(str, donors), "--output", *map(str, curves)]
    assert main([*words, *params(STUDY)]) == 0
    return folder, files, curves


def test_the_step_keeps_what_the_group_compares(study):
    _, files, curves = study
    ds, signal = read_dataset(curves[0]), read_dataset(files[0]["signal"])
    assert ds.attrs["kind"] == "reliability" and ds.attrs["status"] == "ok"
    np.testing.assert_array_equal(ds["strength"], [0.1, 0.003])
    assert list(ds["predictor"].values) == [
        "model", "control_other_subject", "control_edge_shuffle:0", "control_uniform",
    ]  # fmt: skip
    assert set(ds["field"].values) == {"coupling", "gamma", "noise"}
    for k in range(2):
        for split in ("test", "train"):
            r = fc_correlation(ds["fc_model"].values[k].astype(float), signal["fc"].sel(split=split).values)
            # FC is stored in single precision
            assert float(ds[f"fc_r_{split}"][k].sel(predictor="model")) == pytest.approx(r, abs=1e-6)
    size = np.abs(ds["theta"]).mean("coordinate")
    assert (size.sel(strength=0.003) > size.sel(strength=0.1)).all()  # a penalty pulls to the reference
    assert (ds["fc_r_train"].sel(strength=0.003) > ds["fc_r_train"].sel(strength=0.1)).all()


def run_group(folder, files, curves, out):
    out.mkdir()
    index = [("subject", "included", "reason"), *((f"{k:02d}", "yes", "") for k in range(1, 5))]
    (out / "index.tsv").write_text("\n".join("\t".join(row) for row in index) + "\n")
    lists = [word for kind in KINDS for word in (f"--{kind}", *(str(f[kind]) for f in files))]
    lists += ["--reliability", *map(str, curves), "--index", str(out / "index.tsv")]
    path = out / "group.zarr.zip"
    assert group([*lists, "--output", str(path), "--tables", str(out), *params(GROUP)]) == 0
    return read_dataset(path), pd.read_csv(out / "metrics.tsv", sep="\t", dtype={"subject": str})


def test_the_group_reports_the_chosen_strength(study, tmp_path):
    folder, files, curves = study
    ds, table = run_group(folder, files, curves, tmp_path / "a")
    chosen = ds.attrs["reliability_chosen"]
    rows = table[table.predictor == "model_interpretation"]
    for k, path in enumerate(curves):
        own = rows[
            (rows.subject == f"{k + 1:02d}") & (rows.metric == "fc_r") & (rows.split == "test")
        ].value.item()
        expected = read_dataset(path)["fc_r_test"].values[chosen, 0]
        assert own == pytest.approx(float(expected), abs=1e-9)
    cohort = rows[(rows.subject == "group") & (rows.split == "test")].set_index("metric").value
    mean = ds["reliability_fc_r"].sel(reliability_predictor="model").mean("reliability_subject")[chosen]
    assert cohort["fc_r"] == pytest.approx(float(mean))
    field = ds["reliability_coordinate_field"].values
    halves_icc = ds["reliability_icc_halves"].values[chosen]
    medians = [np.median(halves_icc[field == name]) for name in ("gamma", "noise")]
    assert cohort["icc"] == pytest.approx(np.median(medians))
    assert ds["reliability_worth_mean"].shape == (2, 3)


def test_who_lacks_a_fit_is_left_out_and_named(study, tmp_path):
    folder, files, curves = study
    from brainloom.store import write_dataset

    broken = tmp_path / "broken.zarr.zip"
    attrs = {"study": "ou"}
    write_dataset(broken, failed_dataset("reliability", "02", "sub-02 is too short").assign_attrs(attrs))
    ds, table = run_group(folder, files, [curves[0], broken, *curves[2:]], tmp_path / "b")
    assert "Reliability is that of the others: 02 lacks fits" in ds.attrs["warnings"]
    assert "02" in set(table[table.predictor == "model_analytic"].subject)  # and nobody is excluded for it
    assert set(table[table.predictor == "model_interpretation"].subject) == {"01", "03", "04", "group"}


def test_the_model_for_interpretation_may_have_fewer_fields():
    from brainloom.core.config import validate_config

    config = {"model": {"name": "LinearStep"}, "reliability": {"regional": ["gamma"]}}
    fit = model_for_interpretation(validate_config(config))
    assert fit["regional"] == ["local"] and fit["lambda"] == 0.001
    named = {"coupling": {"prior_sd": 0.5}, "noise": {"scope": "regional"}, "gamma": {"scope": "regional"}}
    fit = model_for_interpretation(validate_config(config | {"fit": {"parameters": named}}))
    assert set(fit["parameters"]) == {"coupling", "gamma"}
    same = validate_config({"reliability": {"lambda": [0.1, 0.01]}})
    assert model_for_interpretation(same) == same["fit"]


def test_the_report_says_what_is_chosen_and_what_the_connectome_is_worth(study, tmp_path):
    from brainloom.report.reliability_sections import icc_figure, reliability_sentences, worth_figure
    from brainloom.report.style import figure_style, to_svg

    ds, _ = run_group(*study, tmp_path / "c")
    said = reliability_sentences(ds)
    strength = float(ds["reliability_strength"][ds.attrs["reliability_chosen"]])
    assert f"lambda {strength:g}" in said[0]
    assert "Local parameter gamma" in said[1] and "Noise amplitude" in said[1]
    # four subjects: no Wilcoxon test can be below .05
    assert len(said) == 4 and said[2].startswith("Discriminability between both halves of the data")
    assert said[3].startswith("It is not shown to predict better than other subject")
    sure = ds.copy()
    sure["reliability_worth_p_value"] = 0.01 + 0.0 * ds["reliability_worth_p_value"]
    sure["reliability_worth_mean"] = 0.05 + 0.0 * ds["reliability_worth_mean"]
    assert (
        "predicts better than other subject's connectome by +0.050 (p 0.01)" in reliability_sentences(sure)[3]
    )
    with figure_style():
        for figure in (worth_figure, icc_figure):
            assert to_svg(figure(ds), name="x", alt="y").startswith("<svg")
