"""Peaks of power spectra above the aperiodic part that every recording has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainloom.analysis.spectra import peak_frequency
from brainloom.core.errors import DataError
from brainloom.core.exact import refuse_tracing

ALPHA = (7.0, 13.0)
# A peak stands out of the aperiodic part by this many standard deviations of the spectrum's own scatter ...
_SCATTERS = 4.0
# ... and by at least this many decades of power (12 percent), for spectra without scatter.
_LEAST_HEIGHT = 0.05
# Hz on either side of the search band that the aperiodic fit leaves out: the skirts of a peak at its edge.
_MARGIN = 1.0
_MAD_TO_SD = 1.4826
_STEEPEST = 8.0


def aperiodic_fit(
    psd: np.ndarray, frequency: np.ndarray, exclude: Sequence[float] | None = ALPHA
) -> np.ndarray:
    """Aperiodic part of power spectra: ``log10 P(f) = b - log10(k + f^chi)``, fitted robustly.

    ``k = 0`` is a power law; above 0 the spectrum is flat below its knee, as that of a relaxation process. Squared
    residuals below 0.1 decades, absolute ones above (soft L1), so that peaks pull little; what lies in `exclude` and
    1 Hz on either side has no weight at all.

    Parameters
    ----------
    psd : (..., frequency) array, above 0
    frequency : (frequency,) array, Hz, above 0
    exclude : (low, high), optional
        Hz.

    Returns
    -------
    (..., frequency) array, log10 of the unit of `psd`; NaN for spectra that are not above 0 everywhere.

    Notes
    -----
    The form is that of Donoghue T. et al., Nature Neuroscience 23:1655 (2020).
    """
    from scipy.optimize import least_squares

    psd, frequency = np.asarray(psd, dtype=np.float64), np.asarray(frequency, dtype=np.float64)
    keep = np.ones(len(frequency), bool)
    if exclude is not None:
        keep = (frequency < exclude[0] - _MARGIN) | (frequency > exclude[1] + _MARGIN)
    if keep.sum() < 6 or not (frequency > 0).all():
        raise DataError(
            f"the spectrum has {int(keep.sum())} frequencies above 0 Hz outside the band of the peak; its aperiodic part "
            "needs at least 6: use a longer window or a wider band"
        )
    # Around the middle of the band both terms are near 1: the fit is well scaled in any unit of frequency.
    log_f = np.log(frequency) - np.log(frequency[keep]).mean()
    fit_f = log_f[keep]

    def curve(parameters: np.ndarray, at: np.ndarray) -> np.ndarray:
        offset, knee, exponent = parameters
        return offset - np.log10(knee + np.exp(exponent * at))

    def slopes(parameters: np.ndarray, at: np.ndarray) -> np.ndarray:
        _, knee, exponent = parameters
        power = np.exp(exponent * at)
        ratio = 1.0 / ((knee + power) * np.log(10.0))
        return np.stack([np.ones_like(at), -ratio, -ratio * power * at], axis=1)

    found = np.full(psd.shape, np.nan)
    for index in np.ndindex(psd.shape[:-1]):
        if not (psd[index] > 0).all():
            continue
        y = np.log10(psd[index])
        slope, offset = np.polyfit(fit_f, y[keep], 1)
        exponent = float(np.clip(-slope * np.log(10.0), 0.1, 0.9 * _STEEPEST))
        solution = least_squares(
            lambda p, y=y: curve(p, fit_f) - y[keep],
            [offset, 0.1, exponent],
            lambda p: slopes(p, fit_f),
            bounds=([-np.inf, 0.0, 0.0], [np.inf, np.inf, _STEEPEST]),
            loss="soft_l1",
            f_scale=0.1,
            max_nfev=100,
        )
        found[index] = curve(solution.x, log_f)
    return found


def alpha_peak(psd: np.ndarray, frequency: np.ndarray, band: Sequence[float] = ALPHA) -> np.ndarray:
    """Frequency of the peak within a band, NaN where there is none.

    The aperiodic part (`aperiodic_fit`, the band left out) is subtracted from the log-spectrum. The largest value
    within the band is a peak if it is above both its neighbours, and stands out by at least 0.05 decades and by four
    standard deviations of the scatter around the fit outside the band (from the median absolute deviation). Its
    frequency is refined by a parabola through the three values.

    Parameters
    ----------
    psd : (..., frequency) array
    frequency : (frequency,) array, Hz, evenly spaced; 0 Hz is not used
    band : (low, high)
        Hz; the alpha band by default.

    Returns
    -------
    (...,) array, Hz

    Raises
    ------
    DataError
        The spectrum does not reach beyond the band, or is too coarse.
    """
    refuse_tracing("alpha_peak", "brainloom.objectives.spectral_peak(band, dt=...)", psd)
    psd, frequency = np.asarray(psd, dtype=np.float64), np.asarray(frequency, dtype=np.float64)
    positive = frequency > 0
    psd, frequency = psd[..., positive], frequency[positive]
    low, high = (float(edge) for edge in band)
    inside = np.flatnonzero((frequency >= low - 1e-9) & (frequency <= high + 1e-9))
    if inside.size < 3 or frequency[0] > low or frequency[-1] < high:
        raise DataError(
            f"the spectrum has {inside.size} frequencies between {low:g} and {high:g} Hz; a peak needs at least 3 and a "
            "spectrum that reaches beyond both ends: use a longer window or a wider band"
        )
    height = np.log10(np.where(psd > 0, psd, np.nan)) - aperiodic_fit(psd, frequency, (low, high))
    outside = (frequency < low - _MARGIN) | (frequency > high + _MARGIN)
    scatter = _MAD_TO_SD * np.median(np.abs(height[..., outside]), axis=-1)
    usable = np.isfinite(height).all(axis=-1)
    height = np.where(usable[..., None], height, 0.0)
    top = inside[np.argmax(height[..., inside], axis=-1)]
    value = np.take_along_axis(height, top[..., None], -1)[..., 0]
    sides = [
        np.take_along_axis(height, np.clip(top + step, 0, len(frequency) - 1)[..., None], -1)[..., 0]
        for step in (-1, 1)
    ]
    peak = usable & (value >= sides[0]) & (value >= sides[1])
    peak &= value > np.maximum(_LEAST_HEIGHT, _SCATTERS * np.where(usable, scatter, 0.0))
    return np.where(peak, peak_frequency(10.0**height, frequency, (low, high)), np.nan)
