"""The group step on a cohort of known processes: tables, scores and failures."""

import json

import numpy as np
import pandas as pd
import pytest
from ou_cohort import ANALYSE, GROUP, KINDS, LABELS, params, store, subject_inputs
from scipy import stats

from brainloom.analysis.discriminability import discriminability
from brainloom.steps.analyse import main as analyse
from brainloom.steps.group import main
from brainloom.store import failed_dataset, read_dataset

SUBJECTS = ("01", "02", "03", "04")
FAILED = "sub-05/func/x.tsv: sub-05 region 'A' has 3 frames that are not numbers"
UPPER = np.triu_indices(len(LABELS), 1)


def run_group(folder, files, index):
    (folder / "index.tsv").write_text("\n".join("\t".join(row) for row in index) + "\n")
    lists = [word for kind in KINDS for word in (f"--{kind}", *(str(f[kind]) for f in files))]
    out = folder / "group.zarr.zip"
    code = main(
        [
            "--index",
            str(folder / "index.tsv"),
            *lists,
            "--output",
            str(out),
            "--tables",
            str(folder / "t"),
            *params(GROUP),
        ]
    )
    return code, out


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    inputs, files = {}, []
    for label in SUBJECTS:
        inputs[label] = subject_inputs(int(label))
        stored = store(folder, inputs[label])
        stored["metrics"] = folder / f"sub-{label}" / "metrics.zarr.zip"
        lists = [w for k in ("connectome", "signal", "fit", "simulation") for w in (f"--{k}", str(stored[k]))]
        assert analyse([*lists, "--output", str(stored["metrics"]), *params(ANALYSE)]) == 0
        files.append(stored)
    files.append(store(folder, {k: failed_dataset(k, "05", FAILED).assign_attrs(study="ou") for k in KINDS}))
    index = [("subject", "included", "reason")]
    index += [(label, "yes", "") for label in (*SUBJECTS, "05")] + [("06", "no", "sub-06 lacks a file")]
    code, out = run_group(folder, files, index)
    assert code == 0
    return folder, inputs, files, read_dataset(out)


@pytest.fixture(scope="module")
def table(cohort):
    return pd.read_csv(cohort[0] / "t" / "metrics.tsv", sep="\t", dtype={"subject": str})


def value(table, subject, split, predictor, metric):
    found = table.query(
        "subject == @subject and split == @split and predictor == @predictor and metric == @metric"
    )
    assert len(found) == 1, (subject, split, predictor, metric, len(found))
    return float(found["value"].iloc[0])


def fc(inputs, label, split):
    return inputs[label]["signal"]["fc"].sel(split=split).values


def z_mean(matrices, weights=None):
    return np.tanh(np.average(np.arctanh(np.clip(matrices, -0.999, 0.999)), axis=0, weights=weights))


def r(a, b):
    return np.corrcoef(a[UPPER], b[UPPER])[0, 1]


def test_metrics_table(cohort, table):
    assert list(table.columns) == ["subject", "model", "split", "predictor", "metric", "value", "n"]
    assert set(table["subject"]) == {*SUBJECTS, "group"}
    assert not table.duplicated(["subject", "model", "split", "predictor", "metric"]).any()
    for label, files in zip(SUBJECTS, cohort[2], strict=False):
        ds = read_dataset(files["metrics"])
        kept = ds.isel(row=ds["seed"].values == -1).to_dataframe()
        for row in kept.itertuples():
            found = value(table, label, row.split, row.predictor, row.metric)
            assert found == pytest.approx(row.value, rel=1e-9)


def test_cohort_rows_are_arithmetic_means(table):
    each = table[table["subject"] != "group"].groupby(["split", "predictor", "metric"])["value"].mean()
    for (split, predictor, metric), mean in each.items():
        assert value(table, "group", split, predictor, metric) == pytest.approx(mean, rel=1e-9)


def test_group_mean_leaves_out_the_subject(cohort, table):
    _, inputs, _, ds = cohort
    others = [
        z_mean([fc(inputs, label, "train"), fc(inputs, label, "test")], [400, 400])
        for label in SUBJECTS
        if label != "02"
    ]
    mean = z_mean(others)
    np.testing.assert_allclose(ds["fc_group"].sel(subject="02").values[UPPER], mean[UPPER], atol=1e-12)
    for split in ("train", "test"):
        found = value(table, "02", split, "group_mean", "fc_r")
        assert found == pytest.approx(r(mean, fc(inputs, "02", split)), rel=1e-9)


def test_identification(cohort, table):
    _, inputs, _, ds = cohort
    predictions = {
        "model_analytic": [inputs[s]["fit"]["fc_model"].sel(predictor="model").values for s in SUBJECTS],
        "model_simulated": [z_mean(inputs[s]["simulation"]["fc"].values) for s in SUBJECTS],
        "ceiling": [fc(inputs, s, "train") for s in SUBJECTS],
    }
    for predictor, matrices in predictions.items():
        expected = np.array([[r(m, fc(inputs, t, "test")) for t in SUBJECTS] for m in matrices])
        found = ds["fingerprint"].sel(fingerprint_predictor=predictor).values
        np.testing.assert_allclose(found, expected, atol=1e-12)
        for k, label in enumerate(SUBJECTS):
            own = all(expected[k, k] > expected[t, k] for t in range(4) if t != k)
            reverse = all(expected[k, k] > expected[k, t] for t in range(4) if t != k)
            assert value(table, label, "test", predictor, "identification") == own
            assert value(table, label, "test", predictor, "identification_reverse") == reverse
    # True models of clearly different subjects: most are found.
    assert value(table, "group", "test", "model_analytic", "identification") >= 0.75


