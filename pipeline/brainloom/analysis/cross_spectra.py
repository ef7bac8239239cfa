"""Cross-spectra of a recording with a known sampling distribution: averages of multitaper estimates in bins."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from brainloom.core.errors import DataError

# Above this time-bandwidth product a segment is cut into equal blocks: tapers then cost little time and memory,
# and of each block's degrees of freedom one is lost.
_LONGEST_BLOCK = 64.0
# Bandwidth times duration is a whole number for most recordings; rounding must not lose a taper.
_ROUNDING = 1e-9


class CrossSpectra(NamedTuple):
    """Cross-spectral density in bins that are independent of each other.

    Attributes
    ----------
    frequency : (f,) array, Hz, middle of each bin.
    csd : (f, n, n) complex array, unit of the series squared per Hz, two-sided: over all frequencies of both signs
        it integrates to the covariance. ``csd[f, i, j] = <X_i(f) conj(X_j(f))>``, Hermitian.
    n_tapers : int, independent estimates averaged in each bin: ``n_tapers * csd[f]`` follows the complex Wishart
        distribution with that many degrees of freedom, its diagonal Gamma(n_tapers).
    """

    frequency: np.ndarray
    csd: np.ndarray
    n_tapers: int


def multitaper_csd(
    x: np.ndarray | Sequence[np.ndarray],
    sampling_frequency: float,
    band: Sequence[float],
    bandwidth: float,
) -> CrossSpectra:
    """Cross-spectral density by discrete prolate spheroidal (Slepian) tapers over the whole segment.

    Bins of width `bandwidth` = 2W lie side by side from ``band[0]`` on, as many as fit below ``band[1]``. In each,
    ``max(1, floor(bandwidth * T) - 1)`` orthonormal tapers ``h_k`` of a segment of T seconds give one estimate each:
    ``X_k(f) = sum_t h_k(t) x(t) exp(-2 pi i f t)``, ``S(f) = sum_k X_k X_k^H / (K sampling_frequency)``.

    - Where `bandwidth` is at most 1/T: the raw periodogram at the Fourier frequencies ``k/T`` of the band, without
      0 and the Nyquist frequency; one estimate each.
    - Where ``bandwidth * T`` exceeds 64, the segment is cut into equal blocks that do not, and their estimates are
      averaged; `n_tapers` counts them all.

    The mean of each segment is removed, nothing else.

    Parameters
    ----------
    x : (time, n) array or sequence of them
        Several segments are averaged by their number of tapers; they need not be of the same length.
    sampling_frequency : float
        Hz.
    band : (low, high)
        Hz, from 0 to half the sampling frequency.
    bandwidth : float
        Hz, width of a bin.

    Returns
    -------
    CrossSpectra

    Raises
    ------
    DataError
        The band does not fit the sampling frequency or holds no bin, or the segments have no common bins.

    Notes
    -----
    Thomson D. J., Proc. IEEE 70:1055 (1982); Percival & Walden, Spectral Analysis for Physical Applications (1993).

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(1000, 2))
    >>> found = multitaper_csd(x, 100.0, (0.0, 50.0), 2.0)
    >>> found.csd.shape, found.n_tapers
    ((25, 2, 2), 19)
    """
    rate = float(sampling_frequency)
    parts = [np.asarray(part, dtype=np.float64) for part in ([x] if isinstance(x, np.ndarray) else x)]
    low, high = (float(edge) for edge in band)
    if not parts or any(part.ndim != 2 or len(part) < 2 for part in parts):
        raise DataError("cross-spectra need segments with the axes (time, channel) and at least 2 samples")
    if not (0 <= low < high <= 0.5 * rate * (1 + _ROUNDING)):
        raise DataError(
            f"the band of the cross-spectra is {low:g} to {high:g} Hz; it must lie between 0 and {0.5 * rate:g} Hz, "
            "half the sampling frequency"
        )
    if not bandwidth > 0:
        raise DataError(
            f"bandwidth of the cross-spectra is {bandwidth:g} Hz; it must be above 0 (0.5 to 2 Hz suits EEG and MEG)"
        )
    grids = [_bins(len(part) / rate, rate, low, high, bandwidth) for part in parts]
    frequency = grids[0]
    if not len(frequency):
        raise DataError(
            f"no bin of {bandwidth:g} Hz fits between {low:g} and {high:g} Hz; use a smaller bandwidth or a wider band"
        )
    if any(len(grid) != len(frequency) or not np.allclose(grid, frequency, rtol=1e-9) for grid in grids):
        raise DataError(
            f"segments last {', '.join(f'{len(part) / rate:g}' for part in parts)} s and have no common frequencies "
            f"at a bandwidth of {bandwidth:g} Hz; use a larger bandwidth, or segments of the same length"
        )
    total, count = np.zeros((len(frequency), parts[0].shape[1], parts[0].shape[1]), complex), 0
    for part in parts:
        estimate, n_tapers = _one(part - part.mean(axis=0), rate, frequency, bandwidth)
        total += estimate
        count += n_tapers
    return CrossSpectra(frequency, total / (count * rate), count)


def _bins(duration: float, rate: float, low: float, high: float, bandwidth: float) -> np.ndarray:
    if bandwidth * duration <= 1 + _ROUNDING:
        first = max(1, int(np.ceil(low * duration - _ROUNDING)))
        # At 0 and at the Nyquist frequency the transform is real: not one complex estimate but half a one.
        last = min(
            int(np.floor(high * duration + _ROUNDING)), int(np.ceil(0.5 * rate * duration - _ROUNDING)) - 1
        )
        return np.arange(first, last + 1) / duration
    return low + bandwidth * (np.arange(int((high - low) / bandwidth + _ROUNDING)) + 0.5)


def _one(x: np.ndarray, rate: float, frequency: np.ndarray, bandwidth: float) -> tuple[np.ndarray, int]:
    """Sum of the outer products of all tapers of one segment, and their number."""
    product = bandwidth * len(x) / rate
    if product <= 1 + _ROUNDING:
        # The grid is that of the transform.
        at = np.rint(frequency * len(x) / rate).astype(int)
        transform = np.fft.rfft(x, axis=0)[at] / np.sqrt(len(x))
        return np.einsum("fi,fj->fij", transform, transform.conj()), 1
    n_blocks = max(1, int(np.ceil(product / _LONGEST_BLOCK - _ROUNDING)))
    length = len(x) // n_blocks
    product = bandwidth * length / rate
    n_tapers = max(1, int(product + _ROUNDING) - 1)
    tapers = _tapers(length, product / 2, n_tapers)
    time = np.arange(length) / rate
    total = np.zeros((len(frequency), x.shape[1], x.shape[1]), complex)
    for start in range(0, n_blocks * length, length):
        block = x[start : start + length]
        for place, f in enumerate(frequency):
            wave = np.exp(-2j * np.pi * f * time)[:, None]
            transform = tapers @ (block * wave.real) + 1j * (tapers @ (block * wave.imag))
            total[place] += transform.T @ transform.conj()
    return total, n_blocks * n_tapers


@lru_cache(maxsize=4)  # all subjects and splits of a cohort mostly have the same length
def _tapers(length: int, half_product: float, n_tapers: int) -> np.ndarray:
    from scipy.signal.windows import dpss

    return dpss(length, half_product, n_tapers)
