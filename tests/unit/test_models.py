"""The contract of the models: declarations, units, noise slots, states, update, batches, training, own models."""

import os
import subprocess
import sys
import warnings
from typing import ClassVar

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import (
    MODELS,
    HopfStep,
    LinearStep,
    MontbrioPazoRoxinStep,
    NeuralMass,
    get_model,
    list_models,
)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom import integrate
from brainloom.core.units import UnitError, parse
from brainloom.models.declare import Parameter, Port, State, port
from brainloom.models.lowering import lower
from brainloom.models.registry import ABSENT
from brainloom.noise import OUProcess, WhiteNoise

NAMES = sorted(MODELS)
FLOWS = [name for name in NAMES if not MODELS[name].MAP]


def start_of(node, batch=None):
    return node.initial_values(batch, jax.random.key(0))


# --- registry and declarations -------------------------------------------------------------------------------


def test_registry():
    assert get_model("HopfStep") is HopfStep
    assert all(name == model.__name__ and issubclass(model, NeuralMass) for name, model in MODELS.items())
    with pytest.raises(KeyError, match="no model 'Hopf'; there are BilinearDCMStep"):
        get_model("Hopf")
    with pytest.raises(KeyError, match=r"RobinsonStep .*is not built yet"):
        get_model("RobinsonStep")


def test_the_table_of_models_lists_every_model_and_what_is_absent():
    rows = list_models()
    assert {row.name for row in rows} == set(MODELS) | set(ABSENT) and not set(MODELS) & set(ABSENT)
    assert all(row.n_state_vars == len(MODELS[row.name].STATES) for row in rows if row.name in MODELS)
    assert all(row.use_case for row in rows) and "HopfStep" in repr(rows)
    assert {row.name for row in list_models(absent=False)} == set(MODELS)


@pytest.mark.parametrize("name", NAMES)
def test_declarations_are_complete(name):
    model = MODELS[name]
    node = model(3)
    assert model.__doc__ and model.USE and model.CATEGORY and model.DT > 0
    state = start_of(node)
    known = node.observables()
    assert {"source", "bold", "eeg", *model.state_names()} <= set(known)
    for one in known.values():
        extra = ({},) if one.driven else ()
        assert np.shape(one.function(node.parameter_values(), state, *extra)) == (3,)
        parse(one.unit, node.time_unit), parse(one.shown or "1")
    for s in model.STATES:
        assert s.span[0] < s.span[1] and parse(s.unit, node.time_unit)
    for p in model.PARAMETERS:
        low, high = p.bounds
        default = np.asarray(p.default(3) if callable(p.default) else (p.default or 0.0))
        assert low < high and p.unit and p.long_name
        assert ((default >= low) & (default <= high)).all() or p.default is None, p.name
    assert all(p.enters in state and p.unit for p in model.PORTS)


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_and_port_acts(name):
    """Each moves the derivative somewhere in the box of the others: none is declared and forgotten."""
    model = MODELS[name]
    n, rng = 64, np.random.default_rng(0)
    node = model(n)
    declared = {p.name: p for p in model.PARAMETERS}
    given = {}
    for k, value in node.parameter_values().items():
        box = declared[k].bounds if k in declared and np.ndim(value) == 0 else None
        given[k] = jnp.asarray(rng.uniform(*box, n)) if box and np.isfinite(box).all() else value
    state = {s.name: jnp.asarray(rng.uniform(*s.span, n)) for s in model.STATES}
    ports = {p.name: 0.3 + 0.1 * jnp.arange(n) for p in model.PORTS if p.name not in ("input",)}

    def flow(params, inputs):
        return model.rhs(params, state, inputs, 0.0)

    _, back = jax.vjp(flow, given, ports)
    rows = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), flow(given, ports))
    params, inputs = back(rows)
    still = [k for k in declared if k in params and not np.abs(params[k]).max() > 0.0]
    # switches, own delays (read by the engine) and noise have no slope here, nor what waits for DCM's input
    waiting = {"B", "C"} if name == "BilinearDCMStep" else set()
    allowed = waiting | {"modification", "cubic", "shift", "sigma_noise", "tau_noise", *model.SELF_DELAYS}
    assert not set(still) - allowed
    assert all(np.abs(value).max() > 0.0 for value in inputs.values())


