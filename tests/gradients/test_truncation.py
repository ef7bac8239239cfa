"""Truncated backpropagation: the same run, and the sum of the gradients of its windows."""

from functools import partial

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import BOLD, ReducedWongWangStep
from brainloom.network import Network
from brainloom.simulate import Simulator

DT, KEY = 0.1, jax.random.key(4)
WEIGHTS = np.random.default_rng(0).uniform(0.2, 0.9, (3, 3))
DISTANCE = np.random.default_rng(1).uniform(10.0, 25.0, (3, 3))


def simulator(k, a=-0.1, delayed=False):
    options = {"distance": DISTANCE, "speed": 10.0} if delayed else {}
    node = HopfStep(3, a=a, w=np.array([0.5, 0.8, 0.6]), init_x=0.4, noise_x=0.05)
    return Simulator(Network(node, WEIGHTS, k=k, coupled_var="x", **options), DT, method="euler")


def loss(x):
    return jnp.mean(jnp.tanh(3.0 * x) + x**2)


@pytest.mark.parametrize(("delayed", "memory"), [(False, None), (True, "70 kB")])
def test_the_gradient_is_the_sum_of_those_of_the_windows(delayed, memory):
    """
    Each window alone, from the state that the run has at its start, by central differences.

    A run that is continued has fixed starts of its windows: that is what truncation differentiates. Three windows of
    7 s, longer than a page, and a rest; the transient has no gradient.
    """
    lengths, sampled = [70.0, 70.0, 70.0, 33.0], {"sample_every": 0.5, "monitors": "x", "key": KEY}

    def whole(k, truncate=None):
        run = simulator(k, delayed=delayed).run
        return run(283.0, transient=40.0, truncate=truncate, memory=memory, **sampled)["x"]

    value, slope = jax.value_and_grad(lambda k: loss(whole(k, 70.0)))(0.4)
    full = jax.value_and_grad(lambda k: loss(whole(k)))(0.4)
    np.testing.assert_allclose(value, full[0], rtol=1e-12)  # fused in another order

    expected, one = 0.0, simulator(0.4, delayed=delayed)
    one.run(40.0, **sampled)
    for length in lengths:
        begun = one._left
        ends = []
        for k in (0.4 - 1e-5, 0.4 + 1e-5):
            moved = simulator(k, delayed=delayed)
            moved._left = begun
            x = moved.run(length, init_states=False, **sampled)["x"]
            ends.append(float(loss(x)) * length / sum(lengths))
        expected += (ends[1] - ends[0]) / 2e-5
        one.run(length, init_states=False, **sampled)
    # error of central differences: third derivatives, of the order of one, times 1e-10
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    assert abs(slope - full[1]) > 1e-3 * abs(full[1])  # windows leave out what came before them


def test_windows_longer_than_the_memory_of_the_system_lose_little():
    """
    A damped network forgets in 1/|a| = 5 time units.

    A window of 60 of them leaves out, in its first few, the change that came before: less than a tenth of the gradient.
    """

    @partial(jax.jit, static_argnums=1)
    @jax.grad
    def slope(a, truncate):
        run = simulator(0.05, a=a).run
        x = run(1500.0, transient=60.0, sample_every=0.5, monitors="x", key=KEY, truncate=truncate)["x"]
        return jnp.mean(x**2)

    full, short, long = (slope(-0.2, truncate) for truncate in (None, 5.0, 60.0))
    assert abs(short / full - 1.0) > 0.3
    assert abs(long / full - 1.0) < 0.1


def test_bold_in_windows_of_its_samples():
    """Sampling intervals longer than a page; a derivative by forward mode ends at the windows, too."""
    node = ReducedWongWangStep(2, w=0.8, noise_S=0.01)
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])

    @partial(jax.jit, static_argnums=1)
    def bold(k, truncate):
        one = Simulator(Network(node, weights, k=k), 1.0 * u.ms, method="euler")
        given = {"observe": [BOLD(0.5 * u.second)], "monitors": [], "key": KEY}
        given |= {} if truncate is None else {"truncate": truncate * u.second}
        return one.run(6.0 * u.second, **given)["bold"].sum(axis=1)

    (value, whole), (same, cut) = (jax.jvp(lambda k, t=t: bold(k, t), (0.2,), (1.0,)) for t in (None, 3.0))
    np.testing.assert_allclose(same, value, rtol=1e-12)  # fused in another order
    np.testing.assert_allclose(cut[:6], whole[:6], rtol=1e-9)  # the first window has all of the past
    assert abs(cut[6] / whole[6] - 1.0) > 0.3


def test_what_does_not_fit_the_samples_is_refused():
    with pytest.raises(ValueError, match=r"truncate is 1\.2 .*multiple of the sampling interval, 0\.5"):
        simulator(0.4).run(10.0, sample_every=0.5, truncate=1.2, key=KEY)


@pytest.mark.parametrize(("option", "value"), [("truncate", 1.0), ("memory", "1 MB")])
def test_modules_with_an_update_of_their_own_take_neither(option, value):
    class Own(brainstate.nn.Module):
        def update(self):
            return 0.0

    with pytest.raises(ValueError, match=f"Own is run by its own update and cannot take {option}"):
        Simulator(Own(), DT).run(1.0, **{option: value})
