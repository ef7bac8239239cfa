"""One-step integrators of ordinary and stochastic differential equations on dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Arrays = dict[str, jax.Array]
Field = Callable[[Arrays, jax.Array | float], Arrays]
# Derivative at a state and a stage: the fraction of the step that has passed, 0, 0.5 or 1.
StageField = Callable[[Arrays, float], Arrays]
Kicks = Callable[[Arrays], Arrays]

DETERMINISTIC = ("exp_euler", "euler", "heun", "rk4")
STOCHASTIC = ("euler_maruyama", "stochastic_heun")


def check_method(method: str) -> str:
    """
    Return the name of a known integrator.

    Raises
    ------
    ValueError
        It is unknown; the message lists the known ones.
    """
    known = DETERMINISTIC + STOCHASTIC
    if method not in known:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(known)}")
    return method


def deterministic_step(
    method: str, f: Field, state: Arrays, t: jax.Array | float, dt: jax.Array | float
) -> Arrays:
    """
    Advance ``x' = f(x, t)`` by one step.

    Parameters
    ----------
    method : {"exp_euler", "euler", "heun", "rk4"}
        Orders 1, 1, 2 and 4. Exponential Euler uses the diagonal of the Jacobian and is exact for linear
        diagonal systems (Hochbruck & Ostermann 2010, Acta Numerica 19:209).
    f : callable
        ``f(state, t) -> derivative``, dictionaries of arrays.
    state : dict of arrays
    t, dt : scalars
        Time and step in the same unit.

    Returns
    -------
    dict of arrays
    """
    if method not in DETERMINISTIC:
        raise ValueError(f"method {method!r} is not deterministic; use one of {', '.join(DETERMINISTIC)}")
    return stage_step(method, lambda values, stage: f(values, t + stage * dt), state, dt)


def stochastic_step(
    method: str, f: Field, state: Arrays, noise: Arrays | Kicks, t: jax.Array | float, dt: jax.Array | float
) -> Arrays:
    """
    Advance ``dx = f(x, t) dt + dB`` by one step.

    Parameters
    ----------
    method : str
        ``"euler_maruyama"`` (Ito; strong order 1/2, 1 for additive noise, weak order 1) or
        ``"stochastic_heun"`` (Stratonovich; strong order 1 where each equation has its own noise, weak order 2
        for additive noise; Kloeden & Platen 1992, ch. 10 and 15), or a deterministic method, whose step is
        then followed by the noise at the old state.
    noise : dict of arrays, or callable of the state
        The increment ``g(x) sqrt(dt) N(0, 1)`` of each noisy state; missing ones are zero. A callable is
        evaluated at the stages of the scheme, with the same draws.

    Returns
    -------
    dict of arrays
    """
    return stage_step(method, lambda values, stage: f(values, t + stage * dt), state, dt, noise=noise)


def stage_step(
    method: str,
    f: StageField,
    state: Arrays,
    dt: jax.Array | float,
    *,
    noise: Arrays | Kicks | None = None,
    diagonal: Callable[[Arrays], tuple[Arrays, Arrays]] | None = None,
) -> Arrays:
    """
    One step of any method; see `deterministic_step` and `stochastic_step`.

    Parameters
    ----------
    method : str
    f : callable
        ``f(state, stage)``, the stage as the fraction of the step that has passed.
    state : dict of arrays
    dt : scalar
    noise : dict of arrays or callable of the state, optional
    diagonal : callable, optional
        ``diagonal(state) -> (derivative, its diagonal Jacobian)`` at the start of the step, for exponential
        Euler; by default from `f`, which is right where no region depends on another.
    """
    if method == "stochastic_heun":
        kick = _kicks(noise, state)
        first = f(state, 0.0)
        guess = _kicked({k: x + dt * first[k] for k, x in state.items()}, kick)
        second = f(guess, 1.0)
        if callable(noise):
            again = noise(guess)
            kick = {k: 0.5 * (value + again[k]) for k, value in kick.items()}
        return _kicked({k: x + 0.5 * dt * (first[k] + second[k]) for k, x in state.items()}, kick)
    if method in ("euler", "euler_maruyama"):
        new = _add(state, f(state, 0.0), dt)
    elif method == "heun":
        first = f(state, 0.0)
        second = f(_add(state, first, dt), 1.0)
        new = {k: x + 0.5 * dt * (first[k] + second[k]) for k, x in state.items()}
    elif method == "rk4":
        k1 = f(state, 0.0)
        k2 = f(_add(state, k1, 0.5 * dt), 0.5)
        k3 = f(_add(state, k2, 0.5 * dt), 0.5)
        k4 = f(_add(state, k3, dt), 1.0)
        new = {k: x + dt / 6.0 * (k1[k] + 2.0 * (k2[k] + k3[k]) + k4[k]) for k, x in state.items()}
    elif method == "exp_euler":
        slope, rate = _own_diagonal(f, state) if diagonal is None else diagonal(state)
        new = {k: x + dt * _phi(dt * rate[k]) * slope[k] for k, x in state.items()}
    else:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(DETERMINISTIC + STOCHASTIC)}")
    return new if noise is None else _kicked(new, _kicks(noise, state))


def diagonal_jacobian(f: Callable[[Arrays], Arrays], state: Arrays) -> tuple[Arrays, Arrays]:
    """
    Value of a field of uncoupled regions, and the derivative of each equation in its own state.

    Parameters
    ----------
    f : callable
        ``f(state) -> derivative``; no region may depend on another.
    state : dict of arrays

    Returns
    -------
    two dicts of arrays, the shapes of the state
    """
    slope: Arrays = {}
    rate: Arrays = {}
    for name, value in state.items():

        def own(x: jax.Array, name: str = name) -> Arrays:
            return f(state | {name: x})

        found, tangent = jax.jvp(own, (value,), (jnp.ones_like(value),))
        slope = slope or found
        rate[name] = tangent[name]
    return slope, rate


def _own_diagonal(f: StageField, state: Arrays) -> tuple[Arrays, Arrays]:
    return diagonal_jacobian(lambda values: f(values, 0.0), state)


def _add(state: Arrays, slope: Arrays, step: jax.Array | float) -> Arrays:
    return {k: x + step * slope[k] for k, x in state.items()}


def _kicks(noise: Arrays | Kicks | None, state: Arrays) -> Arrays:
    if noise is None:
        return {}
    return noise(state) if callable(noise) else noise


def _kicked(state: Arrays, kick: Arrays) -> Arrays:
    return {k: x + kick[k] if k in kick else x for k, x in state.items()}


def _phi(z: jax.Array) -> jax.Array:
    """``(exp(z) - 1) / z``, smooth through 0."""
    small = jnp.abs(z) < 1e-4
    safe = jnp.where(small, 1.0, z)
    return jnp.where(small, 1.0 + z * (0.5 + z / 6.0), jnp.expm1(safe) / safe)
