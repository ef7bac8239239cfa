"""Streaming observers give what the stored trajectory gives, at fixed memory, with exact gradients."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, LinearStep

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.models.declare import Parameter
from brainloom.network import Network
from brainloom.observe import Filter, Observer, RunningFC, RunningMoments, Sample, TemporalAverage
from brainloom.observe.moments import correlation
from brainloom.simulate import Simulator

WEIGHTS = np.random.default_rng(1).uniform(0.0, 0.2, (3, 3))
KEY = jax.random.key(7)


def network(delayed, *, k=1.0, a=-0.1, noise=0.05):
    node = HopfStep(
        3, a=a, w=np.array([0.2, 0.3, 0.4]), noise_x=noise, noise_y=noise, init_x=[0.5, -0.3, 0.2]
    )
    lag = {"distance": np.array([[0.0, 12.0, 25.0]] * 3), "speed": 10.0} if delayed else {}
    return Network(node, WEIGHTS, coupled_var=("x", "y"), k=k, **lag)


def covariances(x):
    """(time, ..., region) -> (..., region, region), n - 1 below."""
    x = x - x.mean(axis=0)
    return np.einsum("t...i,t...j->...ij", x, x) / (len(x) - 1)


# Two orders of summation of a few hundred doubles: rounding is below 1e-12.
def same(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("delayed", "batch"), [(False, None), (True, 2)])
def test_observers_agree_with_the_stored_trajectory(delayed, batch):
    watched = [
        RunningFC("x"),
        RunningMoments("x"),
        RunningMoments("y", name="sparse", every=7),
        TemporalAverage("x"),
    ]
    simulator = Simulator(network(delayed, noise=0.05 if delayed else None), 0.1)
    found = simulator.run(
        50.0, transient=10.0, key=KEY, batch_size=batch, monitors=["x", "y"], observe=watched, progress=False
    )
    x, y = np.asarray(found["x"]), np.asarray(found["y"])
    assert x.shape == (400, *([] if batch is None else [batch]), 3) and x.std(axis=0).min() > 1e-3
    wanted = covariances(x)
    spread = np.sqrt(np.diagonal(wanted, axis1=-2, axis2=-1))
    same(found["fc"], wanted / spread[..., :, None] / spread[..., None, :])
    same(found["moments"]["covariance"], wanted)
    same(found["moments"]["mean"], x.mean(axis=0))
    assert found["moments"]["count"] == 400
    # the transient has 100 steps; counting starts after it
    assert found["sparse"]["count"] == 57
    same(found["sparse"]["covariance"], covariances(y[6::7]))
    # every sample is one step here
    np.testing.assert_array_equal(found["average"], x)
    # a continued run is observed from its own start
    more = simulator.run(
        5.0, key=KEY, batch_size=batch, monitors=["x"], observe=watched, init_states=False, progress=False
    )
    same(more["moments"]["covariance"], covariances(np.asarray(more["x"])))


@pytest.mark.parametrize(("every", "transient"), [(20, 30), (1500, 700)])
def test_an_average_is_over_the_whole_sampling_interval_and_leaves_the_transient_out(every, transient):
    """Also over intervals that are longer than what is simulated at once; x decays as exp(-t / 100)."""
    simulator = Simulator(LinearStep(2, gamma=-0.01, init_x=[1.0, -2.0]), 0.1, method="exp_euler")
    steps = transient + 2 * every
    found = simulator.run(
        0.1 * steps, transient=transient, sample_every=every, monitors=[], observe=[TemporalAverage("x")]
    )
    assert set(found) == {"average", "ts", "diverged"}
    decay = np.exp(-0.001 * np.arange(transient + 1, steps + 1)).reshape(2, every).mean(axis=1)
    same(found["average"], decay[:, None] * [1.0, -2.0])


def test_gradients_agree_with_finite_differences():
    """
    Through delays and coupling, in gain and local parameter.

    Central differences of a smooth function in doubles, step 1e-5: their error is about 1e-9 of the value.
    """
    mix = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3)))

    def loss(p):
        found = Simulator(network(True, k=p[0], a=p[1], noise=None), 0.1, method="euler").run(
            60.0,
            transient=20.0,
            monitors=[],
            sample_every=100,
            observe=[RunningFC("x"), RunningMoments("x", every=3), TemporalAverage("y")],
        )
        moments = found["moments"]
        rest = (
            jnp.sum(mix * moments["covariance"]) + jnp.sum(moments["mean"]) + jnp.sum(found["average"] ** 2)
        )
        return jnp.sum(mix * found["fc"]) + rest

    p = jnp.array([0.4, -0.02])
    both = jax.jit(jax.value_and_grad(loss))
    h = 1e-5
    wanted = [(both(p + h * e)[0] - both(p - h * e)[0]) / (2 * h) for e in np.eye(2)]
    assert np.abs(wanted).min() > 1e-2
    np.testing.assert_allclose(both(p)[1], wanted, rtol=1e-6)


def test_memory_does_not_depend_on_the_duration():
    def needed(duration, observe, monitors):
        def last(a):
            run = Simulator(network(True, a=a, noise=None), 0.1, method="euler").run
            found = run(duration, monitors=monitors, observe=observe, sample_every=10)
            return found["fc"] if observe else found["x"]

        about = jax.jit(last).lower(-0.1).compile().memory_analysis()
        return about.temp_size_in_bytes + about.output_size_in_bytes

    streamed = [needed(duration, [RunningFC("x")], []) for duration in (500.0, 5000.0)]
    assert streamed[1] <= 1.01 * streamed[0]
    # the same program does grow once it is asked for the trajectory: 4500 samples of 3 doubles
    stored = [needed(duration, [], ["x"]) for duration in (500.0, 5000.0)]
    assert stored[1] - stored[0] >= 4500 * 3 * 8


def test_regions_that_do_not_vary_have_no_correlation_and_no_gradient():
    def fc(gamma):
        # the second region starts at its fixed point and stays there
        node = LinearStep(3, gamma=jnp.asarray([gamma, gamma, -0.3]), init_x=[1.0, 0.0, -1.0])
        return Simulator(node, 0.1).run(20.0, monitors=[], observe=[RunningFC("x")])["fc"]

    found, slope = jax.jit(lambda g: (fc(g), jax.jacfwd(fc)(g)))(-0.1)
    assert np.isfinite(slope).all() and np.abs(slope[0, 2]) > 1e-3
    assert (np.asarray(found)[1] == 0).all() and (np.asarray(found)[:, 1] == 0).all()
    np.testing.assert_allclose(np.diagonal(found), [1, 0, 1], atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_correlation_is_finite_down_to_the_smallest_variances(dtype):
    """Also where only rounding makes a value differ from its mean."""
    kind = jnp.finfo(dtype)
    for variance in (0.0, kind.tiny, kind.tiny**0.5, 3 * kind.tiny**0.5, 1e-12, 1.0):
        covariance = jnp.asarray([[1.0, 0.5 * variance**0.5], [0.5 * variance**0.5, variance]], dtype)
        mean = jnp.zeros(2, dtype)
        found = correlation(covariance, mean)
        slope = jax.grad(lambda c, mean=mean: correlation(c, mean).sum())(covariance)
        assert np.isfinite(found).all() and np.isfinite(slope).all()
        expected = 0.5 if variance > kind.tiny**0.5 else 0.0
        np.testing.assert_allclose(found[0, 1], expected, rtol=10 * kind.eps)
    rounding = jnp.asarray([[1.0, 0.0], [0.0, (1e3 * kind.eps) ** 2]], dtype)
    assert correlation(rounding, jnp.asarray([0.0, 1e3], dtype))[1, 1] == 0


def test_single_precision_does_not_lose_digits_in_long_runs():
    """A mean 150 times the spread, 2e5 values: plain sums are wrong in the fourth digit of the covariance."""
    rng = np.random.default_rng(3)
    x = 100.0 + 0.5 * rng.normal(size=(200_000, 1)) * [1.0, 0.5, 0.1] + 0.3 * rng.normal(size=(200_000, 3))
    x = x.astype(np.float32)
    observer = RunningFC()

    def one(memory, values):
        return observer.page({}, memory, values, 0.1), None

    pages = x.reshape(1000, 200, 3)
    memory = jax.jit(lambda x: jax.lax.scan(one, observer.start({}, x[0, 0]), x)[0])(pages)
    assert memory.squares.dtype == np.float32
    found = RunningMoments.finish(observer, {}, memory)
    wanted = np.cov(x.astype(float), rowvar=False)
    # a few roundings of 6e-8
    np.testing.assert_allclose(found["covariance"], wanted, rtol=1e-6, atol=1e-6 * wanted.max())
    np.testing.assert_allclose(found["mean"], x.astype(float).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(observer.finish({}, memory), np.corrcoef(x.astype(float).T), atol=1e-6)


def test_observers_are_equal_by_value_so_that_programs_are_shared():
    assert hash(RunningFC("x", every=3)) == hash(RunningFC("x", every=3))
    assert RunningFC("x", every=3) == RunningFC("x", every=3) != RunningFC("x")
    assert (RunningFC().name, RunningMoments().name, TemporalAverage().name) == ("fc", "moments", "average")
    with pytest.raises(ValueError, match="every is 0; it is a number of steps, at least 1"):
        RunningFC("x", every=0)
    with pytest.raises(TypeError, match="Observer must define start, step"):
        Observer().start({}, jnp.zeros(2))


class Steps(Observer):
    """Counts steps, transient included: the least that an observer has to define."""

    NAME = "steps"
    SAMPLES = False

    def start(self, p, value):
        return jnp.zeros((), jnp.int32)

    def step(self, p, memory, value, dt):
        return memory + 1

    def finish(self, p, memory):
        return memory


def test_an_own_observer_without_anything_to_settle_sees_the_transient():
    found = Simulator(LinearStep(2), 0.1).run(3.0, transient=1.0, observe=[Steps("x")], progress=False)
    assert found["steps"] == 30
    with pytest.raises(TypeError, match="observe holds a str; give observers"):
        Simulator(LinearStep(2), 0.1).run(3.0, observe=["x"])


class Thrice(Filter):
    """A spatial filter with a parameter: sums of regions times `gain`."""

    SPATIAL = True
    DIMS = ("channel",)
    PARAMETERS = (Parameter("gain", 3.0, (0.0, 10.0)),)

    def at(self, p, value):
        return p["gain"] * jnp.sum(value, axis=-1, keepdims=True)


class Difference(Filter):
    """A filter in time: differences of neighbours, per second."""

    def series(self, p, x, dt):
        return (x[1:] - x[:-1]) / dt

    def times(self, ts, dt):
        return ts[1:]


@pytest.mark.parametrize("delayed", [False, True])
def test_observers_have_their_own_sampling_intervals_and_filters(delayed):
    """Steps of 0.1 ms; monitors every 3 steps, observers every 12 and 250: samples of the stored trajectory."""
    simulator = Simulator(network(delayed), 0.1)
    watched = [
        Sample("x", every=1.2),
        TemporalAverage("y", every=25.0),
        Sample("x", "summed", every=250) >> Thrice(gain=2.0) >> Difference(),
        RunningMoments("x"),
    ]
    options = {"transient": 10.0, "key": KEY, "progress": False}
    every = simulator.run(130.0, monitors=["x", "y"], **options)
    found = simulator.run(130.0, monitors=["x"], sample_every=3, observe=watched, **options)
    x, y = np.asarray(every["x"]), np.asarray(every["y"])
    same(found["x"], x[2::3])
    same(found["sample"], x[11::12])
    same(found["average"], y[: 4 * 250].reshape(4, 250, 3).mean(axis=1))
    wanted = 2.0 * x[249::250].sum(axis=1, keepdims=True)
    same(found["summed"], np.diff(wanted, axis=0) / 0.025)
    same(found["moments"]["covariance"], covariances(x))
    ends = 10.0 + 25.0 * np.arange(1, 5)
    same(found["average_ts"].to_decimal(u.ms), ends)
    same(found["summed_ts"].to_decimal(u.ms), ends[1:])
    data = found.to_xarray()
    assert data["average"].dims == ("average_time", "region") and data["summed"].dims[1] == "channel"
    same(data["average_time"], ends)
    # without monitors the times are those of the first observer
    alone = simulator.run(130.0, observe=watched[1:2], **options)
    same(alone["ts"].to_decimal(u.ms), ends)
    same(alone["average"], found["average"])


def test_parameters_of_a_filter_are_traced_and_differentiable():
    def loss(gain):
        watched = [TemporalAverage("x", every=5.0) >> Thrice(gain=gain)]
        return jnp.sum(Simulator(network(True, noise=None), 0.1).run(30.0, observe=watched)["average"] ** 2)

    value, slope = jax.value_and_grad(loss)(2.0)
    np.testing.assert_allclose(slope, value, rtol=1e-12)  # a square: 2 value / gain


def test_the_unit_of_a_pipe_is_that_of_its_filter():
    class Volts(Thrice):
        def out_unit(self, unit):
            return u.volt / u.mV * unit

    from brainloom.models import JansenRitStep

    run = Simulator(JansenRitStep(2), 1.0 * u.ms).run(
        0.1 * u.second, observe=[Sample("eeg", every=10) >> Volts()]
    )
    assert u.get_unit(run["sample"]) == u.volt and run["sample"].shape == (10, 1)


def test_a_pipe_says_what_cannot_be_joined():
    with pytest.raises(TypeError, match="RunningMoments has no samples"):
        RunningMoments("x") >> Thrice()
    with pytest.raises(TypeError, match="int cannot follow an observer"):
        Sample("x") >> 3
    with pytest.raises(TypeError, match="Thrice has no parameter gian; it has gain"):
        Thrice(gian=1.0)
    with pytest.raises(ValueError, match="Difference acts on time; give dt"):
        Difference()(np.zeros((3, 2)))
    assert Difference()(np.arange(3.0)[:, None] * u.mV, 0.5 * u.second)[0, 0] == 2.0 * u.mV
