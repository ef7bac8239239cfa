"""L-BFGS, one evaluation a step: optima of scipy, what is rejected, when it ends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import brainloom.models  # noqa: F401  (before jax: precision)
from brainloom.fit.lbfgs import begin, run


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def minimise(loss, start, max_steps=500, n=10_000, patience=5, tolerance=1e-12):
    program = jax.jit(lambda x: run(loss, begin(x, max_steps), n, patience, tolerance))
    return program(jnp.asarray(start))


def test_the_optimum_and_the_effort_are_those_of_scipy():
    start = np.linspace(-1.5, 2.0, 10)
    value_and_grad = jax.jit(jax.value_and_grad(rosenbrock))
    theirs = scipy.optimize.minimize(
        lambda x: tuple(np.asarray(v) for v in value_and_grad(x)), start, jac=True, method="L-BFGS-B",
        options={"maxcor": 30, "ftol": 1e-14, "gtol": 1e-8},
    )  # fmt: skip
    found = minimise(rosenbrock, start)
    assert found.converged
    # both stop where twenty digits of the loss are gone: the minimum is flat to its square root
    np.testing.assert_allclose(found.theta, np.ones(10), atol=1e-5)
    np.testing.assert_allclose(found.theta, theirs.x, atol=1e-4)
    assert int(found.n_evaluations) < 2 * theirs.nfev


def test_a_quadratic_ends_at_its_closed_form():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12))
    hessian, target = root @ root.T + np.eye(12), rng.normal(size=12)
    found = minimise(lambda x: 0.5 * x @ hessian @ x - x @ target, np.zeros(12))
    np.testing.assert_allclose(found.theta, np.linalg.solve(hessian, target), rtol=1e-5, atol=1e-6)
    history = np.asarray(found.history)
    n = int(found.n_steps)
    assert np.all(np.diff(history[:n]) <= 0.0)  # the loss never rises
    assert np.isnan(history[n:]).all() and np.isfinite(history[:n]).all()
    assert history[n - 1] == float(found.value)


def test_points_without_a_finite_loss_are_not_taken():
    # undefined beyond 1, and the first steps lead there
    loss = lambda x: -jnp.log(1.0 - x[0]) - 3.0 * jnp.log(x[0] + 2.0) + x[1] ** 2  # noqa: E731
    found = minimise(loss, np.array([-1.9, 30.0]))
    assert found.converged
    # derivative of the first: 1 / (1 - x) = 3 / (x + 2)
    np.testing.assert_allclose(found.theta, [0.25, 0.0], atol=1e-5)


def test_a_start_without_a_finite_loss_fails_at_once():
    found = minimise(lambda x: jnp.sum(jnp.log(x)), np.array([-1.0, 2.0]))
    assert found.done and not found.converged
    assert not np.isfinite(found.value)
    assert int(found.n_evaluations) == 1
    np.testing.assert_array_equal(found.theta, [-1.0, 2.0])


def test_steps_and_evaluations_are_bounded():
    start = np.linspace(-1.5, 2.0, 10)
    few = minimise(rosenbrock, start, max_steps=7)
    assert few.done and not few.converged and int(few.n_steps) == 7
    halted = minimise(rosenbrock, start, n=5)
    assert not halted.done and int(halted.n_evaluations) == 5


def test_a_search_goes_on_where_it_was_halted():
    start = jnp.linspace(-1.5, 2.0, 10)
    piece = jax.jit(partial(run, rosenbrock, n_evaluations=6, patience=5, tolerance=1e-12))
    search = begin(start, 500)
    while not search.done:
        search = piece(search)
    whole = minimise(rosenbrock, start)
    for one, other in zip(search, whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("memory", [1, 3, 40])
def test_the_direction_is_that_of_the_dense_update(memory):
    """Against BFGS matrices (Nocedal & Wright 2006, equation 6.17), restarted from the last `memory` pairs."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    hessian = root @ root.T + np.eye(6)
    loss = lambda x: 0.5 * x @ hessian @ x  # noqa: E731
    search = run(loss, begin(jnp.asarray(rng.normal(size=6)), 100, memory), 5, 100, 0.0)
    pairs = [
        (np.asarray(search.steps[k % memory]), np.asarray(search.changes[k % memory]))
        for k in range(max(0, int(search.n_pairs) - memory), int(search.n_pairs))
    ]
    assert pairs
    s, y = pairs[-1]
    inverse = np.eye(6) * (s @ y) / (y @ y)
    for s, y in pairs:
        left = np.eye(6) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    np.testing.assert_allclose(search.direction, -inverse @ np.asarray(search.grad), rtol=1e-9, atol=1e-12)
