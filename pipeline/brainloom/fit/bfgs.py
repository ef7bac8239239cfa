"""A small quasi-Newton search inside of compiled programs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

HALVINGS = 20


def minimum(
    loss: Callable[[jax.Array], jax.Array], size: int, tolerance: jax.Array, n_steps: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """
    BFGS from 0 for a loss whose curvature there is about the identity, to be compiled.

    Parameters
    ----------
    loss : callable
        ``(size,) -> scalar``.
    size : int
    tolerance : scalar
        Half the squared gradient, which is what is left to gain, at the end.
    n_steps : int scalar

    Returns
    -------
    at : (size,) array
    value : scalar
    converged : bool scalar
    """
    slope_of = jax.value_and_grad(loss)
    eye = jnp.eye(size, dtype=tolerance.dtype)

    def going(carry: tuple) -> jax.Array:
        _, value, slope, matrix, k, stuck = carry
        return (k < n_steps) & ~stuck & jnp.isfinite(value) & (0.5 * slope @ matrix @ slope > tolerance)

    def step(carry: tuple) -> tuple:
        z, value, slope, matrix, k, _ = carry
        way = -matrix @ slope
        promise = slope @ way

        def too_far(pair: tuple) -> jax.Array:
            share, there, halvings = pair
            return (halvings < HALVINGS) & ~(there <= value + 1e-4 * share * promise)

        def shorter(pair: tuple) -> tuple:
            share = 0.5 * pair[0]
            return share, loss(z + share * way), pair[2] + 1

        one = jnp.ones_like(promise)
        share, there, halvings = jax.lax.while_loop(too_far, shorter, (one, loss(z + way), 0))
        fine = there <= value
        new = jnp.where(fine, z + share * way, z)
        value, after = slope_of(new)
        s, y = new - z, after - slope
        curve = s @ y
        usable = curve > 1e-10 * jnp.linalg.norm(s) * jnp.linalg.norm(y)
        rho = 1.0 / jnp.where(usable, curve, 1.0)
        left = eye - rho * jnp.outer(s, y)
        matrix = jnp.where(usable, left @ matrix @ left.T + rho * jnp.outer(s, s), matrix)
        return new, value, after, matrix, k + 1, ~fine | (halvings >= HALVINGS)

    start = jnp.zeros(size, tolerance.dtype)
    value, slope = slope_of(start)
    carry = jax.lax.while_loop(going, step, (start, value, slope, eye, jnp.asarray(0), jnp.asarray(False)))
    z, value, slope, matrix = carry[:4]
    return z, value, jnp.isfinite(value) & (0.5 * slope @ matrix @ slope <= tolerance)
