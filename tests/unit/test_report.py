"""The report: complete, self-contained, the same bytes for the same results, and honest about what is missing."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent))
import report_results as study_on_disk

from brainloom.core.errors import StoreError
from brainloom.report import cohort_figures, html, parameter_figures, score_figures
from brainloom.report.headline import best_control, held_out_scores, summary_sentences
from brainloom.report.names import number, predictor_order
from brainloom.report.results import Results, read_benchmarks, read_table, read_truth
from brainloom.report.single import write_subject_report
from brainloom.report.split_text import split_sentence
from brainloom.report.style import diverging_map, log_magnitude, log_ticks, spreads_widely
from brainloom.report.summary import (
    bootstrap_interval,
    compare,
    drawn,
    finite_correlation,
    scores,
    summarise_group,
    summarise_subject,
)
from brainloom.steps.report import main
from brainloom.store import read_dataset, write_dataset


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three usable subjects, one failed, one excluded before any compute."""
    return study_on_disk.build_study(tmp_path_factory.mktemp("study"), n_subjects=4, failed=("03",))


@pytest.fixture(scope="module")
def page(study):
    output = study["root"] / "report.html"
    rows = [{"rule": "fit", "total_s": 40.26, "memory_mb": 641.0}]
    plan = {"prediction": {"rows": rows}, "probe": {"step_s": 0.001}}
    (study["root"] / "plan.json").write_text(json.dumps(plan))
    assert main(study_on_disk.arguments(study, output)) == 0
    return output.read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Collects ids, links to them, and everything that a browser would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.anchors, self.fetched, self.open_tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "link", "br", "img", "input", "hr"):
            self.open_tags.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        for name in ("src", "href", "xlink:href", "data", "srcset", "poster", "action"):
            value = attrs.get(name)
            if value is None:
                continue
            if value.startswith("#"):
                self.anchors.append(value[1:])
            else:
                self.fetched.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open_tags and self.open_tags[-1] == tag:
            self.open_tags.pop()

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag, f"unbalanced </{tag}>"


def test_is_one_self_contained_file(page):
    parsed = _Page(page)
    assert parsed.open_tags == []
    assert parsed.fetched, "images and the icon should be there as data"
    assert all(value.startswith("data:") for value in parsed.fetched)
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert {url for url in outside if not url.startswith("http://www.w3.org/")} == set()
    assert "@import" not in page and "@font-face" not in page
    assert not re.search(r"url\((?!#)", page)


def test_ids_are_unique_and_every_link_has_a_target(page):
    parsed = _Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.anchors) <= set(parsed.ids)


def test_every_figure_has_a_text_alternative(page):
    drawings = re.findall(r"<svg [^>]*>", page)
    assert len(drawings) > 15
    for opening in drawings:
        assert 'role="img"' in opening
        assert len(re.search(r'aria-label="([^"]*)"', opening).group(1)) > 25


def test_lists_every_subject_and_why_it_is_out(page):
    assert "region &#39;Region_3_L&#39; has zero variance" in page
    assert "sub-99: no file sub-99/dwi" in page
    assert "5 subjects considered, 3 included, 2 excluded" in page
    for label in ("01", "02", "03", "04"):
        assert f'id="sub-{label}"' in page


def test_headline_numbers_are_those_of_the_table(study, page):
    metrics = pd.read_csv(study["root"] / "metrics.tsv", sep="\t", dtype={"subject": str})
    rows = metrics.query("metric == 'fc_r' and split == 'test' and subject != 'group'")
    for predictor in ("model_analytic", "model_simulated", "ceiling"):
        mean = rows.loc[rows["predictor"] == predictor, "value"].mean()
        assert f"<b>{mean:.3f}</b>" in page


def test_shows_what_was_planned_beside_what_it_took(page):
    timings = re.search(r'<section id="timings">.*?</section>', page, re.S).group(0)
    assert timings.index("Planned time") < timings.index("Planned memory")
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr><td>.*?</tr>", timings)]
    planned = {row[0]: (row[2], *row[-2:]) for row in rows}
    assert planned == {"fit": ("31.5", "40.3", "641"), "simulate": ("12.2", "\u2013", "\u2013")}


