"""Band-limited covariance of any diagonalisable network: one eigendecomposition, whatever the quadrature."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from brainloom.linear.symmetric import divided_term


@jax.custom_jvp
def resolvent_covariance(
    jacobian: jax.Array, noise: jax.Array, frequency: jax.Array, weight: jax.Array
) -> jax.Array:
    """
    Covariance seen through a filter, ``sum_n weight_n R_n Q R_n^H`` with ``R_n = (2 pi i f_n - J)^-1``.

    With ``J = V diag(l) V^-1`` every resolvent is diagonal in the same basis, so the sum over nodes acts on
    eigenvalues alone. Hundreds of nodes, which narrow resonances need, cost no more than a few; the
    eigendecomposition of a general matrix is that of LAPACK and runs on the CPU.

    Parameters
    ----------
    jacobian : (n, n) complex array
        Diagonalisable, 1/s.
    noise : (n, n) array
        Covariance rate of the white noise, Hermitian.
    frequency, weight : (f,) arrays
        Nodes in Hz, of both signs, and their weights. They are constants: derivatives in them are not given.

    Returns
    -------
    (n, n) complex array, Hermitian

    Notes
    -----
    Derivatives are exact in forward and reverse mode, also where eigenvalues coincide. They lose accuracy
    with the condition of the eigenvectors, which is that of a normal matrix for a symmetric connectome with
    equal frequencies and stays mild for real ones.
    """
    return _evaluate(jacobian, noise, frequency, weight)[0]


def _evaluate(jacobian: jax.Array, noise: jax.Array, frequency: jax.Array, weight: jax.Array) -> tuple:
    values, vectors = jnp.linalg.eig(jacobian)
    inverse = jnp.linalg.inv(vectors)
    inner = inverse @ noise.astype(values.dtype) @ inverse.conj().T
    u = 1.0 / (2j * jnp.pi * frequency[None, :] - values[:, None])
    right = jnp.conj(u).T
    k, dk = (u * weight) @ right, (u**2 * weight) @ right
    out = vectors @ (inner * k) @ vectors.conj().T
    return out, values, vectors, inverse, inner, k, dk


@resolvent_covariance.defjvp
def _resolvent_covariance_jvp(primals: tuple, tangents: tuple) -> tuple:
    out, values, vectors, inverse, inner, k, dk = _evaluate(*primals)
    change, noise_change, *_ = tangents
    d = inverse @ change.astype(values.dtype) @ vectors
    term = divided_term(d, values, inner, k, dk)
    direct = inverse @ noise_change.astype(values.dtype) @ inverse.conj().T
    return out, vectors @ (term + term.conj().T + direct * k) @ vectors.conj().T
