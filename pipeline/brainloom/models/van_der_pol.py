"""Van der Pol oscillator: relaxation oscillations with one parameter."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class VanDerPolStep(NeuralMass):
    """
    Van der Pol oscillator in the Lienard form.

    ``x' = mu (x - x^3 / 3 - y) + x_input``, ``y' = x / mu + y_input``.

    The limit cycle is close to a circle of radius 2 and period 2 pi for small ``mu`` and a relaxation
    oscillation for large ``mu``. At ``mu = 1`` the amplitude of x is 2.009 and the period 6.663.

    Parameters
    ----------
    in_size : int
        Number of regions.
    mu : float, (region,) array, Quantity or Param
        Nonlinear damping, 1/time, [0.01, 20] for fitting. The frequency at small amplitude is 1 rad per unit
        of time.
    init_x, init_y, noise_x, noise_y, method, time_unit
        See `NeuralMass`. The default start (0.5, 0) is off the fixed point.

    Notes
    -----
    Ports ``x_input`` (default) and ``y_input`` (1/time). Source, BOLD and EEG are x. The recommended step is
    for the default; the fastest rate on the cycle is ``3 mu``.

    References
    ----------
    van der Pol 1926, Philosophical Magazine 2:978.
    """

    STATES = (
        State("x", 0.5, long_name="position", span=(-2.0, 2.0)),
        State("y", 0.0, long_name="Lienard variable", span=(-2.2, 2.2)),
    )
    PARAMETERS = (Parameter("mu", 1.0, (0.01, 20.0), "1/time", "nonlinear damping"),)
    PORTS = (Port("x_input", "1/time", "x"), Port("y_input", "1/time", "y"))
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "relaxation oscillations"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, mu = state["x"], params["mu"]
        return {
            "x": mu * (x - x * x * x / 3.0 - state["y"]) + port(inputs, "x_input"),
            "y": x / mu + port(inputs, "y_input"),
        }
