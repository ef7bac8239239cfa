"""Band-limited covariances and spectra of any diagonalisable network: one eigendecomposition, whatever the quadrature."""

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
        Nodes in Hz, of both signs, and their weights: real, or with a phase ``exp(2 pi i f lag)`` for the covariance
        at a lag, ``[i, j]`` of ``<z_i(t + lag) conj(z_j(t))>``. They are constants: derivatives in them are not given.

    Returns
    -------
    (n, n) complex array, Hermitian for real weights

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
    u = _resolvents(values, frequency)
    k = (u * weight) @ jnp.conj(u).T
    return vectors @ (inner * k) @ vectors.conj().T, values, vectors, inverse, inner, k


def _resolvents(values: jax.Array, frequency: jax.Array) -> jax.Array:
    """Of every eigenvalue at every frequency, (n, f)."""
    return 1.0 / (2j * jnp.pi * frequency[None, :] - values[:, None])


@resolvent_covariance.defjvp
def _resolvent_covariance_jvp(primals: tuple, tangents: tuple) -> tuple:
    frequency, weight = primals[2:]
    out, values, vectors, inverse, inner, k = _evaluate(*primals)
    change, noise_change, *_ = tangents
    d = inverse @ change.astype(values.dtype) @ vectors
    u = _resolvents(values, frequency)
    right = jnp.conj(u).T
    term = divided_term(d, values, inner, k, (u**2 * weight) @ right)
    # the other factor changes as the first one does under the conjugate weights
    back = term.conj().T
    if jnp.iscomplexobj(weight):
        back = divided_term(d, values, inner, k.conj().T, (u**2 * jnp.conj(weight)) @ right).conj().T
    direct = inverse @ noise_change.astype(values.dtype) @ inverse.conj().T
    return out, vectors @ (term + back + direct * k) @ vectors.conj().T


def band_covariance(
    jacobian: jax.Array,
    noise: jax.Array,
    frequency: jax.Array,
    weight: jax.Array,
    lag: jax.Array | None = None,
) -> jax.Array:
    """
    Covariance of the observable x seen through the data's band, of any network.

    Parameters
    ----------
    jacobian : (n, n) array
        1/s; complex for a rotating network, whose observable is ``x = Re z``.
    noise : (n, n) array
        Covariance of the noise per unit of time.
    frequency, weight : (node,) arrays
        Positive frequencies in Hz, and twice the quadrature weight times the power gain of the filter.
    lag : scalar, optional
        Seconds: ``[i, j]`` is ``<x_i(t + lag) x_j(t)>``; 0 if not given.

    Returns
    -------
    (n, n) array
    """
    # S_x(f) = (S_z(f) + conj(S_z(-f))) / 4 for x = Re z; a real network is its own real part
    share = 0.25 if jnp.iscomplexobj(jacobian) else 0.5
    both, weights = jnp.concatenate([frequency, -frequency]), share * jnp.concatenate([weight, weight])
    if lag is not None:
        weights = weights * jnp.exp(2j * jnp.pi * both * lag)
    general = jacobian.astype(jnp.result_type(jacobian, jnp.complex64))
    return jnp.real(resolvent_covariance(general, noise, both, weights))


def observed_spectrum(jacobian: jax.Array, noise: jax.Array, frequency: jax.Array) -> jax.Array:
    """
    Power spectral density of the observable x, one-sided: (n, frequency).

    Parameters
    ----------
    jacobian, noise
        As in `band_covariance`.
    frequency : (frequency,) array
        Hz, not negative.

    Notes
    -----
    For evaluation: JAX does not differentiate eigenvectors, and raises; `brainloom.linear.spectra.cross_spectrum`
    is differentiable.
    """
    general = jacobian.astype(jnp.result_type(jacobian, jnp.complex64))
    if not jnp.iscomplexobj(jacobian):
        return 2.0 * _power(general, noise, frequency)
    both = _power(general, noise, jnp.concatenate([frequency, -frequency]))
    return 0.5 * (both[:, : len(frequency)] + both[:, len(frequency) :])


def _power(jacobian: jax.Array, noise: jax.Array, frequency: jax.Array) -> jax.Array:
    """Diagonal of ``R Q R^H`` at every frequency, (n, f) real."""
    values, vectors = jnp.linalg.eig(jacobian)
    inverse = jnp.linalg.inv(vectors)
    inner = inverse @ noise.astype(values.dtype) @ inverse.conj().T

    def one(resolvent: jax.Array) -> jax.Array:
        passed = vectors * resolvent
        return jnp.real(jnp.sum((passed @ inner) * jnp.conj(passed), axis=1))

    return jax.lax.map(one, _resolvents(values, frequency).T).T
