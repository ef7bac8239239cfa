"""Epileptor: seizure onset and offset by a slow permittivity, in six and in two variables."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port


class EpileptorStep(NeuralMass):
    """
    Epileptor: fast discharges (x1, y1), spike-and-wave events (x2, y2), slow permittivity z.

    ::

        x1' = tt (y1 - f1 - z + I_ext + Kvf fast_x1)
        y1' = tt (c - d x1^2 - y1)
        z'  = tt r (h - z - Ks slow_x1)
        x2' = tt (-y2 + x2 - x2^3 + I_ext2 + bb g - 0.3 (z - 3.5) + Kf fast_x2)
        y2' = tt (-y2 + f2) / tau
        g'  = -0.01 tt (g - 0.1 x1)

        f1 = a x1^3 - b x1^2 if x1 < 0, else (x2 - 0.6 (z - 4)^2 - slope) x1
        f2 = 0 if x2 < -0.25, else aa (x2 + 0.25)
        h  = s (x1 - x0) - (0.1 z^7 if z < 0), or x0 + 3 / (1 + exp(-10 (x1 + 0.5))) with modification = 1

    Regions with ``x0`` above about -2.06 seize on their own. At the breaks of f1, f2 and h the derivative is that
    of the second branch.

    Parameters
    ----------
    in_size : int
        Number of regions.
    a, b, c, d : float, (region,) array, Quantity or Param
        Coefficients of the fast subsystem (1).
    s, x0, r : as above
        Slope of the permittivity in x1, excitability, and rate of the permittivity (1).
    I_ext, I_ext2 : as above
        Inputs to the two fast subsystems (1).
    slope : as above
        Linear term of x1 during the seizure (1).
    tau, aa, bb : as above
        Slowness and gain of y2, effect of g on x2 (1).
    Kvf, Kf, Ks : as above
        Gains of the three ports (1).
    tt : as above
        Time scale (1/time). 0.17 is used for slower fits.
    modification : 0 or 1
        Sigmoid instead of linear permittivity. x0 is then the permittivity at rest: seizures come and go for x0
        from about 1.5 to 2.9. With the negative x0 of the linear form the seizure never ends, and z falls until x1
        is much faster than the recommended step.
    init_<state>, noise_<state>, method, time_unit
        See `NeuralMass`.

    Notes
    -----
    Ports ``slow_x1`` (default), ``fast_x1`` and ``fast_x2`` (1), for differences ``sum_j W_ij (x_j - x_i)``.

    The permittivity coupling has the published sign, minus: with ``Ks > 0`` a seizing neighbour lowers z of the
    target and recruits it. Packages that write plus have a Ks of the opposite sign.

    Source is x1; BOLD and EEG are ``lfp = x2 - x1``. ``0.002 g(x1)`` of the publication is bb g, as g settles
    at 0.1 x1. Exponential Euler with a step of 0.1 overshoots x1 by 30 %; use rk4 with 0.05.

    References
    ----------
    Jirsa et al. 2014, Brain 137:2210. Proix et al. 2014, J Neurosci 34:15009 (permittivity coupling).
    """

    STATES = (
        State("x1", -1.5, long_name="fast discharge", span=(-2.0, 1.6)),
        State("y1", -10.0, long_name="fast recovery", span=(-19.0, 1.0)),
        State("z", 3.5, long_name="permittivity", span=(2.8, 4.2)),
        State("x2", -1.0, long_name="spike and wave", span=(-1.25, 0.8)),
        State("y2", 0.0, long_name="spike and wave recovery", span=(0.0, 1.5)),
        State("g", 0.0, long_name="low-pass of x1", span=(-0.19, 0.03)),
    )
    PARAMETERS = (
        Parameter("a", 1.0, (0.5, 2.0), "1", "cubic coefficient of x1"),
        Parameter("b", 3.0, (1.0, 5.0), "1", "quadratic coefficient of x1"),
        Parameter("c", 1.0, (0.0, 3.0), "1", "constant input to y1"),
        Parameter("d", 5.0, (1.0, 10.0), "1", "quadratic coefficient of y1"),
        Parameter("r", 0.00035, (1e-5, 1e-2), "1", "rate of the permittivity"),
        Parameter("s", 4.0, (1.0, 8.0), "1", "slope of the permittivity"),
        Parameter("x0", -1.6, (-3.0, -1.0), "1", "excitability"),
        Parameter("I_ext", 3.1, (2.0, 6.0), "1", "input to x1"),
        Parameter("slope", 0.0, (-16.0, 6.0), "1", "linear term of x1 during the seizure"),
        Parameter("I_ext2", 0.45, (0.0, 1.0), "1", "input to x2"),
        Parameter("tau", 10.0, (2.0, 50.0), "1", "slowness of y2"),
        Parameter("aa", 6.0, (1.0, 10.0), "1", "gain of y2"),
        Parameter("bb", 2.0, (0.0, 5.0), "1", "effect of g on x2"),
        Parameter("Kvf", 0.0, (0.0, 4.0), "1", "gain of fast_x1"),
        Parameter("Kf", 0.0, (0.0, 4.0), "1", "gain of fast_x2"),
        Parameter("Ks", 0.0, (0.0, 4.0), "1", "gain of slow_x1"),
        Parameter("tt", 1.0, (0.05, 2.0), "1/time", "time scale"),
        Parameter("modification", 0.0, (0.0, 1.0), "1", "sigmoid permittivity (0 or 1)"),
    )
    PORTS = (Port("slow_x1", "1", "z"), Port("fast_x1", "1", "x1"), Port("fast_x2", "1", "x2"))
    OBSERVABLES: ClassVar = {
        "lfp": Observable(lambda p, s: s["x2"] - s["x1"], long_name="local field potential")
    }
    SOURCE: ClassVar = "x1"
    BOLD: ClassVar = "lfp"
    EEG: ClassVar = "lfp"
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "seizure onset, offset and spread"
    DT: ClassVar = 0.05
    METHOD: ClassVar = "rk4"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x1, y1, z, x2, y2, g = (state[name] for name in ("x1", "y1", "z", "x2", "y2", "g"))
        tt = params["tt"]
        rest = x1 * (params["a"] * x1 - params["b"])
        seizure = x2 - 0.6 * (z - 4.0) * (z - 4.0) - params["slope"]
        f1 = jnp.where(x1 < 0.0, rest, seizure) * x1
        f2 = jnp.where(x2 < -0.25, 0.0, params["aa"] * (x2 + 0.25))
        fast = -f1 - z + params["I_ext"] + params["Kvf"] * port(inputs, "fast_x1")
        second = x2 * (1.0 - x2 * x2) + params["I_ext2"] + params["bb"] * g - 0.3 * (z - 3.5)
        slow = _permittivity(params, x1, z, True) - z - params["Ks"] * port(inputs, "slow_x1")
        return {
            "x1": tt * (y1 + fast),
            "y1": tt * (params["c"] - params["d"] * x1 * x1 - y1),
            "z": tt * params["r"] * slow,
            "x2": tt * (second - y2 + params["Kf"] * port(inputs, "fast_x2")),
            "y2": tt * (f2 - y2) / params["tau"],
            "g": -0.01 * tt * (g - 0.1 * x1),
        }


class Epileptor2DStep(NeuralMass):
    """
    Epileptor in two variables: fast x1 with y1 on its nullcline, slow permittivity z.

    ::

        x1' = tt (c - z + I_ext + Kvf fast_x1 - f x1)
        z'  = tt r (h - z - Ks slow_x1)

        f = a x1^2 + (d - b) x1 if x1 < 0, else -slope - 0.6 (z - 4)^2 + d x1
        h = s (x1 - x0) - (0.1 z^7 if z < 0), or x0 + 3 / (1 + exp(-10 (x1 + 0.5))) with modification = 1

    With ``cubic = 1`` the branch of x1 < 0 holds on both sides and h has no z^7: the form of the Virtual
    Epileptic Patient, see `vep`.

    Parameters
    ----------
    in_size : int
        Number of regions.
    a, b, c, d, slope, I_ext : float, (region,) array, Quantity or Param
        Coefficients of and input to the fast variable (1).
    s, x0, r : as above
        Slope of the permittivity in x1, excitability, and rate of the permittivity (1).
    Kvf, Ks : as above
        Gains of the ports (1).
    tt : as above
        Time scale (1/time).
    modification, cubic : 0 or 1
        Sigmoid instead of linear permittivity, see `EpileptorStep`; the form of `vep`.
    init_x1, init_z, noise_x1, noise_z, method, time_unit
        See `NeuralMass`.

    Notes
    -----
    Ports ``slow_x1`` (default) and ``fast_x1`` (1), for differences ``sum_j W_ij (x_j - x_i)``. ``Ks > 0`` recruits,
    as in `EpileptorStep`. Source, BOLD and EEG are x1.

    References
    ----------
    Proix et al. 2014, J Neurosci 34:15009. Hashemi et al. 2020, NeuroImage 217:116839 (``vep``).
    """

    STATES = (
        State("x1", -1.5, long_name="fast discharge", span=(-2.0, 0.6)),
        State("z", 3.5, long_name="permittivity", span=(2.9, 4.2)),
    )
    PARAMETERS = (
        Parameter("a", 1.0, (0.5, 2.0), "1", "cubic coefficient"),
        Parameter("b", 3.0, (1.0, 5.0), "1", "quadratic coefficient"),
        Parameter("c", 1.0, (0.0, 3.0), "1", "constant input"),
        Parameter("d", 5.0, (1.0, 10.0), "1", "quadratic coefficient of the recovery"),
        Parameter("r", 0.00035, (1e-5, 0.1), "1", "rate of the permittivity"),
        Parameter("s", 4.0, (1.0, 8.0), "1", "slope of the permittivity"),
        Parameter("x0", -1.6, (-4.0, -1.0), "1", "excitability"),
        Parameter("I_ext", 3.1, (2.0, 6.0), "1", "input"),
        Parameter("slope", 0.0, (-16.0, 6.0), "1", "linear term during the seizure"),
        Parameter("Kvf", 0.0, (0.0, 4.0), "1", "gain of fast_x1"),
        Parameter("Ks", 0.0, (0.0, 4.0), "1", "gain of slow_x1"),
        Parameter("tt", 1.0, (0.05, 2.0), "1/time", "time scale"),
        Parameter("modification", 0.0, (0.0, 1.0), "1", "sigmoid permittivity (0 or 1)"),
        Parameter("cubic", 0.0, (0.0, 1.0), "1", "cubic on both sides (0 or 1)"),
    )
    PORTS = (Port("slow_x1", "1", "z"), Port("fast_x1", "1", "x1"))
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "seizure onset and spread, fits to patients"
    DT: ClassVar = 0.05
    METHOD: ClassVar = "rk4"

    @classmethod
    def vep(
        cls, in_size: int, *, I1: Any = 3.1, tau0: Any = 2857.0, x0: Any = -1.6, K: Any = 0.0, **others: Any
    ) -> Epileptor2DStep:
        """
        The form of the Virtual Epileptic Patient.

        ``x' = 1 - x^3 - 2 x^2 - z + I1``, ``z' = (4 (x - x0) - z - K slow_x1) / tau0``, slow_x1 being
        ``sum_j W_ij (x_j - x_i)``.

        Parameters
        ----------
        in_size : int
        I1, tau0, x0, K : float, (region,) array or Param
            Input, slowness (10 is used for fits), excitability, gain of the coupling, kept as ``I_ext``,
            ``r = 1 / tau0``, ``x0`` and ``Ks``. All but tau0 may be a Param; to fit the slowness give a Param
            ``r`` to the constructor, with ``cubic=1``.
        **others
            As of the constructor.
        """
        return cls(in_size, I_ext=I1, r=1.0 / tau0, x0=x0, Ks=K, cubic=1.0, **others)

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, z, d = state["x1"], state["z"], params["d"]
        cubic = params["cubic"] > 0.5
        rest = x * (params["a"] * x + d - params["b"])
        seizure = d * x - params["slope"] - 0.6 * (z - 4.0) * (z - 4.0)
        f = jnp.where((x < 0.0) | cubic, rest, seizure) * x
        slow = (
            _permittivity(params, x, z, jnp.logical_not(cubic)) - z - params["Ks"] * port(inputs, "slow_x1")
        )
        return {
            "x1": params["tt"]
            * (params["c"] - z + params["I_ext"] + params["Kvf"] * port(inputs, "fast_x1") - f),
            "z": params["tt"] * params["r"] * slow,
        }


def _permittivity(params: Arrays, x1: jax.Array, z: jax.Array, bounded: jax.Array | bool) -> jax.Array:
    """h; `bounded` says whether the term that keeps z from falling below 0 is there."""
    below = jnp.where(bounded, jnp.minimum(z, 0.0), 0.0)
    squared = below * below
    linear = params["s"] * (x1 - params["x0"]) - 0.1 * squared * squared * squared * below
    sigmoid = params["x0"] + 3.0 * jax.nn.sigmoid(10.0 * (x1 + 0.5))
    return jnp.where(params["modification"] > 0.5, sigmoid, linear)
