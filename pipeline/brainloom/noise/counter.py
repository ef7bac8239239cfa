"""Random increments as pure functions of key, realisation, step, channel and region; no state is carried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

KINDS = ("gaussian", "weak", "three_point")

_ROUNDS = 13
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)
# A sixth of all words is below this.
_SIXTH = np.uint32(round(2**32 / 6))
# Value of a packed code: scale * (code - centre).
_CODES = {"weak": (16, 1 / math.sqrt(8.0)), "three_point": (1, math.sqrt(3.0))}

# In single precision, fits of least relative error: log(1 + t) / t on [-1/3, 1/3] and, in x^2 on [-pi/4, pi/4],
# sin(x) / x and cos(x); errors 3e-8, 4e-9 and 4e-8, at most half a unit of float32.
_LOG = (
    1.0,
    -0.4999993145465851,
    0.3333316743373871,
    -0.25008028745651245,
    0.20011942088603973,
    -0.164127916097641,
    0.13987691700458527,
    -0.15403197705745697,
    0.14055928587913513,
)
_SIN = (0.999999996761796, -0.16666650224232585, 0.008332016452767068, -0.0001950182198182588)
_COS = (0.9999999673862555, -0.4999984243413139, 0.04165441955839573, -0.0013579404044324654)
# In double precision, Taylor series in the square of the argument, errors below 1e-16: atanh(s) / s for |s| <= 1/5.
_ATANH = tuple(1.0 / (2 * k + 1) for k in range(12))
_SIN_LONG = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(9))
_COS_LONG = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(10))


def key_words(key: jax.Array, realisation: Any) -> jax.Array:
    """
    The two words that all draws of one realisation follow from.

    Parameters
    ----------
    key : jax.random key
    realisation : int, may be traced
        Number of the run under this key.

    Returns
    -------
    (2,) uint32 array
    """
    data = jax.random.key_data(jax.random.fold_in(key, realisation)).astype(jnp.uint32)
    words = data[:2]
    for start in range(2, data.shape[0], 2):  # other generators have longer keys
        words = jnp.stack(threefry(words, data[start], data[start + 1]))
    return words


def threefry(key: jax.Array, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """
    Threefry-2x32 with 13 rounds: two random words of a counter of two words.

    Salmon, Moraes, Dror & Shaw 2011, SC'11 (13 rounds are the fewest that pass BigCrush).

    Parameters
    ----------
    key : (2,) uint32 array
    first, second : uint32 arrays of one shape
        The counter.

    Returns
    -------
    two uint32 arrays
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = first + keys[0], second + keys[1]
    for turn in range(_ROUNDS):
        rotation = _ROTATIONS[turn % 8]
        x = x + y
        y = ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))) ^ x
        if turn % 4 == 3:
            block = turn // 4 + 1
            x = x + keys[block % 3]
            y = y + (keys[(block + 1) % 3] + np.uint32(block))
    return x, y


