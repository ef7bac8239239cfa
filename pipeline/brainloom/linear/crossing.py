"""
Characteristic roots right of a line in the complex plane, counted by the argument principle.

The roots of a network with delays are the zeros of ``prod_i det(s - A_i) det(1 - L(s))``: those of its regions by
themselves, and what a passage L through regions and couplings makes of them. Along the line ``s = r + i w`` the phase
of the second determinant turns by ``pi`` times (roots of the regions - roots of the network) right of it, from
w = 0 to infinity (Nyquist 1932, Bell Syst Tech J 11:126). The matrices have the size of sources times regions and
delays are exact, where a matrix of the states and of their histories is many times larger.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from brainloom.linear.parts import Linear, local_matrix, loop_matrix

# A step from T to T' = T (1 + E) is taken if the spectral radius of E is below this: no zero lies within it.
LARGEST = 0.5
WANTED = 0.35
# Phases that delays may turn by within a step, and how much closer it may come to a pole of a region.
TURN, APPROACH = 0.5, 0.5
# Bound of the passage L where the walk ends: what is left of the phase is then a short series.
TAIL = 0.3
MOST_STEPS = 4000


def roots_right_of(linear: Linear, line: Any) -> tuple[jax.Array, jax.Array]:
    """
    Number of characteristic roots right of a vertical line.

    A walk along the line whose steps are so short that no root can be passed unseen: each change of the loop is a
    contraction relative to where it starts, by a bound of its spectral radius, and delays and poles of regions
    change little within it.

    Parameters
    ----------
    linear : Linear
        Without delayed feedback within regions.
    line : scalar
        Real part r, in 1 / time unit of the model.

    Returns
    -------
    count : int scalar
    decided : bool scalar
        False if a root or a pole of a region lies on the line or too close to it; `count` then has no meaning.
    """
    dtype = linear.a.dtype
    poles = jnp.linalg.eigvals(jnp.moveaxis(linear.a, -1, 0)).reshape(-1)
    longest = jnp.max(jnp.asarray([0.0, *(_longest(link) for link in linear.links)], dtype))
    last = _end(linear, poles, line, longest)

    def at(w: jax.Array) -> jax.Array:
        s = line + 1j * w
        inner = jnp.linalg.solve(local_matrix(linear, s), jnp.moveaxis(linear.b, -1, 0).astype(s.dtype))
        reached = jnp.einsum("mki,ikq->mqi", linear.c.astype(s.dtype), inner)
        loop = loop_matrix(linear, reached, s)
        return jnp.eye(len(loop), dtype=loop.dtype) - loop

    def room(w: jax.Array) -> jax.Array:
        """Longest step from here by delays and poles."""
        return jnp.minimum(
            TURN / jnp.maximum(longest, 1e-300), APPROACH * jnp.min(jnp.abs(line + 1j * w - poles))
        )

    def step(carry: tuple) -> tuple:
        w, here, inverse, phase, size, k, _ = carry
        size = jnp.minimum(size, room(w))
        there = at(w + size)
        change = inverse @ (there - here)
        twice = change @ change
        # ||E^4||^(1/4) is at least the spectral radius, and close to it for many equal modes
        radius = jnp.linalg.norm(twice @ twice) ** 0.25
        traces = (
            jnp.trace(change)
            - jnp.trace(twice) / 2
            + jnp.sum(change * twice.T) / 3
            - jnp.sum(twice * twice.T) / 4
        )
        good = radius < LARGEST
        new = (w + size, there, jnp.linalg.inv(there), phase + jnp.imag(traces))
        w, here, inverse, phase = jax.tree.map(
            lambda a, b: jnp.where(good, a, b), new, (w, here, inverse, phase)
        )
        factor = jnp.clip(WANTED / jnp.maximum(radius, 1e-30), 0.1, 3.0)
        # a step that no longer changes w ends the walk
        size = jnp.where(jnp.isfinite(factor), factor, 0.1) * size
        return w, here, inverse, phase, size, k + 1, w + size > w

    def unfinished(carry: tuple) -> jax.Array:
        w, _, _, _, _, k, moving = carry
        return (w < last) & (k < MOST_STEPS) & moving

    zero = jnp.zeros((), dtype)
    first = at(zero)
    carry = (zero, first, jnp.linalg.inv(first), zero, room(zero), jnp.asarray(0), jnp.asarray(True))
    w, here, _, phase, *_ = jax.lax.while_loop(unfinished, step, carry)
    loop = jnp.eye(len(here), dtype=here.dtype) - here
    squared = loop @ loop
    rest = jnp.trace(loop) + jnp.trace(squared) / 2 + jnp.sum(loop * squared.T) / 3
    turned = (phase + jnp.imag(rest)) / jnp.pi
    whole = jnp.round(turned)
    count = jnp.sum(jnp.real(poles) > line) - whole.astype(int)
    return count, (w >= last) & (jnp.abs(turned - whole) < 0.25) & (count >= 0)


def _longest(link: Any) -> Any:
    """Longest delay of a coupling, among pairs that are coupled."""
    return 0.0 if link.delay is None else jnp.max(jnp.where(link.weights != 0, link.delay, 0.0))


def _end(linear: Linear, poles: jax.Array, line: Any, longest: jax.Array) -> jax.Array:
    """Frequency from which on every row sum of L is at most `TAIL`, by the numerators of the regions' responses."""
    k, _, n = linear.a.shape
    matrix = jnp.moveaxis(linear.a, -1, 0)
    eye = jnp.eye(k, dtype=matrix.dtype)
    # adjugate of (s - A) = sum_q s^q B_q (Faddeev & LeVerrier)
    part, numerators = jnp.broadcast_to(eye, matrix.shape), []
    for q in range(1, k + 1):
        numerators.append(jnp.abs(jnp.einsum("mki,ikl,lpi->mpi", linear.c, part, linear.b)))
        moved = matrix @ part
        part = moved - jnp.trace(moved, axis1=1, axis2=2)[:, None, None] / q * eye
    sizes = jnp.abs(poles).reshape(n, k)
    grown = jnp.exp(jnp.maximum(-line, 0.0) * longest)
    arriving = [
        jnp.sum(jnp.abs(link.weights), axis=1) * grown + jnp.abs(link.instant) for link in linear.links
    ]

    def bound(w: jax.Array) -> jax.Array:
        powers = (w + jnp.abs(line)) ** jnp.arange(k - 1, -1, -1)
        gain = jnp.einsum("q,qmpi->mpi", powers, jnp.stack(numerators)) / jnp.prod(w - sizes, axis=1)
        total = jnp.zeros((gain.shape[0], n), gain.dtype)
        for link, weight in zip(linear.links, arriving, strict=True):
            total = total + gain[:, link.port] * weight
        return jnp.max(total)

    start = 1.25 * jnp.max(sizes) + jnp.abs(line) + jnp.finfo(sizes.dtype).tiny
    return jax.lax.while_loop(lambda w: bound(w) > TAIL, lambda w: 1.25 * w, start)
