"""Wong-Wang models against their equations, published fixed points, decisions and noise."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.lowering import lower
from brainloom.models.wong_wang import ReducedWongWangStep, WongWangStep, decision
from brainloom.models.wong_wang_ei import WongWangExcInhStep

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import mass_checks
import numpy as np
import pytest

from brainloom import integrate
from brainloom.core.units import UnitError
from brainloom.noise.processes import OUProcess


def transfer(x, a, b, d):
    y = a * x - b
    return y / -np.expm1(-d * y)


def two_choice(p, s, u):
    evidence = p["coherence"] + u["coherence"]
    stimulus = p["J_A_ext"] * p["mu_0"]
    x1 = p["J_N11"] * s["S1"] - p["J_N12"] * s["S2"] + p["I_0"] + stimulus * (1 + evidence) + u["current_1"]
    x2 = p["J_N22"] * s["S2"] - p["J_N21"] * s["S1"] + p["I_0"] + stimulus * (1 - evidence) + u["current_2"]
    return {
        name: -s[name] / p["tau_S"] + (1 - s[name]) * p["gamma"] * transfer(x, p["a"], p["b"], p["d"])
        for name, x in (("S1", x1), ("S2", x2))
    }


def reduced(p, s, u):
    x = p["w"] * p["J_N"] * s["S"] + p["I_o"] + p["J_N"] * u["excitatory_gating"] + u["current"]
    return {"S": -s["S"] / p["tau_S"] + (1 - s["S"]) * p["gamma"] * transfer(x, p["a"], p["b"], p["d"])}


def exc_inh(p, s, u):
    far = p["J_N"] * u["excitatory_gating"]
    x_e = p["W_e"] * p["I_o"] + p["w_p"] * p["J_N"] * s["S_e"] - p["J_i"] * s["S_i"] + far + p["I_ext"]
    x_i = p["W_i"] * p["I_o"] + p["J_N"] * s["S_e"] - p["J_ii"] * s["S_i"] + p["lamda"] * far
    r_e = transfer(x_e + u["current_e"], p["a_e"], p["b_e"], p["d_e"])
    r_i = transfer(x_i + u["current_i"], p["a_i"], p["b_i"], p["d_i"])
    return {
        "S_e": -s["S_e"] / p["tau_e"] + (1 - s["S_e"]) * p["gamma_e"] * r_e,
        "S_i": -s["S_i"] / p["tau_i"] + p["gamma_i"] * r_i,
    }


# Model, equations, and a run: duration (s), step, and the largest error of RK4 relative to the state's size.
CASES = [
    (WongWangStep, two_choice, 2.0, 1e-3, 1e-8),
    (ReducedWongWangStep, reduced, 1.0, 1e-3, 1e-8),
    (WongWangExcInhStep, exc_inh, 1.0, 2e-4, 1e-7),
]
MODELS = [case[0] for case in CASES]


@pytest.mark.parametrize(("model", "reference"), [case[:2] for case in CASES])
def test_right_hand_side(model, reference):
    mass_checks.check_rhs(model, reference)
    mass_checks.check_one_by_one(model)


@pytest.mark.parametrize(("model", "reference"), [case[:2] for case in CASES])
def test_derivatives_of_the_right_hand_side(model, reference):
    # The equations in complex numbers: the imaginary part of a tiny step is the derivative to rounding, where
    # finite differences of the exponential tails are good to 1e-5.
    groups = mass_checks.random_point(model, 3, (6,), (6,))
    keys = [(which, name) for which, group in enumerate(groups) for name in group]
    point = np.array([groups[which][name] for which, name in keys])

    def split(values):
        found = ({}, {}, {})
        for (which, name), value in zip(keys, values, strict=True):
            found[which][name] = value
        return found

    def field(values):
        return model.rhs(*split(values), 0.0)

    directions = np.broadcast_to(np.eye(len(keys))[:, :, None], (len(keys), *point.shape))
    slopes = jax.jit(jax.vmap(lambda one: jax.jvp(field, (point,), (one,))[1]))(directions)
    for k, (_, name) in enumerate(keys):
        for state, expected in reference(*split(point + 1e-30j * directions[k])).items():
            exact = np.imag(expected) / 1e-30
            # Roundings of terms that cancel.
            tolerance = {"rtol": 1e-9, "atol": 1e-12 * np.abs(exact).max()}
            np.testing.assert_allclose(slopes[state][k], exact, **tolerance, err_msg=f"{state} by {name}")


@pytest.mark.parametrize("model", MODELS)
def test_single_precision_stays_finite_over_the_fitting_box(model):
    mass_checks.check_finite_float32(model)


@pytest.mark.parametrize(("model", "reference", "duration", "dt", "rtol"), CASES)
def test_trajectory(model, reference, duration, dt, rtol):
    mass_checks.check_trajectory(model, reference, duration, dt, rtol)


@pytest.mark.parametrize("model", MODELS)
def test_time_is_in_s_and_wrong_units_are_refused(model):
    name = "tau_e" if model is WongWangExcInhStep else "tau_S"
    assert model.TIME_UNIT == "s"
    with pytest.raises(UnitError, match=rf"{name} of {model.__name__} is given in nA.* needed in s"):
        model(1, **{name: 0.1 * u.nA})
    with pytest.raises(ValueError, match="is written in s"):
        model(1, time_unit="ms")
    np.testing.assert_allclose(model(1, **{name: 100.0 * u.ms}).parameter_values()[name], 0.1, rtol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_both_precisions_at_the_singularity_of_the_transfer_function(model):
    # y = 0 exactly: 0/0 in the plain formula. All of the input comes from one constant.
    silent = {
        WongWangStep: {"J_A_ext": 0.0, "I_0": 0.4, "J_N11": 0.0, "J_N12": 0.0, "J_N21": 0.0, "J_N22": 0.0},
        ReducedWongWangStep: {"w": 0.0, "I_o": 0.4},
        WongWangExcInhStep: {"w_p": 0.0, "J_i": 0.0, "I_o": 125.0 / 310.0},
    }[model]
    node, first = model(1, **silent), model.STATES[0].name
    slope_of = jax.jit(jax.value_and_grad(lambda s, p: model.rhs(p, s, {}, 0.0)[first][0]))
    for dtype in (jnp.float32, jnp.float64):
        params = {k: v.astype(dtype) for k, v in node.parameter_values().items()}
        rise, slope = slope_of({s.name: jnp.full(1, 0.1, dtype) for s in model.STATES}, params)
        gamma, d = (params[f"{name}_e" if model is WongWangExcInhStep else name] for name in ("gamma", "d"))
        assert rise.dtype == dtype
        np.testing.assert_allclose(rise, -1.0 + 0.9 * gamma / d, rtol=1e-5)  # H = 1/d, float32
        np.testing.assert_allclose(slope[first][0], -10.0 - gamma / d, rtol=1e-5)


# --- the decision circuit -----------------------------------------------------------------------------------


def rates(node, states, **inputs):
    params = node.parameter_values()
    return [node.observables()[name].function(params, states, inputs) for name in ("r1", "r2")]


def test_the_population_with_the_evidence_wins():
    dt = 1e-3
    found = mass_checks.trajectory(WongWangStep(1, coherence=0.128), 2.0, dt)
    # Exact solution at 0.2, 0.5, 1 and 2 s; RK4 at this step is good to 1e-8.
    expected = {
        "S1": [0.210142013583979, 0.453729250873809, 0.664752058966265, 0.667220944692394],
        "S2": [0.161983554602595, 0.14893530980563, 0.0532832844930388, 0.0463108214191063],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][[199, 499, 999, 1999]], values, rtol=1e-7)
    r1, r2 = rates(WongWangStep(1, coherence=0.128), found)
    times = dt * np.arange(1, 2001)
    choice, when = decision(r1, r2, times)
    at = int(np.argmax(np.asarray(r1) >= 15.0))
    assert int(choice) == 1 and 0.2 < when < 1.0 and when == times[at]
    assert np.asarray(r1)[at - 1] < 15.0 and np.asarray(r2).max() < 15.0


def test_evidence_of_the_other_sign_swaps_the_populations_and_none_ties_them():
    def run(coherence):
        return mass_checks.trajectory(WongWangStep(1, coherence=coherence), 1.0, 1e-3)

    forth, back, none = run(0.128), run(-0.128), run(0.0)
    np.testing.assert_allclose(forth["S1"], back["S2"], rtol=1e-12)
    np.testing.assert_allclose(forth["S2"], back["S1"], rtol=1e-12)
    np.testing.assert_array_equal(none["S1"], none["S2"])
    assert int(decision(*rates(WongWangStep(1), back), np.arange(1000.0))[0]) == 2


def test_port_and_parameter_of_the_coherence_add():
    state = {"S1": jnp.array([0.3]), "S2": jnp.array([0.2])}
    by_parameter = WongWangStep(1, coherence=0.3).derivative(state)
    by_port = WongWangStep(1, coherence=0.1).derivative(state, 0.0, coherence=0.2)
    for name in state:
        np.testing.assert_allclose(by_port[name], by_parameter[name], rtol=1e-12)
    assert not WongWangStep.DEFAULT_PORT and ReducedWongWangStep.DEFAULT_PORT


def test_rates_follow_the_current_inputs():
    node = WongWangStep(1, coherence=0.1)
    states = {"S1": np.array([0.2]), "S2": np.array([0.4])}
    p = {k: float(v) for k, v in node.parameter_values().items()}
    x1 = p["J_N11"] * 0.2 - p["J_N12"] * 0.4 + p["I_0"] + p["J_A_ext"] * p["mu_0"] * 1.1
    np.testing.assert_allclose(rates(node, states)[0], transfer(x1, 270.0, 108.0, 0.154), rtol=1e-12)
    found = rates(node, states, current_1=0.03, coherence=-0.1)[0]
    x1 += 0.03 - 0.1 * p["J_A_ext"] * p["mu_0"]
    np.testing.assert_allclose(found, transfer(x1, 270.0, 108.0, 0.154), rtol=1e-12)


def test_decision_takes_the_first_crossing_of_each_trial():
    nan = np.nan
    # One trial a column: 1 first, 2 first, none, a tie that 2 wins later, both at once with 1 ahead.
    r1 = np.array([[1, 1, 1, 20, 1], [16, 9, 2, 20, 18], [17, 20, 3, 20, 2.0]])
    r2 = np.array([[1, 1, 1, 20, 1], [2, 15, 2, 20, 16], [20, 1, 3, 21, 2.0]])
    choice, when = jax.jit(decision)(r1, r2, np.array([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(choice, [1, 2, 0, 2, 1])
    np.testing.assert_array_equal(when, [0.2, 0.2, nan, 0.3, 0.2])
    choice, when = decision(r1 * u.Hz, r2 * u.Hz, np.array([100.0, 200.0, 300.0]) * u.ms, 0.019 * u.kHz)
    np.testing.assert_array_equal(choice, [2, 1, 0, 2, 0])
    np.testing.assert_array_equal(when.to_decimal(u.second), [0.3, 0.3, nan, 0.3, nan])
    with pytest.raises(UnitError, match="r1 is given in nA"):
        decision(r1 * u.nA, r2, np.arange(3.0))


# --- its noise ----------------------------------------------------------------------------------------------


def test_noise_is_an_ou_current_at_both_ports_or_nothing():
    assert WongWangStep(2).noise_slots() == {}
    slots = WongWangStep(2, sigma_noise=0.02, tau_noise=4.0 * u.ms).noise_slots()
    assert set(slots) == {"current_1", "current_2"}
    for process in slots.values():
        assert isinstance(process, OUProcess)
        values = process.parameter_values("nA", "s", "test")
        # The convention tau dI = -I dt + sigma sqrt(tau) dW has the variance sigma^2 / 2.
        np.testing.assert_allclose([values["sigma"], values["tau"]], [0.02 / np.sqrt(2), 4e-3], rtol=1e-12)
    own = OUProcess(sigma=0.1, tau=0.01)
    slots = WongWangStep(2, sigma_noise=0.02, noise_current_2=own).noise_slots()
    assert slots["current_2"] is own and slots["current_1"] is not own
    with pytest.raises(UnitError, match=r"sigma_noise of WongWangStep is given in Hz.* needed in nA"):
        WongWangStep(1, sigma_noise=0.02 * u.Hz)


def test_noisy_trials_err_and_evidence_helps():
    # Trials run as regions, 400 without and 400 with evidence; rates are averaged over 20 ms, as published.
    n_steps, coherence = 1500, np.repeat([0.0, 0.128], 400)
    low = lower(WongWangStep(800, coherence=coherence, sigma_noise=0.02), 1e-3, "heun")
    draws = jax.random.normal(jax.random.key(3), (n_steps, *low.noise_shape))
    start = low.init(low.params, jax.random.key(4))
    last, out = jax.jit(low.advance)(low.params, start, {}, draws, 0.0)
    smooth = [np.asarray(out[name]).reshape(-1, 20, 800).mean(1) for name in ("r1", "r2")]
    choice = np.asarray(decision(*smooth, 0.02 * np.arange(1, n_steps // 20 + 1))[0])
    without, with_evidence = choice[:400], choice[400:]
    assert np.mean(without > 0) > 0.9 and np.mean(with_evidence > 0) > 0.9
    # 400 trials: a share has a standard error of 0.025; half is tested at 4 of them.
    assert abs(np.mean(without[without > 0] == 1) - 0.5) < 0.1
    right = np.mean(with_evidence[with_evidence > 0] == 1)
    assert 0.65 < right < 1.0
    # The noise currents of 800 trials: a standard deviation is known to 1 / sqrt(1600) = 2.5 %, tested at 4.
    for name in ("current_1", "current_2"):
        np.testing.assert_allclose(np.std(last[f"noise_{name}.value"]), 0.02 / np.sqrt(2), rtol=0.1)


def test_the_amplitude_of_the_noise_can_be_trained():
    node = WongWangStep(3, sigma_noise=brainstate.nn.Param(0.02), tau_noise=brainstate.nn.Param(2e-3))
    assert set(node.trainable()) == {"sigma_noise", "tau_noise"}
    low = lower(node, 1e-3, "heun")
    draws = jax.random.normal(jax.random.key(0), (20, *low.noise_shape))
    start = low.init(low.params)

    def end(values):
        return jnp.sum(low.advance(low.params | values, start, {}, draws, 0.0)[0]["S1"])

    at = {"sigma_noise": jnp.array(0.02), "tau_noise": jnp.array(2e-3)}
    value_and_slope = jax.jit(jax.value_and_grad(end))
    slope = value_and_slope(at)[1]
    for name, step in (("sigma_noise", 1e-5), ("tau_noise", 1e-7)):
        high, below = (value_and_slope(at | {name: at[name] + sign * step})[0] for sign in (1, -1))
        # Central differences: truncation 1e-7, rounding 1e-15 / step = 1e-8 against slopes of order 1.
        np.testing.assert_allclose(slope[name], (high - below) / (2 * step), rtol=1e-5)
        assert abs(slope[name]) > 1e-4


# --- the mean field models ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("w", "i_o", "expected"), [(0.9, 0.3, 0.0343550568810047), (0.6, 0.33, 0.0980184531568265)]
)
def test_the_single_population_has_one_fixed_point(w, i_o, expected):
    node = ReducedWongWangStep(2001, w=w, I_o=i_o)
    grid = np.linspace(0.0, 1.0, 2001)
    signs = np.sign(node.derivative({"S": grid})["S"])
    assert np.sum(signs[1:] != signs[:-1]) == 1
    slope = ReducedWongWangStep(1, w=w, I_o=i_o).derivative({"S": np.array([expected])})["S"]
    assert abs(slope[0]) < 1e-12  # rates of order 1 per s cancel to rounding
    assert mass_checks.jacobian(ReducedWongWangStep(1, w=w, I_o=i_o), {"S": np.array([expected])})[0, 0] < 0


def test_excitation_and_inhibition_rest_at_three_hz():
    found = mass_checks.trajectory(WongWangExcInhStep(1), 4.0, 1e-3)
    np.testing.assert_allclose(found["S_e"][-1], 0.164757207546055, rtol=1e-8)  # 4 s leave exp(-21)
    np.testing.assert_allclose(found["S_i"][-1], 0.0392184486317628, rtol=1e-8)
    node = WongWangExcInhStep(1)
    last = {k: v[-1:] for k, v in found.items()}
    read = [node.observables()[name].function(node.parameter_values(), last, {}) for name in ("r_e", "r_i")]
    np.testing.assert_allclose(np.ravel(read), [3.07732706411855, 3.92184486317628], rtol=1e-7)
    assert node.observables()["r_e"].driven and node.observables()["r_e"].unit == "Hz"


def test_gradient_of_a_run_in_the_inhibition():
    node = WongWangExcInhStep(1, init_S_e=0.001, init_S_i=0.001)
    params, start = node.parameter_values(), node.initial_values()

    def end(j_i):
        def field(state, t):
            return node.rhs(params | {"J_i": j_i}, state, {}, t)

        def step(_, state):
            return integrate.deterministic_step("rk4", field, state, 0.0, 5e-4)

        return jax.lax.fori_loop(0, 1000, step, start)["S_e"][0]

    value, slope = jax.jit(lambda j_i: jax.jvp(end, (j_i,), (jnp.ones_like(j_i),)))(jnp.array(1.0))
    # Central differences of the exact solution, good to 1e-7; RK4 with a 20th of the fast time constant.
    np.testing.assert_allclose([value, slope], [0.156854218551557, -0.28318363813599], rtol=1e-6)


def test_feedforward_inhibition_and_noise_in_published_units():
    state = {"S_e": np.array([0.2]), "S_i": np.array([0.05])}
    free, driven = (WongWangExcInhStep(1, lamda=x).derivative(state, 0.0, 0.3) for x in (0.0, 1.0))
    np.testing.assert_array_equal(free["S_e"], driven["S_e"])
    assert driven["S_i"][0] > free["S_i"][0]
    # 0.001 and 0.01 per sqrt(ms), in 1/sqrt(s).
    np.testing.assert_allclose(ReducedWongWangStep.NOISE["S"], 0.0316227766, rtol=1e-9)
    node = WongWangExcInhStep(1, noise_S_e=0.01 / u.ms**0.5)
    np.testing.assert_allclose(node.noise_values()["S_e"], WongWangExcInhStep.NOISE["S_e"], rtol=1e-12)
