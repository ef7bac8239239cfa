"""Hopf normal form: with free saturation, and in the Stuart-Landau scaling."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class HopfStep(NeuralMass):
    """
    Normal form of a supercritical Hopf bifurcation.

    ``x' = (a - beta (x^2 + y^2)) x - w y + x_input``, ``y' = (a - beta (x^2 + y^2)) y + w x + y_input``.

    For ``a > 0`` the amplitude settles at ``sqrt(a / beta)`` with angular frequency ``w``; for ``a < 0`` the
    origin is a stable focus. Time is in ms by default; resting-state BOLD models use ``time_unit="s"`` (``a``
    about -0.02, ``w = 2 pi f`` with f = 0.04 to 0.07 Hz).

    Parameters
    ----------
    in_size : int
        Number of regions.
    a, w, beta : float, (region,) array, Quantity or Param
        Bifurcation parameter (1/time), angular frequency (rad/time), saturation (1/time).
    init_x, init_y, noise_x, noise_y, method, time_unit
        See `NeuralMass`. The default start (0.1, 0) is off the fixed point.

    Notes
    -----
    Ports ``x_input`` (default) and ``y_input`` (1/time). Source, BOLD and EEG are x. Whole-brain models
    couple both variables, x into ``x_input`` and y into ``y_input``.

    References
    ----------
    Deco et al. 2017, Scientific Reports 7:3095. Freyer et al. 2011, J Neurosci 31:6353.

    Examples
    --------
    >>> from brainloom.models import HopfStep
    >>> node = HopfStep(2, a=0.25)
    >>> {k: round(float(v), 6) for k, v in node.derivative({"x": 0.5, "y": 0.0}).items()}  # limit cycle
    {'x': 0.0, 'y': 0.15}
    """

    STATES = (
        State("x", 0.1, long_name="real part", span=(-0.5, 0.5)),
        State("y", 0.0, long_name="imaginary part", span=(-0.5, 0.5)),
    )
    PARAMETERS = (
        Parameter("a", 0.2, (-1.0, 1.0), "1/time", "bifurcation parameter"),
        Parameter("w", 0.3, (0.001, 2.0), "rad/time", "angular frequency"),
        Parameter("beta", 1.0, (0.01, 10.0), "1/time", "saturation"),
    )
    PORTS = (Port("x_input", "1/time", "x"), Port("y_input", "1/time", "y"))
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "onset of oscillations; resting-state BOLD"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, y = state["x"], state["y"]
        rate = params["a"] - params["beta"] * (x * x + y * y)
        return {
            "x": rate * x - params["w"] * y + port(inputs, "x_input"),
            "y": rate * y + params["w"] * x + port(inputs, "y_input"),
        }


class StuartLandauStep(NeuralMass):
    """
    Hopf normal form in the Stuart-Landau scaling, ``beta = 1``: one complex equation.

    ``z' = (a + i w - |z|^2) z + input`` with ``z = x + i y``, that is
    ``x' = (a - x^2 - y^2) x - w y + x_input``, ``y' = (a - x^2 - y^2) y + w x + y_input``.

    For ``a > 0`` the amplitude settles at ``sqrt(a)`` with angular frequency ``w``.

    Parameters
    ----------
    in_size : int
        Number of regions.
    a, w : float, (region,) array, Quantity or Param
        Bifurcation parameter (1/time) [-1, 1], angular frequency (rad/time) [0.001, 2]. Bounds are those for
        fitting.
    init_x, init_y, noise_x, noise_y, method, time_unit
        See `NeuralMass`. The default start (0.1, 0) is off the fixed point.

    Notes
    -----
    Ports ``x_input`` (default) and ``y_input`` (1/time). Source, BOLD and EEG are x. The saturation is 1 per
    unit of time; `HopfStep` sets it freely.

    References
    ----------
    Kuramoto 1984, Chemical Oscillations, Waves, and Turbulence, Springer.
    """

    STATES = HopfStep.STATES
    PARAMETERS = (
        Parameter("a", 0.25, (-1.0, 1.0), "1/time", "bifurcation parameter"),
        Parameter("w", 0.2, (0.001, 2.0), "rad/time", "angular frequency"),
    )
    PORTS = HopfStep.PORTS
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "onset of oscillations, with unit saturation"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, y = state["x"], state["y"]
        rate = params["a"] - (x * x + y * y)
        return {
            "x": rate * x - params["w"] * y + port(inputs, "x_input"),
            "y": rate * y + params["w"] * x + port(inputs, "y_input"),
        }
