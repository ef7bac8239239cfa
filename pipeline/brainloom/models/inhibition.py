"""Feedback inhibition control: inhibitory weights that hold every region of a Wong-Wang network at a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.units import plain
from brainloom.models.declare import Arrays
from brainloom.models.wong_wang_ei import WongWangExcInhStep, currents, excitatory_rate, inhibitory_rate

# Bisections of S_e, until the interval is below the precision; the grid finds the lowest of several roots.
_GRID, _HALVINGS = 256, 48
# Newton from the left on a concave function: monotone, quadratic at the end.
_NEWTON = 40

Scalar = Callable[[jax.Array], jax.Array]


def feedback_inhibition(
    node_parameters: Mapping[str, Any] | WongWangExcInhStep,
    weights: jax.Array,
    coupling_gain: jax.Array | float,
    target: Any = None,
    *,
    self_connection: bool = False,
) -> jax.Array:
    """
    Inhibitory weights J_i at which the network rests at a target state, in closed form.

    At rest the target (S_e*, S_i*, x_e*) of every region is known, so
    ``J_i = (W_e I_o + I_ext + w_p J_N S_e* + J_N g_i - x_e*) / S_i*`` with ``g_i = G sum_j W_ij S_e,j*``. S_i*
    depends on the long-range input only if ``lamda > 0``; then it solves a scalar equation in each region.

    Parameters
    ----------
    node_parameters : dict of arrays, or WongWangExcInhStep
        As of ``node.parameter_values()``: scalars or (region,).
    weights : (region, region) array
        ``weights[i, j]`` from j to i.
    coupling_gain : scalar or (region,) array
        G of the coupling into ``excitatory_gating``.
    target : optional
        Excitatory rate, Hz (number, (region,) array or Quantity). By default every region keeps the fixed point
        that it has alone, see `isolated_fixed_point`; there J_i of `node_parameters` is read, and only there.
        For the target of Deco et al., ``x_e - b_e / a_e = -0.026`` nA, give `rate_at_offset`.
    self_connection : bool
        Keep the diagonal of the weights, as in `Network`.

    Returns
    -------
    (region,) array, nA
        Differentiable in the gain, the weights and every parameter. A negative value says that a region cannot
        reach the target by inhibition; nothing is clipped.

    Notes
    -----
    The target is a fixed point; whether it is stable depends on the coupling. Under noise the mean rate departs from
    it (with the published noise it is half a Hz higher): see `tune_inhibition`.

    References
    ----------
    Deco et al. 2014, J Neurosci 34:7886. Demirtas et al. 2019, Neuron 101:1181 (closed form).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> ring = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    >>> [round(float(j), 4) for j in feedback_inhibition(WongWangExcInhStep(2), ring, 0.1)]
    [1.063, 1.063]
    """
    p = _values(node_parameters)
    weights = jnp.asarray(weights, jnp.result_type(float))
    if not self_connection:
        weights = weights * (1.0 - jnp.eye(weights.shape[-1], dtype=weights.dtype))
    gain = jnp.asarray(coupling_gain, weights.dtype)
    if target is None:
        state = _isolated(p)
        return _closed_form(p, weights, gain, state["S_e"], state["x_e"])
    rate = plain(target, "Hz", "the target of feedback inhibition", "s")
    gated = p["tau_e"] * p["gamma_e"] * rate
    return _closed_form(p, weights, gain, gated / (1.0 + gated), _current_at_rate(p, rate))


def isolated_fixed_point(node_parameters: Mapping[str, Any] | WongWangExcInhStep) -> Arrays:
    """
    State at which a region rests without input from others: the lowest fixed point.

    Parameters
    ----------
    node_parameters : dict of arrays, or WongWangExcInhStep

    Returns
    -------
    dict of arrays
        ``S_e``, ``S_i`` (1), ``x_e``, ``x_i`` (nA), ``r_e``, ``r_i`` (Hz), shapes of the parameters;
        differentiable in them.
    """
    return _isolated(_values(node_parameters))


def rate_at_offset(
    node_parameters: Mapping[str, Any] | WongWangExcInhStep, offset: jax.Array | float = -0.026
) -> jax.Array:
    """
    Excitatory rate (Hz) at which ``x_e - b_e / a_e`` is `offset` (nA); the default is the target of Deco et al.

    About 3.06 Hz at the default parameters.
    """
    p = _values(node_parameters)
    return excitatory_rate(p, p["b_e"] / p["a_e"] + offset)


# Compiled once for the shapes of their arguments.
@jax.jit
def _closed_form(p: Arrays, weights: jax.Array, gain: jax.Array, s_e: jax.Array, x_e: jax.Array) -> jax.Array:
    s_e = jnp.broadcast_to(s_e, (*jnp.shape(s_e)[:-1], weights.shape[-1]))
    gating = gain * jnp.einsum("...ij,...j->...i", weights, s_e)
    s_i = _inhibitory_gating(p, s_e, gating)
    excitation = p["W_e"] * p["I_o"] + p["I_ext"] + p["J_N"] * (p["w_p"] * s_e + gating)
    return (excitation - x_e) / s_i


@jax.jit
def _isolated(p: Arrays) -> Arrays:
    def slope(s_e: jax.Array) -> jax.Array:
        state = {"S_e": s_e, "S_i": _inhibitory_gating(p, s_e, 0.0)}
        return WongWangExcInhStep.rhs(p, state, {}, 0.0)["S_e"]

    def lowest(slope: Scalar, start: jax.Array) -> jax.Array:
        # The slope is positive at 0 and negative at 1.
        grid = jnp.linspace(0.0, 1.0, _GRID + 1)
        falling = jax.vmap(lambda s: slope(jnp.full_like(start, s)) <= 0.0)(grid[1:])
        low = grid[jnp.argmax(falling, axis=0)]

        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = 0.5 * (low + high)
            above = slope(middle) > 0.0
            return jnp.where(above, middle, low), jnp.where(above, high, middle)

        low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (low, low + 1.0 / _GRID))
        return 0.5 * (low + high)

    s_e = _root(slope, jnp.zeros(_shape(p), jnp.result_type(float)), lowest)
    s_i = _inhibitory_gating(p, s_e, 0.0)
    x_e, x_i = currents(p, {"S_e": s_e, "S_i": s_i}, {})
    rates = {"r_e": excitatory_rate(p, x_e), "r_i": inhibitory_rate(p, x_i)}
    return {"S_e": s_e, "S_i": s_i, "x_e": x_e, "x_i": x_i} | rates


def _inhibitory_gating(p: Arrays, s_e: jax.Array, gating: jax.Array | float) -> jax.Array:
    """S_i at rest: the root of a concave increasing function, by Newton's method from 0, left of it."""

    def excess(s_i: jax.Array) -> jax.Array:
        x_i = currents(p, {"S_e": s_e, "S_i": s_i}, {"excitatory_gating": jnp.asarray(gating)})[1]
        return s_i - p["tau_i"] * p["gamma_i"] * inhibitory_rate(p, x_i)

    return _root(excess, jnp.zeros(_shape((p, s_e, gating)), jnp.result_type(float)), _newton)


