"""Fixed points of networks: found by pseudo-transient continuation, differentiated by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom import engine
from brainloom.core.errors import BrainloomError
from brainloom.engine import Arrays, Structure
from brainloom.linear.linearised import at_rest, check_model, ito, linearise
from brainloom.linear.parts import solve

# A state counts as a fixed point when the last Newton step moved it by less than this part of its span.
FOUND = {"float64": 1e-8, "float32": 1e-3}
POLISH = 3


class FixedPointError(BrainloomError, ArithmeticError):
    """No fixed point was found; the sentence says what to change."""


def fixed_point(
    structure: Structure,
    values: Arrays,
    guess: Arrays,
    inputs: Mapping[str, Any] | None = None,
    *,
    n_iterations: int = 200,
) -> tuple[Arrays, jax.Array]:
    """
    Fixed point of a network near a guess.

    Implicit Euler steps of the coupled equations without their noise, short at first and longer as the
    derivative falls, end in Newton's method (pseudo-transient continuation; Kelley & Keyes 1998, SIAM J Numer
    Anal 35:508). From a start off the fixed point they follow the dynamics, so the guess decides which of several
    fixed points is found; the end of a short simulation is a good one. Long implicit steps also end on
    unstable fixed points: check with `brainloom.linear.stability`.

    Parameters
    ----------
    structure : Structure
    values : dict of arrays
        Constrained parameters, see `brainloom.linear.linearised.linearise`. Delays do not matter.
    guess : dict of (region,) arrays
        One entry a state; others are left out. Noise signals rest at their means.
    inputs : dict of arrays, optional
        Constant inputs at ports.
    n_iterations : int
        Most steps before it gives up.

    Returns
    -------
    state : dict of (region,) arrays
        Differentiable in `values` and `inputs`, to any order and in both modes, without derivatives of the
        iteration.
    error : scalar
        How far the last Newton step moved, as a part of the spans of the states: about 1e-15 at a fixed point,
        infinite if the iteration left the range of numbers (`state` is the guess then). See `is_found`.

    Raises
    ------
    LinearError
        A map, or a model whose own equations couple regions.
    """
    check_model(structure)
    names, n = structure.model.state_names(), structure.n_regions
    start = jnp.stack([jnp.broadcast_to(jnp.asarray(guess[name], float), (n,)) for name in names])
    given = {name: jnp.asarray(value) for name, value in (inputs or {}).items()}
    x, error = _compiled(structure, n_iterations, dict(values), given, jax.lax.stop_gradient(start))
    return dict(zip(names, x, strict=True)), error


def is_found(error: jax.Array) -> jax.Array:
    """Whether the error of `fixed_point` is that of a fixed point, for the precision in use."""
    return error < FOUND[str(jnp.asarray(error).dtype)]


def checked_fixed_point(
    structure: Structure, values: Arrays, guess: Arrays, inputs: Mapping[str, Any] | None = None
) -> Arrays:
    """
    `fixed_point` outside of compiled functions.

    Raises
    ------
    FixedPointError
        There is none near the guess.
    """
    state, error = fixed_point(structure, values, guess, inputs)
    if not bool(is_found(error)):
        raise FixedPointError(
            f"no fixed point of {structure.model.__name__} was found near the guess (last step {float(error):.2g} of "
            "the spans of the states); give the end of a simulation without noise as the guess, or parameters "
            "where the network has a fixed point"
        )
    return state


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _found(
    structure: Structure, n_iterations: int, values: Arrays, inputs: Arrays, guess: jax.Array
) -> tuple[jax.Array, jax.Array]:
    scale = _scale(structure, guess.dtype)

    def slope(x: jax.Array) -> jax.Array:
        return _slope(structure, values, inputs, x)

    def size(x: jax.Array) -> jax.Array:
        found = jnp.max(jnp.abs(x) / scale)
        return jnp.where(jnp.isfinite(found), found, jnp.inf)

    tiny = jnp.finfo(guess.dtype).tiny ** 0.5
    near = jnp.finfo(guess.dtype).eps ** 0.5
    begun = slope(guess)
    first = jnp.maximum(size(begun), tiny)

    def unfinished(carry: tuple) -> jax.Array:
        _, _, shift, _, _, k, polished = carry
        return (k < n_iterations) & (polished < POLISH) & jnp.isfinite(shift)

    def step(carry: tuple) -> tuple:
        x, moving, shift, rate, _, k, polished = carry
        last = polished > 0
        change = solve(_linear(structure, values, inputs, x), jnp.where(last, 0.0, shift), moving)
        new = x + change
        then = slope(new)
        moved, fast = size(change), size(then)
        worse = ~last & (~jnp.isfinite(moved + fast) | ((fast > 5.0 * rate) & (moved > near)))
        settled = last | (~worse & (moved < near) & (shift < 1e-3 * first))
        # steps grow twofold while the derivative stays, and faster as it falls
        fall = jnp.clip(0.5 * fast / rate, 0.1, 1.0)
        taken = (new, then, shift * fall, jnp.maximum(fast, tiny), moved)
        kept = (x, moving, 4.0 * shift, rate, jnp.full_like(moved, jnp.inf))
        return (*jax.tree.map(partial(jnp.where, worse), kept, taken), k + 1, polished + settled)

    begin = (guess, begun, 2.0 * first, first, jnp.asarray(jnp.inf, guess.dtype), 0, 0)
    x, _, _, _, error, _, polished = jax.lax.while_loop(unfinished, step, begin)
    error = jnp.where(polished == POLISH, error, jnp.inf)
    return jnp.where(jnp.all(jnp.isfinite(x)), x, guess), jnp.where(jnp.isfinite(error), error, jnp.inf)


# Compiled once for a structure where it is not part of a compiled function already.
_compiled = jax.jit(_found, static_argnums=(0, 1))


@_found.defjvp
def _found_jvp(structure: Structure, n_iterations: int, primals: tuple, tangents: tuple) -> tuple:
    values, inputs, guess = primals
    x, error = _found(structure, n_iterations, values, inputs, guess)
    moved = partial(_slope, structure, x=x)
    _, change = jax.jvp(lambda v, i: moved(v, i), (values, inputs), tangents[:2])
    return (x, error), (_implicit(structure, values, inputs, x, change), jnp.zeros_like(error))


def _implicit(
    structure: Structure, values: Arrays, inputs: Arrays, x: jax.Array, change: jax.Array
) -> jax.Array:
    """``-J^-1`` times the change of the derivative at a fixed state."""
    return solve(_linear(structure, values, inputs, x), 0.0, change)


def _linear(structure: Structure, values: Arrays, inputs: Arrays, x: jax.Array) -> Any:
    return linearise(structure, values, _named(structure, x), (), inputs, noise=False)


def _slope(structure: Structure, values: Arrays, inputs: Arrays, x: jax.Array) -> jax.Array:
    p, full, given = at_rest(structure, values, _named(structure, x), inputs)
    found = engine.field(ito(structure), p, full, given, 0.0)
    return jnp.stack([jnp.broadcast_to(found[name], x.shape[1:]) for name in structure.model.state_names()])


def _named(structure: Structure, x: jax.Array) -> Arrays:
    return dict(zip(structure.model.state_names(), x, strict=True))


def _scale(structure: Structure, dtype: Any) -> jax.Array:
    widths = np.array([state.span[1] - state.span[0] for state in structure.model.STATES])
    return jnp.asarray(np.where(widths > 0, widths, 1.0)[:, None], dtype)
