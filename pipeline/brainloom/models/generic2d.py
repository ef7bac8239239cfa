"""Generic two-dimensional oscillator: a cubic and a quadratic nullcline."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class Generic2dOscillatorStep(NeuralMass):
    """
    Generic planar oscillator: excitable, bistable or oscillating by its parameters.

    ``V' = d tau (-f V^3 + e V^2 + g V + alpha W + gamma (I + current))``,
    ``W' = (d / tau) (a + b V + c V^2 - beta W)``.

    The default is a damped focus at (-0.1887, -0.1135).

    Parameters
    ----------
    in_size : int
        Number of regions.
    tau : float, (region,) array, Quantity or Param
        Separation of the time scales, 1: [1, 5] for fitting.
    I
        Constant input, 1: [-5, 5].
    a, b, c
        Quadratic nullcline, 1: [-5, 5], [-20, 15], [-10, 10].
    d
        Rate of both equations, 1/time: [1e-4, 1].
    e, f, g
        Cubic nullcline, 1: [-5, 5] each.
    alpha, beta
        Feedback of W on V, decay of W, 1: [-5, 5] each.
    gamma
        Gain of the input, 1: [-1, 1].
    init_V, init_W, noise_V, noise_W, method, time_unit
        See `NeuralMass`. The start is (1.5, 0.5).

    Notes
    -----
    Port ``current`` (1). It stands inside the bracket, so it reaches V' multiplied by ``d tau gamma``. Source,
    BOLD and EEG are V. With ``f <= 0`` the cubic does not hold V back and a trajectory may escape.

    References
    ----------
    Sanz-Leon et al. 2015, NeuroImage 111:385. FitzHugh 1961, Biophys J 1:445. Nagumo et al. 1962, Proc IRE
    50:2061.
    """

    STATES = (
        State("V", 1.5, long_name="fast variable", span=(-1.1, 2.0)),
        State("W", 0.5, long_name="slow variable", span=(-8.3, 0.5)),
    )
    PARAMETERS = (
        Parameter("tau", 1.0, (1.0, 5.0), "1", "separation of the time scales"),
        Parameter("I", 0.0, (-5.0, 5.0), "1", "constant input"),
        Parameter("a", -2.0, (-5.0, 5.0), "1", "offset of the nullcline of W"),
        Parameter("b", -10.0, (-20.0, 15.0), "1", "slope of the nullcline of W"),
        Parameter("c", 0.0, (-10.0, 10.0), "1", "curvature of the nullcline of W"),
        Parameter("d", 0.02, (1e-4, 1.0), "1/time", "rate"),
        Parameter("e", 3.0, (-5.0, 5.0), "1", "quadratic coefficient"),
        Parameter("f", 1.0, (-5.0, 5.0), "1", "cubic coefficient, with a minus"),
        Parameter("g", 0.0, (-5.0, 5.0), "1", "linear coefficient"),
        Parameter("alpha", 1.0, (-5.0, 5.0), "1", "feedback of W on V"),
        Parameter("beta", 1.0, (-5.0, 5.0), "1", "decay of W"),
        Parameter("gamma", 1.0, (-1.0, 1.0), "1", "gain of the input"),
    )
    PORTS = (Port("current", "1", "V"),)
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "excitable, bistable or oscillating by choice"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        v, w = state["V"], state["W"]
        cubic = v * (params["g"] + v * (params["e"] - v * params["f"]))
        drive = params["gamma"] * (params["I"] + port(inputs, "current"))
        line = params["a"] + v * (params["b"] + v * params["c"])
        return {
            "V": params["d"] * params["tau"] * (cubic + params["alpha"] * w + drive),
            "W": params["d"] / params["tau"] * (line - params["beta"] * w),
        }
