"""The model of pooled fits: that of a subject, with inputs that regions share, and a prior from other subjects."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from brainloom.fit.predict import constrained, correlation, driven_covariance, jacobian_and_noise
from brainloom.fit.problem import FitSetup, Problem


@dataclass(frozen=True)
class PooledSetup:
    """
    Static settings of a pooled fit.

    Attributes
    ----------
    own : FitSetup
        The model of a subject by itself.
    rank : int
        Number of common inputs.
    """

    own: FitSetup
    rank: int

    @property
    def size(self) -> int:
        """Number of coordinates: those of `own`, then the loading of each region on each common input."""
        return self.own.space.size + self.own.space.n_regions * self.rank

    @property
    def blocks(self) -> dict[str, slice]:
        """Which coordinates belong together: each global parameter, each field, all loadings."""
        space, n = self.own.space, self.own.space.n_regions
        found = {name: slice(k, k + 1) for k, name in enumerate(space.global_names)}
        for k, name in enumerate(space.regional_names):
            first = len(space.global_names) + k * n
            found[name] = slice(first, first + n)
        return found | ({"common": slice(space.size, self.size)} if self.rank else {})

    def loadings(self, theta: jax.Array) -> jax.Array:
        """
        Common inputs of each region: (region, rank).

        Parameters
        ----------
        theta : (size,) array
        """
        return theta[self.own.space.size :].reshape(self.own.space.n_regions, self.rank)


def pooled_covariance(setup: PooledSetup, problem: Problem, theta: jax.Array) -> jax.Array:
    r"""
    Covariance of a network whose regions share part of their noise.

    The noise of region i is :math:`s_i (\xi_i + \sum_k b_{ik} \eta_k)`: its own, and loadings `b` on common inputs,
    so its covariance rate is ``diag(s) (I + b b') diag(s)``. Common inputs stand for what reaches several regions
    from outside of the connectome, and unlike positive coupling they can make correlations negative.

    Parameters
    ----------
    setup : PooledSetup
    problem : dict of arrays
        See `brainloom.fit.problem.make_problem`.
    theta : (size,) array

    Returns
    -------
    (region, region) array, up to the noise scale
    """
    values = constrained(setup.own, problem, theta[: setup.own.space.size])
    jacobian, noise = jacobian_and_noise(setup.own, problem, values)
    shared = jnp.sqrt(noise)[:, None] * setup.loadings(theta)
    return driven_covariance(setup.own, problem, values, jacobian, jnp.diag(noise) + shared @ shared.T)


def pooled_fc(setup: PooledSetup, problem: Problem, theta: jax.Array) -> jax.Array:
    """FC of the pooled model: (region, region)."""
    return correlation(pooled_covariance(setup, problem, theta))


def pooled_objective(setup: PooledSetup, problem: Problem, theta: jax.Array) -> jax.Array:
    """
    Mean squared error of FC over pairs of regions, plus ``sum(precision * (theta - prior)^2)``.

    Parameters
    ----------
    setup : PooledSetup
    problem : dict of arrays
        As for a subject by itself, and ``prior, precision``, both (size,). With ``directions`` (direction, size),
        orthonormal, and ``ease`` (direction,), the precision is smaller by `ease` along each direction.
    theta : (size,) array
    """
    above = jnp.triu(jnp.ones_like(problem["fc"]), 1)
    error = pooled_fc(setup, problem, theta) - problem["fc"]
    deviation = theta - problem["prior"]
    penalty = jnp.sum(problem["precision"] * deviation**2)
    if "directions" in problem:
        penalty -= jnp.sum(problem["ease"] * (problem["directions"] @ deviation) ** 2)
    return jnp.sum(above * error**2) / jnp.sum(above) + penalty