def test_same_results_same_bytes_but_for_timings(study, page, tmp_path):
    again = tmp_path / "report.html"
    assert main(study_on_disk.arguments(study, again)) == 0
    assert again.read_text(encoding="utf-8") == page
    other = tmp_path / "other.html"
    assert main(study_on_disk.arguments(study, other, benchmarks=False)) == 0
    without = re.compile(r'<section id="timings">.*?</section>', re.S)
    text = other.read_text(encoding="utf-8")
    assert text != page
    assert without.sub("", text) == without.sub("", page)


def test_provenance_names_every_dataset(study, page):
    record = json.loads((study["root"] / "provenance.json").read_text())
    assert len(record["datasets"]) == 4 * 6 + 1
    first = record["datasets"][0]
    ds = read_dataset(study["files"]["connectome"][0])
    assert (first["subject"], first["kind"], first["content_hash"]) == (
        "01",
        "connectome",
        ds.attrs["content_hash"],
    )
    assert {row["rule"]: row["s"] for row in record["jobs"]} == {"fit": 31.5, "simulate": 12.25}
    assert record["versions"]["brainloom"] and record["written"] and record["machine"]["python"]
    assert [row["subject"] for row in record["cohort"] if row["included"] == "no"] == ["03", "99"]
    assert first["content_hash"][:16] in page


def test_the_split_is_told_and_written_down(study, page):
    splits = json.loads((study["root"] / "provenance.json").read_text())["splits"]
    row = splits["subjects"][0]
    half = read_dataset(study["files"]["signal"][0]).sizes["time"] // 2
    assert (row["subject"], row["modality"], row["gap"]) == ("01", "bold", "run-1 0")
    assert (row["train"], row["test"]) == (f"run-1 0-{half - 1}", f"run-1 {half}-{2 * half - 1}")
    assert row["validation"].endswith(f"-{half - 1}") and len(splits["sha256"]) == 64
    assert splits["settings"]["splits"] == "halves"
    assert "Cut by halves of each run: training" in page and "in 1 piece, no gap." in page
    known = {"how": "blocks", "gaps": [11.52], "pieces": {"train": 3, "validation": 1, "test": 3}}
    subjects = [known | {"minutes": {"train": 6.8 + k, "validation": 2.2, "test": 6.8}} for k in (0.0, 0.46)]
    assert split_sentence([*subjects, {}]) == (
        "Cut by alternating blocks of each run: training 6.8 to 7.3 min in 3 pieces (2.2 min of it validation), held out "
        "6.8 min in 3 pieces, gaps of 11.5 s."
    )
    assert split_sentence([{}]) == ""


def test_one_subject_without_controls_truth_or_benchmarks(tmp_path):
    study = study_on_disk.build_study(tmp_path, n_subjects=1, controls=False)
    output = tmp_path / "report.html"
    assert main(study_on_disk.arguments(study, output, truth=False, benchmarks=False)) == 0
    text = output.read_text(encoding="utf-8")
    assert "No negative control was fitted" in text
    assert "Truth against estimate" not in text
    assert "No benchmark files were given" in text and "Planned" not in text
    assert 'id="fig-score-fc"' in text and 'id="fig-sub-01-fc"' in text
    assert 'id="fig-identification"' not in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


def test_all_subjects_failed(tmp_path):
    study = study_on_disk.build_study(tmp_path, n_subjects=2, failed=("01", "02"))
    output = tmp_path / "report.html"
    assert main(study_on_disk.arguments(study, output)) == 0
    text = output.read_text(encoding="utf-8")
    assert "No held-out score of the model is available" in text
    assert text.count('<span class="badge no">not usable</span>') == 2
    assert "No parameter estimates are available" in text


