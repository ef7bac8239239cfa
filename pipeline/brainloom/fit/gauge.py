"""What FC cannot tell: the scale of the noise and the saturation of the nonlinearity. Fixed here, not fitted."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from brainloom.fit.predict import Values, constrained, jacobian_and_noise
from brainloom.fit.problem import FitSetup, Problem
from brainloom.linear.lyapunov import lyapunov


@partial(jax.jit, static_argnums=0)
def fix_gauge(
    setup: FitSetup, problem: Problem, theta: jax.Array, noise_level: jax.Array, saturation: jax.Array
) -> Values:
    """
    Parameters with absolute noise amplitudes and, for `HopfStep`, the saturation of each region.

    The linear-noise FC depends on neither. For the Hopf model ``beta <x^2 + y^2> / |a|`` measures how far
    fluctuations reach into the nonlinearity. One beta for all regions would make it vary a hundredfold
    between regions whose fitted ``a`` differ, and the approximation fail in those nearest to bifurcation; so
    beta is regional, such that the ratio is `noise_level` everywhere (and so is its median), and the noise
    scale is such that the median of beta is `saturation`. For a linear model the mean variance of x is 1.

    Parameters
    ----------
    setup : FitSetup
    problem : Problem
    theta : (size,) array
    noise_level : scalar
        ``beta <x^2 + y^2> / |a|``.
    saturation : scalar
        Median beta, 1/s.

    Returns
    -------
    dict
        As `constrained`, with ``noise`` in state/sqrt(s) and ``beta`` (region,) for rotating models.
    """
    values = constrained(setup, problem, theta)
    variance = jnp.real(jnp.diag(stationary_covariance(setup, problem, values)))
    if not setup.rotating:
        return values | {"noise": values["noise"] / jnp.sqrt(jnp.mean(variance))}
    ratio = noise_level * jnp.abs(values["local"]) / variance
    scale = jnp.median(ratio) / saturation
    return values | {"noise": values["noise"] * jnp.sqrt(scale), "beta": ratio / scale}


def stationary_covariance(setup: FitSetup, problem: Problem, values: Values) -> jax.Array:
    """
    Covariance of the linearised network, unfiltered: of x, or ``E[z z^H]`` of z = x + i y.

    Returns
    -------
    (region, region) array, Hermitian
    """
    jacobian, noise = jacobian_and_noise(setup, problem, values)
    return lyapunov(jacobian, jnp.diag(noise).astype(jacobian.dtype))
