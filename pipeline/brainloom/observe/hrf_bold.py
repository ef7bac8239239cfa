"""BOLD as the convolution of activity with a haemodynamic response function."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.units import UnitError, number, parse
from brainloom.models.declare import Arrays, Parameter
from brainloom.observe.base import Filter
from brainloom.observe.hrf import CanonicalHRFKernel, FirstOrderVolterraHRFKernel, HRFKernel

# isort: split
import brainunit as u

TVB_STEP = 0.004  # s between the samples that TVB sums


class HRFBold(Filter):
    r"""
    Linear BOLD: activity, averaged over short blocks, convolved with a kernel and sampled.

    .. math:: y(t) = k_1 V_0 \int_0^D h(s)\, z(t - s)\, ds, \quad z = g\, (x - x_0)

    Parameters
    ----------
    k_1, V_0 : 1
        5.6 and 0.02.
    period : Quantity or number (s)
        Sampling interval of the result (TR), 1 s; `tr` is another name for it.
    downsample_period : Quantity or number (s)
        4 ms; the signal is averaged over blocks of the longest time up to this that divides `period` and is a
        multiple of its own interval. It sets accuracy and cost, not the gain.
    kernel : HRFKernel
        `CanonicalHRFKernel` if not given; `FirstOrderVolterraHRFKernel` in TVB's convention.
    convolution_mode : {"valid", "full"}
        ``valid``: one sample at the end of each period. ``full``: on until the last input is forgotten.
    method : {"fft", "direct"}
    history : array or Quantity, (block, [region]), optional
        Averages over the blocks before the start, oldest first. Without it the signal was at rest: `bold_baseline`,
        or 0 in TVB's convention.
    convention : {"linear", "tvb"}
        ``tvb`` is :math:`k_1 V_0 (250 \int h x\, ds - 1)` with the signal itself: TVB and ports of it sum samples
        4 ms apart instead of integrating, whatever their unit, and take 1 away. Their gain changes with another
        `downsample_period`; here it is that of 4 ms always.
    bold_gain : 1/s per unit of the signal
        g, 1.
    bold_baseline : unit of the signal
        :math:`x_0`, 0: where BOLD rests.

    Notes
    -----
    The result is a relative change of the signal, 0 at rest. k_1, V_0, gain, baseline and all parameters of the
    kernel may be regional and fitted. Each block meets the average of the kernel over its length (two points of
    Gauss and Legendre), which is why the gain does not depend on that length.

    Examples
    --------
    >>> import brainunit as u
    >>> import numpy as np
    >>> bold = HRFBold(period=1 * u.second)
    >>> z = np.full((60_000, 2), 0.1)
    >>> found = bold(z, 1 * u.ms)
    >>> found.shape, bool(np.allclose(found[-1], 5.6 * 0.02 * 0.1, rtol=1e-3))
    ((60, 2), True)
    """

    PARAMETERS = (
        Parameter("k_1", 5.6, (0.0, 20.0), "1", "scale of BOLD"),
        Parameter("V_0", 0.02, (0.0, 0.2), "1", "resting volume fraction of blood"),
        Parameter("bold_gain", 1.0, (0.0, 10.0), "1/s", "neural drive per unit of the observable"),
        Parameter("bold_baseline", 0.0, (-10.0, 10.0), "1", "observable at which BOLD rests"),
    )
    STATIC = ("period", "downsample_period", "kernel", "convolution_mode", "method", "convention")

    def __init__(
        self,
        k_1: Any = 5.6,
        V_0: Any = 0.02,
        period: Any = None,
        downsample_period: Any = 0.004,
        kernel: HRFKernel | None = None,
        convolution_mode: str = "valid",
        method: str = "fft",
        history: Any = None,
        *,
        tr: Any = None,
        convention: str = "linear",
        bold_gain: Any = 1.0,
        bold_baseline: Any = 0.0,
    ) -> None:
        super().__init__(k_1=k_1, V_0=V_0, bold_gain=bold_gain, bold_baseline=bold_baseline)
        if convolution_mode == "same":
            raise ValueError("convolution_mode 'same' would answer before its input; use 'valid' or 'full'")
        self.convolution_mode = _one_of("convolution_mode", convolution_mode, ("valid", "full"))
        self.method = _one_of("method", method, ("fft", "direct"))
        self.convention = _one_of("convention", convention, ("linear", "tvb"))
        if period is not None and tr is not None:
            raise ValueError("period and tr are the same time; give one of them")
        chosen = tr if period is None else period
        self.period = 1.0 if chosen is None else float(number(chosen, "s", "period of HRFBold"))
        self.downsample_period = float(number(downsample_period, "s", "downsample_period of HRFBold"))
        if not 0 < self.downsample_period <= self.period:
            raise ValueError(
                f"downsample_period is {self.downsample_period} s; it must be above 0 and at most the period, "
                f"{self.period} s"
            )
        default = FirstOrderVolterraHRFKernel if convention == "tvb" else CanonicalHRFKernel
        self.kernel = default() if kernel is None else kernel
        if not isinstance(self.kernel, HRFKernel):
            raise TypeError(
                f"kernel is a {type(kernel).__name__}; give an HRFKernel such as CanonicalHRFKernel()"
            )
        if convention == "tvb" and (_fixed(bold_gain) != 1.0 or _fixed(bold_baseline) != 0.0):
            raise ValueError(
                "TVB's convention takes the signal itself; leave bold_gain and bold_baseline out"
            )
        self.history = history

    def static(self) -> Any:
        """See `Part.static`."""
        other = super().static()
        other.kernel = self.kernel.static()
        return other

    def values(self, unit: Any, time_unit: str) -> Arrays:
        """See `Part.values`; parameters of the kernel carry its name in front."""
        k_1, v_0, gain, baseline = self.PARAMETERS
        found = {p.name: self.read(p, p.unit) for p in (k_1, v_0)}
        found["bold_gain"] = _plain(self, gain.name, parse("1/s") / unit)
        found["bold_baseline"] = _plain(self, baseline.name, unit)
        if self.history is not None:
            found["history"] = _plain(self, "history", unit)
        return found | {f"kernel.{name}": value for name, value in self.kernel.values().items()}

    def steps(self, dt: float) -> tuple[int, int]:
        """Samples in a period and in a block, for a signal sampled every `dt` seconds."""
        n = round(self.period / dt)
        if n < 1 or abs(n * dt - self.period) > 1e-6 * self.period:
            raise ValueError(
                f"the period of HRFBold is {self.period} s, which is not a multiple of {dt} s between samples; "
                "change one of them"
            )
        most = int(self.downsample_period / dt * (1 + 1e-6))
        return n, max((w for w in range(1, most + 1) if n % w == 0), default=1)

    def response(self, p: Arrays, step: float) -> jax.Array:
        """Kernel times block length, in s: (block,) or (block, region), averages over blocks of `step` seconds."""
        kernel = {k.removeprefix("kernel."): v for k, v in p.items() if k.startswith("kernel.")}
        n = max(1, round(self.kernel.duration / step))
        middle, half = (np.arange(n) + 0.5) * step, step / np.sqrt(12.0)
        values = [self.kernel.on_grid(kernel, jnp.asarray(middle + at)) for at in (-half, half)]
        return 0.5 * step * (values[0] + values[1])

    def series(self, p: Arrays, x: jax.Array, dt: float) -> jax.Array:
        """See `Filter.series`."""
        n, width = self.steps(dt)
        n_out = x.shape[0] // n
        if n_out == 0:
            raise ValueError(
                f"the signal lasts {x.shape[0] * dt:g} s, less than the period of HRFBold, {self.period:g} s; "
                "simulate longer"
            )
        z = jnp.mean(x[: n_out * n].reshape(-1, width, *x.shape[1:]), axis=1)
        h = self.response(p, width * dt).astype(z.dtype)
        before = 0
        if "history" in p:
            past = p["history"].astype(z.dtype)
            past = jnp.broadcast_to(
                past.reshape(len(past), *[1] * (z.ndim - past.ndim), *past.shape[1:]),
                (len(past), *z.shape[1:]),
            )
            before, z = len(past), jnp.concatenate([past, z])
        if self.convention == "linear":
            z = p["bold_gain"] * (z - p["bold_baseline"])
        found = convolve(z, h, method=self.method)
        every, end = n // width, before + n_out * n // width
        last = len(found) if self.convolution_mode == "full" else end
        found = found[before:last][every - 1 :: every]
        scale = p["k_1"] * p["V_0"]
        return scale * found if self.convention == "linear" else scale * (found / TVB_STEP - 1.0)

    def times(self, ts: Any, dt: float) -> Any:
        """See `Filter.times`."""
        n, width = self.steps(dt)
        ts = ts[: len(ts) // n * n][n - 1 :: n]
        if self.convolution_mode == "valid":
            return ts
        n_blocks = len(ts) * n // width + max(1, round(self.kernel.duration / (width * dt))) - 1
        more = jnp.arange(1, n_blocks // (n // width) - len(ts) + 1) * self.period
        return jnp.concatenate([jnp.asarray(ts), ts[-1] + more])

    def out_step(self, dt: float) -> float:
        """See `Filter.out_step`."""
        return self.period

    def out_unit(self, unit: Any) -> Any:
        """See `Filter.out_unit`."""
        return u.UNITLESS


@partial(jax.jit, static_argnames="method")
def convolve(x: jax.Array, h: jax.Array, *, method: str = "fft") -> jax.Array:
    """
    Causal convolution along the first axis.

    Parameters
    ----------
    x : (time, ..., region) array
    h : (lag,) or (lag, region) array
    method : {"fft", "direct"}
        The same but for rounding, which ``fft`` spreads over all times.

    Returns
    -------
    (time + lag - 1, ..., region) array
    """
    from scipy.fft import next_fast_len

    n = x.shape[0] + h.shape[0] - 1
    h = h.reshape(h.shape[0], *[1] * (x.ndim - h.ndim), *h.shape[1:])
    if method == "fft":
        size = next_fast_len(n, real=True)
        product = jnp.fft.rfft(x, size, axis=0) * jnp.fft.rfft(h, size, axis=0)
        return jnp.fft.irfft(product, size, axis=0)[:n]
    columns = jnp.broadcast_to(h, (h.shape[0], *x.shape[1:])).reshape(h.shape[0], -1)
    found = jax.vmap(jnp.convolve, in_axes=1, out_axes=1)(x.reshape(x.shape[0], -1), columns)
    return found.reshape(n, *x.shape[1:])


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
    return value


def _fixed(value: Any) -> Any:
    """A plain number as it is; None for anything that can be something else."""
    return float(value) if isinstance(value, (int, float)) else None


def _plain(part: HRFBold, name: str, unit: Any) -> jax.Array:
    """A parameter or the history as a plain array in a unit that depends on the signal."""
    value = getattr(part, name)
    value = value.value() if hasattr(value, "value") and callable(value.value) else value
    if isinstance(value, u.Quantity):
        if value.dim != unit.dim:
            raise UnitError(
                f"{name} of HRFBold is given in {value.unit}; for this signal it must be in {unit}"
            )
        value = value.to_decimal(unit)
    return jnp.asarray(value, jnp.result_type(float))
