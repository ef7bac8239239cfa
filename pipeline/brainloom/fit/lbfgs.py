"""L-BFGS as a state machine: every step is one evaluation, so that fits in a batch never wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

MEMORY = 30
# Sufficient decrease of a step, as a share of what the slope promises (Armijo; Nocedal & Wright 2006, section 3.1).
ARMIJO = 1e-4
# A rejected step is shortened by at least and at most these factors; shorter steps than the last end the fit.
SHORTEST, LONGEST, TINY = 0.1, 0.5, 1e-10
# Pairs of steps and gradient changes with less curvature than this are not remembered.
CURVATURE = 1e-10

Loss = Callable[[jax.Array], jax.Array]


class Search(NamedTuple):
    """
    Where one fit stands.

    Attributes
    ----------
    theta, value, grad
        The point that was accepted last, the best one so far: (size,), scalar, (size,).
    trial : (size,) array
        What is evaluated next: ``theta + length * direction``.
    direction : (size,) array
    length, slope : scalars
        Of the step, and of the loss along it.
    steps, changes : (memory, size) arrays
        Ring of accepted steps and changes of the gradient.
    curvature : (memory,) array
        ``steps . changes``, 0 where the ring is empty.
    n_pairs, n_steps, n_evaluations : ints
    history : (max_steps,) array
        Loss at each accepted point, NaN after the end.
    done, converged : bools
    """

    theta: jax.Array
    value: jax.Array
    grad: jax.Array
    trial: jax.Array
    direction: jax.Array
    length: jax.Array
    slope: jax.Array
    steps: jax.Array
    changes: jax.Array
    curvature: jax.Array
    n_pairs: jax.Array
    n_steps: jax.Array
    n_evaluations: jax.Array
    history: jax.Array
    done: jax.Array
    converged: jax.Array


def begin(start: jax.Array, max_steps: int, memory: int = MEMORY) -> Search:
    """
    Start a search.

    Parameters
    ----------
    start : (size,) array
    max_steps : int
        Accepted steps at most.
    memory : int
        Pairs of steps and gradient changes that shape the direction.
    """
    zero, ring = jnp.zeros((), start.dtype), jnp.zeros((memory, start.size), start.dtype)
    count, no = jnp.zeros((), int), jnp.zeros((), bool)
    return Search(
        theta=start,
        value=zero + jnp.inf,
        grad=jnp.zeros_like(start),
        trial=start,
        direction=jnp.zeros_like(start),
        length=zero,
        slope=zero,
        steps=ring,
        changes=ring,
        curvature=jnp.zeros(memory, start.dtype),
        n_pairs=count,
        n_steps=count,
        n_evaluations=count,
        history=jnp.full(max_steps, jnp.nan, start.dtype),
        done=no,
        converged=no,
    )


def advance(loss: Loss, search: Search, patience: int, tolerance: float) -> Search:
    """
    Evaluate the trial point once; accept it and turn, or shorten the step.

    Parameters
    ----------
    loss : callable
        ``loss(theta) -> scalar``, differentiable.
    search : Search
    patience, tolerance
        The search has converged when `patience` accepted steps together improve the loss by less than the
        fraction `tolerance`.

    Returns
    -------
    Search
    """
    value, grad = jax.value_and_grad(loss)(search.trial)
    first = search.n_evaluations == 0
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    enough = value <= search.value + ARMIJO * search.length * search.slope
    accepted = finite & (first | enough)
    search = search._replace(n_evaluations=search.n_evaluations + 1)
    onward = _accept(search, value, grad, first, patience, tolerance)
    back = _shorten(search, value, finite, first)
    return jax.tree.map(partial(jnp.where, accepted), onward, back)


def run(loss: Loss, search: Search, n_evaluations: int, patience: int, tolerance: float) -> Search:
    """Up to so many evaluations of one search; those that are done stay as they are, at no cost."""

    def unfinished(carry: tuple[jax.Array, Search]) -> jax.Array:
        return (carry[0] < n_evaluations) & ~carry[1].done

    def once(carry: tuple[jax.Array, Search]) -> tuple[jax.Array, Search]:
        return carry[0] + 1, advance(loss, carry[1], patience, tolerance)

    return jax.lax.while_loop(unfinished, once, (jnp.zeros((), int), search))[1]


def _accept(
    search: Search, value: jax.Array, grad: jax.Array, first: jax.Array, patience: int, tolerance: float
) -> Search:
    step, change = search.trial - search.theta, grad - search.grad
    bend = step @ change
    place = search.n_pairs % len(search.steps)
    keep = ~first & (bend > CURVATURE * (step @ step))
    put = lambda ring, new: jnp.where(keep, ring.at[place].set(new), ring)  # noqa: E731
    steps, changes, curvature = (
        put(search.steps, step),
        put(search.changes, change),
        put(search.curvature, bend),
    )
    n_pairs = search.n_pairs + keep
    direction = -_inverse_hessian(steps, changes, curvature, n_pairs, grad)
    slope = grad @ direction
    downhill = slope < 0.0
    direction = jnp.where(downhill, direction, -grad)
    slope = jnp.where(downhill, slope, -(grad @ grad))
    # nothing is known of the scale of a first step
    length = jnp.where(n_pairs == 0, jnp.minimum(1.0, 1.0 / (jnp.sqrt(grad @ grad) + 1e-30)), 1.0)
    history = search.history.at[search.n_steps].set(value)
    n_steps = search.n_steps + 1
    past = history[jnp.maximum(n_steps - 1 - patience, 0)]
    settled = (n_steps > patience) & (past - value < tolerance * jnp.abs(value))
    settled |= slope == 0.0
    return search._replace(
        theta=search.trial,
        value=value,
        grad=grad,
        trial=search.trial + length * direction,
        direction=direction,
        length=length,
        slope=slope,
        steps=steps,
        changes=changes,
        curvature=curvature,
        n_pairs=n_pairs,
        n_steps=n_steps,
        history=history,
        done=settled | (n_steps >= len(history)),
        converged=settled,
    )


def _shorten(search: Search, value: jax.Array, finite: jax.Array, first: jax.Array) -> Search:
    """Go back along the direction, to the minimum of the parabola through what is known."""
    rise = value - search.value - search.length * search.slope
    parabola = -0.5 * search.slope * search.length**2 / jnp.where(rise > 0.0, rise, 1.0)
    shorter = jnp.clip(
        jnp.where(finite & (rise > 0.0), parabola, 0.0), SHORTEST * search.length, LONGEST * search.length
    )
    lost = first | (shorter < TINY)
    # rounding hides what is left to gain
    flat = ~first & (jnp.abs(value - search.value) <= 1e-12 * jnp.abs(search.value))
    return search._replace(
        trial=search.theta + shorter * search.direction,
        length=shorter,
        done=lost | flat,
        converged=~first & (flat | lost),
    )


def _inverse_hessian(
    steps: jax.Array, changes: jax.Array, curvature: jax.Array, n_pairs: jax.Array, grad: jax.Array
) -> jax.Array:
    """Inverse Hessian times gradient by the two loops (Nocedal & Wright 2006, algorithm 7.4)."""
    memory = len(steps)
    held = jnp.minimum(n_pairs, memory)
    inverse = jnp.where(curvature > 0.0, 1.0 / jnp.where(curvature > 0.0, curvature, 1.0), 0.0)

    def newest_first(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, alphas = carry
        at = (n_pairs - 1 - k) % memory
        alpha = inverse[at] * (steps[at] @ q)
        return q - alpha * changes[at], alphas.at[at].set(alpha)

    def oldest_first(k: jax.Array, q: jax.Array) -> jax.Array:
        at = (n_pairs - held + k) % memory
        beta = inverse[at] * (changes[at] @ q)
        return q + (alphas[at] - beta) * steps[at]

    q, alphas = jax.lax.fori_loop(0, held, newest_first, (grad, jnp.zeros(memory, grad.dtype)))
    last = (n_pairs - 1) % memory
    size = changes[last] @ changes[last]
    scale = jnp.where(n_pairs > 0, curvature[last] / jnp.where(size > 0.0, size, 1.0), 1.0)
    return jax.lax.fori_loop(0, held, oldest_first, scale * q)
