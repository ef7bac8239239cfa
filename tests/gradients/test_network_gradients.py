"""
Gradients through simulated networks against finite differences in float64.

Differences are ``(8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h`` with h of 1e-4 times the parameter: the formula is
off by h^4 of the fifth derivative, below 1e-12 here, and by the rounding of f over h, about 1e-11. Delays stay
between two samples while they are moved: where they cross one, the interpolant has a kink.
"""

from typing import ClassVar

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, LinearStep, NeuralMass, Observable, Parameter, Port, State
from brainloom.noise import MultiplicativeNoise, OUProcess

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from brainloom.coupling import KINDS, Coupling
from brainloom.models.lowering import lower
from brainloom.network import Network
from brainloom.simulate import Simulator

N, DT, STEPS = 3, 0.1, 36
RTOL = 1e-6
RNG = np.random.default_rng(5)
OFF = ~np.eye(N, dtype=bool)
WEIGHTS = RNG.uniform(0.2, 0.9, (N, N)) * OFF
# Delays of 12 to 25 steps, a fifth of a step and more away from whole ones, at 10 mm/ms.
DISTANCE = 10.0 * DT * (RNG.integers(12, 25, (N, N)) + RNG.uniform(0.2, 0.8, (N, N)))
MEASURE = jnp.asarray(RNG.normal(size=(2, STEPS, N)))
Param, SigmoidT = brainstate.nn.Param, brainstate.nn.SigmoidT


def differences(f, theta):
    """Gradient of `f` by finite differences, one entry at a time, all in one program."""
    flat, back = ravel_pytree(theta)
    h = 1e-4 * np.maximum(np.abs(flat), 0.1)
    moves = jnp.asarray(np.concatenate([c * np.diag(h) for c in (1, -1, 2, -2)]))
    values = jax.jit(jax.vmap(lambda move: f(back(flat + move))))(moves).reshape(4, -1)
    return back((8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * h))


def agree(found, expected, name="", rtol=RTOL):
    """Relative to the largest entry of the same parameter: others may be differences of larger numbers."""
    expected = np.asarray(expected)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * size, err_msg=name)
    return size


def measured(out):
    """A number that every state at every step has its own weight in."""
    return jnp.sum(MEASURE[0] * out["x"]) + jnp.sum(
        MEASURE[1] * jnp.sin(out["y"] if "y" in out else out["x"])
    )


# --- every coupling, in one network ----------------------------------------------------------------------------


class ManyPorts(NeuralMass):
    """A nonlinear focus that hears every coupling through a port of its own."""

    STATES = (State("x", 0.3), State("y", -0.2))
    PARAMETERS = (
        Parameter("a", -0.3, (-1.0, 1.0), "1/time"),
        Parameter("w", 0.9, (0.0, 2.0), "rad/time"),
    )
    PORTS = tuple(Port(kind, "1/time", "x") for kind in KINDS)

    @staticmethod
    def rhs(params, state, inputs, t):
        x, y = state["x"], state["y"]
        arriving = sum((0.5 + 0.1 * k) * jnp.sin(inputs[kind]) for k, kind in enumerate(KINDS))
        return {
            "x": params["a"] * x - params["w"] * y - x**3 + 0.3 * arriving,
            "y": params["w"] * x - 0.2 * y,
        }


CENTRES = {"sigma": 1.4, "G": 1.5, "cmin": -0.3, "cmax": 1.2, "midpoint": 0.2, "b": 0.4, "theta": 0.3}


def all_couplings(**options):
    """Shape parameters one a pair where a coupling allows it, else one a target; its own weights each."""
    terms = []
    for number, (kind, one) in enumerate(KINDS.items()):
        shape = {}
        for name in one.parameters:
            axes = (N, N) if name in one.pairwise else (N,)
            shape[name] = CENTRES.get(name, 0.8) * RNG.uniform(0.7, 1.3, axes)
        gain = shape.pop("k")
        conn = WEIGHTS * RNG.uniform(0.8, 1.2, (N, N))
        source = "y" if number % 2 else "x"
        terms.append(Coupling(kind, source, kind, conn, gain, name=f"c_{kind}", shape=shape))
    node = ManyPorts(N, a=RNG.uniform(-0.5, 0.1, N), w=RNG.uniform(0.6, 1.2, N), noise_x=0.3, noise_y=0.2)
    return Network(node, couplings=terms, divide_by_n=False, **options)


