"""
Right-hand sides, fixed points, bifurcations, limit cycles, events and maps against the table of reference values.

What is found by a root of the derivative is exact to rounding; what is simulated says its step and why.
"""

from __future__ import annotations

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import cases, node, one

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from brainloom import HORNStep, Simulator, get_model
from brainloom.models.functions import wong_wang_transfer
from brainloom.models.inhibition import feedback_inhibition, isolated_fixed_point


@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("entry", cases("rhs"))
def test_derivative(entry, double):
    model = get_model(entry["model"])
    per_ms = 1e-3 if model.TIME_UNIT == "s" else 1.0
    with jax.enable_x64(double):
        state = {name: jnp.array([value]) for name, value in entry["state"].items()}
        for which, expected in entry["expected"].items():
            inputs = entry.get("inputs", {}) if which == "with_input" else {}
            found = node(entry).derivative(state, 0.0, **inputs)
            for name, value in expected.items():
                assert found[name].dtype == (np.float64 if double else np.float32)
                rtol = entry["tolerance"]["rtol" if double else "rtol_float32"]
                np.testing.assert_allclose(per_ms * found[name][0], value, rtol=rtol, err_msg=name)


# --- fixed points ------------------------------------------------------------------------------------------------


def sign_changes(f, low, high, n=4000):
    """All roots of a function of arrays, refined to rounding."""
    grid = np.linspace(low, high, n)
    value = np.asarray(f(jnp.asarray(grid)))
    at = np.flatnonzero(value[:-1] * value[1:] < 0)
    return [brentq(lambda x: float(f(jnp.array([x]))[0]), grid[k], grid[k + 1], xtol=1e-14) for k in at]


def jacobian(model, state):
    """Of one region, at a dict of scalars."""
    names = model.state_names()

    def f(flat):
        found = model.derivative({name: flat[k : k + 1] for k, name in enumerate(names)})
        return jnp.stack([found[name][0] for name in names])

    return jax.jacfwd(f)(jnp.stack([state[name] for name in names]))


@pytest.mark.parametrize("entry", cases("fixed_point", model="WongWangExcInhStep"))
def test_rest_of_an_excitatory_inhibitory_region(entry):
    model = node(entry)
    found = jax.jit(isolated_fixed_point)(model.parameter_values())
    names = {"S_e": "S_e", "S_i": "S_i", "I_e_nA": "x_e", "I_i_nA": "x_i", "r_e_Hz": "r_e", "r_i_Hz": "r_i"}
    for name, value in entry["expected"].items():
        np.testing.assert_allclose(found[names[name]], value, rtol=entry["tolerance"]["rtol"], err_msg=name)
    state = {name: jnp.reshape(found[name], (1,)) for name in ("S_e", "S_i")}
    slopes = model.derivative(state)
    assert max(abs(float(slope[0])) for slope in slopes.values()) < 1e-12  # rounding of terms of 4/s
    rates = [x.real for x in np.linalg.eigvals(jacobian(model, {k: v[0] for k, v in state.items()}))]
    assert max(rates) < 0  # "stable root"


@pytest.mark.parametrize("entry", cases("fixed_point", model="ReducedWongWangStep"))
def test_all_roots_of_a_reduced_region(entry):
    model = node(entry)
    slope = jax.jit(lambda s: model.derivative({"S": s})["S"])
    roots = sign_changes(slope, 0.0, 1.0)
    np.testing.assert_allclose(roots, entry["expected"]["S"], rtol=0, atol=entry["tolerance"]["atol"])


