"""From the coordinates of a fit to the moments of the network, by the linear-noise approximation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from brainloom.fit.problem import FitSetup, Problem
from brainloom.linear.jacobian import local_jacobian, rotating_rate
from brainloom.linear.lyapunov import lyapunov
from brainloom.linear.rotating import band_covariance, observed_spectrum
from brainloom.linear.symmetric import BandKernel, LyapunovKernel, spectral_covariance

Values = dict[str, jax.Array]


def constrained(setup: FitSetup, problem: Problem, theta: jax.Array) -> Values:
    """
    Parameters in their units from unconstrained coordinates.

    The local rate never falls below the floor and weights are not negative, so with diffusive coupling every
    eigenvalue of the Jacobian lies left of ``-floor`` (Gershgorin): stable by construction.

    Parameters
    ----------
    setup : FitSetup
    problem : Problem
    theta : (size,) array

    Returns
    -------
    dict
        ``coupling`` (1/s), ``homotopic`` (1), ``local`` (1/s, negative), ``noise`` (relative to its scale),
        ``gain_in``, ``gain_out`` (1).
    """
    log = setup.space.unpack(theta)
    return {
        "coupling": problem["coupling_start"] * jnp.exp(log["coupling"]),
        "homotopic": problem["homotopic_start"] * jnp.exp(log["homotopic"]),
        "local": -(problem["floor"] + (problem["rate"] - problem["floor"]) * jnp.exp(log["local"])),
        "noise": jnp.exp(log["noise"]),
        "gain_in": jnp.exp(log["gain_in"]),
        "gain_out": jnp.exp(log["gain_out"]),
    }


def effective_weights(problem: Problem, values: Values) -> jax.Array:
    """Weights of the coupled network, 1/s: ``coupling gain_in_i (S + homotopic H)_ij gain_out_j``."""
    base = problem["weights"] + values["homotopic"] * problem["homotopic"]
    return values["coupling"] * values["gain_in"][:, None] * base * values["gain_out"][None, :]


def jacobian_and_noise(setup: FitSetup, problem: Problem, values: Values) -> tuple[jax.Array, jax.Array]:
    """
    Jacobian at the fixed point 0 and noise covariance rate, real or (rotating models) complex.

    Returns
    -------
    (region, region) array, 1/s, and (region,) array: ``E|dz|^2 / dt`` of each region.
    """
    n = setup.space.n_regions
    node = {
        parameter.name: jnp.full(n, jnp.asarray(parameter.default)) for parameter in setup.model.PARAMETERS
    }
    node[setup.local] = values["local"]
    if setup.rotating:
        node["w"] = problem["omega"]
    origin = {name: jnp.zeros(n) for name in setup.model.state_names()}
    rate = rotating_rate(local_jacobian(setup.model, node, origin))
    weights = effective_weights(problem, values)
    jacobian = weights + jnp.diag(rate - jnp.sum(weights, axis=1))
    return jacobian, len(setup.model.STATES) * values["noise"] ** 2


def covariance(setup: FitSetup, problem: Problem, values: Values) -> jax.Array:
    """
    Covariance of the observable x over regions, up to the noise scale: what FC is computed from.

    Returns
    -------
    (region, region) array; twice the covariance of x for a rotating network.
    """
    jacobian, noise = jacobian_and_noise(setup, problem, values)
    return driven_covariance(setup, problem, values, jacobian, jnp.diag(noise))


def driven_covariance(
    setup: FitSetup, problem: Problem, values: Values, jacobian: jax.Array, noise: jax.Array
) -> jax.Array:
    """
    Covariance of the observable for any noise, also one that regions share.

    Real networks with a symmetric connectome take one ``eigh``: with ``T = diag(sqrt(gain_in / gain_out))``
    the Jacobian is similar to a symmetric matrix. Others take one general eigendecomposition, or, without a
    band, a Lyapunov equation of the size of the network; a common rotation leaves its solution unchanged and
    is removed, which speeds it up.

    Parameters
    ----------
    jacobian : (region, region) array
        1/s.
    noise : (region, region) array
        Covariance of the noise per unit of time.

    Returns
    -------
    (region, region) array; twice the covariance of x for a rotating network.
    """
    if setup.through_band and (setup.rotating or not setup.symmetric):
        return band_covariance(jacobian, noise, problem["frequency"], problem["band_weight"])
    if setup.rotating or not setup.symmetric:
        mean = jnp.mean(jnp.imag(jnp.diag(jacobian)))
        still = jacobian - 1j * mean * jnp.eye(len(noise)) if setup.rotating else jacobian
        return jnp.real(lyapunov(still, noise.astype(still.dtype)))
    scale = jnp.sqrt(values["gain_in"] / values["gain_out"])
    similar = jacobian * scale[None, :] / scale[:, None]
    band = BandKernel(problem["frequency"], problem["band_weight"])
    inner = spectral_covariance(
        0.5 * (similar + similar.T),
        noise / (scale[:, None] * scale[None, :]),
        band if setup.through_band else LyapunovKernel(),
    )
    return inner * scale[:, None] * scale[None, :]


def lag1_covariances(setup: FitSetup, problem: Problem, values: Values) -> tuple[jax.Array, jax.Array]:
    """
    Covariances of x at lag 0 and at one repetition time, both seen through the data's band.

    Returns
    -------
    two (region, region) arrays: ``[i, j]`` is ``<x_i(t + lag) x_j(t)>``
    """
    jacobian, noise = jacobian_and_noise(setup, problem, values)
    band = (jacobian, jnp.diag(noise), problem["frequency"], problem["band_weight"])
    return band_covariance(*band), band_covariance(*band, problem["repetition_time"])


def seen_features(
    problem: Problem, jacobian: jax.Array, noise: jax.Array, frequency: jax.Array
) -> dict[str, jax.Array]:
    """
    What a recording would show of a network besides FC, in the units of the data's features.

    Parameters
    ----------
    problem : Problem
        Its fine quadrature and repetition time.
    jacobian, noise
        As in `band_covariance`.
    frequency : (frequency,) array
        Hz, evenly spaced, from 0.

    Returns
    -------
    dict
        ``lag1`` (region, region) and ``variance`` (region,), relative to its mean, through the band; ``psd`` (region,
        frequency), of unit variance.
    """
    band = (jacobian, noise, problem["fine_frequency"], problem["fine_weight"])
    zero, one = band_covariance(*band), band_covariance(*band, problem["repetition_time"])
    variance = jnp.diag(zero)
    # Frequency 0 is left out of the integral and kept in the output, as Welch's method does.
    spectrum, step = observed_spectrum(jacobian, noise, frequency), frequency[1] - frequency[0]
    return {
        "lag1": correlation(zero, one),
        "variance": variance / jnp.mean(variance),
        "psd": spectrum / (step * jnp.sum(spectrum, axis=1, keepdims=True)),
    }


def correlation(covariance: jax.Array, lagged: jax.Array | None = None) -> jax.Array:
    """Correlation matrix of a covariance matrix, or of a lagged one by the variances of the first."""
    scale = 1.0 / jnp.sqrt(jnp.diag(covariance))
    return (covariance if lagged is None else lagged) * scale[:, None] * scale[None, :]


def functional_connectivity(setup: FitSetup, problem: Problem, theta: jax.Array) -> jax.Array:
    """Model FC at coordinates `theta`: (region, region)."""
    return correlation(covariance(setup, problem, constrained(setup, problem, theta)))


def objective(setup: FitSetup, problem: Problem, theta: jax.Array) -> jax.Array:
    """
    Mean squared error of FC over pairs of regions, plus ``lambda / n_regions * sum((theta / width)^2)``.

    With ``lag1_weight`` the mean squared error of the lag-1 correlation over all pairs is added; ``fc_weight`` is the
    factor of that of FC.
    """
    values = constrained(setup, problem, theta)
    above = jnp.triu(jnp.ones_like(problem["fc"]), 1)
    error = correlation(covariance(setup, problem, values)) - problem["fc"]
    data = setup.fc_weight * jnp.sum(above * error**2) / jnp.sum(above)
    loss = data + problem["penalty"] * setup.space.penalty(theta)
    if setup.lag1_weight > 0.0:
        model = correlation(*lag1_covariances(setup, problem, values))
        loss = loss + setup.lag1_weight * jnp.mean((model - problem["lag1"]) ** 2)
    return loss
