"""Lorenz system: a known chaotic flow to test integrators, gradients and Lyapunov exponents with."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class LorenzStep(NeuralMass):
    """
    Lorenz system, chaotic at the default.

    ``x' = sigma (y - x) + current``, ``y' = x (rho - z) - y``, ``z' = x y - beta z``.

    For ``rho > 1`` there are fixed points at ``x = y = +-sqrt(beta (rho - 1))``, ``z = rho - 1``; at the
    default they are unstable and the largest Lyapunov exponent is 0.906 per unit of time.

    Parameters
    ----------
    in_size : int
        Number of regions.
    sigma, beta : float, (region,) array, Quantity or Param
        Rates of x and z, 1/time: [0.1, 20], [0.1, 5] for fitting.
    rho
        Distance from the onset of convection at 1, 1/time: [0, 60].
    init_x, init_y, init_z, noise_x, noise_y, noise_z, method, time_unit
        See `NeuralMass`. The start is (1, 1, 1).

    Notes
    -----
    Port ``current`` (1/time). Source, BOLD and EEG are x. Trajectories and their gradients grow by a factor e
    every 1.1 units of time.

    References
    ----------
    Lorenz 1963, J Atmos Sci 20:130.
    """

    STATES = (
        State("x", 1.0, long_name="convection", span=(-20.0, 20.0)),
        State("y", 1.0, long_name="horizontal temperature difference", span=(-27.0, 27.0)),
        State("z", 1.0, long_name="vertical temperature profile", span=(0.0, 48.0)),
    )
    PARAMETERS = (
        Parameter("sigma", 10.0, (0.1, 20.0), "1/time", "Prandtl number"),
        Parameter("rho", 28.0, (0.0, 60.0), "1/time", "relative Rayleigh number"),
        Parameter("beta", 8.0 / 3.0, (0.1, 5.0), "1/time", "geometric factor"),
    )
    PORTS = (Port("current", "1/time", "x"),)
    CATEGORY: ClassVar = "test"
    USE: ClassVar = "checks of chaos, integrators and gradients"
    DT: ClassVar = 0.01
    CHAOTIC: ClassVar = True

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        x, y, z = state["x"], state["y"], state["z"]
        return {
            "x": params["sigma"] * (y - x) + port(inputs, "current"),
            "y": x * (params["rho"] - z) - y,
            "z": x * y - params["beta"] * z,
        }
