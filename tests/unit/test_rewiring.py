"""Degree-preserving rewiring: what it keeps, that it randomises, what it refuses, and its way into the fits."""

import json

import numpy as np
import pytest
from ou_cohort import COMMON, params, store, subject_inputs
from scipy.sparse.csgraph import connected_components

from brainloom.analysis.rewiring import density, refusal, rewire
from brainloom.fit.controls import control_connectomes
from brainloom.steps.analyse import main
from brainloom.store import read_dataset

N = 60
UPPER = np.triu_indices(N, 1)
CONTROLS = {
    "other_subject": False,
    "edge_shuffle": 0,
    "distance_shuffle": 0,
    "rewire": 2,
    "uniform": False,
    "distance": False,
}


def sparse(share, n=N, seed=0):
    """Connected connectome of a given density: near regions are connected, with log-normal weights."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(size=(n, 3))
    length = np.linalg.norm(places[:, None] - places[None], axis=-1) * np.exp(0.2 * rng.normal(size=(n, 1)))
    length = length + length.T
    upper = np.triu_indices(n, 1)
    near = length < np.quantile(length[upper], share)
    ring = np.arange(n)
    near[ring, (ring + 1) % n] = near[(ring + 1) % n, ring] = True
    noise = rng.normal(size=(n, n))
    weights = np.where(near, np.exp(noise + noise.T), 0.0)
    np.fill_diagonal(weights, 0.0)
    return weights


def expected_overlap(adjacency, steps=500):
    """Share of edges that a random graph of these degrees has in common: maximum entropy, p_ij = x_i x_j / (1 + x_i x_j)."""
    degree = adjacency.sum(axis=1)
    x = degree / np.sqrt(degree.sum())
    for _ in range(steps):
        each = x[None, :] / (1 + np.outer(x, x))
        np.fill_diagonal(each, 0.0)
        x = degree / each.sum(axis=1)
    p = np.outer(x, x) / (1 + np.outer(x, x))
    return p[UPPER][adjacency[UPPER]].mean()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.45])
def test_what_is_kept_and_what_is_not(share):
    weights = sparse(share)
    found = rewire(weights, 1)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 0.0)
    np.testing.assert_array_equal((found > 0).sum(axis=1), (weights > 0).sum(axis=1))
    np.testing.assert_allclose(np.sort(found[UPPER]), np.sort(weights[UPPER]), rtol=1e-12)
    assert connected_components(found > 0, directed=False, return_labels=False) == 1
    assert found.sum() == pytest.approx(weights.sum(), rel=1e-12)
    # Strengths are matched by ranks: most of their pattern stays, far more than by chance.
    assert np.corrcoef(found.sum(axis=1), weights.sum(axis=1))[0, 1] > 0.7
    # The overlap is that of a random graph with these degrees; its standard deviation over such graphs is below
    # sqrt(p (1 - p) / edges), a single draw lies within four of them and 0.02 for the approximation by maximum entropy.
    overlap = np.mean((found > 0)[UPPER][(weights > 0)[UPPER]])
    expected = expected_overlap(weights > 0)
    edges = np.sum(weights[UPPER] > 0)
    assert overlap == pytest.approx(expected, abs=0.02 + 4 * np.sqrt(expected * (1 - expected) / edges))


def test_seeds_differ_and_repeat():
    weights = sparse(0.2)
    np.testing.assert_array_equal(rewire(weights, 3), rewire(weights, 3))
    assert np.mean((rewire(weights, 3) > 0) != (rewire(weights, 4) > 0)) > 0.05


def test_a_tree_that_swaps_would_cut_stays_in_one_piece():
    chain = np.diag(np.ones(19), 1) + np.diag(np.ones(19), -1)
    found = rewire(chain, 0)
    assert connected_components(found > 0, directed=False, return_labels=False) == 1
    np.testing.assert_array_equal(found.sum(axis=1), chain.sum(axis=1))
    assert not np.array_equal(found, chain)


def test_dense_and_rigid_connectomes_are_refused():
    with pytest.raises(
        ValueError, match=r"density 1\.00.*edge_shuffle and distance_shuffle are the controls"
    ):
        rewire(np.ones((N, N)) - np.eye(N), 0)
    star = np.zeros((10, 10))
    star[0, 1:] = star[1:, 0] = 1.0
    with pytest.raises(ValueError, match="can be rewired without doubling"):
        rewire(star, 0)
    assert density(star) == pytest.approx(0.2) and refusal(star) == ""


def test_the_control_is_made_where_it_can_be():
    lengths = np.ones((N, N))
    weights = sparse(0.2)
    found = control_connectomes(CONTROLS, weights, lengths, None, 5)
    assert list(found) == ["control_rewired:0", "control_rewired:1"]
    np.testing.assert_array_equal(found["control_rewired:1"], rewire(weights, 6))
    assert control_connectomes(CONTROLS, np.ones((N, N)), lengths, None, 5) == {}
    assert control_connectomes(CONTROLS | {"rewire": 0}, weights, lengths, None, 5) == {}


@pytest.mark.parametrize("asked", [0, 2])
def test_the_subject_is_told_when_it_cannot_be(tmp_path, asked):
    inputs = subject_inputs(1)
    files = store(tmp_path, {k: ds for k, ds in inputs.items() if k != "posterior"})
    settings = COMMON | {"analyse": {"fcd": False} | ({"controls": {"rewire": asked}} if asked else {})}
    lists = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    assert main([*lists, "--output", str(tmp_path / "m.zarr.zip"), *params(settings)]) == 0
    ds = read_dataset(tmp_path / "m.zarr.zip")
    assert any("density 1.00" in text for text in json.loads(ds.attrs["warnings"])) == bool(asked)
    # without FCD there are no surrogates of its dynamics, and the stationary null of all else is there
    predictors = set(ds["predictor"].values.astype(str))
    assert "stationary_train" in predictors and "stationary_surrogate" not in predictors
