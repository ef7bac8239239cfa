"""Larter-Breakspear model of a cortical region with ion channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port


def fraction(x: jax.Array, threshold: jax.Array, width: jax.Array) -> jax.Array:
    """``(1 + tanh((x - threshold) / width)) / 2``: open channels, or firing cells."""
    return 0.5 * (1.0 + jnp.tanh((x - threshold) / width))


def excitatory_rate(params: Arrays, state: Arrays) -> jax.Array:
    """Rate ``Q_V`` of the excitatory cells."""
    return params["QV_max"] * fraction(state["V"], params["VT"], params["d_V"])


class LarterBreakspearStep(NeuralMass):
    """
    Conductance-based region: potential V, open potassium channels W, potential Z of the inhibitory cells.

    | ``V' = t_scale (-(gCa + rNMDA aee X) m_Ca (V - VCa) - gK W (V - VK) - gL (V - VL)``
    | ``     - (gNa m_Na + aee X) (V - VNa) - aie Z Q_Z + ane I_ext)``
    | ``W' = t_scale phi (m_K - W) / tau_K``
    | ``Z' = t_scale b (ani I_ext + aei V Q_V)``
    | ``X = (1 - C) Q_V + C excitatory_rate``
    | ``m_k = (1 + tanh((V - T_k) / d_k)) / 2`` for k = Ca, K, Na
    | ``Q_V = QV_max (1 + tanh((V - VT) / d_V)) / 2``, ``Q_Z = QZ_max (1 + tanh((Z - ZT) / d_Z)) / 2``

    The term of ``aie`` is inhibitory, with a minus.

    Parameters
    ----------
    in_size : int
        Number of regions.
    gCa, gK, gL, gNa : float, (region,) array, Quantity or Param
        Conductances, 1.
    TCa, TK, TNa, d_Ca, d_K, d_Na
        Thresholds and widths of the channels, 1.
    VCa, VK, VL, VNa
        Reversal potentials, 1.
    phi, tau_K, b
        Rate factors of W and Z, and relaxation constant of W, 1.
    aee, aei, aie, ane, ani
        Synaptic strengths: E to E, E to I, I to E, unspecific input to E and to I, 1.
    C
        Share of the input of E that comes from other regions, 1.
    I_ext
        Unspecific input, 1.
    rNMDA
        NMDA to AMPA receptors, 1.
    VT, d_V, ZT, d_Z, QV_max, QZ_max
        Thresholds, widths and maxima of the rates, 1.
    t_scale
        Scale of time, 1/time.
    init_<state>, noise_<state>, method, time_unit
        For V, W and Z; see `NeuralMass`.

    Notes
    -----
    Port ``excitatory_rate`` (1): ``sum_j W_ij Q_V(V_j)`` with rows of W that sum to 1. Source and BOLD are the
    observable ``excitatory_rate``, which is ``Q_V`` and not V; EEG is V.

    With the defaults the region has a slow, large oscillation (V from -0.516 to 0.365). `PRESETS` holds sets of
    parameters: with ``chaotic`` (``gCa = 1``) the largest Lyapunov exponent is about 0.011 per unit of time. With
    the default ``gCa`` there are only narrow chaotic windows of d_V, such as 0.568.

    References
    ----------
    Larter, Speelman & Worth 1999, Chaos 9:795. Breakspear, Terry & Friston 2003, Network 14:703.

    Examples
    --------
    >>> from brainloom.models.larter_breakspear import LarterBreakspearStep
    >>> node = LarterBreakspearStep(1)
    >>> {k: round(float(v[0]), 4) for k, v in node.derivative(node.initial_values()).items()}
    {'V': 1.0182, 'W': 0.4275, 'Z': 0.0235}
    """

    STATES = (
        State("V", 0.1, long_name="potential of the excitatory cells", span=(-0.52, 0.37)),
        State("W", 0.05, long_name="open potassium channels", span=(0.06, 0.76)),
        State("Z", 0.02, long_name="potential of the inhibitory cells", span=(0.09, 0.24)),
    )
    PARAMETERS = (
        Parameter("gCa", 1.1, (0.5, 2.0), "1", "conductance of calcium"),
        Parameter("gK", 2.0, (1.0, 4.0), "1", "conductance of potassium"),
        Parameter("gL", 0.5, (0.1, 1.0), "1", "conductance of leak"),
        Parameter("gNa", 6.7, (0.0, 10.0), "1", "conductance of sodium"),
        Parameter("TCa", -0.01, (-0.2, 0.2), "1", "threshold of calcium channels"),
        Parameter("TK", 0.0, (-0.2, 0.2), "1", "threshold of potassium channels"),
        Parameter("TNa", 0.3, (0.1, 0.5), "1", "threshold of sodium channels"),
        Parameter("d_Ca", 0.15, (0.05, 0.5), "1", "width of calcium channels"),
        Parameter("d_K", 0.3, (0.05, 0.5), "1", "width of potassium channels"),
        Parameter("d_Na", 0.15, (0.05, 0.5), "1", "width of sodium channels"),
        Parameter("VCa", 1.0, (0.8, 1.5), "1", "reversal potential of calcium"),
        Parameter("VK", -0.7, (-1.0, -0.5), "1", "reversal potential of potassium"),
        Parameter("VL", -0.5, (-0.8, -0.3), "1", "reversal potential of leak"),
        Parameter("VNa", 0.53, (0.3, 0.8), "1", "reversal potential of sodium"),
        Parameter("phi", 0.7, (0.1, 2.0), "1", "rate factor of W"),
        Parameter("tau_K", 1.0, (0.1, 10.0), "1", "relaxation constant of W"),
        Parameter("b", 0.1, (1e-3, 1.0), "1", "rate factor of Z"),
        Parameter("aee", 0.4, (0.0, 2.0), "1", "synapses, E to E"),
        Parameter("aei", 2.0, (0.0, 4.0), "1", "synapses, E to I"),
        Parameter("aie", 2.0, (0.0, 4.0), "1", "synapses, I to E"),
        Parameter("ane", 1.0, (0.0, 2.0), "1", "synapses, unspecific input to E"),
        Parameter("ani", 0.4, (0.0, 2.0), "1", "synapses, unspecific input to I"),
        Parameter("C", 0.1, (0.0, 1.0), "1", "share of input from other regions"),
        Parameter("I_ext", 0.3, (0.0, 1.0), "1", "unspecific input"),
        Parameter("rNMDA", 0.25, (0.0, 1.0), "1", "NMDA to AMPA receptors"),
        Parameter("VT", 0.0, (-0.5, 0.7), "1", "threshold of the excitatory rate"),
        Parameter("d_V", 0.65, (0.5, 0.7), "1", "width of the excitatory rate"),
        Parameter("ZT", 0.0, (-0.5, 0.7), "1", "threshold of the inhibitory rate"),
        Parameter("d_Z", 0.7, (0.1, 1.0), "1", "width of the inhibitory rate"),
        Parameter("QV_max", 1.0, (0.1, 2.0), "1", "maximal excitatory rate"),
        Parameter("QZ_max", 1.0, (0.1, 2.0), "1", "maximal inhibitory rate"),
        Parameter("t_scale", 1.0, (0.1, 10.0), "1/time", "scale of time"),
    )
    PORTS = (Port("excitatory_rate", "1", "V"),)
    OBSERVABLES: ClassVar[Mapping[str, Observable]] = {
        "excitatory_rate": Observable(excitatory_rate, long_name="rate of the excitatory cells")
    }
    SOURCE: ClassVar = "excitatory_rate"
    EEG: ClassVar = "V"
    PRESETS: ClassVar[Mapping[str, Mapping[str, float]]] = {"chaotic": {"gCa": 1.0}}
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "ion channels; slow oscillations and chaos"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        p, v, w, z = params, state["V"], state["W"], state["Z"]
        m_ca = fraction(v, p["TCa"], p["d_Ca"])
        m_na = fraction(v, p["TNa"], p["d_Na"])
        m_k = fraction(v, p["TK"], p["d_K"])
        q_v = excitatory_rate(params, state)
        q_z = p["QZ_max"] * fraction(z, p["ZT"], p["d_Z"])
        synaptic = p["aee"] * ((1.0 - p["C"]) * q_v + p["C"] * port(inputs, "excitatory_rate"))
        channels = (
            (p["gCa"] + p["rNMDA"] * synaptic) * m_ca * (v - p["VCa"])
            + p["gK"] * w * (v - p["VK"])
            + p["gL"] * (v - p["VL"])
            + (p["gNa"] * m_na + synaptic) * (v - p["VNa"])
        )
        return {
            "V": p["t_scale"] * (p["ane"] * p["I_ext"] - channels - p["aie"] * z * q_z),
            "W": p["t_scale"] * p["phi"] * (m_k - w) / p["tau_K"],
            "Z": p["t_scale"] * p["b"] * (p["ani"] * p["I_ext"] + p["aei"] * v * q_v),
        }