@pytest.mark.parametrize("entry", cases("fixed_point", model="MontbrioPazoRoxinStep"))
def test_fixed_point_of_the_exact_mean_field(entry):
    model, expected = node(entry), entry["expected"]

    # v = -Delta / (2 pi r tau) leaves one equation in r; here with tau = 1 and Delta = 1
    @jax.jit
    def slope(r):
        return model.derivative({"r": r, "v": -1.0 / (2.0 * np.pi * r)})["v"]

    roots = sign_changes(slope, 1e-3, 3.0)
    r = min(roots, key=lambda x: abs(x - expected["r"]))
    state = {"r": r, "v": -1.0 / (2.0 * np.pi * r)}
    atol = entry["tolerance"]["atol"]
    np.testing.assert_allclose(list(state.values()), [expected["r"], expected["v"]], rtol=0, atol=atol)
    assert abs(float(model.derivative({k: jnp.array([x]) for k, x in state.items()})["r"][0])) < 1e-12
    rates = sorted(
        np.linalg.eigvals(jacobian(model, {k: jnp.asarray(x) for k, x in state.items()})),
        key=lambda x: (-x.real, x.imag),
    )
    wanted = [complex(*pair) for pair in expected["eigenvalues"]]
    np.testing.assert_allclose(rates, wanted, rtol=0, atol=entry["tolerance"]["atol_eig"])


def jansen_rit_state(model, v):
    """The state with y1 - y2 = v in which every equation but that of y4 is at rest; v an array."""
    v = jnp.asarray(v)
    zero = jnp.zeros_like(v)
    a, b = model.a, model.b
    state = dict.fromkeys(model.state_names(), zero) | {"y1": v}
    # the derivatives of y3 and y5 are linear in y0 and y2
    y0 = model.derivative(state)["y3"] / a**2
    y2 = model.derivative(state | {"y0": y0})["y5"] / b**2
    return state | {"y0": y0, "y1": v + y2, "y2": y2}


@pytest.mark.parametrize("entry", cases("fixed_point", model="JansenRitStep"))
def test_all_equilibria_of_jansen_rit(entry):
    model = node(entry)
    slope = jax.jit(lambda v: model.derivative(jansen_rit_state(model, v))["y4"])
    roots = sign_changes(slope, -5.0, 15.0)
    expected = entry["expected"]["y1_minus_y2_mV"]
    np.testing.assert_allclose(roots, expected, rtol=0, atol=entry["tolerance"]["atol"])


@pytest.mark.parametrize("entry", cases("bifurcation", model="JansenRitStep"))
def test_bifurcations_of_jansen_rit(entry):
    model = node(entry, p=0.0)
    gain = model.A * model.a

    @jax.jit
    def input_at(v):
        """The input p that makes y1 - y2 = v an equilibrium."""
        return -model.derivative(jansen_rit_state(model, v))["y4"] / gain

    @jax.jit
    @jax.vmap
    def spectrum(v):
        # p is constant, so it leaves the Jacobian alone
        return jnp.linalg.eigvals(jacobian(model, jansen_rit_state(model, v)))

    def leading_pair(v):
        """The complex eigenvalue that lies furthest right."""
        values = np.asarray(spectrum(jnp.atleast_1d(v)))
        return np.array([max((x for x in row if x.imag > 1e-9), key=lambda x: x.real) for row in values])

    expected, tolerance = entry["expected"], entry["tolerance"]
    grid = np.linspace(-2.0, 12.0, 1401)
    p = np.asarray(input_at(jnp.asarray(grid)))
    folds = []
    for k in range(1, len(grid) - 1):
        sign = 1.0 if p[k] > max(p[k - 1], p[k + 1]) else -1.0 if p[k] < min(p[k - 1], p[k + 1]) else 0.0
        if sign:
            fit = minimize_scalar(
                lambda v, sign=sign: -sign * input_at(jnp.array([v]))[0],
                bounds=grid[[k - 1, k + 1]],
                method="bounded",
                options={"xatol": 1e-8},
            )
            folds.append(float(input_at(jnp.array([fit.x]))[0]))
    crossings = sign_changes(lambda v: leading_pair(v).real, -2.0, 12.0, 1401)
    hopf = {float(input_at(jnp.array([v]))[0]): leading_pair(v)[0].imag / (2.0 * np.pi) for v in crossings}
    # the table lists those at which oscillations begin; there is another fold and another Hopf point
    for value in expected["saddle_node_p"]:
        assert min(abs(value - x) for x in folds) < tolerance["atol_p"], folds
    for value, frequency in zip(expected["hopf_p"], expected["hopf_frequency_hz"], strict=True):
        nearest = min(hopf, key=lambda x: abs(value - x))
        assert abs(nearest - value) < tolerance["atol_p"], hopf
        assert abs(hopf[nearest] - frequency) < tolerance["atol_hz"], hopf


