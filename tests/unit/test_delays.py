"""Conduction delays against a step-by-step simulation in numpy, and against closed forms."""

from typing import ClassVar

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import (
    HopfStep,
    LinearStep,
    NeuralMass,
    Observable,
    Parameter,
    Port,
    State,
)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import delays
from brainloom.coupling import Coupling
from brainloom.models.lowering import lower
from brainloom.network import Network
from brainloom.simulate import Simulator

N, DT = 4, 0.1
RNG = np.random.default_rng(3)
WEIGHTS = RNG.uniform(0.1, 1.0, (N, N)) * (1 - np.eye(N))
WEIGHTS[1, 2] = WEIGHTS[3, 0] = 0.0
X, Y = RNG.uniform(-0.6, 0.6, (2, 3, N))  # a batch of three starts
A, W = np.array([0.2, -0.1, 0.05, 0.1]), np.array([0.3, 0.5, 0.4, 0.6])
GAIN = 0.3

# Delays in ms: whole and broken numbers of steps, longer than a block, shorter than a step, and none at all.
LONG = RNG.uniform(1.0, 3.0, (N, N)).round(2)
LONG[0, 1] = 1.0  # ten steps
MIXED = LONG.copy()
MIXED[0, 2], MIXED[2, 0], MIXED[1, 0], MIXED[3, 1] = 0.0, 0.04, 0.1, 0.13
DELAYS = {"long": LONG, "mixed": MIXED}


# --- an independent simulation ---------------------------------------------------------------------------------


def simulate(method, tau, x, y, steps, dt=DT, weights=WEIGHTS, gain=GAIN):
    """
    Hopf nodes with delayed diffusive coupling of x, in numpy, one step and one connection at a time.

    The past is the start. Within a step the delayed value is read at its beginning and its end, and between
    them for the middle; what has not been simulated yet is taken from the newest sample.
    """
    past = [x.copy()]
    rows, seen = len(x), []

    def sample(j, k):
        return past[min(max(k, 0), len(past) - 1)][j]

    def read(i, j, k):
        position = tau[i, j] / dt
        whole = int(np.floor(position + 1e-9))
        th = position - whole
        return (1 - th) * sample(j, k - whole) + th * sample(j, k - whole - 1)

    def arriving(stage, k, own):
        total = np.zeros(rows)
        for i in range(rows):
            for j in range(rows):
                if weights[i, j]:
                    sent = (1 - stage) * read(i, j, k) + stage * read(i, j, k + 1)
                    total[i] += weights[i, j] * (sent - own[i])
        return gain * total

    def slope(z, stage, k):
        r = A - (z[0] ** 2 + z[1] ** 2)
        return np.array([r * z[0] - W * z[1] + arriving(stage, k, z[0]), r * z[1] + W * z[0]])

    z = np.array([x, y])
    for k in range(steps):
        first = slope(z, 0.0, k)
        if method == "euler":
            z = z + dt * first
        elif method == "heun":
            z = z + 0.5 * dt * (first + slope(z + dt * first, 1.0, k))
        elif method == "rk4":
            second = slope(z + 0.5 * dt * first, 0.5, k)
            third = slope(z + 0.5 * dt * second, 0.5, k)
            fourth = slope(z + dt * third, 1.0, k)
            z = z + dt / 6 * (first + 2 * second + 2 * third + fourth)
        else:
            square = z[0] ** 2 + z[1] ** 2
            rate = dt * (A - square - 2 * z**2)  # the regions alone: what arrives is held
            z = z + dt * np.expm1(rate) / rate * first
        past.append(z[0].copy())
        seen.append(z)
    return np.array(seen)


def network(tau, *, weights=WEIGHTS, start=0, **options):
    node = HopfStep(N, a=A, w=W, init_x=X[start], init_y=Y[start], **options)
    return Network(node, weights, delay=tau, coupled_var="x", k=GAIN)


