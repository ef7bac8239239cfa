"""Simulated realisations: reproducible whatever the batch, the length and the transient."""

import jax
import numpy as np
import pytest

from brainloom.models import HopfStep, LinearStep
from brainloom.network import Network, lower
from brainloom.simulate import Simulator, _rollout, stable_step, steps_per_sample

RNG = np.random.default_rng(1)
WEIGHTS = RNG.uniform(0.0, 0.5, (3, 3))
NODE = HopfStep(3, a=-0.1, w=np.array([0.3, 0.4, 0.5]), noise_x=0.05, noise_y=0.05)
SIMULATOR = Simulator(Network(NODE, WEIGHTS, coupled_var=("x", "y")), 0.1)
KEY = jax.random.key(7)


def run(duration=4.0, *, batch_size=3, key=KEY, sample_every=0.5, simulator=SIMULATOR, **options):
    found = simulator.run(duration, key=key, batch_size=batch_size, sample_every=sample_every, **options)
    return np.asarray(found["source"])


@pytest.fixture(scope="module")
def samples():
    return run()


def test_shape_times_and_spread(samples):
    assert samples.shape == (3, 8, 3) and samples.dtype == np.float64
    found = SIMULATOR.run(4.0, key=KEY, batch_size=3, sample_every=0.5)
    np.testing.assert_allclose(found["ts"], 0.5 * np.arange(1, 9))
    assert not np.asarray(found["diverged"]).any()
    # all realisations and all samples are different draws
    assert np.abs(samples[0] - samples[1]).min() > 1e-6 and np.abs(np.diff(samples, axis=1)).min() > 1e-6


# The same numbers are drawn; compiled programs of other shapes may round differently.
def same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_a_realisation_does_not_depend_on_the_batch_size(samples):
    same(run(batch_size=1), samples[:1])
    same(run(batch_size=5)[:3], samples)


def test_a_realisation_does_not_depend_on_the_duration(samples):
    same(run(2.5), samples[:, :5])


def test_a_transient_drops_the_first_samples(samples):
    same(run(2.5, transient=1.5), samples[:, 3:])


def test_the_same_key_gives_the_same_bytes_and_another_key_another_run(samples):
    np.testing.assert_array_equal(run(), samples)
    assert np.abs(run(key=jax.random.key(8)) - samples).min() > 1e-6


def test_sampling_keeps_every_nth_state_of_the_network():
    """Without noise the samples are those of `advance`."""
    network = Network(HopfStep(3, a=0.2, w=0.4, init_x=[0.5, -0.2, 0.1]), WEIGHTS, coupled_var=("x", "y"))
    low = lower(network, 0.1, "rk4")
    quiet = np.zeros((20, *low.noise_shape))
    every = low.advance(low.params, low.init(low.params), {}, quiet, 0.0)[1]["y"]
    found = Simulator(network, 0.1, method="rk4").run(2.0, sample_every=0.4, observe="y")["y"]
    np.testing.assert_allclose(found[0], every[3::4], rtol=1e-12)
    dense = Simulator(network, 0.1, method="rk4").run(2.0, observe="y")["y"]
    np.testing.assert_allclose(dense[0], every, rtol=1e-12)


def test_a_start_can_be_given_per_realisation():
    network = Network(LinearStep(2, gamma=-0.5), np.zeros((2, 2)))
    start = {"x": np.array([[1.0, 2.0], [3.0, 4.0]])}
    found = Simulator(network, 0.1, method="exp_euler").run(
        1.0, batch_size=2, sample_every=1.0, initial=start
    )
    np.testing.assert_allclose(found["source"][:, 0], start["x"] * np.exp(-0.5), rtol=1e-12)


def test_wrong_requests_are_errors():
    with pytest.raises(ValueError, match="the model has noise; pass key"):
        SIMULATOR.run(1.0)
    with pytest.raises(ValueError, match="HopfStep has no observable 'z'; it has source, x, y"):
        SIMULATOR.run(1.0, key=KEY, observe="z")
    with pytest.raises(
        ValueError, match=r"dt 0.1 does not divide the sampling interval 0.72; use dt 0.102857"
    ):
        SIMULATOR.run(1.0, key=KEY, sample_every=0.72)
    with pytest.raises(ValueError, match="dt is 0; it must be positive"):
        Simulator(SIMULATOR.model, 0)


def test_the_step_that_the_error_names_divides_the_interval():
    assert steps_per_sample(0.72, 0.72 / 7) == 7
    assert steps_per_sample(0.72, 0.072) == 10  # 0.72 / 0.072 is not a whole number in floating point


def test_a_step_too_long_for_the_fastest_rate_is_halved_with_a_warning(recwarn):
    assert stable_step(0.1, 9.9) == 0.1 and not recwarn
    with pytest.warns(UserWarning, match=r"dt 0.1 is too long for the fastest rate 35; using dt 0.025"):
        assert stable_step(0.1, 35.0) == pytest.approx(0.025)


def test_diverged_realisations_are_flagged_alone():
    network = Network(HopfStep(2, a=-0.1, w=0.3), np.zeros((2, 2)))
    start = {"x": np.array([[0.1, 0.1], [0.1, 1e3], [0.2, 0.1]]), "y": np.zeros((3, 2))}
    found = Simulator(network, 0.5).run(20.0, batch_size=3, initial=start)  # explicit steps blow up from 1e3
    assert np.asarray(found["diverged"]).tolist() == [False, True, False]
    finite = np.isfinite(found["source"]).all(axis=(1, 2))
    assert finite.tolist() == [True, False, True]


def test_nothing_is_compiled_again_for_the_same_shapes(samples):
    before = _rollout._cache_size()
    run(key=jax.random.key(9))
    run(transient=3.0)
    other = HopfStep(3, a=-0.2, w=np.array([0.1, 0.2, 0.3]), beta=2.0, noise_x=0.01, noise_y=0.02)
    run(simulator=Simulator(Network(other, 2 * WEIGHTS, coupled_var=("x", "y"), gain=3.0), 0.05))
    assert _rollout._cache_size() == before + 1  # half the step: twice the steps in a sample
    run(simulator=Simulator(Network(other, WEIGHTS, coupled_var=("x", "y")), 0.1))
    assert _rollout._cache_size() == before + 1
