"""Noise of one region at a time or correlated between regions: white, Ornstein-Uhlenbeck, Brownian, multiplicative."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from brainloom.noise.base import Arrays, NoiseProcess


class WhiteNoise(NoiseProcess):
    r"""
    White noise of a state: ``sigma dW``.

    A step adds :math:`\sigma \sqrt{dt}\, L z` to the state, z unit-variance draws and :math:`L L^T = C`, so the
    increments of regions i and j have the covariance :math:`\sigma_i \sigma_j C_{ij} dt`.

    Parameters
    ----------
    sigma : float, array (region,), Quantity or Param
        Amplitude, state/sqrt(time). A variance rate D (``<dx^2> = 2 D dt``) is ``sigma_from_variance_rate(D)``.
    in_size : int, optional
        Number of regions.
    correlation : (region, region) array or Param, optional
        Correlation (or covariance) C of the regions, symmetric and positive definite; independent if not given.

    Raises
    ------
    ValueError
        `sigma` is negative, or `correlation` is not symmetric and positive definite or has the wrong size.

    Examples
    --------
    >>> import numpy as np
    >>> noise = WhiteNoise(0.1, correlation=0.5 * np.eye(3) + 0.5)
    """

    PARAMETERS: ClassVar[dict[str, str]] = {"sigma": "[unit]/sqrt(time)", "correlation": "1"}
    WHITE: ClassVar[bool] = True

    def __init__(self, sigma: Any, *, in_size: int | None = None, correlation: Any = None) -> None:
        super().__init__(in_size)
        self.sigma = not_negative(sigma, "sigma", self)
        self.correlation = correlation
        _check_correlation(self)

    def structure(self) -> tuple:
        """The class, and whether regions are correlated."""
        return (type(self), self.correlation is not None)

    def parameter_values(self, unit: str, time_unit: str, owner: str) -> Arrays:
        """See `NoiseProcess.parameter_values`; ``factor`` is the lower Cholesky factor of the correlation."""
        return _with_factor(super().parameter_values(unit, time_unit, owner))

    @classmethod
    def interpretation(cls, structure: tuple) -> str:
        """``additive``: Ito and Stratonovich agree."""
        return "additive"

    @classmethod
    def kick(
        cls, structure: tuple, params: Arrays, state: jax.Array, increment: jax.Array, dt: Any
    ) -> jax.Array:
        """``sigma sqrt(dt) L z``; see `NoiseProcess.kick`."""
        return params["sigma"] * jnp.sqrt(dt) * _mixed(params, increment)


class MultiplicativeNoise(NoiseProcess):
    r"""
    White noise whose amplitude depends on the state: ``g(x) dW`` with ``g(x) = sigma function(x)``.

    In the sense of Ito unless ``stratonovich=True``. The Stratonovich equation
    :math:`dx = f\,dt + g(x) \circ dW` is the Ito equation with the drift :math:`f + \tfrac12 g g'`. For
    geometric Brownian motion, ``g(x) = sigma x`` and f = 0, the mean stays constant (Ito) or grows as
    :math:`e^{\sigma^2 t/2}` (Stratonovich). An integrator of the other kind gets the drift that makes up for it.

    Parameters
    ----------
    function : callable, optional
        ``function(x) -> array`` of the state of a region, as plain numbers in its unit; differentiable. By
        default x itself. Give the same function object again to reuse a compiled program.
    sigma : float, array (region,), Quantity or Param
        1/sqrt(time).
    stratonovich : bool
    in_size : int, optional
        Number of regions.
    """

    PARAMETERS: ClassVar[dict[str, str]] = {"sigma": "1/sqrt(time)"}
    WHITE: ClassVar[bool] = True

    def __init__(
        self,
        function: Callable[[jax.Array], jax.Array] | None = None,
        *,
        sigma: Any = 1.0,
        stratonovich: bool = False,
        in_size: int | None = None,
    ) -> None:
        super().__init__(in_size)
        if function is not None and not callable(function):
            raise TypeError(
                f"function is {function!r}, which cannot be called; give the amplitude as sigma={function!r}"
            )
        self.function = function
        self.sigma = not_negative(sigma, "sigma", self)
        self.stratonovich = bool(stratonovich)

    def structure(self) -> tuple:
        """The class, how the integral is meant, and the function."""
        return (type(self), "stratonovich" if self.stratonovich else "ito", self.function)

    @classmethod
    def interpretation(cls, structure: tuple) -> str:
        """``ito`` or ``stratonovich``."""
        return structure[1]

    @classmethod
    def kick(
        cls, structure: tuple, params: Arrays, state: jax.Array, increment: jax.Array, dt: Any
    ) -> jax.Array:
        """``sigma function(x) sqrt(dt) z``; see `NoiseProcess.kick`."""
        shape = state if structure[2] is None else structure[2](state)
        return params["sigma"] * shape * jnp.sqrt(dt) * increment


class OUProcess(NoiseProcess):
    r"""
    Ornstein-Uhlenbeck process: a signal with the autocorrelation :math:`\sigma^2 e^{-|s|/\tau}`.

    .. math:: dx = \frac{\mathrm{mean} - x}{\tau} dt + \sigma \sqrt{2/\tau}\, dW

    The step is exact for any dt, :math:`x \leftarrow m + (x - m) e^{-dt/\tau} +
    \sigma \sqrt{1 - e^{-2 dt/\tau}}\, z` (Gillespie 1996, Phys Rev E 54:2084), and the start is drawn from the
    stationary law. Correlated regions have the covariance :math:`\sigma_i \sigma_j C_{ij}` if tau is shared.

    Parameters
    ----------
    in_size : int, optional
        Number of regions.
    mean : float, array (region,), Quantity or Param
        Unit of what the signal is added to: state/time, or that of the port.
    sigma : float, array (region,), Quantity or Param
        Stationary standard deviation, same unit. Other conventions: `sigma_from_scaled_time`,
        `sigma_from_time_constant`, `sigma_from_rate`.
    tau : float, array (region,), Quantity or Param
        Correlation time.
    correlation : (region, region) array or Param, optional
        Correlation C of the regions, symmetric and positive definite; independent if not given.

    Raises
    ------
    ValueError
        `sigma` is negative, `tau` is not positive, or `correlation` does not fit.

    Examples
    --------
    >>> import brainunit as u
    >>> drive = OUProcess(90, sigma=0.05 * u.nA, tau=5.0 * u.ms)
    """

    PARAMETERS: ClassVar[dict[str, str]] = {
        "mean": "[unit]",
        "sigma": "[unit]",
        "tau": "time",
        "correlation": "1",
    }

    def __init__(
        self, in_size: int | None = None, *, mean: Any = 0.0, sigma: Any, tau: Any, correlation: Any = None
    ) -> None:
        super().__init__(in_size)
        self.mean = mean
        self.sigma = not_negative(sigma, "sigma", self)
        self.tau = positive(tau, "tau", self)
        self.correlation = correlation
        _check_correlation(self)

    def structure(self) -> tuple:
        """The class, and whether regions are correlated."""
        return (type(self), self.correlation is not None)

    def parameter_values(self, unit: str, time_unit: str, owner: str) -> Arrays:
        """See `NoiseProcess.parameter_values`; ``factor`` is the lower Cholesky factor of the correlation."""
        return _with_factor(super().parameter_values(unit, time_unit, owner))

    @classmethod
    def start(cls, structure: tuple, params: Arrays, normal: jax.Array) -> Arrays:
        """A draw of the stationary law; see `NoiseProcess.start`."""
        return {"value": params["mean"] + params["sigma"] * _mixed(params, normal[0])}

    @classmethod
    def prepare(cls, structure: tuple, params: Arrays, dt: Any) -> Arrays:
        """Parameters and the two factors of a step, for `advance`."""
        rate = dt / params["tau"]
        spread = params["sigma"] * jnp.sqrt(-jnp.expm1(-2.0 * rate))
        return params | {"decay": jnp.exp(-rate), "spread": spread}

    @classmethod
    def advance(
        cls, structure: tuple, params: Arrays, state: Arrays, increment: jax.Array, dt: Any
    ) -> Arrays:
        """The exact step; see `NoiseProcess.advance`. Parameters may come from `prepare`."""
        p = params if "decay" in params else cls.prepare(structure, params, dt)
        deviation = (state["value"] - p["mean"]) * p["decay"]
        return {"value": p["mean"] + deviation + p["spread"] * _mixed(p, increment)}


class BrownianNoise(NoiseProcess):
    r"""
    Brownian motion as a signal: :math:`x \leftarrow x + \sigma \sqrt{dt}\, z` from 0, variance :math:`\sigma^2 t`.

    It has no stationary law; `BrownNoise` has, with the same slope of the spectrum.

    Parameters
    ----------
    in_size : int, optional
        Number of regions.
    sigma : float, array (region,), Quantity or Param
        Unit of what the signal is added to, per sqrt(time).
    """

    PARAMETERS: ClassVar[dict[str, str]] = {"sigma": "[unit]/sqrt(time)"}

    def __init__(self, in_size: int | None = None, *, sigma: Any) -> None:
        super().__init__(in_size)
        self.sigma = not_negative(sigma, "sigma", self)

    @classmethod
    def start(cls, structure: tuple, params: Arrays, normal: jax.Array) -> Arrays:
        """Zero; see `NoiseProcess.start`."""
        return {"value": jnp.zeros_like(normal[0])}

    @classmethod
    def advance(
        cls, structure: tuple, params: Arrays, state: Arrays, increment: jax.Array, dt: Any
    ) -> Arrays:
        """One increment; see `NoiseProcess.advance`."""
        return {"value": state["value"] + params["sigma"] * jnp.sqrt(dt) * increment}


# --- other conventions: each gives the sigma of this package, for numbers, arrays and quantities ------------


def sigma_from_variance_rate(rate: Any) -> Any:
    """
    Amplitude of white noise from its variance rate D, ``<dx^2> = 2 D dt``: ``sqrt(2 D)``.

    Parameters
    ----------
    rate : number, array or Quantity
        state^2/time.

    Returns
    -------
    state/sqrt(time)
    """
    return (2.0 * rate) ** 0.5


def sigma_from_time_constant(s: Any, tau: Any) -> Any:
    """
    Stationary standard deviation of ``tau dx = -x dt + s dW``: ``s / sqrt(2 tau)``.

    Parameters
    ----------
    s : number, array or Quantity
        unit * sqrt(time).
    tau : number, array or Quantity
    """
    return s / (2.0 * tau) ** 0.5


def sigma_from_scaled_time(s: Any) -> Any:
    """
    Stationary standard deviation of ``dx = -x/tau dt + s/sqrt(tau) dW``: ``s / sqrt(2)``.

    Parameters
    ----------
    s : number, array or Quantity
        Unit of x.
    """
    return s / math.sqrt(2.0)


def sigma_from_rate(s: Any, theta: Any) -> Any:
    """
    Stationary standard deviation of ``dx = -theta x dt + s dW``: ``s / sqrt(2 theta)``; tau is 1/theta.

    Parameters
    ----------
    s : number, array or Quantity
        unit/sqrt(time).
    theta : number, array or Quantity
        1/time.
    """
    return s / (2.0 * theta) ** 0.5


# --- checks ---------------------------------------------------------------------------------------------------


def not_negative(value: Any, name: str, owner: NoiseProcess) -> Any:
    """The value, if no known number in it is negative."""
    known = _known(value)
    if known is not None and not np.all(known >= 0.0):
        raise ValueError(f"{name} of {type(owner).__name__} is {value}; it must not be negative")
    return value


def positive(value: Any, name: str, owner: NoiseProcess) -> Any:
    """The value, if every known number in it is positive."""
    known = _known(value)
    if known is not None and not np.all(known > 0.0):
        raise ValueError(f"{name} of {type(owner).__name__} is {value}; it must be positive")
    return value


def _known(value: Any) -> np.ndarray | None:
    """Numbers of a value as they stand now; None while it is traced."""
    if hasattr(value, "reg_loss"):  # a brainstate Param
        value = value.value()
    value = getattr(value, "mantissa", value)
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def _check_correlation(process: Any) -> None:
    matrix = None if process.correlation is None else _known(process.correlation)
    if matrix is None:
        return
    name = f"correlation of {type(process).__name__}"
    n = process.in_size
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or (n is not None and matrix.shape[0] != n):
        wanted = "(region, region)" if n is None else f"({n}, {n})"
        raise ValueError(f"{name} has the shape {matrix.shape}; it must be {wanted}")
    # in single precision two entries that are meant to be the same differ by rounding
    if not np.allclose(matrix, matrix.T, rtol=0.0, atol=1e-6 * np.abs(matrix).max()):
        raise ValueError(f"{name} is not symmetric")
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    if not lowest > 0.0:
        raise ValueError(
            f"{name} must be positive definite, but its lowest eigenvalue is {lowest:.3g}; "
            "fully shared noise can be had with a correlation just below 1"
        )


def _with_factor(values: Arrays) -> Arrays:
    if "correlation" in values:
        values["factor"] = jnp.linalg.cholesky(values.pop("correlation"))
    return values


def _mixed(params: Arrays, draws: jax.Array) -> jax.Array:
    """``L z`` of every batch member, the covariance of which is ``L L^T``."""
    return draws @ params["factor"].T if "factor" in params else draws
