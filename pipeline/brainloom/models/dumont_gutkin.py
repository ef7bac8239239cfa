"""Coupled excitatory and inhibitory mean fields of quadratic integrate-and-fire neurons."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port
from brainloom.models.montbrio import qif_slopes


class DumontGutkinStep(NeuralMass):
    """
    Excitatory and inhibitory populations of quadratic integrate-and-fire neurons with exponential synapses.

    For x = e, i:
    ``tau_x r_x' = Delta_x / (pi tau_x) + 2 r_x v_x``,
    ``tau_x v_x' = v_x^2 + eta_x + tau_x (s_xe - s_xi) - (pi tau_x r_x)^2 + I_x``,
    ``tau_s s_xy' = -s_xy + J_xy r_y``, plus ``rate`` for s_ee and ``Gamma rate`` for s_ie.

    The zero defaults of `J_ee` and `J_ie` leave the loop open, and both populations are silent. With
    ``eta_e = 10``, ``J_ie = 10``, ``J_ii = 0`` the loop is closed and oscillates (excitatory drive, feedback
    inhibition).

    Parameters
    ----------
    in_size : int
        Number of regions.
    tau_e, tau_i, tau_s : float, (region,) array, Quantity or Param
        Membrane time constants, synaptic time constant, ms: [1, 50], [1, 50], [0.2, 20] for fitting.
    Delta_e, Delta_i, eta_e, eta_i
        Half-width and centre of the Lorentzian distribution of excitability, 1: [0.05, 3], [-10, 20].
    I_e, I_i
        Constant inputs, 1: [-5, 10].
    J_ee, J_ei, J_ie, J_ii
        Weights, `J_ei` onto the excitatory from the inhibitory population, 1: [0, 40].
    Gamma
        Weight of the port onto the inhibitory population, 1: [0, 20].
    init_<state>, noise_<state>, method
        See `NeuralMass`. The start is ``r = 0.02 / tau``, ``v = -2``, ``s = 0``.

    Notes
    -----
    Port ``rate`` (1/ms) enters s_ee, and ``Gamma`` times it s_ie. Rates and synaptic variables are kept in 1/ms
    and shown in Hz. Source and BOLD are r_e, EEG is v_e.

    References
    ----------
    Dumont & Gutkin 2019, PLoS Comput Biol 15:e1007019.
    """

    STATES = (
        State("r_e", lambda p: 0.02 / p["tau_e"], "1/ms", "excitatory rate", span=(0.0, 0.01), shown="Hz"),
        State("v_e", -2.0, "1", "excitatory mean voltage", span=(-3.0, -1.5)),
        State("s_ee", 0.0, "1/ms", "synapse onto E from E", span=(0.0, 0.1), shown="Hz"),
        State("s_ei", 0.0, "1/ms", "synapse onto E from I", span=(0.0, 0.1), shown="Hz"),
        State("r_i", lambda p: 0.02 / p["tau_i"], "1/ms", "inhibitory rate", span=(0.0, 0.01), shown="Hz"),
        State("v_i", -2.0, "1", "inhibitory mean voltage", span=(-3.0, -1.5)),
        State("s_ie", 0.0, "1/ms", "synapse onto I from E", span=(0.0, 0.1), shown="Hz"),
        State("s_ii", 0.0, "1/ms", "synapse onto I from I", span=(0.0, 0.1), shown="Hz"),
    )
    PARAMETERS = (
        Parameter("I_e", 0.0, (-5.0, 10.0), "1", "constant input to E"),
        Parameter("Delta_e", 1.0, (0.05, 3.0), "1", "half-width of the excitability of E"),
        Parameter("eta_e", -5.0, (-10.0, 20.0), "1", "centre of the excitability of E"),
        Parameter("tau_e", 10.0, (1.0, 50.0), "ms", "membrane time constant of E"),
        Parameter("I_i", 0.0, (-5.0, 10.0), "1", "constant input to I"),
        Parameter("Delta_i", 1.0, (0.05, 3.0), "1", "half-width of the excitability of I"),
        Parameter("eta_i", -5.0, (-10.0, 20.0), "1", "centre of the excitability of I"),
        Parameter("tau_i", 10.0, (1.0, 50.0), "ms", "membrane time constant of I"),
        Parameter("tau_s", 1.0, (0.2, 20.0), "ms", "synaptic time constant"),
        Parameter("J_ee", 0.0, (0.0, 40.0), "1", "weight onto E from E"),
        Parameter("J_ei", 10.0, (0.0, 40.0), "1", "weight onto E from I"),
        Parameter("J_ie", 0.0, (0.0, 40.0), "1", "weight onto I from E"),
        Parameter("J_ii", 15.0, (0.0, 40.0), "1", "weight onto I from I"),
        Parameter("Gamma", 5.0, (0.0, 20.0), "1", "weight of the port onto I"),
    )
    PORTS = (Port("rate", "1/ms", "s_ee"),)
    SOURCE: ClassVar = "r_e"
    BOLD: ClassVar = "r_e"
    EEG: ClassVar = "v_e"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "gamma oscillations of an exact E-I mean field"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        p, s, arriving = params, state, port(inputs, "rate")
        r_e, r_i = s["r_e"], s["r_i"]
        to_e = p["eta_e"] + p["I_e"] + p["tau_e"] * (s["s_ee"] - s["s_ei"])
        to_i = p["eta_i"] + p["I_i"] + p["tau_i"] * (s["s_ie"] - s["s_ii"])
        rate_e, voltage_e = qif_slopes(r_e, s["v_e"], to_e, p["Delta_e"], p["tau_e"])
        rate_i, voltage_i = qif_slopes(r_i, s["v_i"], to_i, p["Delta_i"], p["tau_i"])
        return {
            "r_e": rate_e,
            "v_e": voltage_e,
            "s_ee": (p["J_ee"] * r_e - s["s_ee"] + arriving) / p["tau_s"],
            "s_ei": (p["J_ei"] * r_i - s["s_ei"]) / p["tau_s"],
            "r_i": rate_i,
            "v_i": voltage_i,
            "s_ie": (p["J_ie"] * r_e - s["s_ie"] + p["Gamma"] * arriving) / p["tau_s"],
            "s_ii": (p["J_ii"] * r_i - s["s_ii"]) / p["tau_s"],
        }
