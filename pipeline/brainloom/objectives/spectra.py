"""Objectives on power spectra: log-spectral distance, power in bands, and the frequency of the peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.units import parse
from brainloom.objectives.arrays import centre, log_of, rms
from brainloom.objectives.base import (
    Objective,
    check_finite,
    concrete,
    hertz,
    is_feature,
    known,
    read_signal,
    same_shape,
    scale_to,
    seconds,
    split_unit,
)
from brainloom.objectives.features import PSD, BandPower, PeakFrequency

_HZ, _PER_HZ = parse("Hz"), parse("s")
_LN10 = float(np.log(10.0))


def welch(x: jax.Array, dt: float, window: float | None) -> tuple[np.ndarray, jax.Array]:
    """
    Welch power spectral density: Hann windows, half overlap, mean removed, one-sided; differentiable.

    Parameters
    ----------
    x : (time, realisation, region) array
    dt : float
        Interval of the samples, s.
    window : float or None
        Length of the segments, s. A shorter series is one segment, padded with zeros to the same grid. None takes the
        whole series as one.

    Returns
    -------
    frequency : (frequency,) array, Hz
    psd : (region, frequency) array, mean over realisations, unit of `x` squared per Hz
    """
    n = x.shape[0] if window is None else max(2, round(window / dt))
    _, psd = jax.scipy.signal.welch(
        centre(x), fs=1.0 / dt, nperseg=min(n, x.shape[0]), nfft=max(n, 2), axis=0
    )
    return np.fft.rfftfreq(max(n, 2), dt), jnp.mean(psd, axis=1).T


def _read_psd(
    value: Any, who: str, role: str, dt: float | None, window: float | None
) -> tuple[Any, jax.Array, u.Unit]:
    """Frequency in Hz (a numpy array if it is known), PSD (region, frequency) and its unit."""
    if not is_feature(value, who, role, PSD):
        if dt is None:
            raise ValueError(f"the {role} of {who} is a signal; give dt, the interval of its samples")
        x, unit = read_signal(value, who, role, least=2)
        return *welch(x, dt, window), unit if unit.dim == u.UNITLESS.dim else unit**2 / _HZ
    psd, unit = split_unit(value.values)
    if unit.dim == _PER_HZ.dim:  # of a plain signal
        psd, unit = psd * scale_to(unit, _PER_HZ), u.UNITLESS
    given, unit_f = known(value.frequency), u.get_unit(value.frequency)
    frequency = split_unit(value.frequency)[0] if given is None else given
    if unit_f.dim == _HZ.dim:
        frequency = frequency * scale_to(unit_f, _HZ)
    if frequency.ndim != 1 or psd.ndim < 2 or psd.shape[-1] != len(frequency):
        raise ValueError(
            f"the PSD of the {role} of {who} has values of shape {psd.shape} at {frequency.shape} frequencies; "
            "they must be (..., region, frequency) and (frequency,)"
        )
    check_finite(value.values, who, role)
    return frequency, psd.reshape(-1, *psd.shape[-2:]).mean(axis=0), unit


def log_power(psd: jax.Array) -> jax.Array:
    """
    Natural logarithm of a spectrum (region, frequency), at least that of 1e-20 of the region's largest value.

    What is below (1e-12 in single precision) is rounding noise, whose logarithm would have enormous gradients.
    """
    least = max((8.0 * float(jnp.finfo(psd.dtype).eps)) ** 2, 1e-20)
    floor = least * jnp.max(jax.lax.stop_gradient(psd), axis=-1, keepdims=True)
    return log_of(jnp.where(psd < floor, floor, psd))


def _inside(frequency: Any, band: tuple[float, float] | None, psd: jax.Array, who: str) -> jax.Array:
    """1 at positive frequencies within the band, 0 elsewhere."""
    low, high = (0.0, np.inf) if band is None else band
    keep = (frequency > 0.0) & (frequency >= low) & (frequency <= high)
    if concrete(keep) and not np.asarray(keep).any():
        raise ValueError(
            f"no frequency of the spectrum that {who} reads lies in {band} Hz; use a longer window"
        )
    return jnp.asarray(keep, psd.dtype)


def _spectral(dt: Any, window: Any) -> dict[str, float | None]:
    interval = None if dt is None else seconds(dt, "dt")
    length = None if window is None else seconds(window, "window")
    if interval is not None and length is not None and round(length / interval) < 8:
        raise ValueError(
            f"window is {length:g} s, {round(length / interval)} samples of {interval:g} s; a spectrum needs at least 8"
        )
    return {"dt": interval, "window": length}


def _plain(unit: u.Unit, wanted: u.Unit, relative: bool) -> float:
    return 1.0 if relative else scale_to(unit, wanted)


def psd_log(
    *, dt: Any = None, band: Sequence[Any] | None = None, window: Any = 2.0, relative: bool = False
) -> Objective:
    """
    Log-spectral distance: root mean square difference of log10 power over regions and frequencies, in decades.

    Takes signals (time, ..., region), whose spectra (Welch) are averaged over realisations, or `PSD` on either side.
    The spectrum of the prediction is interpolated (log power, linear in frequency) to the frequencies of the target.
    Times 10 it is in dB.

    Parameters
    ----------
    dt : number of s or Quantity
        Interval of the samples; not needed for two `PSD`.
    band : (low, high), optional
        Hz; all positive frequencies by default.
    window : number of s or Quantity, optional
        Length of the Welch segments; None takes the whole series as one.
    relative : bool
        Compare shapes only: each region's mean log power in the band is removed, and units do not matter.
    """
    return Objective("psd_log", _psd_log, band=hertz(band), relative=relative, **_spectral(dt, window))


def _psd_log(
    prediction: Any, target: Any, who: str, band: Any, relative: bool, dt: float | None, window: float | None
) -> jax.Array:
    f_a, a, unit = _read_psd(prediction, who, "prediction", dt, window)
    f_b, b, wanted = _read_psd(target, who, "target", dt, window)
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"{who} compares {a.shape[0]} regions of the prediction with {b.shape[0]} of the target"
        )
    keep = _inside(f_b, band, b, who)
    if concrete((f_a, f_b)):
        highest = float(np.max(f_b if band is None else f_b[f_b <= band[1]]))
        if highest > float(f_a[-1]) * (1.0 + 1e-6):
            raise ValueError(
                f"the spectrum of the prediction ends at {float(f_a[-1]):g} Hz, but {who} reads that of the target up "
                f"to {highest:g} Hz; narrow the band"
            )
    log_a = jax.vmap(lambda row: jnp.interp(jnp.asarray(f_b, a.dtype), jnp.asarray(f_a, a.dtype), row))(
        log_power(a * _plain(unit, wanted, relative))
    )
    difference = (log_a - log_power(b)) / _LN10
    if relative:
        difference -= jnp.sum(keep * difference, axis=-1, keepdims=True) / jnp.sum(keep)
    return rms(difference, jnp.broadcast_to(keep, difference.shape))


def band_power(
    bands: Mapping[str, Sequence[Any]] | Sequence[Sequence[Any]],
    *,
    dt: Any = None,
    window: Any = 2.0,
    relative: bool = False,
    log: bool = True,
) -> Objective:
    """
    Root mean square difference of the power in frequency bands, over regions and bands.

    Takes signals (time, ..., region), `PSD`, or `BandPower` for the same bands.

    Parameters
    ----------
    bands : sequence of (low, high), or mapping of name to (low, high)
        Hz; the lower edge belongs to the band, the upper one only where the highest band ends.
    dt, window
        See `psd_log`.
    relative : bool
        Shares of the power between the lowest and the highest edge; units do not matter.
    log : bool
        Differences of log10 power (decades); otherwise of power, in the unit of the target.
    """
    edges = tuple(_edges(one) for one in (bands.values() if isinstance(bands, Mapping) else bands))
    if not edges:
        raise ValueError("bands is empty; give at least one (low, high)")
    options = {"bands": edges, "relative": relative, "log": log, **_spectral(dt, window)}
    return Objective("band_power", _band_power, **options)


def _edges(band: Sequence[Any]) -> tuple[float, float]:
    found = hertz(band, "bands")
    if found is None:
        raise ValueError("a band is None; give (low, high) in Hz")
    return found


def _band_power(
    prediction: Any, target: Any, who: str, bands: Any, relative: bool, log: bool, **spectral: Any
) -> jax.Array:
    both = []
    for value, role in ((prediction, "prediction"), (target, "target")):
        if isinstance(value, BandPower):
            power, unit = split_unit(value.values)
            if power.ndim < 2 or power.shape[-1] != len(bands):
                raise ValueError(
                    f"the band power of the {role} of {who} has shape {power.shape}; it must be (..., region, "
                    f"{len(bands)})"
                )
            check_finite(value.values, who, role)
            both.append((power.reshape(-1, *power.shape[-2:]).mean(axis=0), unit))
            continue
        frequency, psd, unit = _read_psd(value, who, role, **spectral)
        step = frequency[1] - frequency[0]
        lowest, highest = min(low for low, _ in bands), max(high for _, high in bands)
        power = jnp.stack([psd @ _bins(frequency, band, highest, psd, who) for band in bands], axis=-1) * step
        if relative:
            total = psd @ _bins(frequency, (lowest, highest), highest, psd, who) * step
            both.append((power / jnp.where(total == 0.0, 1.0, total)[:, None], u.UNITLESS))
        else:
            plain = unit.dim == u.UNITLESS.dim
            both.append((power, unit if plain else u.get_unit(u.Quantity(1.0, unit=unit) * _HZ)))
    (a, unit), (b, wanted) = both
    same_shape(a, b, who)
    a = a * _plain(unit, wanted, relative)
    return rms((log_of(a) - log_of(b)) / _LN10 if log else a - b)


def _bins(frequency: Any, band: tuple[float, float], last: float, psd: jax.Array, who: str) -> jax.Array:
    """1 at the frequencies of a band; the upper edge belongs to the band only where the last one ends."""
    low, high = band
    keep = (
        (frequency > 0.0) & (frequency >= low) & ((frequency <= high) if high == last else (frequency < high))
    )
    if concrete(keep) and not np.asarray(keep).any():
        raise ValueError(
            f"no frequency of the spectrum that {who} reads lies in {low:g}-{high:g} Hz; use a longer window"
        )
    return jnp.asarray(keep, psd.dtype)


def spectral_peak(
    band: Sequence[Any], *, dt: Any = None, window: Any = 2.0, sharpness: float = 4.0
) -> Objective:
    """
    Root mean square difference, over regions and in Hz, of the frequency of the spectral peak in a band.

    The peak is soft: the mean frequency in the band with weights ``power^sharpness``, which moves smoothly with the
    spectrum. A broad or weak peak is pulled to the middle of the band; both sides are read alike, so the pull cancels
    where the spectra are alike. The exact peak is `brainloom.analysis.spectra.peak_frequency`.

    Takes signals (time, ..., region), `PSD`, or `PeakFrequency`, whose regions without a peak (NaN) are left out.

    Parameters
    ----------
    band : (low, high)
        Hz.
    dt, window
        See `psd_log`.
    sharpness : float
        Larger is closer to the frequency of the largest value, with a rougher gradient.
    """
    if not sharpness > 0.0:
        raise ValueError(f"sharpness is {sharpness}; it must be positive")
    options = {"band": hertz(band), "sharpness": float(sharpness), **_spectral(dt, window)}
    return Objective("spectral_peak", _spectral_peak, **options)


def _spectral_peak(
    prediction: Any, target: Any, who: str, band: Any, sharpness: float, **spectral: Any
) -> jax.Array:
    both: list[jax.Array] = []
    have: list[jax.Array] = []
    for value, role in ((prediction, "prediction"), (target, "target")):
        if isinstance(value, PeakFrequency):
            peak, unit = split_unit(value.values)
            peak = peak * scale_to(unit, _HZ) if unit.dim == _HZ.dim else peak
            peak = peak.reshape(-1, peak.shape[-1] if peak.ndim else 1).mean(axis=0)
            found = jnp.isfinite(peak)
            given = known(value.values)
            if given is not None and not np.isfinite(given).any():
                raise ValueError(f"no region of the {role} of {who} has a peak")
            have.append(found)
            both.append(jnp.where(found, peak, 0.0))
            continue
        frequency, psd, _ = _read_psd(value, who, role, **spectral)
        keep = _inside(frequency, band, psd, who)
        logits = jnp.where(keep > 0.0, sharpness * log_power(psd), -jnp.inf)
        both.append(jax.nn.softmax(logits, axis=-1) @ jnp.asarray(frequency, psd.dtype))
    same_shape(both[0], both[1], who)
    weight = jnp.ones_like(both[0])
    for one in have:
        weight = weight * one
    return rms(both[0] - both[1], weight)
