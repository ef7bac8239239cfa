"""Larter-Breakspear region against its equations, its slow oscillation and its chaos."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.larter_breakspear import LarterBreakspearStep

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import mass_checks
import numpy as np
import pytest

from brainloom import integrate
from brainloom.core.units import UnitError

STATE = {"V": jnp.array([0.2]), "W": jnp.array([0.3]), "Z": jnp.array([0.15])}


def larter_breakspear(p, s, u):
    v, w, z = s["V"], s["W"], s["Z"]

    def m(k):
        return 0.5 * (1 + np.tanh((v - p["T" + k]) / p["d_" + k]))

    q_v = 0.5 * p["QV_max"] * (1 + np.tanh((v - p["VT"]) / p["d_V"]))
    q_z = 0.5 * p["QZ_max"] * (1 + np.tanh((z - p["ZT"]) / p["d_Z"]))
    x = (1 - p["C"]) * q_v + p["C"] * u["excitatory_rate"]
    slope = -(p["gCa"] + p["rNMDA"] * p["aee"] * x) * m("Ca") * (v - p["VCa"])
    slope = slope - p["gK"] * w * (v - p["VK"]) - p["gL"] * (v - p["VL"])
    slope = slope - (p["gNa"] * m("Na") + p["aee"] * x) * (v - p["VNa"])
    slope = slope - p["aie"] * z * q_z + p["ane"] * p["I_ext"]
    return {
        "V": p["t_scale"] * slope,
        "W": p["t_scale"] * p["phi"] * (m("K") - w) / p["tau_K"],
        "Z": p["t_scale"] * p["b"] * (p["ani"] * p["I_ext"] + p["aei"] * v * q_v),
    }


def test_equations_and_batches():
    mass_checks.check_rhs(LarterBreakspearStep, larter_breakspear)
    mass_checks.check_one_by_one(LarterBreakspearStep)


def test_derivatives_in_every_parameter_state_and_port():
    mass_checks.check_gradients(LarterBreakspearStep, larter_breakspear)


def test_single_precision_stays_finite():
    mass_checks.check_finite_float32(LarterBreakspearStep)


def test_trajectory():
    # Three times the errors seen; ten times smaller steps give the 1e4 of fourth order.
    mass_checks.check_trajectory(LarterBreakspearStep, larter_breakspear, 50.0, LarterBreakspearStep.DT, 1e-4)
    mass_checks.check_trajectory(LarterBreakspearStep, larter_breakspear, 50.0, 0.01, 1e-8)


def test_default_has_a_large_slow_oscillation():
    v = mass_checks.trajectory(LarterBreakspearStep(1), 2000.0, 0.05)["V"][4000:]
    np.testing.assert_allclose([v.min(), v.max()], [-0.516, 0.365], atol=1e-3)
    assert np.ptp(v[-4000:]) > 0.8  # still there after 1800 units of time: no fixed point


def largest_exponent(node, duration=3000.0, dt=0.1):
    """Growth of a tangent vector per unit of time, after a transient of a third of the run."""
    params = node.parameter_values()

    def advance(state):
        return integrate.deterministic_step("rk4", lambda s, t: node.rhs(params, s, {}, t), state, 0.0, dt)

    def step(carry, _):
        state, tangent = jax.jvp(advance, (carry[0],), (carry[1],))
        size = jnp.sqrt(sum(x * x for x in tangent.values()))
        return (state, {k: x / size for k, x in tangent.items()}), jnp.log(size)

    start = node.initial_values()
    steps = round(duration / dt)
    _, growth = jax.jit(lambda c: jax.lax.scan(step, c, None, steps))((start, STATE))
    return float(jnp.sum(growth[steps // 3 :])) / (duration * 2 / 3)


def test_chaotic_preset():
    # 0.011 and 0 in runs ten times as long; within a run of this length they scatter by 0.002.
    assert largest_exponent(LarterBreakspearStep(1, **LarterBreakspearStep.PRESETS["chaotic"])) > 0.006
    assert abs(largest_exponent(LarterBreakspearStep(1))) < 0.003


def test_what_is_sent_is_the_rate_and_inhibition_is_negative():
    node = LarterBreakspearStep(1, init_V=0.2)
    node.init_state()
    for name in ("source", "bold", "excitatory_rate"):
        assert float(node.observe(name)[0]) == pytest.approx(0.5 * (1 + np.tanh(0.2 / 0.65)), rel=1e-14)
    assert float(node.eeg()[0]) == 0.2
    weak, strong = (float(LarterBreakspearStep(1, aie=aie).derivative(STATE)["V"][0]) for aie in (0.0, 2.0))
    assert strong - weak == pytest.approx(-2.0 * 0.15 * 0.5 * (1 + np.tanh(0.15 / 0.7)), rel=1e-12)


def test_coupling_takes_the_place_of_own_excitation():
    """A neighbour in the same state as the region changes nothing, whatever the share of its input."""
    rate = LarterBreakspearStep.observables()["source"].function(
        LarterBreakspearStep(1).parameter_values(), STATE
    )
    alone = LarterBreakspearStep(1, C=0.0).derivative(STATE)
    for share in (0.1, 1.0):
        coupled = LarterBreakspearStep(1, C=share).derivative(STATE, 0.0, rate)
        for name in STATE:
            np.testing.assert_allclose(coupled[name], alone[name], rtol=1e-13)


def test_time_and_units():
    plain = LarterBreakspearStep(1).derivative(STATE)
    for node in (LarterBreakspearStep(1, t_scale=0.25), LarterBreakspearStep(1, t_scale=250.0 / u.second)):
        for name, slope in node.derivative(STATE).items():
            np.testing.assert_allclose(slope, 0.25 * plain[name], rtol=1e-13)
    seconds = LarterBreakspearStep(1, time_unit="s", t_scale=0.25 / u.ms)
    assert float(seconds.parameter_values()["t_scale"]) == pytest.approx(250.0)
    with pytest.raises(
        UnitError, match="t_scale of LarterBreakspearStep is given in mV, but it is needed in 1/ms"
    ):
        LarterBreakspearStep(1, t_scale=1.0 * u.mV)
