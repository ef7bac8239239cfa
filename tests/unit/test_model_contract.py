"""What holds of every registered model: documented, dimensioned, differentiable in all it declares, and refusing the rest."""

import inspect

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import MODELS, NeuralMass

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainloom
from brainloom import integrate
from brainloom.core.units import UnitError, parse

EVERY = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
N = 3


def random_node(model, seed=0):
    """A node with parameters at random within their bounds; arrays of other shapes keep their defaults."""
    rng = np.random.default_rng(seed)
    return model(N, **{p.name: rng.uniform(*p.bounds, N) for p in numbers(model)})


def random_state(model, seed=0):
    rng = np.random.default_rng(seed + 1)
    return {s.name: jnp.asarray(rng.uniform(*s.span, N)) for s in model.STATES}


def numbers(model):
    """Parameters that are one number a region, not a matrix of the model's own shape."""
    return [p for p in model.PARAMETERS if not callable(p.default)]


def slopes(node, values, state, inputs):
    """Derivative of a differential equation, or the new state of a map."""
    return node.discrete_step(values, state, inputs) if node.MAP else node.rhs(values, state, inputs, 0.0)


def test_every_model_is_at_the_top_of_the_package():
    assert all(getattr(brainloom, name) is model for name, model in MODELS.items())
    assert all(issubclass(model, NeuralMass) and model.__name__ == name for name, model in MODELS.items())


@EVERY
def test_declarations_can_be_used(model):
    """Names, units, ranges and recommendations; defaults lie in their bounds."""
    assert model.DT > 0 and model.METHOD in integrate.DETERMINISTIC and model.TIME_UNIT in ("ms", "s")
    names = [d.name for d in (*model.STATES, *model.PARAMETERS)]
    assert len(set(names)) == len(names) and model.STATES
    node = model(N)
    for s in model.STATES:
        assert s.span[0] < s.span[1], s.name
        assert parse(s.shown or s.unit, node.time_unit).dim == parse(s.unit, node.time_unit).dim, s.name
    for p in model.PARAMETERS:
        low, high = p.bounds
        assert low < high and parse(p.unit, node.time_unit) is not None and p.long_name, p.name
    for p in numbers(model):
        assert p.bounds[0] <= p.default <= p.bounds[1], p.name
    ports = model.port_names()
    assert len(set(ports)) == len(ports)
    assert all(p.enters in model.state_names() and parse(p.unit, node.time_unit) for p in model.PORTS)
    assert set(model.NOISE) <= set(model.state_names())
    for parameter, (source, _) in model.SELF_DELAYS.items():
        assert parameter in names and source in model.observables()
    values = node.initial_values()
    assert all(value.shape == (N,) and np.isfinite(value).all() for value in values.values())


@EVERY
def test_documentation_names_everything(model):
    """Every parameter and port, and a source that can be looked up."""
    text = inspect.getdoc(model)
    assert "Parameters\n----------" in text and "References\n----------" in text
    for name in [p.name for p in model.PARAMETERS] + list(model.port_names()):
        assert name in text, name


@EVERY
def test_observables_have_the_shape_of_the_regions(model):
    node, state = random_node(model), random_state(model)
    found = model.observables()
    assert {"source", "bold", "eeg", *model.state_names()} <= set(found)
    assert not found["source"].driven  # it can be sent
    for name, one in found.items():
        given, shown = parse(one.unit, node.time_unit), parse(one.shown or one.unit, node.time_unit)
        assert given.dim == shown.dim, name
        value = one.function(node.parameter_values(), state, *(({},) if one.driven else ()))
        assert jnp.shape(value) == (N,) and np.isfinite(value).all(), name
    for name in model.state_names():
        np.testing.assert_array_equal(found[name].function({}, state), state[name])


