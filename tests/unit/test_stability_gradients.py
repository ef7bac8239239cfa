"""Gradients of every model are finite: of one step over the whole fitting box, of long runs at the defaults."""

from recommended import MODELS, noise_amplitudes, scheme, simulate

# isort: split
import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.models.larter_breakspear import LarterBreakspearStep
from brainloom.models.lowering import lower

CORNERS, INSIDE, STILL = 4096, 2000, 500
PORT = 10.0  # inputs go from -10 to 10 in the unit of the port
# Nothing here runs for long; compiling takes two thirds of the time without optimisation.
UNOPTIMISED = {"xla_backend_optimization_level": 0}

# Where a formula is 0/0 or has a corner. Numbers are exact in binary, so the singular point is hit, not approached.
HALF = {"a": 256.0, "b": 128.0}  # a x - b = 0 at x = 1/2
DIRECTION = {"mu1_start": 0.0, "mu2_start": 0.25, "nu_start": 0.0, "R": 0.25}  # rest at x = 1/2
NO_INPUT = {"background_e": 0.0, "background_i": 0.0, "r_e": 0.0, "r_i": 0.0}
SILENCE = {"E": 0.0, "I": 0.0, "P": 0.0, "Q": 0.0}  # the argument of the ramp is 0
SINGULAR = {
    "ReducedWongWangStep": [HALF | {"J_N": 0.25, "w": 0.0, "I_o": 0.5, "S": 0.0}],
    "WongWangStep": [
        HALF | {"mu_0": 0.0, "I_0": 0.3125, "S1": 0.0, "S2": 0.0, "current_1": 0.1875, "current_2": 0.1875}
    ],
    "WongWangExcInhStep": [
        {"a_e": 256.0, "b_e": 128.0, "a_i": 512.0, "b_i": 256.0, "W_e": 1.0, "W_i": 1.0, "I_o": 0.375}
        | {"S_e": 0.0, "S_i": 0.0, "I_ext": 0.0, "current_e": 0.125, "current_i": 0.125}
    ],
    "EpileptorStep": [
        {"x1": x1, "x2": x2, "z": 0.0, "modification": kind}
        for x1 in (0.0, -0.5)
        for x2 in (0.0, -0.25)
        for kind in (0.0, 1.0)
    ],
    "Epileptor2DStep": [{"x1": x, "z": 0.0, "cubic": kind} for x in (0.0, -0.5) for kind in (0.0, 1.0)],
    # At rest; start and stop in the same direction; both.
    "EpileptorCodim3Step": [
        DIRECTION | {"x": 0.5, "y": 0.0, "z": 0.0},
        {
            "mu1_start": 0.1,
            "mu2_start": 0.2,
            "nu_start": 0.3,
            "mu1_stop": 0.1,
            "mu2_stop": 0.2,
            "nu_stop": 0.3,
        },
        DIRECTION | {"mu1_stop": 0.0, "mu2_stop": 0.25, "nu_stop": 0.0, "x": 0.5, "y": 0.0, "z": 0.0},
    ],
    "ThresholdLinearStep": [NO_INPUT | {"hierarchy": 0.0}],
    "WilsonCowanLinearStep": [SILENCE],
}


def box(model, low, start):
    """Parameters, states and inputs of many points of the fitting box, each array (point, ...)."""
    rng = np.random.default_rng(5)
    bounds = {p.name: p.bounds for p in model.PARAMETERS}
    spans = {s.name: s.span for s in model.STATES}
    ports = {p.name: (-PORT, PORT) for p in model.PORTS}
    wide = {k: (np.shape(v), bounds.get(k)) for k, v in low.params.items()}
    wide |= {k: (np.shape(v), spans.get(k)) for k, v in start.items()}
    wide |= {k: ((1,), v) for k, v in ports.items()}
    values = {**low.params, **start}
    special = SINGULAR.get(model.__name__, [])
    points = {}
    for name, (shape, ends) in wide.items():
        if ends is None:  # noise amplitudes and histories keep their values
            total = CORNERS + INSIDE + STILL + len(special)
            points[name] = np.broadcast_to(values[name], (total, *shape))
            continue
        corners = np.where(rng.integers(0, 2, (CORNERS, *shape)) > 0, ends[1], ends[0])
        inside = rng.uniform(*ends, (INSIDE, *shape))
        # No input and no activity: where products vanish and arguments are 0.
        still = rng.uniform(*ends, (STILL, *shape)) if name in bounds else np.zeros((STILL, *shape))
        middle = 0.0 if name in ports else np.mean(ends)
        exact = [np.full(shape, point.get(name, middle)) for point in special]
        points[name] = np.concatenate([corners, inside, still, np.reshape(exact, (-1, *shape))])
    groups = ({k: points[k] for k in keys} for keys in (low.params, start, ports))
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), tuple(groups))


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", MODELS)
def test_gradient_of_a_step_is_finite_over_the_fitting_box(name, bits):
    """
    The recommended step with noise, in every parameter, state, history and input.

    Corners of box and span, random points, and the points where a formula has to be written with care.
    """
    check_box(name, bits, scheme(MODELS[name]))


@pytest.mark.parametrize(
    "name", ["HopfStep", "FitzHughNagumoStep", "MontbrioPazoRoxinStep", "ReducedWongWangStep"]
)
def test_gradient_of_an_exponential_step_is_finite_over_the_fitting_box(name):
    """Exponential Euler, the default of the models, differentiates their right-hand side twice."""
    check_box(name, 32, "exp_euler")


