"""
HopfStep and LinearStep against reference numbers.

Every number is exact (closed form, or an 8th-order solver with relative tolerance 1e-12) and carries the name
of its entry in the table of reference values for neural mass models. Tolerances are those of rk4 at the step
used, far below the 1e-4 that the table asks for.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainloom.linear.jacobian import local_jacobian, network_jacobian, rotating_rate
from brainloom.linear.lyapunov import lyapunov
from brainloom.models import HopfStep, LinearStep
from brainloom.models.lowering import lower
from brainloom.network import Network
from brainloom.simulate import Simulator

HOPF = {"a": 0.25, "beta": 1.0, "w": 0.3}


def uncoupled(node):
    return Network(node, np.zeros((node.varshape[0],) * 2))


def states_at(network, dt, times, inputs=None, method="rk4"):
    """State of a network at each time, from its initial state."""
    low = lower(network, dt, method)
    steps = round(max(times) / dt)
    quiet = jnp.zeros((steps, *low.noise_shape))
    out = jax.jit(low.advance)(low.params, low.init(low.params), inputs or {}, quiet, 0.0)[1]
    return {name: np.asarray(out[name])[[round(t / dt) - 1 for t in times]] for name in low.init(low.params)}


def test_hopf_derivative():  # rhs_Hopf
    node = HopfStep(1, a=-0.5, beta=1.0, w=1.0)
    state = {"x": jnp.array([-1.3]), "y": jnp.array([-1.3])}
    free = node.derivative(state)
    np.testing.assert_allclose([free["x"][0], free["y"][0]], [6.344, 3.744], rtol=1e-13)
    driven = node.derivative(state, 0.0, x_input=0.1, y_input=0.2)
    np.testing.assert_allclose([driven["x"][0], driven["y"][0]], [6.444, 3.944], rtol=1e-13)


def test_hopf_trajectory():  # hopf_a0.25_w0.3
    found = states_at(uncoupled(HopfStep(1, **HOPF, init_x=0.1, init_y=0.0)), 0.05, [1, 5, 10, 20, 50])
    x = [0.121106410385886, 0.0205228056725196, -0.459253957440559, 0.47982380688814, -0.379843956365865]
    y = [0.03746260279246, 0.289400701282113, 0.0654650640263895, -0.139631698578369, 0.325143920024687]
    np.testing.assert_allclose(found["x"][:, 0], x, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found["y"][:, 0], y, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method, dt, rtol", [("rk4", 0.001, 1e-9), ("exp_euler", 0.05, 1e-12)])
def test_linear_node_with_constant_input(method, dt, rtol):  # linear_forced
    network = uncoupled(LinearStep(1, gamma=-10.0, init_x=0.01))
    found = states_at(network, dt, [0.05, 0.1, 0.5], {"current": jnp.array([2.0])}, method)
    expected = [0.0847591746546083, 0.130102906177541, 0.198719790070167]
    np.testing.assert_allclose(found["x"][:, 0], expected, rtol=rtol)


def test_three_hopf_nodes_coupled_through_x():  # hopf3_instant_diffusive: x into x alone
    node = HopfStep(3, a=0.2, beta=1.0, w=0.3, init_x=[0.5, -0.3, 0.2], init_y=[0.1, 0.2, -0.1])
    weights = [[0.0, 0.8, 0.2], [0.8, 0.0, 0.5], [0.2, 0.5, 0.0]]
    found = states_at(Network(node, weights, k=0.4), 0.1, [1, 5, 10, 20])
    x = [
        [0.265349635602928, -0.117649648750988, 0.189448774121656],
        [-0.173701954563838, -0.121530346745406, 0.0287230398737554],
        [-0.382242149446353, -0.356843219913144, -0.357036459002977],
        [0.44046213081436, 0.44107537246839, 0.441534209578352],
    ]
    y = [
        [0.217278120482164, 0.163440448952091, -0.0537670307673888],
        [0.339016707606576, 0.20989681802425, 0.145107389144843],
        [-0.0950884243928891, -0.151437876007148, -0.0764244817328052],
        [0.0662103344792245, 0.0635845446888565, 0.0603502245427042],
    ]
    np.testing.assert_allclose(found["x"], x, rtol=0, atol=2e-7)  # 1e-4 if coupling is held over the step
    np.testing.assert_allclose(found["y"], y, rtol=0, atol=2e-7)


def test_limit_cycle_has_radius_and_frequency_of_the_normal_form():  # hopf_amplitude_a0.25
    turn, dt = 2.0 * np.pi / 0.3, 0.05
    low = lower(uncoupled(HopfStep(1, **HOPF)), dt, "rk4")
    quiet = jnp.zeros((round(12 * turn / dt), *low.noise_shape))
    out = jax.jit(low.advance)(low.params, low.init(low.params), {}, quiet, 0.0)[1]
    z = np.asarray(out["x"] + 1j * out["y"])[len(quiet) // 2 :, 0]  # exp(-2 a t) is gone after six turns
    np.testing.assert_allclose(np.abs(z), 0.5, rtol=1e-8)
    cycles_per_time = np.diff(np.unwrap(np.angle(z))) / dt / (2 * np.pi)
    np.testing.assert_allclose(cycles_per_time, 0.3 / (2 * np.pi), rtol=1e-6)


def test_gradient_of_a_state_after_ten_ms():  # gradient_hopf_x10_da
    low = lower(uncoupled(HopfStep(1, **HOPF)), 0.05, "rk4")
    start = {"x": jnp.array([0.1]), "y": jnp.array([0.0])}

    def last(a):
        quiet = jnp.zeros((200, *low.noise_shape))
        return low.advance(low.params | {"a": a}, start, {}, quiet, 0.0)[0]["x"][0]

    value, slope = jax.jit(jax.value_and_grad(last))(0.25)
    np.testing.assert_allclose(value, -0.459253957440565, rtol=1e-7)
    np.testing.assert_allclose(slope, -1.42460763701317, rtol=1e-6)


def test_gradient_of_a_loss_on_the_amplitude():  # hopf_amplitude_loss_exact
    low = lower(uncoupled(HopfStep(1, a=0.4, w=0.3)), 0.1, "rk4")
    start = {"x": jnp.array([0.5]), "y": jnp.array([0.0])}

    def loss(a):
        quiet = jnp.zeros((4000, *low.noise_shape))
        x = low.advance(low.params | {"a": a}, start, {}, quiet, 0.0)[1]["x"][2000:]
        amplitude = jnp.sqrt(2.0 * jnp.mean(x**2))
        return (amplitude - 1.0) ** 2, amplitude

    (value, amplitude), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(0.4)
    np.testing.assert_allclose(amplitude, 0.63337738230327, rtol=1e-6)
    np.testing.assert_allclose(value, 0.134412143806803, rtol=1e-6)
    np.testing.assert_allclose(slope, -0.580526197095643, rtol=1e-5)


def test_linear_hopf_network():  # linear_hopf_network_fc
    weights = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.2], [0.5, 0.2, 0.0]])
    rates = {"a": np.array([-0.02, -0.03, -0.05]), "w": 2 * np.pi * np.array([0.05, 0.06, 0.04])}
    node = HopfStep(3, **rates, noise_x=0.02, noise_y=0.02)
    low = lower(Network(node, weights, coupled_var=("x", "y"), k=0.1), 0.1)
    origin = {"x": jnp.zeros(3), "y": jnp.zeros(3)}
    variance = [0.00251535374903826, 0.002582016341801, 0.00227286712032056]
    fc = [0.671322255105562, 0.472814399420333, 0.334738538986191]

    solve = jax.jit(lyapunov)
    full = solve(network_jacobian(low.structure, low.params, origin), 0.02**2 * jnp.eye(6))[:3, :3]
    rate = rotating_rate(local_jacobian(HopfStep, low.params, origin))
    coupled = 0.1 * (weights - np.diag(weights.sum(axis=1)))
    halved = solve(coupled + jnp.diag(rate), (2 * 0.02**2 * jnp.eye(3)).astype(complex))
    for covariance in (np.asarray(full), np.asarray(halved.real) / 2):
        np.testing.assert_allclose(np.diag(covariance), variance, rtol=1e-11)
        correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        np.testing.assert_allclose(correlation[np.triu_indices(3, 1)], fc, rtol=1e-11)


@pytest.mark.parametrize(
    "method, dt", [("euler_maruyama", 0.2), ("euler_maruyama", 0.05), ("stochastic_heun", 0.2)]
)
def test_white_noise_variance_does_not_depend_on_the_step(method, dt):  # white_noise_linear_sde
    node = LinearStep(200, gamma=-0.1, init_x=0.0, noise_x=1.0)
    run = Simulator(uncoupled(node), dt, method=method).run(
        600.0, key=jax.random.key(3), sample_every=20.0, transient=80.0, batch_size=20
    )
    # 120 000 nearly independent samples: standard error 0.4 %; bias of Euler-Maruyama at dt 0.2: 1 %
    np.testing.assert_allclose(np.var(run["source"]), 5.0, rtol=0.03)
