"""
What published programs do with models: one's own model everywhere, construction under transformations, batches.
"""

from __future__ import annotations

import brainloom
import brainloom.models  # before brainstate, which resets jax to single precision when it is imported
from brainloom.models import MODELS, NeuralMass, Parameter, Port, State
from brainloom.models.declare import port

# isort: split
import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brainstate.nn import Param, SoftplusT

from brainloom import HopfStep, HORNSeqLayer, HORNSeqNetwork, Network, Simulator, lower


class LogisticStep(NeuralMass):
    """Growth to a capacity of 1: x' = rate x (1 - x) + drive."""

    STATES = (State("x", 0.1, span=(0.0, 1.0)),)
    PARAMETERS = (Parameter("rate", 0.2, (0.01, 2.0), "1/time", "growth rate"),)
    PORTS = (Port("drive", "1/time", "x"),)

    @staticmethod
    def rhs(params, state, inputs, t):
        return {"x": params["rate"] * state["x"] * (1.0 - state["x"]) + port(inputs, "drive")}


def grown(t, rate=0.2):
    return 1.0 / (1.0 + 9.0 * np.exp(-rate * t))


# --- a model of one's own ----------------------------------------------------------------------------------------------


def test_own_model_in_the_simulator():
    res = Simulator(LogisticStep(2, method="rk4"), dt=0.1 * u.ms).run(30 * u.ms, monitors=["x"])
    np.testing.assert_allclose(res["x"][:, 0], grown(res["ts"] / u.ms), rtol=1e-8)  # rk4 at rate dt = 0.02
    slow = LogisticStep(1, rate=0.2, time_unit="s", method="rk4")
    res = Simulator(slow, dt=0.1 * u.second).run(30 * u.second, monitors=["x"])
    np.testing.assert_allclose(res["x"][:, 0], grown(res["ts"] / u.second), rtol=1e-8)


def test_own_model_in_a_network_and_lowered():
    weights = np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.0], [0.5, 0.2, 0.0]])
    start = np.array([0.1, 0.4, 0.7])
    node = LogisticStep(3, init_x=start)
    free = Network(node, weights, k=0.0)
    found = Simulator(free, dt=0.1 * u.ms, method="rk4").run(10 * u.ms, monitors=["x"])["x"]
    alone = 1.0 / (1.0 + (1.0 / start - 1.0) * np.exp(-0.2 * 10.0))
    np.testing.assert_allclose(found[-1], alone, rtol=1e-8)
    net = Network(node, weights, k=0.05, delay=2.0 * u.ms * np.ones((3, 3)))
    found = Simulator(net, dt=0.1 * u.ms, method="rk4").run(10 * u.ms, monitors=["x"])["x"]
    low = lower(net, 0.1 * u.ms, "rk4")
    quiet = jnp.zeros((100, *low.noise_shape))
    _, out = jax.jit(low.advance)(low.params, low.init(low.params), {}, quiet)
    np.testing.assert_allclose(out["x"], found, rtol=1e-12)
    # in the first 2 ms the sources are held at their start, so the input is known
    slope = 0.2 * start * (1.0 - start) + 0.05 * (weights @ start - weights.sum(axis=1) * start)
    np.testing.assert_allclose((found[0] - start) / 0.1, slope, rtol=0.02)  # the first step, to O(dt)
    derivative = low.field(low.params, {"x": jnp.asarray(start)}, {})["x"]
    np.testing.assert_allclose(derivative, slope, rtol=1e-12)