def check_box(name, bits, method):
    model = MODELS[name]
    assert all(set(point) <= _names(model) for point in SINGULAR.get(name, []))
    with jax.enable_x64(bits == 64):
        # The length of a history comes from the bounds of a delay that is a Param.
        delays = {p.name: _param(p.default) for p in model.PARAMETERS if p.name in model.SELF_DELAYS}
        node = model(2 if name == "BilinearDCMStep" else 1, **noise_amplitudes(model), **delays)
        low = lower(node, model.DT, method)
        start = low.init(low.params, jax.random.key(0))
        groups = box(model, low, start)
        count = len(jax.tree.leaves(groups)[0])
        draws = jax.random.normal(jax.random.key(1), (count, *low.noise_shape))

        def total(params, state, inputs, noise):
            new = low.step(params, state, inputs, noise, 0.0)[0]
            return sum(jnp.sum(new[k]) for k in model.state_names()), new

        slope = jax.jit(jax.vmap(jax.grad(total, (0, 1, 2), has_aux=True)))
        quick = slope.lower(*groups, draws).compile(UNOPTIMISED)
        gradients, new = quick(*groups, draws)
    for group in (*gradients, new):
        for key, value in group.items():
            assert value.dtype == np.dtype(f"float{bits}")
            bad = ~np.isfinite(value).reshape(count, -1).all(axis=1)
            assert not bad.any(), (key, {k: v[bad][:3] for g in groups for k, v in g.items()})
    assert all(np.any(gradients[0][p.name]) for p in model.PARAMETERS if p.name not in UNSEEN_IN_A_STEP)


# Switches have no derivative; a history that is held constant at the start does not depend on its delay.
UNSEEN_IN_A_STEP = {"modification", "cubic", "delay_ee", "delay_ei", "delay_ie", "delay_ii"}


def _names(model):
    return {x.name for x in (*model.PARAMETERS, *model.STATES, *model.PORTS)}


def _param(value):
    return brainstate.nn.Param(jnp.asarray(value, jnp.result_type(float)))


LENGTHS = {name: (MODELS[name], {}, 1000 if model.CHAOTIC else 10_000) for name, model in MODELS.items()}
LENGTHS["chaotic Larter-Breakspear"] = (LarterBreakspearStep, LarterBreakspearStep.PRESETS["chaotic"], 1000)

# Derivatives that are 0 at the defaults: switches; the strength of a hierarchy in which all regions are at 0; the
# slope of the seizure, which does not start within 500 units of time.
ZERO = {
    "ThresholdLinearStep": {"eta"},
    "EpileptorStep": {"modification", "slope"},
    "Epileptor2DStep": {"modification", "cubic"},
    "EpileptorCodim3Step": {"modification"},
}


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
@pytest.mark.parametrize("name", LENGTHS)
def test_gradient_of_a_long_noisy_run_is_finite(name):
    """10^4 steps (10^3 of the chaotic ones) in single precision, in every parameter; the model is made inside."""
    model, preset, steps = LENGTHS[name]
    inputs = {p.name: 0.01 for p in model.PORTS}

    def loss(node):
        result = simulate(node, steps, 100, inputs=inputs)
        return sum(jnp.mean(_mantissa(result[k])) for k in model.state_names())

    with jax.enable_x64(False):
        values = {p.name: preset.get(p.name, p.default) for p in model.PARAMETERS}
        values = {k: jnp.asarray(v(2) if callable(v) else v, jnp.float32) for k, v in values.items()}
        if model.SELF_DELAYS:  # bounds of the delays give the length of the history
            node = model(2, **{k: _param(v) for k, v in values.items()}, **noise_amplitudes(model))
            found = brainstate.transform.grad(lambda: loss(node), node.states(brainstate.ParamState))()
            gradient = {key[0]: value for key, value in found.items()}
        else:
            slope = jax.jit(jax.grad(lambda v: loss(model(2, **v, **noise_amplitudes(model)))))
            gradient = slope.lower(values).compile(UNOPTIMISED)(values)
    assert set(gradient) == set(values)
    for key, value in gradient.items():
        assert value.dtype == np.float32 and np.isfinite(value).all(), key
    silent = {key for key, value in gradient.items() if not np.any(value)}
    assert silent == ZERO.get(model.__name__, set())


def _mantissa(value):
    return getattr(value, "mantissa", value)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_can_be_made_inside_every_transformation(name):
    """Under ``vmap`` of ``grad`` of ``jit``, and under ``jit`` of brainstate, with the value of outside."""
    model = MODELS[name]
    first = next(p for p in model.PARAMETERS if p.name not in model.SELF_DELAYS)
    value = first.default(2) if callable(first.default) else first.default
    state = model(2).initial_values(key=jax.random.key(2))

    def slope(x):
        node = model(2, **{first.name: x})
        if model.MAP:
            moved = model.discrete_step(node.parameter_values(), state, {})
        else:
            moved = node.derivative(state)
        return sum(jnp.sum(x * x) for x in moved.values())

    expected = slope(value)
    values = jnp.stack([jnp.asarray(value), 1.1 * jnp.asarray(value)])
    batch = jax.vmap(slope)(values)
    # Sums of the same terms in another order.
    np.testing.assert_allclose(batch, [expected, slope(1.1 * value)], rtol=1e-12)
    np.testing.assert_allclose(brainstate.transform.jit(slope)(value), expected, rtol=1e-12)
    inside = jax.eval_shape(jax.vmap(jax.grad(jax.jit(slope))), values)  # traced, not compiled
    assert inside.shape == values.shape
