"""Orders of the integrators, and the cases that they solve exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from brainloom import integrate
from brainloom.integrate import deterministic_step, stochastic_step


def oscillator(state, t):
    """A forced nonlinear system with explicit time: stages at the wrong time lower the order."""
    v, w = state["v"], state["w"]
    return {"v": v - v**3 - w + 0.5 * jnp.cos(2.0 * t), "w": 0.3 * (v + 0.7 - 0.8 * w)}


def end_state(method, dt, t_end=4.0):
    def step(k, state):
        return deterministic_step(method, oscillator, state, k * dt, dt)

    run = jax.jit(lambda start: jax.lax.fori_loop(0, round(t_end / dt), step, start))
    found = run({"v": jnp.array([0.3, -1.1]), "w": jnp.array([0.1, 0.6])})
    return np.concatenate([found["v"], found["w"]])


@pytest.fixture(scope="module")
def exact():
    def rhs(t, z):
        found = oscillator({"v": z[:2], "w": z[2:]}, t)
        return np.concatenate([found["v"], found["w"]])

    solution = solve_ivp(rhs, (0, 4), [0.3, -1.1, 0.1, 0.6], method="DOP853", rtol=1e-13, atol=1e-14)
    return solution.y[:, -1]


@pytest.mark.parametrize("method, order", [("euler", 1), ("exp_euler", 1), ("heun", 2), ("rk4", 4)])
def test_order(method, order, exact):
    errors = [np.abs(end_state(method, dt) - exact).max() for dt in (0.02, 0.01)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)  # next order: below 5 % here


def test_exponential_euler_is_exact_for_linear_diagonal_systems():
    # rates through the series near 0 (|rate dt| below 1e-4), its ends, and far beyond Euler's stability
    rate = jnp.array([0.0, 1e-9, -1e-5, -1.9e-4, -2.1e-4, 2.1e-4, 0.4, -3.0, -80.0])
    dt, n = 0.5, 6
    state = {"x": jnp.full(len(rate), 0.7)}
    for k in range(n):
        state = deterministic_step("exp_euler", lambda s, t: {"x": rate * s["x"] + 1.3}, state, k * dt, dt)
    z = np.asarray(rate) * n * dt
    grown = np.where(z == 0, n * dt, np.expm1(z) / np.where(z == 0, 1, np.asarray(rate)))
    np.testing.assert_allclose(state["x"], 0.7 * np.exp(z) + 1.3 * grown, rtol=2e-13)


def test_exponential_euler_has_a_derivative_at_rate_zero():
    def end(rate):
        new = deterministic_step("exp_euler", lambda s, t: {"x": rate * s["x"] + 1.0}, {"x": 2.0}, 0.0, 0.1)
        return new["x"]

    # x = 2 e^(r dt) + (e^(r dt) - 1) / r: derivative 2 dt + dt^2 / 2 at r = 0
    np.testing.assert_allclose(jax.grad(end)(0.0), 2 * 0.1 + 0.1**2 / 2, rtol=1e-12)


@pytest.mark.parametrize("method", ["euler_maruyama", "stochastic_heun"])
def test_strong_order_one_for_additive_noise(method):
    """All steps see the same Brownian paths: their increments are sums of those of the finest grid."""
    finest, paths, t_end = 2.0**-11, 500, 1.0
    n = round(t_end / finest)
    increments = jax.random.normal(jax.random.key(0), (n, paths)) * np.sqrt(finest)

    def f(state, t):
        return {"x": jnp.sin(3.0 * state["x"]) - state["x"] ** 3 + t}

    def run(coarse):
        dt = coarse * finest
        kicks = 0.6 * increments.reshape(n // coarse, coarse, paths).sum(axis=1)

        def step(state, item):
            k, kick = item
            return stochastic_step(method, f, state, {"x": kick}, k * dt, dt), None

        start = {"x": jnp.full(paths, 0.2)}
        return jax.lax.scan(step, start, (jnp.arange(n // coarse), kicks))[0]["x"]

    reference = run(1)
    steps = np.array([128, 64, 32])
    errors = [float(jnp.mean(jnp.abs(run(int(k)) - reference))) for k in steps]
    slope = np.polyfit(np.log2(steps), np.log2(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.15)  # order 0.5 or 1.5 lies far outside; 500 paths: sd 0.03


def test_stochastic_heun_takes_amplitudes_at_both_ends_of_the_step():
    """``x + dt/2 (f(x) + f(xp)) + 1/2 (g(x) + g(xp)) dW`` with ``xp = x + dt f(x) + g(x) dW``, by hand."""
    dt, t, dw = 0.1, 0.4, np.array([0.3, -0.2])

    def f(v, w, t):
        return v - v**3 - w + 0.5 * np.cos(2.0 * t), 0.3 * (v + 0.7 - 0.8 * w)

    v, w = np.array([0.3, -1.1]), np.array([0.1, 0.6])
    g = lambda v: 0.5 * np.sin(v)  # noqa: E731
    first = f(v, w, t)
    vp, wp = v + dt * first[0] + g(v) * dw, w + dt * first[1]
    second = f(vp, wp, t + dt)
    expected = (
        v + 0.5 * dt * (first[0] + second[0]) + 0.5 * (g(v) + g(vp)) * dw,
        w + 0.5 * dt * (first[1] + second[1]),
    )
    noise = lambda s: {"v": 0.5 * jnp.sin(s["v"]) * dw}  # noqa: E731
    state = {"v": jnp.asarray(v), "w": jnp.asarray(w)}
    found = stochastic_step("stochastic_heun", oscillator, state, noise, t, dt)
    np.testing.assert_allclose([found["v"], found["w"]], expected, rtol=1e-14)
    ito = stochastic_step("euler_maruyama", oscillator, state, noise, t, dt)
    np.testing.assert_allclose(ito["v"], v + dt * first[0] + g(v) * dw, rtol=1e-14)


def test_stages_are_fractions_of_the_step():
    seen = []

    def f(state, stage):
        seen.append(stage)
        return {"x": -state["x"]}

    stages = {"euler": [0.0], "heun": [0.0, 1.0], "rk4": [0.0, 0.5, 0.5, 1.0], "stochastic_heun": [0.0, 1.0]}
    for method, expected in stages.items():
        seen.clear()
        integrate.stage_step(method, f, {"x": jnp.ones(2)}, 0.1)
        assert seen == expected


def test_diagonal_jacobian_is_the_diagonal_of_each_equation_in_its_own_state():
    state = {"v": jnp.array([0.3, -1.1, 0.5]), "w": jnp.array([0.1, 0.6, -0.2])}
    value, rate = integrate.diagonal_jacobian(lambda s: oscillator(s, 0.4), state)
    for name in ("v", "w"):
        np.testing.assert_allclose(value[name], oscillator(state, 0.4)[name], rtol=1e-14)
        full = jax.jacobian(lambda x, name=name: oscillator(state | {name: x}, 0.4)[name])(state[name])
        np.testing.assert_allclose(rate[name], np.diag(full), rtol=1e-14)


def test_a_diagonal_that_is_given_is_used():
    """Exponential Euler on the rate of the regions alone, the rest held over the step."""
    state, pull = {"x": jnp.array([1.0, 2.0])}, jnp.array([0.4, -0.3])
    rate = jnp.array([-0.5, -3.0])

    def f(s, stage):
        return {"x": rate * s["x"] + pull * s["x"][::-1]}

    found = integrate.stage_step("exp_euler", f, state, 0.2, diagonal=lambda s: (f(s, 0.0), {"x": rate}))
    slope = np.asarray(f(state, 0.0)["x"])
    np.testing.assert_allclose(found["x"], state["x"] + np.expm1(0.2 * rate) / rate * slope, rtol=1e-14)


@pytest.mark.parametrize("method, order", [("euler_maruyama", 1), ("stochastic_heun", 2)])
def test_weak_order_of_the_stationary_variance(method, order):
    """A linear step is x' = A x + B dW; A and B are read off, the variance of that recursion is exact."""

    def bias(dt):
        def step(x, kick):
            new = stochastic_step(method, lambda s, t: {"x": -1.5 * s["x"]}, {"x": x}, {"x": kick}, 0.0, dt)
            return new["x"]

        a, b = step(1.0, 0.0), step(0.0, 1.0)
        return abs(b**2 * dt / (1 - a**2) - 1 / 3)

    assert np.log2(bias(0.02) / bias(0.01)) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("method", integrate.DETERMINISTIC)
