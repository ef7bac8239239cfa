"""Modules of brainstate that are no `NeuralMass`: alone, in a network, and lowered, against the same equations."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import LinearStep

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.models.lowering import lower
from brainloom.modules import UnnamedNoiseError
from brainloom.network import Network
from brainloom.simulate import Simulator

START = np.array([1.0, 0.5, 0.2])
WEIGHTS = np.array([[0.0, 0.6, 0.1], [0.3, 0.0, 0.8], [0.9, 0.2, 0.0]])
LENGTHS = np.array([[0.0, 10.0, 23.0], [13.0, 0.0, 7.0], [5.0, 31.0, 0.0]])
DT = 0.1 * u.ms


class LeakyStep(brainstate.nn.Dynamics):
    """Euler's scheme for ``x' = gamma x + input``, as a user of brainstate writes it."""

    def __init__(self, in_size, gamma=-0.1):
        super().__init__(in_size)
        self.gamma = brainstate.nn.Param(gamma, fit=True)

    def init_state(self, batch_size=None, **_):
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        self.x = brainstate.HiddenState(jnp.broadcast_to(jnp.asarray(START), shape))

    def update(self, current=0.0):
        dt = brainstate.environ.get("dt").to_decimal(u.ms)
        self.x.value = self.x.value + dt * (self.gamma.value() * self.x.value + current)
        return self.x.value


def networks(**options):
    node = LinearStep(3, gamma=-0.1, init_x=START, method="euler")
    return [Network(one, WEIGHTS, k=0.2, **options) for one in (LeakyStep(3), node)]


@pytest.mark.parametrize("coupling", ["diffusive", "additive", "tanh", "tanh_presummation"])
@pytest.mark.parametrize("delays", [{}, {"distance": LENGTHS, "speed": 5.0}], ids=["instant", "delayed"])
def test_a_network_of_modules_is_that_of_the_same_equations(coupling, delays):
    foreign, known = (Simulator(net, DT) for net in networks(coupling=coupling, coupled_var="x", **delays))
    found = foreign.run(15 * u.ms, monitors=["node.x"], batch_size=2)
    expected = known.run(15 * u.ms, monitors=["x"])["x"]
    for member in range(2):
        np.testing.assert_allclose(found["node.x"][:, member], expected, rtol=1e-12)
    assert found["ts"][-1].to_decimal(u.ms) == pytest.approx(15.0) and not found["diverged"]


def test_gradients_of_the_states_of_a_module_reach_its_parameters():
    net = networks(coupled_var="x", distance=LENGTHS, speed=5.0)[0]

    def mean():
        return jnp.mean(Simulator(net, DT).run(10 * u.ms, monitors=["node.x"])["node.x"])

    params = net.states(brainstate.ParamState)
    brainstate.nn.init_all_states(net.node)
    slope = brainstate.transform.grad(mean, params)()[("node", "gamma", "val")]
    state, step = params[("node", "gamma", "val")], 1e-6
    ends = []
    for sign in (1, -1):
        state.value = jnp.asarray(-0.1 + sign * step)
        ends.append(float(mean()))
    state.value = jnp.asarray(-0.1)
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


def test_a_lowered_module_steps_as_it_runs():
    low = lower(LeakyStep(3), DT)
    drive = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)))
    state = low.init(low.params)
    _, seen = low.advance(low.params, state, (drive,), None, 0.0)
    for row in drive:
        state, out = low.step(low.params, state, {"current": row}, None, 0.0)
    np.testing.assert_allclose(out["output"], seen["output"][-1], rtol=1e-14)
    run = Simulator(LeakyStep(3), DT).run(2 * u.ms, inputs=drive)
    np.testing.assert_allclose(run["output"], seen["output"], rtol=1e-14)
    slope = jax.grad(lambda p: low.advance(p, low.init(p), (drive,), None, 0.0)[1]["output"].sum())(
        low.params
    )
    assert np.abs(slope["gamma.val.value"]) > 1.0
    with pytest.raises(TypeError, match="LeakyStep has no right-hand side"):
        low.field(low.params, state, {})


def test_inputs_sampling_and_transients_of_a_module():
    times = []

    def drive(i, t):
        times.append(u.get_dim(t) == u.get_dim(1 * u.ms))
        return jnp.sin(t / u.ms)

    dense = Simulator(LeakyStep(3), DT).run(6 * u.ms, inputs=drive, monitors=["x"])["x"]
    thin = Simulator(LeakyStep(3), DT).run(
        6 * u.ms,
        inputs=drive,
        monitors={"x": "x", "sum": lambda m: m.x.value.sum()},
        transient=2 * u.ms,
        sample_every=4,
    )
    assert all(times)
    np.testing.assert_allclose(thin["x"], dense[23::4], rtol=1e-13)
    np.testing.assert_allclose(thin["sum"], dense[23::4].sum(axis=-1), rtol=1e-13)
    np.testing.assert_allclose(thin["ts"].to_decimal(u.ms)[[0, -1]], [2.4, 6.0])


def test_noise_that_a_module_draws_by_itself_is_refused():
    class NoisyStep(LeakyStep):
        def update(self, current=0.0):
            return super().update(current + brainstate.random.randn(3))

    with pytest.raises(
        UnnamedNoiseError, match=r"NoisyStep writes a state, or draws from brainstate\.random"
    ):
        Simulator(NoisyStep(3), DT).run(1 * u.ms)


def test_wrong_requests_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"transient .* must be shorter"):
        Simulator(LeakyStep(3), DT).run(1 * u.ms, transient=1 * u.ms)
    with pytest.raises(ValueError, match="inputs have 3 rows but the run has 10 steps"):
        Simulator(LeakyStep(3), DT).run(1 * u.ms, inputs=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="monitor 'y' is not an attribute"):
        Simulator(LeakyStep(3), DT).run(1 * u.ms, monitors=["y"])
    with pytest.raises(ValueError, match="LeakyStep is run by its own update and cannot take initial"):
        Simulator(LeakyStep(3), DT).run(1 * u.ms, initial={"x": START})
    with pytest.raises(ValueError, match="coupling 'tanh' has no parameter slope"):
        Network(LeakyStep(3), WEIGHTS, coupling="tanh", coupled_var="x", slope=1.0)
