"""Recovery and calibration: the design is the subject's own, draws are told apart, numbers are right, steps run by hand."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_fits import LABELS, N, connectome, small_config, subject_inputs

from brainloom.analysis.recovery_scores import recovery_rows, summarise
from brainloom.analysis.signal_dataset import signal_dataset, stored_design, stored_runs
from brainloom.analysis.splits import Design
from brainloom.cohort.fits import fit_subject
from brainloom.cohort.recovery import recover_subject, simulated_signal
from brainloom.core.errors import DataError
from brainloom.report.parameter_figures import recovery_table
from brainloom.steps.recover import main as recover
from brainloom.steps.recovery_group import main as recovery_group
from brainloom.store import failed_dataset, read_dataset, write_dataset

MODEL = "LinearStep"


def settings(**changes):
    config = small_config(MODEL, max_steps=60, **{"lambda": 1e-3}) | {"recovery": {"replicates": 2}}
    config["signal"] |= {"band": [0.02, 0.09], "splits": "sessions"}
    return config | changes


@lru_cache
def own_design():
    """Two sessions of different length with scrubbed frames."""
    rng = np.random.default_rng(4)
    runs = [rng.normal(size=(n, N)) for n in (900, 840)]
    for run, places in zip(runs, ([20, 21, 300], [500]), strict=True):
        run[places] = np.nan
    design = Design(["ses-a", "ses-b"], ["a", "b"], [0, 0])
    found = signal_dataset(runs, 0.72, LABELS, settings()["signal"], (0.05, 0.06), design=design)
    return found.assign_attrs(subject="1", kind="signal")


@lru_cache
def inputs():
    """Connectome, the recording whose design counts, and a fit to known correlations."""
    _, wiring, recorded = subject_inputs(MODEL)
    config = {key: value for key, value in settings().items() if key != "controls"}
    return wiring, own_design(), fit_subject("1", wiring, recorded, None, config, None)


def test_the_design_is_the_subject_s_own():
    wiring, recorded, fit = inputs()
    found, dt = simulated_signal("1", wiring, recorded, fit, settings(), 0)
    assert dt == pytest.approx(0.12)
    assert list(found["run_frames"].values) == [900, 840]
    for name in ("band", "frequency_band", "repetition_time", "splits", "signal_config", "scrubbed_frames"):
        assert found.attrs[name] == recorded.attrs[name]
    for new, old in zip(stored_runs(found), stored_runs(recorded), strict=True):
        np.testing.assert_array_equal(np.isnan(new), np.isnan(old))
    assert stored_design(found) == stored_design(recorded) == Design(["ses-a", "ses-b"], ["a", "b"], [0, 0])
    np.testing.assert_array_equal(found["n_frames"], recorded["n_frames"])
    first, second = (np.nan_to_num(run[:840]) for run in stored_runs(found))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3  # runs are independent
    # the mean variance of the linear model is 1, of which the sampling error is about 0.1
    assert np.nanvar(found["bold"].values, axis=1).mean() == pytest.approx(1.0, abs=0.3)


def test_a_seed_a_subject_and_a_replicate_make_the_draws():
    wiring, recorded, fit = inputs()

    def draw(subject="1", replicate=0, **changes):
        return simulated_signal(subject, wiring, recorded, fit, settings(**changes), replicate)[0]["bold"][0]

    first = draw()
    np.testing.assert_array_equal(first, draw())
    steps = np.nan_to_num(np.diff(first.values, axis=0)).ravel()
    for other in (draw(seed=1), draw(replicate=1), draw(subject="2")):
        # changes from frame to frame are nearly white: at least 900 independent ones, 5 standard errors
        assert abs(np.corrcoef(steps, np.nan_to_num(np.diff(other.values, axis=0)).ravel())[0, 1]) < 0.17


@pytest.fixture(scope="module")
def recovered():
    return recover_subject("1", *inputs(), settings()).assign_attrs(subject="1")


def test_the_truth_is_the_fit_and_estimates_are_near_it(recovered):
    fit = inputs()[2].sel(predictor="model")
    best = fit["estimate"].isel(start=int(fit["best_start"]))
    names = recovered["parameter"].values
    assert list(names) == ["coupling", "homotopic", "gamma", "noise"]
    np.testing.assert_array_equal(recovered["truth"], best.sel(parameter=names))
    assert not recovered["lost"].any()
    assert (recovered["estimate"][0] != recovered["estimate"][1]).all()
    assert ((recovered["lower"] < recovered["estimate"]) & (recovered["estimate"] < recovered["upper"])).all()
    # correlations of 0.2 to 0.8 with sampling errors near 0.15
    assert (recovered["fc_r"] > 0.75).all() and (recovered["fc_r_recording"] > 0.75).all()
    assert (recovered["fc_r"] != recovered["fc_r_recording"]).all()
    expected = np.log(recovered["estimate"] / recovered["truth"]).mean("replicate")
    np.testing.assert_allclose(recovered["bias"], expected, rtol=1e-12)


def test_one_more_replicate_changes_none_of_the_others(recovered):
    fewer = recover_subject("1", *inputs(), settings(recovery={"replicates": 1}))
    for name in ("estimate", "lower", "upper", "fc_r"):
        np.testing.assert_array_equal(fewer[name][0], recovered[name][0])


def test_a_simulation_that_diverges_is_lost():
    wiring, recorded, fit = inputs()
    fit = fit.copy(deep=True)
    fit["estimate"].loc[{"parameter": "noise"}] = np.inf
    with pytest.raises(
        DataError, match=r"no simulated recording could be fitted: sub-1: .* lower simulate\.dt"
    ):
        recover_subject("1", wiring, recorded, fit, settings(recovery={"replicates": 1}))


def rows(parameter, subject, values, *, identified="yes"):
    """Rows of recovery.tsv: (region, truth, estimate, lower, upper)."""
    table = pd.DataFrame(values, columns=["region", "truth", "estimate", "lower", "upper"])
    inside = (table["lower"] <= table["truth"]) & (table["truth"] <= table["upper"])
    return table.assign(
        subject=subject,
        replicate=0,
        parameter=parameter,
        identified=identified,
        covered=np.where(inside, "yes", "no"),
        unit="1",
    )


def test_scores_against_numbers_by_hand():
    e, q = np.e, 1.6448536269514722
    near, far = np.exp(q), np.exp(2 * q)  # one and two standard errors wide at 90 %
    table = pd.concat(
        [
            rows("noise", "1", [("A", 1, e, e / near, e * near), ("B", 2, 2, 2 / near, 2 * near)]),
            rows("noise", "1", [("C", 3, 3 * e**2, 3 * e**2 / far, 3 * e**2 * far)]),
            # negative parameters are compared by their size, as the fit does
            rows("noise", "2", [("A", -1, -1 / e**2, -(e**-2) * near, -(e**-2) / near)], identified="no"),
            rows("k", "1", [("global", 1, 1, 0.5, 2)]),
            rows("k", "2", [("global", 2, 4, 2, 8)]),
            rows("k", "3", [("global", 3, 5, 4, 6)]),
        ]
    )
    found = summarise(table, 0.9).set_index(["parameter", "values"])
    noise = found.loc[("noise", "identified")]
    # errors 1, 0, 2 in log, of standard errors 1, 1, 2: 1, 0, 1
    assert noise["n"] == 3 and noise["coverage"] == 1.0
    assert noise["bias_percent"] == pytest.approx(100 * np.expm1(1.0))
    assert noise["bias_sd"] == pytest.approx(2 / 3)
    assert noise["spread_sd"] == pytest.approx(np.std([1, 0, 1], ddof=1))
    assert noise["coverage_lower"] == pytest.approx(0.025 ** (1 / 3)) and noise["coverage_upper"] == 1.0
    assert noise["r_within"] == pytest.approx(np.corrcoef([1, 2, 3], [e, 2, 3 * e**2])[0, 1])
    every = found.loc[("noise", "all")]
    # one more, two standard errors below the truth: not covered, and no subject with three regions more
    assert every["n"] == 4 and every["coverage"] == 0.75
    assert every["bias_sd"] == pytest.approx(0.0, abs=1e-12) and every["r_within"] == noise["r_within"]
    k = found.loc[("k", "all")]
    assert np.isnan(k["r_within"]) and k["r_across"] == pytest.approx(np.corrcoef([1, 2, 3], [1, 4, 5])[0, 1])
    assert k["coverage"] == pytest.approx(2 / 3) and k["nominal"] == 0.9


def test_the_pattern_of_the_noise_is_judged_without_its_scale():
    """Twice the truth everywhere is right, as far as FC can tell; a region beside the others is not."""
    truth = np.array([1.0, 2.0, 4.0, 3.0])
    table = pd.concat(
        [
            rows(
                name, subject, [("ABCD"[k], x, s * x, s * x / 1.2, s * x * 1.2) for k, x in enumerate(truth)]
            )
            for name in ("noise", "gamma")
            for subject, s in (("1", 2.0), ("2", 0.25))
        ],
        ignore_index=True,
    )
    found = summarise(table, 0.9).set_index(["parameter", "values"])
    assert ("gamma", "pattern") not in found.index and found.loc[("noise", "all"), "coverage"] == 0.0
    pattern = found.loc[("noise", "pattern")]
    assert pattern["coverage"] == 1.0 and pattern["n"] == 8 and pattern["r_within"] == pytest.approx(1.0)
    assert pattern["bias_percent"] == pytest.approx(0.0, abs=1e-10)
    # 1.5 times the others: off by 1.5 ** 0.75 = 1.36 where it is, by 1.5 ** -0.25 = 0.90 elsewhere
    table.loc[0, ["estimate", "lower", "upper"]] *= 1.5
    assert (
        summarise(table, 0.9).set_index(["parameter", "values"]).loc[("noise", "pattern"), "coverage"]
        == 7 / 8
    )


def test_what_nothing_identifies_has_no_scores():
    table = rows("k", "1", [("global", 1.0, 1.0, 0.5, 2.0)], identified="no")
    found = summarise(table, 0.9).set_index("values")
    assert found.loc["identified", "n"] == 0 and np.isnan(found.loc["identified", "coverage"])
    assert found.loc["all", "coverage"] == 1.0


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """The steps on files: subject 1, and subject 2 whose fit has failed."""
    folder = tmp_path_factory.mktemp("recovery")
    wiring, recorded, fit = (ds.assign_attrs(study="small", status="ok", reason="") for ds in inputs())
    given = {"connectome": wiring, "signal": recorded, "fit": fit.assign_attrs(kind="fit", subject="1")}
    for kind, ds in given.items():
        write_dataset(folder / f"1-{kind}", ds)
        lost = failed_dataset(kind, "2", "no recording") if kind != "connectome" else connectome("2")
        write_dataset(folder / f"2-{kind}", lost.assign_attrs(study="small"))

    def run(output):
        files = [
            word
            for kind in given
            for word in (f"--{kind}", str(folder / f"1-{kind}"), str(folder / f"2-{kind}"))
        ]
        made = [str(folder / f"{label}-{output}") for label in "12"]
        params = ["--params", json.dumps(settings())]
        assert recover([*files, "--output", *made, "--checkpoints", str(folder / "kept"), *params]) == 0
        return made

    made = run("recovery")
    names = ("output", "summary", "page")
    tables = [word for name in names for word in (f"--{name}", str(folder / name))]
    params = ["--params", json.dumps({"study": "small", "seed": 0, "precision": "float64"})]
    assert recovery_group(["--recovery", *made, *tables, *params]) == 0
    return folder, made, run


def test_the_steps_by_hand(by_hand, recovered):
    folder, made, _ = by_hand
    stored = read_dataset(made[0])
    np.testing.assert_array_equal(stored["estimate"], recovered["estimate"])
    assert read_dataset(made[1]).attrs["reason"] == "no recording"
    text = dict.fromkeys(("subject", "region"), str)
    table = pd.read_csv(folder / "output", sep="\t", dtype=text)
    expected = recovery_rows(recovered)
    assert list(table.columns) == list(expected.columns)
    assert len(table) == 2 * (2 + 2 * N) and set(table["subject"]) == {"1"}
    np.testing.assert_allclose(table["estimate"], expected["estimate"], rtol=1e-9)
    assert (table["covered"] == expected["covered"]).all()
    summary = pd.read_csv(folder / "summary", sep="\t").set_index(["parameter", "values"])
    assert (summary["nominal"] == 0.9).all() and summary.loc[("gamma", "all"), "n"] == 2 * N
    page = (folder / "page").read_text()
    assert "Recovery: small" in page and "2: no recording" in page and page.count("<svg") == 1


def test_scores_are_those_of_the_report(recovered):
    """The report compares a known truth in the same way."""
    table = recovery_rows(recovered)
    table["subject"] = table["subject"] + table["replicate"].astype(str)
    truth = table.rename(columns={"truth": "value"})
    found = summarise(recovery_rows(recovered), 0.9)
    found = found[found["values"] == "all"].set_index("parameter")
    for row in recovery_table(table.drop(columns="truth"), truth):
        assert found.loc[row["parameter"], "coverage"] == pytest.approx(row["coverage"])
        np.testing.assert_allclose(found.loc[row["parameter"], "r_within"], row["within"], rtol=1e-12)


def test_the_same_inputs_give_the_same_bytes(by_hand):
    _, made, run = by_hand
    again = run("again")
    assert Path(again[0]).read_bytes() == Path(made[0]).read_bytes()


def test_a_cohort_without_fits_is_one_sentence(tmp_path, capsys):
    write_dataset(tmp_path / "lost", failed_dataset("recovery", "1", "no recording").assign_attrs(study="x"))
    names = [word for name in ("output", "summary", "page") for word in (f"--{name}", str(tmp_path / name))]
    params = ["--params", json.dumps({"study": "x", "seed": 0, "precision": "float64"})]
    assert recovery_group(["--recovery", str(tmp_path / "lost"), *names, *params]) == 2
    assert "no subject has a fit whose recovery could be tested: no recording" in capsys.readouterr().err
    assert not (tmp_path / "output").exists()
