"""Envelope connectivity of one frequency band, without what spreads at zero lag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainloom.core.errors import DataError
from brainloom.core.exact import refuse_tracing


def band_edges(band: Sequence[float], sampling_frequency: float, name: str) -> tuple[float, float]:
    """Edges of a band in Hz, checked to lie above 0 and below half the sampling frequency."""
    low, high = (float(edge) for edge in band)
    if not 0 < low < high < 0.5 * sampling_frequency:
        raise DataError(
            f"{name} is {low:g} to {high:g} Hz; it must lie above 0 and below {0.5 * sampling_frequency:g} Hz, "
            "half the sampling frequency of the recording"
        )
    return low, high


def analytic_signal(x: np.ndarray, sampling_frequency: float, band: Sequence[float]) -> np.ndarray:
    """Complex signal whose modulus is the envelope in a band.

    A linear-phase FIR band-pass (Hamming window, transition widths as `mne.filter.filter_data` chooses them) centred
    on each sample, so without phase shift, then the Hilbert transform. Only samples for which the whole filter lies
    within the segment are kept, less half a filter at either end for the Hilbert transform: one filter length less
    at either end.

    Parameters
    ----------
    x : (time, channel) array
    sampling_frequency : float
        Hz.
    band : (low, high)
        Hz.

    Returns
    -------
    (time', channel) complex array, unit of `x`.

    Raises
    ------
    DataError
        The band does not fit the sampling frequency, or the segment is shorter than three filter lengths.
    """
    from mne.filter import create_filter
    from scipy.signal import hilbert, oaconvolve

    x = np.asarray(x, dtype=np.float64)
    rate = float(sampling_frequency)
    low, high = band_edges(band, rate, "envelope_band")
    kernel = create_filter(None, rate, low, high, fir_design="firwin", phase="zero", verbose="error")
    if len(x) < 3 * len(kernel):
        raise DataError(
            f"a segment lasts {len(x) / rate:g} s; envelopes between {low:g} and {high:g} Hz need at least "
            f"{3 * len(kernel) / rate:.3g} s: use longer segments or a wider envelope_band"
        )
    filtered = oaconvolve(x - x.mean(axis=0), kernel[:, None], mode="valid", axes=0)
    edge = len(kernel) // 2
    return hilbert(filtered, axis=0)[edge:-edge]


def envelope_fc(
    x: np.ndarray, sampling_frequency: float, band: Sequence[float], *, orthogonalise: bool = True
) -> np.ndarray:
    """Correlation of envelopes in a band, each pair made orthogonal first (Hipp et al. 2012).

    For a pair, the part of one that is in phase with the other is removed sample by sample,
    ``Y_perp = |Im(Y conj(X) / |X|)|``, and correlated with ``|X|``; both directions are averaged, with their signs.
    What reaches two channels at the same moment (volume conduction, leakage of an inverse solution, the reference)
    makes no correlation then. Correction by pairs leaves some of it where the leaking sources are themselves
    correlated, and it lowers true correlations: compare only values that were computed in the same way. Sensor data
    in average reference are fine. Computed by `mne_connectivity.envelope_correlation`.

    Parameters
    ----------
    x : (time, channel) array
    sampling_frequency : float
        Hz.
    band : (low, high)
        Hz.
    orthogonalise : bool
        False gives the plain correlation of envelopes.

    Returns
    -------
    (channel, channel) float64 array, symmetric, diagonal 1. A constant channel correlates 0 with the others.

    Raises
    ------
    DataError
        See `analytic_signal`.

    Notes
    -----
    Hipp J. F. et al., Nature Neuroscience 15:884 (2012).
    """
    refuse_tracing("envelope_fc", "brainloom.objectives.envelope_fc(band, dt=...)", x)
    from mne_connectivity import envelope_correlation

    analytic = analytic_signal(x, sampling_frequency, band)
    power = np.abs(analytic).max(axis=0, initial=0.0)
    # Rounding noise of a flat channel would be correlated like a signal.
    moving = np.flatnonzero(power > 1e-10 * np.abs(x).max(axis=0))
    matrix = np.zeros((analytic.shape[1], analytic.shape[1]))
    if moving.size > 1:
        # The correlations do not depend on the scale; squared volts are kept far from underflow.
        scaled = analytic[:, moving].T / power[moving, None]
        found = envelope_correlation(
            scaled[None],
            orthogonalize="pairwise" if orthogonalise else False,
            absolute=False,
            verbose="error",
        )
        matrix[np.ix_(moving, moving)] = found.get_data(output="dense")[0, :, :, 0]
    np.fill_diagonal(matrix, 1.0)
    return matrix
