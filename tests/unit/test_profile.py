"""Profiles of fits against closed forms, and against refits of the others by scipy."""

from __future__ import annotations

import brainloom.models  # noqa: F401  # before brainstate

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy.stats import norm

from brainloom import Fitter, objectives
from brainloom.fit import parameters as P
from brainloom.fit import profile

Z90 = norm.ppf(0.95)
NOISE = 0.3
RNG = np.random.default_rng(0)
DESIGN = RNG.normal(size=(50, 3))
DATA = (DESIGN @ [1.0, 2.0, -1.0] + NOISE * RNG.normal(size=50))[:, None]
TIME = np.linspace(0.0, 3.0, 12)


class Model(brainstate.nn.Module):
    """Anything with parameters."""

    def __init__(self, **parameters):
        super().__init__()
        for name, value in parameters.items():
            setattr(self, name, value)


def test_of_linear_regression_it_is_walds_interval():
    model = Model(b=brainstate.nn.Param(jnp.zeros(3)))
    fitter = Fitter(
        model,
        predict=lambda one: (DESIGN @ one.b.value())[:, None],
        objective=objectives.gaussian(NOISE),
        backend="scipy",
    )
    fitter.fit(DATA, n_steps=200)
    found = fitter.profile(DATA, "b", index=1)
    assert found.name == "b[1]" and found.converged.all() and found.loss.shape == (11,)
    wald = fitter.identify(DATA).estimates["b"]
    np.testing.assert_allclose([found.lower, found.upper], [wald.lower[1], wald.upper[1]], rtol=1e-5)
    offset = found.values - found.best_value
    np.testing.assert_allclose(
        found.loss - found.best_loss, 0.5 * (offset / wald.sd[1]) ** 2, rtol=1e-5, atol=1e-6
    )
    # the others are where regression without that column puts them
    rest = DESIGN[:, [0, 2]]
    held = np.linalg.lstsq(rest, DATA[:, 0] - DESIGN[:, 1] * found.values[0], rcond=None)[0]
    np.testing.assert_allclose(found.theta[0, [0, 2]], held, rtol=1e-5)
    assert profile(fitter, DATA, "b", index=-2).name == "b[1]"


def test_of_a_nonlinear_model_it_is_what_scipy_finds():
    model = Model(
        a=P.positive(2.0, u.mV), tau=P.positive(1.0, u.second), c=brainstate.nn.Param(jnp.asarray(0.1))
    )

    def predict(one):
        decay = jnp.exp(-(TIME * u.second / one.tau.value()))
        return (one.a.value().to_decimal(u.mV) * decay + one.c.value())[:, None]

    data = (2.0 * np.exp(-TIME) + 0.1 + 0.2 * np.random.default_rng(3).normal(size=12))[:, None]
    fitter = Fitter(model, predict=predict, objective=objectives.gaussian(0.2), backend="scipy")
    fitter.fit(data, n_steps=200)
    grid = np.linspace(0.25, 1.2, 20) * u.second
    found = fitter.profile(data, "tau", grid=grid)
    best = []
    for tau in grid.mantissa:
        basis = np.stack([np.exp(-TIME / tau), np.ones(12)], axis=1)
        best.append(optimize.lsq_linear(basis, data[:, 0]).cost / 0.2**2)
    constant = 12 * (np.log(0.2) + 0.5 * np.log(2.0 * np.pi))
    assert found.converged.all()
    np.testing.assert_allclose(found.loss - constant, best, rtol=1e-4, atol=1e-4)

    # the interval is where twice the rise is the quantile; the profile is not symmetric
    def rise(tau):
        basis = np.stack([np.exp(-TIME / tau), np.ones(12)], axis=1)
        return (
            optimize.lsq_linear(basis, data[:, 0]).cost / 0.2**2 + constant - found.best_loss - 0.5 * Z90**2
        )

    middle = float(found.best_value.to_decimal(u.second))
    ends = [optimize.brentq(rise, 0.1, middle), optimize.brentq(rise, middle, 10.0)]
    np.testing.assert_allclose(
        [found.lower.to_decimal(u.second), found.upper.to_decimal(u.second)], ends, rtol=2e-3
    )
    assert ends[1] - middle > 1.3 * (middle - ends[0])
    ds = found.to_xarray()
    assert ds["value"].attrs["units"] == "s" and ds["loss"].dims == ("value",)


def test_what_the_data_leave_open_has_no_end():
    a, b = P.positive(2.0), P.positive(3.0)
    model = Model(a=a, b=b)
    x = np.linspace(0.0, 1.0, 20)[:, None]
    fitter = Fitter(
        model, predict=lambda one: one.a.value() * one.b.value() * x, objective=objectives.gaussian(NOISE)
    )
    found = fitter.profile(6.0 * x, "a")
    np.testing.assert_allclose(found.loss, found.best_loss, atol=1e-5)
    assert found.lower == 0.0 and np.isinf(found.upper)
    np.testing.assert_allclose(found.theta.sum(axis=1), np.log(6.0), atol=1e-3)  # b follows


def test_a_loss_that_is_no_likelihood_has_a_profile_without_an_interval():
    model = Model(b=brainstate.nn.Param(jnp.array([0.5, 2.0, -1.0])))
    fitter = Fitter(model, predict=lambda one: (DESIGN @ one.b.value())[:, None])
    found = fitter.profile(DATA, "b", index=0, n_points=5)
    assert np.isnan(found.lower) and np.isnan(found.upper) and found.values.shape == (5,)
    assert "fit on from there" in found.notes[0]  # the model is not at an optimum


def test_refusals():
    model = Model(
        b=brainstate.nn.Param(jnp.zeros(3)), x=P.positive(1.0), order=P.ordered([0.0, 1.0]), y=P.positive(1.0)
    )
    model.z = P.tied(model.x, factor=2.0)
    fitter = Fitter(
        model, loss_fn=lambda one: jnp.sum(one.b.value() ** 2) + one.z.value() + jnp.sum(one.order.value())
    )
    cases = [
        ({"name": "z"}, "z is computed from others; profile z.source"),
        ({"name": "q"}, "there is no fitted parameter 'q'; there are b, "),
        ({"name": "b"}, r"b has shape \(3,\); say which number with index="),
        ({"name": "b", "index": 3}, r"index is 3, but b has shape \(3,\)"),
        ({"name": "order", "index": 0}, "depend on each other"),
        ({"name": "x", "grid": [2.0, 1.0, 3.0]}, "two or more values that increase"),
        ({"name": "x", "grid": [-1.0, 1.0]}, "not strictly inside the range"),
        ({"name": "x", "n_points": 2}, "n_points is 2"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            fitter.profile(None, **options)
