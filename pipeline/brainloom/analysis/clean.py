"""Cleaning of one segment of regional BOLD: detrend, band-pass, global signal, z-score.

Everything here works on one uninterrupted segment `(time, region)`. Filtering a whole run and cutting it afterwards
would carry test frames into the training part, so callers cut first (`brainloom.analysis.splits`) and clean each piece.

Frames that were scrubbed are lines of NaN. They are filled by straight lines in time before a filter runs over them, and
taken out again afterwards: no mean, variance or correlation counts them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import signal

# A series whose spread is below this share of its largest value holds only rounding noise.
_CONSTANT = 1e-10


def _as_segment(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"a segment must have the axes (time, region), got {x.ndim} axes")
    return x


def observed(x: np.ndarray) -> np.ndarray:
    """Which frames are there: `(time,)` bool, False for a scrubbed frame (a line with NaN)."""
    return ~np.isnan(x).any(axis=1)


def without(x: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The frames that are there; `x` itself, in its own order in memory, where that is all: sums then round alike."""
    return x if kept.all() else x[kept]


def fill_censored(x: np.ndarray) -> np.ndarray:
    """Put straight lines in time where frames were scrubbed, the nearest value at the ends.

    Parameters
    ----------
    x : (time, region) array, lines of NaN for scrubbed frames

    Returns
    -------
    (time, region) float64 array without NaN; `x` itself if nothing was scrubbed.

    Raises
    ------
    ValueError
        Every frame was scrubbed.

    Examples
    --------
    >>> fill_censored(np.array([[1.0], [np.nan], [3.0]]))[:, 0]
    array([1., 2., 3.])
    """
    x = _as_segment(x)
    kept = observed(x)
    if kept.all():
        return x
    if not kept.any():
        raise ValueError("a segment has no frame left after scrubbing")
    frames = np.arange(len(x))
    return np.stack([np.interp(frames, frames[kept], series[kept]) for series in x.T], axis=1)


def detrend_only(x: np.ndarray) -> np.ndarray:
    """Remove the mean and the linear trend of every region; what has no other variance becomes zeros.

    Parameters
    ----------
    x : (time, region) array

    Returns
    -------
    (time, region) float64 array in the units of `x`; scrubbed frames are filled.
    """
    x = fill_censored(x)
    residual = signal.detrend(x, axis=0, type="linear")
    # Rounding noise of a constant region would otherwise be filtered and scaled up to a signal.
    constant = residual.std(axis=0) <= _CONSTANT * np.abs(x).max(axis=0)
    return np.where(constant, 0.0, residual)


def _sections(tr: float, band: Sequence[float], order: int) -> np.ndarray:
    low, high = (float(edge) for edge in band)
    nyquist = 0.5 / tr
    if not 0 < low < high < nyquist:
        raise ValueError(
            f"signal.band is [{low}, {high}] Hz; it must lie between 0 and {nyquist:.4g} Hz, "
            f"half the sampling rate at a repetition time of {tr} s"
        )
    return signal.butter(order, [low, high], "bandpass", fs=1.0 / tr, output="sos")


def minimum_frames(order: int = 2) -> int:
    """Shortest segment, in frames, that `bandpass` can pad at both ends."""
    return 3 * (2 * order + 1) + 1


def bandpass(x: np.ndarray, tr: float, *, band: Sequence[float] | None, order: int = 2) -> np.ndarray:
    """Detrend and band-pass forwards and backwards (zero phase); scrubbed frames are filled.

    Parameters
    ----------
    x : (time, region) array
    tr : float
        Repetition time in s.
    band : (low, high) in Hz, or None to detrend only
    order : int
        Order passed to the Butterworth design; the band-pass has twice as many poles.

    Returns
    -------
    (time, region) float64 array in the units of `x`.

    Raises
    ------
    ValueError
        The band does not fit below the Nyquist frequency, or the segment is shorter than `minimum_frames`.
    """
    detrended = detrend_only(x)
    if band is None:
        return detrended
    if len(detrended) < minimum_frames(order):
        raise ValueError(
            f"a segment has {len(detrended)} frames; the band-pass filter needs at least {minimum_frames(order)}"
        )
    # Second-order sections are the stable form of the filter; the padding is that of `scipy.signal.filtfilt`.
    return signal.sosfiltfilt(_sections(tr, band, order), detrended, axis=0, padlen=minimum_frames(order) - 1)


def zscore(x: np.ndarray) -> np.ndarray:
    """Scale every region to mean 0 and standard deviation 1; a region without variance becomes zeros.

    Parameters
    ----------
    x : (time, region) array

    Returns
    -------
    (time, region) float64 array, dimensionless.
    """
    x = _as_segment(x)
    centred = x - x.mean(axis=0)
    spread = centred.std(axis=0)
    constant = spread <= _CONSTANT * np.abs(x).max(axis=0, initial=0.0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def remove_global_signal(x: np.ndarray) -> np.ndarray:
    """Regress the mean over regions out of every region (least squares, with intercept).

    Parameters
    ----------
    x : (time, region) array

    Returns
    -------
    (time, region) float64 array with zero mean over time.
    """
    x = _as_segment(x)
    centred = x - x.mean(axis=0)
    mean = centred.mean(axis=1)
    power = mean @ mean
    if power == 0:
        return centred
    return centred - np.outer(mean, mean @ centred / power)


def clean(
    x: np.ndarray,
    tr: float,
    *,
    band: Sequence[float] | None = (0.01, 0.1),
    order: int = 2,
    global_signal_regression: bool = False,
) -> np.ndarray:
    """Detrend, band-pass forwards and backwards, optionally regress the global signal, z-score.

    Parameters
    ----------
    x : (time, region) array
        One uninterrupted segment.
    tr : float
        Repetition time in s.
    band : (low, high) in Hz, or None
    order : int
        Butterworth order of one pass.
    global_signal_regression : bool
        Regress the mean over regions out after filtering.

    Returns
    -------
    (time, region) float64 array, mean 0 and standard deviation 1 per region (zeros where there is no variance), both over
    the frames that were not scrubbed; those that were are NaN.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 4)).cumsum(axis=0)
    >>> np.allclose(clean(x, 0.72, band=(0.01, 0.1)).std(axis=0), 1)
    True
    """
    kept = observed(_as_segment(x))
    filtered = without(bandpass(x, tr, band=band, order=order), kept)
    if global_signal_regression:
        filtered = remove_global_signal(filtered)
    if kept.all():
        return zscore(filtered)
    cleaned = np.full((len(kept), filtered.shape[1]), np.nan)
    cleaned[kept] = zscore(filtered)
    return cleaned


def band_power_gain(
    frequency: np.ndarray, tr: float, band: Sequence[float] | None, order: int = 2
) -> np.ndarray:
    """Factor by which `bandpass` multiplies a power spectral density.

    One pass multiplies the spectrum by |H(f)|^2. Forwards and backwards multiply the amplitude by |H|^2, hence the
    power by |H|^4.

    Parameters
    ----------
    frequency : array
        Hz, any shape.
    tr : float
        Repetition time in s.
    band : (low, high) in Hz, or None
        None gives ones.
    order : int
        Butterworth order of one pass.

    Returns
    -------
    float64 array of the shape of `frequency`, between 0 and 1.
    """
    frequency = np.asarray(frequency, dtype=np.float64)
    if band is None:
        return np.ones_like(frequency)
    _, response = signal.sosfreqz(_sections(tr, band, order), worN=frequency.ravel(), fs=1.0 / tr)
    return (np.abs(response) ** 4).reshape(frequency.shape)
