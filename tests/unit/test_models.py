"""The contract of the models: names, defaults, states, ports and the update of brainstate modules."""

import os
import subprocess
import sys
from typing import ClassVar

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import REGISTRY, HopfStep, LinearStep, NeuralMass, get_model

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import integrate
from brainloom.models.base import Parameter, Port, State

MODELS = list(REGISTRY.values())


def test_registry():
    assert get_model("HopfStep") is HopfStep and get_model("LinearStep") is LinearStep
    assert all(name == model.__name__ and issubclass(model, NeuralMass) for name, model in REGISTRY.items())
    with pytest.raises(KeyError, match="no model 'Hopf'; there are HopfStep, LinearStep"):
        get_model("Hopf")


@pytest.mark.parametrize("model", MODELS)
def test_declarations_are_complete(model):
    node = model(3)
    state = {s.name: jnp.full(3, 0.3) for s in model.STATES}
    assert set(node.derivative(state)) == set(state)
    assert {"source", "bold", "eeg"} <= set(model.OBSERVABLES)
    for observe in model.OBSERVABLES.values():
        assert observe(node.parameter_values(), state).shape == (3,)
    for parameter in model.PARAMETERS:
        low, high = parameter.bounds
        assert low <= parameter.default <= high and parameter.unit and parameter.long_name
        moved = model(3, **{parameter.name: parameter.default * 1.1}).derivative(state)
        assert any(np.abs(moved[k] - node.derivative(state)[k]).max() > 1e-6 for k in state), parameter.name
    assert all(port.enters in state and port.unit for port in model.PORTS)


def test_defaults_are_the_published_ones():
    hopf, linear = HopfStep(1), LinearStep(1)
    assert {k: float(v) for k, v in hopf.parameter_values().items()} == {"a": 0.2, "w": 0.3, "beta": 1.0}
    assert {k: float(v) for k, v in linear.parameter_values().items()} == {"gamma": -0.1}
    assert {k: float(v[0]) for k, v in hopf.initial_values().items()} == {"x": 0.1, "y": 0.0}
    assert {k: float(v[0]) for k, v in linear.initial_values().items()} == {"x": 1.0}
    assert hopf.method == "exp_euler" and hopf.noise_values() == {}


def test_unknown_names_are_errors_that_list_the_known_ones():
    with pytest.raises(
        TypeError, match="LinearStep has no parameter rate, tau; it has gamma, init_x, noise_x"
    ):
        LinearStep(1, tau=1.0, rate=2.0, gamma=-1.0)
    with pytest.raises(ValueError, match="method is 'rk5'"):
        HopfStep(1, method="rk5")
    state = {"x": jnp.ones(1), "y": jnp.ones(1)}
    with pytest.raises(TypeError, match="HopfStep has the ports x_input, y_input, not z_input"):
        HopfStep(1).derivative(state, 0.0, z_input=1.0)
    with pytest.raises(TypeError, match="HopfStep has the ports x_input, y_input, not 3"):
        HopfStep(1).derivative(state, 0.0, 1.0, 2.0, 3.0)
    with pytest.raises(TypeError, match="declares no right-hand side"):
        NeuralMass(1).rhs({}, {}, {}, 0.0)


def test_positional_inputs_are_the_ports_in_declared_order():
    node, state = HopfStep(2), {"x": jnp.array([0.1, 0.2]), "y": jnp.array([0.3, 0.4])}
    by_name = node.derivative(state, 0.0, x_input=1.0, y_input=jnp.array([2.0, 3.0]))
    by_place = node.derivative(state, 0.0, 1.0, jnp.array([2.0, 3.0]))
    free = node.derivative(state)
    for k, given in (("x", [1.0, 1.0]), ("y", [2.0, 3.0])):
        np.testing.assert_array_equal(by_name[k], by_place[k])
        np.testing.assert_allclose(by_name[k] - free[k], given, rtol=1e-14)


@pytest.mark.parametrize("model", MODELS)
def test_states_are_created_with_and_without_a_batch_and_reset(model):
    first = model.STATES[0].name
    node = model(3, **{f"init_{first}": np.array([0.1, 0.2, 0.3])})
    for batch, shape in ((None, (3,)), (5, (5, 3))):
        node.init_state(batch)
        state = getattr(node, first)
        assert isinstance(state, brainstate.HiddenState) and state.value.shape == shape
        state.value = state.value + 1.0
        node.reset_state(batch)
        np.testing.assert_array_equal(state.value, np.broadcast_to([0.1, 0.2, 0.3], shape))


@pytest.mark.parametrize("method", integrate.DETERMINISTIC)
@pytest.mark.parametrize("batch", [None, 4])
def test_update_is_one_step_of_the_integrator(method, batch):
    node = HopfStep(2, a=np.array([0.2, -0.1]), method=method)
    node.init_state(batch)
    with brainstate.environ.context(dt=0.1):
        returned = [node.update(x_input=0.05) for _ in range(3)]
    state = node.initial_values(batch)
    for _ in range(3):
        state = integrate.deterministic_step(
            method, lambda s, t: node.derivative(s, t, x_input=0.05), state, 0.0, 0.1
        )
    np.testing.assert_allclose(node.x.value, state["x"], rtol=1e-14)
    np.testing.assert_allclose(node.y.value, state["y"], rtol=1e-14)
    np.testing.assert_array_equal(returned[-1], node.x.value)


