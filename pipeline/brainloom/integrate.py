"""One-step integrators of ordinary and stochastic differential equations on dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Arrays = dict[str, jax.Array]
Field = Callable[[Arrays, jax.Array | float], Arrays]

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
    if method == "euler":
        return _add(state, f(state, t), dt)
    if method == "heun":
        first = f(state, t)
        second = f(_add(state, first, dt), t + dt)
        return {k: x + 0.5 * dt * (first[k] + second[k]) for k, x in state.items()}
    if method == "rk4":
        k1 = f(state, t)
        k2 = f(_add(state, k1, 0.5 * dt), t + 0.5 * dt)
        k3 = f(_add(state, k2, 0.5 * dt), t + 0.5 * dt)
        k4 = f(_add(state, k3, dt), t + dt)
        return {k: x + dt / 6.0 * (k1[k] + 2.0 * k2[k] + 2.0 * k3[k] + k4[k]) for k, x in state.items()}
    if method == "exp_euler":
        return {k: x + dt * _phi(dt * d) * g for k, (x, g, d) in _with_diagonal(f, state, t).items()}
    raise ValueError(f"method {method!r} is not deterministic; use one of {', '.join(DETERMINISTIC)}")


def stochastic_step(
    method: str, f: Field, state: Arrays, noise: Arrays, t: jax.Array | float, dt: jax.Array | float
) -> Arrays:
    """
    Advance ``dx = f(x, t) dt + dB`` by one step, for additive noise.

    Parameters
    ----------
    method : str
        ``"euler_maruyama"`` (strong and weak order 1) or ``"stochastic_heun"`` (strong order 1, weak order
        2 for additive noise; Kloeden & Platen 1992, ch. 10 and 15), or a deterministic method, whose step is
        then followed by the noise.
    noise : dict of arrays
        The increment ``sigma sqrt(dt) N(0, 1)`` of each noisy state; missing ones are zero.

    Returns
    -------
    dict of arrays
    """
    kick = {k: noise.get(k, 0.0) for k in state}
    if method == "stochastic_heun":
        first = f(state, t)
        predicted = {k: x + dt * first[k] + kick[k] for k, x in state.items()}
        second = f(predicted, t + dt)
        return {k: x + 0.5 * dt * (first[k] + second[k]) + kick[k] for k, x in state.items()}
    plain = "euler" if method == "euler_maruyama" else method
    return {k: x + kick[k] for k, x in deterministic_step(plain, f, state, t, dt).items()}


def _add(state: Arrays, change: Arrays, factor: jax.Array | float) -> Arrays:
    return {k: x + factor * change[k] for k, x in state.items()}


def _with_diagonal(f: Field, state: Arrays, t: jax.Array | float) -> dict[str, tuple]:
    """Derivative and the diagonal of its Jacobian, for fields that act on each region by itself."""
    out = {}
    for name, x in state.items():

        def own(value: jax.Array, name: str = name) -> jax.Array:
            return f(state | {name: value}, t)[name]

        out[name] = (x, *jax.jvp(own, (x,), (jnp.ones_like(x),)))
    return out


def _phi(z: jax.Array) -> jax.Array:
    """``(e^z - 1) / z``, by its series near zero, where the quotient loses its digits."""
    small = jnp.abs(z) < 1e-4
    safe = jnp.where(small, 1.0, z)
    return jnp.where(small, 1.0 + z / 2.0 + z**2 / 6.0, jnp.expm1(safe) / safe)
