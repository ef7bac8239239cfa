"""Jansen-Rit column against its equations, its published rhythm and its bifurcations."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.jansen_rit import JansenRitStep

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import mass_checks
import numpy as np
import pytest
from scipy.optimize import brentq

from brainloom import integrate
from brainloom.core.units import UnitError

NAMES = JansenRitStep.state_names()
DEFAULTS = {p.name: p.default for p in JansenRitStep.PARAMETERS}


def rate(p, v):
    return 2 * p["e0"] / (1 + np.exp(p["r"] * (p["v0"] - v)))


def jansen_rit(p, s, u):
    drive = p["p"] + u["rate"] + p["c2"] * p["C"] * rate(p, p["c1"] * p["C"] * s["y0"])
    inhibition = p["c4"] * p["C"] * rate(p, p["c3"] * p["C"] * s["y0"]) + u["rate_inhibitory"]
    pyramidal = rate(p, s["y1"] - s["y2"] + u["membrane"])
    return {
        "y0": s["y3"],
        "y1": s["y4"],
        "y2": s["y5"],
        "y3": p["A"] * p["a"] * pyramidal - 2 * p["a"] * s["y3"] - p["a"] ** 2 * s["y0"],
        "y4": p["A"] * p["a"] * drive - 2 * p["a"] * s["y4"] - p["a"] ** 2 * s["y1"],
        "y5": p["B"] * p["b"] * inhibition - 2 * p["b"] * s["y5"] - p["b"] ** 2 * s["y2"],
    }


def equilibrium(v, p=DEFAULTS):
    """The input p that holds ``y1 - y2`` at v, and the state there."""
    y0 = p["A"] / p["a"] * rate(p, v)
    y2 = p["B"] / p["b"] * p["c4"] * p["C"] * rate(p, p["c3"] * p["C"] * y0)
    drive = (v + y2) * p["a"] / p["A"] - p["c2"] * p["C"] * rate(p, p["c1"] * p["C"] * y0)
    return drive, {"y0": y0, "y1": v + y2, "y2": y2, "y3": 0.0, "y4": 0.0, "y5": 0.0}


def eigenvalues(v):
    drive, state = equilibrium(v)
    return np.linalg.eigvals(mass_checks.jacobian(JansenRitStep(1, p=drive), state))


def test_equations_and_batches():
    mass_checks.check_rhs(JansenRitStep, jansen_rit)
    mass_checks.check_one_by_one(JansenRitStep)


def test_derivatives_in_every_parameter_state_and_port():
    mass_checks.check_gradients(JansenRitStep, jansen_rit)


def test_single_precision_stays_finite():
    mass_checks.check_finite_float32(JansenRitStep)


def test_trajectory():
    # Fourth order with steps of 1/10 of the fastest time constant; four times the error seen.
    mass_checks.check_trajectory(JansenRitStep, jansen_rit, 0.5, JansenRitStep.DT, 1e-5)


def test_equilibria():
    values = np.linspace(-5, 15, 400)
    drives, states = equilibrium(values)
    node = JansenRitStep(400, p=drives)
    for name, slope in node.derivative(states).items():
        np.testing.assert_allclose(slope, 0.0, atol=1e-8, err_msg=name)  # terms of the size 1e5
    for p, expected in (
        (50.0, [-0.26162491299904, 4.0605599872114, 6.47015376394506]),
        (220.0, [7.52028995096594]),
    ):
        past = drives > p
        change = np.flatnonzero(past[1:] != past[:-1])
        roots = [brentq(lambda v, p=p: equilibrium(v)[0] - p, values[k], values[k + 1]) for k in change]
        np.testing.assert_allclose(roots, expected, atol=1e-6)


def test_bifurcations():
    # Saddle-node: an eigenvalue passes 0, where the determinant of the Jacobian changes sign.
    fold = brentq(lambda v: np.prod(eigenvalues(v)).real, 0.5, 3.0, xtol=1e-9)
    assert equilibrium(fold)[0] == pytest.approx(113.58627316779, abs=1e-3)

    # Hopf: on the upper branch the complex pair with the largest real part passes the imaginary axis.
    def growth(v):
        found = eigenvalues(v)
        return found[np.abs(found.imag) > 10].real.max()

    hopf = brentq(growth, 6.5, 7.4, xtol=1e-9)
    assert equilibrium(hopf)[0] == pytest.approx(89.8291079696448, abs=1e-3)
    found = eigenvalues(hopf)
    pair = found[np.abs(found.real) < 1e-4]
    assert len(pair) == 2
    np.testing.assert_allclose(np.abs(pair.imag) / (2 * np.pi), 10.3771, atol=1e-3)


def test_alpha_rhythm():
    path = mass_checks.trajectory(JansenRitStep(1), 8.0, 1e-3)
    v = (path["y1"] - path["y2"])[2999:]
    centred = v - v.mean()
    up = np.flatnonzero((centred[:-1] < 0) & (centred[1:] >= 0))
    crossings = up - centred[up] / (centred[up + 1] - centred[up])
    # 54 periods; the peak is between samples of 1/90 of a period.
    assert 1e3 / np.diff(crossings).mean() == pytest.approx(10.9375949443775, rel=2e-4)
    assert v.max() == pytest.approx(9.04142137468608, rel=2e-4)


def test_start_is_no_fixed_point_and_the_rate_is_what_is_sent():
    node = JansenRitStep(1)
    slope = node.derivative(node.initial_values())
    assert float(slope["y4"][0]) > 1e4 and float(slope["y3"][0]) > 10
    node = JansenRitStep(2, init_y1=np.array([12.0, 6.0]), init_y2=np.array([2.0, 0.0]))
    node.init_state()
    expected = 5.0 / (1 + np.exp(0.56 * (6.0 - np.array([10.0, 6.0]))))
    for name in ("source", "bold", "firing_rate"):
        np.testing.assert_allclose(node.observe(name).to_decimal(u.Hz), expected, rtol=1e-14)
    for name in ("eeg", "potential"):
        np.testing.assert_allclose(node.observe(name).to_decimal(u.mV), [10.0, 6.0], rtol=1e-14)


def test_ports_by_their_units():
    node, state = JansenRitStep(1), {k: jnp.full(1, 0.3) for k in NAMES}
    free = node.derivative(state)
    by_place = node.derivative(state, 0.0, 20.0 / u.second)
    assert float((by_place["y4"] - free["y4"])[0]) == pytest.approx(3.25 * 100 * 20, rel=1e-12)
    given = node.derivative(state, 0.0, rate_inhibitory=0.01 / u.ms)
    assert float((given["y5"] - free["y5"])[0]) == pytest.approx(22 * 50 * 10, rel=1e-12)
    with pytest.raises(
        UnitError, match="the input rate of JansenRitStep is given in mV, but it is needed in Hz"
    ):
        node.derivative(state, 0.0, 2.0 * u.mV)
    with pytest.raises(UnitError, match="the input membrane of JansenRitStep is given in Hz"):
        node.derivative(state, 0.0, membrane=2.0 * u.Hz)
    with pytest.raises(ValueError, match="JansenRitStep is written in s, not 'ms'"):
        JansenRitStep(1, time_unit="ms")
    assert float(JansenRitStep(1, a=0.1 / u.ms).parameter_values()["a"]) == pytest.approx(100.0)


def test_gradient_of_the_potential_after_a_run():
    node = JansenRitStep(1)
    values = node.parameter_values()

    def potential(contacts):
        def step(state, _):
            def field(s, t):
                return node.rhs(values | {"C": contacts}, s, {}, t)

            return integrate.deterministic_step("rk4", field, state, 0.0, 2e-4), None

        state, _ = jax.lax.scan(step, node.initial_values(), None, 1000)
        return (state["y1"] - state["y2"])[0]

    value, slope = jax.jit(jax.value_and_grad(potential))(jnp.asarray(135.0))
    # Central differences of the exact solution.
    assert float(value) == pytest.approx(9.77813144172455, rel=1e-6)
    assert float(slope) == pytest.approx(0.377936611106048, rel=1e-5)
