"""Analytic signals by the Fourier transform: amplitude and phase in a band, differentiable."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.objectives.arrays import detrend


def band_gain(frequency: np.ndarray, dt: float, band: tuple[float, float], order: int) -> np.ndarray:
    """
    Amplitude gain of a Butterworth band-pass that is run forwards and backwards.

    Parameters
    ----------
    frequency : (frequency,) array, Hz
    dt : float
        s
    band : (low, high), Hz
    order : int
        Of the design; the band-pass has twice as many poles.

    Returns
    -------
    (frequency,) array between 0 and 1; 1/2 at both edges.
    """
    nyquist = 0.5 / dt
    if not 0.0 < band[0] < band[1] < nyquist:
        raise ValueError(
            f"band is {band} Hz; it must lie between 0 and {nyquist:.4g} Hz, half the sampling rate"
        )
    # the bilinear transform of the design bends the frequency axis
    low, high, warped = (np.tan(np.pi * np.asarray(f) * dt) for f in (*band, np.minimum(frequency, nyquist)))
    with np.errstate(divide="ignore"):
        ratio = (warped**2 - low * high) / (warped * (high - low))
        return 1.0 / (1.0 + ratio ** (2 * order))


def analytic_signal(
    x: jax.Array, dt: float, band: tuple[float, float] | None, order: int, edge: int
) -> jax.Array:
    """
    Detrended, band-passed signal plus i times its Hilbert transform.

    Parameters
    ----------
    x : (time, ...) array
    dt : float
        s
    band : (low, high) in Hz, or None for the series as it is
    order : int
        See `band_gain`.
    edge : int
        Samples dropped at both ends, where the transform wraps around.

    Returns
    -------
    (time - 2 edge, ...) complex array
    """
    n = x.shape[0]
    frequency = np.fft.fftfreq(n, dt)
    gain = np.where(frequency > 0.0, 2.0, np.where(frequency == 0.0, 1.0, 0.0))
    if n % 2 == 0:
        gain[n // 2] = 1.0
    if band is not None:
        gain = gain * band_gain(np.abs(frequency), dt, band, order)
    weight = jnp.asarray(gain.reshape(-1, *[1] * (x.ndim - 1)), x.dtype)
    z = jnp.fft.ifft(weight * jnp.fft.fft(detrend(x), axis=0), axis=0)
    return z[edge : n - edge]
