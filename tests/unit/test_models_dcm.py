"""Bilinear DCM against closed forms of linear systems."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.dcm import BilinearDCMStep, transfer_function
from brainloom.models.lowering import lower

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from brainloom.core.units import UnitError

rng = np.random.default_rng(0)
# Eigenvalues with real parts -0.54 and -0.46 Hz.
A = -0.5 * np.eye(4) + np.where(np.eye(4) == 0, rng.uniform(-0.1, 0.12, (4, 4)), 0.0)
B = rng.uniform(-0.1, 0.1, (2, 4, 4))
C = rng.uniform(0.0, 1.0, (4, 2))


def test_right_hand_side_for_batches():
    draws = np.random.default_rng(3).normal(size=(3, 5, 6))
    x, drive = draws[..., :4], draws[..., 4:]
    node = BilinearDCMStep(4, A=A, B=B, C=C)
    found = node.derivative({"x": x}, 0.0, drive)["x"]
    for i in range(3):
        for j in range(5):
            u_k = drive[i, j]
            expected = (A + u_k[0] * B[0] + u_k[1] * B[1]) @ x[i, j] + C @ u_k
            np.testing.assert_allclose(found[i, j], expected, rtol=1e-12, atol=1e-14)
    # Without input the system is linear; one input for a batch; a number is the same for every input.
    np.testing.assert_allclose(node.derivative({"x": x})["x"], x @ A.T, rtol=1e-12, atol=1e-14)
    one = node.derivative({"x": x}, 0.0, drive[0, 0])["x"]
    np.testing.assert_allclose(one[2, 1], node.derivative({"x": x[2, 1]}, 0.0, drive[0, 0])["x"], rtol=1e-12)
    np.testing.assert_array_equal(
        node.derivative({"x": x}, 0.0, 0.5)["x"], node.derivative({"x": x}, 0.0, np.array([0.5, 0.5]))["x"]
    )


def test_default_shows_a_chain():
    node = BilinearDCMStep(3)
    np.testing.assert_allclose(
        node.parameter_values()["A"], [[-0.5, 0, 0], [0.4, -0.5, 0], [0, 0.4, -0.5]], rtol=1e-12
    )
    np.testing.assert_array_equal(node.initial_values()["x"], 0.0)
    first = node.derivative({"x": np.zeros(3)}, 0.0, 1.0)["x"]
    np.testing.assert_array_equal(first, [1.0, 0.0, 0.0])
    assert node.method == "rk4" and BilinearDCMStep.TIME_UNIT == "s"
    # Without modulation or effect the other of the two has the same number of inputs.
    assert BilinearDCMStep(4, C=C).parameter_values()["B"].shape == (2, 4, 4)
    assert BilinearDCMStep(4, B=B).parameter_values()["C"].shape == (4, 2)


def run(node, drive, n_steps, dt):
    low = lower(node, dt)
    inputs = {"input": jnp.broadcast_to(jnp.asarray(drive), (n_steps, np.shape(drive)[-1]))}
    start = low.init(low.params)
    return low, jax.jit(
        lambda p: low.advance(p, start, inputs, jnp.zeros((n_steps, *low.noise_shape)), 0.0)[1]["x"]
    )


def test_response_to_a_constant_input():
    node, drive = BilinearDCMStep(4, A=A, B=B, C=C), np.array([0.8, -0.3])
    low, simulate = run(node, drive, 200, 0.05)
    x = simulate(low.params)
    full = A + drive[0] * B[0] + drive[1] * B[1]
    for at in (0, 39, 199):
        exact = np.linalg.solve(full, (expm(0.05 * (at + 1) * full) - np.eye(4)) @ (C @ drive))
        np.testing.assert_allclose(x[at], exact, rtol=1e-7, atol=1e-9)  # RK4: (0.05 * 0.7)^5 a step


def test_response_to_an_oscillation_is_the_transfer_function():
    frequency, dt = 0.1, 0.025
    n_steps = 4000  # 100 s: what is left of the start is exp(-40)
    times = dt * (np.arange(n_steps) + 0.5)  # an input is held over its step
    series = np.stack([np.cos(2 * np.pi * frequency * times), np.zeros(n_steps)], 1)
    low, simulate = run(BilinearDCMStep(4, A=A, C=C), series, n_steps, dt)
    x = np.asarray(simulate(low.params))[-400:]  # one period
    seen = 2 * np.mean(
        x * np.exp(-2j * np.pi * frequency * dt * np.arange(n_steps - 399, n_steps + 1))[:, None], 0
    )
    expected = transfer_function(jnp.asarray(A), jnp.asarray(C), np.array([frequency]))[0, :, 0]
    np.testing.assert_allclose(seen, expected, rtol=1e-4)  # holding the input costs 1e-5 to 3e-5
    at_zero = transfer_function(jnp.asarray(A), jnp.asarray(C), np.array([0.0, 1.0]))
    np.testing.assert_allclose(at_zero[0], -np.linalg.solve(A, C), rtol=1e-12)
    assert at_zero.shape == (2, 4, 2)


def test_derivatives_in_every_matrix():
    drive, mix = np.array([0.8, -0.3]), np.random.default_rng(1).normal(size=4)
    node = BilinearDCMStep(4, A=A, B=B, C=C)
    low, simulate = run(node, drive, 60, 0.05)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(mix * simulate(p)[-1])))(low.params)
    for name in ("A", "B", "C"):
        along = np.random.default_rng(2).normal(size=low.params[name].shape)
        step = 1e-5
        high, below = (
            mix @ simulate(low.params | {name: low.params[name] + s * step * along})[-1] for s in (1, -1)
        )
        # Truncation 1e-10, rounding 1e-15 / step.
        np.testing.assert_allclose(np.sum(gradient[name] * along), (high - below) / (2 * step), rtol=1e-7)


def test_log_self_connections():
    log_self = np.array([0.0, 0.3, -0.4, 1.0])
    found = BilinearDCMStep(4, A=A, log_self=log_self).parameter_values()["A"]
    np.testing.assert_allclose(np.diag(found), -0.5 * np.exp(log_self), rtol=1e-12)
    np.testing.assert_array_equal(np.where(np.eye(4) == 0, found, 0), np.where(np.eye(4) == 0, A, 0))
    node = BilinearDCMStep(4, A=brainstate.nn.Param(A), C=C, log_self=brainstate.nn.Param(log_self))
    assert set(node.trainable()) == {"A", "log_self"}
    low, simulate = run(node, np.array([1.0, 0.0]), 40, 0.05)
    total = jax.jit(lambda p: jnp.sum(simulate(p)[-1]))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(simulate(p)[-1])))(low.params)
    step = 1e-5 * np.eye(4)[1]
    high, below = (total(low.params | {"log_self": low.params["log_self"] + s * step}) for s in (1, -1))
    np.testing.assert_allclose(gradient["log_self"][1], (high - below) / 2e-5, rtol=1e-6)
    np.testing.assert_array_equal(np.diag(gradient["A"]), 0.0)


def test_unstable_coupling_warns_and_traced_coupling_does_not():
    with pytest.warns(UserWarning, match=r"A of BilinearDCMStep has an eigenvalue with real part 0.1 Hz > 0"):
        BilinearDCMStep(2, A=np.array([[-0.5, 0.6], [0.6, -0.5]]))

    def slope(a):
        return BilinearDCMStep(2, A=a).derivative({"x": jnp.ones(2)})["x"]

    strong = np.array([[-0.5, 0.6], [0.6, -0.5]])
    np.testing.assert_allclose(jax.jit(slope)(strong), [0.1, 0.1], rtol=1e-12)
    many = jax.vmap(slope)(np.stack([strong, A[:2, :2]]))
    np.testing.assert_allclose(many[1], A[:2, :2].sum(1), rtol=1e-12)


def test_shapes_and_units_are_checked():
    with pytest.raises(
        ValueError,
        match=r"B of BilinearDCMStep has shape \(1, 4, 4\); 4 regions and 2 inputs need \(2, 4, 4\)",
    ):
        BilinearDCMStep(4, B=B[:1], C=C)
    with pytest.raises(ValueError, match=r"A of BilinearDCMStep has shape \(3, 3\)"):
        BilinearDCMStep(4, A=A[:3, :3])
    with pytest.raises(UnitError, match=r"A of BilinearDCMStep is given in s.* needed in Hz"):
        BilinearDCMStep(4, A=A * u.second)
    np.testing.assert_allclose(BilinearDCMStep(4, A=1e-3 * A * u.kHz).parameter_values()["A"], A, rtol=1e-12)


def test_single_precision():
    params = {
        k: v.astype(jnp.float32) for k, v in BilinearDCMStep(4, A=A, B=B, C=C).parameter_values().items()
    }
    state, drive = {"x": jnp.asarray(C[:, 0], jnp.float32)}, jnp.array([0.5, -1.0], jnp.float32)
    found = BilinearDCMStep.rhs(params, state, {"input": drive}, 0.0)["x"]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (A + 0.5 * B[0] - B[1]) @ C[:, 0] + C @ drive, rtol=1e-5, atol=1e-6)