def test_mixture(cohort, table):
    _, inputs, _, ds = cohort
    chosen = ds.attrs["mixture_weight_validation"]
    scores = ds["mixture_validation"]
    assert float(scores.sel(weight=chosen)) == float(scores.max())
    for label in SUBJECTS:
        signal = inputs[label]["signal"]
        ratio = float(signal["effective_dof"].sel(split="train") / signal["effective_dof_early"])
        weight = float(ds["mixture_weight"].sel(subject=label))
        assert ratio > 1.2
        assert weight / (1 - weight) == pytest.approx(ratio * chosen / (1 - chosen), rel=1e-9)
        found = r(ds["fc_mixture"].sel(subject=label).values, fc(inputs, label, "test"))
        assert value(table, label, "test", "mixture", "fc_r") == pytest.approx(found, rel=1e-9)
    assert value(table, "group", "test", "mixture", "fc_r") > value(table, "group", "test", "ceiling", "fc_r")
    assert value(table, "group", "test", "mixture", "fc_r") > value(
        table, "group", "test", "group_mean", "fc_r"
    )


def test_weight_of_the_mixture_does_not_see_test_data(cohort, tmp_path):
    _, inputs, files, ds = cohort
    changed = []
    for label, stored in zip(SUBJECTS, files, strict=False):
        signal = inputs[label]["signal"].copy(deep=True)
        test = np.eye(len(LABELS)) + 0.2 * (1 - np.eye(len(LABELS)))
        signal["fc"].loc[{"split": "test"}] = test + 0.01 * fc(inputs, label, "train")
        changed.append(stored | store(tmp_path, {"signal": signal}))
    index = [("subject", "included", "reason"), *((label, "yes", "") for label in SUBJECTS)]
    code, out = run_group(tmp_path, changed, index)
    assert code == 0
    other = read_dataset(out)
    np.testing.assert_array_equal(other["mixture_weight"], ds["mixture_weight"])
    np.testing.assert_array_equal(other["mixture_validation"], ds["mixture_validation"])
    assert not np.allclose(other["fc_group"], ds["fc_group"])


def test_paired_comparisons(cohort, table):
    ds = cohort[3]
    chosen = ds.sel(compared="model_analytic", reference="control_edge_shuffle")
    scores = table.query("split == 'test' and metric == 'fc_r' and subject != 'group'").pivot(
        index="subject", columns="predictor", values="value"
    )
    difference = scores["model_analytic"] - scores["control_edge_shuffle"]
    assert float(chosen["difference_mean"]) == pytest.approx(difference.mean(), rel=1e-8)
    assert float(chosen["difference_p_value"]) == pytest.approx(stats.wilcoxon(difference).pvalue)
    assert float(chosen["difference_n_better"]) == 4 and float(chosen["difference_n"]) == 4
    assert difference.min() <= float(chosen["difference_lower"]) <= float(chosen["difference_upper"])
    assert set(ds["reference"].values) >= {
        "ceiling",
        "group_mean",
        "mixture",
        "structural",
        "control_uniform",
    }


def test_reliability_of_the_data(cohort, table):
    _, inputs, _, ds = cohort
    values = np.arctanh([[fc(inputs, s, split)[0, 5] for split in ("train", "test")] for s in SUBJECTS])
    between = 2 * values.mean(axis=1).var(ddof=1)
    error = (values[:, 0] - values[:, 1]).var(ddof=1) / 2
    assert float(ds["fc_icc"][0, 5]) == pytest.approx((between - error) / (between + error), abs=1e-10)
    ceiling = r(fc(inputs, "02", "train"), fc(inputs, "02", "test"))
    for predictor in ("model_analytic", "group_mean"):
        raw, corrected = (value(table, "02", "test", predictor, m) for m in ("fc_r", "fc_r_corrected"))
        assert corrected == pytest.approx(raw / np.sqrt(ceiling), rel=1e-9)
    parts = [np.arctanh([fc(inputs, s, split)[UPPER] for s in SUBJECTS]) for split in ("train", "test")]
    expected = discriminability(*parts)
    assert value(table, "group", "test", "ceiling", "discriminability") == pytest.approx(expected.value)
    assert value(table, "group", "test", "ceiling", "discriminability_p") == pytest.approx(expected.p_value)
    assert {"lag1_r", "psd_r", "psd_rmse", "variance_r"} <= set(
        table.query("predictor == 'group_mean'")["metric"]
    )
    median = np.median(ds["fc_icc"].values[UPPER])
    assert value(table, "group", "test", "ceiling", "icc") == pytest.approx(median, rel=1e-9)


