"""Haemodynamic response functions, from their equations: pure, differentiable in time and in every parameter."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

SEARCH = 0.01  # s between the times among which a peak is looked for


def _after(t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where time is positive, and times that logarithms and powers can take, with finite derivatives everywhere."""
    inside = t > 0
    return inside, jnp.where(inside, t, 1.0)


@jax.jit
def gamma_density(t: Any, shape: Any, scale: Any) -> jax.Array:
    r"""
    Density of the gamma distribution, :math:`t^{k-1} e^{-t/\theta} / (\Gamma(k) \theta^k)`; 0 up to t = 0.

    Parameters
    ----------
    t : array, s
    shape : number or array
        k, above 1.
    scale : number or array, s
        :math:`\theta`.

    Returns
    -------
    array, 1/s
    """
    inside, t = _after(jnp.asarray(t))
    found = jnp.exp((shape - 1.0) * jnp.log(t / scale) - t / scale - gammaln(shape)) / scale
    return jnp.where(inside, found, 0.0)


@jax.jit
def first_order_volterra(t: Any, tau_s: Any, tau_f: Any, scaling: Any) -> jax.Array:
    r"""
    Flow response of the linearised haemodynamic system (Friston et al. 2000, NeuroImage 12:466).

    .. math:: h = s\, e^{-t / 2 \tau_s} \sin(\omega t) / \omega, \quad \omega^2 = 1 / \tau_f - 1 / (4 \tau_s^2)

    Where :math:`\omega^2` is negative (overdamped), the same solution reads sinh instead of sin.

    Parameters
    ----------
    t : array, s
    tau_s, tau_f : number or array
        s; :math:`\tau_f` stands for the square of a time.
    scaling : number or array

    Returns
    -------
    array
        0 up to t = 0.
    """
    t = jnp.maximum(jnp.asarray(t), 0.0)
    square, decay = 1.0 / tau_f - 0.25 / (tau_s * tau_s), jnp.exp(-0.5 * t / tau_s)
    x = square * t * t
    # sin(sqrt x) / sqrt x and what it becomes for negative x; a series where the root has no finite derivative
    close = jnp.abs(x) < 1e-2
    near = jnp.where(close, x, 0.0)
    series = 1.0 - near / 6.0 * (1.0 - near / 20.0 * (1.0 - near / 42.0 * (1.0 - near / 72.0)))
    turning, growing = (square > 0) & ~close, (square <= 0) & ~close
    w = jnp.sqrt(jnp.where(turning, square, 1.0))
    sine = decay * jnp.sin(w * t) / w
    w = jnp.sqrt(jnp.where(growing, -square, 1.0))
    rate = jnp.where(
        growing, w - 0.5 / tau_s, 0.0
    )  # negative: the product does not overflow, sinh alone would
    hyperbolic = jnp.exp(rate * t) * -jnp.expm1(-2.0 * w * t) / (2.0 * w)
    return scaling * jnp.where(close, decay * t * series, jnp.where(turning, sine, hyperbolic))


@jax.jit
def gamma(t: Any, tau: Any, n: Any, a: Any) -> jax.Array:
    r"""
    Gamma function with its peak, at :math:`(n - 1) \tau`, scaled to a (Boynton et al. 1996, J Neurosci 16:4207).

    .. math:: h \propto (t / \tau)^{n - 1} e^{-t / \tau}

    Boynton's delay of about 2 s before the onset is left out, as in TVB.

    Parameters
    ----------
    t : array, s
    tau : number or array, s
    n : number or array
        Shape, above 1; need not be whole.
    a : number or array

    Returns
    -------
    array
        0 up to t = 0.
    """
    inside, t = _after(jnp.asarray(t))
    late = n - 1.0
    return jnp.where(inside, a * jnp.exp(late * (1.0 + jnp.log(t / (late * tau))) - t / tau), 0.0)


