"""Variants of the Wilson-Cowan model with a mechanism more: division, delay, adaptation, a third population."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import jax

from brainloom.models.declare import Arrays, Parameter, Port, State, port
from brainloom.models.wilson_cowan import (
    WilsonCowan,
    WilsonCowanStep,
    both_populations,
    changed,
    gain_of,
    local_inputs,
    relaxation,
)

_BASE = WilsonCowanStep.PARAMETERS


_DIVISIVE = changed(
    _BASE,
    w_ee=6.0,
    w_ei=6.5,
    w_ie=2.0,
    w_ii=5.5,
    sigma_e=Parameter("sigma_e", 1.0, (0.1, 5.0), "1", "divisor of E without inhibition"),
    sigma_i=Parameter("sigma_i", 1.0, (0.1, 5.0), "1", "divisor of I without inhibition"),
)


class WilsonCowanDivisiveStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model in which inhibition divides the response.

    ``tau_e E' = -E + (k_e - r_e E) F_e(w_ee E + P + drive_e) / (sigma_e + w_ei I)``,
    ``tau_i I' = -I + (k_i - r_i I) F_i(w_ie E + Q + drive_i) / (sigma_i + w_ii I)``.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms.
    sigma_e, sigma_i
        Divisors without inhibition, 1.
    a_e, a_i, theta_e, theta_i, w_ee, w_ei, w_ie, w_ii, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, init_E, init_I, noise_E, noise_I, method
        See `WilsonCowanStep`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``.

    The equations have a pole at ``I = -sigma / w``: with a small sigma and large weights keep the noise on I
    well below it.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1, after Carandini & Heeger 2012, Nature Reviews
    Neuroscience 13:51.
    """

    PARAMETERS = _DIVISIVE
    USE: ClassVar = "Wilson-Cowan variant: divisive normalisation of the response"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        e, i = state["E"], state["I"]
        gain_e = gain_of(params, "e", params["w_ee"] * e + (params["P"] + port(inputs, "drive_e")))
        gain_i = gain_of(params, "i", params["w_ie"] * e + (params["Q"] + port(inputs, "drive_i")))
        return {
            "E": relaxation(params, "e", e, gain_e / (params["sigma_e"] + params["w_ei"] * i)),
            "I": relaxation(params, "i", i, gain_i / (params["sigma_i"] + params["w_ii"] * i)),
        }


class WilsonCowanDivisiveInputStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model in which inhibition divides the excitatory input.

    ``tau_e E' = -E + (k_e - r_e E) F_e(w_ee E / (sigma_e + w_ei I) + P + drive_e)``,
    ``tau_i I' = -I + (k_i - r_i I) F_i(w_ie E / (sigma_i + w_ii I) + Q + drive_i)``.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms.
    sigma_e, sigma_i
        Divisors without inhibition, 1.
    a_e, a_i, theta_e, theta_i, w_ee, w_ei, w_ie, w_ii, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, init_E, init_I, noise_E, noise_I, method
        See `WilsonCowanStep`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``. The pole at
    ``I = -sigma / w`` is that of `WilsonCowanDivisiveStep`.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1, after Carandini & Heeger 2012, Nature Reviews
    Neuroscience 13:51.
    """

    PARAMETERS = _DIVISIVE
    USE: ClassVar = "Wilson-Cowan variant: divisive normalisation of the input"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        e, i = state["E"], state["I"]
        local_e = params["w_ee"] * e / (params["sigma_e"] + params["w_ei"] * i)
        local_i = params["w_ie"] * e / (params["sigma_i"] + params["w_ii"] * i)
        onto_e = local_e + (params["P"] + port(inputs, "drive_e"))
        onto_i = local_i + (params["Q"] + port(inputs, "drive_i"))
        return both_populations(params, state, onto_e, onto_i)


def _delay(name: str, default: float, path: str) -> Parameter:
    return Parameter(name, default, (0.0, 20.0), "ms", f"delay {path}")


class WilsonCowanDelayedStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model whose local connections take time.

    ``tau_e E' = -E + (k_e - r_e E) F_e(w_ee E(t - delay_ee) - w_ei I(t - delay_ei) + P + drive_e)``,
    ``tau_i I' = -I + (k_i - r_i I) F_i(w_ie E(t - delay_ie) - w_ii I(t - delay_ii) + Q + drive_i)``.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms.
    delay_ee, delay_ei, delay_ie, delay_ii
        Delays, named as the weights: ``delay_ei`` is onto E from I, ms.
    a_e, a_i, theta_e, theta_i, w_ee, w_ei, w_ie, w_ii, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, init_E, init_I, noise_E, noise_I, method
        See `WilsonCowanStep`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``. The delayed
    activities come from the history of the run; `derivative` at a lone state takes the state for them.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1, after Roberts & Robinson 2008, Phys Rev E
    78:051901.
    """

    PARAMETERS = changed(
        _BASE,
        delay_ee=_delay("delay_ee", 2.0, "onto E from E"),
        delay_ei=_delay("delay_ei", 1.5, "onto E from I"),
        delay_ie=_delay("delay_ie", 2.0, "onto I from E"),
        delay_ii=_delay("delay_ii", 1.5, "onto I from I"),
    )
    SELF_DELAYS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "delay_ee": ("E", "E_ee"),
        "delay_ei": ("I", "I_ei"),
        "delay_ie": ("E", "E_ie"),
        "delay_ii": ("I", "I_ii"),
    }
    USE: ClassVar = "Wilson-Cowan variant: local conduction delays"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`; inputs ``E_ee``, ``I_ei``, ``E_ie``, ``I_ii`` are the delayed activities."""
        onto_e, onto_i = local_inputs(
            params,
            inputs,
            inputs.get("E_ee", state["E"]),
            inputs.get("I_ei", state["I"]),
            inputs.get("E_ie", state["E"]),
            inputs.get("I_ii", state["I"]),
        )
        return both_populations(params, state, onto_e, onto_i)


class WilsonCowanAdaptiveStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model with subtractive adaptation of both populations.

    ``tau_e E' = -E + (k_e - r_e E) F_e(w_ee E - w_ei I - A_e + P + drive_e)``,
    ``tau_i I' = -I + (k_i - r_i I) F_i(w_ie E - w_ii I - A_i + Q + drive_i)``,
    ``tau_ae A_e' = -A_e + b_e E``, ``tau_ai A_i' = -A_i + b_i I``.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i, tau_ae, tau_ai : float, (region,) array, Quantity or Param
        Time constants of activity and adaptation, ms.
    b_e, b_i
        Strength of adaptation, 1.
    a_e, a_i, theta_e, theta_i, w_ee, w_ei, w_ie, w_ii, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, method
        See `WilsonCowanStep`.
    init_<state>, noise_<state>
        For E, I, A_e and A_i; see `NeuralMass`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i`` (1). Source and BOLD are E, EEG is ``lfp = E - I``.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1, after Benda & Herz 2003, Neural Computation 15:2523.
    """

    STATES = (
        *WilsonCowan.STATES,
        State("A_e", 0.0, long_name="adaptation of E", span=(0.0, 0.05)),
        State("A_i", 0.0, long_name="adaptation of I", span=(0.0, 0.05)),
    )
    PARAMETERS = changed(
        _BASE,
        w_ei=13.0,
        w_ie=4.0,
        tau_ae=Parameter("tau_ae", 100.0, (10.0, 1000.0), "ms", "time constant of A_e"),
        tau_ai=Parameter("tau_ai", 80.0, (10.0, 1000.0), "ms", "time constant of A_i"),
        b_e=Parameter("b_e", 0.1, (0.0, 10.0), "1", "strength of A_e"),
        b_i=Parameter("b_i", 0.08, (0.0, 10.0), "1", "strength of A_i"),
    )
    USE: ClassVar = "Wilson-Cowan variant: slow adaptation"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        e, i = state["E"], state["I"]
        onto_e, onto_i = local_inputs(params, inputs, e, i, e, i)
        return both_populations(params, state, onto_e - state["A_e"], onto_i - state["A_i"]) | {
            "A_e": (params["b_e"] * e - state["A_e"]) / params["tau_ae"],
            "A_i": (params["b_i"] * i - state["A_i"]) / params["tau_ai"],
        }


class WilsonCowanThreePopulationStep(WilsonCowan):
    """
    Variant of the Wilson-Cowan model with a third, modulatory population M that excites the other two.

    ``tau_e E' = -E + (k_e - r_e E) F_e(w_ee E - w_ei I + w_em M + P + drive_e)``,
    ``tau_i I' = -I + (k_i - r_i I) F_i(w_ie E - w_ii I + w_im M + Q + drive_i)``,
    ``tau_m M' = -M + (k_m - r_m M) F_m(w_me E - w_mi I + w_mm M + R + drive_m)``.

    Parameters
    ----------
    in_size : int
    tau_e, tau_i, tau_m : float, (region,) array, Quantity or Param
        Time constants, ms.
    w_em, w_im, w_me, w_mi, w_mm
        Weights onto E and I from M, and onto M from E, I and M, 1.
    a_m, theta_m, r_m, k_m, R
        Slope, threshold, refractoriness, ceiling and constant input of M, 1.
    a_e, a_i, theta_e, theta_i, w_ee, w_ei, w_ie, w_ii, r_e, r_i, k_e, k_i, P, Q
        As in `WilsonCowanStep`, 1.
    k, shift, method
        See `WilsonCowanStep`.
    init_<state>, noise_<state>
        For E, I and M; see `NeuralMass`.

    Notes
    -----
    Ports ``drive_e`` (default), ``drive_i``, ``drive_m`` (1). Source and BOLD are E, EEG is ``lfp = E - I``.

    References
    ----------
    Variant of Wilson & Cowan 1972, Biophysical Journal 12:1.
    """

    STATES = (
        *WilsonCowan.STATES,
        State("M", 0.02, long_name="active fraction of the third population", span=(0.0, 0.5)),
    )
    PARAMETERS = changed(
        _BASE,
        w_ei=13.0,
        w_ie=4.0,
        tau_m=Parameter("tau_m", 20.0, (1.0, 100.0), "ms", "time constant of M"),
        a_m=Parameter("a_m", 1.0, (0.1, 5.0), "1", "slope of the response of M"),
        theta_m=Parameter("theta_m", 3.5, (0.0, 10.0), "1", "threshold of the response of M"),
        w_me=Parameter("w_me", 8.0, (0.0, 40.0), "1", "weight onto M from E"),
        w_mi=Parameter("w_mi", 6.0, (0.0, 40.0), "1", "weight onto M from I"),
        w_mm=Parameter("w_mm", 2.0, (0.0, 40.0), "1", "weight onto M from M"),
        w_em=Parameter("w_em", 4.0, (0.0, 40.0), "1", "weight onto E from M"),
        w_im=Parameter("w_im", 2.0, (0.0, 40.0), "1", "weight onto I from M"),
        r_m=Parameter("r_m", 1.0, (0.0, 2.0), "1", "refractoriness of M"),
        k_m=Parameter("k_m", 1.0, (0.0, 1.0), "1", "ceiling of M"),
        R=Parameter("R", 0.0, (-5.0, 10.0), "1", "constant input to M"),
    )
    PORTS = (*WilsonCowan.PORTS, Port("drive_m", "1", "M"))
    USE: ClassVar = "Wilson-Cowan variant: a third population"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        e, i, m = state["E"], state["I"], state["M"]
        onto_e, onto_i = local_inputs(params, inputs, e, i, e, i)
        onto_m = params["w_me"] * e - params["w_mi"] * i + params["w_mm"] * m
        onto_m = onto_m + (params["R"] + port(inputs, "drive_m"))
        return both_populations(params, state, onto_e + params["w_em"] * m, onto_i + params["w_im"] * m) | {
            "M": relaxation(params, "m", m, gain_of(params, "m", onto_m))
        }
