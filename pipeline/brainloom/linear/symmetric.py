"""Covariances of networks whose Jacobian is similar to a symmetric matrix: one eigendecomposition each."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Pairs of eigenvalues closer than this (relative to the largest) count as equal in derivatives: the
# divided difference loses digits below it, the limit is exact to its size.
DEGENERATE = 1e-6


class LyapunovKernel(NamedTuple):
    """Kernel ``-1 / (l_i + l_j)`` of the stationary covariance (the Lyapunov equation in eigenvectors)."""

    def __call__(self, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """K[i, j] = k(l_i, l_j), symmetric, and its derivative in l_i: two (n, n) arrays."""
        total = values[:, None] + values[None, :]
        return -1.0 / total, 1.0 / total**2


class BandKernel(NamedTuple):
    """
    Kernel of the covariance seen through a filter.

    ``k(l_i, l_j) = sum_n weight_n cos(w_n lag) Re[ 1 / ((i w_n - l_i) (-i w_n - l_j)) ]``, the quadrature of
    ``2 int |B|^2 R(w) Q R(w)^H df`` over positive frequencies. With a lag only the symmetric part is given
    (the network is reversible in the coordinates where its Jacobian is symmetric).

    Attributes
    ----------
    frequency : (node,) array
        Hz.
    weight : (node,) array
        Twice the quadrature weight (Hz) times the power gain of the filter.
    lag : float
        Seconds.
    """

    frequency: jax.Array
    weight: jax.Array
    lag: float = 0.0

    def __call__(self, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        """K[i, j] = k(l_i, l_j), symmetric, and its derivative in l_i: two (n, n) arrays."""
        omega = 2.0 * jnp.pi * jnp.asarray(self.frequency)
        weight = self.weight * jnp.cos(omega * self.lag)
        # Re 1 / ((i w - l)(-i w - m)) = (w^2 + l m) / ((w^2 + l^2)(w^2 + m^2)): two real products of matrices
        slow = 1.0 / (omega**2 + values[:, None] ** 2)
        fast = values[:, None] * slow
        right = jnp.concatenate([slow, fast], axis=1).T
        left = jnp.concatenate([slow * omega**2 * weight, fast * weight], axis=1)
        change = jnp.concatenate(
            [-2.0 * fast * slow * omega**2 * weight, (slow - 2.0 * fast**2) * weight], axis=1
        )
        return left @ right, change @ right


Kernel = LyapunovKernel | BandKernel


@jax.custom_jvp
def spectral_covariance(m: jax.Array, q: jax.Array, kernel: Kernel) -> jax.Array:
    """
    Covariance ``V [ (V' Q V) * K ] V'`` of a network with symmetric Jacobian ``M = V diag(l) V'``.

    Parameters
    ----------
    m : (n, n) array
        Symmetric Jacobian, 1/s.
    q : (n, n) array
        Symmetric noise covariance rate.
    kernel : LyapunovKernel or BandKernel
        Its arrays are constants: derivatives in them are not given.

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
def _spectral_covariance_jvp(primals: tuple, tangents: tuple) -> tuple:
    m, q, kernel = primals
    dm, dq, _ = tangents
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