@pytest.mark.parametrize("entry", cases("fic"))
def test_feedback_inhibition(entry):
    model = node(entry, 2)
    pair = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    rest = jax.jit(isolated_fixed_point)(model.parameter_values())
    solve = jax.jit(lambda gain: feedback_inhibition(model, pair, gain))
    for key, expected in entry["expected"].items():
        found = solve(float(key))
        np.testing.assert_allclose(found, [expected] * 2, rtol=entry["tolerance"]["rtol"])
        state = {name: jnp.broadcast_to(rest[name], (2,)) for name in ("S_e", "S_i")}
        held = node(entry, 2, J_i=found).derivative(state, 0.0, excitatory_gating=float(key) * state["S_e"])
        assert max(float(jnp.abs(slope).max()) for slope in held.values()) < 1e-12


# --- functions and maps --------------------------------------------------------------------------------------------

# Every Wong-Wang model: the port that moves its argument, its rate, and the names of a and d.
TRANSFERS = {
    "WongWangStep": ("current_1", "r1", "a", "d"),
    "ReducedWongWangStep": ("current", "rate", "a", "d"),
    "WongWangExcInhStep": ("current_e", "r_e", "a_e", "d_e"),
}


@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("entry", cases("transfer_function"))
def test_transfer_function_at_its_singularity(entry, double):
    expected, d = entry["expected"], entry["parameters"]["d"]
    rtol = entry["tolerance"]["rtol_float64" if double else "rtol_float32"]
    with jax.enable_x64(double):

        def h(y):
            return wong_wang_transfer(y, jnp.ones(()), jnp.zeros(()), jnp.asarray(d))

        y = jnp.array([0.0, 1e-7, -1e-7, 1e-5, -1e-5, 1e-3, -1e-3])
        value, slope, bend = jax.jit(jax.vmap(lambda y: (h(y), jax.grad(h)(y), jax.grad(jax.grad(h))(y))))(y)
        assert value.dtype == (np.float64 if double else np.float32)
        # the series around y = 0, good to y^4
        z = d * np.asarray(y, float)
        wanted = expected["H_at_y0"] * (1.0 + z / 2.0 + z**2 / 12.0)
        np.testing.assert_allclose(value, wanted, rtol=rtol)
        np.testing.assert_allclose(slope, expected["dH_dy_at_y0"] + z / 6.0, rtol=rtol)
        np.testing.assert_allclose(bend[0], expected["d2H_dy2_at_y0"], rtol=rtol)
        assert np.isfinite(bend).all()


@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", TRANSFERS)
def test_rates_of_models_at_the_singularity(name, double):
    current, rate, *constants = TRANSFERS[name]
    with jax.enable_x64(double):
        model = get_model(name)(1)
        p = model.parameter_values()
        a, d = (p[key] for key in constants)
        state = {s: jnp.array([0.1]) for s in model.state_names()}
        observable = model.observables()[rate].function

        def measured(x):
            return observable(p, state, {current: jnp.reshape(x, (1,))})[0]

        # y = a x - b moves with the current at the rate a, and far above threshold H(y) = y: that locates y = 0
        zero = 10.0 - measured(10.0) / a
        y = np.array([0.0, 1e-7, -1e-7, 1e-5, -1e-5, 1e-3, -1e-3])
        x = zero + jnp.asarray(y) / a
        value, slope = jax.jit(jax.vmap(jax.value_and_grad(measured)))(x)
        # rounding of a x and b in float32, 1e-7 of 3000 Hz, moves y by 3e-4 and H by half of it
        wanted = 1.0 / d + y / 2.0 + d * y**2 / 12.0
        np.testing.assert_allclose(value, wanted, rtol=1e-9 if double else 1e-4)
        np.testing.assert_allclose(slope / a, 0.5 + d * y / 6.0, rtol=1e-9 if double else 1e-4)
        slopes = jax.jit(lambda x: model.derivative(state, 0.0, **{current: x}))(x)
        assert all(np.isfinite(slope).all() for slope in slopes.values())


