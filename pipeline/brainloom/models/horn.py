"""Harmonic oscillator recurrent network (HORN): one unit, a discrete symplectic map."""

from __future__ import annotations

from math import pi
from typing import ClassVar

import jax
import jax.numpy as jnp

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class HORNStep(NeuralMass):
    """
    Damped harmonic oscillators driven through a saturation, one step of a discrete map.

    ::

        y <- y + h (alpha tanh(input + v x) - omega^2 x - 2 gamma y)
        x <- x + h y   (the new y)

    Everything is dimensionless and counts steps; no time step is read. ``h = 1`` is the published map. It is
    damped while ``h^2 omega^2 < 4 - 4 h gamma``.

    Parameters
    ----------
    in_size : int
        Number of units.
    alpha : float, (unit,) array, Quantity or Param
        Excitability (1).
    omega, gamma : as above
        Natural frequency (rad a step) and damping (1).
    v : as above
        Amplitude feedback (1).
    h : as above
        Step (1).
    init_x, init_y, noise_x, noise_y
        See `NeuralMass`. Noise is added to the new state; a plain amplitude is that of one step.

    Notes
    -----
    Port ``input`` (1), inside the tanh. Source, BOLD and EEG are x; the recurrence of the published network
    reads y. `brainloom.models.horn_layers` has layers and networks for sequences.

    References
    ----------
    Effenberger, Carvalho, Dubinin & Singer 2025, PNAS 122:e2412830122.
    """

    STATES = (
        State("x", 0.0, long_name="position", span=(-1.0, 1.0)),
        State("y", 0.0, long_name="velocity", span=(-0.2, 0.2)),
    )
    PARAMETERS = (
        Parameter("alpha", 0.04, (0.001, 1.0), "1", "excitability"),
        Parameter("omega", 2.0 * pi / 28.0, (0.01, 2.0), "1", "natural frequency"),
        Parameter("gamma", 0.01, (0.0, 0.5), "1", "damping"),
        Parameter("v", 0.0, (-1.0, 1.0), "1", "amplitude feedback"),
        Parameter("h", 1.0, (0.05, 1.0), "1", "step"),
    )
    PORTS = (Port("input", "1", "y"),)
    CATEGORY: ClassVar = "network"
    USE: ClassVar = "sequence tasks with oscillating units"
    DT: ClassVar = 1.0
    METHOD: ClassVar = "euler"

    @classmethod
    def discrete_step(cls, params: Arrays, state: Arrays, inputs: Arrays) -> Arrays:
        """See `NeuralMass.discrete_step`."""
        return advance(params, state, port(inputs, "input") + params["v"] * state["x"])


def advance(params: Arrays, state: Arrays, drive: jax.Array) -> Arrays:
    """
    One step of the oscillators.

    Parameters
    ----------
    params : dict of arrays
        alpha, omega, gamma and h; (unit,) or scalars.
    state : dict of (..., unit) arrays
    drive : (..., unit) array
        Argument of the tanh.

    Returns
    -------
    dict of (..., unit) arrays
    """
    x, y, h, omega = state["x"], state["y"], params["h"], params["omega"]
    y = y + h * (params["alpha"] * jnp.tanh(drive) - omega * omega * x - 2.0 * params["gamma"] * y)
    return {"x": x + h * y, "y": y}
