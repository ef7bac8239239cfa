"""Analytic signals by the Fourier transform: amplitude and phase in a band, differentiable."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.objectives.arrays import centre, detrend, without_noise


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
    gain = _positive(n)
    if band is not None:
        gain = gain * band_gain(np.abs(np.fft.fftfreq(n, dt)), dt, band, order)
    return _weighted(detrend(x), gain)[edge : n - edge]


def _positive(n: int) -> np.ndarray:
    """Factors of the Fourier coefficients of a series that make it analytic."""
    sign = np.sign(np.fft.fftfreq(n))
    if n % 2 == 0:
        sign[n // 2] = 0.0
    return 1.0 + sign


def _weighted(x: jax.Array, gain: np.ndarray) -> jax.Array:
    weight = jnp.asarray(gain.reshape(-1, *[1] * (x.ndim - 1)), x.dtype)
    return jnp.fft.ifft(weight * jnp.fft.fft(x, axis=0), axis=0)


@lru_cache(maxsize=16)
def _kernel(dt: float, band: tuple[float, float]) -> np.ndarray:
    """The linear-phase band-pass of `brainloom.analysis.envelopes`."""
    from mne.filter import create_filter

    return create_filter(None, 1.0 / dt, *band, fir_design="firwin", phase="zero", verbose="error")


def filtered_envelope_signal(x: jax.Array, dt: float, band: tuple[float, float] | None) -> jax.Array:
    """
    Analytic signal in a band, as `brainloom.analysis.envelopes.analytic_signal` makes it, differentiable.

    Parameters
    ----------
    x : (time, ...) array
    dt : float
        s
    band : (low, high) in Hz, or None
        None takes the series as it is, without its mean, and keeps all samples.

    Returns
    -------
    (time', ...) complex array; one length of the filter less at either end.
    """
    x = centre(x)
    if band is None:
        return _weighted(x, _positive(x.shape[0]))
    if not 0.0 < band[0] < band[1] < 0.5 / dt:
        raise ValueError(
            f"band is {band} Hz; it must lie between 0 and {0.5 / dt:.4g} Hz, half the sampling rate"
        )
    kernel = _kernel(dt, band)
    n, length = x.shape[0], len(kernel)
    if n < 3 * length:
        raise ValueError(
            f"a signal lasts {n * dt:g} s; envelopes between {band[0]:g} and {band[1]:g} Hz need at least "
            f"{3 * length * dt:.3g} s"
        )
    # Around the circle, only the first samples of the convolution see both ends; they are left out.
    response = jnp.asarray(np.fft.rfft(kernel, n).reshape(-1, *[1] * (x.ndim - 1)))
    response = response.astype(jnp.result_type(x.dtype, jnp.complex64))
    filtered = jnp.fft.irfft(response * jnp.fft.rfft(x, axis=0), n, axis=0)[length - 1 :]
    edge = length // 2
    # what a linear trend leaves behind the filter, for example, is rounding noise of the trend
    filtered = without_noise(filtered, jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=0, keepdims=True))
    return _weighted(filtered, _positive(filtered.shape[0]))[edge:-edge]
