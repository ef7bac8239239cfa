"""Stationary surrogates: data with the same spectra and correlations and no dynamics beyond them."""

from __future__ import annotations

import numpy as np


def phase_randomised(x: np.ndarray, seed: int | list[int]) -> np.ndarray:
    """Multivariate phase randomisation (Prichard & Theiler 1994).

    The same random phase is added to all regions at each frequency, which keeps every power spectrum and every
    cross-spectrum of the sample and makes the series stationary and Gaussian. Mean and Nyquist component stay.

    Parameters
    ----------
    x : (time, region) array
    seed : int or list of int
        Anything `numpy.random.default_rng` takes.

    Returns
    -------
    (time, region) float64 array.
    """
    x = np.asarray(x, dtype=np.float64)
    spectrum = np.fft.rfft(x, axis=0)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(spectrum))
    phase[0] = 0.0
    if len(x) % 2 == 0:
        phase[-1] = 0.0
    return np.fft.irfft(spectrum * np.exp(1j * phase)[:, None], len(x), axis=0)
