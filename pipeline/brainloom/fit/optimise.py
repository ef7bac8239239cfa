"""Minimise an objective from several starts at once, in one compiled program."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from brainloom.fit.predict import objective
from brainloom.fit.problem import FitSetup, Problem

MEMORY = 30
LINE_SEARCH = 12
# Stop when twenty steps together improve the objective by less than this fraction.
PATIENCE, TOLERANCE = 20, 5e-4


class Fits(NamedTuple):
    """Results of all starts: best point, objective at every step (NaN after the end) and at the best point."""

    theta: jax.Array
    history: jax.Array
    loss: jax.Array
    n_steps: jax.Array
    converged: jax.Array


@partial(jax.jit, static_argnums=(0, 4))
def fit_starts(
    setup: FitSetup, problem: Problem, starts: jax.Array, n_starts: jax.Array, max_steps: int
) -> Fits:
    """
    L-BFGS with a zoom line search (Nocedal & Wright 2006, ch. 3.5 and 7.2) from every start.

    Parameters
    ----------
    setup : FitSetup
    problem : Problem
    starts : (start, size) array
    n_starts : int
        How many of them to use; the others return NaN. Not part of the compiled program, so that controls
        with fewer starts share it.
    max_steps : int

    Returns
    -------
    Fits
        The best point of each start. A step whose objective is not finite is not taken.
    """
    loss = partial(objective, setup, problem)

    # One after the other inside the program: batched, every start would wait for the longest line search.
    def run(k: jax.Array, results: Fits) -> Fits:
        fit = _lbfgs(loss, starts[k], max_steps)
        return jax.tree.map(lambda all_starts, one: all_starts.at[k].set(one), results, fit)

    empty = Fits(
        jnp.full_like(starts, jnp.nan),
        jnp.full((len(starts), max_steps), jnp.nan, starts.dtype),
        jnp.full(len(starts), jnp.nan, starts.dtype),
        jnp.zeros(len(starts), int),
        jnp.zeros(len(starts), bool),
    )
    return jax.lax.fori_loop(0, n_starts, run, empty)


def _lbfgs(loss, start: jax.Array, max_steps: int) -> Fits:
    solver = optax.lbfgs(
        memory_size=MEMORY,
        linesearch=optax.scale_by_zoom_linesearch(LINE_SEARCH, initial_guess_strategy="one"),
    )
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple) -> tuple:
        theta, state, history, best, k, _ = carry
        value, grad = value_and_grad(theta, state=state)
        updates, state = solver.update(grad, state, theta, value=value, grad=grad, value_fn=loss)
        new = optax.apply_updates(theta, updates)
        finite = jnp.all(jnp.isfinite(new)) & jnp.isfinite(value)
        better = value < best[1]
        best = (jnp.where(better, theta, best[0]), jnp.where(better, value, best[1]))
        history = history.at[k].set(value)
        past = history[jnp.maximum(k - PATIENCE, 0)]
        settled = (k >= PATIENCE) & (past - value < TOLERANCE * jnp.abs(value))
        return jnp.where(finite, new, theta), state, history, best, k + 1, settled | ~finite

    def unfinished(carry: tuple) -> jax.Array:
        return (carry[4] < max_steps) & ~carry[5]

    history = jnp.full(max_steps, jnp.nan, start.dtype)
    best = (start, jnp.asarray(jnp.inf, start.dtype))
    carry = (start, solver.init(start), history, best, jnp.asarray(0), jnp.asarray(False))
    theta, _, history, best, k, settled = jax.lax.while_loop(unfinished, step, carry)
    last = loss(theta)
    better = last < best[1]
    final = jnp.where(better, theta, best[0])
    lowest = jnp.minimum(best[1], jnp.where(jnp.isfinite(last), last, jnp.inf))
    return Fits(final, history, lowest, k, settled & jnp.isfinite(history[k - 1]))
