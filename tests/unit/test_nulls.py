"""Control connectomes: what they keep and what they destroy; surrogates likewise."""

import numpy as np
import pytest

from brainloom.analysis.nulls import distance_only, distance_shuffle, edge_shuffle, length_scale, uniform
from brainloom.analysis.surrogates import phase_randomised

N = 30
UPPER = np.triu_indices(N, 1)


@pytest.fixture
def lengths():
    places = np.random.default_rng(20).uniform(0, 100, (N, 3))
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


@pytest.fixture
def weights(lengths):
    noise = np.random.default_rng(21).normal(size=(N, N))
    matrix = np.exp(-lengths / 25 + 0.3 * (noise + noise.T))
    np.fill_diagonal(matrix, 0)
    return matrix


@pytest.mark.parametrize("name", ["edge_shuffle", "distance_shuffle", "uniform", "distance_only"])
def test_every_control_is_a_connectome_of_the_same_mean_strength(weights, lengths, name):
    control = {
        "edge_shuffle": lambda: edge_shuffle(weights, 3),
        "distance_shuffle": lambda: distance_shuffle(weights, lengths, 3),
        "uniform": lambda: uniform(weights),
        "distance_only": lambda: distance_only(weights, lengths),
    }[name]()
    np.testing.assert_array_equal(control, control.T)
    np.testing.assert_array_equal(np.diag(control), 0)
    assert (control >= 0).all()
    assert control.sum(axis=1).mean() == pytest.approx(weights.sum(axis=1).mean(), rel=1e-12)
    assert not np.allclose(control, weights, rtol=0.05)


def test_shuffles_keep_the_weights_and_depend_on_the_seed_alone(weights, lengths):
    for shuffle in (
        lambda seed: edge_shuffle(weights, seed),
        lambda seed: distance_shuffle(weights, lengths, seed),
    ):
        np.testing.assert_allclose(np.sort(shuffle(1)[UPPER]), np.sort(weights[UPPER]), rtol=1e-12)
        np.testing.assert_array_equal(shuffle(1), shuffle(1))
        assert not np.array_equal(shuffle(1), shuffle(2))


def test_distance_shuffle_keeps_weights_in_their_length_bin(weights, lengths):
    shuffled = distance_shuffle(weights, lengths, 5, n_bins=4)
    order = np.argsort(lengths[UPPER], kind="stable")
    for edges in np.array_split(order, 4):
        np.testing.assert_allclose(
            np.sort(shuffled[UPPER][edges]), np.sort(weights[UPPER][edges]), rtol=1e-12
        )
    decay = [np.corrcoef(lengths[UPPER], np.log(m[UPPER]))[0, 1] for m in (weights, shuffled)]
    assert decay[1] == pytest.approx(decay[0], abs=0.1)
    assert abs(np.corrcoef(lengths[UPPER], np.log(edge_shuffle(weights, 5)[UPPER]))[0, 1]) < 0.2


def test_distance_only_recovers_the_decay(weights, lengths):
    """True scale 25 mm with log-normal noise of 0.42 on 435 edges: within 10%."""
    assert length_scale(weights, lengths) == pytest.approx(25, rel=0.1)
    control = distance_only(weights, lengths)
    ratio = control[UPPER] * np.exp(lengths[UPPER] / length_scale(weights, lengths))
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-10)


def test_missing_lengths_count_as_the_longest(weights, lengths):
    weights[0, 1] = weights[1, 0] = 0
    lengths[0, 1] = lengths[1, 0] = 0
    lengths[2, 3] = lengths[3, 2] = np.nan
    control = distance_only(weights, lengths)
    assert control[0, 1] == control[2, 3] == control[UPPER].min()
    with pytest.raises(ValueError, match="no connection has a length"):
        distance_only(weights, np.zeros((N, N)))


def test_weights_that_do_not_fall_with_length_use_the_mean_length(lengths):
    growing = np.exp(lengths / 30)
    assert length_scale(growing, lengths) == pytest.approx(lengths[UPPER].mean())
    assert length_scale(np.ones((N, N)), lengths) == pytest.approx(lengths[UPPER].mean())


@pytest.mark.parametrize("n", [200, 201])
def test_surrogates_keep_every_cross_spectrum(n):
    random = np.random.default_rng(22)
    x = random.normal(size=(n, 4)).cumsum(axis=0) @ random.normal(size=(4, 4)) + 5
    surrogate = phase_randomised(x, [1, 2])
    a, b = np.fft.rfft(x, axis=0), np.fft.rfft(surrogate, axis=0)
    np.testing.assert_allclose(
        np.einsum("fi,fj->fij", b, b.conj()),
        np.einsum("fi,fj->fij", a, a.conj()),
        atol=1e-8 * np.abs(a).max() ** 2,
    )
    np.testing.assert_allclose(np.cov(surrogate.T), np.cov(x.T), rtol=1e-10)
    assert np.abs(surrogate - x).max() > 0.1 * x.std()
    np.testing.assert_array_equal(surrogate, phase_randomised(x, [1, 2]))
