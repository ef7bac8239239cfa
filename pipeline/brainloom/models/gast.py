"""Quadratic integrate-and-fire mean fields with slow synaptic depression or spike-frequency adaptation."""

from __future__ import annotations

from typing import ClassVar

import jax

from brainloom.models.base import NeuralMass
from brainloom.models.declare import Arrays, Parameter, State, port
from brainloom.models.montbrio import MontbrioPazoRoxinStep, qif_slopes


def _rate(p: Arrays) -> jax.Array:
    return 0.1 / p["tau"]


def _parameters(alpha: Parameter, eta: float) -> tuple[Parameter, ...]:
    return (
        Parameter("tau", 1.0, (1.0, 50.0), "ms", "membrane time constant"),
        Parameter("Delta", 2.0, (0.05, 5.0), "1", "half-width of the excitability"),
        Parameter("eta", eta, (-10.0, 5.0), "1", "centre of the excitability"),
        Parameter("J", 21.2132, (0.0, 50.0), "1", "synaptic weight"),
        Parameter("I", 0.0, (-5.0, 10.0), "1", "constant input"),
        alpha,
        Parameter("tau_A", 10.0, (1.0, 200.0), "ms", "time constant of A"),
    )


class GastSchmidtKnoscheSDStep(NeuralMass):
    """
    Mean field of quadratic integrate-and-fire neurons with synaptic depression.

    ``tau r' = Delta / (pi tau) + 2 r v``,
    ``tau v' = v^2 + eta + J tau r (1 - A) - (pi tau r)^2 + I + current``,
    ``tau_A A' = B``, ``tau_A B' = alpha r - A - 2 B``.

    A is the rate seen through an alpha kernel; it settles at ``alpha r``.

    Parameters
    ----------
    in_size : int
        Number of regions.
    tau, tau_A : float, (region,) array, Quantity or Param
        Membrane and depression time constants, ms: [1, 50], [1, 200] for fitting.
    Delta, eta
        Half-width and centre of the Lorentzian distribution of excitability, 1: [0.05, 5], [-10, 5].
    J
        Synaptic weight, 1: [0, 50].
    I
        Constant part of ``current``, 1: [-5, 10].
    alpha
        Depression per rate, ms: [0, 5].
    init_<state>, noise_<state>, method
        See `NeuralMass`. The start is ``r = 0.1 / tau``, ``v = -1``, ``A = B = 0``.

    Notes
    -----
    Port ``current`` (1) enters v. The state r is kept in 1/ms and shown in Hz. Source is ``rate_tau = r tau``,
    BOLD is r, EEG is v. ``alpha = 0`` is `MontbrioPazoRoxinStep`.

    References
    ----------
    Gast, Schmidt & Knosche 2020, Neural Comput 32:1615.
    """

    STATES = (
        State("r", _rate, "1/ms", "firing rate", span=(0.0, 3.2), shown="Hz"),
        State("v", -1.0, "1", "mean voltage", span=(-2.6, 2.5)),
        State("A", 0.0, "1", "depression", span=(0.0, 0.35)),
        State("B", 0.0, "1", "scaled slope of A", span=(-0.1, 0.3)),
    )
    PARAMETERS = _parameters(Parameter("alpha", 0.5, (0.0, 5.0), "ms", "depression per rate"), eta=-6.0)
    PORTS = MontbrioPazoRoxinStep.PORTS
    OBSERVABLES = MontbrioPazoRoxinStep.OBSERVABLES
    SOURCE: ClassVar = "rate_tau"
    BOLD: ClassVar = "r"
    EEG: ClassVar = "v"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "bursting by synaptic depression"
    DT: ClassVar = 0.01

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        recurrent = params["J"] * params["tau"] * state["r"] * (1.0 - state["A"])
        return _slopes(params, state, recurrent + port(inputs, "current"))


class GastSchmidtKnoscheSFStep(NeuralMass):
    """
    Mean field of quadratic integrate-and-fire neurons with spike-frequency adaptation.

    ``tau r' = Delta / (pi tau) + 2 r v``,
    ``tau v' = v^2 + eta + J tau r - A - (pi tau r)^2 + I + current``,
    ``tau_A A' = B``, ``tau_A B' = alpha r - A - 2 B``.

    A is the rate seen through an alpha kernel; it settles at ``alpha r``. At the default the population bursts.

    Parameters
    ----------
    in_size : int
        Number of regions.
    tau, tau_A : float, (region,) array, Quantity or Param
        Membrane and adaptation time constants, ms: [1, 50], [1, 200] for fitting.
    Delta, eta
        Half-width and centre of the Lorentzian distribution of excitability, 1: [0.05, 5], [-10, 5].
    J
        Synaptic weight, 1: [0, 50].
    I
        Constant part of ``current``, 1: [-5, 10].
    alpha
        Adaptation per rate, ms: [0, 30].
    init_<state>, noise_<state>, method
        See `NeuralMass`. The start is ``r = 0.1 / tau``, ``v = -1``, ``A = B = 0``.

    Notes
    -----
    Port ``current`` (1) enters v. The state r is kept in 1/ms and shown in Hz. Source is ``rate_tau = r tau``,
    BOLD is r, EEG is v. ``alpha = 0`` is `MontbrioPazoRoxinStep`.

    References
    ----------
    Gast, Schmidt & Knosche 2020, Neural Comput 32:1615.
    """

    STATES = (
        State("r", _rate, "1/ms", "firing rate", span=(0.0, 4.0), shown="Hz"),
        State("v", -1.0, "1", "mean voltage", span=(-4.0, 4.0)),
        State("A", 0.0, "1", "adaptation", span=(0.0, 13.0)),
        State("B", 0.0, "1", "scaled slope of A", span=(-4.3, 7.4)),
    )
    PARAMETERS = _parameters(Parameter("alpha", 10.0, (0.0, 30.0), "ms", "adaptation per rate"), eta=1.0)
    PORTS = MontbrioPazoRoxinStep.PORTS
    OBSERVABLES = MontbrioPazoRoxinStep.OBSERVABLES
    SOURCE: ClassVar = "rate_tau"
    BOLD: ClassVar = "r"
    EEG: ClassVar = "v"
    CATEGORY: ClassVar = "physiological"
    USE: ClassVar = "bursting by spike-frequency adaptation"
    DT: ClassVar = 0.01

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """See `NeuralMass.rhs`."""
        recurrent = params["J"] * params["tau"] * state["r"] - state["A"]
        return _slopes(params, state, recurrent + port(inputs, "current"))


def _slopes(params: Arrays, state: Arrays, synaptic: jax.Array) -> Arrays:
    r, slope, tau_a = state["r"], state["B"], params["tau_A"]
    drive = params["eta"] + params["I"] + synaptic
    rate, voltage = qif_slopes(r, state["v"], drive, params["Delta"], params["tau"])
    return {
        "r": rate,
        "v": voltage,
        "A": slope / tau_a,
        "B": (params["alpha"] * r - state["A"] - 2.0 * slope) / tau_a,
    }
