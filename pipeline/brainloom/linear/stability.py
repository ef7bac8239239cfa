"""
Stability of a fixed point, with and without delays.

Without delays the rightmost eigenvalue of the Jacobian decides. With them there are infinitely many characteristic
roots. The rightmost ones are those of a matrix in which the history of every delayed observable is a polynomial
through Chebyshev points (Breda, Maset & Vermiglio 2005, SIAM J Sci Comput 27:482): only what is sent has a
history, so the matrix grows with the number of sources, not of states. Whether all are left of a line is decided
without it, by counting (`brainloom.linear.crossing`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.linear.crossing import roots_right_of
from brainloom.linear.parts import Linear, full_jacobian, per_second

# Rows of the matrix of states and histories from which on roots are counted, not computed.
SMALL = 150


def is_stable(linear: Linear, time_unit: str, margin: Any = 0.0, *, n_nodes: int = 8) -> jax.Array:
    """
    Whether every root is left of ``-margin``.

    Large networks with delays are decided by `brainloom.linear.crossing.roots_right_of`, whose delays are exact and
    which takes a thirtieth of the time of `growth_rate` at 80 regions; others, and those with a root too close to the
    line, by `growth_rate`.

    Parameters
    ----------
    linear : Linear
        From `brainloom.linear.linearised.linearise`.
    time_unit : {"ms", "s"}
        Of the model.
    margin : scalar
        1/s.
    n_nodes : int
        See `growth_rate`.

    Returns
    -------
    bool scalar
    """
    margin = jnp.asarray(margin)

    def by_eigenvalues(linear: Linear) -> jax.Array:
        return growth_rate(linear, time_unit, n_nodes=n_nodes) < -margin

    delayed = any(link.delay is not None for link in linear.links)
    size = (linear.a.shape[0] + linear.c.shape[0] * n_nodes) * linear.a.shape[-1]
    if not delayed or linear.feedback or size < SMALL:
        return by_eigenvalues(linear)
    linear = jax.lax.stop_gradient(linear)
    count, decided = roots_right_of(linear, -margin * per_second(time_unit))
    return jax.lax.cond(decided, lambda _: count == 0, by_eigenvalues, linear)


def growth_rate(linear: Linear, time_unit: str, *, n_nodes: int = 8) -> jax.Array:
    """
    Largest real part of the characteristic roots, delays included: negative at a stable fixed point.

    Parameters
    ----------
    linear : Linear
    time_unit : {"ms", "s"}
    n_nodes : int
        Degree of the polynomials of the history. The root is off by about ``2 (w tau / 4)^(n + 1) / (n + 1)!`` of
        the rates of the network, for its frequency w (rad per unit of time) and the longest delay tau: with 8 by
        1e-7 for a quarter of a period, 3e-4 for a whole one.

    Returns
    -------
    real scalar, 1/s
        Constant for differentiation. For compiled functions; the eigenvalues are those of LAPACK on the CPU. The
        matrix has the size (states + delayed sources x `n_nodes`) x regions, and time grows with its cube:
        about 0.1 s for 300.
    """
    matrix = jax.lax.stop_gradient(_generator(linear, n_nodes))
    return jnp.max(jnp.real(jnp.linalg.eigvals(matrix))) / per_second(time_unit)


def rightmost_roots(linear: Linear, time_unit: str, *, n_roots: int = 6, n_nodes: int = 16) -> np.ndarray:
    """
    Rightmost characteristic roots, delays included.

    Parameters
    ----------
    linear : Linear
        Concrete arrays.
    time_unit : {"ms", "s"}
    n_roots : int
    n_nodes : int
        See `growth_rate`.

    Returns
    -------
    (n_roots,) complex array, 1/s
        The rightmost first; the imaginary part is the angular frequency.
    """
    roots = np.linalg.eigvals(np.asarray(_generator(linear, n_nodes)))
    return roots[np.argsort(-roots.real, kind="stable")][:n_roots] / per_second(time_unit)


@partial(jax.jit, static_argnums=1)
def _generator(linear: Linear, n_nodes: int) -> jax.Array:
    """Matrix of the states and of the histories of delayed observables at Chebyshev points."""
    links = [link for link in linear.links if link.delay is not None]
    if not links and not linear.feedback:
        return full_jacobian(linear)
    k, _, n = linear.a.shape
    dtype = linear.a.dtype
    lags: list[Any] = [jnp.where(link.weights != 0, link.delay, 0.0) for link in links]
    lags += [one.delay for one in linear.feedback]
    longest = jnp.max(jnp.concatenate([lag.reshape(-1) for lag in lags]))
    longest = jnp.where(longest > 0.0, longest, 1.0)
    sources = list(dict.fromkeys(link.source for link in links))
    rows = jnp.stack([linear.c[source] for source in sources] + [one.row for one in linear.feedback])
    points, slopes = _chebyshev(n_nodes)
    derivative = jnp.asarray(slopes, dtype) * 2.0 / longest
    basis = [_lagrange(points, 1.0 - 2.0 * lag / longest) for lag in lags]
    eye = jnp.eye(n, dtype=dtype)

    # (state, region, state, region), and what arrives from the nodes of each history
    present = full_jacobian(_undelayed_part(linear)).reshape(k, n, k, n)
    past = jnp.zeros((k, n, len(rows), n_nodes, n), dtype)
    reads = [
        (link.weights * one, link.port, sources.index(link.source))
        for link, one in zip(links, basis, strict=False)
    ]
    for index, one in enumerate(linear.feedback):
        reads.append((basis[len(links) + index][:, :, None] * eye, one.port, len(sources) + index))
    for read, port, index in reads:  # node 0 is the present
        gain = linear.b[:, port]
        present = present + jnp.einsum("ki,ij,lj->kilj", gain, read[0], rows[index])
        past = past.at[:, :, index].add(jnp.einsum("ki,qij->kiqj", gain, read[1:]))
    newest = jnp.einsum("q,hki,ij->hqikj", derivative[1:, 0], rows, eye)
    moving = jnp.einsum("gh,qr,ij->gqihrj", jnp.eye(len(rows), dtype=dtype), derivative[1:, 1:], eye)
    stored = len(rows) * n_nodes * n
    return jnp.block(
        [
            [present.reshape(k * n, k * n), past.reshape(k * n, stored)],
            [newest.reshape(stored, k * n), moving.reshape(stored, stored)],
        ]
    )


def _undelayed_part(linear: Linear) -> Linear:
    links = tuple(
        link if link.delay is None else replace(link, weights=jnp.zeros_like(link.weights))
        for link in linear.links
    )
    return replace(linear, links=links, feedback=())


def _chebyshev(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points ``cos(j pi / n)`` from 1 (the present) to -1, and the matrix that differentiates (Trefethen 2000)."""
    j = np.arange(n + 1)
    x = np.cos(j * np.pi / n)
    c = np.where((j == 0) | (j == n), 2.0, 1.0) * (-1.0) ** j
    d = (c[:, None] / c[None, :]) / (x[:, None] - x[None, :] + np.eye(n + 1))
    return x, d - np.diag(d.sum(axis=1))


def _lagrange(points: np.ndarray, at: jax.Array) -> jax.Array:
    """Values of the polynomials through the Chebyshev points at other points: (node, ...)."""
    n = len(points) - 1
    j = np.arange(n + 1)
    weight = np.where((j == 0) | (j == n), 0.5, 1.0) * (-1.0) ** j
    shape = (-1, *(1,) * at.ndim)
    gap = at[None] - jnp.asarray(points.reshape(shape), at.dtype)
    hit = jnp.abs(gap) < 4.0 * jnp.finfo(at.dtype).eps
    terms = jnp.asarray(weight.reshape(shape), at.dtype) / jnp.where(hit, 1.0, gap)
    return jnp.where(hit.any(axis=0), hit.astype(at.dtype), terms / terms.sum(axis=0))
