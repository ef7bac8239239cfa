"""Hopf normal form (Stuart-Landau oscillator)."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import Arrays, NeuralMass, Parameter, Port, State, port


class HopfStep(NeuralMass):
    """
    Normal form of a supercritical Hopf bifurcation.

    ``x' = (a - beta (x^2 + y^2)) x - w y + x_input``, ``y' = (a - beta (x^2 + y^2)) y + w x + y_input``.

    For ``a > 0`` the amplitude settles at ``sqrt(a / beta)`` with angular frequency ``w``; for ``a < 0`` the
    origin is a stable focus. Time is in ms by default; resting-state BOLD models use 1/s (``a`` about -0.02,
    ``w = 2 pi f`` with f = 0.04 to 0.07 Hz).

    Parameters
    ----------
    in_size : int
        Number of regions.
    a, w, beta : float, (region,) array or Param
        Bifurcation parameter (1/time), angular frequency (rad/time), saturation (1/time).
    init_x, init_y, noise_x, noise_y, method
        See `NeuralMass`. The default start (0.1, 0) is off the fixed point.

    Notes
    -----
    Ports ``x_input`` (default) and ``y_input`` (1/time). Observables: ``source``, ``bold`` and ``eeg`` are x.

    References
    ----------
    Deco et al. 2017, Scientific Reports 7:3095.

    Examples
    --------
    >>> from brainloom.models import HopfStep
    >>> node = HopfStep(2, a=0.25)
    >>> {k: round(float(v), 6) for k, v in node.derivative({"x": 0.5, "y": 0.0}).items()}  # limit cycle
    {'x': 0.0, 'y': 0.15}
    """

    STATES = (State("x", 0.1), State("y", 0.0))
    PARAMETERS = (
        Parameter("a", 0.2, (-1.0, 1.0), "1/time", "bifurcation parameter"),
        Parameter("w", 0.3, (0.001, 2.0), "rad/time", "angular frequency"),
        Parameter("beta", 1.0, (0.01, 10.0), "1/time", "saturation"),
    )
    PORTS = (Port("x_input", "1/time", "x"), Port("y_input", "1/time", "y"))
    OBSERVABLES: ClassVar = {
        "source": lambda params, state: state["x"],
        "x": lambda params, state: state["x"],
        "y": lambda params, state: state["y"],
        "bold": lambda params, state: state["x"],
        "eeg": lambda params, state: state["x"],
    }

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, y = state["x"], state["y"]
        rate = params["a"] - params["beta"] * (x * x + y * y)
        return {
            "x": rate * x - params["w"] * y + port(inputs, "x_input"),
            "y": rate * y + params["w"] * x + port(inputs, "y_input"),
        }
