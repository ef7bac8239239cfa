"""Shared functions of the models: values and derivatives, at the removable singularity and far from it."""

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.functions import logistic, rectified, second_order_synapse, wong_wang_transfer

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import bernoulli, expit, factorial

# Both sides of the series and of 0, the tails, and the bound of the series itself.
Z = np.concatenate(
    [np.linspace(-60, 60, 241), np.linspace(-0.15, 0.15, 61), [-0.1, 0.1, -0.0999999, 0.1000001, 1e-3, -1e-6]]
)


def exact(z):
    """``z / (1 - exp(-z))`` and two derivatives in extended precision; a long series near 0."""
    z = np.asarray(z, np.longdouble)
    near = np.abs(z) < 0.3
    far = np.where(near, 1.0, z)
    e = np.exp(far)
    value = far * e / np.expm1(far)
    slope = e * (np.expm1(far) - far) / np.expm1(far) ** 2
    bend = e * (far * (e + 1) - 2 * np.expm1(far)) / np.expm1(far) ** 3
    k = np.arange(2, 21, 2)
    c = (bernoulli(20)[2::2] / factorial(k))[:, None]
    k = k[:, None]
    small = np.where(near, z, 0.0)
    series = (
        1 + small / 2 + (c * small**k).sum(0),
        0.5 + (c * k * small ** (k - 1)).sum(0),
        (c * k * (k - 1) * small ** (k - 2)).sum(0),
    )
    return [np.where(near, s, f) for s, f in zip(series, (value, slope, bend), strict=True)]


# Three times the largest errors that were seen: the closed form subtracts numbers of the size 1/z and 1/z^2.
@pytest.mark.parametrize(
    ("dtype", "rtol"), [("float64", (1e-15, 2e-14, 1.2e-12)), ("float32", (8e-7, 1.6e-5, 1e-3))]
)
def test_wong_wang_transfer_and_two_derivatives(dtype, rtol):
    z = Z.astype(dtype)
    one, zero = jnp.ones((), dtype), jnp.zeros((), dtype)

    def scaled(x):
        return wong_wang_transfer(x, one, zero, one)

    slope = jax.grad(scaled)
    for f, expected, tolerance in zip((scaled, slope, jax.grad(slope)), exact(z), rtol, strict=True):
        found = jax.jit(jax.vmap(f))(z)
        assert found.dtype == dtype
        # Absolute as well, where the function falls below the smallest value of the sum.
        np.testing.assert_allclose(found, np.asarray(expected, float), rtol=tolerance, atol=1e-12)


def test_wong_wang_transfer_at_its_removable_singularity():
    a, b, d = 256.0, 128.0, 0.125  # exact in binary, so y is exactly 0 at x = 0.5
    f = jax.jit(lambda values: wong_wang_transfer(*values))
    for dtype in (jnp.float64, jnp.float32):
        given = jnp.asarray([0.5, a, b, d], dtype)
        slopes = jax.jit(jax.grad(f))(given)
        bends = jax.jit(jax.hessian(f))(given)
        assert float(f(given)) == 1 / d
        np.testing.assert_array_equal(slopes, [a / 2, 0.25, -0.5, -1 / d**2])  # dH/dy = 1/2
        assert float(bends[0, 0]) == pytest.approx(a**2 * d / 6, rel=1e-6)  # d2H/dy2 = d/6
        assert np.isfinite(bends).all()


def test_wong_wang_transfer_of_published_parameters_by_its_formula():
    x = np.array([0.1, 0.3, 0.35, 0.45, 0.9])
    a, b, d = 270.0, 108.0, 0.154
    y = a * x - b
    np.testing.assert_allclose(
        wong_wang_transfer(x, a, b, d), y / (1 - np.exp(-d * y)), rtol=1e-12
    )  # the plain form loses a digit
    for position, step in ((1, 1e-3), (2, 1e-3), (3, 1e-6)):
        moved = [[a, b, d], [a, b, d]]
        moved[0][position - 1] -= step
        moved[1][position - 1] += step
        low, high = (wong_wang_transfer(x, *values) for values in moved)
        gradient = jax.vmap(jax.grad(wong_wang_transfer, argnums=position), (0, None, None, None))
        slope = jax.jit(gradient)(x, a, b, d)
        np.testing.assert_allclose(slope, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)


def test_wong_wang_transfer_of_extreme_inputs():
    sizes = np.array([1e-30, 1.0, 10.0, 1e3, 1e10, 1e30, 3e38], np.float32)
    x = jnp.concatenate([-sizes[::-1], sizes])
    a, b, d = (jnp.asarray(v, jnp.float32) for v in (270.0, 108.0, 0.154))
    values = wong_wang_transfer(x, a, b, d)
    gradient = jax.grad(wong_wang_transfer, argnums=(0, 1, 2, 3))
    slopes = jax.jit(jax.vmap(gradient, (0, None, None, None)))(x, a, b, d)
    np.testing.assert_array_equal(values[:5], 0.0)
    np.testing.assert_allclose(values[-6:-1], 270 * sizes[1:-1].astype(float) - 108, rtol=1e-5)
    assert np.isfinite(values[:-1]).all() and np.isposinf(values[-1])  # 270 * 3e38 is above single precision
    assert np.isfinite(np.array(slopes)).all()
    np.testing.assert_array_equal(slopes[0][:5], 0.0)
    np.testing.assert_allclose(slopes[0][-6:], 270.0, rtol=1e-6)


def test_logistic_and_rectified():
    x = np.array([-1e30, -90.0, -2.0, 0.0, 3.0, 90.0, 1e30])
    np.testing.assert_allclose(logistic(x), expit(x), rtol=1e-14)
    for dtype in ("float64", "float32"):
        slope = jax.vmap(jax.grad(logistic))(x.astype(dtype))
        np.testing.assert_allclose(slope, expit(x) * expit(-x), rtol=1e-6, atol=1e-20)
    np.testing.assert_array_equal(rectified(x), np.maximum(x, 0.0))
    np.testing.assert_array_equal(jax.vmap(jax.grad(rectified))(x), [0, 0, 0, 0, 1, 1, 1])


def test_second_order_synapse_has_the_alpha_response():
    gain, rate, drive = 3.25, 100.0, 7.0
    t = np.linspace(0.0, 0.1, 50)
    decay = np.exp(-rate * t)
    # Response to a unit impulse: A a t exp(-a t), with its peak A/e at 1/a.
    x, v = gain * rate * t * decay, gain * rate * (1 - rate * t) * decay
    expected = gain * rate**2 * (rate * t - 2) * decay
    np.testing.assert_allclose(second_order_synapse(x, v, 0.0, gain, rate), expected, rtol=1e-12, atol=1e-9)
    peak = second_order_synapse(gain / np.e, 0.0, 0.0, gain, rate)
    assert float(peak) == pytest.approx(-(rate**2) * gain / np.e, rel=1e-14)
    assert float(second_order_synapse(gain * drive / rate, 0.0, drive, gain, rate)) == pytest.approx(
        0, abs=1e-10
    )
