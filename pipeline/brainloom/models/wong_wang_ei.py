"""Wong-Wang model of one excitatory and one inhibitory population: the dynamic mean field of 2014."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port
from brainloom.models.functions import wong_wang_transfer


class WongWangExcInhStep(NeuralMass):
    """
    Excitatory (NMDA) and inhibitory (GABA) gating of a region.

    ::

        x_e = W_e I_o + w_p J_N S_e - J_i S_i + J_N excitatory_gating + I_ext + current_e
        x_i = W_i I_o + J_N S_e - J_ii S_i + lamda J_N excitatory_gating + current_i
        S_e' = -S_e / tau_e + (1 - S_e) gamma_e H_e(x_e)
        S_i' = -S_i / tau_i + gamma_i H_i(x_i)

    with ``H(x) = (a x - b) / (1 - exp(-d (a x - b)))``. Time is in s, rates in Hz, currents in nA. Alone, a
    region rests at 3.08 Hz; `brainloom.models.inhibition` finds the J_i that keep a network there.

    Parameters
    ----------
    in_size : int
        Number of regions.
    a_e, b_e, d_e, a_i, b_i, d_i : float, (region,) array, Quantity or Param
        Slope (Hz/nA), threshold (Hz) and curvature (s) of the transfer functions.
    tau_e, tau_i : as above
        Decay times of gating (s).
    gamma_e, gamma_i : as above
        Gating per spike (1).
    J_N, J_i, J_ii : as above
        Excitatory coupling, inhibition of excitation, inhibition of inhibition (nA).
    w_p : as above
        Local recurrence (1).
    I_o, I_ext : as above
        Background current and external current to the excitatory population (nA).
    W_e, W_i : as above
        Shares of the background current (1).
    lamda : as above
        Share of the long-range input that reaches the inhibitory population, feedforward inhibition (1).
    init_S_e, init_S_i, noise_S_e, noise_S_i, method
        See `NeuralMass`. The published white noise on both is 0.01 per sqrt(ms), that is 0.316 per sqrt(s),
        the unit of ``noise_S_e`` and ``noise_S_i``.

    Notes
    -----
    Ports ``excitatory_gating`` (default, 1: ``G sum_j W_ij S_e,j``, the gain G belongs to the coupling),
    ``current_e`` and ``current_i`` (nA). Source, BOLD and EEG are S_e. Observables ``r_e`` and ``r_i`` (Hz)
    are the rates H(x) at the current inputs; some studies drive BOLD with r_e. S_i may pass 1.

    References
    ----------
    Deco et al. 2014, J Neurosci 34:7886. Demirtas et al. 2019, Neuron 101:1181 (regional parameters).
    """

    STATES = (
        State("S_e", 0.05, long_name="excitatory gating", span=(0.0, 1.0)),
        State("S_i", 0.02, long_name="inhibitory gating", span=(0.0, 0.2)),
    )
    PARAMETERS = (
        Parameter("a_e", 310.0, (200.0, 400.0), "Hz/nA", "excitatory slope"),
        Parameter("b_e", 125.0, (90.0, 160.0), "Hz", "excitatory threshold"),
        Parameter("d_e", 0.16, (0.05, 0.3), "s", "excitatory curvature"),
        Parameter("tau_e", 0.1, (0.02, 0.3), "s", "decay time of NMDA gating"),
        Parameter("gamma_e", 0.641, (0.2, 1.0), "1", "excitatory gating per spike"),
        Parameter("a_i", 615.0, (400.0, 800.0), "Hz/nA", "inhibitory slope"),
        Parameter("b_i", 177.0, (130.0, 230.0), "Hz", "inhibitory threshold"),
        Parameter("d_i", 0.087, (0.03, 0.2), "s", "inhibitory curvature"),
        Parameter("tau_i", 0.01, (0.002, 0.05), "s", "decay time of GABA gating"),
        Parameter("gamma_i", 1.0, (0.2, 2.0), "1", "inhibitory gating per spike"),
        Parameter("J_N", 0.15, (0.0, 0.5), "nA", "excitatory coupling"),
        Parameter("w_p", 1.4, (0.0, 3.0), "1", "local recurrence"),
        Parameter("J_i", 1.0, (0.0, 10.0), "nA", "inhibition of excitation"),
        Parameter("J_ii", 1.0, (0.0, 10.0), "nA", "inhibition of inhibition"),
        Parameter("I_o", 0.382, (0.3, 0.45), "nA", "background current"),
        Parameter("W_e", 1.0, (0.5, 1.5), "1", "background share of excitation"),
        Parameter("W_i", 0.7, (0.3, 1.2), "1", "background share of inhibition"),
        Parameter("lamda", 0.0, (0.0, 1.0), "1", "feedforward inhibition"),
        Parameter("I_ext", 0.0, (-0.2, 0.2), "nA", "external current"),
    )
    PORTS = (
        Port("excitatory_gating", "1", "S_e"),
        Port("current_e", "nA", "S_e"),
        Port("current_i", "nA", "S_i"),
    )
    OBSERVABLES: ClassVar = {
        "r_e": Observable(
            lambda p, s, i: excitatory_rate(p, currents(p, s, i)[0]),
            "Hz",
            driven=True,
            long_name="excitatory rate",
        ),
        "r_i": Observable(
            lambda p, s, i: inhibitory_rate(p, currents(p, s, i)[1]),
            "Hz",
            driven=True,
            long_name="inhibitory rate",
        ),
    }
    TIME_UNIT: ClassVar = "s"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "resting-state BOLD with balanced inhibition"
    DT: ClassVar = 1e-4
    METHOD: ClassVar = "heun"
    NOISE: ClassVar = {"S_e": 0.01 * sqrt(1000.0), "S_i": 0.01 * sqrt(1000.0)}

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        s_e, s_i = state["S_e"], state["S_i"]
        x_e, x_i = currents(params, state, inputs)
        return {
            "S_e": -s_e / params["tau_e"] + (1.0 - s_e) * params["gamma_e"] * excitatory_rate(params, x_e),
            "S_i": -s_i / params["tau_i"] + params["gamma_i"] * inhibitory_rate(params, x_i),
        }


def currents(params: Arrays, state: Arrays, inputs: Arrays) -> tuple[jax.Array, jax.Array]:
    """Input currents (x_e, x_i) of both populations, nA."""
    s_i, j_n, i_o = state["S_i"], params["J_N"], params["I_o"]
    local, far = j_n * state["S_e"], j_n * port(inputs, "excitatory_gating")
    x_e = params["W_e"] * i_o + params["w_p"] * local - params["J_i"] * s_i + far
    x_i = params["W_i"] * i_o + local - params["J_ii"] * s_i + params["lamda"] * far
    return x_e + params["I_ext"] + port(inputs, "current_e"), x_i + port(inputs, "current_i")


def excitatory_rate(params: Arrays, x_e: jax.Array) -> jax.Array:
    """H_e, Hz."""
    return wong_wang_transfer(x_e, params["a_e"], params["b_e"], params["d_e"])


def inhibitory_rate(params: Arrays, x_i: jax.Array) -> jax.Array:
    """H_i, Hz."""
    return wong_wang_transfer(x_i, params["a_i"], params["b_i"], params["d_i"])
