"""The example data agree with the demo cohort, the task is what it says, and the registry guards its names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import brainloom.models  # noqa: F401  (before brainunit: it settles the precision)
from brainloom import datasets
from brainloom.io import bids

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "data" / "demo"


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry that a test may fill."""
    monkeypatch.setattr(datasets, "_REGISTRY", dict(datasets._REGISTRY))


def test_packaged_copies_equal_the_demo(tmp_path):
    subprocess.run(
        [sys.executable, str(ROOT / "data" / "generate_examples.py"), str(tmp_path)], check=True, timeout=120
    )
    packaged = ROOT / "pipeline" / "brainloom" / "_data"
    assert {path.name for path in packaged.iterdir()} == {path.name for path in tmp_path.iterdir()}
    for path in packaged.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_connectome_is_that_of_the_first_subject():
    found = datasets.load_dataset("example_connectome")
    counts = np.loadtxt(bids.relmat_path(DEMO, "01", atlas="demo40", measure="weight"))
    lengths = np.loadtxt(bids.relmat_path(DEMO, "01", atlas="demo40", measure="length"))
    np.testing.assert_array_equal(found.weights, counts / counts.max())
    np.testing.assert_array_equal(
        found.distances.to_decimal(found.distances.unit)[counts > 0], lengths[counts > 0]
    )
    assert str(found.distances.unit) == "mm"
    assert list(found.labels) == bids.read_atlas(bids.atlas_path(DEMO, "demo40")).labels


def test_connectome_is_ready_for_a_network():
    weights, distances, labels = datasets.load_dataset("example_connectome")
    lengths = np.asarray(distances.mantissa)
    assert weights.shape == lengths.shape == (len(labels), len(labels)) == (40, 40)
    for matrix in (weights, lengths):
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.isfinite(matrix).all() and not matrix.diagonal().any()
    assert weights.min() == 0 and weights.max() == 1
    assert (lengths[~np.eye(40, dtype=bool)] > 0).all()


def test_signal_is_the_start_of_the_first_run():
    import brainunit as u

    found = datasets.load_dataset("example_signal")
    path = bids.timeseries_path(DEMO, "01", task="rest", atlas="demo40", run=1)
    whole, labels = bids.read_timeseries(path)
    np.testing.assert_array_equal(found.signal, whole[: len(found.signal)])
    assert found.signal.shape == (419, 40) and list(found.labels) == labels
    # 0.72 in float32 is off by 1e-8 relative
    assert float(found.dt.to_decimal(u.ms)) == pytest.approx(720.0, rel=1e-6)


def test_fc_of_the_signal_is_its_correlation():
    found = datasets.load_dataset("example_signal")
    a, b = (found.signal[:, k] - found.signal[:, k].mean() for k in (3, 17))
    # one sum of 419 products in float64
    assert found.fc[3, 17] == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)), abs=1e-12)
    assert found.fc.shape == (40, 40)
    np.testing.assert_allclose(found.fc.diagonal(), 1.0, atol=1e-12)


@pytest.mark.parametrize(("n_trials", "n_steps", "n_symbols"), [(50, 8, 2), (31, 2, 5)])
def test_task_asks_whether_the_symbols_match(n_trials, n_steps, n_symbols):
    inputs, targets = datasets.delayed_match_task(n_trials, n_steps, n_symbols, seed=3)
    assert inputs.shape == (n_trials, n_steps, n_symbols)
    assert targets.sum() == n_trials // 2
    shown = inputs.sum(axis=2)
    assert (shown[:, [0, -1]] == 1).all() and not shown[:, 1:-1].any()
    same = inputs[:, 0].argmax(axis=1) == inputs[:, -1].argmax(axis=1)
    np.testing.assert_array_equal(same, targets == 1)
    assert {*inputs[:, 0].argmax(axis=1)} == {*inputs[:, -1].argmax(axis=1)} == set(range(n_symbols))


def test_task_follows_its_seed():
    first, again, other = (datasets.delayed_match_task(seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    default = datasets.load_dataset("delayed_match_task")
    assert default[0].shape == (128, 8, 2) and default[1].shape == (128,)


@pytest.mark.parametrize(("name", "value"), [("n_trials", 0), ("n_steps", 1), ("n_symbols", 1)])
def test_impossible_tasks_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        datasets.delayed_match_task(**{name: value})


@pytest.mark.usefixtures("registry")
def test_own_dataset_is_listed_and_loaded_when_asked_for():
    calls = []
    datasets.register_dataset("mine", lambda: calls.append(1) or len(calls), description="counts its loads")
    assert not calls
    assert ("mine", "counts its loads") in datasets.list_datasets()
    assert [datasets.load_dataset("mine"), datasets.load_dataset("mine")] == [1, 2]


def test_built_in_datasets_are_described():
    listed = dict(datasets.list_datasets())
    assert list(listed) == sorted(listed)
    assert {"delayed_match_task", "example_connectome", "example_signal"} <= set(listed)
    assert all(listed.values())


@pytest.mark.usefixtures("registry")
def test_registry_refuses_what_it_cannot_keep():
    with pytest.raises(ValueError, match="'example_signal' is already registered"):
        datasets.register_dataset("example_signal", dict)
    with pytest.raises(TypeError, match="loader of dataset 'numbers' is a list"):
        datasets.register_dataset("numbers", [1, 2])
    with pytest.raises(
        KeyError, match="no dataset 'nothing'; there are delayed_match_task, example_connectome"
    ):
        datasets.load_dataset("nothing")
    assert "numbers" not in dict(datasets.list_datasets())


def test_import_stays_light():
    code = "import sys, brainloom.datasets; print(sorted({'jax', 'pandas', 'scipy', 'brainunit'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
