"""
Kernels of BOLD: haemodynamic response functions with their parameters, for `HRFBold` and on their own.

The functions themselves are in ``responses.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.declare import Arrays, Parameter

# isort: split
import brainunit as u

from brainloom.core.units import number, plain
from brainloom.observe import responses
from brainloom.observe.base import Part


class HRFKernel(Part):
    """
    Base of all kernels: parameters, and a pure function of time.

    A new one declares `PARAMETERS` and `formula`. Calling a kernel gives its values.

    Parameters
    ----------
    duration : Quantity or number (s), optional
        How long a response lasts: what comes later is cut off.
    **parameters
        Numbers, arrays (region,), quantities, or ``brainstate.nn.Param(value, t=transform, fit=True)``.
    """

    STATIC = ("duration",)
    DURATION: ClassVar[float] = 20.0

    def __init__(self, *, duration: Any = None, **parameters: Any) -> None:
        super().__init__(**parameters)
        kind = type(self).__name__
        self.duration = (
            self.DURATION if duration is None else float(number(duration, "s", f"duration of {kind}"))
        )
        if not self.duration > 0:
            raise ValueError(f"duration of {kind} is {self.duration} s; it must be positive")
        self.values()  # wrong units are found now

    @staticmethod
    def formula(p: Arrays, t: jax.Array, duration: float) -> jax.Array:
        """Values at times `t` (s), which broadcast with the parameters `p`; pure and differentiable."""
        raise TypeError("a kernel must define formula(p, t, duration)")

    def values(self, unit: Any = u.UNITLESS, time_unit: str = "s") -> Arrays:
        """Present value of every parameter as a plain array in its declared unit."""
        return super().values(unit, time_unit)

    def on_grid(self, p: Arrays, t: jax.Array) -> jax.Array:
        """Values at times (s): (time,), or (time, region) where a parameter is regional."""
        regional = any(jnp.ndim(value) for value in p.values())
        return self.formula(p, t[..., None] if regional else t, self.duration)

    def update(self, t: Any) -> jax.Array:
        """
        Values at given times; the call of a kernel.

        Parameters
        ----------
        t : Quantity, or array in ms (as published)

        Returns
        -------
        array of the shape of `t`; one more axis (region) where parameters are regional
        """
        seconds = plain(
            t if isinstance(t, u.Quantity) else jnp.asarray(t) / 1000.0, "s", "the time of a kernel"
        )
        return self.on_grid(self.values(), seconds)


class FirstOrderVolterraHRFKernel(HRFKernel):
    """
    First-order Volterra kernel, the default of TVB; see `responses.first_order_volterra`.

    Parameters
    ----------
    tau_s, tau_f : s
        0.8 and 0.4.
    scaling : 1
        1/3.
    duration : 20 s

    Notes
    -----
    With these numbers it peaks at 0.8 s, far from the 5 s of measured responses, and lets all frequencies of
    BOLD pass. Use it to reproduce published work, and `CanonicalHRFKernel` otherwise.
    """

    PARAMETERS = (
        Parameter("tau_s", 0.8, (0.2, 5.0), "s", "decay of the signal"),
        Parameter("tau_f", 0.4, (0.05, 5.0), "s", "feedback of the flow"),
        Parameter("scaling", 1.0 / 3.0, (0.0, 10.0), "1", "amplitude"),
    )

    @staticmethod
    def formula(p: Arrays, t: jax.Array, duration: float) -> jax.Array:
        """See `HRFKernel.formula`."""
        return responses.first_order_volterra(t, **p)


class GammaHRFKernel(HRFKernel):
    """
    Gamma kernel of Boynton et al. (1996) without its delay; see `responses.gamma`.

    Parameters
    ----------
    tau : s
        1.08.
    n : 1
        3.
    a : 1
        Height of the peak, 0.1.
    duration : 20 s
    """

    PARAMETERS = (
        Parameter("tau", 1.08, (0.2, 5.0), "s", "time constant"),
        Parameter("n", 3.0, (1.5, 10.0), "1", "shape"),
        Parameter("a", 0.1, (0.0, 10.0), "1", "height of the peak"),
    )

    @staticmethod
    def formula(p: Arrays, t: jax.Array, duration: float) -> jax.Array:
        """See `HRFKernel.formula`."""
        return responses.gamma(t, **p)


class DoubleExponentialHRFKernel(HRFKernel):
    """
    Two damped oscillations (Polonsky et al. 2000); see `responses.double_exponential`.

    Parameters
    ----------
    tau_1, tau_2 : s
        7.22 and 7.4.
    f_1, f_2 : Hz
        0.03 and 0.12.
    amp_1, amp_2 : 1
        0.1 and 0.1.
    a : 1
        Height of the peak, 0.1.
    duration : 40 s
    """

    DURATION = 40.0
    PARAMETERS = (
        Parameter("tau_1", 7.22, (1.0, 20.0), "s", "decay of the first oscillation"),
        Parameter("tau_2", 7.4, (1.0, 20.0), "s", "decay of the second oscillation"),
        Parameter("f_1", 0.03, (0.005, 0.2), "Hz", "frequency of the first oscillation"),
        Parameter("f_2", 0.12, (0.01, 0.5), "Hz", "frequency of the second oscillation"),
        Parameter("amp_1", 0.1, (0.0, 1.0), "1", "amplitude of the first oscillation"),
        Parameter("amp_2", 0.1, (0.0, 1.0), "1", "amplitude of the second oscillation"),
        Parameter("a", 0.1, (0.0, 10.0), "1", "height of the peak"),
    )

    @staticmethod
    def formula(p: Arrays, t: jax.Array, duration: float) -> jax.Array:
        """See `HRFKernel.formula`."""
        return responses.double_exponential(t, **p, duration=duration)


class MixtureOfGammasHRFKernel(HRFKernel):
    """
    Two gamma functions of one rate, as TVB has them; see `responses.mixture_of_gammas`.

    Parameters
    ----------
    a_1, a_2 : 1
        Shapes, 6 and 13.
    l : 1/s
        1.
    c : 1
        0.4.
    duration : 20 s
    """

    PARAMETERS = (
        Parameter("a_1", 6.0, (1.5, 20.0), "1", "shape of the response"),
        Parameter("a_2", 13.0, (1.5, 30.0), "1", "shape of the undershoot"),
        Parameter("l", 1.0, (0.2, 5.0), "1/s", "rate"),
        Parameter("c", 0.4, (0.0, 0.9), "1", "size of the undershoot"),
    )

    @staticmethod
    def formula(p: Arrays, t: jax.Array, duration: float) -> jax.Array:
        """See `HRFKernel.formula`."""
        return responses.mixture_of_gammas(t, **p)


class CanonicalHRFKernel(HRFKernel):
    """
    Double gamma function of SPM; see `responses.canonical`.

    Parameters
    ----------
    variant : {"spm", "glover"}
        Defaults of the others: (6, 16, 1, 1, 1/6) of SPM, or (6, 12, 0.9, 0.9, 0.35) after Glover (1999,
        NeuroImage 9:416); nilearn's ``glover_hrf`` has ``ratio=0.48`` instead.
    peak, undershoot, peak_dispersion, undershoot_dispersion : s
    ratio : 1
    onset : s
        0.
    area : s
        Integral of the kernel, 1: a lasting input comes out with its own size.
    duration : 32 s
    """

    DURATION = 32.0
    PARAMETERS = (
        Parameter("peak", 6.0, (2.0, 12.0), "s", "mean of the response"),
        Parameter("undershoot", 16.0, (6.0, 30.0), "s", "mean of the undershoot"),
        Parameter("peak_dispersion", 1.0, (0.3, 2.0), "s", "dispersion of the response"),
        Parameter("undershoot_dispersion", 1.0, (0.3, 3.0), "s", "dispersion of the undershoot"),
        Parameter("ratio", 1.0 / 6.0, (0.0, 0.8), "1", "size of the undershoot"),
        Parameter("onset", 0.0, (-2.0, 4.0), "s", "onset of the response"),
        Parameter("area", 1.0, (0.0, 10.0), "s", "integral"),
    )
    GLOVER: ClassVar[dict[str, float]] = {
        "undershoot": 12.0,
        "peak_dispersion": 0.9,
        "undershoot_dispersion": 0.9,
        "ratio": 0.35,
    }

    def __init__(self, variant: str = "spm", **parameters: Any) -> None:
        if variant not in ("spm", "glover"):
            raise ValueError(f"variant is {variant!r}; it must be 'spm' or 'glover'")
        self.variant = variant
        super().__init__(**((self.GLOVER if variant == "glover" else {}) | parameters))

    @staticmethod
    def formula(p: Arrays, t: jax.Array, duration: float) -> jax.Array:
        """See `HRFKernel.formula`."""
        return responses.canonical(t, **p)
