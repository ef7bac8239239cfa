"""Jansen-Rit cortical column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port
from brainloom.models.functions import logistic, second_order_synapse


def firing_rate(params: Arrays, v: jax.Array) -> jax.Array:
    """Rate ``S(v) = 2 e0 / (1 + exp(r (v0 - v)))`` of a population at potential v (mV), Hz."""
    return 2.0 * params["e0"] * logistic(params["r"] * (v - params["v0"]))


class JansenRitStep(NeuralMass):
    """
    Jansen-Rit column of pyramidal cells, excitatory and inhibitory interneurons.

    | ``y0' = y3``, ``y3' = A a S(y1 - y2 + membrane) - 2 a y3 - a^2 y0`` (pyramidal cells to interneurons)
    | ``y1' = y4``, ``y4' = A a (p + rate + c2 C S(c1 C y0)) - 2 a y4 - a^2 y1`` (excitation)
    | ``y2' = y5``, ``y5' = B b (c4 C S(c3 C y0) + rate_inhibitory) - 2 b y5 - b^2 y2`` (inhibition)
    | ``S(v) = 2 e0 / (1 + exp(r (v0 - v)))``

    Time is in s, potentials in mV.

    Parameters
    ----------
    in_size : int
        Number of regions.
    A, B : float, (region,) array, Quantity or Param
        Maximal excitatory and inhibitory postsynaptic potential, mV.
    a, b
        Inverse time constants of excitation and inhibition, 1/s.
    C, c1, c2, c3, c4
        Number of contacts, and its fraction in each of the four connections, 1.
    e0, v0, r
        Half of the maximal rate (Hz), threshold (mV) and slope (1/mV) of the sigmoid.
    p
        Mean input from elsewhere, Hz.
    init_<state>, noise_<state>, method
        For y0 to y5; see `NeuralMass`. The states start at 0, which is no fixed point.

    Notes
    -----
    Ports ``rate`` (default, Hz), which adds to p; ``membrane`` (mV), inside the sigmoid of the pyramidal cells;
    ``rate_inhibitory`` (Hz), which adds to the drive of the inhibitory synapses.

    Source and BOLD are ``firing_rate = S(y1 - y2)`` (Hz), so a coupled network sends rates to ``rate``. EEG is
    ``potential = y1 - y2`` (mV), the potential of the pyramidal cells; y0 is not.

    With ``p = 220`` the column has a rhythm of 10.94 Hz whose potential peaks at 9.04 mV. In p there is a
    saddle-node bifurcation at 113.586 and a Hopf bifurcation at 89.829; at ``p = 50`` there are three equilibria.
    Some packages use ``v0 = 5.52``, put coupling into the sigmoid in mV, or move the potentials with the old
    velocity; their numbers differ.

    References
    ----------
    Jansen & Rit 1995, Biological Cybernetics 73:357. Grimbert & Faugeras 2006, Neural Computation 18:3052.

    Examples
    --------
    >>> from brainloom.models.jansen_rit import JansenRitStep
    >>> column = JansenRitStep(1)
    >>> slope = column.derivative(column.initial_values())
    >>> round(float(slope["y4"][0]), 3)  # A a (p + c2 C S(0)), mV/s^2
    77391.398
    """

    STATES = (
        State("y0", 0.0, "mV", "potential of the interneurons by pyramidal cells", (0.09, 0.13)),
        State("y1", 0.0, "mV", "excitatory potential of the pyramidal cells", (24.4, 24.7)),
        State("y2", 0.0, "mV", "inhibitory potential of the pyramidal cells", (15.4, 18.6)),
        State("y3", 0.0, "mV/s", "rate of change of y0", (-1.4, 1.4)),
        State("y4", 0.0, "mV/s", "rate of change of y1", (-12.0, 12.0)),
        State("y5", 0.0, "mV/s", "rate of change of y2", (-110.0, 110.0)),
    )
    PARAMETERS = (
        Parameter("A", 3.25, (2.6, 9.75), "mV", "maximal excitatory postsynaptic potential"),
        Parameter("B", 22.0, (17.6, 110.0), "mV", "maximal inhibitory postsynaptic potential"),
        Parameter("a", 100.0, (50.0, 200.0), "1/s", "inverse time constant of excitation"),
        Parameter("b", 50.0, (25.0, 100.0), "1/s", "inverse time constant of inhibition"),
        Parameter("C", 135.0, (65.0, 1350.0), "1", "number of contacts"),
        Parameter("c1", 1.0, (0.0, 1.0), "1", "contacts, pyramidal cells to excitatory interneurons"),
        Parameter("c2", 0.8, (0.0, 1.0), "1", "contacts, excitatory interneurons to pyramidal cells"),
        Parameter("c3", 0.25, (0.0, 1.0), "1", "contacts, pyramidal cells to inhibitory interneurons"),
        Parameter("c4", 0.25, (0.0, 1.0), "1", "contacts, inhibitory interneurons to pyramidal cells"),
        Parameter("e0", 2.5, (1.0, 5.0), "Hz", "half of the maximal rate"),
        Parameter("v0", 6.0, (3.0, 9.0), "mV", "potential at half of the maximal rate"),
        Parameter("r", 0.56, (0.3, 0.9), "1/mV", "slope of the sigmoid"),
        Parameter("p", 220.0, (0.0, 400.0), "Hz", "mean input"),
    )
    PORTS = (Port("rate", "Hz", "y4"), Port("membrane", "mV", "y3"), Port("rate_inhibitory", "Hz", "y5"))
    OBSERVABLES: ClassVar[Mapping[str, Observable]] = {
        "firing_rate": Observable(
            lambda params, state: firing_rate(params, state["y1"] - state["y2"]),
            "Hz",
            long_name="rate of the pyramidal cells",
        ),
        "potential": Observable(
            lambda params, state: state["y1"] - state["y2"],
            "mV",
            long_name="potential of the pyramidal cells",
        ),
    }
    SOURCE: ClassVar = "firing_rate"
    EEG: ClassVar = "potential"
    TIME_UNIT: ClassVar = "s"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "EEG: alpha rhythm, evoked responses, spikes"
    DT: ClassVar = 1e-3

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        y0, y1, y2, y3, y4, y5 = (state[f"y{k}"] for k in range(6))
        contacts = params["C"] * y0
        pyramidal = firing_rate(params, y1 - y2 + port(inputs, "membrane"))
        excitatory = params["c2"] * params["C"] * firing_rate(params, params["c1"] * contacts)
        inhibitory = params["c4"] * params["C"] * firing_rate(params, params["c3"] * contacts)
        excitatory = excitatory + (params["p"] + port(inputs, "rate"))
        inhibitory = inhibitory + port(inputs, "rate_inhibitory")
        return {
            "y0": y3,
            "y1": y4,
            "y2": y5,
            "y3": second_order_synapse(y0, y3, pyramidal, params["A"], params["a"]),
            "y4": second_order_synapse(y1, y4, excitatory, params["A"], params["a"]),
            "y5": second_order_synapse(y2, y5, inhibitory, params["B"], params["b"]),
        }
