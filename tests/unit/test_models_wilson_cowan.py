"""Wilson-Cowan model and its variants against their equations, against each other, and published facts."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.wilson_cowan import (
    WilsonCowanLinearStep,
    WilsonCowanNoSaturationStep,
    WilsonCowanSimplifiedStep,
    WilsonCowanStep,
    WilsonCowanSymmetricStep,
)
from brainloom.models.wilson_cowan_variants import (
    WilsonCowanAdaptiveStep,
    WilsonCowanDelayedStep,
    WilsonCowanDivisiveInputStep,
    WilsonCowanDivisiveStep,
    WilsonCowanThreePopulationStep,
)

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import mass_checks
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from brainloom.core.units import UnitError
from brainloom.models.lowering import lower


def sigmoid(x, a, theta):
    return 1 / (1 + np.exp(-a * (x - theta))) - 1 / (1 + np.exp(a * theta))


def relax(p, pop, level, response):
    return (-level + (p["k_" + pop] - p["r_" + pop] * level) * response) / p["tau_" + pop]


def populations(p, s, onto_e, onto_i, divisor_e=1.0, divisor_i=1.0):
    return {
        "E": relax(p, "e", s["E"], sigmoid(onto_e, p["a_e"], p["theta_e"]) / divisor_e),
        "I": relax(p, "i", s["I"], sigmoid(onto_i, p["a_i"], p["theta_i"]) / divisor_i),
    }


def onto(p, s, u):
    onto_e = p["w_ee"] * s["E"] - p["w_ei"] * s["I"] + p["P"] + u["drive_e"]
    return onto_e, p["w_ie"] * s["E"] - p["w_ii"] * s["I"] + p["Q"] + u["drive_i"]


def base(p, s, u):
    return populations(p, s, *onto(p, s, u))


def no_saturation(p, s, u):
    return base(p | {"r_e": 0.0, "r_i": 0.0}, s, u)


def symmetric(p, s, u):
    return base(p | {f"{k}_{x}": p[k] for k in ("tau", "a", "theta") for x in "ei"}, s, u)


def simplified(p, s, u):
    local = p["w_exc"] * s["E"] - p["w_inh"] * s["I"]
    return populations(p, s, local + p["P"] + u["drive_e"], local + p["Q"] + u["drive_i"])


def linear(p, s, u):
    onto_e, onto_i = onto(p, s, u)
    return {
        "E": relax(p, "e", s["E"], np.maximum(onto_e, 0)),
        "I": relax(p, "i", s["I"], np.maximum(onto_i, 0)),
    }


def divisive(p, s, u):
    onto_e = p["w_ee"] * s["E"] + p["P"] + u["drive_e"]
    onto_i = p["w_ie"] * s["E"] + p["Q"] + u["drive_i"]
    divisors = p["sigma_e"] + p["w_ei"] * s["I"], p["sigma_i"] + p["w_ii"] * s["I"]
    return populations(p, s, onto_e, onto_i, *divisors)


def divisive_input(p, s, u):
    onto_e = p["w_ee"] * s["E"] / (p["sigma_e"] + p["w_ei"] * s["I"]) + p["P"] + u["drive_e"]
    onto_i = p["w_ie"] * s["E"] / (p["sigma_i"] + p["w_ii"] * s["I"]) + p["Q"] + u["drive_i"]
    return populations(p, s, onto_e, onto_i)


def adaptive(p, s, u):
    onto_e, onto_i = onto(p, s, u)
    return populations(p, s, onto_e - s["A_e"], onto_i - s["A_i"]) | {
        "A_e": (-s["A_e"] + p["b_e"] * s["E"]) / p["tau_ae"],
        "A_i": (-s["A_i"] + p["b_i"] * s["I"]) / p["tau_ai"],
    }


def three_populations(p, s, u):
    onto_e, onto_i = onto(p, s, u)
    onto_m = p["w_me"] * s["E"] - p["w_mi"] * s["I"] + p["w_mm"] * s["M"] + p["R"] + u["drive_m"]
    return populations(p, s, onto_e + p["w_em"] * s["M"], onto_i + p["w_im"] * s["M"]) | {
        "M": relax(p, "m", s["M"], sigmoid(onto_m, p["a_m"], p["theta_m"]))
    }


MODELS = [
    (WilsonCowanStep, base),
    (WilsonCowanNoSaturationStep, no_saturation),
    (WilsonCowanSymmetricStep, symmetric),
    (WilsonCowanSimplifiedStep, simplified),
    (WilsonCowanLinearStep, linear),
    (WilsonCowanDivisiveStep, divisive),
    (WilsonCowanDivisiveInputStep, divisive_input),
    (WilsonCowanDelayedStep, base),
    (WilsonCowanAdaptiveStep, adaptive),
    (WilsonCowanThreePopulationStep, three_populations),
]
each = pytest.mark.parametrize(("model", "reference"), MODELS, ids=lambda x: x.__name__)


@each
def test_equations_and_batches(model, reference):
    mass_checks.check_rhs(model, reference)
    mass_checks.check_one_by_one(model)


@each
def test_derivatives_in_every_parameter_state_and_port(model, reference):
    groups = mass_checks.random_point(model, 3, (6,), (6,))
    for which, names in enumerate(groups):
        for name, value in names.items():

            def moved(value, which=which, name=name):
                return [g | {name: value} if k == which else g for k, g in enumerate(groups)]

            # The imaginary part after an imaginary step is the derivative, without truncation or cancellation;
            # central differences miss the curvature of steep sigmoids.
            exact = reference(*moved(value + 1e-30j))
            _, slope = jax.jvp(lambda v, moved=moved: model.rhs(*moved(v), 0.0), (value,), (np.ones(6),))
            for state, found in slope.items():
                expected = np.imag(exact[state]) / 1e-30
                # A saturated sigmoid leaves a rounding of 1 in its derivative, times weights up to 40.
                np.testing.assert_allclose(
                    found, expected, rtol=1e-9, atol=1e-14, err_msg=f"{state} by {name}"
                )


@each
def test_single_precision_stays_finite(model, reference):
    mass_checks.check_finite_float32(model)


@each
def test_trajectory(model, reference):
    # Fourth order with steps of 1/20 of the time constant; three times the largest error seen.
    mass_checks.check_trajectory(model, reference, 100.0, model.DT, 2e-7)


def derivative(model, state, inputs=(0.3, -0.2), **params):
    return model(1, **params).derivative(state, 0.0, *inputs)


def test_variants_without_their_terms_are_the_published_model():
    state = {"E": jnp.array([0.3]), "I": jnp.array([0.15])}
    weights = {"w_ee": 12.0, "w_ei": 4.0, "w_ie": 13.0, "w_ii": 11.0, "P": 0.7, "Q": 0.1}
    still = {"A_e": jnp.zeros(1), "A_i": jnp.zeros(1)}
    free = weights | {"w_ei": 0.0, "w_ii": 0.0}
    same = weights | {"w_ie": 12.0, "w_ii": 4.0}
    one = {f"{k}_{x}": v for k, v in (("tau", 7.0), ("a", 1.1), ("theta", 3.4)) for x in "ei"}
    pairs = [
        (derivative(WilsonCowanNoSaturationStep, state, **weights), weights | {"r_e": 0.0, "r_i": 0.0}),
        (derivative(WilsonCowanSymmetricStep, state, **weights, tau=7.0), weights | one),
        (derivative(WilsonCowanSimplifiedStep, state, w_exc=12.0, w_inh=4.0, P=0.7, Q=0.1), same),
        (derivative(WilsonCowanDivisiveStep, state, **free), free),
        (derivative(WilsonCowanDivisiveInputStep, state, **free), free),
        (derivative(WilsonCowanDelayedStep, state, **weights), weights),
        (derivative(WilsonCowanAdaptiveStep, state | still, **weights, b_e=0.0, b_i=0.0), weights),
        (
            derivative(
                WilsonCowanThreePopulationStep, state | {"M": jnp.array([0.4])}, **weights, w_em=0.0, w_im=0.0
            ),
            weights,
        ),
    ]
    for found, params in pairs:
        expected = derivative(WilsonCowanStep, state, **params)
        for name in "EI":
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-13, atol=1e-17)
    assert float(pairs[6][0]["A_e"][0]) == 0.0


def test_defaults_rest_at_zero_and_a_drive_moves_them_whatever_the_time_constants():
    zero = {"E": jnp.zeros(1), "I": jnp.zeros(1)}
    assert all(float(v[0]) == 0.0 for v in WilsonCowanStep(1).derivative(zero).values())
    rest = mass_checks.trajectory(WilsonCowanStep(1), 300.0, 0.5)
    assert max(abs(rest["E"][-1]), abs(rest["I"][-1])) < 1e-8
    for tau_e, tau_i in ((10.0, 10.0), (1.0, 1.0), (30.0, 10.0), (10.0, 30.0)):
        node = WilsonCowanStep(1, P=1.0, tau_e=tau_e, tau_i=tau_i)
        path = mass_checks.trajectory(node, 900.0, 0.5)
        assert path["E"][-1] == pytest.approx(0.484306456, abs=1e-8)
        assert path["I"][-1] == pytest.approx(0.258462726, abs=1e-8)


def test_preset_oscillates():
    node = WilsonCowanStep(1, **WilsonCowanStep.PRESETS["oscillation"])
    x = mass_checks.trajectory(node, 1000.0, 0.1)["E"][5000:]
    up = np.flatnonzero((x[:-1] < 0.18) & (x[1:] >= 0.18))
    crossings = up + (0.18 - x[up]) / (x[up + 1] - x[up])

    params = {k: float(v) for k, v in node.parameter_values().items()}

    def field(t, y):
        slope = base(params, {"E": y[0], "I": y[1]}, QUIET)
        return [slope["E"], slope["I"]]

    def rising(t, y):
        return y[0] - 0.18

    rising.direction = 1
    exact = solve_ivp(field, (0, 1000), [0.1, 0.05], "DOP853", events=rising, rtol=1e-10, atol=1e-12)
    # 50.05 ms, five time constants; linear interpolation between steps of 1/500 of it is good to 1e-5.
    np.testing.assert_allclose(0.1 * np.diff(crossings), np.diff(exact.t_events[0])[-1], rtol=2e-5)
    assert np.diff(exact.t_events[0])[-1] == pytest.approx(50.05, abs=0.05)
    np.testing.assert_allclose([x.min(), x.max()], [0.1015, 0.2715], atol=1e-4)


QUIET = {"drive_e": 0.0, "drive_i": 0.0}
STATE = {"E": np.array([0.3]), "I": np.array([0.15]), "M": np.array([0.2])}


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("k", [None, "max"])
def test_options_of_the_response(k, shift):
    model = WilsonCowanThreePopulationStep
    params = {"a_e": 1.7, "theta_e": 1.2, "P": 1.0, "theta_m": 2.0}
    params |= {} if k else {"k_e": 0.9}
    node = model(1, k=k, shift=shift, **params)
    values = model(1, **params).parameter_values()

    def expected(values):
        found = three_populations(values, STATE, dict.fromkeys(model.port_names(), 0.0))
        for pop in "eim":
            level, tau = STATE[pop.upper()], values["tau_" + pop]
            rest = 1 / (1 + np.exp(values["a_" + pop] * values["theta_" + pop]))
            ceiling, free = values["k_" + pop], values["k_" + pop] - values["r_" + pop] * level
            response = (tau * found[pop.upper()] + level) / free + (0.0 if shift else rest)
            largest = 1.0 - (rest if shift else 0.0)
            free = free + (largest - ceiling if k else 0.0)
            found[pop.upper()] = (free * response - level) / tau
        return found

    for name, value in node.derivative({k: jnp.asarray(v) for k, v in STATE.items()}).items():
        np.testing.assert_allclose(value, expected(values)[name], rtol=1e-12, err_msg=name)
    # The ceiling moves with the response that it belongs to.
    _, slope = jax.jvp(
        lambda a: model.rhs(node.parameter_values() | {"a_e": a}, STATE, {}, 0.0)["E"], (1.7,), (1.0,)
    )
    exact = np.imag(expected(values | {"a_e": 1.7 + 1e-30j})["E"]) / 1e-30
    np.testing.assert_allclose(slope, exact, rtol=1e-11)


def test_ceiling_is_reached_by_the_largest_drive():
    node = WilsonCowanStep(1, k="max", r_e=0.0, w_ee=0.0, w_ei=0.0)
    top = 1 - 1 / (1 + np.exp(1.2 * 2.8))
    slope = node.derivative({"E": jnp.zeros(1), "I": jnp.zeros(1)}, drive_e=100.0)
    assert float(slope["E"][0]) == pytest.approx(top**2 / 10.0, rel=1e-13)


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"k is 0\.9; it must be None or 'max'"):
        WilsonCowanStep(1, k=0.9)
    with pytest.raises(ValueError, match="k='max' sets k_e from the response; give one of the two"):
        WilsonCowanAdaptiveStep(1, k="max", k_e=0.9)
    for option in ({"k": "max"}, {"shift": False}):
        with pytest.raises(ValueError, match="WilsonCowanLinearStep has no sigmoid"):
            WilsonCowanLinearStep(1, **option)


def test_options_are_kept_by_the_stateful_face():
    node = WilsonCowanStep(2, k="max", shift=False, method="euler")
    node.init_state()
    start = {"E": node.E.value, "I": node.I.value}
    slope = node.derivative(start)
    assert float(slope["E"][0]) != pytest.approx(
        float(WilsonCowanStep(2).derivative(start)["E"][0]), rel=1e-3
    )
    with brainstate.environ.context(dt=0.5):
        node.update()
    np.testing.assert_allclose(node.E.value, start["E"] + 0.5 * slope["E"], rtol=1e-14)


def test_delayed_activities_enter_where_their_names_say():
    model = WilsonCowanDelayedStep
    params, state, inputs = mass_checks.random_point(model, 5, (3,), (3,))
    # Small weights and slopes: a saturated response would hide which activity it got.
    params |= {k: v / 20 for k, v in params.items() if k[:2] in ("w_", "a_")}
    delayed = {name: np.full(3, 0.05 * (k + 1)) for k, (_, name) in enumerate(model.SELF_DELAYS.values())}
    found = model.rhs(params, state, inputs | delayed, 0.0)
    onto_e = (
        params["w_ee"] * delayed["E_ee"] - params["w_ei"] * delayed["I_ei"] + params["P"] + inputs["drive_e"]
    )
    onto_i = (
        params["w_ie"] * delayed["E_ie"] - params["w_ii"] * delayed["I_ii"] + params["Q"] + inputs["drive_i"]
    )
    expected = populations(params, state, onto_e, onto_i)
    for name in "EI":
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
    for delay, (source, name) in model.SELF_DELAYS.items():
        assert delay.removeprefix("delay_") == name.removeprefix(source + "_")
        assert source == {"e": "E", "i": "I"}[delay[-1]]  # w_ei is onto E from I


def test_delayed_run_reads_its_own_past():
    preset = WilsonCowanStep.PRESETS["oscillation"]
    dt, n_steps = 0.25, 400
    low = lower(WilsonCowanDelayedStep(1, **preset, delay_ei=1.0), dt, "euler")
    _, out = low.advance(low.params, low.init(low.params), {}, np.zeros((n_steps, 0, 1)))

    params = {p.name: p.default for p in WilsonCowanDelayedStep.PARAMETERS} | preset
    path = {"E": [0.1], "I": [0.05]}
    for k in range(n_steps):
        # Whole steps of delay; before the start the start.
        late = {lag: {name: x[max(k - lag, 0)] for name, x in path.items()} for lag in (4, 6, 8)}
        onto_e = params["w_ee"] * late[8]["E"] - params["w_ei"] * late[4]["I"] + params["P"]
        onto_i = params["w_ie"] * late[8]["E"] - params["w_ii"] * late[6]["I"]
        now = {name: x[-1] for name, x in path.items()}
        for name, slope in populations(params, now, onto_e, onto_i).items():
            path[name].append(now[name] + dt * slope)
    for name, x in path.items():
        np.testing.assert_allclose(out[name][:, 0], x[1:], rtol=1e-10, err_msg=name)
    assert np.ptp(x[200:]) > 0.05  # it oscillates, so a wrong delay would show


def test_observables_and_units():
    node = WilsonCowanStep(1, tau_e=0.02 * u.second)
    assert float(node.parameter_values()["tau_e"]) == pytest.approx(20.0)
    node.init_state()
    for name, value in (("source", 0.1), ("bold", 0.1), ("eeg", 0.05), ("lfp", 0.05)):
        assert float(node.observe(name)[0]) == pytest.approx(value)
    with pytest.raises(UnitError, match=r"tau_e of WilsonCowanStep is given in mV, but it is needed in ms"):
        WilsonCowanStep(1, tau_e=20.0 * u.mV)
    with pytest.raises(ValueError, match="WilsonCowanStep is written in ms, not 's'"):
        WilsonCowanStep(1, time_unit="s")
