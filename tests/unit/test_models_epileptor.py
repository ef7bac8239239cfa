"""Epileptors in six and two variables and at codimension 3: equations, onset, recruitment, bursts."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.epileptor import Epileptor2DStep, EpileptorStep
from brainloom.models.epileptor_codim3 import EpileptorCodim3Step, resting_root

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import mass_checks
import numpy as np
import pytest

from brainloom import integrate
from brainloom.core.units import UnitError


def permittivity(p, x1, z, bounded=True):
    linear = p["s"] * (x1 - p["x0"]) - np.where((z < 0) & bounded, 0.1 * z**7, 0.0)
    return np.where(p["modification"] > 0.5, p["x0"] + 3 / (1 + np.exp(-(x1 + 0.5) / 0.1)), linear)


def epileptor(p, s, u):
    x1, y1, z, x2, y2, g = (s[k] for k in ("x1", "y1", "z", "x2", "y2", "g"))
    tt = p["tt"]
    f1 = np.where(x1 < 0, p["a"] * x1**3 - p["b"] * x1**2, (x2 - 0.6 * (z - 4) ** 2 - p["slope"]) * x1)
    f2 = np.where(x2 < -0.25, 0.0, p["aa"] * (x2 + 0.25))
    h = permittivity(p, x1, z)
    return {
        "x1": tt * (y1 - f1 - z + p["I_ext"] + p["Kvf"] * u["fast_x1"]),
        "y1": tt * (p["c"] - p["d"] * x1**2 - y1),
        "z": tt * p["r"] * (h - z - p["Ks"] * u["slow_x1"]),
        "x2": tt * (-y2 + x2 - x2**3 + p["I_ext2"] + p["bb"] * g - 0.3 * (z - 3.5) + p["Kf"] * u["fast_x2"]),
        "y2": tt * (-y2 + f2) / p["tau"],
        "g": -0.01 * tt * (g - 0.1 * x1),
    }


def planar(p, s, u):
    x, z, cubic = s["x1"], s["z"], p["cubic"] > 0.5
    left = p["a"] * x**2 + (p["d"] - p["b"]) * x
    right = -p["slope"] - 0.6 * (z - 4) ** 2 + p["d"] * x
    f = np.where((x < 0) | cubic, left, right)
    h = permittivity(p, x, z, ~cubic)
    return {
        "x1": p["tt"] * (p["c"] - z + p["I_ext"] + p["Kvf"] * u["fast_x1"] - f * x),
        "z": p["tt"] * p["r"] * (h - z - p["Ks"] * u["slow_x1"]),
    }


def rest_of(mu1, mu2):
    return np.array(
        [np.roots([1.0, 0.0, -b, -a]).real.max() for a, b in zip(np.ravel(mu1), np.ravel(mu2), strict=True)]
    )


def codim3(p, s, u):
    x, y, z = s["x"], s["y"], s["z"]
    one = np.ones(np.broadcast(x, *p.values()).shape)
    a = np.stack([p["mu2_start"] * one, -p["mu1_start"] * one, p["nu_start"] * one], -1)
    b = np.stack([p["mu2_stop"] * one, -p["mu1_stop"] * one, p["nu_stop"] * one], -1)
    e = a / np.linalg.norm(a, axis=-1, keepdims=True)
    f = np.cross(np.cross(a, b), a)
    f = f / np.linalg.norm(f, axis=-1, keepdims=True)
    on_arc = np.asarray(p["R"] * one)[..., None] * (
        e * np.cos(z * one)[..., None] + f * np.sin(z * one)[..., None]
    )
    mu2, mu1, nu = on_arc[..., 0], -on_arc[..., 1], on_arc[..., 2]
    xs = rest_of(mu1, mu2).reshape(one.shape)
    kept = np.where(p["modification"] > 0.5, 0.1 * (z - 0.5) ** 7, 0.0)
    return {
        "x": -y * one,
        "y": x**3 - mu2 * x - mu1 - y * (nu + p["b"] * x + x**2),
        "z": -p["c"] * (np.sqrt((x - xs) ** 2 + y**2) - p["dstar"] + kept + p["Ks"] * u["slow_x"]),
    }


# Model, equations, and a run: duration, step, and the largest error of RK4 relative to the state's size. In six
# variables x2 passes -0.25, where the slope of y2 breaks: the step across it is of lower order.
CASES = [
    (EpileptorStep, epileptor, 200.0, 0.05, 1e-4),
    (Epileptor2DStep, planar, 200.0, 0.05, 1e-6),
    (EpileptorCodim3Step, codim3, 100.0, 0.1, 1e-5),
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


def test_time_can_be_in_ms_or_s_and_wrong_units_are_refused():
    np.testing.assert_allclose(EpileptorStep(1, tt=2.0 / u.second).parameter_values()["tt"], 2e-3, rtol=1e-12)
    np.testing.assert_allclose(EpileptorStep(1, time_unit="s", tt=2.0 / u.ms).parameter_values()["tt"], 2e3)
    with pytest.raises(UnitError, match=r"tt of EpileptorStep is given in ms.* needed in 1/ms"):
        EpileptorStep(1, tt=1.0 * u.ms)


def test_local_field_potential():
    state = {name: jnp.array([0.1 * k]) for k, name in enumerate(EpileptorStep.state_names(), 1)}
    found = EpileptorStep.observables()
    for name in ("lfp", "eeg", "bold"):
        np.testing.assert_allclose(found[name].function({}, state), [0.4 - 0.1], rtol=1e-12)
    np.testing.assert_array_equal(found["source"].function({}, state), state["x1"])


def run(model, weights=None, duration=1500.0, dt=0.05, every=4):
    """x1 (time, region) from the documented start; `weights` couple x1 to the permittivity by differences."""
    params, start = model.parameter_values(), model.initial_values()

    def field(state, t):
        x = state["x1"]
        ports = {} if weights is None else {"slow_x1": weights @ x - weights.sum(1) * x}
        return model.rhs(params, state, ports, t)

    def step(_, state):
        return integrate.deterministic_step("rk4", field, state, 0.0, dt)

    def frame(state, _):
        state = jax.lax.fori_loop(0, every, step, state)
        return state, state["x1"]

    return np.asarray(jax.jit(lambda s: jax.lax.scan(frame, s, None, round(duration / dt / every))[1])(start))


def onset(x, dt=0.2):
    """Time of the first upward zero crossing of each region, linear between samples; NaN without."""
    up = (x[:-1] < 0) & (x[1:] >= 0)
    at = np.argmax(up, axis=0)
    low, high = np.take_along_axis(x, at[None], 0)[0], np.take_along_axis(x, at[None] + 1, 0)[0]
    return np.where(up.any(0), dt * (1 + at - low / (high - low)), np.nan)


def test_onset_depends_on_excitability():
    found = onset(run(EpileptorStep(3, x0=np.array([-1.6, -2.4, -1.2]))))
    # Two adaptive solvers give 604.3036; sampled every 0.2 with upstrokes of a few time units.
    np.testing.assert_allclose(found[0], 604.30364266933, rtol=1e-4)
    assert np.isnan(found[1]) and found[2] < found[0]


def test_permittivity_coupling_recruits():
    x0 = np.array([-1.6, -2.2])
    towards_second = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    for model in (EpileptorStep, Epileptor2DStep):
        state = {s.name: jnp.full(2, s.initial) for s in model.STATES}
        free, driven = (model(2, Ks=k).derivative(state, 0.0, slow_x1=1.0)["z"] for k in (0.0, 1.0))
        assert np.all(driven < free)  # a neighbour that is further up lowers the permittivity
        alone = onset(run(model(2, x0=x0, Ks=0.0), towards_second))
        coupled = onset(run(model(2, x0=x0, Ks=1.0), towards_second))
        assert np.isnan(alone[1]) and coupled[1] > coupled[0] == alone[0]


def test_sigmoid_permittivity_comes_and_goes():
    x = run(EpileptorStep(2, x0=np.array([2.0, 3.1]), modification=1.0), duration=8000.0)
    seizing = x.reshape(-1, 500, 2).max(1) > 0.5  # in windows of 100 time units
    assert not seizing[:, 1].any()
    assert (
        np.sum(np.diff(seizing[:, 0].astype(int)) == 1) >= 2
        and np.sum(np.diff(seizing[:, 0].astype(int)) == -1) >= 1
    )


def test_two_variables_are_the_six_with_recovery_on_its_nullcline():
    rng = np.random.default_rng(0)
    x1, z = rng.uniform(-2.0, 1.5, 50), rng.uniform(2.5, 4.5, 50)
    rest = {"x2": np.zeros(50), "y2": np.zeros(50), "g": np.zeros(50)}
    full = EpileptorStep(50).derivative({"x1": x1, "y1": 1.0 - 5.0 * x1**2, "z": z} | rest)
    small = Epileptor2DStep(50).derivative({"x1": x1, "z": z})
    for name in ("x1", "z"):
        np.testing.assert_allclose(small[name], full[name], rtol=1e-10, atol=1e-13)
    assert np.abs(full["y1"]).max() < 1e-13  # a rounding of numbers up to 20


def test_form_of_the_virtual_epileptic_patient():
    rng = np.random.default_rng(1)
    x, z, arriving = rng.uniform(-2.5, 1.5, 50), rng.uniform(-1.0, 5.0, 50), rng.normal(size=50)
    node = Epileptor2DStep.vep(50, I1=3.2, tau0=10.0, x0=np.linspace(-3.0, -1.5, 50), K=0.7)
    found = node.derivative({"x1": x, "z": z}, 0.0, arriving)
    np.testing.assert_allclose(found["x1"], 1 - x**3 - 2 * x**2 - z + 3.2, rtol=1e-12, atol=1e-13)
    x0 = np.linspace(-3.0, -1.5, 50)
    np.testing.assert_allclose(found["z"], (4 * (x - x0) - z - 0.7 * arriving) / 10.0, rtol=1e-12, atol=1e-13)
    assert isinstance(node, Epileptor2DStep) and Epileptor2DStep.vep(2).method == "exp_euler"
    seizing = np.nanmax(run(Epileptor2DStep.vep(2, x0=np.array([-1.6, -2.4]), tau0=10.0)), axis=0) > 0
    np.testing.assert_array_equal(seizing, [True, False])


# --- codimension 3 ------------------------------------------------------------------------------------------


def test_resting_state_is_continuous_through_the_fold():
    rng = np.random.default_rng(2)
    mu1, mu2 = rng.uniform(-0.4, 0.4, 3000), rng.uniform(-0.4, 0.5, 3000)
    expected = rest_of(mu1, mu2)
    np.testing.assert_allclose(jax.jit(resting_root)(mu1, mu2), expected, rtol=1e-10, atol=1e-12)
    single = jax.jit(resting_root)(jnp.asarray(mu1, jnp.float32), jnp.asarray(mu2, jnp.float32))
    np.testing.assert_allclose(single, expected, atol=3e-7)  # two roundings of numbers up to 1
    # Through the double root 2 (0.1)^3, where a real root ends: the square root of the step is the change.
    at = 3 * 0.1**2
    both = resting_root(jnp.array([-2 * 0.1**3 - 1e-9, -2 * 0.1**3 + 1e-9]), jnp.array([at, at]))
    np.testing.assert_allclose(both, 0.1, atol=2e-4)
    np.testing.assert_array_equal(resting_root(jnp.zeros(2), jnp.array([0.0, -0.3])), 0.0)


def test_derivatives_of_the_resting_state():
    rng = np.random.default_rng(3)
    mu1, mu2 = rng.uniform(-0.3, 0.3, 400), rng.uniform(-0.2, 0.4, 400)
    away = np.abs(mu1**2 / 4 - mu2**3 / 27) > 1e-3  # from the fold, where the derivative has no bound
    mu1, mu2, step = mu1[away], mu2[away], 1e-6
    for k, moved in enumerate((np.array([step, 0.0]), np.array([0.0, step]))):
        found = jax.vmap(jax.grad(resting_root, k))(mu1, mu2)
        expected = (rest_of(mu1 + moved[0], mu2 + moved[1]) - rest_of(mu1 - moved[0], mu2 - moved[1])) / (
            2 * step
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)  # roots are good to 1e-14 / step
    second = jax.vmap(jax.grad(jax.grad(resting_root)))(mu1, mu2)
    high, low = (jax.vmap(jax.grad(resting_root))(mu1 + sign * step, mu2) for sign in (1, -1))
    np.testing.assert_allclose(second, (high - low) / (2 * step), rtol=1e-4, atol=1e-6)
    at_fold = jax.grad(resting_root, (0, 1))(jnp.float32(-0.002), jnp.float32(0.03))
    assert np.all(np.isfinite(at_fold)) and np.all(np.isfinite(jax.grad(resting_root, (0, 1))(0.0, 0.0)))


def test_derivative_at_rest_is_finite():
    node = EpileptorCodim3Step(1)
    params = node.parameter_values()
    size = (
        jnp.linalg.norm(jnp.array([params[k] for k in ("mu1_start", "mu2_start", "nu_start")])) / params["R"]
    )
    rest = resting_root(params["mu1_start"] / size, params["mu2_start"] / size)
    state = {"x": rest[None], "y": jnp.zeros(1), "z": jnp.zeros(1)}
    assert all(
        np.isfinite(v).all()
        for v in jax.tree.leaves(jax.jacrev(lambda s: node.rhs(params, s, {}, 0.0))(state))
    )
    parallel = EpileptorCodim3Step(1, mu1_stop=-0.02285, mu2_stop=0.3448, nu_stop=0.2014)
    slopes = jax.grad(lambda p: sum(v.sum() for v in parallel.rhs(p, state, {}, 0.0).values()))(
        parallel.parameter_values()
    )
    assert all(np.isfinite(v) for v in slopes.values())


def test_bursts_come_and_go():
    found = mass_checks.trajectory(EpileptorCodim3Step(1), 6000.0, 0.1, 10)
    low = found["x"].reshape(-1, 20).min(1) < -0.3  # oscillating, in windows of 20 time units
    starts, stops = (np.sum(np.diff(low.astype(int)) == sign) for sign in (1, -1))
    assert starts >= 3 and stops >= 3
    assert found["z"].min() > -0.05 and found["z"].max() < 0.2


def test_value_of_the_right_hand_side():
    node = EpileptorCodim3Step(1, modification=1.0)
    found = node.derivative({"x": np.array([0.474]), "y": np.array([-0.026]), "z": np.array([0.0555])})
    expected = {"x": 0.026, "y": 0.012793277481626, "z": 0.000261753397253786}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12)
