"""Errors of fits to FC: their intervals, and the stiff and sloppy directions of the correlations."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainloom.fit.predict import functional_connectivity
from brainloom.fit.problem import FitSetup, Problem


class Posterior(NamedTuple):
    """
    Errors of a fit.

    Attributes
    ----------
    sd : (size,) array
        Of every coordinate, log units.
    error : (size, size) array
        Mean squared error matrix, its diagonal is ``sd^2``.
    eigenvalue, eigenvector : (size,), (size, size) arrays
        Of the Fisher matrix, descending; rows are directions.
    """

    sd: jax.Array
    error: jax.Array
    eigenvalue: jax.Array
    eigenvector: jax.Array


@partial(jax.jit, static_argnums=0)
def laplace(
    setup: FitSetup, problem: Problem, theta: jax.Array, effective_dof: jax.Array, prior_sd: jax.Array
) -> Posterior:
    r"""
    Errors of the penalised least-squares estimate, and the Fisher information of the data.

    The estimate minimises ``mean (r_model - r_data)^2 + penalty |theta|^2``. Linearised at the optimum it
    errs by ``H^-1 (2/M J' e - 2 penalty theta_0)``: `e` is the sampling error of the correlations, `theta_0`
    the true coordinates (which the penalty pulls to 0), ``H = 2/M J'J + 2 penalty I``. With
    ``cov(e)`` that of correlations of a Gaussian process with `effective_dof` degrees of freedom (Steiger
    1980, Psychological Bulletin 87:245) and a prior sd of `theta_0`, the mean squared error is
    ``H^-1 (4/M^2 J' cov(e) J + 4 penalty^2 prior_sd^2 I) H^-1``. A coordinate that the data say nothing
    about keeps its prior sd. Only FC counts as data; a lag-1 term of the objective is not included.

    The Fisher matrix is that of the correlation matrix of a Wishart sample, with the variances of the regions
    as nuisance parameters: its eigenvalues are inverse squared standard errors (per log unit) of the best
    unpenalised estimate along each direction.

    Parameters
    ----------
    setup : FitSetup
    problem : Problem
    theta : (size,) array
        The optimum.
    effective_dof : scalar
        Degrees of freedom of the training data.
    prior_sd : scalar
        Log units, times the width of each coordinate.

    Returns
    -------
    Posterior
    """
    fc = functional_connectivity(setup, problem, theta)
    n = fc.shape[0]
    n_pairs = n * (n - 1) / 2
    slope = jax.jacfwd(lambda value: functional_connectivity(setup, problem, value))(theta)
    slope = jnp.moveaxis(slope, -1, 0) * (1.0 - jnp.eye(n))
    flat = slope.reshape(len(theta), n * n)

    # each pair stands twice in the symmetric matrices
    width = jnp.asarray(setup.space.prior_sd(), flat.dtype)
    weight = setup.fc_weight
    hessian = weight * (flat @ flat.T) / n_pairs + 2.0 * problem["penalty"] * jnp.diag(width**-2)
    # <J/2, dr> with dr = ds - r (ds_ii + ds_jj)/2 is the functional <K, ds> of the sample covariance s
    functional = 0.5 * slope
    shift = jnp.einsum("pij,ij->pi", functional, fc)
    functional = functional - shift[:, :, None] * jnp.eye(n)
    root = jnp.linalg.cholesky(fc + 1e-10 * jnp.eye(n))
    white = jnp.einsum("ki,pkl,lj->pij", root, functional, root).reshape(len(theta), n * n)
    sampling = 2.0 / effective_dof * (white @ white.T)
    drawn = jnp.diag((2.0 * problem["penalty"] * prior_sd / width) ** 2)
    noise = (2.0 * weight / n_pairs) ** 2 * sampling + drawn
    error = jnp.linalg.solve(hessian, jnp.linalg.solve(hessian, noise).T)
    sd = jnp.sqrt(jnp.maximum(jnp.diag(error), 0.0))

    fisher = _fisher(flat.reshape(-1, n, n), fc, root, effective_dof)
    eigenvalue, eigenvector = jnp.linalg.eigh(fisher)
    return Posterior(sd, 0.5 * (error + error.T), eigenvalue[::-1], eigenvector.T[::-1])


def _fisher(slope: jax.Array, fc: jax.Array, root: jax.Array, effective_dof: jax.Array) -> jax.Array:
    """Fisher matrix of correlations, region variances projected out."""
    n = fc.shape[0]
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(n), lower=True)

    def whiten(matrices: jax.Array) -> jax.Array:
        return jnp.einsum("ik,pkl,jl->pij", inverse, matrices, inverse).reshape(len(matrices), n * n)

    unit = jnp.eye(n)
    scales = unit[:, :, None] * fc[:, None, :]
    nuisance = whiten(scales + jnp.swapaxes(scales, 1, 2))
    wanted = whiten(slope)
    cross = nuisance @ wanted.T
    profiled = wanted @ wanted.T - cross.T @ jnp.linalg.solve(nuisance @ nuisance.T, cross)
    return 0.5 * effective_dof * 0.5 * (profiled + profiled.T)
