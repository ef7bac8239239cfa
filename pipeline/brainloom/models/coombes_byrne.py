"""Exact mean fields of quadratic integrate-and-fire neurons with conductance synapses."""

from __future__ import annotations

import math
from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port

RATE = {
    "rate": Observable(
        lambda params, state: state["r"] / params["tau"], "1/ms", shown="Hz", long_name="firing rate"
    )
}


def _parameters(width: float, eta: float, v_syn: float) -> tuple[Parameter, ...]:
    return (
        Parameter("Delta", width, (0.01, 3.0), "1", "half-width of the excitability"),
        Parameter("eta", eta, (-5.0, 25.0), "1", "centre of the excitability"),
        Parameter("k", 1.0, (0.0, 5.0), "1", "synaptic strength"),
        Parameter("v_syn", v_syn, (-20.0, 20.0), "1", "reversal potential"),
        Parameter("tau", 10.0, (1.0, 50.0), "ms", "membrane time constant"),
        Parameter("I", 0.0, (-5.0, 10.0), "1", "constant input"),
    )


class CoombesByrne2DStep(NeuralMass):
    """
    Mean field of quadratic integrate-and-fire neurons with instantaneous conductance synapses.

    ``tau r' = Delta / pi + 2 r v - g r``,
    ``tau v' = v^2 - (pi r)^2 + eta + (v_syn - v) g + I + current``, with ``g = k pi r``.

    The default rests at (0.1847, -0.5714).

    Parameters
    ----------
    in_size : int
        Number of regions.
    Delta, eta : float, (region,) array, Quantity or Param
        Half-width and centre of the Lorentzian distribution of excitability, 1: [0.01, 3], [-5, 25] for
        fitting.
    k
        Synaptic strength, which multiplies ``pi r``, 1: [0, 5].
    v_syn
        Reversal potential, 1: [-20, 20].
    tau
        Membrane time constant, ms: [1, 50].
    I
        Constant part of ``current``, 1: [-5, 10].
    init_r, init_v, noise_r, noise_v, method
        See `NeuralMass`. The start is (0.1, 0).

    Notes
    -----
    The state r is the rate in units of ``1 / tau``; the observable ``rate`` is ``r / tau`` in Hz. Port
    ``current`` (1) enters v. Source and BOLD are r, EEG is v. ``k = 0`` is `MontbrioPazoRoxinStep` with
    ``J = 0``. The loss is ``g r``: some documents print ``g r^2``.

    References
    ----------
    Coombes & Byrne 2019, in Nonlinear Dynamics in Computational Neuroscience, Springer, 1-16. Byrne et al. 2020,
    J Neurophysiol 123:726.
    """

    STATES = (
        State("r", 0.1, "1", "rate in units of 1/tau", span=(0.0, 0.25)),
        State("v", 0.0, "1", "mean voltage", span=(-0.7, 0.1)),
    )
    PARAMETERS = _parameters(1.0, 2.0, -4.0)
    PORTS = (Port("current", "1", "v"),)
    OBSERVABLES: ClassVar = RATE
    SOURCE: ClassVar = "r"
    BOLD: ClassVar = "r"
    EEG: ClassVar = "v"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "exact mean field with conductances"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        conductance = params["k"] * (math.pi * state["r"])
        rate, voltage = _slopes(params, state, conductance, port(inputs, "current"))
        return {"r": rate, "v": voltage}


class CoombesByrneStep(NeuralMass):
    """
    Mean field of quadratic integrate-and-fire neurons with conductance synapses of second order.

    ``tau r' = Delta / pi + 2 r v - g r``,
    ``tau v' = v^2 - (pi r)^2 + eta + (v_syn - v) g + I + current``,
    ``tau g' = alpha q``, ``tau q' = alpha (k pi r - g - 2 q + synapse)``.

    The default oscillates with period ``2.083 tau`` and r in [0.206, 1.439].

    Parameters
    ----------
    in_size : int
        Number of regions.
    Delta, eta : float, (region,) array, Quantity or Param
        Half-width and centre of the Lorentzian distribution of excitability, 1: [0.01, 3], [-5, 25] for
        fitting.
    k
        Synaptic strength, which multiplies ``pi r``, 1: [0, 5].
    v_syn
        Reversal potential, 1: [-20, 20].
    alpha
        Rate of the synapse in units of ``1 / tau``, 1: [0.1, 5].
    tau
        Membrane time constant, ms: [1, 50].
    I
        Constant part of ``current``, 1: [-5, 10].
    init_<state>, noise_<state>, method
        See `NeuralMass`. The start is ``r = 0.5``, ``v = 0``, ``g = 0.1``, ``q = 0``.

    Notes
    -----
    The state r is the rate in units of ``1 / tau``; the observable ``rate`` is ``r / tau`` in Hz. Port
    ``current`` (1, default) enters v, ``synapse`` (1) adds to ``k pi r``. Source and BOLD are r, EEG is v. The
    loss is ``g r``: some documents print ``g r^2``. Fixed points are those of `CoombesByrne2DStep`.

    Noise belongs on v or on a port: white noise on r above about 0.02 per sqrt(ms) makes some rates negative,
    and from there the equations run to infinity in finite time.

    References
    ----------
    Coombes & Byrne 2019, in Nonlinear Dynamics in Computational Neuroscience, Springer, 1-16. Byrne et al. 2020,
    J Neurophysiol 123:726.
    """

    STATES = (
        State("r", 0.5, "1", "rate in units of 1/tau", span=(0.2, 1.45)),
        State("v", 0.0, "1", "mean voltage", span=(-1.1, 2.5)),
        State("g", 0.1, "1", "conductance", span=(1.5, 1.77)),
        State("q", 0.0, "1", "scaled slope of the conductance", span=(-0.35, 0.55)),
    )
    PARAMETERS = (
        *_parameters(0.5, 20.0, -10.0),
        Parameter("alpha", 0.95, (0.1, 5.0), "1", "rate of the synapse"),
    )
    PORTS = (Port("current", "1", "v"), Port("synapse", "1", "q"))
    OBSERVABLES: ClassVar = RATE
    SOURCE: ClassVar = "r"
    BOLD: ClassVar = "r"
    EEG: ClassVar = "v"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "fast oscillations of an exact mean field"

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        g, q = state["g"], state["q"]
        rate, voltage = _slopes(params, state, g, port(inputs, "current"))
        pace = params["alpha"] / params["tau"]
        arriving = params["k"] * (math.pi * state["r"]) + port(inputs, "synapse")
        return {"r": rate, "v": voltage, "g": pace * q, "q": pace * (arriving - g - 2.0 * q)}


def _slopes(
    params: Arrays, state: Arrays, conductance: jax.Array, current: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    r, v, scaled = state["r"], state["v"], math.pi * state["r"]
    drive = params["eta"] + params["I"] + current + (params["v_syn"] - v) * conductance
    return (
        (params["Delta"] / math.pi + r * (2.0 * v - conductance)) / params["tau"],
        (v * v - scaled * scaled + drive) / params["tau"],
    )
