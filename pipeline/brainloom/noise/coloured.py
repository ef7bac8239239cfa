"""Noise with a power-law spectrum along time: pink, brown, blue, violet and any slope between."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from brainloom.noise.base import Arrays, NoiseProcess
from brainloom.noise.processes import not_negative, positive

# Corners of the filter reach past both ends of the band by this factor, so that the slope holds in all of it.
_MARGIN = 4.0


class ColouredNoise(NoiseProcess):
    r"""
    Signal with the power spectrum :math:`S(f) \propto 1/f^\beta` along time, in every region on its own.

    White draws pass a causal filter of first-order sections with real poles and zeros that take turns on a
    logarithmic axis (Oustaloup et al. 2000, IEEE Trans Circuits Syst I 47:25), and one fixed section that puts
    right what sampling does near the Nyquist frequency. The band reaches from `f_min` to the Nyquist
    frequency 1/(2 dt). There, over up to six decades, the log-log slope is within 0.1 of -beta in every decade
    and the power within 1 dB of the law (0.6 dB with 8 poles). Below f_min / 4 the power is flat (beta > 0) or
    falls as f^2 (-2 < beta < 0).

    The stationary variance is sigma^2 at every dt: the filter is an orthonormal lattice (Takenaka-Malmquist
    functions; Heuberger, Van den Hof & Bosgra 1995, IEEE Trans Autom Control 40:451), whose states have
    independent unit-normal stationary laws, and its gain is divided out analytically. The band depends on dt,
    so the density of a given frequency does too.

    Parameters
    ----------
    beta : float
        Exponent in [-2, 2], not 0.
    in_size : int, optional
        Number of regions.
    sigma : float, array (region,), Quantity or Param
        Stationary standard deviation, in the unit of what the signal is added to: state/time, or that of the
        port.
    mean : float, array (region,), Quantity or Param
        Same unit.
    f_min : float or Quantity
        Lowest frequency of the band, Hz, shared by the regions; below the Nyquist frequency.
    n_poles : int
        Poles over the band, one a decade at least. More make the spectrum smoother and each step slower.
        Brown and violet noise need none of them.

    Raises
    ------
    ValueError
        `beta` is out of range, `sigma` is negative, or `f_min` or `n_poles` is not positive.

    Examples
    --------
    >>> import brainunit as u
    >>> drive = ColouredNoise(1.5, sigma=0.1, f_min=0.1 * u.Hz)
    """

    PARAMETERS: ClassVar[dict[str, str]] = {"mean": "[unit]", "sigma": "[unit]", "f_min": "Hz"}

    def __init__(
        self,
        beta: float,
        in_size: int | None = None,
        *,
        sigma: Any,
        mean: Any = 0.0,
        f_min: Any = 0.01,
        n_poles: int = 6,
    ) -> None:
        super().__init__(in_size)
        if not -2.0 <= beta <= 2.0 or beta == 0.0:
            raise ValueError(
                f"beta is {beta}; it must be in [-2, 2] and not 0 (white noise enters a state, see WhiteNoise)"
            )
        if n_poles < 1:
            raise ValueError(f"n_poles is {n_poles}; it must be at least 1")
        self.beta = float(beta)
        self.n_poles = int(n_poles)
        self.sigma = not_negative(sigma, "sigma", self)
        self.mean = mean
        self.f_min = positive(f_min, "f_min", self)

    def structure(self) -> tuple:
        """The class, the exponent and the number of poles."""
        return (type(self), self.beta, self.n_poles)

    def parameter_values(self, unit: str, time_unit: str, owner: str) -> Arrays:
        """See `NoiseProcess.parameter_values`; ``f_min`` is turned into cycles per unit of time."""
        found = super().parameter_values(unit, time_unit, owner)
        if jnp.ndim(found["f_min"]) != 0:
            raise ValueError(f"f_min of the noise of {owner} is an array; it must be one number")
        found["f_min"] = found["f_min"] * (1e-3 if time_unit == "ms" else 1.0)
        return found

    @classmethod
    def prepare(cls, structure: tuple, params: Arrays, dt: Any) -> Arrays:
        """
        Parameters and the coefficients of the filter, for `start` and `advance`.

        Parameters
        ----------
        structure : tuple
        params : dict of arrays
        dt : scalar

        Returns
        -------
        dict of arrays
            With what `_lattice` gives, and ``scale`` from the variance of the filter to that of the signal.
        """
        poles, zeros = _design(structure[1], structure[2], params["f_min"] * dt)
        found = _lattice(poles, zeros)
        scale = params["sigma"] / jnp.sqrt(1.0 + jnp.sum(found["weight"] ** 2))
        return params | found | {"scale": scale}

    @classmethod
    def n_start(cls, structure: tuple) -> int:
        """One draw for every section, and that of the first step."""
        return _n_sections(structure[1], structure[2]) + 1

    @classmethod
    def start(cls, structure: tuple, params: Arrays, normal: jax.Array) -> Arrays:
        """
        A draw of the stationary law; see `NoiseProcess.start`.

        With parameters that do not come from `prepare` dt is unknown: the first value is then drawn on its
        own, and only those that follow it are correlated in time.
        """
        sections = {f"section_{k}": normal[k] for k in range(normal.shape[0] - 1)}
        if "leak" in params:
            return cls.advance(structure, params, sections, normal[-1], 1.0)
        return sections | {"value": params["mean"] + params["sigma"] * normal[-1]}

    @classmethod
    def advance(
        cls, structure: tuple, params: Arrays, state: Arrays, increment: jax.Array, dt: Any
    ) -> Arrays:
        """One step of the filter; see `NoiseProcess.advance`. Parameters may come from `prepare`."""
        p = params if "leak" in params else cls.prepare(structure, params, dt)
        sections = [state[f"section_{k}"] for k in range(_n_sections(structure[1], structure[2]))]
        total = increment
        found = {}
        for k, section in enumerate(sections):
            total = total + p["weight"][k] * section
            # 1 - pole is used, as the pole itself rounds to 1 in single precision
            change = p["inlet"][k] * increment - p["leak"][k] * section
            for j, earlier in enumerate(sections[:k]):
                change = change + p["passed"][k, j] * earlier
            found[f"section_{k}"] = section + change
        return found | {"value": p["mean"] + p["scale"] * total}


class PinkNoise(ColouredNoise):
    """
    Noise with the power 1/f: `ColouredNoise` with beta = 1, where the parameters are described.

    Parameters
    ----------
    in_size, sigma, mean, f_min, n_poles
    """

    def __init__(
        self, in_size: int | None = None, *, sigma: Any, mean: Any = 0.0, f_min: Any = 0.01, n_poles: int = 6
    ) -> None:
        super().__init__(1.0, in_size, sigma=sigma, mean=mean, f_min=f_min, n_poles=n_poles)


class BrownNoise(ColouredNoise):
    """
    Noise with the power 1/f^2, flat below f_min / 4: `ColouredNoise` with beta = 2, where the parameters are described.

    Parameters
    ----------
    in_size, sigma, mean, f_min
    """

    def __init__(self, in_size: int | None = None, *, sigma: Any, mean: Any = 0.0, f_min: Any = 0.01) -> None:
        super().__init__(2.0, in_size, sigma=sigma, mean=mean, f_min=f_min)


class BlueNoise(ColouredNoise):
    """
    Noise with the power f: `ColouredNoise` with beta = -1, where the parameters are described.

    Parameters
    ----------
    in_size, sigma, mean, f_min, n_poles
    """

    def __init__(
        self, in_size: int | None = None, *, sigma: Any, mean: Any = 0.0, f_min: Any = 0.01, n_poles: int = 6
    ) -> None:
        super().__init__(-1.0, in_size, sigma=sigma, mean=mean, f_min=f_min, n_poles=n_poles)


class VioletNoise(ColouredNoise):
    """
    Noise with the power f^2 down to 0 Hz: `ColouredNoise` with beta = -2, where the parameters are described.

    Parameters
    ----------
    in_size, sigma, mean
    """

    def __init__(self, in_size: int | None = None, *, sigma: Any, mean: Any = 0.0) -> None:
        super().__init__(-2.0, in_size, sigma=sigma, mean=mean)


# --- the filter ------------------------------------------------------------------------------------------------
# With y = 2 sin(w/2) for the frequency w (radians a step), a first-order section with the pole a has the gain
# 1/(y^2 + Y^2) up to a constant, Y^2 = (1 - a)^2 / a: it is a continuous section in y. Power laws are made in y,
# and the last section turns y into w. Poles and zeros are kept as their distances from 1.


def _n_alternating(beta: float, n_poles: int) -> int:
    """Poles of the power law: brown noise has one, violet noise is a difference and has none."""
    return {2.0: 1, -2.0: 0}.get(beta, n_poles)


def _n_sections(beta: float, n_poles: int) -> int:
    # one more for the Nyquist frequency, and one that remembers a draw where differences have an extra zero
    return _n_alternating(beta, n_poles) + 1 + (beta < 0.0)


def _design(beta: float, n_poles: int, lowest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Poles and zeros (as 1 - pole, 1 - zero) for a lowest frequency in cycles a step."""
    falling = beta if beta > 0.0 else beta + 2.0  # rising laws are differences of falling ones
    n = _n_alternating(beta, n_poles)
    first = 2.0 * jnp.sin(jnp.minimum(math.pi * lowest, 0.5 * math.pi)) / _MARGIN
    last = 2.0 * _MARGIN
    ratio = (last / first) ** (1.0 / max(n, 1))
    corners = first * ratio ** jnp.arange(n, dtype=first.dtype)
    poles = [_from_one(corners)]
    zeros = [_from_one(corners * ratio ** (0.5 * falling))] if n > 0 and falling < 2.0 else []
    if beta < 0.0:
        zeros.append(jnp.zeros(1, first.dtype))
    near, far = (jnp.full(1, value, first.dtype) for value in _nyquist(abs(beta)))
    poles.append(near if beta > 0.0 else far)
    zeros.append(far if beta > 0.0 else near)
    pole, zero = jnp.concatenate(poles), jnp.concatenate(zeros)
    # equal numbers: a pole or zero at 0 changes nothing but a delay
    pad = max(pole.size, zero.size)
    pole, zero = (jnp.pad(x, (0, pad - x.size), constant_values=1.0) for x in (pole, zero))
    return pole, zero


