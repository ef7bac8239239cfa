"""Fixed points of networks, and whether they are stable, with and without delays."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models import HopfStep, JansenRitStep, LinearStep, NeuralMass, Parameter, State, get_model

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import lambertw

from brainloom import engine
from brainloom.linear.equilibrium import fixed_point, is_found
from brainloom.linear.jacobian import network_jacobian
from brainloom.linear.linearised import linearise
from brainloom.linear.stability import growth_rate, is_stable, rightmost_roots
from brainloom.models.lowering import all_values, node_of
from brainloom.network import Network
from brainloom.noise import OUProcess

RNG = np.random.default_rng(0)


def parts(model):
    node = node_of(model)
    return model.structure("heun", node.DT), all_values(model)


def found_from(model, guess=None, **kwargs):
    structure, values = parts(model)
    guess = node_of(model).initial_values() if guess is None else guess
    return fixed_point(structure, values, guess, **kwargs)


class CubicStep(LinearStep):
    """A node with a constant drive: its fixed point is not the origin."""

    @staticmethod
    def rhs(params, state, inputs, t):
        x = state["x"]
        return {"x": params["gamma"] * x - x**3 + 0.4 + inputs.get("current", 0.0)}


class RunawayStep(LinearStep):
    """Has no fixed point."""

    @staticmethod
    def rhs(params, state, inputs, t):
        return {"x": 1.0 + state["x"] ** 2}


def test_the_origin_is_found_from_a_perturbed_guess():
    weights = RNG.uniform(0.0, 0.4, (4, 4)) * (1 - np.eye(4))
    node = HopfStep(4, a=-RNG.uniform(0.05, 0.3, 4), w=RNG.uniform(0.2, 0.5, 4), beta=0.7)
    guess = {name: jnp.asarray(0.1 * RNG.normal(size=4)) for name in ("x", "y")}
    state, error = found_from(Network(node, weights, coupled_var=("x", "y"), k=0.8), guess)
    assert error < 1e-14
    np.testing.assert_allclose([state["x"], state["y"]], 0.0, atol=1e-14)


def test_a_driven_fixed_point_with_an_input_and_a_noise_signal():
    # weights of equal row sums keep the regions alike: the root is that of one region
    weights = np.ones((3, 3)) - np.eye(3)
    guess = {"x": jnp.array([0.2, 0.9, 1.5])}
    net = Network(CubicStep(3, gamma=-0.2, noise_current=OUProcess(mean=0.1, sigma=1.0, tau=2.0)), weights)
    state, error = found_from(net, guess, inputs={"current": 0.3})
    roots = np.roots([-1.0, 0.0, -0.2, 0.4 + 0.1 + 0.3])
    expected = roots[np.abs(roots.imag) < 1e-12].real
    assert error < 1e-14 and len(expected) == 1
    np.testing.assert_allclose(state["x"], expected[0], rtol=1e-12)


def test_a_missing_fixed_point_is_flagged_without_nan():
    state, error = found_from(RunawayStep(2), {"x": jnp.array([0.3, 2.0])})
    assert not is_found(error) and np.isfinite(state["x"]).all()
    state, error = found_from(get_model("KuramotoStep")(2))
    assert not is_found(error) and np.isfinite(state["theta"]).all()


def test_the_guess_chooses_among_the_equilibria_of_a_jansen_rit_column():
    """Potentials of the reference table; from rest the column stays at the lowest."""
    node = JansenRitStep(1, p=50.0)
    p = {k: float(v) for k, v in node.parameter_values().items()}

    def rate(v):
        return 2 * p["e0"] / (1 + np.exp(p["r"] * (p["v0"] - v)))

    def near(potential):
        y0 = p["A"] / p["a"] * rate(potential)
        y1 = p["A"] / p["a"] * (p["p"] + p["c2"] * p["C"] * rate(p["C"] * y0))
        y2 = p["B"] / p["b"] * p["c4"] * p["C"] * rate(p["c3"] * p["C"] * y0)
        return dict(zip(node.state_names(), 1.002 * np.array([[y0], [y1], [y2], [0], [0], [0]]), strict=True))

    low, middle, high = -0.26162491299904, 4.0605599872114, 6.47015376394506
    starts = ((low, node.initial_values()), (low, near(low)), (middle, near(middle)), (high, near(high)))
    for potential, guess in starts:
        state, error = found_from(node, guess)
        assert error < 1e-12
        assert state["y1"][0] - state["y2"][0] == pytest.approx(potential, abs=1e-10)


@pytest.mark.parametrize("name", ["MontbrioPazoRoxinStep", "EpileptorStep"])
def test_fixed_points_of_networks_from_the_default_start(name):
    """All have one; that of oscillating regions is unstable."""
    node = get_model(name)(3)
    weights = 0.05 * (np.ones((3, 3)) - np.eye(3))
    port = None if node.DEFAULT_PORT else node.port_names()[0]
    net = Network(node, weights, k=0.1, port=port)
    state, error = found_from(net)
    assert error < 1e-10
    structure, values = parts(net)
    slope = engine.field(structure, engine.prepare(structure, values, 1.0), state, {}, 0.0)
    assert max(float(jnp.max(jnp.abs(x))) for x in slope.values()) < 1e-9


# --- stability -----------------------------------------------------------------------------------------------------


def test_a_delayed_feedback_loop_has_the_roots_of_its_transcendental_equation():
    """``x' = g x + k x(t - tau)``: roots ``g + W(k tau exp(-g tau)) / tau`` on every branch of Lambert's W."""
    g, k, tau = -0.1, -0.4, 5.0
    net = Network(
        LinearStep(1, gamma=g, noise_x=1.0),
        [[1.0]],
        delay=[[tau]],
        coupling="additive",
        k=k,
        self_connection=True,
    )
    structure, values = parts(net)
    linear = linearise(structure, values, {"x": jnp.zeros(1)})
    expected = np.array([g + lambertw(k * tau * np.exp(-g * tau), branch) / tau for branch in (0, -1, 1)])
    expected = expected[np.argsort(-expected.real, kind="stable")][:2]
    found = rightmost_roots(linear, "ms", n_roots=2)
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(1e3 * expected), rtol=1e-9)
    # eight points: (w tau / 4)^9 2 / 9! of the rate with w tau about 2
    rate = jax.jit(lambda linear: growth_rate(linear, "ms"))(linear)
    assert float(rate) == pytest.approx(1e3 * expected[0].real, rel=1e-6)
    assert bool(is_stable(linear, "ms")) == (expected[0].real < 0)


def test_delays_decide_whether_a_pair_is_stable():
    """Mutual inhibition of k > |g| is stable at no delay and oscillates beyond a critical one."""
    g, k = -0.1, 0.2
    weights = np.array([[0.0, 1.0], [-1.0, 0.0]])  # a rotation: s = g +- i k without delay
    w = np.sqrt(k**2 - g**2)  # (i w - g)^2 = -k^2 exp(-2 i w tau) at the critical delay
    critical = (0.5 * np.pi - np.arctan2(w, -g)) / w
    for tau, stable in ((0.0, True), (0.97 * critical, True), (1.03 * critical, False)):
        net = Network(LinearStep(2, gamma=g), weights, delay=tau * np.ones((2, 2)), coupling="additive", k=k)
        structure, values = parts(net)
        linear = linearise(structure, values, {"x": jnp.zeros(2)})
        assert bool(is_stable(linear, "ms")) is stable


def test_without_delays_roots_are_the_eigenvalues():
    node = JansenRitStep(3, p=[200.0, 330.0, 350.0])
    net = Network(node, RNG.uniform(0.0, 1.0, (3, 3)), coupling="additive", k=5.0)
    structure, values = parts(net)
    state, _ = found_from(net)
    linear = linearise(structure, values, state)
    eigenvalues = np.linalg.eigvals(network_jacobian(structure, values, state))
    assert float(growth_rate(linear, "s")) == pytest.approx(eigenvalues.real.max(), rel=1e-9)
    assert not bool(is_stable(linear, "s"))
    assert bool(is_stable(linear, "s", margin=-eigenvalues.real.max() - 0.01))


def test_own_delays_of_regions_move_their_roots():
    """``x' = g x + h x(t - tau)`` inside the equations of a region, against the same as a self-connection."""

    class OwnDelay(NeuralMass):
        STATES = (State("x", 0.0),)
        PARAMETERS = (Parameter("tau", 5.0, (0.0, 10.0), "time"),)
        SELF_DELAYS = {"tau": ("x", "x_then")}  # noqa: RUF012

        @staticmethod
        def rhs(params, state, inputs, t):
            return {"x": -0.1 * state["x"] - 0.4 * inputs.get("x_then", state["x"])}

    structure, values = parts(OwnDelay(2, tau=[5.0, 2.0]))
    linear = linearise(structure, values, {"x": jnp.zeros(2)})
    expected = [-0.1 + lambertw(-0.4 * tau * np.exp(0.1 * tau), 0) / tau for tau in (5.0, 2.0)]
    found = rightmost_roots(linear, "ms", n_roots=1)
    assert found[0].real == pytest.approx(1e3 * max(x.real for x in expected), rel=1e-9)
