"""Statistics with finite gradients everywhere: what has no variance gives 0 and passes no gradient on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# A series whose spread is this many rounding errors of its largest value or less is taken as constant.
_ROUNDING = 64.0
# Correlations are clipped here before atanh, as in `brainloom.analysis.fc`.
_CLIP = 0.999


def root(x: jax.Array) -> jax.Array:
    """Square root whose gradient at 0 is 0."""
    positive = x > 0.0
    # NaN is not positive, yet must stay NaN
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0 * x)


def log_of(x: jax.Array) -> jax.Array:
    """Logarithm of what is not negative; the smallest normal number stands for 0."""
    tiny = jnp.finfo(x.dtype).tiny
    usable = x > tiny
    return jnp.where(usable, jnp.log(jnp.where(usable, x, 1.0)), jnp.log(tiny) + 0.0 * x)


def rms(x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Root of the (weighted) mean square of all entries; those of weight 0 may be anything."""
    if weight is None:
        return root(jnp.mean(x**2))
    return root(jnp.sum(weight * jnp.where(weight > 0.0, x, 0.0) ** 2) / jnp.sum(weight))


def modulus(z: jax.Array) -> jax.Array:
    """Absolute value of complex numbers, with gradient 0 at 0."""
    return root(jnp.real(z) ** 2 + jnp.imag(z) ** 2)


def without_noise(centred: jax.Array, scale: jax.Array, axis: int = 0) -> jax.Array:
    """Series whose root mean square is rounding noise of numbers of size `scale` become exactly 0."""
    relative = jnp.abs(jax.lax.stop_gradient(centred)) / jnp.where(scale > 0.0, scale, 1.0)
    power = jnp.mean(relative**2, axis=axis, keepdims=True)
    return jnp.where(power <= (_ROUNDING * jnp.finfo(centred.dtype).eps) ** 2, 0.0, centred)


def centre(x: jax.Array, axis: int = 0) -> jax.Array:
    """Without the mean along an axis; constant series become exactly 0."""
    scale = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=axis, keepdims=True)
    return without_noise(x - jnp.mean(x, axis=axis, keepdims=True), scale, axis)


def unit_norm(centred: jax.Array, axis: int = 0) -> jax.Array:
    """Divide by the norm along an axis; zeros stay."""
    # First to order 1, so that squares of very small or large numbers neither vanish nor overflow.
    scale = jnp.max(jnp.abs(jax.lax.stop_gradient(centred)), axis=axis, keepdims=True)
    centred = centred / jnp.where(scale > 0.0, scale, 1.0)
    norm = root(jnp.sum(centred**2, axis=axis, keepdims=True))
    return centred / jnp.where(norm == 0.0, 1.0, norm)


def detrend(x: jax.Array) -> jax.Array:
    """Without mean and linear trend over the first axis; what has nothing else becomes exactly 0."""
    n = x.shape[0]
    ramp = jnp.linspace(-1.0, 1.0, n, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    slope = jnp.sum(ramp * centred, axis=0, keepdims=True) / jnp.sum(ramp**2)
    scale = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=0, keepdims=True)
    return without_noise(centred - slope * ramp, scale)


def pearson(a: jax.Array, b: jax.Array, weight: jax.Array | None = None) -> jax.Array:
    """Pearson correlation of all entries of two arrays; 0 if one does not vary."""
    a, b = a.ravel(), b.ravel()
    if weight is None:
        return jnp.sum(unit_norm(centre(a)) * unit_norm(centre(b)))
    total = jnp.sum(weight)
    share = weight.ravel() / jnp.where(total == 0.0, 1.0, total)
    size = [jnp.max(jnp.abs(jax.lax.stop_gradient(x))) for x in (a, b)]
    a, b = (
        without_noise(jnp.where(share > 0.0, x - jnp.sum(share * x), 0.0), scale)
        for x, scale in zip((a, b), size, strict=True)
    )
    return jnp.sum(unit_norm(a * jnp.sqrt(share)) * unit_norm(b * jnp.sqrt(share)))


def upper(matrix: Any, k: int = 1) -> Any:
    """Entries of (..., n, n) on and above the k-th diagonal, row by row."""
    rows, columns = np.triu_indices(matrix.shape[-1], k=k)
    return matrix[..., rows, columns]


def correlations(a: jax.Array, b: jax.Array) -> jax.Array:
    """Pearson correlation of every column of (..., time, n) with every column of another; 0 where one is constant."""
    a, b = (unit_norm(centre(x, -2), -2) for x in (a, b))
    return jnp.einsum("...ti,...tj->...ij", a, b)


def average_correlations(matrices: jax.Array) -> jax.Array:
    """Mean of (realisation, ...) correlations in Fisher z; a single one comes back as it is."""
    if matrices.shape[0] == 1:
        return matrices[0]
    return jnp.tanh(jnp.mean(jnp.arctanh(jnp.clip(matrices, -_CLIP, _CLIP)), axis=0))


def compare(
    a: jax.Array, b: jax.Array, measure: str, as_loss: bool, weight: jax.Array | None = None
) -> jax.Array:
    """Root mean square difference (``"rmse"``), or (weighted) Pearson correlation r, 1 - r as a loss (``"corr"``)."""
    if measure == "rmse":
        return rms(a - b)
    r = pearson(a, b, weight)
    return 1.0 - r if as_loss else r
