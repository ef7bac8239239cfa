"""Filters in time and over regions: subsampling, global average, band-pass."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.units import number
from brainloom.models.declare import Arrays
from brainloom.observe.base import Filter

# isort: split
import brainunit as u

HAMMING = 3.3  # transition of a windowed sinc times its length in seconds


class Subsample(Filter):
    """
    Every n-th sample, the first one after the first interval.

    Parameters
    ----------
    every : int, Quantity or float
        A number of samples if it is an int, else a time (s) that is a multiple of that between samples.

    Notes
    -----
    What is faster than half the new sampling frequency is folded onto slower frequencies: put a `BandPass` before
    it, or take a ``TemporalAverage``.

    Examples
    --------
    >>> import numpy as np
    >>> Subsample(2)(np.arange(6.0)[:, None], dt=0.1)[:, 0].tolist()
    [1.0, 3.0, 5.0]
    """

    STATIC = ("every",)

    def __init__(self, every: Any) -> None:
        super().__init__()
        whole = isinstance(every, int) and not isinstance(every, bool)
        self.every = every if whole else float(number(every, "s", "every of Subsample"))
        if not self.every > 0:
            raise ValueError(f"every is {every}; it must be a positive number of samples or a positive time")

    def steps(self, dt: float) -> int:
        """Samples between those that are kept."""
        if isinstance(self.every, int):
            return self.every
        n = round(self.every / dt)
        if n < 1 or abs(n * dt - self.every) > 1e-6 * self.every:
            raise ValueError(
                f"every of Subsample is {self.every:g} s, which is not a multiple of {dt:g} s between samples; "
                "change one of them"
            )
        return n

    def series(self, p: Arrays, x: jax.Array, dt: float) -> jax.Array:
        """See `Filter.series`."""
        n = self.steps(dt)
        if x.shape[0] < n:
            raise ValueError(
                f"the signal has {x.shape[0]} samples, but one in {n} is wanted; simulate longer"
            )
        return x[n - 1 :: n]

    def times(self, ts: Any, dt: float) -> Any:
        """See `Filter.times`."""
        n = self.steps(dt)
        return ts[n - 1 :: n]

    def out_step(self, dt: float) -> float:
        """See `Filter.out_step`."""
        return self.steps(dt) * dt


class GlobalAverage(Filter):
    """
    Mean over regions.

    Parameters
    ----------
    weights : (region,) array or Quantity, optional
        Such as volumes; their sum does not matter.

    Notes
    -----
    The last axis of the result has length 1.

    Examples
    --------
    >>> import numpy as np
    >>> GlobalAverage([1.0, 3.0])(np.array([[0.0, 4.0]])).tolist()
    [[3.0]]
    """

    SPATIAL = True
    DIMS = ("global",)

    def __init__(self, weights: Any = None) -> None:
        super().__init__()
        self.weights = weights
        if weights is not None:
            given = np.asarray(u.get_mantissa(weights), float)
            if given.ndim != 1 or not given.sum() > 0 or (given < 0).any():
                raise ValueError(
                    "weights of GlobalAverage must be one number for each region, none of them negative"
                )

    def values(self, unit: Any, time_unit: str) -> Arrays:
        """See `Part.values`."""
        if self.weights is None:
            return {}
        weights = jnp.asarray(u.get_mantissa(self.weights), jnp.result_type(float))
        return {"weights": weights / weights.sum()}

    def at(self, p: Arrays, value: jax.Array) -> jax.Array:
        """See `Filter.at`."""
        if "weights" not in p:
            return jnp.mean(value, axis=-1, keepdims=True)
        if p["weights"].shape != value.shape[-1:]:
            raise ValueError(
                f"GlobalAverage has {p['weights'].size} weights for {value.shape[-1]} regions; give one for each"
            )
        return jnp.sum(value * p["weights"].astype(value.dtype), axis=-1, keepdims=True)


class BandPass(Filter):
    r"""
    Band-, low- or high-pass filter without a shift of phase.

    Parameters
    ----------
    low, high : Quantity, number (Hz) or None
        Edges of the band, where half of the amplitude passes. Without `low` it is a low-pass, without `high` a
        high-pass.
    method : {"fft", "fir"}
        ``fft``: the gain is prescribed at every frequency. ``fir``: a sinc under a Hamming window (``firwin`` of
        scipy), which reaches a stated time: half its length.
    order : int, optional
        ``fft``: the gain is that of a Butterworth filter of this order passed forwards and backwards
        (``sosfiltfilt`` of scipy). ``fir``: length in samples less 1, even. Give this or `transition`.
    transition : Quantity, number (Hz) or a pair of them, optional
        Width of the edges: for ``fft`` that of a raised cosine around each edge, for ``fir`` it sets the length,
        3.3 over the narrower one in seconds. Half of `low` and a quarter of `high` (less close to the Nyquist
        frequency) if not given.
    detrend : bool
        Take a straight line off first; a low-pass puts it back afterwards.

    Notes
    -----
    The series is continued by its mirror image at both ends, so no step is filtered. Within 1 / transition (``fft``)
    or half the length (``fir``) of an end the result depends on that image: leave this out of statistics
    where it matters. Edges are fixed when a program is compiled; the derivative is in the signal.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(0, 4, 0.001)[:, None]
    >>> x = np.sin(2 * np.pi * 10 * t) + np.sin(2 * np.pi * 50 * t)
    >>> found = BandPass(8, 12)(x, dt=0.001)
    >>> bool(np.allclose(found[500:-500], np.sin(2 * np.pi * 10 * t)[500:-500], atol=0.01))
    True
    """

    STATIC: ClassVar[tuple[str, ...]] = ("low", "high", "method", "order", "transition", "detrend")

    def __init__(
        self,
        low: Any = None,
        high: Any = None,
        method: str = "fft",
        *,
        order: int | None = None,
        transition: Any = None,
        detrend: bool = True,
    ) -> None:
        super().__init__()
        self.low = None if low is None else float(number(low, "Hz", "low of BandPass"))
        self.high = None if high is None else float(number(high, "Hz", "high of BandPass"))
        self.method, self.order, self.detrend = method, order, bool(detrend)
        if self.low is None and self.high is None:
            raise ValueError("BandPass has neither low nor high; give at least one edge")
        for name, edge in (("low", self.low), ("high", self.high)):
            if edge is not None and not edge > 0:
                raise ValueError(f"{name} is {edge:g} Hz; it must be positive, or None for no such edge")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low is {self.low:g} Hz, high {self.high:g} Hz; low must be the smaller one")
        if method not in ("fft", "fir"):
            raise ValueError(f"method is {method!r}; it must be 'fft' or 'fir'")
        if order is not None and transition is not None:
            raise ValueError("order and transition both set the width of the edges; give one of them")
        if order is not None and (not isinstance(order, int) or order < 1 or (method == "fir" and order % 2)):
            raise ValueError(f"order is {order}; it must be a positive whole number, and even for 'fir'")
        self.transition: tuple[float, float] | None = None
        if transition is not None:
            pair = transition if isinstance(transition, (tuple, list)) else (transition, transition)
            first, second = (float(number(width, "Hz", "transition of BandPass")) for width in pair)
            self.transition = (first, second)
            if not min(first, second) > 0:
                raise ValueError(f"transition is {min(first, second):g} Hz; it must be positive")

    # --- design ---------------------------------------------------------------------------------------------

    def widths(self, sampling_frequency: float) -> tuple[float | None, float | None]:
        """Widths (Hz) of the lower and the upper edge; None where there is no edge."""
        nyquist = 0.5 * sampling_frequency
        if self.high is not None and self.high >= nyquist:
            raise ValueError(
                f"high is {self.high:g} Hz, but samples {1 / sampling_frequency:g} s apart hold frequencies below "
                f"{nyquist:g} Hz only; lower it, leave it out, or sample more often"
            )
        if self.low is not None and self.low >= nyquist:
            raise ValueError(
                f"low is {self.low:g} Hz, but samples {1 / sampling_frequency:g} s apart hold frequencies below "
                f"{nyquist:g} Hz only; lower it or sample more often"
            )
        first = second = None
        if self.low is not None:
            first = (
                min(0.5 * self.low, 2.0 * (nyquist - self.low))
                if self.transition is None
                else self.transition[0]
            )
            if first > 2.0 * self.low:
                raise ValueError(
                    f"an edge {first:g} Hz wide around low = {self.low:g} Hz reaches below 0; at most "
                    f"{2.0 * self.low:g} Hz is possible"
                )
        if self.high is not None:
            room = 2.0 * (nyquist - self.high)
            second = min(0.25 * self.high, room) if self.transition is None else self.transition[1]
            if second > room * (1 + 1e-9):
                raise ValueError(
                    f"an edge {second:g} Hz wide around high = {self.high:g} Hz reaches above {nyquist:g} Hz, the "
                    f"highest frequency there is; at most {room:g} Hz is possible"
                )
        return first, second

    def taps(self, sampling_frequency: float) -> np.ndarray:
        """Coefficients of the ``fir`` filter, symmetric, an odd number of them."""
        from scipy.signal import firwin

        widths = [width for width in self.widths(sampling_frequency) if width is not None]
        n = HAMMING * sampling_frequency / min(widths) if self.order is None else self.order
        edges = [edge for edge in (self.low, self.high) if edge is not None]
        n_taps = 2 * int(np.ceil(0.5 * n)) + 1
        return firwin(n_taps, edges, window="hamming", pass_zero=self.low is None, fs=sampling_frequency)

    def gain(self, frequency: Any, sampling_frequency: float) -> np.ndarray:
        """
        What the filter multiplies amplitudes by.

        Parameters
        ----------
        frequency : array, Hz
        sampling_frequency : float, Hz

        Returns
        -------
        array
        """
        f = np.asarray(frequency, float)
        widths = self.widths(sampling_frequency)
        if self.method == "fir":
            from scipy.signal import freqz

            taps = self.taps(sampling_frequency)
            _, response = freqz(taps, worN=f.ravel(), fs=sampling_frequency)
            delay = np.exp(1j * np.pi * (len(taps) - 1) * f.ravel() / sampling_frequency)
            return (response * delay).real.reshape(f.shape)
        if self.order is not None:
            return self._butterworth(f, sampling_frequency)
        found = np.ones_like(f)
        for edge, width, sign in ((self.low, widths[0], 1.0), (self.high, widths[1], -1.0)):
            if edge is not None and width is not None:
                at = np.clip((f - edge) / width, -0.5, 0.5)
                found = found * 0.5 * (1.0 + sign * np.sin(np.pi * at))
        return found

    def _butterworth(self, f: np.ndarray, sampling_frequency: float) -> np.ndarray:
        """Squared magnitude after the bilinear transform."""
        warp = np.tan(np.pi * np.minimum(f / sampling_frequency, 0.5 - 1e-12))
        low, high = (
            None if edge is None else np.tan(np.pi * edge / sampling_frequency)
            for edge in (self.low, self.high)
        )
        with np.errstate(divide="ignore", over="ignore"):
            if low is None:
                ratio = warp / high
            elif high is None:
                ratio = low / warp
            else:
                ratio = (warp**2 - low * high) / (warp * (high - low))
            return 1.0 / (1.0 + ratio ** (2 * self.order))  # type: ignore[operator]

    # --- application ----------------------------------------------------------------------------------------

    def series(self, p: Arrays, x: jax.Array, dt: float) -> jax.Array:
        """See `Filter.series`."""
        n, rate = x.shape[0], 1.0 / dt
        slowest = self.high if self.low is None else self.low
        if n * dt * slowest < 1.0:  # type: ignore[operator]
            raise ValueError(
                f"the signal lasts {n * dt:g} s, less than one period of {slowest:g} Hz; "
                "raise the edge of BandPass or simulate longer"
            )
        gain = self._mirror_gain(n, rate)
        line = trend(x) if self.detrend else jnp.zeros_like(x)
        found = mirrored(x - line, gain)
        return found + line if self.low is None else found

    def _mirror_gain(self, n: int, rate: float) -> np.ndarray:
        """The gain at the frequencies of a series of `n` samples and its mirror image."""
        if self.method == "fft":
            return self.gain(np.arange(n + 1) * rate / (2 * n), rate)
        taps = self.taps(rate)
        half = len(taps) // 2
        if half >= n:
            raise ValueError(
                f"the filter of BandPass is {len(taps)} samples long, but the signal has {n}; a wider transition "
                "makes it shorter, or take method='fft'"
            )
        centred = np.zeros(2 * n)
        centred[: half + 1], centred[2 * n - half :] = taps[half:], taps[:half]
        return np.fft.rfft(centred).real


@jax.jit
def mirrored(x: jax.Array, gain: Any) -> jax.Array:
    """
    A series times a gain in frequency, continued by its mirror image.

    Parameters
    ----------
    x : (time, ...) array
    gain : (time + 1,) array
        At the frequencies 0, 1 / (2 n), ..., 1/2 in cycles a sample.

    Returns
    -------
    (time, ...) array
    """
    n = x.shape[0]
    spectrum = jnp.fft.rfft(jnp.concatenate([x, x[::-1]]), axis=0)
    factor = jnp.asarray(gain, x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.fft.irfft(spectrum * factor, 2 * n, axis=0)[:n]


@jax.jit
def trend(x: jax.Array) -> jax.Array:
    """The straight line of least squares through each series of (time, ...)."""
    n = x.shape[0]
    t = np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1)
    mean = jnp.mean(x, axis=0)
    slope = jnp.tensordot(jnp.asarray(t / max(float(t @ t), 1e-300), x.dtype), x - mean, axes=1)
    return mean + jnp.asarray(t, x.dtype).reshape(-1, *[1] * (x.ndim - 1)) * slope
