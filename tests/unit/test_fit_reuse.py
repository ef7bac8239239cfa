"""A Fitter compiles nothing twice for targets of the same shape, and never uses a program of another loss."""

from __future__ import annotations

import brainloom.models  # noqa: F401  # before brainstate

# isort: split
import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brainloom import Fitter
from brainloom.fit.fingerprint import fingerprint

COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **about: COMPILED.append(event) if "backend_compile" in event else None
)


class Line(brainstate.nn.Module):
    """``slope * x``, where x is a plain attribute."""

    def __init__(self):
        super().__init__()
        self.slope = brainstate.nn.Param(jnp.zeros(3))
        self.x = np.arange(1.0, 4.0)

    def predict(self):
        return self.slope.value() * self.x


def compilations(action) -> int:
    before = len(COMPILED)
    action()
    return len(COMPILED) - before


@pytest.mark.parametrize(
    ("backend", "optimizer", "options"),
    [
        ("grad", optax.adam(0.3), {}),
        ("grad", [(optax.sgd(0.1), 5), ("lbfgs", 5)], {"n_starts": 2}),
        ("scipy", None, {}),
        ("cmaes", None, {}),
    ],
)
def test_fits_to_targets_of_one_shape_compile_once(backend, optimizer, options):
    model = Line()
    fitter = Fitter(model, optimizer, backend=backend, predict=Line.predict)
    if not isinstance(optimizer, list):
        options = options | {"n_steps": 30}

    def fit(factor):
        model.slope.set_value(jnp.zeros(3))
        return fitter.fit(factor * model.x, key=jax.random.key(0), **options)

    assert compilations(lambda: fit(1.0)) > 0
    again = []
    assert compilations(lambda: again.append(fit(2.0))) == 0
    # the same fit by a Fitter of its own, digit for digit
    model.slope.set_value(jnp.zeros(3))
    fresh = Fitter(model, optimizer, backend=backend, predict=Line.predict)
    expected = fresh.fit(2.0 * model.x, key=jax.random.key(0), **options)
    assert np.array_equal(again[0].history, expected.history)
    assert np.array_equal(again[0].best_params["slope"], expected.best_params["slope"])


def test_what_the_loss_reads_outside_of_its_arguments_is_never_stale():
    model, settings = Line(), {"offset": 0.0}
    fitter = Fitter(model, backend="scipy", predict=lambda one: one.predict() + settings["offset"])
    target = np.array([2.0, 4.0, 6.0])
    np.testing.assert_allclose(fitter.fit(target).best_params["slope"], 2.0, atol=1e-4)
    settings["offset"] = 1.0
    np.testing.assert_allclose(fitter.fit(target).best_params["slope"], [1.0, 1.5, 5 / 3], atol=1e-4)
    settings["offset"], model.x = 0.0, 2.0 * model.x
    np.testing.assert_allclose(fitter.fit(target).best_params["slope"], 1.0, atol=1e-4)


def test_fingerprints_tell_programs_apart():
    x = jnp.arange(3.0)

    def of(function):
        return fingerprint(jax.make_jaxpr(function)(x))

    def scanned(weight):
        return lambda x: jax.lax.scan(lambda c, row: (c + weight * row, None), x, jnp.eye(3))[0]

    assert of(lambda x: 2.0 * x) == of(lambda y: 2.0 * y)
    assert of(scanned(2.0)) == of(scanned(2.0))
    other = [
        of(function)
        for function in (
            lambda x: 2.0 * x,
            lambda x: 2.0000000000000004 * x,
            lambda x: 2.0 + x,
            lambda x: x * np.array([1.0, 2.0, 3.0]),
            lambda x: x * np.array([1.0, 2.0, 4.0]),
            lambda x: (x * x) @ x,
            lambda x: (x @ x) * x,
            scanned(2.0),
            scanned(3.0),
        )
    ]
    assert None not in other and len(set(other)) == len(other)


def test_callbacks_to_python_have_no_fingerprint():
    shape = jax.ShapeDtypeStruct((3,), float)
    traced = jax.make_jaxpr(lambda x: jax.pure_callback(lambda v: np.sin(v), shape, x))(jnp.arange(3.0))
    assert fingerprint(traced) is None