def test_parameters_table(cohort):
    found = pd.read_csv(cohort[0] / "t" / "parameters.tsv", sep="\t", dtype={"subject": str})
    assert list(found.columns) == [
        "subject", "model", "parameter", "region", "estimate", "lower", "upper", "unit", "identified",
    ]  # fmt: skip
    one = found.query("subject == '03'")
    assert len(one) == 1 + len(LABELS)
    coupling = one.query("parameter == 'coupling'").iloc[0]
    assert (coupling["region"], coupling["unit"], coupling["identified"]) == ("global", "1/s", "yes")
    assert (coupling["estimate"], coupling["lower"], coupling["upper"]) == (0.6, 0.59, 0.62)
    assert one.query("parameter == 'gamma'")["region"].tolist() == LABELS


def test_cohort_table_lists_everybody(cohort):
    folder, _, _, ds = cohort
    found = pd.read_csv(folder / "t" / "cohort.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert list(found.columns) == ["subject", "included", "reason"]
    expected = [[label, "yes", ""] for label in SUBJECTS] + [
        ["05", "no", FAILED],
        ["06", "no", "sub-06 lacks a file"],
    ]
    assert found.values.tolist() == expected
    assert ds["cohort_reason"].values.tolist() == [row[2] for row in expected]
    assert ds.attrs["kind"] == "group" and ds["subject"].values.tolist() == list(SUBJECTS)


@pytest.mark.parametrize("n", [0, 1])
def test_cohort_too_small_for_comparisons(cohort, tmp_path, n):
    _, _, files, _ = cohort
    index = [("subject", "included", "reason"), ("01", "yes", ""), ("05", "yes", "")]
    code, out = run_group(tmp_path, [*files[:n], files[-1]], index)
    assert code == 0
    ds = read_dataset(out)
    assert ds.attrs["n_subjects"] == n and "fingerprint" not in ds
    assert "at least two usable subjects" in json.loads(ds.attrs["warnings"])[0]
    table = pd.read_csv(tmp_path / "t" / "metrics.tsv", sep="\t", dtype={"subject": str})
    assert set(table["subject"]) == ({"01", "group"} if n else set())
    rows = pd.read_csv(tmp_path / "t" / "cohort.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert rows["included"].tolist() == (["yes", "no"] if n else ["no", "no"])


def test_same_input_same_bytes(cohort, tmp_path):
    folder, _, files, _ = cohort
    index = [tuple(line.split("\t")) for line in (folder / "index.tsv").read_text().splitlines()]
    code, out = run_group(tmp_path, files, index)
    assert code == 0
    assert out.read_bytes() == (folder / "group.zarr.zip").read_bytes()
    for name in ("metrics", "parameters", "cohort"):
        assert (tmp_path / "t" / f"{name}.tsv").read_bytes() == (folder / "t" / f"{name}.tsv").read_bytes()


def test_mixed_up_lists_are_refused(cohort, tmp_path, capsys):
    files = [dict(f) for f in cohort[2][:2]]
    files[0]["fit"], files[1]["fit"] = files[1]["fit"], files[0]["fit"]
    index = [("subject", "included", "reason"), ("01", "yes", ""), ("02", "yes", "")]
    code, _ = run_group(tmp_path, files, index)
    assert code == 2
    assert "belong to different subjects (01, 02); give each list in one order" in capsys.readouterr().err


def test_other_atlas_is_refused(cohort, tmp_path, capsys):
    files = [dict(f) for f in cohort[2][:2]]
    signal = cohort[1]["02"]["signal"]
    renamed = signal.assign_coords(region=[f"x{k}" for k in range(len(LABELS))])
    files[1] |= store(tmp_path, {"signal": renamed})
    index = [("subject", "included", "reason"), ("01", "yes", ""), ("02", "yes", "")]
    code, _ = run_group(tmp_path, files, index)
    assert code == 2
    assert "sub-02 has other regions than sub-01" in capsys.readouterr().err


def test_lists_of_large_cohorts_are_abbreviated_and_may_lack_simulations(cohort, table, tmp_path):
    folder, _, files, _ = cohort
    for stored in files[:4]:
        for kind, path in stored.items():
            link = tmp_path / path.parent.name / f"{kind}.zarr.zip"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(path)
    words = ["--index", str(folder / "index.tsv"), "--each", *SUBJECTS]
    for kind in KINDS:
        if kind != "simulation":
            words += [f"--{kind}", str(tmp_path / "sub-%s" / f"{kind}.zarr.zip")]
    out = tmp_path / "group.zarr.zip"
    assert main([*words, "--output", str(out), "--tables", str(tmp_path / "t"), *params(GROUP)]) == 0
    found = pd.read_csv(tmp_path / "t" / "metrics.tsv", sep="\t", dtype={"subject": str})
    simulated = table["predictor"] == "model_simulated"
    identified = table["metric"].str.startswith("identification")
    # What analyse has scored is in its datasets; identification is scored here, from the simulations.
    expected = table[~(simulated & identified)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)
    assert "model_simulated" not in read_dataset(out)["fingerprint_predictor"].values
