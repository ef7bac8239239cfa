"""Functions that several models share, finite in value and derivative wherever the arguments are finite."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Below this |z| the quotient of the transfer function loses its float32 derivative to cancellation.
_SERIES = 0.1
# Bound of y in the exponential tail, where its value is exactly 0: an overflow of y cannot give 0 * inf.
_FAR = 1e30
# And of |z|, by the bytes of a number, where the tail is no more than the smallest one.
_FARTHEST = {4: 87.0, 8: 708.0}


def logistic(x: jax.Array | float) -> jax.Array:
    """``1 / (1 + exp(-x))``; any shape."""
    return jax.nn.sigmoid(x)


def rectified(x: jax.Array | float) -> jax.Array:
    """``max(x, 0)``; the derivative at 0 is 0."""
    return jax.nn.relu(x)


def wong_wang_transfer(
    x: jax.Array | float, a: jax.Array | float, b: jax.Array | float, d: jax.Array | float
) -> jax.Array:
    """
    Firing rate ``H(x) = y / (1 - exp(-d y))``, ``y = a x - b``, of the Wong-Wang models.

    The quotient is 0/0 at ``y = 0``; there ``H = 1/d``, ``dH/dy = 1/2`` and ``d2H/dy2 = d/6``. Value and first
    two derivatives are finite for every input unless the rate itself exceeds the precision.

    Parameters
    ----------
    x : array
        Input current, nA.
    a, b, d : arrays
        Gain (Hz/nA), threshold (Hz) and curvature (s, positive).

    Returns
    -------
    array
        Rate, Hz.

    References
    ----------
    Abbott & Chance 2005, Prog Brain Res 149:147. Wong & Wang 2006, J Neurosci 26:1314.

    Examples
    --------
    >>> from brainloom.models.functions import wong_wang_transfer
    >>> round(float(wong_wang_transfer(0.4, a=270.0, b=108.0, d=0.154)), 4)
    6.4935
    """
    y = a * x - b
    return rectified(y) + _tail(d * jnp.clip(y, -_FAR, _FAR)) / d


@jax.custom_jvp
def _tail(z: jax.Array) -> jax.Array:
    """``z / (1 - exp(-z)) - max(z, 0)``, that is ``|z| / (exp(|z|) - 1)``."""
    return _tail_and_slope(z)[0]


@_tail.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    value, slope = _tail_and_slope(*primals)
    return value, slope * tangents[0]


def _tail_and_slope(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both from one exponential, or by the series of Bernoulli where it loses digits; the slope at 0 is 1/2."""
    near, above = jnp.abs(z) < _SERIES, z > 0
    # Each branch sees only arguments at which it is regular: the other one would put NaN into the next derivative.
    inside = jnp.where(near, z, 0.0)
    q = inside * inside
    series = 1.0 - jnp.abs(inside) / 2.0 + q * (1 / 12 - q * (1 / 720 - q * (1 / 30240 - q / 1209600)))
    slope = jnp.where(above, -0.5, 0.5) + inside * (1 / 6 - q * (1 / 180 - q * (1 / 5040 - q / 151200)))
    far = jnp.abs(z) > _FARTHEST[z.dtype.itemsize]
    size = jnp.where(near | far, 1.0, jnp.abs(z))
    rest = jnp.exp(size) - 1.0
    tail = jnp.where(far, 0.0, size / rest)
    falls = jnp.where(far, 0.0, (1.0 - size - tail) / rest)
    return jnp.where(near, series, tail), jnp.where(near, slope, jnp.where(above, falls, -falls))


def second_order_synapse(
    x: jax.Array, v: jax.Array, drive: jax.Array, gain: jax.Array, rate: jax.Array
) -> jax.Array:
    """
    Acceleration ``gain rate drive - 2 rate v - rate^2 x`` of a synapse with an alpha-function response.

    Parameters
    ----------
    x, v : arrays
        Postsynaptic potential (mV) and its derivative (mV/s).
    drive : array
        Presynaptic rate, 1/s. The steady potential is ``gain drive / rate``.
    gain, rate : arrays
        Maximal amplitude (mV) and inverse time constant (1/s). A unit impulse of `drive` peaks at
        ``gain / e`` after ``1 / rate``.

    Returns
    -------
    array
        mV/s^2.
    """
    return rate * (gain * drive - 2.0 * v - rate * x)