def both_gradients(low, chosen=None):
    """Gradients of the measure in all parameters, by reverse mode and by differences; noise is fixed."""
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(STEPS, *low.noise_shape)))
    floats = {k: v for k, v in low.params.items() if jnp.issubdtype(v.dtype, jnp.floating)}
    theta = {k: v for k, v in floats.items() if not k.endswith(".real") and (not chosen or k in chosen)}

    def loss(theta):
        params = low.params | theta
        return measured(low.advance(params, low.init(params), {}, noise)[1])

    return jax.jit(jax.grad(loss))(theta), differences(loss, theta)


@pytest.fixture(scope="module", params=["undelayed", "sparse", "delayed"])
def route(request):
    options = {
        "undelayed": {},
        "sparse": {"sparse": True},
        "delayed": {
            "distance": Param(jnp.asarray(DISTANCE), t=SigmoidT(11.25, 30.0)),
            "speed": Param(jnp.asarray(10.0), t=SigmoidT(8.0, 12.5)),
        },
    }[request.param]
    # one derivative a step where it costs most to compile; other tests have the other methods
    low = lower(all_couplings(**options), DT, "heun" if request.param == "undelayed" else "euler")
    assert (low.structure.block > 1) == (request.param == "delayed")
    found, expected = both_gradients(low)
    # the delays follow from speed and distance; what is given for them is not used
    return {k: (found[k], expected[k]) for k in found if k != "delay"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_every_coupling(route, kind):
    names = [name for name in route if name.startswith(f"c_{kind}.")]
    assert {name.rpartition(".")[2] for name in names} == {"weights", *KINDS[kind].parameters}
    for name in names:
        found, expected = route[name]
        size = agree(found, expected, name)
        # no silent zero: every connection and every value counts
        used = np.abs(found)[OFF] if np.shape(found) == (N, N) else np.abs(found)
        assert size > 1e-4 and used.min() > 1e-6 * size, name


def test_parameters_of_nodes_noise_and_delays(route):
    names = [name for name in route if not name.startswith("c_")]
    delays = {"distance", "speed"} & set(names)
    assert set(names) == {"a", "w", "noise_x", "noise_y"} | delays
    for name in names:
        found, expected = route[name]
        size = agree(found, expected, name)
        used = np.abs(found)[OFF] if name == "distance" else np.abs(found)
        assert size > 1e-3 and used.min() > 1e-6 * size, name


# --- delays --------------------------------------------------------------------------------------------------------


def hopf(**options):
    node_options = {k: options.pop(k) for k in list(options) if k.startswith("noise")}
    node = HopfStep(N, a=np.array([0.2, -0.1, 0.1]), w=np.array([0.5, 0.8, 0.6]), init_x=0.4, **node_options)
    return Network(node, options.pop("conn", WEIGHTS), coupled_var="x", **{"k": 0.4} | options)


@pytest.mark.parametrize("method", ["euler", "heun", "rk4", "exp_euler"])
def test_delays_given_as_such_with_every_method(method):
    """Some are shorter than a step, where the present and the last sample are mixed."""
    tau = DISTANCE / 10.0
    tau[0, 1], tau[2, 1] = 0.037, 0.151
    low = lower(hopf(delay=tau), DT, method)
    found, expected = both_gradients(low, {"delay", "a", "w", "beta", "weights", "coupling.k"})
    for name in found:
        size = agree(found[name], expected[name], name)
        used = np.abs(found[name])[OFF] if name in ("delay", "weights") else np.abs(found[name])
        assert size > 1e-3 and used.min() > 1e-6 * size, name


def test_speed_of_each_connection():
    speed = Param(jnp.asarray(RNG.uniform(9.5, 10.5, (N, N))), t=SigmoidT(8.0, 12.5))
    low = lower(hopf(distance=DISTANCE, speed=speed), DT, "heun")
    position = np.asarray(low.constrain(low.params)["delay"])[OFF] / DT
    assert np.abs(position - position.round()).min() > 0.02  # no kink within reach of the differences
    found, expected = both_gradients(low, {"speed"})
    agree(found["speed"], expected["speed"])
    assert np.abs(found["speed"])[OFF].min() > 1e-6


def test_trained_weights_that_are_zero_have_a_gradient():
    """A connection may appear while a network is fitted; with delays, too."""
    weights = WEIGHTS.copy()
    weights[0, 1] = weights[2, 0] = 0.0
    for options in ({}, {"delay": DISTANCE / 10.0}):
        low = lower(hopf(conn=Param(jnp.asarray(weights)), **options), DT, "heun")
        found, expected = both_gradients(low, {"weights"})
        agree(found["weights"][OFF], expected["weights"][OFF])
        assert np.abs(found["weights"])[OFF].min() > 1e-4


class EchoStep(LinearStep):
    """``x' = gamma x + tanh(c x(t - lag))``: every region hears itself."""

    PARAMETERS = (
        *LinearStep.PARAMETERS,
        Parameter("c", -1.5, (-3.0, 3.0)),
        Parameter("lag", 1.23, (0.5, 2.0), "time"),
    )
    OBSERVABLES: ClassVar = {"scaled": Observable(lambda params, state: params["c"] * state["x"])}
    SELF_DELAYS: ClassVar = {"lag": ("scaled", "echo")}

    @staticmethod
    def rhs(params, state, inputs, t):
        return {"x": params["gamma"] * state["x"] + jnp.tanh(inputs["echo"]) + inputs.get("current", 0.0)}


def test_own_delays():
    """The observable that is stored depends on a parameter; the gradient goes through the history."""
    node = EchoStep(N, lag=np.array([1.23, 0.96, 1.75]), init_x=np.array([1.0, 0.5, -0.7]))
    found, expected = both_gradients(lower(node, DT, "rk4"))
    assert set(found) == {"gamma", "c", "lag"}
    for name in found:
        agree(found[name], expected[name], name)
        assert np.abs(found[name]).min() > 1e-3, name


def test_noise_processes_with_fixed_draws():
    node = HopfStep(
        N,
        a=-0.2,
        noise_x=MultiplicativeNoise(lambda x: 1.0 + x * x, sigma=0.2),
        noise_x_input=OUProcess(N, sigma=0.4, tau=2.0),
        noise_y=0.3,
    )
    for method in ("euler", "stochastic_heun"):
        low = lower(Network(node, WEIGHTS, k=0.4), DT, method)
        chosen = {name for name in low.params if name.startswith("noise_")}
        assert len(chosen) >= 4
        found, expected = both_gradients(low, chosen)
        for name in chosen - {"noise_x_input.mean"}:
            agree(found[name], expected[name], name)
            assert np.abs(found[name]).min() > 1e-3, name


# --- through the simulator -----------------------------------------------------------------------------------


@pytest.mark.parametrize("delayed", [False, True])
def test_initial_states(delayed):
    options = {"delay": DISTANCE / 10.0} if delayed else {}
    simulator = Simulator(hopf(**options), DT, method="heun")

    def loss(start):
        return measured(simulator.run(STEPS * DT, initial=start, monitors=["x", "y"], check=False))

    start = {"x": jnp.asarray([0.4, -0.2, 0.3]), "y": jnp.asarray([0.1, 0.3, -0.4])}
    found, expected = jax.jit(jax.grad(loss))(start), differences(loss, start)
    for name in start:
        agree(found[name], expected[name], name)
        assert np.abs(found[name]).min() > 1e-3


def test_models_may_be_made_inside_a_function_that_jax_differentiates():
    def loss(theta):
        node = HopfStep(N, a=theta["a"], w=theta["w"] / u.ms, init_x=0.4, noise_x=theta["noise"])
        model = Network(node, theta["weights"], delay=DISTANCE / 10.0, k=theta["k"], coupled_var="x")
        found = Simulator(model, DT * u.ms, method="heun").run(
            STEPS * DT * u.ms, monitors=["x", "y"], key=jax.random.key(0), noise="weak"
        )
        return measured(found)

    theta = {"a": jnp.array([0.2, -0.1, 0.1]), "w": jnp.asarray(0.6), "noise": jnp.asarray(0.2)}
    theta |= {"k": jnp.asarray(0.4), "weights": jnp.asarray(WEIGHTS)}
    found, expected = jax.jit(jax.grad(loss))(theta), differences(loss, theta)
    for name in theta:
        agree(found[name], expected[name], name)
        used = np.abs(found[name])[OFF] if name == "weights" else np.abs(found[name])
        assert used.min() > 1e-4, name


def test_functions_of_the_model_as_monitors_have_gradients():
    """They read states and parameters of the model in the loop."""
    model = LinearStep(N, gamma=Param(jnp.asarray(-0.3)), init_x=np.array([1.0, 0.5, 2.0]))

    def loss():
        found = Simulator(model, DT).run(2.0, monitors=lambda m: m.gamma.value() * m.x.value)
        return jnp.sum(found["output"][-1])

    (found,) = brainstate.transform.grad(loss, model.states(brainstate.ParamState))().values()
    # gamma x0 e^(2 gamma), summed over x0 = 3.5
    assert float(found) == pytest.approx(3.5 * (1 - 0.3 * 2.0) * np.exp(-0.6), rel=1e-10)