def test_defaults_are_the_published_ones():
    hopf, linear = HopfStep(1), LinearStep(1)
    assert {k: float(v) for k, v in hopf.parameter_values().items()} == {"a": 0.2, "w": 0.3, "beta": 1.0}
    assert {k: float(v) for k, v in linear.parameter_values().items()} == {"gamma": -0.1}
    assert {k: float(v[0]) for k, v in hopf.initial_values().items()} == {"x": 0.1, "y": 0.0}
    assert hopf.method == "exp_euler" and hopf.noise_values() == {}


# --- units and wrong names -----------------------------------------------------------------------------------


def test_quantities_are_converted_to_the_declared_units():
    node = HopfStep(2, a=20.0 / u.second, w=0.3 / u.ms, noise_x=0.01 / u.ms**0.5)
    found = node.parameter_values()
    np.testing.assert_allclose([found["a"], found["w"]], [0.02, 0.3], rtol=1e-12)
    slow = HopfStep(2, a=0.02 / u.ms, noise_x=0.01 / u.ms**0.5, time_unit="s")
    np.testing.assert_allclose(slow.parameter_values()["a"], 20.0)
    np.testing.assert_allclose(slow.noise_values()["x"], 0.01 * np.sqrt(1000.0))
    jansen = get_model("JansenRitStep")(1, A=0.00325 * u.volt, init_y1=2.0 * u.mV)
    np.testing.assert_allclose(jansen.parameter_values()["A"], 3.25)
    np.testing.assert_allclose(jansen.initial_values()["y1"], [2.0])
    state = {"x": jnp.ones(2), "y": jnp.zeros(2)}
    there = HopfStep(2).derivative(state, 0.0, 500.0 / u.second)["x"]
    np.testing.assert_allclose(there - HopfStep(2).derivative(state)["x"], 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    "build, sentence",
    [
        (lambda: HopfStep(1, a=3.0 * u.mV), r"a of HopfStep is given in mV, but it is needed in 1/ms"),
        (
            lambda: HopfStep(1, init_x=1.0 * u.Hz).initial_values(),
            r"init_x of HopfStep is given in Hz, .* in 1",
        ),
        (lambda: get_model("JansenRitStep")(1, A=3.0 * u.Hz), r"A of JansenRitStep is given in Hz, .* in mV"),
        (lambda: LinearStep(1, noise_x=0.1 * u.mV), r"noise_x of LinearStep is given in mV, .*1/sqrt\(ms\)"),
        (
            lambda: LinearStep(1).derivative({"x": jnp.ones(1)}, 0.0, 1.0 * u.mV),
            r"the input current of LinearStep is given in mV, but it is needed in 1/ms",
        ),
    ],
)
def test_a_wrong_dimension_is_an_error_that_names_both_units(build, sentence):
    with pytest.raises(UnitError, match=sentence):
        build()


def test_unknown_names_are_errors_that_list_the_known_ones():
    with pytest.raises(
        TypeError, match="LinearStep has no parameter rate, tau; it has gamma, init_x, noise_"
    ):
        LinearStep(1, tau=1.0, rate=2.0, gamma=-1.0)
    with pytest.raises(ValueError, match="method is 'rk5'"):
        HopfStep(1, method="rk5")
    with pytest.raises(ValueError, match="time_unit is 'h'"):
        HopfStep(1, time_unit="h")
    with pytest.raises(ValueError, match="MontbrioPazoRoxinStep is written in ms, not 's'"):
        MontbrioPazoRoxinStep(1, time_unit="s")
    with pytest.raises(ValueError, match="white noise enters states only"):
        HopfStep(1, noise_x_input=0.1)
    with pytest.raises(ValueError, match="noise_x_input is white"):
        HopfStep(1, noise_x_input=WhiteNoise(0.1))
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


