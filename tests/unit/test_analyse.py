"""Scores of one subject against the same numbers computed here from the raw recordings."""

import json

import numpy as np
import pytest
import xarray as xr
from ou_cohort import ANALYSE, FREQUENCY, LABELS, SIGNAL, TR, attrs, params, store, subject_inputs
from scipy import stats

from brainloom.analysis.metric_rows import averaged_rows
from brainloom.steps.analyse import main
from brainloom.store import failed_dataset, read_dataset

WINDOW, STEP = 30, 3
UPPER = np.triu_indices(len(LABELS), 1)


@pytest.fixture(scope="module")
def inputs():
    return subject_inputs(1)


def run_step(tmp_path, datasets, settings=ANALYSE):
    files = store(tmp_path, {kind: ds for kind, ds in datasets.items() if kind != "posterior"})
    out = tmp_path / "metrics.zarr.zip"
    lists = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    assert main([*lists, "--output", str(out), *params(settings)]) == 0
    return read_dataset(out)


@pytest.fixture(scope="module")
def metrics(inputs, tmp_path_factory):
    return run_step(tmp_path_factory.mktemp("analyse"), inputs)


@pytest.fixture(scope="module")
def rows(metrics):
    return metrics.to_dataframe()


def value(rows, split, predictor, metric, seed=-1):
    found = rows.query("split == @split and predictor == @predictor and metric == @metric and seed == @seed")
    assert len(found) == 1, (split, predictor, metric, seed, len(found))
    return float(found["value"].iloc[0])


def r(a, b):
    return np.corrcoef(a[UPPER], b[UPPER])[0, 1]


def test_columns_and_names(metrics, rows):
    table = averaged_rows(metrics)
    assert list(table.columns) == ["subject", "model", "split", "predictor", "metric", "value", "n"]
    assert set(rows["subject"]) == {"01"} and set(rows["model"]) == {"LinearStep"}
    assert set(rows["split"]) == {"train", "test"}
    assert set(rows["predictor"]) == {
        "model_analytic", "model_simulated", "ceiling", "structural", "empirical", "stationary_surrogate",
        "stationary_train", "control_edge_shuffle", "control_uniform",
    }  # fmt: skip
    assert not table.duplicated(["split", "predictor", "metric"]).any()
    assert np.isfinite(table["value"]).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_analytic_model(inputs, rows, split):
    fc = inputs["signal"]["fc"].sel(split=split).values
    model = inputs["fit"].sel(predictor="model")
    score = value(rows, split, "model_analytic", "fc_r")
    assert score == pytest.approx(r(model["fc_model"].values, fc), abs=1e-12)
    assert value(rows, split, "model_analytic", "fc_z") == pytest.approx(np.arctanh(score), abs=1e-12)
    error = np.sqrt(np.mean((model["fc_model"].values - fc)[UPPER] ** 2))
    assert value(rows, split, "model_analytic", "fc_rmse") == pytest.approx(error, abs=1e-12)
    lag1 = inputs["signal"]["lag1"].sel(split=split).values
    expected = np.corrcoef(model["lag1_model"].values.ravel(), lag1.ravel())[0, 1]
    assert value(rows, split, "model_analytic", "lag1_r") == pytest.approx(expected, abs=1e-12)
    keep = (FREQUENCY >= 0.01) & (FREQUENCY <= 0.1)
    a = np.log10(model["psd_model"].values[:, keep])
    b = np.log10(inputs["signal"]["psd"].sel(split=split).values[:, keep])
    expected = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])
    assert value(rows, split, "model_analytic", "psd_r") == pytest.approx(expected, abs=1e-12)
    expected = np.sqrt(np.mean((a - b) ** 2))
    assert value(rows, split, "model_analytic", "psd_rmse") == pytest.approx(expected, abs=1e-12)


def test_the_true_model_is_good_and_controls_are_not(rows):
    truth = value(rows, "test", "model_analytic", "fc_r")
    # One sample of 400 frames (about 75 degrees of freedom) cannot be predicted better than this.
    assert truth > 0.8
    assert truth > value(rows, "test", "control_edge_shuffle", "fc_r") + 0.3
    assert truth > value(rows, "test", "control_uniform", "fc_r") + 0.3


