"""Distributions of values as kernel densities on a grid, and distances between them; differentiable."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.objectives.arrays import root

GRID = (-0.99, 0.99, 100)  # of correlations
# The narrowest kernel, in spacings of the grid: narrower ones would fall between its points.
_NARROWEST = 0.25


def grid_of(midpoints: Any) -> np.ndarray:
    """The grid: evenly spaced and rising."""
    grid = np.linspace(*GRID) if midpoints is None else np.asarray(midpoints, dtype=float)
    if grid.ndim != 1 or len(grid) < 2 or not np.all(np.diff(grid) > 0):
        raise ValueError("midpoints must be one rising series of at least 2 numbers")
    if not np.allclose(np.diff(grid), grid[1] - grid[0], rtol=1e-6):
        raise ValueError("midpoints must be evenly spaced")
    return grid


def bandwidth_rule(rule: Any) -> str | float:
    """``"scott"``, ``"silverman"`` or a positive number."""
    if rule is None:
        return "scott"
    if isinstance(rule, str):
        if rule not in ("scott", "silverman"):
            raise ValueError(f"bw_method is {rule!r}; it must be 'scott', 'silverman' or a number")
        return rule
    if not float(rule) > 0.0:
        raise ValueError(f"bw_method is {rule!r}; it must be positive")
    return float(rule)


def cumulative(values: jax.Array, weight: jax.Array, grid: jax.Array, rule: str | float) -> jax.Array:
    """
    Cumulative share, at the points of a grid, of a Gaussian kernel density of weighted values.

    Parameters
    ----------
    values, weight : (value,) arrays
    grid : (grid,) array
    rule : "scott", "silverman" or number
        Bandwidth in units of the standard deviation.

    Returns
    -------
    (grid,) array, rising to 1
    """
    n = jnp.sum(weight)
    mean = jnp.sum(weight * values) / n
    spread = root(jnp.sum(weight * (values - mean) ** 2) / jnp.maximum(n - 1.0, 1.0))
    factor = {"scott": n**-0.2, "silverman": (0.75 * n) ** -0.2}[rule] if isinstance(rule, str) else rule
    width = jnp.maximum(factor * spread, _NARROWEST * (grid[1] - grid[0]))

    # One point at a time, computed again in the backward pass: all pairs of windows and points would fill memory.
    @jax.checkpoint
    def density(point: jax.Array) -> jax.Array:
        return jnp.sum(weight * jnp.exp(-0.5 * ((point - values) / width) ** 2))

    found = jnp.cumsum(jax.lax.map(density, grid))
    return found / jnp.where(found[-1] == 0.0, 1.0, found[-1])


def ks(a: jax.Array, b: jax.Array) -> jax.Array:
    """Largest difference of two cumulative distributions on one grid."""
    return jnp.max(jnp.abs(a - b))


def wasserstein(a: jax.Array, b: jax.Array, spacing: jax.Array) -> jax.Array:
    """Area between two cumulative distributions on one grid."""
    return jnp.sum(jnp.abs(a - b)) * spacing