@EVERY
def test_missing_inputs_are_zero(model):
    node, state = random_node(model), random_state(model)
    values = node.parameter_values()
    past = {name: state[model.STATES[0].name] for _, name in model.SELF_DELAYS.values()}
    zeros = dict.fromkeys(model.port_names(), 0.0)
    found, expected = (slopes(node, values, state, inputs | past) for inputs in ({}, zeros))
    for name in model.state_names():
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@EVERY
def test_quantities_are_converted_and_wrong_units_are_errors_that_name_both(model):
    node = model(N)
    values = node.parameter_values()
    unit = {p.name: parse(p.unit, node.time_unit) for p in numbers(model)}
    same = model(N, **{name: values[name] * one for name, one in unit.items()}).parameter_values()
    for name in unit:
        np.testing.assert_allclose(same[name], values[name], rtol=1e-12, err_msg=name)
    for p in numbers(model):
        declared = p.unit.replace("time", node.time_unit)
        with pytest.raises(UnitError) as caught:
            model(N, **{p.name: 1.0 * u.kelvin})
        sentence = f"{p.name} of {model.__name__} is given in K, but it is needed in {declared};"
        assert str(caught.value).startswith(sentence)
    for s in model.STATES:
        with pytest.raises(UnitError, match=f"init_{s.name} of {model.__name__} is given in K"):
            model(N, **{f"init_{s.name}": 1.0 * u.kelvin}).initial_values()
        with pytest.raises(UnitError, match=f"noise_{s.name} of {model.__name__} is given in K"):
            model(N, **{f"noise_{s.name}": 1.0 * u.kelvin}).noise_values()
    for p in model.PORTS:
        with pytest.raises(UnitError, match=f"the input {p.name} of {model.__name__} is given in K"):
            node.port_values(**{p.name: 1.0 * u.kelvin})


@EVERY
def test_the_unit_of_time_is_free_only_where_nothing_fixes_it(model):
    other = "s" if model.TIME_UNIT == "ms" else "ms"
    units = [d.unit for d in (*model.PARAMETERS, *model.PORTS)]
    if any(part in ("ms", "s", "Hz") for one in units for part in one.replace("*", "/").split("/")):
        with pytest.raises(
            ValueError, match=f"{model.__name__} is written in {model.TIME_UNIT}, not '{other}'"
        ):
            model(N, time_unit=other)
        return
    free = model(N, time_unit=other)
    assert free.time_unit == other
    with pytest.raises(ValueError, match="it must be 'ms' or 's'"):
        model(N, time_unit="h")


@EVERY
def test_what_a_model_does_not_have_is_an_error_that_says_what_it_has(model):
    first = model.state_names()[0]
    with pytest.raises(
        TypeError, match=rf"{model.__name__} has no parameter nonsense; it has .*init_{first}"
    ):
        model(N, nonsense=1.0)
    with pytest.raises(ValueError, match="method is 'rk5'; it must be one of exp_euler"):
        model(N, method="rk5")
    with pytest.raises(ValueError, match="white noise enters states only"):
        model(N, **{f"noise_{model.port_names()[0]}": 0.1})
    for wrong in ({"nonsense": 1.0}, None):
        with pytest.raises(TypeError, match=f"{model.__name__} has the ports {model.port_names()[0]}"):
            model(N).port_values(*([] if wrong else [0.0] * (len(model.PORTS) + 1)), **(wrong or {}))


@EVERY
def test_every_parameter_and_amplitude_may_be_trainable(model):
    names = [p.name for p in numbers(model)]
    values = model(N).parameter_values()
    given = {name: brainstate.nn.Param(values[name]) for name in names}
    given |= {f"noise_{name}": brainstate.nn.Param(jnp.asarray(0.1)) for name in model.state_names()}
    node = model(N, **given)
    assert set(node.trainable()) == set(given)
    assert len(node.states(brainstate.ParamState)) == len(given)
    for name in names:
        np.testing.assert_allclose(node.parameter_values()[name], values[name], rtol=1e-12)
    fixed = model(N, **{name: brainstate.nn.Param(values[name], fit=False) for name in names})
    assert not fixed.trainable()


@EVERY
def test_starts_may_be_functions_of_the_shape(model):
    first = model.state_names()[0]
    node = model(N, **{f"init_{first}": lambda shape: np.full(shape, 0.4)})
    for batch, shape in ((None, (N,)), (2, (2, N))):
        found = node.initial_values(batch)
        assert all(value.shape == shape for value in found.values())
        np.testing.assert_array_equal(found[first], np.full(shape, 0.4))
