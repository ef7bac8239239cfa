"""Differentiable solution of the continuous Lyapunov equation, real or complex."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

MAX_DOUBLINGS = 60


def lyapunov(a: jax.Array, q: jax.Array) -> jax.Array:
    """
    Solve ``A X + X A^H + Q = 0`` for a stable ``A``.

    The Cayley transform turns the equation into ``P = E P E^H + R`` with spectral radius of ``E`` below 1,
    whose series is summed by repeated squaring (Smith 1968, SIAM J Appl Math 16:198). Derivatives are those
    of the solution, by the implicit function theorem: their memory does not depend on the number of
    doublings, and forward and reverse mode both work.

    Parameters
    ----------
    a : (n, n) array, real or complex
        All eigenvalues in the open left half plane.
    q : (n, n) array
        Hermitian.

    Returns
    -------
    (n, n) array
        The Hermitian solution, in units of `q` times time if `a` is a rate. Where `a` is not stable the
        result has no meaning (usually Inf or NaN): check the stability margin first.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(lyapunov(-2.0 * jnp.eye(1), jnp.ones((1, 1)))[0, 0])  # variance q / (2 rate)
    0.25
    """
    a = jnp.asarray(a)
    q = jnp.asarray(q, jnp.result_type(a, q))
    a = a.astype(q.dtype)
    fixed = lax.stop_gradient(a)

    def operator(x: jax.Array) -> jax.Array:
        return -(a @ x + x @ a.conj().T)

    def solve(_: object, rhs: jax.Array) -> jax.Array:
        return _doubling(fixed, rhs)

    def transpose_solve(_: object, rhs: jax.Array) -> jax.Array:
        return _doubling(fixed.T, rhs)

    return lax.custom_linear_solve(operator, q, solve, transpose_solve)


def _doubling(a: jax.Array, q: jax.Array) -> jax.Array:
    """Sum of the Smith series; the number of doublings depends on `a` alone, so batches of `q` share it."""
    n = a.shape[0]
    identity = jnp.eye(n, dtype=a.dtype)
    shift = -jnp.real(jnp.trace(a)) / n
    inverse = jnp.linalg.inv(shift * identity - a)
    e = (shift * identity + a) @ inverse
    p = 2.0 * shift * (inverse @ q @ inverse.conj().T)
    small = jnp.finfo(jnp.real(a).dtype).eps

    def unfinished(carry: tuple) -> jax.Array:
        e, _, k = carry
        size = jnp.sum(jnp.abs(e) ** 2)
        return (k < MAX_DOUBLINGS) & (size > small) & jnp.isfinite(size)

    def double(carry: tuple) -> tuple:
        e, p, k = carry
        return e @ e, p + e @ p @ e.conj().T, k + 1

    _, p, _ = lax.while_loop(unfinished, double, (e, p, 0))
    return p
