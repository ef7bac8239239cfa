"""Threshold-linear excitatory and inhibitory rates, with a gradient along the cortical hierarchy."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, Port, State, port


class ThresholdLinearStep(NeuralMass):
    """
    Excitatory and inhibitory rates with a threshold-linear response.

    ``tau_e r_e' = -r_e + beta_e [h w_ee r_e - w_ei r_i + background_e + h current_e]_+``,
    ``tau_i r_i' = -r_i + beta_i [h w_ie r_e - w_ii r_i + background_i + h current_i]_+``,
    with ``h = 1 + eta hierarchy`` and ``[x]_+ = max(x, 0)``, whose gradient at 0 is taken as 0.

    The default backgrounds hold the rates at 10 and 35 Hz, with eigenvalues -0.02388 and -0.48468 /ms. Rates
    that start at or above zero stay there by the equations; nothing is clipped.

    Parameters
    ----------
    in_size : int
        Number of regions.
    tau_e, tau_i : float, (region,) array, Quantity or Param
        Time constants, ms: [1, 100] for fitting.
    beta_e, beta_i
        Slopes of the response, Hz/pA: [0.01, 1].
    w_ee, w_ei, w_ie, w_ii
        Local weights, ``w_ei`` onto the excitatory from the inhibitory rate, pA/Hz: [0, 100].
    background_e, background_i
        Constant currents, pA: [0, 2000].
    eta
        Strength of the gradient along the hierarchy, 1: [0, 2].
    hierarchy
        Place of each region in the hierarchy, 1: [0, 1]. The default 0 turns the gradient off.
    init_r_e, init_r_i, noise_r_e, noise_r_i, method
        See `NeuralMass`. The start is (12, 40) Hz.

    Notes
    -----
    Ports ``current_e`` (default) and ``current_i`` (pA). The hierarchy scales the local excitatory weights and
    what comes from other regions, that is the ports; `background_e` and `background_i` are not scaled. Source,
    BOLD and EEG are r_e.

    References
    ----------
    Chaudhuri et al. 2015, Neuron 88:419.
    """

    STATES = (
        State("r_e", 12.0, "Hz", "excitatory rate", span=(8.0, 12.0)),
        State("r_i", 40.0, "Hz", "inhibitory rate", span=(30.0, 40.0)),
    )
    PARAMETERS = (
        Parameter("tau_e", 20.0, (1.0, 100.0), "ms", "excitatory time constant"),
        Parameter("tau_i", 10.0, (1.0, 100.0), "ms", "inhibitory time constant"),
        Parameter("beta_e", 0.066, (0.01, 1.0), "Hz/pA", "excitatory slope"),
        Parameter("beta_i", 0.351, (0.01, 1.0), "Hz/pA", "inhibitory slope"),
        Parameter("w_ee", 24.3, (0.0, 100.0), "pA/Hz", "weight onto E from E"),
        Parameter("w_ei", 19.7, (0.0, 100.0), "pA/Hz", "weight onto E from I"),
        Parameter("w_ie", 12.2, (0.0, 100.0), "pA/Hz", "weight onto I from E"),
        Parameter("w_ii", 12.5, (0.0, 100.0), "pA/Hz", "weight onto I from I"),
        Parameter("background_e", 598.015, (0.0, 2000.0), "pA", "excitatory background"),
        Parameter("background_i", 415.215, (0.0, 2000.0), "pA", "inhibitory background"),
        Parameter("eta", 0.68, (0.0, 2.0), "1", "strength of the hierarchy"),
        Parameter("hierarchy", 0.0, (0.0, 1.0), "1", "place in the hierarchy"),
    )
    PORTS = (Port("current_e", "pA", "r_e"), Port("current_i", "pA", "r_i"))
    CATEGORY: ClassVar = "phenomenological"
    USE: ClassVar = "firing rates with a hierarchy of time scales"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        p, r_e, r_i = params, state["r_e"], state["r_i"]
        scale = 1.0 + p["eta"] * p["hierarchy"]
        to_e = scale * (p["w_ee"] * r_e + port(inputs, "current_e")) - p["w_ei"] * r_i + p["background_e"]
        to_i = scale * (p["w_ie"] * r_e + port(inputs, "current_i")) - p["w_ii"] * r_i + p["background_i"]
        return {
            "r_e": (p["beta_e"] * _positive(to_e) - r_e) / p["tau_e"],
            "r_i": (p["beta_i"] * _positive(to_i) - r_i) / p["tau_i"],
        }


def _positive(x: jax.Array) -> jax.Array:
    # Not jnp.maximum, whose gradient at a tie is one half.
    return jnp.where(x > 0.0, x, 0.0)