@pytest.mark.parametrize("name", DELAYS)
@pytest.mark.parametrize("method", ["euler", "heun", "rk4", "exp_euler"])
def test_a_delayed_network_is_the_simulation_of_its_equations(method, name):
    tau = DELAYS[name]
    found = Simulator(network(tau), DT, method=method).run(12.0, monitors=["x", "y"])
    expected = simulate(method, tau, X[0], Y[0], 120)
    # 120 steps of a stable system: roundings of 1e-16 do not grow
    np.testing.assert_allclose(found["x"], expected[:, 0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(found["y"], expected[:, 1], rtol=0, atol=1e-13)
    without = simulate(method, 0 * tau, X[0], Y[0], 120)
    assert np.abs(expected - without).max() > 0.05  # delays matter here


def test_delays_follow_from_distance_and_speed():
    distance = 7.5 * LONG
    expected = Simulator(network(LONG), DT).run(3.0, monitors="x")["x"]
    node = HopfStep(N, a=A, w=W, init_x=X[0], init_y=Y[0])
    for speed, far in (
        (7.5, distance),
        (7.5 * u.meter / u.second, distance * u.mm),
        (np.full((N, N), 7.5), 0.1 * distance * u.cmeter),
        (2.0 * 7.5, 2.0 * distance),
    ):
        other = Network(node, WEIGHTS, distance=far, speed=speed, coupled_var="x", k=GAIN)
        np.testing.assert_allclose(other.delay_values(), LONG, rtol=1e-12)
        np.testing.assert_allclose(Simulator(other, DT).run(3.0, monitors="x")["x"], expected, atol=1e-13)
    # a model in seconds: 30 mm at 10 m/s are 3 ms
    seconds = Network(LinearStep(2, time_unit="s"), np.ones((2, 2)), distance=30.0, speed=10.0)
    np.testing.assert_allclose(seconds.delay_values()[0, 1], 3e-3, rtol=1e-12)
    assert seconds.structure("euler", 1e-4).block == 30


# --- closed forms ----------------------------------------------------------------------------------------------


def pair(t, gamma, k, lag, mode):
    """``s' = gamma s + k s(t - lag)``, s = 1 before 0: sum (and difference with -k) of two nodes, t < 2 lag."""
    k = mode * k
    first = np.exp(gamma * t) + k / gamma * np.expm1(gamma * t)
    at_lag = np.exp(gamma * lag) + k / gamma * np.expm1(gamma * lag)
    late = t - lag
    grown = np.exp(gamma * late)
    second = at_lag * grown + k * ((1 + k / gamma) * late * grown - k / gamma**2 * np.expm1(gamma * late))
    return np.where(t <= lag, first, second)


def linear_pair(dt, lag, method):
    gamma, k = -0.3, 0.25
    node = LinearStep(2, gamma=gamma, init_x=np.array([1.0, 0.2]))
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    model = Network(node, weights, delay=lag * weights, coupling="additive", k=k)
    found = Simulator(model, dt, method=method).run(8.0, monitors="x", sample_every=0.4)
    t = np.asarray(found["ts"].mantissa)
    total, gap = (pair(t, gamma, k, lag, mode) for mode in (1, -1))
    exact = 0.5 * np.stack([1.2 * total + 0.8 * gap, 1.2 * total - 0.8 * gap], axis=1)
    return np.abs(np.asarray(found["x"]) - exact).max()


@pytest.mark.parametrize(
    "method, order, lag", [("euler", 1, 4.0), ("heun", 2, 4.53), ("rk4", 2, 4.0), ("rk4", 2, 4.53)]
)
def test_two_linear_nodes_approach_the_closed_form(method, order, lag):
    """Linear interpolation limits the order to 2."""
    coarse, fine = (linear_pair(dt, lag, method) for dt in (0.1, 0.05))
    assert fine < (3e-3 if order == 1 else 4e-5)
    # a broken number of steps: the fraction changes with dt, so the ratio scatters around 2^order
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1 if lag == 4.0 else 0.6)


def test_zero_history_and_a_jump_at_the_start():
    """A history may be given: ``state["history.<observable>"]`` of `lower`, oldest sample first."""
    gamma, k, lag, dt = -0.1, 0.05, 5.0, 5e-3
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    node = LinearStep(2, gamma=gamma, init_x=np.array([1.0, 0.0]))
    low = lower(Network(node, weights, delay=lag, coupling="additive", k=k), dt, "heun")
    state = low.init(low.params)
    past = state["history.source"]
    assert past.shape == (2, round(lag / dt) + 2)
    np.testing.assert_array_equal(past, np.repeat([[1.0], [0.0]], past.shape[1], axis=1))
    state["history.source"] = past.at[:, :-1].set(0.0)
    _, out = jax.jit(low.advance)(low.params, state, {}, jnp.zeros((2400, 0, 2)))

    def power(t, start, n):
        late = np.maximum(t - start, 0.0)
        return k**n * late**n / np.prod(np.arange(1, n + 1)) * np.exp(gamma * late)

    t = dt * np.arange(1, 2401)
    # the jump is smeared over one step: an error of k dt / 2, which then acts on the other node for 2 ms
    np.testing.assert_allclose(out["x"][:, 0], power(t, 0, 0) + power(t, 10, 2), atol=1.1 * k**2 * dt)
    np.testing.assert_allclose(out["x"][:, 1], power(t, 5, 1), atol=0.55 * k * dt)


# --- nothing depends on how a run is cut ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_step():
    return Simulator(network(LONG), DT, method="heun").run(240.0, monitors=["x", "y"])


@pytest.mark.parametrize("sample_every", [3, 7, 20, 37, 1100])
def test_samples_do_not_depend_on_the_interval(every_step, sample_every):
    """Blocks of 9, 7 and 10 steps, and pages of multiples of the interval, give the same run."""
    found = Simulator(network(LONG), DT, method="heun").run(
        240.0, monitors=["x", "y"], sample_every=sample_every
    )
    rows = slice(sample_every - 1, None, sample_every)
    for name in ("x", "y"):
        np.testing.assert_allclose(found[name], every_step[name][rows], rtol=0, atol=1e-13)


def test_the_block_changes_nothing(every_step):
    """A connection that is short, but has no weight worth mentioning, makes blocks of one step."""
    weights, tau = WEIGHTS.copy(), LONG.copy()
    weights[1, 2], tau[1, 2] = 1e-300, 0.1
    one = network(tau, weights=weights)
    blocks = [m.structure("heun", DT).block for m in (one, network(LONG))]
    assert blocks == [1, 10]
    found = Simulator(one, DT, method="heun").run(60.0, monitors="x")["x"]
    np.testing.assert_allclose(found, every_step["x"][:600], rtol=0, atol=1e-13)


def test_steps_one_by_one_are_a_run(every_step):
    low = lower(network(LONG), DT, "heun")
    step = jax.jit(low.step)
    state, seen = low.init(low.params), []
    for k in range(25):
        state, out = step(low.params, state, {}, None, k * DT)
        seen.append(out["x"])
    np.testing.assert_allclose(seen, simulate("heun", LONG, X[0], Y[0], 25)[:, 0], atol=1e-13)


def test_lists_of_connections_may_have_any_padding():
    """Trained weights list every pair, known ones only those that are not 0."""
    full = network(LONG, weights=brainstate.nn.Param(jnp.asarray(WEIGHTS)))
    lists = [m.parameter_values()["coupling.sources"].shape for m in (network(LONG), full)]
    assert lists == [(N, 3), (N, 3)]
    star = np.zeros((N, N))
    star[0, 1:], star[2, 1] = 0.4, 0.8  # three connections, one, and none
    found, all_listed = (
        Simulator(network(LONG, weights=w), DT).run(12.0, monitors="x")["x"]
        for w in (star, brainstate.nn.Param(jnp.asarray(star)))
    )
    expected = simulate("exp_euler", LONG, X[0], Y[0], 120, weights=star)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(all_listed, expected, atol=1e-13)


class ListeningStep(LinearStep):
    """A linear node that shows what arrives at its port."""

    OBSERVABLES: ClassVar = {"heard": Observable(lambda p, state, inputs: inputs["current"], driven=True)}


START = np.array([1.0, -0.5, 0.3, 0.2])
LISTENING = Network(ListeningStep(N, init_x=START), WEIGHTS, delay=LONG, coupling="additive", k=0.1)


@pytest.fixture(scope="module")
def path():
    found = Simulator(LISTENING, DT).run(220.0, monitors="x", inputs={"current": 0.05})["x"]
    return np.concatenate([np.tile(START, (40, 1)), found])


@pytest.mark.parametrize("every", [1, 7, 10, 1100])
def test_what_depends_on_the_inputs_is_sampled_with_what_arrives_then(every, path):
    found = Simulator(LISTENING, DT).run(
        220.0, monitors="heard", sample_every=every, inputs={"current": 0.05}
    )
    n = 39 + np.arange(every, 2201, every)  # of each sample in the path
    expected = np.zeros((len(n), N))
    for i in range(N):
        for j in range(N):
            whole = int(np.floor(LONG[i, j] / DT + 1e-9))
            th = LONG[i, j] / DT - whole
            read = (1 - th) * path[n - whole, j] + th * path[n - whole - 1, j]
            expected[:, i] += 0.1 * WEIGHTS[i, j] * read
    # at a sample the inputs of the step just made and the past of that moment
    np.testing.assert_allclose(found["heard"], expected + 0.05, rtol=0, atol=1e-13)


# --- batches, precision, several couplings, own delays ------------------------------------------------------


def test_a_batch_is_its_members():
    model = network(LONG)
    found = Simulator(model, DT).run(
        12.0, monitors="x", batch_size=3, initial={"x": X, "y": Y}, sample_every=4
    )["x"]
    for member in range(3):
        expected = simulate("exp_euler", LONG, X[member], Y[member], 120)[3::4, 0]
        np.testing.assert_allclose(found[:, member], expected, atol=1e-13)


def test_vmap_over_delays_gives_the_runs_of_each():
    speed = brainstate.nn.Param(jnp.asarray(10.0), t=brainstate.nn.SigmoidT(5.0, 20.0))
    node = HopfStep(N, a=A, w=W, init_x=X[0], init_y=Y[0])
    low = lower(
        Network(node, WEIGHTS, distance=10.0 * LONG, speed=speed, coupled_var="x", k=GAIN), DT, "heun"
    )
    speeds = jnp.array([7.0, 10.0, 16.0])
    raw = jax.vmap(speed.t.inverse)(speeds)

    def end(value):
        params = low.params | {"speed": value}
        return low.advance(params, low.init(params), {}, jnp.zeros((60, 0, N)))[1]["x"]

    for found, one in zip(jax.jit(jax.vmap(end))(raw), speeds, strict=True):
        expected = simulate("heun", 10.0 * LONG / float(one), X[0], Y[0], 60)[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_single_precision_follows_double():
    expected = simulate("rk4", MIXED, X[0], Y[0], 120)
    with jax.enable_x64(False):
        found = Simulator(network(MIXED), DT, method="rk4").run(12.0, monitors=["x", "y"])
    assert found["x"].dtype == np.float32
    # 120 steps, each rounded to 6e-8 of values of order 1
    np.testing.assert_allclose(found["x"], expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(found["y"], expected[:, 1], atol=1e-5)


def test_couplings_of_one_network_have_their_own_delays():
    """x diffuses with delay, y is added with another, and a third term has none."""
    second = RNG.uniform(2.0, 5.0, (N, N))
    terms = [
        Coupling("additive", "x", "x_input", k=0.2),
        Coupling("additive", "y", "y_input", k=0.3, conn=WEIGHTS.T, delay=second),
        Coupling("diffusive", "x", "x_input", k=0.1, delay=0.0),
    ]
    node = HopfStep(N, a=A, w=W, init_x=X[0], init_y=Y[0])
    model = Network(node, WEIGHTS, delay=LONG, couplings=terms)
    structure = model.structure("euler", DT)
    assert structure.histories == ("x", "y") and [bool(t.delay) for t in structure.terms] == [
        True,
        True,
        False,
    ]
    found = Simulator(model, DT, method="euler").run(12.0, monitors=["x", "y"])

    z, past = np.array([X[0], Y[0]]), [np.array([X[0], Y[0]])]

    def read(which, tau, i, j):
        position = tau[i, j] / DT
        whole = int(np.floor(position + 1e-9))
        th, n = position - whole, len(past) - 1
        new, old = past[max(n - whole, 0)], past[max(n - whole - 1, 0)]
        return (1 - th) * new[which][j] + th * old[which][j]

    for k in range(120):
        to_x = [0.2 * sum(WEIGHTS[i, j] * read(0, LONG, i, j) for j in range(N)) for i in range(N)]
        to_y = [0.3 * sum(WEIGHTS[j, i] * read(1, second, i, j) for j in range(N)) for i in range(N)]
        now = 0.1 * (WEIGHTS @ z[0] - WEIGHTS.sum(1) * z[0])
        r = A - z[0] ** 2 - z[1] ** 2
        z = z + DT * np.array([r * z[0] - W * z[1] + to_x + now, r * z[1] + W * z[0] + to_y])
        past.append(z)
        np.testing.assert_allclose([found["x"][k], found["y"][k]], z, atol=1e-13)


class EchoStep(NeuralMass):
    """``x' = -x + g tanh(x(t - lag))`` with a delay of its own in every region."""

    STATES = (State("x", 0.5),)
    PARAMETERS = (
        Parameter("g", -2.0, (-5.0, 5.0)),
        Parameter("lag", 1.3, (0.5, 4.0), "time", "delay"),
    )
    PORTS = (Port("drive", "1/time", "x"),)
    OBSERVABLES: ClassVar = {"double": Observable(lambda params, state: 2.0 * state["x"])}
    SELF_DELAYS: ClassVar = {"lag": ("double", "echo")}

    @staticmethod
    def rhs(params, state, inputs, t):
        echo = inputs.get("echo", 2.0 * state["x"])
        return {"x": -state["x"] + params["g"] * jnp.tanh(0.5 * echo) + inputs.get("drive", 0.0)}


def test_a_region_may_read_its_own_past():
    lags = np.array([0.73, 1.3, 2.06])
    found = Simulator(EchoStep(3, lag=lags), DT, method="euler").run(12.0, monitors="x")["x"]
    x, past = np.full(3, 0.5), [np.full(3, 0.5)]
    for k in range(120):
        position = lags / DT
        whole = np.floor(position + 1e-9).astype(int)
        th = position - whole
        echo = [
            (1 - th[i]) * past[max(k - whole[i], 0)][i] + th[i] * past[max(k - whole[i] - 1, 0)][i]
            for i in range(3)
        ]
        x = x + DT * (-x - 2.0 * np.tanh(echo))
        past.append(x)
    np.testing.assert_allclose(found, past[1:], atol=1e-13)
    starts = {"x": np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])}
    batch = Simulator(EchoStep(3, lag=lags), DT, method="euler").run(
        12.0, monitors="x", batch_size=2, initial=starts, sample_every=5
    )["x"]
    np.testing.assert_allclose(batch[:, 1], past[5::5], atol=1e-13)


def test_own_delays_and_conduction_delays_live_together():
    weights = np.array([[0.0, 0.5], [0.8, 0.0]])
    model = Network(EchoStep(2, lag=1.3), weights, delay=2.06, coupling="additive", k=0.3)
    structure = model.structure("euler", DT)
    assert set(structure.histories) == {"source", "double"}
    assert (structure.block, structure.length) == (13, 23)
    found = Simulator(model, DT, method="euler").run(12.0, monitors="x", sample_every=4)["x"]
    x, past = np.full(2, 0.5), [np.full(2, 0.5)]
    for k in range(120):
        echo, sent = past[max(k - 13, 0)], 0.4 * past[max(k - 20, 0)] + 0.6 * past[max(k - 21, 0)]
        x = x + DT * (-x - 2.0 * np.tanh(echo) + 0.3 * weights @ sent)
        past.append(x)
    np.testing.assert_allclose(found, past[4::4], atol=1e-13)


@pytest.mark.parametrize("trained", [False, True])
def test_regions_may_be_connected_to_themselves(trained):
    """The diagonal is a connection like any other if it counts at all, also where it is shortest or trained."""
    weights, tau = WEIGHTS + np.diag([0.5, 0.2, 0.9, 0.4]), LONG.copy()
    np.fill_diagonal(tau, [0.4, 0.0, 0.7, 0.53])
    node = HopfStep(N, a=A, w=W, init_x=X[0], init_y=Y[0])
    conn = brainstate.nn.Param(jnp.asarray(weights)) if trained else weights
    plans = {"delay": tau}, {"distance": 10.0 * tau, "speed": 10.0}
    for given in plans:
        model = Network(node, conn, coupled_var="x", k=GAIN, self_connection=True, **given)
        found = Simulator(model, DT, method="heun").run(12.0, monitors="x")["x"]
        expected = simulate("heun", tau, X[0], Y[0], 120, weights=weights)[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-13)
    for given in (*plans, {}):
        model, other = (Network(node, w, coupled_var="x", k=GAIN, **given) for w in (conn, WEIGHTS))
        assert model.structure("heun", DT).block == (10 if given else 0)  # the diagonal does not shorten it
        found, expected = (
            Simulator(m, DT, method="heun").run(12.0, monitors="x")["x"] for m in (model, other)
        )
        np.testing.assert_allclose(found, expected, atol=1e-13)


# --- planning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shortest, longest, expected",
    [
        (1.0, 3.0, (10, 32)),
        (1.09, 3.01, (10, 33)),
        (0.05, 0.05, (1, 3)),
        (0.0, 0.0, (1, 2)),
        (10.0, 10.0, (100, 102)),  # 10 / 0.1 is a whole number only nearly
        (0.3, 0.3, (3, 5)),
    ],
)
def test_block_and_length(shortest, longest, expected):
    assert delays.block_and_length(shortest, longest, DT) == expected


