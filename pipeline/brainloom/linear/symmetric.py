"""Covariances of networks whose Jacobian is similar to a symmetric matrix: one eigendecomposition each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

# kernel(eigenvalues) -> (K, dK): K[i, j] = k(l_i, l_j), symmetric, and dK[i, j] = its derivative in l_i.
Kernel = Callable[[jax.Array], tuple[jax.Array, jax.Array]]

# Pairs of eigenvalues closer than this (relative to the largest) count as equal in derivatives: the
# divided difference loses digits below it, the limit is exact to its size.
DEGENERATE = 1e-6


def lyapunov_kernel() -> Kernel:
    """Kernel ``-1 / (l_i + l_j)`` of the stationary covariance (the Lyapunov equation in eigenvectors)."""

    def kernel(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = values[:, None] + values[None, :]
        return -1.0 / total, 1.0 / total**2

    return kernel


def band_kernel(frequency: jax.Array, weight: jax.Array, lag: float = 0.0) -> Kernel:
    """
    Kernel of the covariance seen through a filter.

    ``k(l_i, l_j) = sum_n weight_n Re[ cos(w_n lag) / ((i w_n - l_i) (-i w_n - l_j)) ]``, the quadrature of
    ``2 int |B|^2 R(w) Q R(w)^H df`` over positive frequencies. With a lag only the symmetric part is given
    (the network is reversible in the coordinates where its Jacobian is symmetric).

    Parameters
    ----------
    frequency : (node,) array
        Hz.
    weight : (node,) array
        Twice the quadrature weight (Hz) times the power gain of the filter.
    lag : float
        Seconds.
    """
    omega = 2.0 * jnp.pi * jnp.asarray(frequency)
    root = weight * jnp.cos(omega * lag)

    def kernel(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        u = 1.0 / (1j * omega[None, :] - values[:, None])
        right = jnp.conj(u).T
        return jnp.real((u * root) @ right), jnp.real((u**2 * root) @ right)

    return kernel


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def spectral_covariance(m: jax.Array, q: jax.Array, kernel: Kernel) -> jax.Array:
    """
    Covariance ``V [ (V' Q V) * K ] V'`` of a network with symmetric Jacobian ``M = V diag(l) V'``.

    Parameters
    ----------
    m : (n, n) array
        Symmetric Jacobian, 1/s.
    q : (n, n) array
        Symmetric noise covariance rate.
    kernel : callable
        From `lyapunov_kernel` or `band_kernel`.

    Returns
    -------
    (n, n) array

    Notes
    -----
    Derivatives are exact in forward and reverse mode, also at repeated eigenvalues, where those of the
    eigenvectors do not exist: only divided differences of the kernel enter.
    """
    return _evaluate(m, q, kernel)[0]


def _evaluate(m: jax.Array, q: jax.Array, kernel: Kernel) -> tuple:
    values, vectors = jnp.linalg.eigh(m)
    inner = vectors.T @ q @ vectors
    k, dk = kernel(values)
    return vectors @ (inner * k) @ vectors.T, values, vectors, inner, k, dk


@spectral_covariance.defjvp
def _spectral_covariance_jvp(kernel: Kernel, primals: tuple, tangents: tuple) -> tuple:
    m, q = primals
    dm, dq = tangents
    out, values, vectors, inner, k, dk = _evaluate(m, q, kernel)
    d = vectors.T @ (0.5 * (dm + dm.T)) @ vectors
    term = divided_term(d, values, inner, k, dk)
    change = term + term.T + (vectors.T @ dq @ vectors) * k
    return out, vectors @ change @ vectors.T


def divided_term(d: jax.Array, values: jax.Array, inner: jax.Array, k: jax.Array, dk: jax.Array) -> jax.Array:
    """
    Change of ``inner * k`` when the matrix behind the eigenvalues changes by `d`, one of its two halves.

    ``sum_k d_ik inner_kj k[l_i, l_k; l_j]`` with the divided difference ``(K_ij - K_kj) / (l_i - l_k)``, and
    ``dK_ij`` in its place where eigenvalues coincide: it exists where derivatives of eigenvectors do not.

    Parameters
    ----------
    d : (n, n) array
        The change, in the eigenbasis.
    values : (n,) array
        Eigenvalues, real or complex.
    inner, k, dk : (n, n) arrays
        What is multiplied with the kernel, the kernel, and its derivative in the first eigenvalue.
    """
    gap = values[:, None] - values[None, :]
    equal = jnp.abs(gap) < DEGENERATE * jnp.max(jnp.abs(values))
    apart = d * jnp.where(equal, 0.0, 1.0 / jnp.where(equal, 1.0, gap))
    return k * (apart @ inner) - apart @ (inner * k) + dk * ((d * equal) @ inner)