@pytest.mark.parametrize("how", ["simulator", "for_loop"])
def test_own_model_in_a_loop_by_hand(how):
    model = LogisticStep(1, rate=Param(0.1, t=SoftplusT(0.0), fit=True), method="rk4")
    wanted = grown(np.arange(1, 61) * 0.5)[:, None]

    def trajectory():
        if how == "simulator":
            return Simulator(model, dt=0.5 * u.ms).run(30 * u.ms, monitors=["x"])["x"]
        with brainstate.environ.context(dt=0.5 * u.ms):
            brainstate.nn.init_all_states(model)
            return brainstate.transform.for_loop(lambda i: model.update(), jnp.arange(60))

    weights = model.states(brainstate.ParamState)
    optimiser = braintools.optim.Adam(lr=0.1)
    optimiser.register_trainable_weights(weights)

    @brainstate.transform.jit
    def step():
        slope = brainstate.transform.grad(
            lambda: jnp.mean((trajectory() - wanted) ** 2), weights, return_value=True
        )
        grads, loss = slope()
        optimiser.step(grads)
        return loss

    losses = [float(step()) for _ in range(80)]
    assert losses[-1] < 1e-3 * losses[0]
    np.testing.assert_allclose(model.rate.value(), 0.2, rtol=0.05)


# --- construction under transformations --------------------------------------------------------------------------------

RATES = np.array([0.1, 0.3, 0.6])


def settled_power(a):
    """Mean square of x of a normal form, built, run and measured in one function."""
    node = HopfStep(in_size=2, a=a, w=0.3)
    x = Simulator(node, dt=0.2 * u.ms, method="rk4").run(20 * u.ms, monitors=["x"])["x"]
    return jnp.mean(x**2)


@pytest.fixture(scope="module")
def power():
    """Without a transformation: values, and slopes by central differences, good to 1e-8 of terms of order 1."""
    values = [float(settled_power(a)) for a in RATES]
    h = 1e-4
    slopes = [float(settled_power(a + h) - settled_power(a - h)) / (2.0 * h) for a in RATES]
    return np.array(values), np.array(slopes)


@pytest.mark.parametrize("library", [jax, brainstate.transform], ids=["jax", "brainstate"])
def test_construction_under_jit_grad_and_vmap(library, power):
    values, slopes = power
    # other programs, other roundings
    np.testing.assert_allclose([library.jit(settled_power)(a) for a in RATES], values, rtol=1e-10)
    np.testing.assert_allclose(library.vmap(settled_power)(jnp.asarray(RATES)), values, rtol=1e-10)
    if library is jax:
        found = [jax.grad(settled_power)(a) for a in RATES]
        both = jax.jit(jax.vmap(jax.grad(settled_power)))(jnp.asarray(RATES))
    else:
        rate = brainstate.ParamState(jnp.asarray(RATES[0]))

        def loss():
            return settled_power(rate.value)

        found = []
        for a in RATES:
            rate.value = jnp.asarray(a)
            found.append(brainstate.transform.grad(loss, rate)())
        both = found
    np.testing.assert_allclose(found, slopes, rtol=1e-5)
    np.testing.assert_allclose(both, slopes, rtol=1e-5)


def test_a_network_is_built_under_jit_grad_and_vmap():
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])

    def distance(k):
        net = Network(HopfStep(2, a=0.2, init_x=np.array([0.5, -0.3])), weights * 0.5, k=k)
        x = Simulator(net, dt=0.2 * u.ms).run(10 * u.ms, monitors=["x"])["x"]
        return jnp.mean((x[:, 0] - x[:, 1]) ** 2)

    gains = jnp.array([0.05, 0.2])
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(distance)))(gains)
    np.testing.assert_allclose(value, [distance(float(k)) for k in gains], rtol=1e-10)
    h = 1e-4  # central differences, truncated at 1e-8
    wanted = [(distance(float(k) + h) - distance(float(k) - h)) / (2.0 * h) for k in gains]
    np.testing.assert_allclose(slope, wanted, rtol=1e-5)
    assert (slope < 0).all()  # coupling brings them together


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_model_is_built_under_jit_grad_and_vmap(model):
    parameter = next((p for p in model.PARAMETERS if not callable(p.default)), model.PARAMETERS[0])
    whole = parameter.default(2) if callable(parameter.default) else None  # a matrix, to be scaled
    state = model(2).initial_values(key=jax.random.key(0))

    def slope(value):
        node = model(2, **{parameter.name: value if whole is None else value * whole})
        changed = (
            node.derivative(state)
            if not model.MAP
            else node.discrete_step(node.parameter_values(), state, {})
        )
        return sum(jnp.sum(x**2) for x in changed.values())

    low, high = parameter.bounds if whole is None else (0.4, 1.2)
    points = np.array([0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high])
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(slope)))(jnp.asarray(points))
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(value, [float(slope(point)) for point in points], rtol=1e-10)


