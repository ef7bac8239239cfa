"""Cross-spectra and band-limited covariances of any linear network, by its resolvent."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def cross_spectrum(jacobian: jax.Array, noise: jax.Array, frequency: jax.Array) -> jax.Array:
    """
    Cross-spectral density ``S(f) = R Q R^H`` with ``R = (i 2 pi f - J)^-1``.

    Parameters
    ----------
    jacobian : (n, n) array, real or complex
        1/s.
    noise : (n, n) array
        Covariance rate of the white noise, state^2/s.
    frequency : (f,) array
        Hz, of either sign. For a complex (rotating) network the two signs differ.

    Returns
    -------
    (f, n, n) complex array
        Two-sided density, state^2/Hz: its integral over all frequencies is the covariance.
    """
    n = jacobian.shape[0]
    complex_type = jnp.result_type(jacobian, jnp.complex64)
    shift = 2j * jnp.pi * jnp.asarray(frequency)[:, None, None] * jnp.eye(n)
    resolvent = jnp.linalg.inv((shift - jacobian).astype(complex_type))
    return resolvent @ noise.astype(complex_type) @ jnp.conj(jnp.swapaxes(resolvent, -1, -2))


def lagged_band_covariance(
    spectrum: jax.Array, frequency: jax.Array, weight: jax.Array, lag: float
) -> jax.Array:
    """
    Covariance at a lag, seen through a filter: ``C_ij(lag) = <x_i(t + lag) x_j(t)>``.

    Parameters
    ----------
    spectrum : (f, n, n) complex array
        From `cross_spectrum` at the nodes of the quadrature.
    frequency, weight : (f,) arrays
        Nodes, and twice their quadrature weight times the filter's power gain.
    lag : float
        Seconds.

    Returns
    -------
    (n, n) real array
    """
    phase = jnp.exp(2j * jnp.pi * frequency * lag) * weight
    return jnp.real(jnp.einsum("f,fij->ij", phase, spectrum))