def test_split_is_exact_for_whole_steps_and_has_the_slope_of_the_position():
    tau = jnp.array([0.0, 0.04, 0.1, 0.3, 0.7, 1.0, 10.0, 12.34])
    for dtype in (np.float32, np.float64):
        whole, fraction = delays.split(tau.astype(dtype), dtype(DT))
        assert whole.tolist() == [0, 0, 1, 3, 7, 10, 100, 123]
        np.testing.assert_allclose(whole + fraction, np.asarray(tau) / DT, rtol=2 * np.finfo(dtype).eps)
    slope = jax.vmap(jax.grad(lambda x: delays.split(x, DT)[1]))(tau)
    np.testing.assert_allclose(slope, 1 / DT, rtol=1e-12)


def test_neighbours_list_the_sources_of_each_region():
    found = delays.neighbours(np.array([[0, 2, 3], [0, 0, 0], [1, 0, 0]]))
    np.testing.assert_array_equal(found, [[1, 2], [1, 1], [0, 2]])  # padded with the region itself
    np.testing.assert_array_equal(delays.neighbours(np.zeros((2, 2))), [[0], [1]])


def test_windows_are_consecutive_samples_and_stop_at_the_newest():
    buffer = jnp.arange(2 * 6 * 2, dtype=float).reshape(2, 6, 2)
    sources, first = jnp.array([[0, 1], [1, 1]]), jnp.array([[0, 2], [1, 3]])
    found = delays.windows(buffer, sources, first, 3)
    assert found.shape == (2, 2, 3, 2)
    clipped = delays.windows_up_to(buffer, sources, first, 3, 4)
    for i in range(2):
        for k in range(2):
            start = int(first[i, k])
            np.testing.assert_array_equal(found[i, k], buffer[sources[i, k], start : start + 3])
            rows = np.minimum(np.arange(start, start + 3), 4)
            np.testing.assert_array_equal(clipped[i, k], buffer[sources[i, k]][rows])