def increments(
    kind: str,
    key_words: jax.Array,
    first_step: Any,
    n_steps: int,
    channels: int,
    n_regions: int,
    dtype: Any = None,
) -> jax.Array:
    r"""
    Unit-variance draws of consecutive steps.

    Lanes are numbered ``channel * n_regions + region``. With ``h`` the half of their number, rounded up, lanes
    ``l`` and ``l + h`` of a step share the counter ``(step, l)``, whose two words make both draws, so nothing
    depends on how steps are cut into chunks, on the batch or on the device.

    Parameters
    ----------
    kind : {"gaussian", "weak", "three_point"}
        ``gaussian``: unit normal by the method of Box & Muller (1958, Ann Math Stat 29:610), up to
        5.77 standard deviations. ``weak``: Binomial(32, 1/2), centred and scaled, the number of ones in a word;
        moments 1 to 3 are those of the normal law, excess kurtosis is -1/16. ``three_point``: :math:`\pm\sqrt 3`
        with probability 1/6 each, else 0; moments 1 to 5 are those of the normal law. The last two serve
        weak quantities (means, spectra, covariances): Kloeden & Platen 1992, ch. 14.
    key_words : (2,) uint32 array
        See `key_words`.
    first_step : int, may be traced
        Index of the first step, from 0; indices wrap after 2^32 steps.
    n_steps, channels, n_regions : int
    dtype : float32, float64, optional
        The default float type if not given. Both are made of the same words and differ by rounding only.

    Returns
    -------
    (n_steps, channels, n_regions) array

    Raises
    ------
    ValueError
        An unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind of draws is {kind!r}; it must be one of {', '.join(KINDS)}")
    kept = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    working = np.dtype(np.float64) if kept == np.float64 else np.dtype(np.float32)
    lanes = channels * n_regions
    half = -(-lanes // 2)
    first = jnp.asarray(first_step)

    def packed() -> jax.Array:
        shape = (n_steps, half)
        step = lax.broadcasted_iota(jnp.uint32, shape, 0) + first.astype(jnp.uint32)
        words = threefry(key_words, step, lax.broadcasted_iota(jnp.uint32, shape, 1))
        if kind == "gaussian":
            return lax.complex(*_normal_pair(*words, working))
        count = lax.population_count if kind == "weak" else _three_point_code
        return count(words[0]) | (count(words[1]) << np.uint32(8))

    # XLA's CPU compiler would fuse the words into both halves of the result and compute everything twice; it
    # does not fuse across a branch. Both branches are the same.
    pair = lax.platform_dependent(
        cpu=lambda: lax.cond(first < 0, packed, packed),
        default=packed,
    )
    side = lax.broadcasted_iota(jnp.uint32, (n_steps, 2, half), 1)
    pair = lax.broadcast_in_dim(pair, side.shape, (0, 2))
    if kind == "gaussian":
        draws = lax.select(side == np.uint32(0), lax.real(pair), lax.imag(pair))
    else:
        centre, scale = _CODES[kind]
        code = (pair >> (side * np.uint32(8))) & np.uint32(0xFF)
        draws = (code.astype(jnp.int32) - np.int32(centre)).astype(working) * working.type(scale)
    draws = draws.reshape(n_steps, 2 * half)[:, :lanes]
    return draws.reshape(n_steps, channels, n_regions).astype(kept)


def _three_point_code(word: jax.Array) -> jax.Array:
    """0, 1 or 2 with probabilities 1/6, 2/3 and 1/6."""
    return (word >= _SIXTH).astype(jnp.uint32) + (word >= np.uint32(2**32 - int(_SIXTH))).astype(jnp.uint32)


def _normal_pair(first: jax.Array, second: jax.Array, dtype: np.dtype) -> tuple[jax.Array, jax.Array]:
    """
    Two normal draws of two words, by multiply-adds, bit operations and square roots only: such loops vectorise.

    The first word gives u = (2 (word >> 9) + 1) / 2^24, a float32 without rounding, and with it the radius
    sqrt(-2 log u). The second one gives the angle in its quadrant, pi/4 + x, where cos and sin are
    (cos x -+ sin x) / sqrt(2), and the signs of both draws.
    """
    scaled = ((first >> np.uint32(8)) | np.uint32(1)).astype(jnp.int32).astype(jnp.float32)
    # u = 2^exponent (1 + t) with 1 + t in [2/3, 4/3), so that log u keeps its relative accuracy at u = 1
    bits = lax.bitcast_convert_type(scaled, jnp.int32) - np.int32(0x3F2AAAAB + (24 << 23))
    mantissa = (bits & np.int32(0x7FFFFF)) + np.int32(0x3F2AAAAB)
    t = (lax.bitcast_convert_type(mantissa, jnp.float32) - np.float32(1)).astype(dtype)
    exponent = (bits >> np.int32(23)).astype(dtype)
    # the lower 30 bits as a signed number of 32 bits
    x = lax.bitcast_convert_type(second << np.uint32(2), jnp.int32).astype(dtype) * dtype.type(
        math.pi / 2**33
    )
    square = x * x
    if dtype == np.float32:
        log = t * _polynomial(_LOG, t)
        sine, cosine = x * _polynomial(_SIN, square), _polynomial(_COS, square)
    else:
        s = t / (t + dtype.type(2))
        log = (s + s) * _polynomial(_ATANH, s * s)
        sine, cosine = x * _polynomial(_SIN_LONG, square), _polynomial(_COS_LONG, square)
    radius = lax.sqrt(exponent * dtype.type(-math.log(2.0)) - log)
    one, two = radius * (cosine - sine), radius * (cosine + sine)
    return _signed(one, second), _signed(two, second << np.uint32(1))


def _signed(value: jax.Array, word: jax.Array) -> jax.Array:
    """The value with the sign given by the highest bit of a word."""
    sign = word & np.uint32(0x80000000)
    if value.dtype == np.float64:
        sign = sign.astype(jnp.uint64) << np.uint64(32)
    bits = lax.bitcast_convert_type(value, sign.dtype) ^ sign
    return lax.bitcast_convert_type(bits, value.dtype)


def _polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    total: Any = x.dtype.type(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + x.dtype.type(coefficient)
    return total


__all__ = ["KINDS", "increments", "key_words", "threefry"]