def test_values_that_are_not_numbers_do_not_stop_the_report(tmp_path):
    study = study_on_disk.build_study(tmp_path, n_subjects=2)
    paths = {kind: Path(files[0]) for kind, files in study["files"].items()}
    fit = read_dataset(paths["fit"])
    fit["fc_model"][:] = np.nan
    fit["psd_model"][:] = np.nan
    fit["loss"][:, 0] = np.nan
    fit["stability_margin"][:] = np.nan
    write_dataset(paths["fit"], fit)
    simulation = read_dataset(paths["simulation"])
    simulation["fcd"][:] = np.nan
    simulation["psd"][0] = np.nan
    write_dataset(paths["simulation"], simulation)
    posterior = read_dataset(paths["posterior"])
    posterior["eigenvalue"][:] = np.nan
    write_dataset(paths["posterior"], posterior)
    parameters = pd.read_csv(tmp_path / "parameters.tsv", sep="\t", dtype=str)
    parameters.loc[parameters["subject"] == "01", ["lower", "upper"]] = "nan"
    parameters.loc[0, "estimate"] = "nan"
    parameters.to_csv(tmp_path / "parameters.tsv", sep="\t", index=False)
    metrics = pd.read_csv(tmp_path / "metrics.tsv", sep="\t", dtype=str)
    metrics.loc[metrics["predictor"] == "model_simulated", "value"] = ""
    metrics.to_csv(tmp_path / "metrics.tsv", sep="\t", index=False)
    output = tmp_path / "report.html"
    assert main(study_on_disk.arguments(study, output)) == 0
    text = output.read_text(encoding="utf-8")
    assert 'id="fig-sub-02-fc"' in text and 'id="fig-sub-01-fc"' in text
    assert "1 of 3 starts ended without a finite loss" in text


def test_damaged_dataset_is_one_sentence(tmp_path, capsys):
    study = study_on_disk.build_study(tmp_path, n_subjects=1)
    damaged = Path(study["files"]["fit"][0])
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    output = tmp_path / "report.html"
    assert main(study_on_disk.arguments(study, output)) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and str(damaged) in error[0]
    assert not output.exists()


def test_missing_table_or_column_is_one_sentence(tmp_path):
    with pytest.raises(StoreError, match=r"metrics\.tsv: file not found"):
        read_table(tmp_path / "metrics.tsv", ("subject",))
    (tmp_path / "truth.tsv").write_text("subject\tparameter\tvalue\n01\tcoupling\t1\n")
    with pytest.raises(StoreError, match="column 'region' is missing"):
        read_truth(tmp_path / "truth.tsv")


def test_files_of_different_subjects_are_refused(tmp_path, capsys):
    study = study_on_disk.build_study(tmp_path, n_subjects=2)
    study["files"]["fit"].reverse()
    assert main(study_on_disk.arguments(study, tmp_path / "report.html")) == 2
    assert "belong to different subjects" in capsys.readouterr().err


def test_benchmarks_by_folder_and_by_name(tmp_path):
    header = "s\th:m:s\tmax_rss\tmean_load\n"
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "b001.tsv").write_text(header + "2.5\t0:00:02\t100\t99\n")
    (tmp_path / "group.tsv").write_text(header + "1.0\t0:00:01\t-\t-\n")
    (tmp_path / "notes.tsv").write_text("something\telse\n1\t2\n")
    table = read_benchmarks(tmp_path)
    assert table[["rule", "job", "s"]].values.tolist() == [["fit", "b001", 2.5], ["group", "", 1.0]]
    assert np.isnan(table["max_rss"][1])


def test_bootstrap_interval_covers_the_mean_of_known_data():
    low, high = bootstrap_interval([0.0, 1.0] * 50)
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.01)
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.01)
    assert np.isnan(bootstrap_interval([1.0, np.nan])).all()
    assert bootstrap_interval([0.1, 0.4, np.nan, 0.9]) == bootstrap_interval([0.1, 0.4, 0.9])


def test_finite_correlation_matches_numpy_and_survives_gaps():
    x, y = np.random.default_rng(0).standard_normal((2, 50))
    assert finite_correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    x[3] = np.nan
    keep = np.isfinite(x)
    assert finite_correlation(x, y) == pytest.approx(np.corrcoef(x[keep], y[keep])[0, 1])
    assert np.isnan(finite_correlation(np.ones(9), y[:9]))