def test_the_sum_over_windows_is_the_sum_of_interpolated_values():
    window = jnp.asarray(RNG.normal(size=(3, 2, 5, 4)))
    fraction, weights = jnp.asarray(RNG.uniform(size=(2, 3, 2)))
    values = delays.interpolated(window, fraction)
    th = np.asarray(fraction)[..., None, None]
    np.testing.assert_allclose(values, (1 - th) * window[:, :, 1:] + th * window[:, :, :-1], rtol=1e-14)
    found = delays.interpolated_sum(window, delays.pair_weights(fraction, weights))
    np.testing.assert_allclose(found, np.einsum("nd,ndsb->sbn", weights, values), rtol=1e-12, atol=1e-14)


def test_without_any_delay_no_history_is_kept():
    for options in ({}, {"delay": 0.0}, {"distance": 0.0, "speed": 5.0}):
        model = Network(HopfStep(N), WEIGHTS, **options)
        assert model.structure("heun", DT).block == 0 and model.structure("heun", DT).histories == ()
        assert not np.asarray(model.delay_values()).any()


def test_delays_that_cannot_be_planned_are_errors():
    node = LinearStep(2)
    ones = np.ones((2, 2))
    with pytest.raises(ValueError, match="delay is given together with distance or speed"):
        Network(node, ones, delay=1.0, speed=2.0)
    with pytest.raises(ValueError, match="distance is given without speed; delays need both"):
        Network(node, ones, distance=ones)
    with pytest.raises(ValueError, match="speed is given without distance; delays need both"):
        Network(node, ones, couplings=[Coupling(speed=1.0)])
    with pytest.raises(ValueError, match="delay has negative or missing values"):
        Network(node, ones, delay=-ones)
    with pytest.raises(ValueError, match="lengths must be at least 0"):
        Network(node, ones, distance=np.full((2, 2), np.nan), speed=1.0)
    with pytest.raises(ValueError, match="speed is 0; it must be positive"):
        Network(node, ones, distance=ones, speed=0.0)
    with pytest.raises(ValueError, match=r"distance has shape \(3,\); 2 regions need"):
        Network(node, ones, distance=np.ones(3), speed=1.0)
    with pytest.raises(ValueError, match="speed is trainable without finite bounds"):
        Network(node, ones, distance=ones, speed=brainstate.nn.Param(jnp.asarray(2.0)))
    with pytest.raises(ValueError, match=r"speed is traced.*Param with finite bounds"):
        jax.grad(lambda s: Network(node, ones, distance=ones, speed=s).delay_values().sum())(2.0)
    with pytest.raises(TypeError, match=r"distance of Network is given in .*, but it is needed in mm"):
        Network(node, ones, distance=ones * u.ms, speed=1.0)
