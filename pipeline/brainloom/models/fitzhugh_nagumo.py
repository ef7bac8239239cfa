"""FitzHugh-Nagumo excitable node, with a general cubic."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class FitzHughNagumoStep(NeuralMass):
    """
    FitzHugh-Nagumo node: a fast cubic and a slow linear recovery.

    ``V' = -alpha V^3 + beta V^2 + gamma V - w + I + current``,
    ``w' = (V - delta - epsilon w) / tau + w_input``.

    At the default the node oscillates, V in [0.102, 0.772] with a period of 30.5 ms; ``I = 0.6`` rests at
    (0.2162, 0.4324) and ``I = 0`` at (0, 0), where the node is excitable.

    Parameters
    ----------
    in_size : int
        Number of regions.
    alpha, beta, gamma : float, (region,) array, Quantity or Param
        Coefficients of the cubic, 1/ms: [1, 5], [1, 6], [-3, 0] for fitting.
    delta, epsilon
        Offset and slope of the recovery line, 1: [-1, 1], [0, 1].
    tau
        Recovery time, ms: [5, 100].
    I
        Constant part of ``current``, 1/ms: [0, 2].
    init_V, init_w, noise_V, noise_w, method
        See `NeuralMass`. The default start (0.1, 0.05) is off the fixed point.

    Notes
    -----
    Ports ``current`` (default, enters V) and ``w_input``, both 1/ms. Source, BOLD and EEG are V.

    References
    ----------
    FitzHugh 1961, Biophys J 1:445. This cubic: Kostova, Ravindran & Schonbek 2004, Int J Bifurc Chaos 14:913.
    """

    STATES = (
        State("V", 0.1, long_name="membrane variable", span=(0.0, 1.1)),
        State("w", 0.05, long_name="recovery", span=(0.0, 0.95)),
    )
    PARAMETERS = (
        Parameter("alpha", 3.0, (1.0, 5.0), "1/ms", "cubic coefficient"),
        Parameter("beta", 4.0, (1.0, 6.0), "1/ms", "quadratic coefficient"),
        Parameter("gamma", -1.5, (-3.0, 0.0), "1/ms", "linear coefficient"),
        Parameter("delta", 0.0, (-1.0, 1.0), "1", "offset of the recovery line"),
        Parameter("epsilon", 0.5, (0.0, 1.0), "1", "slope of the recovery line"),
        Parameter("tau", 20.0, (5.0, 100.0), "ms", "recovery time"),
        Parameter("I", 1.0, (0.0, 2.0), "1/ms", "constant input"),
    )
    PORTS = (Port("current", "1/ms", "V"), Port("w_input", "1/ms", "w"))
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "excitability; relaxation oscillations"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        v, w = state["V"], state["w"]
        cubic = v * (params["gamma"] + v * (params["beta"] - v * params["alpha"]))
        return {
            "V": cubic - w + params["I"] + port(inputs, "current"),
            "w": (v - params["delta"] - params["epsilon"] * w) / params["tau"] + port(inputs, "w_input"),
        }
