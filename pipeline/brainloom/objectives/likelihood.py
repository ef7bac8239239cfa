"""Likelihoods of covariances and cross-spectra: Wishart and complex Wishart (Whittle)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_jvp
def divergence(model: jax.Array, data: jax.Array) -> jax.Array:
    """
    ``log det S + tr(S^-1 D)`` of positive definite matrices S and data D, by the Cholesky factor of S.

    Smallest where S = D. NaN where S is not positive definite.

    Parameters
    ----------
    model, data : (..., n, n) arrays, symmetric or Hermitian
        S must be positive definite; D may be singular.

    Returns
    -------
    (...,) real array
    """
    factor = jnp.linalg.cholesky(model)
    half = jax.scipy.linalg.solve_triangular(factor, data.astype(factor.dtype), lower=True)
    whole = jax.scipy.linalg.solve_triangular(factor, _adjoint(half), lower=True)
    log_det = 2.0 * jnp.sum(jnp.log(jnp.real(_diagonal(factor))), axis=-1)
    return log_det + jnp.real(jnp.sum(_diagonal(whole), axis=-1))


@divergence.defjvp
def _divergence_jvp(primals: tuple, tangents: tuple) -> tuple:
    """
    Tangent ``tr((S^-1 - S^-1 D S^-1) dS) + tr(S^-1 dD)``.

    Cheaper than through the factor, and exact to any order: the inverse is differentiated as such.
    """
    model, data = primals
    d_model, d_data = tangents
    inverse = jnp.linalg.inv(0.5 * (model + _adjoint(model)))
    slope = inverse - inverse @ data @ inverse
    change = jnp.einsum("...ij,...ji->...", slope, d_model) + jnp.einsum("...ij,...ji->...", inverse, d_data)
    return divergence(model, data), jnp.real(change)


def _adjoint(x: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _diagonal(x: jax.Array) -> jax.Array:
    return jnp.diagonal(x, axis1=-2, axis2=-1)


def whittle(model_csd: Any, data_csd: Any, n_tapers: Any) -> jax.Array:
    """
    Negative log-likelihood of cross-spectra: ``sum_f K (log det S(f) + tr(S(f)^-1 D(f)))``.

    The K-fold average D of independent (multitaper or Bartlett) cross-spectral estimates is a complex Wishart
    matrix of K degrees of freedom around the spectrum S of the process (Whittle 1953; Brillinger 1981); what
    does not depend on the model is left out. With one region this is Whittle's likelihood of a periodogram.

    Parameters
    ----------
    model_csd : (f, n, n) complex array
        Cross-spectral density of the model, positive definite at every frequency.
    data_csd : (f, n, n) complex array
        That of the data, in the same unit and as two-sided as that of the model. It may be singular (K < n).
    n_tapers : number or (f,) array
        K, estimates that were averaged; frequencies must be far enough apart to be independent.

    Returns
    -------
    scalar
        NaN where the spectrum of the model is not positive definite.
    """
    return jnp.sum(n_tapers * divergence(jnp.asarray(model_csd), jnp.asarray(data_csd)))