@partial(jax.jit, static_argnames="duration")
def double_exponential(
    t: Any, tau_1: Any, tau_2: Any, f_1: Any, f_2: Any, amp_1: Any, amp_2: Any, a: Any, duration: float = 40.0
) -> jax.Array:
    r"""
    Difference of two damped oscillations, its peak scaled to a (Polonsky et al. 2000, Nat Neurosci 3:1153).

    .. math:: h \propto A_1 e^{-t / \tau_1} \sin(2 \pi f_1 t) - A_2 e^{-t / \tau_2} \sin(2 \pi f_2 t)

    Parameters
    ----------
    t : array, s
    tau_1, tau_2 : number or array, s
    f_1, f_2 : number or array, Hz
    amp_1, amp_2, a : number or array
    duration : float, s
        The peak is the largest value until then; without a positive one, nothing is scaled.

    Returns
    -------
    array
        0 up to t = 0.
    """
    parts = ((amp_1, tau_1, 2.0 * np.pi * f_1), (-amp_2, tau_2, 2.0 * np.pi * f_2))

    def waves(s: jax.Array) -> jax.Array:
        return sum(amp * jnp.exp(-s / tau) * jnp.sin(w * s) for amp, tau, w in parts)

    def slopes(s: jax.Array) -> tuple[Any, Any]:
        first = second = jnp.zeros_like(s)
        for amp, tau, w in parts:
            size, sine, cosine = amp * jnp.exp(-s / tau), jnp.sin(w * s), jnp.cos(w * s)
            first = first + size * (w * cosine - sine / tau)
            second = second + size * ((1.0 / tau**2 - w * w) * sine - 2.0 * w / tau * cosine)
        return first, second

    t = jnp.maximum(jnp.asarray(t), 0.0)
    width = jnp.broadcast_shapes(*(jnp.shape(v) for v in (tau_1, tau_2, f_1, f_2, amp_1, amp_2)))
    times = jnp.arange(0.0, duration, SEARCH, dtype=t.dtype).reshape(-1, *[1] * len(width))
    at = jax.lax.stop_gradient(
        times.ravel()[jnp.argmax(jnp.broadcast_to(waves(times), (len(times), *width)), 0)]
    )
    # Newton's steps. The slope is 0 at a peak, so that its place has no part in the derivative of its height.
    for _ in range(2):
        first, second = slopes(at)
        at = at - jnp.clip(first / jnp.where(second < 0, second, -jnp.inf), -SEARCH, SEARCH)
    peak = waves(jax.lax.stop_gradient(at))
    return a * waves(t) / jnp.where(peak > 0, peak, 1.0)


@jax.jit
def mixture_of_gammas(t: Any, a_1: Any, a_2: Any, l: Any, c: Any) -> jax.Array:  # noqa: E741
    r"""
    Difference of two gamma functions of the same rate, as TVB has it.

    .. math:: h = (l t)^{a_1 - 1} e^{-l t} / \Gamma(a_1) - c (l t)^{a_2 - 1} e^{-l t} / \Gamma(a_2)

    Parameters
    ----------
    t : array, s
    a_1, a_2 : number or array
        Shapes, above 1.
    l : number or array, 1/s
    c : number or array

    Returns
    -------
    array
        0 up to t = 0; its integral is (1 - c) / l.
    """
    scale = 1.0 / l
    return scale * (gamma_density(t, a_1, scale) - c * gamma_density(t, a_2, scale))


@jax.jit
def canonical(
    t: Any,
    peak: Any,
    undershoot: Any,
    peak_dispersion: Any,
    undershoot_dispersion: Any,
    ratio: Any,
    onset: Any = 0.0,
    area: Any = 1.0,
) -> jax.Array:
    r"""
    Double gamma function of SPM with a given area.

    .. math:: h = A\,(g(t; p / b_p, b_p) - r\, g(t; q / b_q, b_q)) / (1 - r)

    with g the density of `gamma_density` (shape, scale).

    Parameters
    ----------
    t : array, s
    peak, undershoot : number or array, s
        p and q, means of the two densities.
    peak_dispersion, undershoot_dispersion : number or array, s
        :math:`b_p` and :math:`b_q`.
    ratio : number or array
        r, below 1.
    onset : number or array, s
    area : number or array, s
        A, integral over all times.

    Returns
    -------
    array
        0 up to the onset.
    """
    t = jnp.asarray(t) - onset
    first = gamma_density(t, peak / peak_dispersion, peak_dispersion)
    second = gamma_density(t, undershoot / undershoot_dispersion, undershoot_dispersion)
    return area / (1.0 - ratio) * (first - ratio * second)
