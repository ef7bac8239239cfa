"""Synchrony of regional phases: the Kuramoto order parameter and its variability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import signal

from brainloom.analysis.clean import bandpass, observed
from brainloom.core.exact import refuse_tracing

# Frames dropped at both ends, where the Hilbert transform is unreliable.
_EDGE = 10


def order_parameter(
    x: np.ndarray, tr: float, *, band: Sequence[float] | None = (0.04, 0.07), order: int = 2
) -> np.ndarray:
    """Kuramoto order parameter ``R(t) = |mean_j exp(i phase_j(t))|``.

    Parameters
    ----------
    x : (time, region) array
        One segment.
    tr : float
        Repetition time in s.
    band : (low, high) in Hz
        Narrow band in which a Hilbert phase has a meaning; None takes the series as it is.
    order : int
        Butterworth order.

    Returns
    -------
    (time,) array between 0 and 1, without the 10 frames at each end.
    """
    refuse_tracing("order_parameter", "brainloom.objectives.synchrony(dt=...) or metastability(dt=...)", x)
    analytic = signal.hilbert(bandpass(x, tr, band=band, order=order), axis=0)
    size = np.abs(analytic)
    unit = np.where(size > 0.0, analytic, 1.0) / np.where(size > 0.0, size, 1.0)
    return np.abs(unit.mean(axis=1))[_EDGE:-_EDGE]


def metastability(
    x: np.ndarray, tr: float, *, band: Sequence[float] | None = (0.04, 0.07), order: int = 2
) -> float:
    """Standard deviation over time of the order parameter (Shanahan 2010).

    Parameters are those of `order_parameter`; a segment of 20 frames or fewer gives NaN.
    """
    # Scrubbed frames were filled for the filter; their phases say nothing.
    values = order_parameter(x, tr, band=band, order=order)[observed(np.asarray(x))[_EDGE:-_EDGE]]
    return float(values.std()) if values.size else float("nan")
