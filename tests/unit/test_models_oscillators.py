"""Phenomenological oscillators against their equations, written again, and their published facts."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.fitzhugh_nagumo import FitzHughNagumoStep
from brainloom.models.generic2d import Generic2dOscillatorStep
from brainloom.models.hopf import HopfStep, StuartLandauStep
from brainloom.models.kuramoto import KuramotoStep
from brainloom.models.lorenz import LorenzStep
from brainloom.models.threshold_linear import ThresholdLinearStep
from brainloom.models.van_der_pol import VanDerPolStep

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import mass_checks
import numpy as np
import pytest
from scipy.stats import kstest

from brainloom import integrate
from brainloom.core.units import UnitError


def stuart_landau(p, s, u):
    z = s["x"] + 1j * s["y"]
    slope = (p["a"] + 1j * p["w"] - np.abs(z) ** 2) * z + u["x_input"] + 1j * u["y_input"]
    return {"x": slope.real, "y": slope.imag}


def van_der_pol(p, s, u):
    return {
        "x": p["mu"] * (s["x"] - s["x"] ** 3 / 3 - s["y"]) + u["x_input"],
        "y": s["x"] / p["mu"] + u["y_input"],
    }


def fitzhugh_nagumo(p, s, u):
    v, w = s["V"], s["w"]
    return {
        "V": -p["alpha"] * v**3 + p["beta"] * v**2 + p["gamma"] * v - w + p["I"] + u["current"],
        "w": (v - p["delta"] - p["epsilon"] * w) / p["tau"] + u["w_input"],
    }


def generic2d(p, s, u):
    v, w = s["V"], s["W"]
    cubic = -p["f"] * v**3 + p["e"] * v**2 + p["g"] * v + p["alpha"] * w
    return {
        "V": p["d"] * p["tau"] * (cubic + p["gamma"] * p["I"] + p["gamma"] * u["current"]),
        "W": p["d"] * (p["a"] + p["b"] * v + p["c"] * v**2 - p["beta"] * w) / p["tau"],
    }


def threshold_linear(p, s, u):
    h = 1 + p["eta"] * p["hierarchy"]
    to_e = h * p["w_ee"] * s["r_e"] - p["w_ei"] * s["r_i"] + p["background_e"] + h * u["current_e"]
    to_i = h * p["w_ie"] * s["r_e"] - p["w_ii"] * s["r_i"] + p["background_i"] + h * u["current_i"]
    return {
        "r_e": -s["r_e"] / p["tau_e"] + p["beta_e"] / p["tau_e"] * np.maximum(to_e, 0),
        "r_i": -s["r_i"] / p["tau_i"] + p["beta_i"] / p["tau_i"] * np.maximum(to_i, 0),
    }


def lorenz(p, s, u):
    return {
        "x": p["sigma"] * (s["y"] - s["x"]) + u["current"],
        "y": p["rho"] * s["x"] - s["x"] * s["z"] - s["y"],
        "z": s["x"] * s["y"] - p["beta"] * s["z"],
    }


def kuramoto(p, s, u):
    return {"theta": p["omega"] + u["phase_drive"] + 0 * s["theta"]}


# Model, equations, and a run: duration, step, and the largest error of RK4 relative to the state's size.
CASES = [
    (StuartLandauStep, stuart_landau, 50.0, 0.05, 1e-7),
    (VanDerPolStep, van_der_pol, 20.0, 0.01, 1e-7),
    (FitzHughNagumoStep, fitzhugh_nagumo, 100.0, 0.02, 1e-7),
    (Generic2dOscillatorStep, generic2d, 200.0, 0.1, 1e-7),
    (ThresholdLinearStep, threshold_linear, 200.0, 0.1, 1e-7),
    (LorenzStep, lorenz, 5.0, 0.001, 1e-7),
    (KuramotoStep, kuramoto, 100.0, 0.1, 1e-11),
]
PAIRS = [case[:2] for case in CASES]


@pytest.mark.parametrize(("model", "reference"), PAIRS)
def test_right_hand_side(model, reference):
    mass_checks.check_rhs(model, reference)
    mass_checks.check_one_by_one(model)


@pytest.mark.parametrize(("model", "reference"), PAIRS)
def test_derivatives_of_the_right_hand_side(model, reference):
    mass_checks.check_gradients(model, reference)


@pytest.mark.parametrize("model", [case[0] for case in CASES])
def test_single_precision_stays_finite_over_the_fitting_box(model):
    mass_checks.check_finite_float32(model)


@pytest.mark.parametrize(("model", "reference", "duration", "dt", "rtol"), CASES)
def test_trajectory(model, reference, duration, dt, rtol):
    mass_checks.check_trajectory(model, reference, duration, dt, rtol)


@pytest.mark.parametrize(
    ("build", "needed"),
    [
        (lambda: StuartLandauStep(1, w=1.0 * u.mV), "1/ms|rad/ms"),
        (lambda: VanDerPolStep(1, mu=1.0 * u.ms), "1/ms"),
        (lambda: FitzHughNagumoStep(1, tau=1.0 * u.Hz), "ms"),
        (lambda: Generic2dOscillatorStep(1, d=1.0 * u.ms), "1/ms"),
        (lambda: ThresholdLinearStep(1, w_ee=1.0 * u.pA), "pA/Hz"),
        (lambda: LorenzStep(1, sigma=1.0 * u.mV), "1/ms"),
        (lambda: KuramotoStep(1, omega=1.0 * u.ms), "rad/ms"),
    ],
)
def test_wrong_units_name_the_right_one(build, needed):
    with pytest.raises(UnitError, match=f"needed in ({needed})"):
        build()


def test_quantities_are_converted():
    found = ThresholdLinearStep(1, tau_e=0.02 * u.second, background_e=0.598015 * u.nA).parameter_values()
    np.testing.assert_allclose([found["tau_e"], found["background_e"]], [20.0, 598.015], rtol=1e-12)
    slow = KuramotoStep(1, omega=2.0 * u.Hz, time_unit="s").parameter_values()
    np.testing.assert_allclose(slow["omega"], 2.0, rtol=1e-12)
    for model in (FitzHughNagumoStep, ThresholdLinearStep):  # their parameters say ms
        with pytest.raises(ValueError, match="is written in ms"):
            model(1, time_unit="s")


def test_stuart_landau_is_hopf_with_unit_saturation():
    params, state, inputs = mass_checks.random_point(StuartLandauStep, 7, (5,), (5,))
    found = StuartLandauStep(5, **params).derivative(state, 0.0, **inputs)
    hopf = HopfStep(5, **params, beta=1.0).derivative(state, 0.0, **inputs)
    for name in found:  # a product with 1 is exact
        np.testing.assert_array_equal(found[name], hopf[name])


def test_stuart_landau_follows_its_closed_form():
    found = mass_checks.trajectory(StuartLandauStep(1), 40.0, 0.05)
    t = 0.05 * np.arange(1, 801)
    radius = 0.5 / np.sqrt(1 + (0.25 / 0.1**2 - 1) * np.exp(-0.5 * t))
    # RK4 at this step: error below 1e-8 of the amplitude.
    np.testing.assert_allclose(found["x"], radius * np.cos(0.2 * t), atol=1e-8)
    np.testing.assert_allclose(found["y"], radius * np.sin(0.2 * t), atol=1e-8)


def upward_crossings(x: np.ndarray, level: float, dt: float) -> np.ndarray:
    at = np.flatnonzero((x[:-1] < level) & (x[1:] >= level))
    return dt * (at + (level - x[at]) / (x[at + 1] - x[at]))


def test_van_der_pol_limit_cycle():
    found = mass_checks.trajectory(VanDerPolStep(1), 100.0, 0.005)
    late = found["x"][10_000:]
    assert late.max() == pytest.approx(2.009, abs=5e-4)  # published to three digits
    period = np.diff(upward_crossings(late, 0.0, 0.005))
    np.testing.assert_allclose(period, 6.663, atol=5e-4)


def test_van_der_pol_is_the_second_order_equation():
    # x'' = mu (1 - x^2) x' - x, by the chain rule.
    params, state, _ = mass_checks.random_point(VanDerPolStep, 8, (6,), (6,))
    slope, change = jax.jvp(
        lambda s: VanDerPolStep.rhs(params, s, {}, 0.0),
        (state,),
        (VanDerPolStep.rhs(params, state, {}, 0.0),),
    )
    x, mu = state["x"], params["mu"]
    np.testing.assert_allclose(change["x"], mu * (1 - x**2) * slope["x"] - x, rtol=1e-11, atol=1e-11)


def test_fitzhugh_nagumo_rests_and_oscillates():
    # The resting points are printed to four digits; a move of 1e-4 changes the derivative by less than 3e-4.
    for current, point in ((0.0, (0.0, 0.0)), (0.6, (0.2162, 0.4324))):
        node = FitzHughNagumoStep(1, I=current)
        state = {"V": np.array([point[0]]), "w": np.array([point[1]])}
        assert all(np.abs(v).max() < 3e-4 for v in node.derivative(state).values())
        assert np.linalg.eigvals(mass_checks.jacobian(node, state)).real.max() < 0
    late = {k: v[40_000:] for k, v in mass_checks.trajectory(FitzHughNagumoStep(1), 600.0, 0.01).items()}
    assert (late["V"].min(), late["V"].max()) == pytest.approx((0.102, 0.772), abs=5e-4)
    np.testing.assert_allclose(np.diff(upward_crossings(late["V"], 0.4, 0.01)), 30.5, atol=0.05)


def test_fitzhugh_nagumo_port_adds_to_the_constant_current():
    state = {"V": np.array([0.3]), "w": np.array([0.2])}
    found = FitzHughNagumoStep(1, I=0.2).derivative(state, 0.0, 0.5)
    expected = FitzHughNagumoStep(1, I=0.7).derivative(state)
    np.testing.assert_allclose(found["V"], expected["V"], rtol=1e-14)


def test_generic2d_default_is_a_damped_focus():
    node = Generic2dOscillatorStep(1)
    found = mass_checks.trajectory(node, 1000.0, 0.2)
    end = {k: v[-1:] for k, v in found.items()}
    assert (end["V"][0], end["W"][0]) == pytest.approx((-0.1887, -0.1135), abs=5e-5)
    eigenvalues = np.linalg.eigvals(mass_checks.jacobian(node, end))
    assert eigenvalues.real.max() < 0 and np.abs(eigenvalues.imag).min() > 0


def test_threshold_linear_rest():
    node = ThresholdLinearStep(1)
    state = {"r_e": np.array([10.0]), "r_i": np.array([35.0])}
    # Backgrounds are printed to 1e-3 pA.
    assert all(np.abs(v).max() < 1e-4 for v in node.derivative(state).values())
    eigenvalues = np.sort(np.linalg.eigvals(mass_checks.jacobian(node, state)).real)
    np.testing.assert_allclose(eigenvalues, [-0.48468, -0.02388], atol=5e-6)
    found = mass_checks.trajectory(node, 1000.0, 0.2)
    assert (found["r_e"][-1], found["r_i"][-1]) == pytest.approx((10.0, 35.0), abs=2e-3)


def test_threshold_linear_inhibition_alone_has_a_closed_form():
    weights = dict.fromkeys(("w_ee", "w_ei", "w_ie", "w_ii", "background_e", "background_i"), 0.0)
    node = ThresholdLinearStep(1, init_r_e=0.0, init_r_i=0.0, **weights)
    found = mass_checks.trajectory(node, 10.0, 0.01, current_i=10.0)
    t = 0.01 * np.arange(1, 1001)
    np.testing.assert_allclose(found["r_i"], 3.51 * (1 - np.exp(-t / 10)), rtol=1e-10)  # RK4 error 1e-14
    np.testing.assert_array_equal(found["r_e"], 0.0)


def test_threshold_linear_rates_decay_to_zero_without_a_clip():
    node = ThresholdLinearStep(1)
    found = mass_checks.trajectory(node, 300.0, 0.1, current_e=-1e4, current_i=-1e4)
    for name, start, tau in (("r_e", 12.0, 20.0), ("r_i", 40.0, 10.0)):
        t = 0.1 * np.arange(1, 3001)
        np.testing.assert_allclose(
            found[name], start * np.exp(-t / tau), rtol=1e-8
        )  # RK4 error 30 dt^4/tau^5
    # At the threshold itself the gradient is that of the silent side.
    params = node.parameter_values() | {"background_e": jnp.zeros(())}
    state = {"r_e": jnp.zeros(1), "r_i": jnp.zeros(1)}
    slope = jax.grad(lambda c: node.rhs(params, state, {"current_e": c}, 0.0)["r_e"][0])
    assert slope(0.0) == 0.0 and slope(1.0) == pytest.approx(0.066 / 20)


def test_threshold_linear_hierarchy_scales_excitation_and_distant_input():
    state, inputs = {"r_e": np.full(2, 5.0), "r_i": np.full(2, 6.0)}, {"current_e": 30.0, "current_i": 20.0}
    found = ThresholdLinearStep(2, hierarchy=np.array([0.0, 0.5])).derivative(state, 0.0, **inputs)
    scaled = {"w_ee": 24.3 * 1.34, "w_ie": 12.2 * 1.34}  # 1 + 0.68 * 0.5
    plain = ThresholdLinearStep(2).derivative(state, 0.0, **inputs)
    strong = ThresholdLinearStep(2, **scaled).derivative(
        state, 0.0, **{k: 1.34 * v for k, v in inputs.items()}
    )
    for name in found:
        np.testing.assert_allclose(found[name], [plain[name][0], strong[name][1]], rtol=1e-13)


def test_lorenz_fixed_points():
    node, far = LorenzStep(1), np.sqrt(8 / 3 * 27)
    for point in ((0.0, 0.0, 0.0), (far, far, 27.0), (-far, -far, 27.0)):
        state = {k: np.array([v]) for k, v in zip("xyz", point, strict=True)}
        # Products of numbers below 240 cancel, to a few roundings.
        assert all(np.abs(v).max() < 1e-12 for v in node.derivative(state).values())
        assert np.linalg.eigvals(mass_checks.jacobian(node, state)).real.max() > 0


def test_lorenz_largest_lyapunov_exponent():
    node = LorenzStep(1)
    params = node.parameter_values()

    def step(state):
        return integrate.deterministic_step(
            "rk4", lambda s, t: node.rhs(params, s, {}, t), state, 0.0, LorenzStep.DT
        )

    def grow(_, carry):
        state, tangent, total = carry
        state, tangent = jax.jvp(step, (state,), (tangent,))
        size = jnp.sqrt(sum(jnp.sum(v * v) for v in tangent.values()))
        return state, {k: v / size for k, v in tangent.items()}, total + jnp.log(size)

    @jax.jit
    def exponent(state):
        tangent = {k: jnp.ones_like(v) for k, v in state.items()}
        state, tangent, _ = jax.lax.fori_loop(0, 2000, grow, (state, tangent, 0.0))
        return jax.lax.fori_loop(0, 100_000, grow, (state, tangent, 0.0))[2] / (100_000 * LorenzStep.DT)

    # Over 1000 units of time the exponent of one stretch has a standard deviation of about 0.004.
    assert float(exponent(node.initial_values())) == pytest.approx(0.906, abs=0.015)
    assert LorenzStep.CHAOTIC and not VanDerPolStep.CHAOTIC


def test_kuramoto_starts_uniformly_and_never_wraps():
    node = KuramotoStep(20_000)
    start = np.asarray(node.initial_values(key=jax.random.key(0))["theta"])
    assert start.min() >= 0 and start.max() < 2 * np.pi
    assert kstest(start, "uniform", args=(0, 2 * np.pi)).pvalue > 1e-3  # fixed key
    np.testing.assert_array_equal(start, node.initial_values(key=jax.random.key(0))["theta"])
    batch = node.initial_values(3, jax.random.key(1))["theta"]
    assert batch.shape == (3, 20_000) and np.abs(batch[0] - batch[1]).max() > 1
    given = KuramotoStep(2, init_theta=np.array([7.0, -1.0]), omega=np.array([0.2, 0.5]))
    np.testing.assert_array_equal(given.initial_values(key=jax.random.key(0))["theta"], [7.0, -1.0])
    found = mass_checks.trajectory(given, 100.0, 0.5)["theta"]
    np.testing.assert_allclose(found, 7.0 + 0.2 * 0.5 * np.arange(1, 201), rtol=1e-12)


def test_kuramoto_observables():
    assert KuramotoStep.observables()["bold"] is KuramotoStep.OBSERVABLES["sin"]
    assert KuramotoStep.observables()["eeg"] is KuramotoStep.OBSERVABLES["cos"]
    state = {"theta": np.array([0.0, 1.0, 30.0])}
    for name, function in (("source", np.asarray), ("sin", np.sin), ("cos", np.cos)):
        found = KuramotoStep.observables()[name].function({}, state)
        np.testing.assert_allclose(found, function(state["theta"]), atol=1e-15)
