"""Exact mean field of quadratic integrate-and-fire neurons with instantaneous synapses."""

from __future__ import annotations

import math
from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port


class MontbrioPazoRoxinStep(NeuralMass):
    """
    Firing rate and mean voltage of quadratic integrate-and-fire neurons, exact for infinitely many.

    ``tau r' = Delta / (pi tau) + 2 r v``,
    ``tau v' = v^2 + eta + J tau r - (pi tau r)^2 + I + current``.

    ``tau r`` and v do not depend on ``tau``; time scales with it. ``v = -Delta / (2 pi tau r)`` at every fixed
    point. The default is bistable: the start leads to the low state, ``tau r = 0.0811``, ``v = -1.9616``.

    Parameters
    ----------
    in_size : int
        Number of regions.
    tau : float, (region,) array, Quantity or Param
        Membrane time constant, ms: [1, 50] for fitting.
    Delta, eta
        Half-width and centre of the Lorentzian distribution of excitability, 1: [0.05, 3], [-10, 5].
    J
        Synaptic weight, 1: [0, 30].
    I
        Constant part of ``current``, 1: [-5, 10].
    init_r, init_v, noise_r, noise_v, method
        See `NeuralMass`. The start is ``r = 0.02 / tau``, ``v = -2``.

    Notes
    -----
    Port ``current`` (1) enters v; nothing enters r. The state r is kept in 1/ms and shown in Hz. Source is
    ``rate_tau = r tau`` (1), so that weights between regions are of the kind of J; BOLD is r, EEG is v.

    Elsewhere ``2 r v`` is sometimes not divided by ``tau``, Delta is given in Hz with ``tau`` in ms, or the
    coupling is added to r: none of these is the published mean field.

    References
    ----------
    Montbrio, Pazo & Roxin 2015, Phys Rev X 5:021028.
    """

    STATES = (
        State("r", lambda p: 0.02 / p["tau"], "1/ms", "firing rate", span=(0.0, 0.01), shown="Hz"),
        State("v", -2.0, "1", "mean voltage", span=(-2.5, -1.5)),
    )
    PARAMETERS = (
        Parameter("tau", 10.0, (1.0, 50.0), "ms", "membrane time constant"),
        Parameter("Delta", 1.0, (0.05, 3.0), "1", "half-width of the excitability"),
        Parameter("eta", -5.0, (-10.0, 5.0), "1", "centre of the excitability"),
        Parameter("J", 15.0, (0.0, 30.0), "1", "synaptic weight"),
        Parameter("I", 0.0, (-5.0, 10.0), "1", "constant input"),
    )
    PORTS = (Port("current", "1", "v"),)
    OBSERVABLES: ClassVar = {
        "rate_tau": Observable(
            lambda params, state: state["r"] * params["tau"], long_name="rate in units of 1/tau"
        )
    }
    SOURCE: ClassVar = "rate_tau"
    BOLD: ClassVar = "r"
    EEG: ClassVar = "v"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "exact mean field of spiking neurons; bistability"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        drive = (
            params["eta"] + params["I"] + params["J"] * params["tau"] * state["r"] + port(inputs, "current")
        )
        rate, voltage = qif_slopes(state["r"], state["v"], drive, params["Delta"], params["tau"])
        return {"r": rate, "v": voltage}


def qif_slopes(
    r: jax.Array, v: jax.Array, drive: jax.Array, width: jax.Array, tau: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """
    Slopes of rate and mean voltage of a population of quadratic integrate-and-fire neurons.

    Parameters
    ----------
    r, v : array
        Rate (1/time) and mean voltage (1).
    drive : array
        Everything that enters the voltage equation beside ``v^2 - (pi tau r)^2`` (1).
    width : array
        Half-width of the Lorentzian distribution of excitability (1).
    tau : array
        Membrane time constant (time).

    Returns
    -------
    array (1/time^2), array (1/time)
    """
    scaled = math.pi * tau * r
    return (width / (math.pi * tau) + 2.0 * r * v) / tau, (v * v - scaled * scaled + drive) / tau