def test_scores_leave_the_cohort_rows_out():
    metrics = pd.DataFrame(
        [
            ("01", "m", "test", "ceiling", "fc_r", 0.5, 1),
            ("02", "m", "test", "ceiling", "fc_r", 0.7, 1),
            ("group", "m", "test", "ceiling", "fc_r", 9.0, 2),
        ],
        columns=["subject", "model", "split", "predictor", "metric", "value", "n"],
    )
    assert held_out_scores(metrics)["ceiling"].mean == pytest.approx(0.6)
    assert scores(metrics, metric="fc_r", split="train").empty


def test_identification_is_that_of_the_group_dataset(study, page):
    group = read_dataset(study["root"] / "group.zarr.zip")
    summary = summarise_group(group)
    metrics = pd.read_csv(study["root"] / "metrics.tsv", sep="\t", dtype={"subject": str})
    rows = metrics.query(
        "metric == 'identification' and predictor == 'model_analytic' and subject != 'group'"
    )
    assert summary.labels == ["01", "02", "04"]
    assert summary.identified == rows["value"].sum()
    assert f"{summary.identified} of 3 held-out FCs are predicted best" in page
    np.testing.assert_allclose(
        np.diag(summary.fingerprint),
        metrics.query(
            "metric == 'fc_r' and split == 'test' and predictor == 'model_analytic' and subject != 'group'"
        )["value"],
    )
    assert summarise_group(xr.Dataset()).identified == 0


def test_paired_differences_are_those_of_the_group_dataset(study):
    group = read_dataset(study["root"] / "group.zarr.zip")
    metrics = pd.read_csv(study["root"] / "metrics.tsv", sep="\t", dtype={"subject": str})
    table = scores(metrics, metric="fc_r", split="test")
    stored = group.sel(compared="model_analytic", reference="control_uniform")
    found = compare(table["model_analytic"], table["control_uniform"], seed=0)
    assert found.mean == pytest.approx(float(stored["difference_mean"]))
    assert found.lower == pytest.approx(float(stored["difference_lower"]))
    assert found.upper == pytest.approx(float(stored["difference_upper"]))
    assert found.p_value == pytest.approx(float(stored["difference_p_value"]))


def test_paragraph_does_not_credit_the_connectome_when_a_control_does_as_well():
    def metrics(control):
        rows = [
            (f"{s:02d}", "m", "test", p, "fc_r", v, 1)
            for s in range(8)
            for p, v in (("model_analytic", 0.7 + 0.01 * s), ("control_uniform", control(s)))
        ]
        return pd.DataFrame(rows, columns=["subject", "model", "split", "predictor", "metric", "value", "n"])

    def text(control):
        return " ".join(
            summary_sentences(
                held_out_scores(metrics(control)),
                model="HopfStep",
                n_included=8,
                n_total=8,
                regional=["a", "noise"],
                n_warned=0,
            )
        )

    assert "no evidence that the individual connectome matters" in text(
        lambda s: 0.7 + 0.01 * s + 0.02 * (-1) ** s
    )
    assert "speak against the individual connectome" in text(lambda s: 0.75 + 0.01 * s)
    assert "is better in 8 of 8 (interval +0.200 to +0.200)" in text(lambda s: 0.5 + 0.01 * s)
    assert best_control(held_out_scores(metrics(lambda s: 0.5))).predictor == "control_uniform"


def test_agreement_and_warnings_are_taken_from_the_datasets():
    datasets, _ = study_on_disk.subject_datasets("01", 0, n=8, frames=200, seeds=2, controls=False)
    fit, simulation = datasets["fit"].copy(deep=True), datasets["simulation"]
    fit["loss"][:] = 0.02
    simulation["fc_mean"][0] = fit["fc_model"].sel(predictor="model").values
    quiet = summarise_subject("01", {"fit": fit, "simulation": simulation})
    assert quiet.agreement[0.1] == pytest.approx(1.0) and quiet.warnings == []
    fit["converged"][:] = False
    fit["loss"][0, 2] = 0.03
    fit["stability_margin"][:] = 0.002
    loud = summarise_subject(
        "01", {"fit": fit, "metrics": xr.Dataset(attrs={"warnings": '["2 realisations diverged."]'})}
    )
    text = " ".join(loud.warnings)
    for part in (
        "before it converged",
        "0.02 to 0.03",
        "slowest time constant 500 s",
        "2 realisations diverged.",
    ):
        assert part in text
    assert len(loud.warnings) == 4


