"""Search of the best point of a likelihood by Fisher scoring with a trust region, from several starts at once."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainloom.fit.spectral_model import Point, Problem, SpectralSetup, point

# A step that promises less than this many units of log density ends the search.
TOLERANCE = 1e-4
# Damping of the first step, and what it is multiplied by after bad and good steps (Marquardt 1963).
DAMPING, WORSE, BETTER = 1e-2, 6.0, 0.25
LEAST_DAMPING, MOST_DAMPING = 1e-12, 1e8
# Longest step of a coordinate, 35 % of a positive parameter: alpha peaks far from those of the data make other optima.
LONGEST = 0.3
# A start with no stable fixed point is moved half-way to the centre of the prior, this often; then to the centre.
RETREATS = 6


class Search(NamedTuple):
    """Results of all starts: best point, objective at every step (NaN after the end), and Fisher information there."""

    theta: jax.Array
    history: jax.Array
    loss: jax.Array
    n_steps: jax.Array
    converged: jax.Array
    fisher: jax.Array


@partial(jax.jit, static_argnums=(0, 4))
def search_starts(
    setup: SpectralSetup, problem: Problem, starts: jax.Array, n_starts: jax.Array, max_steps: int
) -> Search:
    """
    Minimise `brainloom.fit.spectral_model.objective` from every start.

    Steps are ``-(F + P + d diag(F + P))^-1 g`` with the gradient g, the Fisher information F and the precision P
    of the prior. A step to a higher objective, or to where the network is unstable and the objective infinite, is
    not taken: the damping d grows until the step is short enough. Likelihoods of tens of
    thousands of tapers have curvatures that differ by many orders of magnitude; F knows them, and few
    parameters make it cheap.

    Parameters
    ----------
    setup : SpectralSetup
    problem : dict of arrays
    starts : (start, size) array
    n_starts : int
        How many of them to use; the others return NaN.
    max_steps : int

    Returns
    -------
    Search
    """
    at = partial(point, setup, problem)

    def run(k: jax.Array, results: Search) -> Search:
        fit = _search(at, problem["prior_sd"], starts[k], max_steps)
        return jax.tree.map(lambda all_starts, one: all_starts.at[k].set(one), results, fit)

    empty = Search(
        jnp.full_like(starts, jnp.nan),
        jnp.full((len(starts), max_steps), jnp.nan, starts.dtype),
        jnp.full(len(starts), jnp.nan, starts.dtype),
        jnp.zeros(len(starts), int),
        jnp.zeros(len(starts), bool),
        jnp.full((*starts.shape, starts.shape[1]), jnp.nan, starts.dtype),
    )
    return jax.lax.fori_loop(0, n_starts, run, empty)


def _search(at, prior_sd: jax.Array, start: jax.Array, max_steps: int) -> Search:
    precision = jnp.diag(prior_sd**-2)
    size = len(start)

    def step(carry: tuple) -> tuple:
        theta, here, move, promised, damping, history, k, _ = carry
        there = at(theta + move)  # the only evaluation in the program: compiling it takes long
        usable = jnp.all(jnp.isfinite(there.gradient)) & jnp.all(jnp.isfinite(there.fisher))
        taken = (there.value < here.value) & usable
        settled = (promised < TOLERANCE) & (damping < 1.0)
        begun = jnp.isfinite(here.value)
        damping = jnp.where(begun, damping * jnp.where(taken, BETTER, WORSE), damping)
        damping = jnp.clip(damping, LEAST_DAMPING, MOST_DAMPING)
        theta, here = jax.tree.map(partial(jnp.where, taken), (theta + move, there), (theta, here))
        begun = jnp.isfinite(here.value)
        curvature = here.fisher + precision
        damped = curvature + damping * jnp.diag(jnp.diag(curvature))
        new = -jnp.linalg.solve(damped, here.gradient)
        new = new / jnp.maximum(1.0, jnp.max(jnp.abs(new)) / LONGEST)
        promised = -(here.gradient @ new + 0.5 * new @ curvature @ new)
        # no stable point yet: half-way to the centre of the prior
        move = jnp.where(begun, new, jnp.where(k < RETREATS, 0.5 * (theta + move), 0.0) - theta)
        promised = jnp.where(begun, promised, jnp.inf)
        return theta, here, move, promised, damping, history.at[k].set(here.value), k + 1, settled

    def unfinished(carry: tuple) -> jax.Array:
        _, here, _, _, damping, _, k, settled = carry
        lost = (k > RETREATS + 1) & ~jnp.isfinite(here.value)
        return (k < max_steps) & ~settled & (damping < MOST_DAMPING) & ~lost

    history = jnp.full(max_steps, jnp.nan, start.dtype)
    infinite = jnp.asarray(jnp.inf, start.dtype)
    nowhere = Point(infinite, jnp.zeros_like(start), jnp.eye(size, dtype=start.dtype))
    first = jnp.asarray(DAMPING, start.dtype)
    carry = (
        start,
        nowhere,
        jnp.zeros_like(start),
        infinite,
        first,
        history,
        jnp.asarray(0),
        jnp.asarray(False),
    )
    theta, here, _, _, _, history, k, settled = jax.lax.while_loop(unfinished, step, carry)
    finite = jnp.isfinite(here.value)
    return Search(theta, history, jnp.where(finite, here.value, jnp.nan), k, settled & finite, here.fisher)
