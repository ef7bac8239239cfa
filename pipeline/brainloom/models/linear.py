"""Linear node: with diffusive coupling and white noise, the multivariate Ornstein-Uhlenbeck process."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class LinearStep(NeuralMass):
    """
    Linear relaxation ``x' = gamma x + current``.

    With white noise of amplitude sigma the stationary variance is ``sigma^2 / (2 |gamma|)``. Exponential Euler
    is exact.

    Parameters
    ----------
    in_size : int
        Number of regions.
    gamma : float, (region,) array, Quantity or Param
        Rate, negative, 1/time.
    init_x, noise_x, method, time_unit
        See `NeuralMass`.

    Notes
    -----
    Port ``current`` (1/time). Source, BOLD and EEG are x.

    References
    ----------
    Sanz-Leon et al. 2015, NeuroImage 111:385.
    """

    STATES = (State("x", 1.0, long_name="activity"),)
    PARAMETERS = (Parameter("gamma", -0.1, (-10.0, -1e-3), "1/time", "relaxation rate"),)
    PORTS = (Port("current", "1/time", "x"),)
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "linear baseline; checks of coupling"
    METHOD: ClassVar = "exp_euler"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        return {"x": params["gamma"] * state["x"] + port(inputs, "current")}