def test_ceiling_is_the_training_fc(inputs, rows):
    fc = inputs["signal"]["fc"]
    expected = r(fc.sel(split="train").values, fc.sel(split="test").values)
    assert value(rows, "test", "ceiling", "fc_r") == pytest.approx(expected, abs=1e-12)
    assert rows.query("predictor == 'ceiling'")["split"].unique().tolist() == ["test"]


def pairs(matrix):
    """FCD of all pairs of windows without a common frame."""
    n = len(matrix)
    return [matrix[i, j] for i in range(n) for j in range(i + 1, n) if (j - i) * STEP >= WINDOW]


def test_fcd_distances(inputs, rows):
    fcd = inputs["signal"]["fcd"]
    test = pairs(fcd.sel(split="test").values.astype(float))
    train = pairs(fcd.sel(split="train").values.astype(float))
    expected = stats.ks_2samp(train, test).statistic
    assert value(rows, "test", "ceiling", "fcd_ks") == pytest.approx(expected, abs=1e-12)
    pooled = np.concatenate([pairs(m) for m in inputs["simulation"]["fcd"].values])
    expected = stats.ks_2samp(pooled, test).statistic
    assert value(rows, "test", "model_simulated", "fcd_ks") == pytest.approx(expected, abs=1e-12)
    # A stationary process is close to its stationary surrogates, and both are as far from one sample.
    assert value(rows, "test", "stationary_surrogate", "fcd_ks") < 0.4


def test_simulated_model(inputs, rows):
    simulated = inputs["simulation"]["fc"].values
    mean = np.tanh(np.arctanh(np.clip(simulated, -0.999, 0.999)).mean(axis=0))
    test = inputs["signal"]["fc"].sel(split="test").values
    assert value(rows, "test", "model_simulated", "fc_r") == pytest.approx(r(mean, test), abs=1e-12)
    for k in range(8):
        assert value(rows, "test", "model_simulated", "fc_r", k) == pytest.approx(
            r(simulated[k], test), abs=1e-12
        )
    found = rows.query("predictor == 'model_simulated' and seed == -1")
    assert (found["n"] == 8).all()
    each = inputs["simulation"]["metastability"].values
    assert value(rows, "test", "model_simulated", "metastability") == pytest.approx(each.mean(), abs=1e-12)


def test_controls_as_mean_and_every_seed(inputs, rows):
    test = inputs["signal"]["fc"].sel(split="test").values
    each = []
    for k in range(2):
        fc = inputs["fit"]["fc_model"].sel(predictor=f"control_edge_shuffle:{k}").values
        each.append(r(fc, test))
        assert value(rows, "test", "control_edge_shuffle", "fc_r", k) == pytest.approx(each[k], abs=1e-12)
    assert value(rows, "test", "control_edge_shuffle", "fc_r") == pytest.approx(np.mean(each), abs=1e-12)
    assert set(rows.query("predictor == 'control_edge_shuffle' and seed == -1")["n"]) == {2}
    assert set(rows.query("predictor == 'control_uniform'")["seed"]) == {-1}


def test_structural(inputs, metrics, rows):
    weights = inputs["connectome"]["weights"].values
    fc = inputs["signal"]["fc"].sel(split="test").values
    assert value(rows, "test", "structural", "fc_r") == pytest.approx(r(weights, fc), abs=1e-12)
    expected = np.corrcoef(np.log(weights[UPPER]), fc[UPPER])[0, 1]
    assert metrics.attrs["structural_log_fc_r_test"] == pytest.approx(expected, abs=1e-12)


def test_agreement_at_both_noise_levels(inputs, metrics, rows):
    analytic = inputs["fit"]["fc_model"].sel(predictor="model").values
    for level, name in ((0.1, "analytic_simulated_r"), (0.3, "analytic_simulated_r_strong")):
        simulated = inputs["simulation"]["fc_mean"].sel(noise_level=level).values
        assert value(rows, "test", "model_simulated", name) == pytest.approx(
            r(analytic, simulated), abs=1e-12
        )
    assert value(rows, "test", "model_simulated", "analytic_simulated_r") > 0.95
    assert not [w for w in json.loads(metrics.attrs["warnings"]) if "correlate at" in w]


def test_model_that_disagrees_with_its_simulation_is_flagged(tmp_path):
    ds = run_step(tmp_path, subject_inputs(1, wrong=True))
    warnings = json.loads(ds.attrs["warnings"])
    assert any("Analytic and simulated FC correlate at" in w and "less than 0.95" in w for w in warnings)
    assert any("above that of the analytic one" in w and "more than 0.02" in w for w in warnings)


