"""What one fit is given: a connectome, empirical targets and the fixed settings of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from brainloom.analysis.clean import band_power_gain
from brainloom.core.config_fc import given_starts
from brainloom.fit.space import FitSpace, space_from_config
from brainloom.models import NeuralMass, get_model

# Coupling is counted in units of ten local rates: the whole-brain models of resting BOLD work near there.
COUPLING_PER_RATE = 10.0
HOMOTOPIC = 0.5
# Nodes of the band quadrature: enough for resonances of the reference rate; more where it is done only once.
MIN_NODES, MAX_NODES = 48, 256
REPORT_NODES = 512


@dataclass(frozen=True)
class FitSetup:
    """
    The static part of a fit: what a compiled program depends on besides shapes.

    Attributes
    ----------
    model : type of NeuralMass
    local : str
        Name of the parameter that is the negative local rate: ``a`` or ``gamma``.
    space : FitSpace
    symmetric : bool
        Whether the connectome is symmetric, so that one eigendecomposition solves a real network.
    through_band : bool
        Whether FC is that of the process seen through the data's band, or of the process itself.
    lag1_weight : float
        Weight of the lag-1 correlation in the objective.
    fc_weight : float
        Weight of FC in it.
    """

    model: type[NeuralMass]
    local: str
    space: FitSpace
    symmetric: bool
    through_band: bool
    lag1_weight: float
    fc_weight: float = 1.0

    @property
    def rotating(self) -> bool:
        """Whether regions have two states that rotate: the network is then solved in complex form."""
        return len(self.model.STATES) == 2


Problem = dict[str, Any]  # arrays: see `make_problem`


def setup_from_config(config: Mapping, n_regions: int, *, symmetric: bool) -> FitSetup:
    """
    Static settings from the config sections ``model`` and ``fit``.

    Parameters
    ----------
    config : mapping with ``model`` and ``fit``
    n_regions : int
    symmetric : bool
    """
    model = get_model(config["model"]["name"])
    rotating = len(model.STATES) == 2
    return FitSetup(
        model=model,
        local="a" if rotating else "gamma",
        space=space_from_config(config["fit"], n_regions),
        symmetric=symmetric,
        through_band=bool(config["fit"]["through_band"]),
        lag1_weight=float(config["fit"]["objective"]["lag1"]),
        fc_weight=float(config["fit"]["objective"]["fc"]),
    )


def make_problem(
    setup: FitSetup,
    config: Mapping,
    *,
    weights: np.ndarray,
    homotope: np.ndarray,
    fc: np.ndarray,
    lag1: np.ndarray,
    frequency_hz: np.ndarray,
    repetition_time: float,
) -> Problem:
    """
    Arrays of one fit.

    Parameters
    ----------
    setup : FitSetup
    config : mapping
        Sections ``model``, ``fit`` and ``signal``.
    weights : (region, region) array
        Connectome, mean strength 1.
    homotope : (region,) int array
        Index of the mirror region, -1 if none.
    fc, lag1 : (region, region) arrays
        Targets of the training split.
    frequency_hz : (region,) array
        Natural frequencies (used by rotating models).
    repetition_time : float
        Seconds.

    Returns
    -------
    dict of arrays
        ``weights, homotopic, fc, lag1, omega, rate, coupling_start, homotopic_start, floor, penalty, frequency, band_weight,
        fine_frequency, fine_weight, repetition_time``; rates in 1/s.
    """
    n = len(weights)
    mirror = np.zeros((n, n))
    for i, j in enumerate(np.asarray(homotope, dtype=int)):
        if j >= 0:
            mirror[i, j] = mirror[j, i] = 1.0
    given = given_starts(config["fit"].get("parameters") or {})
    rate = -given.get("local", float(config["model"]["parameters"][setup.local]))
    signal = config["signal"]
    n_nodes = int(np.clip(3.2 / rate, MIN_NODES, MAX_NODES))
    filtered = (repetition_time, tuple(signal["band"]), signal["filter_order"])
    frequency, band_weight = band_nodes(*filtered, n_nodes)
    fine_frequency, fine_weight = band_nodes(*filtered, REPORT_NODES)
    arrays = {
        "weights": weights,
        "homotopic": mirror,
        "fc": fc,
        "lag1": lag1,
        "omega": 2.0 * np.pi * np.asarray(frequency_hz) if setup.rotating else np.zeros(n),
        "rate": rate,
        "coupling_start": given.get("coupling", COUPLING_PER_RATE * rate),
        "homotopic_start": given.get("homotopic", HOMOTOPIC),
        "floor": min(float(config["fit"]["margin"]), 0.5 * rate),
        "penalty": float(config["fit"]["lambda"]) / n,
        "frequency": frequency,
        "band_weight": band_weight,
        "fine_frequency": fine_frequency,
        "fine_weight": fine_weight,
        "repetition_time": repetition_time,
    }
    return {name: jax.numpy.asarray(value, jax.numpy.result_type(float)) for name, value in arrays.items()}


def band_nodes(
    repetition_time: float, band: tuple[float, float], order: int, n_nodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Quadrature of a spectrum weighted by the data's band-pass filter.

    Gauss-Legendre nodes in log frequency between a fifth of the lower edge and the smaller of three times
    the upper edge and Nyquist; outside, the filter passes less than a thousandth of the power.

    Parameters
    ----------
    repetition_time : float
        Seconds.
    band : (low, high)
        Hz.
    order : int
        Order of the Butterworth filter, which runs forward and backward.
    n_nodes : int

    Returns
    -------
    frequency, weight : (n_nodes,) arrays
        Hz; `weight` is twice the quadrature weight times the filter's power gain, so that
        ``sum(weight * S(frequency))`` is the band-limited variance of a two-sided density `S`.
    """
    low, high = 0.2 * band[0], min(3.0 * band[1], 0.499 / repetition_time)
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    half = 0.5 * np.log(high / low)
    frequency = low * np.exp(half * (nodes + 1.0))
    gain = band_power_gain(frequency, repetition_time, band, order)
    return frequency, 2.0 * weights * half * frequency * gain
