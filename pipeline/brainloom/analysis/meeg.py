"""The features of EEG and MEG: one function for recordings and for simulations, of sensors or of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brainloom.analysis.cross_spectra import CrossSpectra, multitaper_csd
from brainloom.analysis.envelopes import analytic_signal, band_edges, envelope_fc
from brainloom.analysis.fc import average_correlations
from brainloom.analysis.peaks import alpha_peak, aperiodic_fit
from brainloom.analysis.spectra import welch_psd
from brainloom.core.errors import DataError

__all__ = [
    "BANDS",
    "CrossSpectra",
    "alpha_peak",
    "analytic_signal",
    "aperiodic_fit",
    "band_names",
    "envelope_fc",
    "meeg_features",
    "multitaper_csd",
    "power_spectrum",
    "relative_band_power",
]

METHODS = ("welch", "multitaper")
# Hz; a frequency belongs to the band that starts with it.
BANDS: dict[str, tuple[float, float]] = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 80.0),
}
# Time-bandwidth product 2 NT W of the tapers of a window: 4 / window Hz wide, three tapers above 0.9 concentration.
_PRODUCT = 4.0


def power_spectrum(
    x: np.ndarray, sampling_frequency: float, window: float, method: str = "welch"
) -> tuple[np.ndarray, np.ndarray]:
    """Power spectral density of one segment, averaged over windows that overlap by half; each loses its mean.

    Parameters
    ----------
    x : (time, channel) array
    sampling_frequency : float
        Hz.
    window : float
        s. Frequencies are ``1 / window`` apart.
    method : {"welch", "multitaper"}
        A Hann window; or the three best-concentrated Slepian tapers of bandwidth ``4 / window`` Hz: less leakage and
        scatter, wider peaks.

    Returns
    -------
    frequency : (frequency,) array, Hz, from 0 to half the sampling frequency
    psd : (channel, frequency) array, unit of `x` squared per Hz, one-sided

    Raises
    ------
    DataError
        The segment is shorter than the window, or the method is unknown.
    """
    x = np.asarray(x, dtype=np.float64)
    rate = float(sampling_frequency)
    length = round(window * rate)
    if x.ndim != 2:
        raise DataError(f"a segment has {x.ndim} axes; it must have two, (time, channel)")
    if length < 4:
        raise DataError(
            f"window is {window:g} s, {length} samples at {rate:g} Hz; it must be longer (2 s is usual)"
        )
    if len(x) < length:
        raise DataError(
            f"a segment lasts {len(x) / rate:g} s ({len(x)} samples at {rate:g} Hz), less than the window of "
            f"{window:g} s; shorten the window or use longer segments"
        )
    if method == "welch":
        return welch_psd(x, 1.0 / rate, length)
    if method != "multitaper":
        raise DataError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    from mne.time_frequency import psd_array_multitaper

    windows = np.lib.stride_tricks.sliding_window_view(x, length, axis=0)[:: length - length // 2]
    psd, frequency = psd_array_multitaper(
        windows, rate, bandwidth=_PRODUCT * rate / length, normalization="full", verbose="error"
    )
    return frequency, psd.mean(axis=0)


def band_names(band: Sequence[float]) -> list[str]:
    """Names of the standard bands that overlap a range of frequencies, in order.

    Examples
    --------
    >>> band_names((1.0, 40.0))
    ['delta', 'theta', 'alpha', 'beta', 'gamma']
    """
    low, high = (float(edge) for edge in band)
    return [name for name, (start, stop) in BANDS.items() if start < high and stop > low]


def relative_band_power(
    psd: np.ndarray, frequency: np.ndarray, band: Sequence[float] = (1.0, 40.0)
) -> tuple[list[str], np.ndarray]:
    """Share of the power between two frequencies that lies in each standard band.

    Parameters
    ----------
    psd : (..., frequency) array
    frequency : (frequency,) array, Hz, evenly spaced
    band : (low, high)
        Hz, the whole; parts of standard bands outside of it do not count.

    Returns
    -------
    names : list of str, see `band_names` and `BANDS`
    power : (..., band) array; the sum is 1 where the bands cover `band`, NaN for a channel without power.

    Raises
    ------
    DataError
        No frequency of the spectrum lies in the range.
    """
    psd, frequency = np.asarray(psd, dtype=np.float64), np.asarray(frequency, dtype=np.float64)
    inside = _inside(frequency, band)
    if not inside.any():
        raise DataError(
            f"no frequency of the spectrum lies between {band[0]:g} and {band[1]:g} Hz; use a longer window or a wider band"
        )
    names = band_names(band)
    last = float(band[1])
    each = []
    for name in names:
        start, stop = BANDS[name]
        # The upper edge of the whole belongs to its last band.
        each.append(
            inside & (frequency >= start) & ((frequency < stop) | ((stop >= last) & (frequency <= stop)))
        )
    total = psd[..., inside].sum(axis=-1)
    power = np.stack([psd[..., keep].sum(axis=-1) for keep in each], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return names, np.where(total[..., None] > 0, power / total[..., None], np.nan)


def _inside(frequency: np.ndarray, band: Sequence[float]) -> np.ndarray:
    return (frequency > 0) & (frequency >= band[0] - 1e-9) & (frequency <= band[1] + 1e-9)


def _peak_or_none(psd: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    try:
        return alpha_peak(psd, frequency)
    except DataError:  # a band of interest elsewhere, gamma for example, is no fault
        return np.full(len(psd), np.nan)


def meeg_features(
    segments: np.ndarray | Sequence[np.ndarray], sampling_frequency: float, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute the features of every segment on its own and average them over segments, weighted by samples.

    Spectra are averaged as they are, correlations of envelopes in Fisher z; peaks and shares of power are those of
    the averaged spectrum. No window and no filter crosses from one segment to the next.

    Parameters
    ----------
    segments : (time, channel) array or sequence of them
        Sensors (EEG in the reference in which it is to be compared) or regions.
    sampling_frequency : float
        Hz.
    settings : mapping
        Section `eeg` or `meg` of the configuration: `band` (Hz), `window` (s), `method` (``welch`` or ``multitaper``),
        `envelope_band` (Hz).

    Returns
    -------
    dict with

    - ``psd`` : (channel, frequency), unit of the series squared per Hz, one-sided
    - ``frequency`` : (frequency,), Hz, those of the windows that lie in `band`; 0 is left out
    - ``envelope_fc`` : (channel, channel), see `envelope_fc`
    - ``peak_frequency`` : (channel,), Hz, of the alpha peak, NaN where there is none (`alpha_peak`) or where the
      spectrum within `band` is too short or too coarse to tell
    - ``band_power`` : (channel, band), shares of the power in `band`
    - ``bands`` : list of str, (band,)
    - ``n_samples`` : int

    Raises
    ------
    DataError
        A segment is shorter than the window or the filter of the envelopes, has no channels or values that are no
        numbers, or a band does not fit the sampling frequency.
    """
    parts = [segments] if isinstance(segments, np.ndarray) and segments.ndim == 2 else list(segments)
    parts = [np.asarray(part, dtype=np.float64) for part in parts]
    if not parts:
        raise DataError("there is no segment to compute features of; use a longer recording")
    for at, part in enumerate(parts, 1):
        if not np.isfinite(part).all():
            raise DataError(f"segment {at} of {len(parts)} holds values that are not numbers; leave them out")
    rate, samples = float(sampling_frequency), [len(part) for part in parts]
    band = band_edges(settings["band"], rate * (1 + 1e-9), "band")
    spectra = [power_spectrum(part, rate, settings["window"], settings["method"]) for part in parts]
    every = spectra[0][0]
    keep = _inside(every, band)
    if not keep.any():
        raise DataError(
            f"window is {settings['window']:g} s, so frequencies are {every[1]:g} Hz apart and none lies between "
            f"{band[0]:g} and {band[1]:g} Hz; use a longer window"
        )
    frequency = every[keep]
    psd = np.average([one for _, one in spectra], axis=0, weights=samples)[:, keep]
    names, power = relative_band_power(psd, frequency, band)
    return {
        "psd": psd,
        "frequency": frequency,
        "envelope_fc": average_correlations(
            [envelope_fc(part, rate, settings["envelope_band"]) for part in parts], samples
        ),
        "peak_frequency": _peak_or_none(psd, frequency),
        "band_power": power,
        "bands": names,
        "n_samples": sum(samples),
    }
