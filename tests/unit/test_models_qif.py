"""Exact mean fields of quadratic integrate-and-fire neurons against their equations and published facts."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.coombes_byrne import CoombesByrne2DStep, CoombesByrneStep
from brainloom.models.dumont_gutkin import DumontGutkinStep
from brainloom.models.gast import GastSchmidtKnoscheSDStep, GastSchmidtKnoscheSFStep
from brainloom.models.montbrio import MontbrioPazoRoxinStep

# isort: split
import brainunit as u
import mass_checks
import numpy as np
import pytest
from scipy.optimize import brentq

from brainloom.core.units import UnitError


def qif(r, v, drive, width, tau):
    return (width / (np.pi * tau) + 2 * r * v) / tau, (v**2 + drive - (np.pi * tau * r) ** 2) / tau


def montbrio(p, s, u):
    drive = p["eta"] + p["J"] * p["tau"] * s["r"] + p["I"] + u["current"]
    return dict(zip("rv", qif(s["r"], s["v"], drive, p["Delta"], p["tau"]), strict=True))


def gast(p, s, u, recurrent):
    rate, voltage = qif(s["r"], s["v"], p["eta"] + p["I"] + recurrent + u["current"], p["Delta"], p["tau"])
    return {
        "r": rate,
        "v": voltage,
        "A": s["B"] / p["tau_A"],
        "B": (p["alpha"] * s["r"] - s["A"] - 2 * s["B"]) / p["tau_A"],
    }


def gast_depression(p, s, u):
    return gast(p, s, u, p["J"] * p["tau"] * s["r"] * (1 - s["A"]))


def gast_adaptation(p, s, u):
    return gast(p, s, u, p["J"] * p["tau"] * s["r"] - s["A"])


def coombes_byrne_planar(p, s, u):
    r, v, g = s["r"], s["v"], p["k"] * np.pi * s["r"]
    return {
        "r": (p["Delta"] / np.pi + 2 * r * v - g * r) / p["tau"],
        "v": (v**2 - (np.pi * r) ** 2 + p["eta"] + (p["v_syn"] - v) * g + p["I"] + u["current"]) / p["tau"],
    }


def coombes_byrne(p, s, u):
    r, v, g, q = s["r"], s["v"], s["g"], s["q"]
    return {
        "r": (p["Delta"] / np.pi + 2 * r * v - g * r) / p["tau"],
        "v": (v**2 - (np.pi * r) ** 2 + p["eta"] + (p["v_syn"] - v) * g + p["I"] + u["current"]) / p["tau"],
        "g": p["alpha"] * q / p["tau"],
        "q": p["alpha"] * (p["k"] * np.pi * r - g - 2 * q + u["synapse"]) / p["tau"],
    }


def dumont_gutkin(p, s, u):
    found = {}
    for x in "ei":
        drive = p[f"eta_{x}"] + p[f"I_{x}"] + p[f"tau_{x}"] * (s[f"s_{x}e"] - s[f"s_{x}i"])
        found[f"r_{x}"], found[f"v_{x}"] = qif(
            s[f"r_{x}"], s[f"v_{x}"], drive, p[f"Delta_{x}"], p[f"tau_{x}"]
        )
        for y in "ei":
            port = {"ee": 1.0, "ie": p["Gamma"]}.get(x + y, 0.0) * u["rate"]
            found[f"s_{x}{y}"] = (-s[f"s_{x}{y}"] + p[f"J_{x}{y}"] * s[f"r_{y}"] + port) / p["tau_s"]
    return found


# Model, equations, and a run: duration, step, and the largest error of RK4 relative to the state's size.
CASES = [
    (MontbrioPazoRoxinStep, montbrio, 200.0, 0.1, 1e-7),
    (CoombesByrne2DStep, coombes_byrne_planar, 100.0, 0.1, 1e-7),
    (CoombesByrneStep, coombes_byrne, 100.0, 0.05, 1e-6),
    (GastSchmidtKnoscheSDStep, gast_depression, 50.0, 0.005, 1e-6),
    (GastSchmidtKnoscheSFStep, gast_adaptation, 30.0, 0.002, 1e-6),
    (DumontGutkinStep, dumont_gutkin, 100.0, 0.05, 1e-7),
]
MODELS = [case[0] for case in CASES]


@pytest.mark.parametrize(("model", "reference"), [case[:2] for case in CASES])
def test_right_hand_side(model, reference):
    mass_checks.check_rhs(model, reference)
    mass_checks.check_one_by_one(model)


@pytest.mark.parametrize(("model", "reference"), [case[:2] for case in CASES])
def test_derivatives_of_the_right_hand_side(model, reference):
    mass_checks.check_gradients(model, reference)


@pytest.mark.parametrize("model", MODELS)
def test_single_precision_stays_finite_over_the_fitting_box(model):
    mass_checks.check_finite_float32(model)


@pytest.mark.parametrize(("model", "reference", "duration", "dt", "rtol"), CASES)
def test_trajectory(model, reference, duration, dt, rtol):
    mass_checks.check_trajectory(model, reference, duration, dt, rtol)


@pytest.mark.parametrize("model", MODELS)
def test_time_is_in_ms_and_wrong_units_are_refused(model):
    name = "tau_e" if model is DumontGutkinStep else "tau"
    with pytest.raises(UnitError, match=rf"{name} of {model.__name__} is given in Hz.* needed in ms"):
        model(1, **{name: 10.0 * u.Hz})
    with pytest.raises(ValueError, match="is written in ms"):
        model(1, time_unit="s")
    found = model(1, **{name: 0.02 * u.second}).parameter_values()[name]
    np.testing.assert_allclose(found, 20.0, rtol=1e-12)


@pytest.mark.parametrize("model", [MontbrioPazoRoxinStep, GastSchmidtKnoscheSDStep, GastSchmidtKnoscheSFStep])
def test_rates_start_in_units_of_tau_and_are_shown_in_hz(model):
    taus, scaled = np.array([5.0, 20.0]), 0.02 if model is MontbrioPazoRoxinStep else 0.1
    node = model(2, tau=taus)
    np.testing.assert_allclose(node.initial_values()["r"], scaled / taus, rtol=1e-14)
    node.init_state()
    np.testing.assert_allclose(node.bold().to_decimal(u.Hz), 1000 * scaled / taus, rtol=1e-12)
    assert node.bold().unit == u.Hz
    np.testing.assert_allclose(node.source(), [scaled, scaled], rtol=1e-14)
    np.testing.assert_array_equal(node.eeg(), node.v.value)


def low_state(tau=1.0):
    return {"r": np.array([0.0811344419501 / tau]), "v": np.array([-1.9616199885832])}


def test_montbrio_low_state():
    node = MontbrioPazoRoxinStep(1, tau=1.0)
    assert all(np.abs(v).max() < 1e-11 for v in node.derivative(low_state()).values())  # 13 digits are given
    eigenvalues = np.sort(np.linalg.eigvals(mass_checks.jacobian(node, low_state())).real)
    np.testing.assert_allclose(eigenvalues, [-5.39774152788113, -2.44873842645153], rtol=1e-9)
    found = mass_checks.trajectory(MontbrioPazoRoxinStep(1), 200.0, 0.1)
    np.testing.assert_allclose(
        [found["r"][-1], found["v"][-1]], [0.00811344419501, -1.9616199885832], rtol=1e-9
    )


def test_montbrio_fixed_points_lie_on_the_rate_nullcline():
    # v = -Delta / (2 pi tau r); the default is bistable, with a saddle between the two states.
    node = MontbrioPazoRoxinStep(1)

    def voltage_slope(rate):
        state = {"r": np.array([rate]), "v": np.array([-1 / (2 * np.pi * 10 * rate)])}
        return state, node.derivative(state)

    rates = np.geomspace(1e-3, 0.5, 400)
    slopes = [voltage_slope(rate)[1]["v"][0] for rate in rates]
    at = np.flatnonzero(np.diff(np.sign(slopes)))
    roots = [brentq(lambda r: float(voltage_slope(r)[1]["v"][0]), rates[k], rates[k + 1]) for k in at]
    assert len(roots) == 3
    growth = []
    for root in roots:
        state, slope = voltage_slope(root)
        assert abs(slope["r"][0]) < 1e-15  # terms of order 1e-3 cancel exactly but for roundings
        growth.append(np.linalg.eigvals(mass_checks.jacobian(node, state)).real.max())
    assert growth[0] < 0 < growth[1] and growth[2] < 0


def test_montbrio_scales_with_tau():
    runs = {
        tau: mass_checks.trajectory(MontbrioPazoRoxinStep(1, tau=tau, I=3.0), 20.0 * tau, 0.01 * tau, 100)
        for tau in (1.0, 10.0)
    }
    # The same steps in units of tau: only roundings differ.
    np.testing.assert_allclose(runs[10.0]["r"] * 10, runs[1.0]["r"], rtol=1e-10)
    np.testing.assert_allclose(runs[10.0]["v"], runs[1.0]["v"], rtol=1e-9, atol=1e-10)
    # Exact values for I = 3 at t = 1, 2, 5, 10, 20 tau; RK4 at this step is good to 1e-7.
    found = runs[1.0]["r"][[0, 1, 4, 9, 19]]
    expected = [0.129099063413891, 0.250073755059643, 0.835196954779227, 1.5739085012225, 1.37630767561301]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_montbrio_input_enters_the_voltage_only():
    node, state = MontbrioPazoRoxinStep(1), low_state(10.0)
    found, free = node.derivative(state, 0.0, 2.0), node.derivative(state)
    np.testing.assert_array_equal(found["r"], free["r"])
    np.testing.assert_allclose(found["v"] - free["v"], 0.2, rtol=1e-12)  # divided by tau
    assert MontbrioPazoRoxinStep.port_names() == ("current",)


def test_coombes_byrne_without_synapses_is_montbrio_without_weights():
    params, state, inputs = mass_checks.random_point(CoombesByrne2DStep, 6, (5,), (5,))
    found = CoombesByrne2DStep(5, **params | {"k": 0.0}).derivative(state, 0.0, **inputs)
    shared = {k: params[k] for k in ("tau", "Delta", "eta", "I")}
    rate = {"r": state["r"] / params["tau"], "v": state["v"]}
    expected = MontbrioPazoRoxinStep(5, J=0.0, **shared).derivative(rate, 0.0, **inputs)
    np.testing.assert_allclose(found["r"], expected["r"] * params["tau"], rtol=1e-12)
    np.testing.assert_allclose(found["v"], expected["v"], rtol=1e-12)


def test_coombes_byrne_planar_rest():
    found = mass_checks.trajectory(CoombesByrne2DStep(1, tau=1.0), 10.0, 0.01)
    # Given at t = 10; RK4 at this step is good to 1e-8.
    np.testing.assert_allclose([found["r"][-1], found["v"][-1]], [0.184725543943, -0.571408972020], rtol=1e-7)


def test_coombes_byrne_limit_cycle():
    late = {k: v[40_000:] for k, v in mass_checks.trajectory(CoombesByrneStep(1), 600.0, 0.01).items()}
    # Published to three digits, one unit of the last.
    assert (late["r"].min(), late["r"].max()) == pytest.approx((0.206, 1.439), abs=1e-3)
    at = np.flatnonzero((late["r"][:-1] < 0.8) & (late["r"][1:] >= 0.8))
    fraction = (0.8 - late["r"][at]) / (late["r"][at + 1] - late["r"][at])
    np.testing.assert_allclose(np.diff(0.01 * (at + fraction)), 20.83, atol=5e-3)


def test_coombes_byrne_synapse_settles_on_the_planar_conductance():
    params, state, inputs = mass_checks.random_point(CoombesByrneStep, 9, (5,), (5,))
    inputs["synapse"] = np.zeros(5)
    state |= {"g": params["k"] * np.pi * state["r"], "q": np.zeros(5)}
    full = CoombesByrneStep(5, **params).derivative(state, 0.0, **inputs)
    planar = CoombesByrne2DStep(5, **{k: v for k, v in params.items() if k != "alpha"})
    expected = planar.derivative({k: state[k] for k in "rv"}, 0.0, current=inputs["current"])
    for name in "rv":
        np.testing.assert_allclose(full[name], expected[name], rtol=1e-12)
    for name in "gq":  # sums of order 1 cancel
        np.testing.assert_allclose(full[name], 0.0, atol=1e-14)


@pytest.mark.parametrize("model", [CoombesByrne2DStep, CoombesByrneStep])
def test_coombes_byrne_rate_is_also_there_in_hz(model):
    node = model(1, tau=20.0)
    node.init_state()
    start = float(node.r.value[0])
    np.testing.assert_allclose(node.observe("rate").to_decimal(u.Hz), 1000 * start / 20, rtol=1e-12)
    np.testing.assert_array_equal(node.source(), [start])
    np.testing.assert_array_equal(node.bold(), [start])


@pytest.mark.parametrize("model", [GastSchmidtKnoscheSDStep, GastSchmidtKnoscheSFStep])
def test_gast_without_adaptation_is_montbrio(model):
    params, state, inputs = mass_checks.random_point(model, 11, (5,), (5,))
    state |= {"A": np.zeros(5), "B": np.zeros(5)}
    found = model(5, **params | {"alpha": 0.0}).derivative(state, 0.0, **inputs)
    shared = {k: params[k] for k in ("tau", "Delta", "eta", "J", "I")}
    expected = MontbrioPazoRoxinStep(5, **shared).derivative({k: state[k] for k in "rv"}, 0.0, **inputs)
    for name in "rv":
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-12)
    for name in "AB":
        np.testing.assert_array_equal(found[name], 0.0)


def test_gast_depression_rests_and_adaptation_bursts():
    rest = {
        k: v[-1] for k, v in mass_checks.trajectory(GastSchmidtKnoscheSDStep(1), 500.0, 0.01, 100).items()
    }
    # The slowest mode decays at about 0.1 /ms: nothing of the start is left. v = -Delta / (2 pi tau r) as without.
    assert rest["A"] == pytest.approx(0.5 * rest["r"], rel=1e-8)
    assert rest["v"] == pytest.approx(-2 / (2 * np.pi * rest["r"]), rel=1e-8)
    late = mass_checks.trajectory(GastSchmidtKnoscheSFStep(1), 500.0, 0.01, 10)["r"][2500:]
    assert late.min() < 0.2 and late.max() > 3.0
    bursts = np.count_nonzero((late[:-1] < 1.0) & (late[1:] >= 1.0))
    assert bursts >= 5


def test_dumont_gutkin_without_synapses_is_two_populations():
    weights = dict.fromkeys(("J_ee", "J_ei", "J_ie", "J_ii"), 0.0)
    node = DumontGutkinStep(1, tau_i=5.0, eta_i=1.0, **weights)
    found = mass_checks.trajectory(node, 100.0, 0.05, 20)
    for x, other in (("e", {}), ("i", {"tau": 5.0, "eta": 1.0})):
        alone = mass_checks.trajectory(MontbrioPazoRoxinStep(1, J=0.0, **other), 100.0, 0.05, 20)
        for name in "rv":  # compiled in another program, so roundings differ
            np.testing.assert_allclose(found[f"{name}_{x}"], alone[name], rtol=1e-9, atol=1e-12)


def test_dumont_gutkin_is_silent_by_default_and_oscillates_when_the_loop_is_closed():
    silent = mass_checks.trajectory(DumontGutkinStep(1), 500.0, 0.1, 10)["r_e"]
    assert np.ptp(silent[-100:]) < 1e-9 and silent[-1] < 0.01  # below 10 Hz
    closed = DumontGutkinStep(1, eta_e=10.0, J_ie=10.0, J_ii=0.0)
    late = mass_checks.trajectory(closed, 500.0, 0.02, 10)["r_e"][1000:]
    assert late.min() < 0.02 and late.max() > 0.4


def test_dumont_gutkin_input_reaches_both_populations():
    node = DumontGutkinStep(1, Gamma=3.0)
    state = node.initial_values()
    found, free = node.derivative(state, 0.0, rate=0.2), node.derivative(state)
    change = {k: float(found[k][0] - free[k][0]) for k in found}
    assert change.pop("s_ee") == pytest.approx(0.2) and change.pop("s_ie") == pytest.approx(0.6)
    assert set(change.values()) == {0.0}
