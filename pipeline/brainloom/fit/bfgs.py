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
    eps = 4.0 * jnp.finfo(tolerance.dtype).eps

    def rounding(value: jax.Array) -> jax.Array:
        return eps * jnp.maximum(1.0, jnp.abs(value))

    def left(slope: jax.Array, matrix: jax.Array) -> jax.Array:
        return 0.5 * slope @ matrix @ slope

    def going(carry: tuple) -> jax.Array:
        _, value, slope, matrix, k, stuck = carry
        return (k == 0) | ((k <= n_steps) & ~stuck & jnp.isfinite(value) & (left(slope, matrix) > tolerance))

    # The first pass only evaluates: its slope is 0. Loss and gradient are each compiled once so.
    def step(carry: tuple) -> tuple:
        z, value, slope, matrix, k, _ = carry
        way = -matrix @ slope
        promise = slope @ way
        slack = jnp.where(k == 0, 0.0, rounding(value))

        def too_far(pair: tuple) -> jax.Array:
            share, there, halvings = pair
            return (halvings < HALVINGS) & ~(there <= value + 1e-4 * share * promise + slack)

        def shorter(pair: tuple) -> tuple:
            share = 0.5 * pair[0]
            return share, loss(z + share * way), pair[2] + 1

        far = (jnp.full_like(promise, 2.0), jnp.full_like(promise, jnp.nan), jnp.asarray(-1))
        share, there, _ = jax.lax.while_loop(too_far, shorter, far)
        fine = (k == 0) | (there <= value + slack)
        new = jnp.where(fine, z + share * way, z)
        value, after = slope_of(new)
        s, y = new - z, after - slope
        curve = s @ y
        usable = curve > 1e-10 * jnp.linalg.norm(s) * jnp.linalg.norm(y)
        rho = 1.0 / jnp.where(usable, curve, 1.0)
        turn = eye - rho * jnp.outer(s, y)
        matrix = jnp.where(usable, turn @ matrix @ turn.T + rho * jnp.outer(s, s), matrix)
        return new, value, after, matrix, k + 1, ~fine

    start = jnp.zeros(size, tolerance.dtype)
    infinite = jnp.asarray(jnp.inf, tolerance.dtype)
    carry = jax.lax.while_loop(going, step, (start, infinite, start, eye, jnp.asarray(0), jnp.asarray(False)))
    z, value, slope, matrix = carry[:4]
    done = left(slope, matrix) <= jnp.maximum(tolerance, rounding(value))
    return z, value, jnp.isfinite(value) & done