def test_recovery_is_measured_across_subjects_or_within_them():
    rng = np.random.default_rng(1)
    rows, known = [], []
    for s in range(5):
        rows.append((f"{s}", "coupling", "global", 2.0 * s, 2.0 * s - 1, 2.0 * s + 1))
        known.append((f"{s}", "coupling", "global", 2.0 * s + (3.0 if s == 0 else 0.5), "1/s"))
        for k, value in enumerate(rng.standard_normal(20)):
            # Values of one subject are shifted: recovery within subjects must not see the shift.
            rows.append((f"{s}", "a", f"r{k}", value + 10 * s, value + 10 * s - 1, value + 10 * s + 1))
            known.append((f"{s}", "a", f"r{k}", value, "1/s"))
    parameters = pd.DataFrame(rows, columns=["subject", "parameter", "region", "estimate", "lower", "upper"])
    truth = pd.DataFrame(known, columns=["subject", "parameter", "region", "value", "unit"])
    table = {row["parameter"]: row for row in parameter_figures.recovery_table(parameters, truth)}
    assert table["a"]["within"] == pytest.approx(1.0)
    assert table["a"]["coverage"] == pytest.approx(0.2)
    assert table["coupling"]["coverage"] == pytest.approx(0.8)
    assert table["coupling"]["across"] == pytest.approx(
        np.corrcoef([2.0 * s for s in range(5)], [3.0, 2.5, 4.5, 6.5, 8.5])[0, 1]
    )
    assert parameter_figures.recovery_table(parameters, None) == []


def test_cohort_figures_return_nothing_for_nothing():
    empty = pd.DataFrame(columns=["subject", "model", "split", "predictor", "metric", "value", "n"])
    assert score_figures.score_figure(empty, metric="fc_r") is None
    assert score_figures.difference_figure(empty) is None
    assert cohort_figures.spectra_figure([]) is None
    assert cohort_figures.eigenvalue_figure([]) is None
    assert cohort_figures.agreement_figure([]) is None


def test_a_bare_connectome_far_below_the_models_does_not_squeeze_them():
    table = pd.DataFrame(
        {"model_analytic": [0.90, 0.92], "ceiling": [0.88, 0.91], "structural": [0.20, 0.25]}
    )
    assert score_figures.far_predictors(table) == {"structural": -1}
    assert score_figures.far_predictors(-table) == {"structural": 1}
    near = table.assign(structural=[0.87, 0.88])
    assert score_figures.far_predictors(near) == {}
    assert score_figures.far_predictors(table[["structural", "ceiling"]]) == {}


