"""How fast a model can change, and whether a time step resolves it."""

from __future__ import annotations

import warnings
from functools import partial

import jax
import jax.numpy as jnp

from brainloom import engine
from brainloom.engine import HISTORY, Arrays, Structure

# Largest dt * rate of each scheme: half of its stability limit on the real axis, for accuracy.
LIMITS = {"rk4": 1.4}
STEP_LIMIT = 1.0
_ITERATIONS = 24


@partial(jax.jit, static_argnums=0)
def fastest_rate(structure: Structure, values: Arrays, state: Arrays) -> jax.Array:
    """
    Size of the largest eigenvalue of the Jacobian at a state, 1/time, by power iteration.

    Parameters
    ----------
    structure : Structure
    values : dict of arrays
        Constrained parameters.
    state : dict of arrays
        Without batch axes. Delayed couplings count as if they had no delay.

    Returns
    -------
    scalar
    """
    names = structure.model.state_names()
    p = engine.prepare(structure, values, 1.0)
    own = {name: state[name] for name in names}
    extra = {k: v for k, v in state.items() if k not in own and not k.startswith(HISTORY)}

    def f(values: Arrays) -> Arrays:
        return engine.field(structure, p, values | extra, {}, 0.0)

    _, push = jax.linearize(f, own)

    def length(v: Arrays) -> jax.Array:
        return jnp.sqrt(sum(jnp.sum(x * x) for x in v.values()))

    def body(k: jax.Array, carry: tuple[Arrays, jax.Array]) -> tuple[Arrays, jax.Array]:
        v, total = carry
        new = push(v)
        size = length(new)
        safe = jnp.where(size > 0.0, size, 1.0)
        # the geometric mean over the last half: a complex pair makes single steps swing
        return {n: x / safe for n, x in new.items()}, total + jnp.where(
            k >= _ITERATIONS // 2, jnp.log(safe), 0.0
        ) * jnp.where(size > 0.0, 1.0, 0.0)

    start = {
        name: jnp.cos(1.7 * jnp.arange(x.size, dtype=x.dtype) + index).reshape(x.shape)
        for index, (name, x) in enumerate(own.items())
    }
    start = {name: x / length(start) for name, x in start.items()}
    _, total = jax.lax.fori_loop(0, _ITERATIONS, body, (start, jnp.zeros(())))
    return jnp.exp(total / (_ITERATIONS - _ITERATIONS // 2))


def warn_if_too_long(structure: Structure, values: Arrays, state: Arrays, dt: float, time_unit: str) -> None:
    """Warn if the time step does not resolve the fastest rate at the start."""
    rate = float(fastest_rate(structure, values, state))
    limit = LIMITS.get(structure.method, STEP_LIMIT)
    if rate * dt > limit:
        warnings.warn(
            f"dt {dt:g} {time_unit} is too long for {structure.method}: the fastest rate at the start is "
            f"{rate:.3g}/{time_unit}; use dt of at most {limit / rate:.2g} {time_unit}",
            stacklevel=4,
        )


def stable_step(dt: float, fastest: float) -> float:
    """
    The step, halved until it resolves the fastest rate (``dt * rate <= 1``), with a warning if it was not.

    Parameters
    ----------
    dt : float
    fastest : float
        Largest |eigenvalue| of the Jacobian, 1/time.
    """
    fine = dt
    while fine * fastest > STEP_LIMIT:
        fine *= 0.5
    if fine < dt:
        warnings.warn(
            f"dt {dt:g} is too long for the fastest rate {fastest:g}; using dt {fine:g}", stacklevel=2
        )
    return fine


def check(structure: Structure, values: Arrays, state: Arrays, dt: float, time_unit: str) -> None:
    """`warn_if_too_long` for a state with or without a batch; nothing while a program is traced."""
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((values, state))) or structure.model.MAP:
        return
    region_axis = {name: x for name, x in state.items() if not name.startswith(HISTORY)}
    one = {name: x if x.ndim == 1 else x[0] for name, x in region_axis.items()}
    warn_if_too_long(structure, values, one, dt, time_unit)
