"""Plots hold the data they are given and name its units; the snippets of their documentation run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

import brainloom.models  # noqa: F401  (before brainunit: it settles the precision)
from brainloom import datasets, viz

matplotlib.use("Agg")

import brainunit as u
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def waves():
    """Three sines of 5, 10 and 20 Hz, one second at 1 kHz."""
    return np.sin(2 * np.pi * np.arange(1000)[:, None] * np.array([5, 10, 20]) / 1000)


def test_timeseries_holds_values_times_names_and_units(waves):
    ax = viz.plot_timeseries(waves * u.mV, np.arange(1000) * u.ms, labels=["a", "b", "c"])
    for line, column in zip(ax.lines, waves.T, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1000))
        np.testing.assert_array_equal(line.get_ydata(), column)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (ms)", "signal (mV)")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]


def test_plain_timeseries_counts_samples(waves):
    ax = viz.plot_timeseries(waves[:, 1])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), waves[:, 1])
    assert ax.lines[0].get_xdata()[-1] == 999
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()) == ("sample", "signal", None)


def test_many_lines_have_colours_of_their_own_and_a_legend_that_fits():
    values = np.random.default_rng(0).normal(size=(20, 40))
    ax = viz.plot_timeseries(values, labels=[f"region {k}" for k in range(40)])
    assert len({tuple(line.get_color()) for line in ax.lines}) == 40
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names[:2] == ["region 0", "region 3"] and len(names) <= 14
    assert {line.get_color() for line in viz.plot_timeseries(values, color="red").lines} == {"red"}


def test_own_axes_and_options_are_used(waves):
    _, given = plt.subplots()
    assert viz.plot_timeseries(waves, ax=given, lw=3) is given
    assert {line.get_linewidth() for line in given.lines} == {3}
    assert len(plt.get_fignums()) == 1


def test_phase_plane_marks_the_start(waves):
    ax = viz.plot_phase(waves[:, 0] * u.Hz, waves[:, 1] * u.mV / u.second)
    curve, start = ax.lines
    np.testing.assert_array_equal(curve.get_xydata(), waves[:, :2])
    np.testing.assert_array_equal(start.get_xydata(), waves[:1, :2])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (Hz)", "y (mV / s)")


def test_connectivity_shows_rows_as_targets():
    matrix = np.arange(9.0).reshape(3, 3)
    ax = viz.plot_connectivity(matrix * u.mm, cmap="magma")
    image = ax.images[0]
    np.testing.assert_array_equal(image.get_array(), matrix)
    assert image.get_cmap().name == "magma"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("from region", "to region")
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "mm"
    without = viz.plot_connectivity(matrix, colorbar=False)
    assert len(without.figure.axes) == 1


@pytest.mark.parametrize(("n_regions", "written"), [(4, 4), (45, 45), (100, 34)])
def test_region_names_are_written_as_long_as_they_can_be_read(n_regions, written):
    labels = [f"r{k}" for k in range(n_regions)]
    ax = viz.plot_connectivity(np.eye(n_regions), labels=labels)
    shown = [text.get_text() for text in ax.get_yticklabels()]
    assert len(shown) == written
    for at, name in zip(ax.get_yticks(), shown, strict=True):
        assert labels[int(at)] == name


def test_fc_of_a_recording_and_as_a_matrix_agree(waves):
    recording = waves + np.random.default_rng(1).normal(size=waves.shape)
    fc = np.corrcoef(recording, rowvar=False)
    of_recording = viz.plot_functional_connectivity(recording * u.mV).images[0]
    of_matrix = viz.plot_functional_connectivity(fc, is_matrix=True, vmax=0.5).images[0]
    # two float64 formulas of the same correlation
    np.testing.assert_allclose(of_recording.get_array(), fc, atol=1e-12)
    np.testing.assert_array_equal(of_matrix.get_array(), fc)
    assert of_recording.get_clim() == (-1, 1) and of_matrix.get_clim() == (-1, 0.5)
    assert of_recording.axes.figure.axes[1].get_ylabel() == "correlation"


@pytest.mark.parametrize("dt", [1.0 * u.ms, 0.001 * u.second])
def test_spectrum_peaks_at_the_frequency_in_hz(waves, dt):
    ax = viz.plot_spectrum(waves[:, 1] * u.mV, dt, window=1000)
    frequency, power = ax.lines[0].get_data()
    # the grid of a window of 1 s is 1 Hz; dt is rounded to the precision in use
    assert frequency[np.argmax(power)] == pytest.approx(10.0, rel=1e-6)
    assert frequency[0] > 0 and (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("frequency (Hz)", "power (mV² / Hz)")


def test_spectrum_integrates_to_the_variance():
    noise = np.random.default_rng(2).normal(size=(100_000, 1))
    frequency, power = viz.plot_spectrum(noise, 2.0, loglog=False, window=1000).lines[0].get_data()
    # about 400 windows x 500 frequencies: the sum has a relative error well below 2 %
    assert (power.sum() * (frequency[1] - frequency[0])) == pytest.approx(noise.var(), rel=0.02)


def test_spectra_of_regions_come_with_their_mean(waves):
    ax = viz.plot_spectrum(waves, 0.001, loglog=False)
    *regions, mean = (line.get_ydata() for line in ax.lines)
    np.testing.assert_allclose(mean, np.mean(regions, axis=0), rtol=1e-12)
    assert ax.get_xlabel() == "frequency (1 / unit of dt)" and ax.get_ylabel() == "power"
    assert viz.plot_spectrum(waves, 1 * u.ms).get_ylabel() == "power (1 / Hz)"


def test_fit_history_makes_the_best_start_strong():
    losses = np.array([[4.0, 2.0, 1.0], [3.0, 0.5, np.nan], [5.0, 4.0, 3.0]])
    for history in (losses, {"loss": losses}, SimpleNamespace(history={"loss": losses})):
        ax = viz.plot_fit_history(history)
        assert len(ax.lines) == 3
        np.testing.assert_array_equal(ax.lines[-1].get_ydata(), losses[1])
        assert ax.lines[-1].get_label() == "best start"
        assert ax.get_yscale() == "log" and (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")


def test_fit_history_of_one_start_may_be_negative():
    ax = viz.plot_fit_history(SimpleNamespace(history=[1.0, -1.0, -2.0]))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, -1, -2])
    assert ax.get_yscale() == "linear" and ax.get_legend() is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.plot_timeseries(np.zeros((2, 5, 3))), r"signal has shape \(2, 5, 3\)"),
        (lambda: viz.plot_timeseries(np.zeros(5), np.zeros(4)), r"ts has shape \(4,\), but signal has 5"),
        (lambda: viz.plot_timeseries(np.zeros((5, 2)), labels=["a"]), "1 labels for 2 regions"),
        (lambda: viz.plot_phase(np.zeros(5), np.zeros(4)), r"x has shape \(5, 1\) and y \(4, 1\)"),
        (lambda: viz.plot_connectivity(np.zeros((2, 3))), r"shape \(2, 3\); it must be square"),
        (lambda: viz.plot_connectivity(np.zeros((2, 2)), labels=list("abc")), "3 labels for 2 regions"),
        (lambda: viz.plot_functional_connectivity(np.zeros(9)), r"shape \(9,\); give \(time, region\)"),
        (lambda: viz.plot_spectrum(np.zeros(9), 0.0), "dt is 0.0; it must be one positive time"),
        (lambda: viz.plot_spectrum(np.zeros(9), 1.0 * u.mV), "dt is given in mV, but it is needed in s"),
        (lambda: viz.plot_fit_history({"cost": [1.0]}), "has cost, but no 'loss'"),
        (lambda: viz.plot_fit_history([np.nan, np.inf]), "give numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
    assert not plt.get_fignums()


def test_published_names_are_the_same_functions():
    assert viz.plot_phase_portrait is viz.plot_phase
    assert viz.plot_power_spectrum is viz.plot_spectrum


def test_import_does_not_load_matplotlib():
    code = "import sys, brainloom.viz; print(sorted({'matplotlib', 'jax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_snippets_of_the_documentation_run(monkeypatch, capsys):
    monkeypatch.setattr(datasets, "_REGISTRY", dict(datasets._REGISTRY))
    page = (ROOT / "docs" / "howto-datasets-and-plots.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    names: dict = {}
    for snippet in snippets:
        exec(snippet, names)
    assert len(snippets) == 4 and "example_connectome" in capsys.readouterr().out
    assert len(plt.get_fignums()) == 3