def test_diverged_realisations_are_left_out_and_counted(inputs, rows, tmp_path):
    simulation = inputs["simulation"].copy(deep=True)
    for name in ("fc", "lag1", "psd", "variance", "metastability", "fcd"):
        simulation[name][2] = np.nan
    ds = run_step(tmp_path, inputs | {"simulation": simulation})
    found = ds.to_dataframe()
    assert "1 of 8 realisations diverged and are left out." in json.loads(ds.attrs["warnings"])
    assert set(found.query("predictor == 'model_simulated' and seed >= 0")["seed"]) == {0, 1, 3, 4, 5, 6, 7}
    assert value(found, "test", "model_simulated", "fc_r", 3) == value(
        rows, "test", "model_simulated", "fc_r", 3
    )
    kept = inputs["simulation"]["fc"].values[[0, 1, 3, 4, 5, 6, 7]]
    mean = np.tanh(np.arctanh(np.clip(kept, -0.999, 0.999)).mean(axis=0))
    test = inputs["signal"]["fc"].sel(split="test").values
    assert value(found, "test", "model_simulated", "fc_r") == pytest.approx(r(mean, test), abs=1e-12)


def test_all_realisations_diverged(inputs, tmp_path):
    simulation = inputs["simulation"].copy(deep=True)
    for name in ("fc", "lag1", "psd", "variance", "metastability", "fcd", "fc_mean"):
        simulation[name][:] = np.nan
    ds = run_step(tmp_path, inputs | {"simulation": simulation})
    assert not (ds["predictor"] == "model_simulated").any()
    assert "8 of 8 realisations diverged and are left out." in json.loads(ds.attrs["warnings"])


def test_without_fcd(inputs, tmp_path):
    ds = run_step(tmp_path, inputs, ANALYSE | {"analyse": {"fcd": False}})
    assert not (ds["metric"] == "fcd_ks").any()
    assert not (ds["predictor"] == "stationary_surrogate").any()


def test_recording_too_short_for_fcd_says_so(inputs, tmp_path):
    signal = inputs["signal"].isel(window=slice(0), window_to=slice(0))
    ds = run_step(tmp_path, inputs | {"signal": signal})
    warnings = json.loads(ds.attrs["warnings"])
    assert "The score fcd_ks of ceiling on test is not defined for these data." in warnings


def test_two_runs_through_the_same_step(tmp_path, inputs):
    """FCD pairs of windows in different runs do not count."""
    from brainloom.analysis.signal_dataset import signal_dataset, stored_runs

    run = stored_runs(inputs["signal"])[0]
    signal = signal_dataset([run[:400], run[400:]], TR, LABELS, SIGNAL, (0.04, 0.07))
    ds = run_step(tmp_path, inputs | {"signal": signal.assign_attrs(attrs("signal", "01"))})
    fcd = signal["fcd"].values.astype(float)
    chosen = [[v for v in pairs(matrix) if np.isfinite(v)] for matrix in (fcd[0], fcd[2])]
    assert len(chosen[0]) < len(pairs(fcd[0]))
    expected = stats.ks_2samp(*chosen).statistic
    assert value(ds.to_dataframe(), "test", "ceiling", "fcd_ks") == pytest.approx(expected, abs=1e-12)


def test_failed_input_is_passed_on(inputs, tmp_path):
    failed = failed_dataset("fit", "01", "data/x.tsv: sub-01 something is wrong").assign_attrs(study="ou")
    ds = run_step(tmp_path, inputs | {"fit": failed})
    assert isinstance(ds, xr.Dataset)
    assert (ds.attrs["status"], ds.attrs["reason"]) == ("failed", "data/x.tsv: sub-01 something is wrong")


def test_without_a_simulation_all_else_is_scored_the_same(inputs, metrics, tmp_path):
    alone = run_step(tmp_path, {kind: ds for kind, ds in inputs.items() if kind != "simulation"})
    assert "simulation" not in json.loads(alone.attrs["input_hashes"])
    kept = metrics.isel(row=metrics["predictor"].values != "model_simulated")
    for name in kept.variables:
        np.testing.assert_array_equal(alone[name].values, kept[name].values)