# --- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_init_state_honours_the_batch(model):
    fixed = {f"init_{s.name}": np.array([0.1, 0.2]) for s in model.STATES}
    node = model(2, method="euler", **fixed)
    dt = 0.01 * model.DT
    for batch, shape in ((None, (2,)), (3, (3, 2))):
        with brainstate.environ.context(dt=dt):  # own delays make their history for it
            node.init_state(batch_size=batch)
        for name in model.state_names():
            assert isinstance(getattr(node, name), brainstate.HiddenState)
            np.testing.assert_array_equal(getattr(node, name).value, np.broadcast_to([0.1, 0.2], shape))

    def step():
        with brainstate.environ.context(dt=dt):
            return node.update()

    output = brainstate.transform.jit(step)()
    assert u.get_mantissa(output).shape == (3, 2)
    for name in model.state_names():
        value = getattr(node, name).value
        assert value.shape == (3, 2)
        np.testing.assert_array_equal(value, np.broadcast_to(value[0], (3, 2)))  # the same start, no noise
    node.reset_state(batch_size=3)
    np.testing.assert_array_equal(
        getattr(node, model.state_names()[0]).value, np.broadcast_to([0.1, 0.2], (3, 2))
    )


@pytest.mark.parametrize("delayed", [False, True], ids=["instant", "delayed"])
def test_init_state_of_a_network_honours_the_batch(delayed):
    weights = np.array([[0.0, 1.0], [0.5, 0.0]])
    options = {"distance": 5.0 * np.ones((2, 2)), "speed": 10 * u.mm / u.ms} if delayed else {}
    node = HopfStep(2, a=0.2, init_x=np.array([0.5, -0.3]))
    net = Network(node, weights, k=0.3, **options)
    wanted = Simulator(net, dt=0.1 * u.ms).run(2 * u.ms, monitors=["x"])["x"]
    for batch, shape in ((None, (2,)), (3, (3, 2))):
        with brainstate.environ.context(dt=0.1 * u.ms):
            brainstate.nn.init_all_states(net, batch_size=batch)
            found = brainstate.transform.for_loop(lambda i: net.update(), jnp.arange(20))
        assert found.shape == (20, *shape) and node.x.value.shape == shape
        # the same steps in another program
        np.testing.assert_allclose(
            found, np.broadcast_to(wanted.reshape(20, *(1,) * (len(shape) - 1), 2), found.shape), rtol=1e-12
        )


def test_init_state_of_sequence_layers_honours_the_batch():
    delay = np.array([[0, 2, 1], [1, 0, 0], [3, 1, 0]])
    for layer in (
        HORNSeqLayer(2, 3, key=jax.random.key(0)),
        HORNSeqLayer(2, 3, delay=delay, key=jax.random.key(0)),
    ):
        layer.init_state(4)
        assert layer.horn.x.value.shape == layer.horn.y.value.shape == (4, 3)
        assert layer.update(jnp.ones((6, 4, 2))).shape == (6, 4, 3)
        layer.init_state()
        assert layer.update(jnp.ones((6, 2))).shape == (6, 3)
    network = HORNSeqNetwork(2, (3, 5), 4, key=jax.random.key(1))
    network.init_state(batch_size=7)
    assert network(jnp.ones((6, 7, 2))).shape == (7, 4)


def test_a_simulation_honours_the_batch():
    node = brainloom.LinearStep(2, noise_x=0.1)
    res = Simulator(node, dt=0.1 * u.ms).run(5 * u.ms, batch_size=3, monitors=["x"], key=jax.random.key(0))
    assert res["x"].shape == (50, 3, 2) and res["diverged"].shape == (3,)
    first, second, third = np.moveaxis(np.asarray(res["x"]), 1, 0)
    assert min(np.abs(first - second).max(), np.abs(first - third).max(), np.abs(second - third).max()) > 1e-3
