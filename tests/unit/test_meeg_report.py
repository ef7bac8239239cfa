"""Figures, tables and exports of EEG: axes with units, peaks where they are, files that other programs open."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from electric_cohort import CENTRES, EEG, ELECTRODES, LABELS, RATE, lead_field, rhythm

from brainloom.analysis.meeg_dataset import meeg_variables
from brainloom.analysis.meeg_scores import add_meeg_rows
from brainloom.analysis.metric_rows import MetricRows
from brainloom.io.meeg import MeegRecording
from brainloom.io.simulation_export import export_simulation
from brainloom.report import meeg_figures
from brainloom.report.meeg_sections import meeg_section, meeg_sentences, meeg_tiles
from brainloom.report.results import Results
from brainloom.report.style import figure_style
from brainloom.report.summary import SubjectSummary
from brainloom.report.tables import electric_scores


@pytest.fixture(scope="module")
def datasets() -> dict[str, xr.Dataset]:
    """Signal, fit and simulation of one subject with a 10 Hz rhythm; the fit is half as loud."""
    rng = np.random.default_rng(3)
    field = lead_field()
    series = 20e-9 * rhythm(rng, 6000, RATE, 10.0) @ field.gain.T
    series += 1e-7 * rng.normal(size=series.shape)
    recording = MeegRecording(
        "eeg", [series], RATE, ELECTRODES, "V", "average", field.gain, field.sensor_positions
    )
    signal = meeg_variables(recording, EEG, signal={"splits": "halves"}, regions=LABELS).assign_attrs(
        modality="eeg"
    )
    test = signal.sel(split="test")
    fit = xr.Dataset(
        {"eeg_psd_model": (("predictor", "eeg_sensor", "eeg_frequency"), 0.5 * test["eeg_psd"].values[None])},
        coords={"predictor": ["model"]},
    )
    two = [signal.sel(split=split) for split in ("train", "test")]
    simulation = xr.Dataset(
        {
            f"eeg_{key}": (
                ("seed", *(dim for dim in signal[f"eeg_{key}"].dims if dim != "split")),
                np.stack([one[f"eeg_{key}"].values for one in two]),
            )
            for key in ("psd", "envelope_fc", "peak_frequency")
        },
        attrs={"dt": 0.001},
    )
    simulation["eeg"] = (("eeg_seed", "eeg_time", "eeg_sensor"), series[None, :500].astype(np.float32))
    simulation = simulation.assign_coords(eeg_sensor=ELECTRODES)
    return {"signal": signal, "fit": fit, "simulation": simulation}


@pytest.fixture(scope="module")
def results(datasets) -> Results:
    rows = MetricRows("01", "JansenRitStep")
    add_meeg_rows(rows, **datasets, warnings=[])
    table = rows.to_dataset().to_dataframe()
    table = table[table["seed"] == -1].drop(columns="seed")
    return Results(
        study="x",
        metrics=table,
        parameters=pd.DataFrame(),
        cohort=pd.DataFrame({"subject": ["01"], "included": ["yes"], "reason": [""]}),
        datasets={},
        params={"modality": ["eeg"], "eeg": EEG, "seed": 0},
    )


def test_spectra_of_a_10_hz_signal_peak_at_10_hz_on_labelled_axes(datasets):
    with figure_style():
        figure = meeg_figures.subject_spectra_figure("eeg", **datasets)
    first = figure.axes[0]
    assert first.get_xlabel() == "Frequency (Hz)" and first.get_ylabel() == "Power density (V²/Hz)"
    lines = {line.get_label(): line for line in first.get_lines()}
    assert list(lines) == [
        "Recorded (training)",
        "Recorded (held out)",
        "Model (analytic)",
        "Model (simulated)",
    ]
    for line in lines.values():
        assert abs(line.get_xdata()[np.argmax(line.get_ydata())] - 10) <= 1
    ratio = lines["Model (analytic)"].get_ydata() / lines["Recorded (held out)"].get_ydata()
    np.testing.assert_allclose(ratio, 0.5)
    strongest = np.argsort(-datasets["signal"]["eeg_psd"].sel(split="test").sum("eeg_frequency").values)
    assert [axes.get_title("left") for axes in figure.axes[1:]] == [ELECTRODES[k] for k in strongest[:3]]


def test_the_lead_field_is_mapped_with_its_sides(datasets):
    with figure_style():
        figure = meeg_figures.lead_field_figure("eeg", datasets["signal"])
    matrix, left, right, bar = figure.axes
    assert bar.get_ylabel() == "V/(A m)"
    np.testing.assert_array_equal(matrix.images[0].get_array(), lead_field().gain)
    sides = dict(zip(LABELS, CENTRES[:, 0], strict=True))
    assert sides[left.get_title("left")] < 0 < sides[right.get_title("left")]
    # The dot under the strongest value lies on the side of the region.
    for axes, sign in ((left, -1), (right, 1)):
        dots = axes.collections[0]
        strongest = np.argmax(np.abs(dots.get_array()))
        assert sign * dots.get_offsets()[strongest][0] > 0
    sources = datasets["signal"].drop_vars("eeg_lead_field")
    assert meeg_figures.lead_field_figure("eeg", sources) is None


def test_scores_sentences_and_tiles_of_a_modality(datasets, results):
    summary = SubjectSummary("01")
    meeg_figures.summarise_electric(summary, datasets)
    assert summary.data["eeg_sensors"] == 8 and summary.data["eeg_duration_test"] == 30
    with figure_style():
        (part,) = meeg_section(results, [summary])["electric"]
    assert [figure.name for figure in part["figures"]] == [
        "eeg-spectra",
        "score-eeg-psd-r",
        "score-eeg-psd-rmse",
        "score-eeg-peak-error",
        "score-eeg-envelope-fc-r",
    ]
    assert part["score_table"]["head"][0] == "EEG spectrum r, training"
    rows = {row["name"]: row for row in electric_scores(results.metrics, "01", "eeg")["rows"]}
    head = electric_scores(results.metrics, "01", "eeg")["head"]
    shown = dict(zip(head, (cell["value"] for cell in rows["Model (analytic)"]["cells"]), strict=True))
    assert shown["EEG spectrum r"] == "1.000" and shown["EEG spectrum RMSE"] == "0.301"  # half the power
    assert shown["EEG envelope FC r"] == ""
    assert meeg_sentences(results)[0].startswith(
        "EEG spectra of the model correlate with the held-out ones at 1.000 (own training spectra: 0.9"
    )
    assert (meeg_tiles(results)[0]["label"], meeg_tiles(results)[0]["value"]) == ("EEG spectrum r", "1.000")


def test_a_report_of_bold_alone_has_no_part_of_eeg(results):
    alone = Results(**(vars(results) | {"params": {"seed": 0}}))
    assert meeg_section(alone, []) == {"electric": []} and meeg_tiles(alone) == meeg_sentences(alone) == []


def test_exports_appear_whole_and_open_elsewhere(datasets, tmp_path):
    import mne

    signal, simulation = datasets["signal"], datasets["simulation"]
    bold = np.random.default_rng(1).normal(size=(2, 40, 6)).astype(np.float32)
    simulation = simulation.assign(bold=(("seed", "time", "region"), bold)).assign_attrs(repetition_time=2.0)
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "old.txt").write_text("of a run before")
    written = export_simulation(folder, "01", simulation, signal, ["bids", "fif"], atlas="six")
    assert [path.relative_to(folder).as_posix() for path in written] == [
        "sub-01/func/sub-01_task-sim_run-1_atlas-six_timeseries.tsv",
        "sub-01/eeg/sub-01_task-sim_run-1_eeg.fif",
    ]
    assert not (folder / "old.txt").exists() and (folder / "dataset_description.json").is_file()
    raw = mne.io.read_raw_fif(written[1], verbose="error")
    assert raw.ch_names == ELECTRODES and raw.info["sfreq"] == RATE
    np.testing.assert_allclose(raw.get_data().T, simulation["eeg"].values[0], rtol=1e-6, atol=1e-12)
    place = np.array([channel["loc"][:3] for channel in raw.info["chs"]])
    np.testing.assert_allclose(1e3 * place, signal["eeg_position"].values, atol=1e-3)
    lost = simulation.assign(bold=simulation["bold"] * np.nan)
    assert export_simulation(folder, "01", lost, signal, ["bids"], atlas="six") == []
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
