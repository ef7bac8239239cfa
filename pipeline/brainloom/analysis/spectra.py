"""Power spectra of regional signals and their peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import signal

from brainloom.core.exact import refuse_tracing


def frequencies(tr: float, nperseg: int) -> np.ndarray:
    """Frequency grid in Hz of `welch_psd` for the same arguments: `(nperseg // 2 + 1,)`."""
    return np.fft.rfftfreq(nperseg, tr)


def welch_psd(
    x: np.ndarray, tr: float, nperseg: int, n_fft: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Welch power spectral density: Hann windows, half overlap, one-sided.

    Parameters
    ----------
    x : (time, region) array
    tr : float
        Repetition time in s.
    nperseg : int
        Frames per window. A shorter series is one window, padded with zeros to the same frequency grid.
    n_fft : int, optional
        Length of the transform, `nperseg` by default; longer interpolates the spectrum.

    Returns
    -------
    frequency : (frequency,) array, Hz
    psd : (region, frequency) array, unit of `x` squared per Hz
    """
    refuse_tracing("welch_psd", "brainloom.objectives.psd_log(dt=...)", x)
    x = np.asarray(x, dtype=np.float64)
    n_fft = max(nperseg, n_fft or nperseg)
    frequency, psd = signal.welch(x, fs=1.0 / tr, nperseg=min(nperseg, len(x)), nfft=n_fft, axis=0)
    return frequency, psd.T


def peak_frequency(psd: np.ndarray, frequency: np.ndarray, band: Sequence[float]) -> np.ndarray:
    """Frequency of the largest value within a band, refined by a parabola through log power.

    Parameters
    ----------
    psd : (..., frequency) array, at least 0
    frequency : (frequency,) array, Hz, evenly spaced
    band : (low, high) in Hz

    Returns
    -------
    (...,) array in Hz within the band; the middle of the band where there is no power.

    Raises
    ------
    ValueError
        No frequency of the grid lies in the band.
    """
    refuse_tracing("peak_frequency", "brainloom.objectives.spectral_peak(band, dt=...)", psd)
    low, high = (float(edge) for edge in band)
    psd, frequency = np.asarray(psd, dtype=np.float64), np.asarray(frequency, dtype=np.float64)
    inside = np.flatnonzero((frequency >= low - 1e-12) & (frequency <= high + 1e-12))
    if inside.size == 0:
        raise ValueError(
            f"no frequency of the spectrum lies between {low} and {high} Hz; use a longer psd_window"
        )
    flat = psd.reshape(-1, psd.shape[-1])
    peak = inside[np.argmax(flat[:, inside], axis=1)]
    rows = np.arange(len(flat))
    centre = np.clip(peak, 1, len(frequency) - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, middle, right = (np.log(flat[rows, centre + k]) for k in (-1, 0, 1))
        curvature = left - 2 * middle + right
        shift = 0.5 * (left - right) / curvature
    # Off the grid's interior, or without curvature, there is no parabola to read.
    usable = (centre == peak) & np.isfinite(shift) & (curvature < 0)
    shift = np.where(usable, np.clip(shift, -1.0, 1.0), 0.0)
    value = frequency[peak] + shift * (frequency[1] - frequency[0])
    value = np.where(flat[:, inside].max(axis=1) > 0, value, 0.5 * (low + high))
    return np.clip(value, low, high).reshape(psd.shape[:-1])


def band_mask(frequency: np.ndarray, band: Sequence[float] | None) -> np.ndarray:
    """True for the positive frequencies within `band` (all positive ones when it is None)."""
    frequency = np.asarray(frequency)
    if band is None:
        return frequency > 0
    return (frequency > 0) & (frequency >= band[0]) & (frequency <= band[1])


def _log_power(psd: np.ndarray, keep: np.ndarray) -> np.ndarray:
    kept = np.asarray(psd, dtype=np.float64)[..., keep]
    return np.log10(np.maximum(kept, np.finfo(np.float64).tiny))


def psd_correlation(
    model: np.ndarray, data: np.ndarray, frequency: np.ndarray, band: Sequence[float] | None
) -> float:
    """Score `psd_r`: Pearson correlation of log10 power over the frequencies of the band, mean over regions.

    Parameters
    ----------
    model, data : (region, frequency) arrays, 1/Hz
    frequency : (frequency,) array, Hz
    band : (low, high) in Hz, or None for all positive frequencies

    Returns
    -------
    float; regions without a varying spectrum are left out, NaN when none remains.
    """
    refuse_tracing("psd_correlation", "brainloom.objectives.psd_log(relative=True)", model, data)
    keep = band_mask(frequency, band)
    a, b = _log_power(model, keep), _log_power(data, keep)
    if keep.sum() < 2:
        return float("nan")
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    valid = norm > 0
    return float(np.mean((a * b).sum(axis=1)[valid] / norm[valid])) if valid.any() else float("nan")


def psd_rmse(
    model: np.ndarray, data: np.ndarray, frequency: np.ndarray, band: Sequence[float] | None
) -> float:
    """Score `psd_rmse`: root mean square difference of log10 power over regions and frequencies of the band.

    Parameters are those of `psd_correlation`. The unit is decades of power; NaN when the band holds no frequency.
    """
    refuse_tracing("psd_rmse", "brainloom.objectives.psd_log()", model, data)
    keep = band_mask(frequency, band)
    if not keep.any():
        return float("nan")
    return float(np.sqrt(np.mean((_log_power(model, keep) - _log_power(data, keep)) ** 2)))