@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("entry", one("horn_map"))
def test_map_of_oscillators(entry, double):
    drive = np.zeros((30, 3))
    drive[:5] = [1.0, 0.5, -0.3]
    with jax.enable_x64(double):
        model = HORNStep(3, **{name: np.asarray(v) for name, v in entry["parameters"].items()})
        x = np.asarray(Simulator(model, 1.0).run(30.0, inputs=drive, monitors=["x"])["x"])
    for step, expected in entry["expected"]["x_after"].items():
        rtol = entry["tolerance"]["rtol" if double else "rtol_float32"]
        np.testing.assert_allclose(x[int(step) - 1], expected, rtol=rtol)


# --- limit cycles and events ---------------------------------------------------------------------------------------


def upward_crossings(t, x, level):
    """Times at which a signal rises through a level, by linear interpolation."""
    at = np.flatnonzero((x[:-1] < level) & (x[1:] >= level))
    return t[at] + (level - x[at]) / (x[at + 1] - x[at]) * (t[at + 1] - t[at])


@pytest.mark.parametrize("entry", cases("limit_cycle", model="HopfStep"))
def test_amplitude_of_a_normal_form(entry):
    found = Simulator(node(entry), 0.1, method="rk4").run(200.0, monitors=["x", "y"], transient=150.0)
    radius = np.hypot(found["x"], found["y"])
    np.testing.assert_allclose(radius, entry["expected"]["amplitude"], rtol=entry["tolerance"]["rtol"])


@pytest.mark.parametrize("entry", cases("limit_cycle", model="JansenRitStep"))
def test_alpha_rhythm(entry):
    # at 0.2 ms rk4 is good to 1e-7, and the top of a wave of 91 ms lies within 2e-5 of a sample
    found = Simulator(node(entry), 2e-4 * u.second, method="rk4").run(
        8.0 * u.second, monitors=["eeg"], transient=3.0 * u.second
    )
    t, eeg = np.asarray(found["ts"].to_decimal(u.second)), np.asarray(found["eeg"].to_decimal(u.mV))[:, 0]
    rises = upward_crossings(t, eeg, eeg.mean())
    frequency = (len(rises) - 1) / (rises[-1] - rises[0])
    expected, rtol = entry["expected"], entry["tolerance"]["rtol"]
    np.testing.assert_allclose(
        [frequency, eeg.max()], [expected["frequency_hz"], expected["eeg_max_mV"]], rtol=rtol
    )


@pytest.mark.parametrize("entry", cases("event", model="EpileptorStep"))
def test_seizure_onset(entry):
    # the recommended step; a fold is passed slowly before the onset, and rk4 times it to 1e-4
    found = Simulator(node(entry), 0.05, method="rk4").run(1500.0, monitors=["x1"])
    t, x1 = np.asarray(found["ts"].to_decimal(u.ms)), np.asarray(found["x1"])[:, 0]
    onsets, expected = upward_crossings(t, x1, 0.0), entry["expected"]
    assert (len(onsets) > 0) == expected["seizes"]
    if expected["seizes"]:
        first = expected["first_upward_zero_crossing_of_x1"]
        np.testing.assert_allclose(onsets[0], first, rtol=entry["tolerance"]["rtol"])
