"""Effective degrees of freedom of correlated time series."""

from __future__ import annotations

import numpy as np


def autocorrelation(x: np.ndarray, max_lag: int) -> np.ndarray:
    """Autocorrelation of every region (biased estimate, divided by the length).

    Parameters
    ----------
    x : (time, region) array
    max_lag : int
        Frames, smaller than the length.

    Returns
    -------
    (max_lag + 1, region) float64 array; row 0 is 1, or 0 for a region without variance.
    """
    x = np.asarray(x, dtype=np.float64)
    return _autocorrelation(x - x.mean(axis=0), max_lag)


def _autocorrelation(x: np.ndarray, max_lag: int) -> np.ndarray:
    spectrum = np.fft.rfft(x, 2 * len(x), axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, 2 * len(x), axis=0)[: max_lag + 1]
    variance = covariance[0]
    return covariance / np.where(variance > 0, variance, 1.0)


def effective_dof(x: np.ndarray) -> float:
    """Number of independent frames that would give correlations of the same sampling variance.

    Bartlett (1946): for two independent series, ``var(r_ij) = (1 + 2 sum_k rho_i(k) rho_j(k)) / T``. The variance is
    averaged over all pairs i < j and turned back into a number of frames. Lags run to a quarter of the length, since
    longer ones add estimation noise.

    Parameters
    ----------
    x : (time, region) array
        One cleaned segment with at least two regions, lines of NaN for scrubbed frames: with them the sum counts lag k as
        often as two frames that far apart are both there.

    Returns
    -------
    float between 1 and the number of frames that are there.
    """
    x = np.asarray(x, dtype=np.float64)
    kept = np.isfinite(x).all(axis=1)
    n_frames, n_regions = int(kept.sum()), x.shape[1]
    max_lag = max(1, len(x) // 4)
    share: np.ndarray | float = 1.0
    if n_frames < len(x):
        # Zeros where frames are missing leave their pairs out of the sums of the autocorrelation.
        x = np.where(kept[:, None], x - x[kept].mean(axis=0), 0.0)
        together = np.correlate(kept.astype(float), kept.astype(float), "full")[len(x) :][:max_lag]
        expected = n_frames * (1 - np.arange(1, max_lag + 1) / len(x))
        share = expected / np.maximum(together, 1.0)
    else:
        x = x - x.mean(axis=0)
    rho = _autocorrelation(x, max_lag)[1:]
    # Sum over i < j of rho_i rho_j without the (region, region) matrix of every lag.
    products = 0.5 * (rho.sum(axis=1) ** 2 - (rho**2).sum(axis=1))
    pairs = (share * products).sum() / (n_regions * (n_regions - 1) / 2)
    return float(np.clip(n_frames / max(1.0 + 2.0 * pairs, 1.0), 1.0, n_frames))


def decorrelation_frames(x: np.ndarray) -> int:
    """Frames per effective degree of freedom, rounded up: the gap that separates training from validation."""
    return int(np.ceil(np.isfinite(x).all(axis=1).sum() / effective_dof(x)))