def test_diverging_map_is_symmetric_and_even_in_lightness():
    rgb = diverging_map()(np.linspace(0, 1, 257))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lms = (
        linear
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    lightness = np.cbrt(lms) @ np.array([0.2104542553, 0.7936177850, -0.0040720468])
    assert lightness[128] == lightness.max() > 0.95
    assert np.abs(lightness - lightness[::-1]).max() < 0.03
    steps = np.diff(lightness[:129])
    assert steps.min() > 0 and steps.max() < 3 * steps.min()


def test_log_ticks_and_scale_serve_both_signs():
    assert log_ticks(0.03, 1.2) == [0.05, 0.1, 0.2, 0.5, 1.0]
    assert log_ticks(-0.9, -0.02, most=3) == [-0.3, -0.1, -0.03]
    assert len(log_ticks(1e-9, 1e9, most=5)) <= 5
    for low, high in ((-0.9, -0.02), (0.02, 0.9)):
        forward, inverse = log_magnitude(low, high)
        values = np.linspace(low, high, 7)
        assert (np.diff(forward(values)) > 0).all()
        np.testing.assert_allclose(inverse(forward(values)), values)
    assert spreads_widely(0.1, 1.0) and spreads_widely(-1.0, -0.1)
    assert not spreads_widely(-0.1, 1.0) and not spreads_widely(0.5, 1.0) and not spreads_widely(0.0, 1.0)


def test_numbers_and_order():
    assert number(-0.0004) == "0.000"
    assert number(-0.5, 2) == "\u22120.50"
    assert number(3e-7, 4, significant=True) == "3e-07"
    assert number(None) == number("x") == number(np.inf) == "\u2013"
    assert predictor_order(["zzz", "ceiling", "model_analytic"]) == ["model_analytic", "ceiling", "zzz"]


def test_spectra_of_different_sampling_share_one_grid():
    def summary(frequency):
        ds = xr.Dataset(
            {
                "fc": (("split", "region", "region_to"), np.eye(2)[None]),
                "psd": (("split", "region", "frequency"), np.ones((1, 2, frequency.size))),
            },
            coords={"split": ["test"], "region": ["a", "b"], "frequency": frequency},
        )
        return summarise_subject("x", {"signal": ds})

    figure = cohort_figures.spectra_figure(
        [summary(np.linspace(0, 0.5, 20)), summary(np.linspace(0, 0.2, 33))]
    )
    assert figure is not None


def test_one_subject_of_a_study_without_simulations(study, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("results/synthetic")
    (folder / "sub-02").mkdir(parents=True)
    for name in ("metrics.tsv", "parameters.tsv", "cohort.tsv"):
        table = pd.read_csv(study["root"] / name, sep="\t", dtype=str, keep_default_na=False)
        if name == "metrics.tsv":
            table = table[table["predictor"] != "model_simulated"]
        table.to_csv(folder / name, sep="\t", index=False)
    for kind in study_on_disk.KINDS:
        if kind != "simulation":
            name = f"sub-02/sub-02_desc-{kind}.zarr.zip"
            (folder / name).symlink_to(study["root"] / name)
    with pytest.raises(StoreError, match=r"provenance\.json: file not found; run the workflow"):
        write_subject_report("synthetic", "02")
    params = study_on_disk.PARAMS | {"simulate": {"seeds": 0}}
    (folder / "provenance.json").write_text(json.dumps({"params": params}))
    text = write_subject_report("synthetic", "02").read_text(encoding="utf-8")
    parsed = _Page(text)
    assert "sub-02" in parsed.ids and "sub-01" not in parsed.ids
    assert "Nothing was simulated (simulate.seeds is 0)" in text and "Nothing was simulated" not in page
    assert "Model (simulated)" not in text and "Analytic against simulated" not in text
    assert "Model (simulated) r" in page
    with pytest.raises(StoreError, match="sub-07 has no datasets"):
        write_subject_report("synthetic", "07")


def test_large_cohorts_have_pages_of_the_extremes(monkeypatch):
    labels = [f"{k:02d}" for k in range(20)]
    rows = [(s, "m", "test", "model_analytic", "fc_r", (k * 7 % 20) / 20, 1) for k, s in enumerate(labels)]
    columns = ["subject", "model", "split", "predictor", "metric", "value", "n"]
    metrics = pd.DataFrame(rows, columns=columns)
    empty = pd.DataFrame()
    results = Results("s", metrics, empty, empty, {label: {} for label in labels})
    assert html.paged_subjects(results) == labels
    monkeypatch.setattr(html, "MAX_PAGES", 10)
    monkeypatch.setattr(html, "EXTREMES", 2)
    value = dict(zip(metrics["subject"], (metrics["value"] * 20).round().astype(int), strict=True))
    assert [value[label] for label in html.paged_subjects(results)] == [0, 1, 9, 10, 18, 19]
    assert drawn(5).tolist() == [0, 1, 2, 3, 4] and drawn(0).size == 0
    many = drawn(1001)
    assert (len(many), many[0], many[-1]) == (200, 0, 1000) and np.ptp(np.diff(many)) <= 1
