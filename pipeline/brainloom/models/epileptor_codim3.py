"""Slow-wave bursting near a degenerate Takens-Bogdanov singularity: a generic model of seizure classes."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port

# Below this slope of the cubic (at the fold where the resting state ends) the derivative of the root is bounded.
_FLOOR = 1e-4


class EpileptorCodim3Step(NeuralMass):
    """
    Codimension-3 Epileptor: a planar unfolding whose parameters follow an arc from seizure start to stop.

    ::

        x' = -y
        y' = x^3 - mu2 x - mu1 - y (nu + b x + x^2)
        z' = -c (sqrt((x - xs)^2 + y^2) - dstar + 0.1 (z - 0.5)^7 modification + Ks slow_x)

        (mu2, -mu1, nu) = R (E cos z + F sin z),  E = A / |A|,  F = ((A x B) x A) / |(A x B) x A|

    A and B are the points (mu2, -mu1, nu) where the seizure starts and stops, on a sphere of radius R; xs is the
    resting state, the largest real part of the roots of ``x^3 - mu2 x - mu1``. At rest z rises until the resting
    state ends in a fold; during the oscillation that follows it falls, until the oscillation ends.

    Parameters
    ----------
    in_size : int
        Number of regions.
    mu1_start, mu2_start, nu_start, mu1_stop, mu2_stop, nu_stop : float, (region,) array, Quantity or Param
        Points of start and stop (1); only their directions matter.
    b, R : as above
        Coefficient of the unfolding, radius (1).
    c : as above
        Rate of the slow variable (1/time).
    dstar : as above
        Distance from rest at which the slow variable turns (1).
    Ks : as above
        Gain of ``slow_x`` (1).
    modification : 0 or 1
        Term that keeps z near 0.5.
    init_x, init_y, init_z, noise_x, noise_y, noise_z, method, time_unit
        See `NeuralMass`.

    Notes
    -----
    Port ``slow_x`` (1), for differences ``sum_j W_ij (x_j - x_i)``. Source, BOLD and EEG are x. The derivative
    of xs is implicit, and bounded at the fold. The derivative of the distance from rest is 0 at rest, and F is 0
    where A and B are parallel.

    References
    ----------
    Saggio et al. 2017, J Math Neurosci 7:7.
    """

    STATES = (
        State("x", 0.0, long_name="fast activity", span=(-1.0, 0.6)),
        State("y", 0.0, long_name="fast recovery", span=(-0.4, 0.4)),
        State("z", 0.0, long_name="position on the arc", span=(-0.01, 0.15)),
    )
    PARAMETERS = (
        Parameter("mu1_start", -0.02285, (-0.2, 0.2), "1", "mu1 at the start"),
        Parameter("mu2_start", 0.3448, (0.1, 0.4), "1", "mu2 at the start"),
        Parameter("nu_start", 0.2014, (-0.4, 0.4), "1", "nu at the start"),
        Parameter("mu1_stop", -0.07465, (-0.2, 0.2), "1", "mu1 at the stop"),
        Parameter("mu2_stop", 0.3351, (0.1, 0.4), "1", "mu2 at the stop"),
        Parameter("nu_stop", 0.2053, (-0.4, 0.4), "1", "nu at the stop"),
        Parameter("b", 1.0, (0.5, 2.0), "1", "coefficient of the unfolding"),
        Parameter("R", 0.4, (0.2, 0.6), "1", "radius"),
        Parameter("c", 0.001, (1e-5, 1e-2), "1/time", "rate of the slow variable"),
        Parameter("dstar", 0.3, (0.05, 1.0), "1", "turning distance from rest"),
        Parameter("Ks", 0.0, (0.0, 4.0), "1", "gain of slow_x"),
        Parameter("modification", 0.0, (0.0, 1.0), "1", "bounded slow variable (0 or 1)"),
    )
    PORTS = (Port("slow_x", "1", "z"),)
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "classes of seizure onset and offset"
    DT: ClassVar = 0.1
    METHOD: ClassVar = "rk4"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, y, z = state["x"], state["y"], state["z"]
        mu1, mu2, nu = _on_arc(params, z)
        rest = resting_root(mu1, mu2)
        away = _safe_sqrt((x - rest) * (x - rest) + y * y)
        w = z - 0.5
        w3 = w * w * w
        kept = jnp.where(params["modification"] > 0.5, 0.1 * w3 * w3 * w, 0.0)
        slow = away - params["dstar"] + kept + params["Ks"] * port(inputs, "slow_x")
        return {
            "x": -y,
            "y": x * (x * x - mu2) - mu1 - y * (nu + x * (params["b"] + x)),
            "z": -params["c"] * slow,
        }


def _on_arc(params: Arrays, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """mu1, mu2 and nu at the angle z from the start."""
    a = (params["mu2_start"], -params["mu1_start"], params["nu_start"])
    b = (params["mu2_stop"], -params["mu1_stop"], params["nu_stop"])
    # (A x B) x A is the part of B across A, times |A|^2.
    along = sum(p * q for p, q in zip(a, b, strict=True)) / sum(p * p for p in a)
    e = _unit(a)
    f = _unit(tuple(q - along * p for p, q in zip(a, b, strict=True)))
    cos, sin = params["R"] * jnp.cos(z), params["R"] * jnp.sin(z)
    mu2, minus_mu1, nu = (cos * p + sin * q for p, q in zip(e, f, strict=True))
    return -minus_mu1, mu2, nu


def _unit(v: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    squared = sum(p * p for p in v)
    some = squared > 1e-12
    scale = jnp.where(some, jax.lax.rsqrt(jnp.where(some, squared, 1.0)), 0.0)
    return tuple(p * scale for p in v)


def _safe_sqrt(squared: jax.Array) -> jax.Array:
    some = squared > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squared, 1.0)), 0.0)


@jax.custom_jvp
def resting_root(mu1: jax.Array, mu2: jax.Array) -> jax.Array:
    """
    Largest real part of the roots of ``x^3 - mu2 x - mu1``.

    Parameters
    ----------
    mu1, mu2 : arrays

    Returns
    -------
    array
        Continuous everywhere. The derivative is the implicit one, ``(x dmu2 + dmu1) / (3 x^2 - mu2)`` at a real
        root, bounded where it is double.
    """
    x, pair = _real_root(mu1, mu2)
    return jnp.where(pair, -0.5 * x, x)


@resting_root.defjvp
def _resting_root_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (mu1, mu2), (d_mu1, d_mu2) = primals, tangents
    # The real root is where the derivative is taken: the roots add up to 0.
    rest, pair = resting_root(mu1, mu2), _real_root(mu1, mu2)[1]
    x = jnp.where(pair, -2.0 * rest, rest)
    slope = (x * d_mu2 + d_mu1) / jnp.maximum(3.0 * x * x - mu2, _FLOOR)
    return rest, jnp.where(pair, -0.5, 1.0) * slope


def _real_root(mu1: jax.Array, mu2: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Largest real root, and whether it is left of a complex pair."""
    half, third = 0.5 * mu1, mu2 / 3.0
    gap = half * half - third * third * third
    # Three real roots: Viete. Then mu2 > 0.
    three = gap < 0.0
    size = jnp.sqrt(jnp.where(three, third, 1.0))
    cosine = jnp.where(three, half, 0.0) / (size * size * size)
    viete = 2.0 * size * jnp.cos(jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / 3.0)
    # One: Cardano, on the side where nothing cancels under the root.
    u = jnp.cbrt(jnp.abs(half) + jnp.sqrt(jnp.where(three, 0.0, gap)))
    some = u > 0.0
    other = jnp.where(some, third / jnp.where(some, u, 1.0), 0.0)
    cardano = jnp.where(half < 0.0, -1.0, 1.0) * (u + other)
    x = jnp.where(three, viete, cardano)
    for _ in range(2):  # polish what cancelled in u + other
        x = x - (x * (x * x - mu2) - mu1) / jnp.maximum(3.0 * x * x - mu2, _FLOOR)
    return x, jnp.logical_not(three) & (half < 0.0)