def test_linear_update_is_exact_and_dt_is_read_when_it_runs():
    node = LinearStep(2, gamma=np.array([-0.1, -2.0]))
    node.init_state()
    for dt in (0.5, 0.25 * u.ms):  # a quantity of time is taken in ms
        with brainstate.environ.context(dt=dt):
            node.update()
    np.testing.assert_allclose(node.x.value, np.exp([-0.075, -1.5]), rtol=1e-13)


def test_update_runs_in_a_compiled_loop_of_brainstate():
    node = HopfStep(2)
    node.init_state()
    with brainstate.environ.context(dt=0.1):
        seen = brainstate.transform.for_loop(lambda k: node.update(), jnp.arange(5))
        again = HopfStep(2)
        again.init_state()
        expected = [again.update() for _ in range(5)]
    np.testing.assert_allclose(seen, expected, rtol=1e-13)


def test_update_draws_the_stated_noise():
    node = LinearStep(20_000, gamma=-0.1, init_x=0.0, noise_x=0.3)
    node.init_state()
    brainstate.random.seed(1)
    with brainstate.environ.context(dt=0.04):
        node.update()
    assert np.std(node.x.value) == pytest.approx(0.3 * 0.2, rel=0.03)  # standard error 0.5 %
    assert abs(np.mean(node.x.value)) < 6 * 0.06 / np.sqrt(20_000)


def test_noise_enters_only_the_states_that_have_it():
    node = HopfStep(3, noise_y=np.array([0.1, 0.2, 0.3]))
    assert list(node.noise_values()) == ["y"]
    node.init_state()
    quiet = HopfStep(3)
    quiet.init_state()
    with brainstate.environ.context(dt=0.1):
        node.update(), quiet.update()
    np.testing.assert_array_equal(node.x.value, quiet.x.value)
    assert np.abs(node.y.value - quiet.y.value).min() > 1e-6


def test_parameters_may_be_trainable_and_have_units():
    rate = brainstate.nn.Param(jnp.array([0.5, 2.0]), t=brainstate.nn.SoftplusT(0.0))
    node = HopfStep(2, a=rate, w=2.0 / u.second)
    found = node.parameter_values()
    np.testing.assert_allclose(found["a"], [0.5, 2.0], rtol=1e-12)  # constrained value
    np.testing.assert_allclose(found["w"], 2.0)  # a rate is taken in its own unit
    state = {"x": jnp.array([0.3, 0.3]), "y": jnp.array([0.1, 0.1])}
    plain = HopfStep(2, a=np.array([0.5, 2.0]), w=2.0).derivative(state)
    np.testing.assert_allclose(node.derivative(state)["x"], plain["x"], rtol=1e-12)

    node.init_state()
    with brainstate.environ.context(dt=0.1):
        grads = brainstate.transform.grad(
            lambda: jnp.sum(node.update()), node.states(brainstate.ParamState)
        )()
    assert len(grads) == 1 and np.abs(jax.tree.leaves(grads)[0]).min() > 1e-4


def test_a_model_of_a_user_works_like_the_others():
    class DecayStep(NeuralMass):
        STATES = (State("v", 2.0),)
        PARAMETERS = (Parameter("rate", 0.5, (0.0, 1.0)),)
        PORTS = (Port("drive", "1/time", "v"),)
        OBSERVABLES: ClassVar = {"source": lambda params, state: state["v"]}

        @staticmethod
        def rhs(params, state, inputs, t):
            return {"v": -params["rate"] * state["v"] + inputs.get("drive", 0.0)}

    node = DecayStep(2, init_v=np.array([1.0, 3.0]))
    node.init_state()
    with brainstate.environ.context(dt=0.2):
        np.testing.assert_allclose(node.update(), np.array([1.0, 3.0]) * np.exp(-0.1), rtol=1e-13)


def test_importing_brainstate_keeps_double_precision():
    node = HopfStep(2)
    node.init_state()
    with brainstate.environ.context(dt=0.1):
        found = [jnp.zeros(1), node.parameter_values()["a"], node.update(), brainstate.random.randn(1)]
    assert [str(x.dtype) for x in found] == ["float64"] * 4


PROGRAM = """
from brainloom.core.runtime import configure
configure(1, "float32")
import brainloom.models, jax.numpy as jnp, brainstate
node = brainloom.models.HopfStep(2)
node.init_state()
with brainstate.environ.context(dt=0.1):
    print(jnp.zeros(1).dtype, node.parameter_values()["a"].dtype, node.update().dtype)
"""


def test_importing_brainstate_keeps_single_precision():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.stdout.split() == ["float32"] * 3, done.stderr