@jax.jit
def _current_at_rate(p: Arrays, rate: jax.Array) -> jax.Array:
    """x_e at which H_e is `rate`: the root of a convex increasing function, by Newton's method from its right."""

    def excess(y: jax.Array) -> jax.Array:
        return excitatory_rate(p, (y + p["b_e"]) / p["a_e"]) - rate

    start = jnp.broadcast_to(rate, _shape((p, rate)))  # H(y) > y
    return (_root(excess, start, _newton) + p["b_e"]) / p["a_e"]


def _newton(function: Scalar, start: jax.Array) -> jax.Array:
    def step(_: int, x: jax.Array) -> jax.Array:
        value, slope = jax.jvp(function, (x,), (jnp.ones_like(x),))
        return x - value / slope

    return jax.lax.fori_loop(0, _NEWTON, step, start)


def _root(function: Scalar, start: jax.Array, solve: Callable[[Scalar, jax.Array], jax.Array]) -> jax.Array:
    """Root of a function of each element; derivatives are implicit, of any order."""

    def divided(linear: Scalar, y: jax.Array) -> jax.Array:
        return y / linear(jnp.ones_like(y))

    return jax.lax.custom_root(function, start, solve, divided)


def _shape(parts: Any) -> tuple[int, ...]:
    return jnp.broadcast_shapes(*(jnp.shape(part) for part in jax.tree.leaves(parts)))


