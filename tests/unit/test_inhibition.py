"""Feedback inhibition control: closed form, derivatives, whole networks, and the iterative search under noise."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.inhibition import (
    feedback_inhibition,
    isolated_fixed_point,
    rate_at_offset,
    tune_inhibition,
)
from brainloom.models.wong_wang_ei import WongWangExcInhStep

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from brainloom import integrate
from brainloom.core.units import UnitError

RATE = 3.07732706411855  # of the isolated fixed point, Hz


def connectome(n=6, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0.0, 1.0, (n, n))
    np.fill_diagonal(weights, 0.0)
    return jnp.asarray(weights / weights.sum(1).mean())


def network_rates(params, weights, gain, duration=6.0, dt=1e-3):
    """Excitatory rates of a network after `duration` s from the documented start, without noise."""

    def ports(state):
        return {"excitatory_gating": gain * weights @ state["S_e"]}

    def field(state, t):
        return WongWangExcInhStep.rhs(params, state, ports(state), t)

    def step(_, state):
        return integrate.deterministic_step("heun", field, state, 0.0, dt)

    start = WongWangExcInhStep(weights.shape[0]).initial_values()
    state = jax.lax.fori_loop(0, round(duration / dt), step, start)
    return WongWangExcInhStep.observables()["r_e"].function(params, state, ports(state))


settled = jax.jit(network_rates)


def numbers(**changed):
    return {p.name: p.default for p in WongWangExcInhStep.PARAMETERS} | changed


def test_isolated_fixed_point():
    found = isolated_fixed_point(WongWangExcInhStep(1))
    expected = {
        "S_e": 0.164757207546055,
        "S_i": 0.0392184486317628,
        "x_e": 0.377380564952909,
        "x_i": 0.252895132500145,
        "r_e": RATE,
        "r_i": 3.92184486317628,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12)
    with jax.enable_x64(False):
        single = isolated_fixed_point(numbers())["r_e"]
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, RATE, rtol=2e-5)  # the rate is a hundred times as steep as the gating


def test_fixed_points_of_heterogeneous_regions_are_the_lowest_ones():
    rng = np.random.default_rng(1)
    # Strong recurrence and weak inhibition: some regions have three fixed points, some only the high one.
    own = {
        "w_p": rng.uniform(1.0, 3.0, 40),
        "J_i": rng.uniform(0.2, 2.0, 40),
        "I_o": rng.uniform(0.3, 0.45, 40),
    }
    found = isolated_fixed_point(WongWangExcInhStep(40, **own))
    node = WongWangExcInhStep(40, **own)
    slopes = node.derivative({k: found[k] for k in ("S_e", "S_i")})
    assert all(np.abs(v).max() < 1e-10 for v in slopes.values())  # terms of order 10 per s cancel
    assert found["S_e"].min() < 0.05 and found["S_e"].max() > 0.6
    # Nothing below: with S_i at its own rest, S_e rises at every smaller S_e.
    s_e = np.linspace(0.0, 0.999, 60)[:, None] * np.asarray(found["S_e"])
    below = {"S_e": s_e, "S_i": inhibitory_rest(own, s_e)}
    assert np.all(node.derivative(below)["S_e"] > 0.0)


def inhibitory_rest(own, s_e, steps=200):
    """S_i at rest by bisection, all regions at once."""
    low, high = np.zeros_like(s_e), np.full_like(s_e, 5.0)
    p = numbers(**own)
    for _ in range(steps):
        middle = 0.5 * (low + high)
        y = p["a_i"] * (p["W_i"] * p["I_o"] + p["J_N"] * s_e - p["J_ii"] * middle) - p["b_i"]
        above = middle > p["tau_i"] * y / -np.expm1(-p["d_i"] * y)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low


def test_closed_form_of_the_weights():
    pair = jnp.array([[5.0, 1.0], [1.0, 5.0]])  # the diagonal is ignored
    for strength, expected in ((0.1, 1.06301519308923), (1.0, 1.63015193089236)):
        np.testing.assert_allclose(feedback_inhibition(numbers(), pair, strength), expected, rtol=1e-12)
    with_own = feedback_inhibition(numbers(), pair, 0.1, self_connection=True)
    np.testing.assert_allclose(with_own, 1.0 + 6 * 0.0630151930892, rtol=1e-10)
    np.testing.assert_allclose(feedback_inhibition(WongWangExcInhStep(2), pair, 0.0), 1.0, rtol=1e-12)


LOCAL = {
    "uniform": {},
    "feedforward": {"lamda": 0.6},
    "heterogeneous": {"w_p": np.linspace(1.0, 1.8, 6), "J_N": np.linspace(0.14, 0.16, 6), "lamda": 0.2},
}


@pytest.mark.parametrize("own", LOCAL.values(), ids=LOCAL)
def test_a_network_rests_at_the_target(own):
    weights, gain = connectome(), 0.8
    params = WongWangExcInhStep(6, **own).parameter_values()
    for target, expected in ((None, isolated_fixed_point(params)["r_e"]), (3.0, 3.0)):
        held = params | {"J_i": feedback_inhibition(params, weights, gain, target)}
        # The slowest mode of the stable networks decays within 6 s.
        np.testing.assert_allclose(settled(held, weights, gain), expected, rtol=1e-5)
    without = settled(params, weights, gain)
    assert np.abs(without - 3.0).max() > 1.0


def test_target_of_each_region_and_in_units():
    weights, params = connectome(), WongWangExcInhStep(6).parameter_values()
    target = np.linspace(2.0, 5.0, 6)
    j_i = feedback_inhibition(params, weights, 0.5, target)
    np.testing.assert_allclose(settled(params | {"J_i": j_i}, weights, 0.5), target, rtol=1e-5)
    in_units = feedback_inhibition(params, weights, 0.5, 1e-3 * target * u.kHz)
    np.testing.assert_allclose(in_units, j_i, rtol=1e-12)
    with pytest.raises(UnitError, match="the target of feedback inhibition is given in nA"):
        feedback_inhibition(params, weights, 0.5, 3.0 * u.nA)


def miss(x, target):
    y = 310 * x - 125
    return y / -np.expm1(-0.16 * y) - target


def test_published_offset_and_extreme_targets():
    y = 310.0 * -0.026
    np.testing.assert_allclose(rate_at_offset(numbers()), y / -np.expm1(-0.16 * y), rtol=1e-12)
    np.testing.assert_allclose(rate_at_offset(WongWangExcInhStep(1)), 3.06, atol=0.01)
    pair = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    for target in (1e-4, 0.1, 30.0, 150.0):
        j_i = float(feedback_inhibition(numbers(), pair, 0.0, target)[0])
        assert np.isfinite(j_i)
        # Where the region rests: the current of the target, found by bisection.
        gated = 0.1 * 0.641 * target
        s_e = gated / (1 + gated)
        x_e = brentq(miss, -1.0, 2.0, args=(target,), xtol=1e-15)
        s_i = float(inhibitory_rest({}, np.array([s_e]))[0])
        np.testing.assert_allclose(j_i, (0.382 + 1.4 * 0.15 * s_e - x_e) / s_i, rtol=1e-9)


@pytest.mark.parametrize("lamda", [0.0, 0.5])
@pytest.mark.parametrize("target", [None, 3.0])
def test_derivatives(lamda, target):
    n = 6
    rng = np.random.default_rng(2)
    at = {
        "gain": np.array(0.7),
        "weights": np.asarray(connectome(n, 3)),
        "w_p": rng.uniform(1.2, 1.5, n),
        "J_N": rng.uniform(0.14, 0.16, n),
        "I_o": np.full(n, 0.382),
        "b_e": np.full(n, 125.0),
        "lamda": np.full(n, lamda),
    }
    mix = rng.normal(size=n)

    def total(x):
        params = numbers(**{k: v for k, v in x.items() if k not in ("gain", "weights")})
        return jnp.sum(mix * feedback_inhibition(params, x["weights"], x["gain"], target))

    value_and_slope = jax.jit(jax.value_and_grad(total))
    along = {k: rng.normal(size=v.shape) * np.maximum(np.abs(v), 0.1) for k, v in at.items()}
    slope = value_and_slope(at)[1]
    for name in at:

        def moved(step, name=name):
            return at | {name: at[name] + step * along[name]}

        step = 1e-5
        high, below = value_and_slope(moved(step))[0], value_and_slope(moved(-step))[0]
        # Truncation 1e-10 and rounding 1e-14 / step, of numbers of order 1 to 10.
        np.testing.assert_allclose(
            np.sum(slope[name] * along[name]), (high - below) / (2 * step), rtol=1e-6, atol=1e-8
        )


def test_second_derivatives():
    pair = jnp.array([[0.0, 1.0], [0.5, 0.0]])

    def total(x):
        return jnp.sum(feedback_inhibition(numbers(w_p=x[0], lamda=x[1], J_N=x[2]), pair, x[3], 3.0))

    at, step = jnp.array([1.4, 0.3, 0.15, 0.8]), 1e-5
    gradient = jax.jit(jax.grad(total))
    expected = [(gradient(at.at[k].add(step)) - gradient(at.at[k].add(-step))) / (2 * step) for k in range(4)]
    found = jax.jit(jax.jacfwd(jax.grad(total)))(at)
    # Truncation 1e-8 where third derivatives are a hundred times the second ones.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(found).max())


def test_all_regions_and_gains_at_once():
    weights = connectome()
    params = WongWangExcInhStep(6, w_p=np.linspace(1.3, 1.5, 6)).parameter_values()
    gains = jnp.array([0.0, 0.3, 1.0])
    many = jax.jit(jax.vmap(lambda g: feedback_inhibition(params, weights, g)))(gains)
    for k, gain in enumerate(gains):
        np.testing.assert_allclose(many[k], feedback_inhibition(params, weights, gain), rtol=1e-12)


def test_the_iterative_search_finds_the_closed_form_without_noise():
    weights, params = connectome(), WongWangExcInhStep(6).parameter_values()
    exact = feedback_inhibition(params, weights, 0.5, 3.0)
    found = tune_inhibition(
        lambda j: settled(params | {"J_i": j}, weights, 0.5), np.ones(6), 3.0, tolerance=1e-3
    )
    assert found.converged and found.history[-1] <= 1e-3 < found.history[0]
    # A residual of 1e-3 Hz; the rates move by a few Hz a nA.
    np.testing.assert_allclose(found.J_i, exact, atol=5e-3)
    np.testing.assert_allclose(found.residuals, found.rates - 3.0)


def test_noise_lifts_the_rate_and_the_search_brings_it_back():
    weights, gain, dt, n_steps = connectome(), 0.5, 1e-3, 8000
    params = WongWangExcInhStep(6).parameter_values()
    draws = (
        WongWangExcInhStep.NOISE["S_e"] * np.sqrt(dt) * jax.random.normal(jax.random.key(1), (n_steps, 2, 6))
    )

    @jax.jit
    def mean_rate(j_i):
        p = params | {"J_i": j_i}

        def ports(state):
            return {"excitatory_gating": gain * weights @ state["S_e"]}

        def field(state, t):
            return WongWangExcInhStep.rhs(p, state, ports(state), t)

        def step(state, kick):
            kicks = {"S_e": kick[0], "S_i": kick[1]}
            state = integrate.stochastic_step("stochastic_heun", field, state, kicks, 0.0, dt)
            return state, WongWangExcInhStep.observables()["r_e"].function(p, state, ports(state))

        start = {k: jnp.full(6, v) for k, v in (("S_e", 0.16), ("S_i", 0.04))}
        return jnp.mean(jax.lax.scan(step, start, draws)[1][1000:], axis=0) * u.Hz

    start = feedback_inhibition(params, weights, gain, 3.0)
    first = mean_rate(start).to_decimal(u.Hz)
    assert np.all(first > 3.2)
    found = tune_inhibition(mean_rate, start, 3.0 * u.Hz, tolerance=0.05)
    assert found.converged and np.abs(found.residuals).max() <= 0.05
    assert np.all(found.J_i > start)  # more inhibition than without noise


def test_a_search_that_fails_says_so():
    found = tune_inhibition(lambda j: 10.0 - j, np.zeros(2), 3.0, iterations=3, tolerance=1e-6)
    assert not found.converged and len(found.history) == 3
    np.testing.assert_allclose(found.rates, 10.0 - found.J_i)
    assert np.abs(found.residuals).max() == found.history.min()
    with pytest.raises(ValueError, match="rate of region 1 is not finite in iteration 0"):
        tune_inhibition(lambda j: jnp.array([1.0, jnp.nan]), np.zeros(2), 3.0)
    with pytest.raises(ValueError, match="at least one simulation"):
        tune_inhibition(lambda j: j, np.zeros(2), 3.0, iterations=0)
