"""
Gradients of the fit objective and of what it is made of, against central finite differences in float64.

Steps are 1e-5 of quantities of order 1: the differences are off by about 1e-10 of the third derivative and by
1e-11 of rounding, so 1e-6 of the largest entry is loose for a right gradient and tight for a wrong one.
"""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from brainloom.fit.predict import objective
from brainloom.fit.problem import make_problem, setup_from_config
from brainloom.linear.lyapunov import lyapunov
from brainloom.linear.symmetric import BandKernel, LyapunovKernel, spectral_covariance
from brainloom.models import HopfStep
from brainloom.models.lowering import lower
from brainloom.network import Network

N = 5
STEP, RTOL = 1e-5, 1e-6


def differences(f, x):
    """Gradient of a scalar function of a flat array."""
    return np.array([(f(x + STEP * e) - f(x - STEP * e)) / (2 * STEP) for e in np.eye(len(x))])


def agree(found, expected, rtol=RTOL):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.abs(expected).max())


def fit_case(name, through_band, lag1, symmetric, *, uniform=False):
    """A small fit with a target that no parameters reach, so that no gradient is small by chance."""
    config = {
        "model": {"name": name, "parameters": {"a": -0.05} if name == "HopfStep" else {"gamma": -0.1}},
        "fit": {
            "global": ["coupling", "homotopic"],
            "regional": ["local", "noise", "gain_in", "gain_out"],
            "objective": {"fc": 1.0, "lag1": lag1},
            "through_band": through_band,
            "lambda": 0.01,
            "margin": 0.01,
        },
        "signal": {"band": [0.01, 0.1], "filter_order": 2},
    }
    rng = np.random.default_rng(0)
    weights = np.ones((N, N)) if uniform else rng.uniform(0.2, 1.0, (N, N))
    weights = weights * (1 - np.eye(N)) / (N - 1)
    if symmetric:
        weights = 0.5 * (weights + weights.T)
    fc = np.corrcoef(rng.normal(size=(N, 12)) + rng.normal(size=12))
    setup = setup_from_config(config, N, symmetric=symmetric)
    problem = make_problem(
        setup,
        config,
        weights=weights,
        homotope=np.array([1, 0, 3, 2, -1]) if not uniform else np.full(N, -1),
        fc=fc,
        lag1=0.8 * fc + 0.05 * rng.normal(size=(N, N)),
        frequency_hz=np.full(N, 0.05) if uniform else np.linspace(0.04, 0.07, N),
        repetition_time=2.0,
    )
    return setup, problem


@partial(jax.jit, static_argnums=0)
def derivatives(setup, problem, theta, direction):
    """Objective, reverse-mode gradient, and forward-mode derivative along a direction."""
    f = partial(objective, setup, problem)
    value, slope = jax.value_and_grad(f)(theta)
    return value, slope, jax.jvp(f, (theta,), (direction,))[1]


CASES = list(product(["HopfStep", "LinearStep"], [False, True], [0.0, 0.5], [False, True]))


@pytest.mark.parametrize("name, through_band, lag1, symmetric", CASES)
def test_gradient_of_the_objective(name, through_band, lag1, symmetric):
    rng = np.random.default_rng(1)
    setup, problem = fit_case(name, through_band, lag1, symmetric)
    _, alike = fit_case(name, through_band, lag1, symmetric, uniform=True)
    size = setup.space.size
    direction = rng.normal(size=size)
    random = 0.3 * rng.normal(size=size)
    # the start of every fit of a uniform connectome has N - 1 equal eigenvalues
    for given, theta in ((problem, random), (alike, np.zeros(size)), (alike, 1e-7 * random)):
        value, slope, along = derivatives(setup, given, theta, direction)
        expected = differences(
            lambda x, given=given: float(derivatives(setup, given, x, direction)[0]), theta
        )
        assert np.isfinite(value)
        agree(slope, expected)
        np.testing.assert_allclose(along, slope @ direction, rtol=1e-9, atol=1e-12 * np.abs(slope).max())
        if given is problem:  # every coordinate acts: no gradient is cut off
            assert np.abs(slope).min() > 1e-4 * np.abs(slope).max()


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_stays_finite_where_a_network_nearly_loses_stability(symmetric):
    setup, problem = fit_case("LinearStep", False, 0.0, symmetric)
    theta = np.concatenate([[2.0, 0.0], np.full(N, -12.0), np.zeros(3 * N)])  # all rates at the floor
    _, slope, _ = derivatives(setup, problem, theta, theta)
    expected = differences(lambda x: float(derivatives(setup, problem, x, theta)[0]), theta)
    agree(slope, expected, 1e-5)  # the slowest mode is a hundred times slower than the fastest
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("is_complex", [False, True])
def test_gradient_of_the_lyapunov_solution(is_complex):
    rng = np.random.default_rng(3)
    turn = 1j * np.diag(rng.normal(size=N)) if is_complex else 0.0
    back = rng.normal(size=(N, N)) + (1j * rng.normal(size=(N, N)) if is_complex else 0.0)

    @jax.jit
    def scalar(flat):
        a, root = flat.reshape(2, N, N)
        a = a - 3.0 * jnp.eye(N) + turn
        return jnp.real(jnp.sum(back * lyapunov(a, (root @ root.T).astype(a.dtype))))

    flat = rng.normal(size=2 * N * N)
    slope, forward = jax.jit(lambda x: (jax.grad(scalar)(x), jax.jacfwd(scalar)(x)))(flat)
    agree(slope, differences(lambda x: float(scalar(x)), flat))
    np.testing.assert_allclose(forward, slope, rtol=0, atol=1e-12 * np.abs(slope).max())
    assert np.abs(slope).min() > 0