def _values(node: Mapping[str, Any] | WongWangExcInhStep) -> Arrays:
    if isinstance(node, WongWangExcInhStep):
        return node.parameter_values()
    defaults = {p.name: p.default for p in WongWangExcInhStep.PARAMETERS}
    return {
        name: jnp.asarray(node.get(name, value), jnp.result_type(float)) for name, value in defaults.items()
    }


@dataclass(frozen=True)
class Tuned:
    """
    Result of `tune_inhibition`.

    Attributes
    ----------
    J_i : (region,) array, nA
        The best that was tried.
    rates, residuals : (region,) arrays, Hz
        Mean excitatory rates there, and what they miss the target by.
    history : (iteration,) array, Hz
        Largest residual of each iteration.
    converged : bool
        The largest residual is within the tolerance.
    """

    J_i: np.ndarray
    rates: np.ndarray
    residuals: np.ndarray
    history: np.ndarray
    converged: bool


def tune_inhibition(
    simulate: Callable[[jax.Array], Any],
    start: Any,
    target: Any,
    *,
    step: float = 0.1,
    iterations: int = 100,
    tolerance: float = 0.1,
) -> Tuned:
    """
    Inhibitory weights at which the mean rates of a simulation, noise included, meet a target.

    Each iteration moves ``J_i`` by the residual times a gain; where the residual keeps its sign the gain of the
    region grows by 1.2, where it changes it is halved.

    Parameters
    ----------
    simulate : callable
        ``simulate(J_i (region,)) -> r_e (region,)``, the excitatory rate (Hz or Quantity) averaged over time.
        Use the same random key in every call: the residual then depends on J_i only.
    start : (region,) array, nA
        Such as the result of `feedback_inhibition`.
    target : number, (region,) array or Quantity, Hz
    step : float
        First gain, nA/Hz.
    iterations : int
        Simulations at most.
    tolerance : float
        Largest residual that ends the search, Hz.

    Returns
    -------
    Tuned

    Raises
    ------
    ValueError
        A simulation gave a rate that is not finite; the message says in which iteration and region.

    References
    ----------
    Deco et al. 2014, J Neurosci 34:7886 (iterative control).
    """
    j = np.array(start, dtype=float)
    wanted = np.asarray(plain(target, "Hz", "the target of feedback inhibition", "s"))
    gain = np.full(j.shape, float(step))
    before = np.zeros(j.shape)
    best, history = None, []
    for iteration in range(iterations):
        rates = np.asarray(plain(simulate(jnp.asarray(j)), "Hz", "the simulated rate", "s"), dtype=float)
        if not np.all(np.isfinite(rates)):
            where = int(np.flatnonzero(~np.isfinite(rates))[0])
            raise ValueError(
                f"the rate of region {where} is not finite in iteration {iteration}; use a smaller step"
            )
        residual = rates - wanted
        history.append(float(np.max(np.abs(residual))))
        if best is None or history[-1] < np.max(np.abs(best[2])):
            best = (j.copy(), rates, residual)
        if history[-1] <= tolerance:
            break
        gain = gain * np.where(residual * before < 0.0, 0.5, np.where(residual * before > 0.0, 1.2, 1.0))
        j = j + gain * residual
        before = residual
    if best is None:
        raise ValueError(f"iterations is {iterations}; at least one simulation is needed")
    return Tuned(*best, np.array(history), bool(np.max(np.abs(best[2])) <= tolerance))
