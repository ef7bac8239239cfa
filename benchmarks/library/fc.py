"""The loss of W4a for JAX, the same as `plain.fc_loss`."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def fc_loss(x: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared difference of the Pearson correlations of all pairs of (sample, region) x from those of `target`."""
    z = x - jnp.mean(x, axis=0)
    z = z * jax.lax.rsqrt(jnp.sum(z * z, axis=0))
    off = (z.T @ z - target) * (1.0 - jnp.eye(x.shape[1], dtype=x.dtype))
    return jnp.sum(off * off) / (x.shape[1] * (x.shape[1] - 1))