def _from_one(corner: jax.Array) -> jax.Array:
    """``1 - a`` of the section with the corner Y, ``Y^2 = (1 - a)^2 / a``."""
    return corner / (jnp.sqrt(1.0 + 0.25 * corner**2) + 0.5 * corner)


def _nyquist(beta: float) -> tuple[float, float]:
    """
    1 - pole and 1 - zero of the section with the gain ``(y/w)^beta``.

    Exact at w = 0, pi/2 and pi: with ``u = 1 - cos(w)`` a root of -c has the gain ``1 - m u``,
    ``1 - 2 m = ((1 - c)/(1 + c))^2``.
    """
    half, full = (math.sqrt(8.0) / math.pi) ** beta, (2.0 / math.pi) ** beta
    b = (1.0 - full) / (2.0 * (half - full))
    found = []
    for rest in (2.0 * b - 1.0, 2.0 * half * b - 1.0):
        root = math.sqrt(rest)
        found.append(1.0 + (1.0 - root) / (1.0 + root))
    return found[0], found[1]


def _lattice(pole: jax.Array, zero: jax.Array) -> Arrays:
    """
    The orthonormal lattice of a filter: sections s that are uncorrelated and of unit variance.

    Section k takes ``c_k = sqrt(1 - p_k^2)`` of what arrives and passes on ``(1/z - p_k)/(1 - p_k/z)`` of it,
    so that ``s_k <- p_k s_k + c_k v_k`` and ``v_k+1 = c_k s_k - p_k v_k``, written out in the old sections and
    the draw ``v_0``. The filter is ``1 + sum_k h_k / (z - p_k)``; the one-pole filters that it is made of are
    ``L s``, with ``L_km`` the m-th Takenaka-Malmquist function at ``1/z = p_k``.

    Parameters
    ----------
    pole, zero : (section,) arrays
        Distances from 1.

    Returns
    -------
    dict of arrays
        ``leak`` (section,): 1 - p; ``inlet`` (section,): weights of the draw; ``passed`` (section, section):
        weights of the earlier sections; ``weight`` (section,): weights of the output, L^T h.
    """
    n = pole.size
    same = jnp.eye(n, dtype=bool)
    ones = jnp.ones((n, 1), pole.dtype)
    gap = pole[None, :] - pole[:, None]  # p_k - p_j
    h = jnp.prod(zero[None, :] - pole[:, None], axis=1) / jnp.prod(jnp.where(same, 1.0, gap), axis=1)
    joint = pole[:, None] + pole[None, :] - pole[:, None] * pole[None, :]  # 1 - p_k p_j
    c = jnp.sqrt(pole * (2.0 - pole))
    through = jnp.concatenate([ones, jnp.cumprod(gap / joint, axis=1)[:, :-1]], axis=1)
    weight = h @ (c[None, :] / joint * through)
    # products of -p_m from behind j (or from the first) to before k
    turned = pole - 1.0
    index = jnp.arange(n)
    inside = (index > index[:, None, None]) & (index < index[None, :, None])  # (j, k, m)
    passed = jnp.prod(jnp.where(inside, turned, 1.0), axis=-1).T * c[:, None] * c[None, :]
    before = jnp.prod(jnp.where(index < index[:, None], turned, 1.0), axis=-1)
    return {"leak": pole, "inlet": c * before, "passed": passed, "weight": weight}