def test_noise_follows_the_step_of_a_deterministic_method(method):
    state = {"v": jnp.array([0.3]), "w": jnp.array([0.1])}
    quiet = deterministic_step(method, oscillator, state, 0.4, 0.1)
    kicked = stochastic_step(method, oscillator, state, {"w": jnp.array([0.25])}, 0.4, 0.1)
    np.testing.assert_array_equal(kicked["v"], quiet["v"])
    np.testing.assert_array_equal(kicked["w"], quiet["w"] + 0.25)


def test_without_noise_a_stochastic_step_is_the_deterministic_one():
    state = {"v": jnp.array([0.3]), "w": jnp.array([0.1])}
    for stochastic, deterministic in (("stochastic_heun", "heun"), ("euler_maruyama", "euler")):
        found = stochastic_step(stochastic, oscillator, state, {}, 0.4, 0.1)
        expected = deterministic_step(deterministic, oscillator, state, 0.4, 0.1)  # also at the right times
        np.testing.assert_allclose([found["v"], found["w"]], [expected["v"], expected["w"]], rtol=1e-15)


def test_unknown_methods_are_errors_that_name_the_known_ones():
    with pytest.raises(ValueError, match=r"method is 'rk5'.*exp_euler, euler, heun, rk4, euler_maruyama"):
        integrate.check_method("rk5")
    for name in ("rk5", "stochastic_heun"):  # the second exists, but not without noise
        with pytest.raises(ValueError, match=f"'{name}' is not deterministic.*rk4"):
            deterministic_step(name, oscillator, {"v": 0.0, "w": 0.0}, 0.0, 0.1)
    with pytest.raises(ValueError, match="rk5"):
        stochastic_step("rk5", oscillator, {"v": 0.0, "w": 0.0}, {}, 0.0, 0.1)
