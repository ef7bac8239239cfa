"""Noise of a run is a function of key, realisation, step and region; runs are cut and compiled as little as may be."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, KuramotoStep, LinearStep
from brainloom.noise import OUProcess, PinkNoise

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import run_plan, runs
from brainloom.models.lowering import lower
from brainloom.network import Network
from brainloom.noise.counter import increments, key_words
from brainloom.simulate import Simulator

N, DT = 3, 0.1
KEY = jax.random.key(7)
RNG = np.random.default_rng(1)
WEIGHTS = RNG.uniform(0.1, 0.5, (N, N))
LAGS = RNG.uniform(0.5, 2.0, (N, N))


def delayed():
    node = HopfStep(
        N,
        a=-0.1,
        w=np.array([0.3, 0.4, 0.5]),
        noise_x=0.05,
        noise_x_input=OUProcess(N, sigma=0.1, tau=3.0),
    )
    return Simulator(Network(node, WEIGHTS, delay=LAGS, k=0.3, coupled_var="x"), DT, method="heun")


SIMULATORS = {
    "delayed": delayed,
    "white": lambda: Simulator(LinearStep(N, noise_x=0.2), DT),
    "pink": lambda: Simulator(LinearStep(N, noise_current=PinkNoise(N, sigma=0.2)), DT),
    "random start": lambda: Simulator(KuramotoStep(N, noise_theta=0.1), DT),
}


LAWS = {"white": "gaussian"}


def path(name, duration=2.0, **options):
    simulator = SIMULATORS[name]()
    # for all but one the law that compiles fastest
    options = {"key": KEY, "monitors": "source", "noise": LAWS.get(name, "weak")} | options
    return np.asarray(simulator.run(duration, **options)["source"])


# The same numbers are drawn; programs of other shapes may round differently.
def same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


# --- what noise depends on --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SIMULATORS)
def batch(request):
    return request.param, path(request.param, batch_size=3)


def test_a_realisation_does_not_depend_on_the_batch(batch):
    name, three = batch
    assert three.shape == (20, 3, N)
    same(path(name, batch_size=5)[:, :3], three)
    same(path(name), three[:, 0])  # a run without a batch is realisation 0


def test_batch_members_regions_and_steps_differ(batch):
    _, three = batch
    gaps = [np.abs(three[:, i] - three[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    gaps.append(np.abs(np.diff(three, axis=0)))
    if batch[0] != "delayed":  # regions that are alike but for their noise
        gaps += [np.abs(three[..., i] - three[..., j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(gap.min() for gap in gaps) > 1e-7


def test_the_key_decides(batch):
    name, three = batch
    np.testing.assert_array_equal(path(name, batch_size=3), three)  # bytes
    assert np.abs(path(name, batch_size=3, key=jax.random.key(8)) - three).min() > 1e-7


def test_realisation_m_draws_the_words_of_its_number():
    """A random walk shows its increments: those of the counter, at the step they are made."""
    simulator = Simulator(LinearStep(N, gamma=0.0, noise_x=np.array([0.1, 0.2, 0.4]), init_x=0.0), DT)
    found = simulator.run(2.0, key=KEY, batch_size=4, monitors="x")["x"]
    for member in range(4):
        draws = increments("gaussian", key_words(KEY, member), 0, 20, 1, N)[:, 0]
        walk = np.cumsum(np.array([0.1, 0.2, 0.4]) * np.sqrt(DT) * draws, axis=0)
        np.testing.assert_allclose(found[:, member], walk, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["delayed", "pink"])
def test_a_run_is_the_beginning_of_a_longer_one(name):
    """Over whole pages and over those that an interval makes of them."""
    long = path(name, 400.0)
    same(path(name, 300.0), long[:3000])
    same(path(name, 230.0, sample_every=1150), long[1149:2300:1150])
    if name == "delayed":
        same(path(name, 400.0, transient=100.0), long[1000:])
        same(path(name, 120.3), long[:1203])
        same(path(name, 231.0, transient=1300, sample_every=30), long[1329:2310:30])


# --- runs in pieces ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_run_in_pieces_is_a_run_in_one(name):
    options = {"key": KEY, "monitors": "source", "batch_size": 3, "noise": LAWS.get(name, "weak")}
    whole = SIMULATORS[name]().run(6.0, **options)
    simulator = SIMULATORS[name]()
    parts = [simulator.run(2.0, init_states=False, **options) for _ in range(3)]
    same(np.concatenate([part["source"] for part in parts]), whole["source"])
    np.testing.assert_allclose(np.concatenate([part["ts"].mantissa for part in parts]), whole["ts"].mantissa)


def test_pieces_may_have_transients_and_cross_pages():
    options = {"key": KEY, "noise": "weak"}
    whole = SIMULATORS["delayed"]().run(260.0, monitors=["x", "y"], **options)
    simulator = SIMULATORS["delayed"]()
    simulator.run(70.0, **options)
    piece = simulator.run(
        190.0, monitors=["x", "y"], transient=30.0, init_states=False, sample_every=4, **options
    )
    for name in ("x", "y"):
        same(piece[name], whole[name][1003::4])
    assert float(piece["ts"][0].mantissa) == pytest.approx(100.4)
    # without init_states=False the next run starts anew
    same(simulator.run(260.0, monitors=["x", "y"], **options)["x"], whole["x"])


def test_a_piece_goes_on_with_inputs_that_depend_on_time():
    def wave(t):
        return jnp.sin(0.7 * t.mantissa)

    options = {"inputs": wave, "monitors": "x"}
    whole = Simulator(LinearStep(2), DT, method="rk4").run(6.0, **options)["x"]
    simulator = Simulator(LinearStep(2), DT, method="rk4")
    parts = [simulator.run(t, init_states=False, **options)["x"] for t in (2.5, 3.5)]
    same(np.concatenate(parts), whole)


def test_a_run_with_a_gradient_is_the_run_without():
    """Programs that have a reverse mode and programs that run any number of pages do the same."""
    free = path("delayed", 230.0, transient=20.0, sample_every=10)
    traced = jax.jit(
        lambda key: SIMULATORS["delayed"]().run(
            230.0, transient=20.0, sample_every=10, key=key, monitors="source", noise="weak"
        )["source"]
    )(KEY)
    same(traced, free)


def test_a_run_is_what_advance_gives_for_the_same_draws():
    simulator = SIMULATORS["delayed"]()
    low = lower(simulator.model, DT, "heun")
    draws = increments("weak", key_words(KEY, 0), 0, 20, *low.noise_shape)
    _, out = jax.jit(low.advance)(low.params, low.init(low.params, KEY), {}, draws)
    same(out["source"], path("delayed"))


# --- what is compiled ----------------------------------------------------------------------------------------------


def test_nothing_is_compiled_again_for_other_values_durations_and_keys():
    def made(a=-0.1, scale=1.0, k=0.3):
        node = HopfStep(N, a=a, w=0.4, noise_x=0.05 * scale)
        return Simulator(Network(node, scale * WEIGHTS, delay=scale * LAGS, k=k, coupled_var="x"), DT)

    page = DT * run_plan.PAGE
    made().run(3 * page, key=KEY)
    made().run(4 * page, key=KEY, transient=page)
    count = runs.run_open._cache_size()
    made().run(4 * page, key=KEY)  # room is made for powers of two of pages
    made(a=0.1, k=1.1).run(3 * page, key=jax.random.key(9))
    made().run(9 * page, key=KEY, transient=5 * page)
    simulator = made()
    simulator.run(3 * page, key=KEY)
    simulator.run(4 * page, key=KEY, init_states=False)
    assert runs.run_open._cache_size() == count
    made().run(3 * page, key=KEY, sample_every=5)
    assert runs.run_open._cache_size() == count + 1  # the cache does count


def test_unknown_laws_are_errors():
    with pytest.raises(ValueError, match="the kind of draws is 'uniform'; it must be one of gaussian, weak"):
        path("white", noise="uniform")