# --- states and update ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_states_are_created_with_and_without_a_batch_and_reset(name):
    node = MODELS[name](3)
    for batch, shape in ((None, (3,)), (5, (5, 3))):
        node.init_state(batch)
        assert len(node.states(brainstate.HiddenState)) == len(node.STATES)
        for s in node.STATES:
            state = getattr(node, s.name)
            assert isinstance(state, brainstate.HiddenState) and state.value.shape == shape
            before = state.value
            state.value = before + 1.0
            node.reset_state(batch)
            if s.draw is None:
                np.testing.assert_array_equal(state.value, before)


@pytest.mark.parametrize("name", NAMES)
def test_update_is_the_lowered_step_in_regions_that_differ_and_in_batches(name):
    model = MODELS[name]
    rng = np.random.default_rng(1)
    fields = {
        p.name: p.default * (1.0 + 0.02 * rng.normal(size=3))
        for p in model.PARAMETERS
        if isinstance(p.default, float) and p.default not in (0.0, 1.0) and p.name not in model.SELF_DELAYS
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = model(3, method="rk4", **fields)
    dt = model.DT * (u.ms if node.time_unit == "ms" else u.second)
    start = {k: np.asarray(v) for k, v in start_of(node, 2).items()}
    for k, value in start.items():
        setattr(node, f"init_{k}", value)
    with brainstate.environ.context(dt=dt):
        brainstate.nn.init_all_states(node, 2)
        for _ in range(4):
            returned = node.update()
    low = lower(node, dt, "rk4")
    end, seen = jax.jit(low.advance)(low.params, low.init(low.params, None, 2), {}, jnp.zeros((4, 0, 3)), 0.0)
    for k in start:
        np.testing.assert_allclose(getattr(node, k).value, end[k], rtol=1e-11, atol=1e-13)
    known = node.observables()["source"]
    plain = (
        returned.to_decimal(parse(known.unit, node.time_unit))
        if isinstance(returned, u.Quantity)
        else returned
    )
    np.testing.assert_allclose(plain, seen["source"][-1], rtol=1e-11, atol=1e-13)


def test_linear_update_is_exact_and_dt_is_read_when_it_runs():
    node = LinearStep(2, gamma=np.array([-0.1, -2.0]))
    node.init_state()
    for dt in (0.5, 0.25 * u.ms):
        with brainstate.environ.context(dt=dt):
            node.update()
    np.testing.assert_allclose(node.x.value, np.exp([-0.075, -1.5]), rtol=1e-13)


def test_update_runs_in_a_compiled_loop_of_brainstate():
    node, again = HopfStep(2), HopfStep(2)
    node.init_state(), again.init_state()
    with brainstate.environ.context(dt=0.1):
        seen = brainstate.transform.for_loop(lambda k: node.update(), jnp.arange(5))
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
    node, quiet = HopfStep(3, noise_y=np.array([0.1, 0.2, 0.3])), HopfStep(3)
    assert list(node.noise_values()) == ["y"]
    node.init_state(), quiet.init_state()
    with brainstate.environ.context(dt=0.1):
        node.update(), quiet.update()
    np.testing.assert_array_equal(node.x.value, quiet.x.value)
    assert np.abs(node.y.value - quiet.y.value).min() > 1e-6


def test_a_history_that_was_not_made_before_a_compiled_loop_is_an_error():
    node = get_model("WilsonCowanDelayedStep")(2)
    node.init_state()  # dt is not known
    with brainstate.environ.context(dt=0.5 * u.ms):
        with pytest.raises(Exception, match=r"init_state\(\) while brainstate.environ holds dt"):
            brainstate.transform.for_loop(lambda k: node.update(), jnp.arange(3))
        node.init_state()
        seen = brainstate.transform.for_loop(lambda k: node.update(), jnp.arange(30))
        low = lower(node, 0.5)
        _, expected = low.advance(low.params, low.init(low.params), {}, jnp.zeros((30, 0, 2)), 0.0)
    np.testing.assert_allclose(seen, expected["source"], rtol=1e-12)


# --- training and own models ---------------------------------------------------------------------------------


def test_parameters_may_be_trainable_and_have_units():
    rate = brainstate.nn.Param(jnp.array([0.5, 2.0]), t=brainstate.nn.SoftplusT(0.0))
    node = HopfStep(2, a=rate, w=2.0 / u.ms)
    np.testing.assert_allclose(node.parameter_values()["a"], [0.5, 2.0], rtol=1e-12)  # constrained value
    node.init_state()
    with brainstate.environ.context(dt=0.1):
        slopes = brainstate.transform.grad(
            lambda: jnp.sum(node.update()), node.states(brainstate.ParamState)
        )()
    assert len(slopes) == 1 and np.abs(jax.tree.leaves(slopes)[0]).min() > 1e-4
    low = lower(node, 0.1)
    assert low.trainable == ("a",)
    np.testing.assert_allclose(low.constrain(low.params)["a"], [0.5, 2.0], rtol=1e-12)
    assert np.abs(low.params["a"] - rate.value()).max() > 0.1  # unconstrained


def test_parameters_of_a_noise_process_can_be_trained():
    sigma = brainstate.nn.Param(0.1, t=brainstate.nn.SoftplusT(0.0))
    node = LinearStep(2, noise_x=OUProcess(sigma=sigma, tau=5.0 * u.ms))
    assert list(node.states(brainstate.ParamState)) == [("noise_x_sigma", "val")]
    low = lower(node, 0.1)
    noise = jax.random.normal(jax.random.key(0), (40, *low.noise_shape))

    def last(raw):
        return low.advance(low.params | {"noise_x.sigma": raw}, state, {}, noise, 0.0)[0]["x"].sum()

    state = low.init(low.params)
    raw = low.params["noise_x.sigma"]
    difference = (last(raw + 1e-5) - last(raw - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(last)(raw), difference, rtol=1e-8)
    assert abs(difference) > 1e-3


def test_a_model_of_a_user_works_like_the_others():
    class DecayStep(NeuralMass):
        STATES = (State("v", 2.0),)
        PARAMETERS = (Parameter("rate", 0.5, (0.0, 1.0), "1/time"),)
        PORTS = (Port("drive", "1/time", "v"),)
        OBSERVABLES: ClassVar = {}

        @staticmethod
        def rhs(params, state, inputs, t):
            return {"v": -params["rate"] * state["v"] + port(inputs, "drive")}

    node = DecayStep(2, init_v=np.array([1.0, 3.0]))
    node.init_state()
    with brainstate.environ.context(dt=0.2):
        np.testing.assert_allclose(node.update(), np.array([1.0, 3.0]) * np.exp(-0.1), rtol=1e-13)
    assert set(node.observables()) == {"v", "source", "bold", "eeg"}


@pytest.mark.parametrize("method", integrate.DETERMINISTIC)
def test_update_is_one_step_of_the_integrator(method):
    node = HopfStep(2, a=np.array([0.2, -0.1]), method=method)
    node.init_state(4)
    state = node.initial_values(4)
    with brainstate.environ.context(dt=0.1):
        for _ in range(3):
            node.update(x_input=0.05)
    for _ in range(3):
        state = integrate.deterministic_step(
            method, lambda s, t: node.derivative(s, t, x_input=0.05), state, 0.0, 0.1
        )
    np.testing.assert_allclose(node.x.value, state["x"], rtol=1e-14)
    np.testing.assert_allclose(node.y.value, state["y"], rtol=1e-14)


PROGRAM = """
from brainloom.core.runtime import configure
configure(1, "{precision}")
import brainloom.models, jax.numpy as jnp, brainstate
node = brainloom.models.HopfStep(2)
node.init_state()
with brainstate.environ.context(dt=0.1):
    print(jnp.zeros(1).dtype, node.parameter_values()["a"].dtype, node.update().dtype)
"""


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_importing_brainstate_keeps_the_precision(precision):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(precision=precision)],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert done.stdout.split() == [precision] * 3, done.stderr