@pytest.mark.parametrize("kernel", [LyapunovKernel(), BandKernel(np.linspace(0.01, 0.1, 9), np.ones(9), 1.5)])
@pytest.mark.parametrize("alike", [False, True])
def test_gradient_of_the_covariance_of_a_symmetric_network(kernel, alike):
    rng = np.random.default_rng(4)
    base = np.ones((N, N)) if alike else rng.uniform(0, 1, (N, N))
    flat = np.concatenate([(0.1 * base).ravel(), np.eye(N).ravel() + 0.1 * rng.normal(size=N * N)])
    back = rng.normal(size=(N, N))

    @jax.jit
    def scalar(flat):
        w, q = flat.reshape(2, N, N)
        m = 0.5 * (w + w.T) - 0.8 * jnp.eye(N)
        return jnp.sum(back * spectral_covariance(m, q @ q.T, kernel))

    slope, forward = jax.jit(lambda x: (jax.grad(scalar)(x), jax.jacfwd(scalar)(x)))(flat)
    agree(slope, differences(lambda x: float(scalar(x)), flat))
    np.testing.assert_allclose(forward, slope, rtol=0, atol=1e-12 * np.abs(slope).max())


@pytest.mark.parametrize("method", ["stochastic_heun", "exp_euler"])
def test_gradient_through_a_noisy_rollout(method):
    """In every parameter, weight, noise amplitude and initial value, through all steps."""
    rng = np.random.default_rng(5)
    fields = {
        "a": -rng.uniform(0.1, 0.5, 3),
        "w": rng.uniform(0.3, 1, 3),
        "noise_y": rng.uniform(0.1, 0.3, 3),
    }
    node = HopfStep(3, beta=1.3, noise_x=0.2, **fields)
    low = lower(Network(node, rng.uniform(0.1, 0.5, (3, 3)), coupled_var=("x", "y"), k=0.6), 0.2, method)
    noise = jnp.asarray(rng.normal(size=(40, *low.noise_shape)))
    start = {"x": jnp.asarray(rng.normal(size=3)), "y": jnp.asarray(rng.normal(size=3))}
    flat, restore = ravel_pytree((low.params, start))

    @jax.jit
    def loss(flat):
        params, state = restore(flat)
        _, seen = low.advance(params, state, {"x_input": 0.1}, noise, 0.0)
        return jnp.mean(seen["x"][5:] ** 2) + jnp.mean(seen["x"][:-1] * seen["y"][1:])

    slope, forward = jax.jit(lambda x: (jax.grad(loss)(x), jax.jacfwd(loss)(x)))(flat)
    agree(slope, differences(lambda x: float(loss(x)), np.asarray(flat)))
    np.testing.assert_allclose(forward, slope, rtol=0, atol=1e-11 * np.abs(slope).max())
    params, state = restore(slope)
    apart = params.pop("weights")[~np.eye(3, dtype=bool)]  # a region does not act on itself
    for part in (*params.values(), *state.values(), apart):
        assert np.abs(part).min() > 1e-5
