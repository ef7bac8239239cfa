"""
Transforms between unconstrained numbers and values with bounds and units.

They are transforms of brainstate that stay exact where its own clip the exponent (from 20 on), that keep units, and
that refuse values outside of their range. Unconstrained values are plain numbers.
"""

from __future__ import annotations

from typing import Any

# Before brainstate, which resets jax to single precision when it is imported.
import brainloom.models  # noqa: F401
from brainloom.core.units import UnitError, parse

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

Transform = brainstate.nn.Transform
math: Any = u.math  # its functions are not declared
NAMES = ("positive", "log", "softplus", "ordered")


class Scale(brainstate.nn.AffineT):
    """``y = scale x``, any value; the unit of `scale` is that of the values."""

    def __init__(self, scale: Any) -> None:
        super().__init__(scale, 0.0 * one_of(scale))

    def forward(self, x: Any) -> Any:
        return x * self.a

    def inverse(self, y: Any) -> Any:
        return _ratio(y, self.a)


class Interval(brainstate.nn.SigmoidT):
    """``y = low + (high - low) / (1 + exp(-x))``, values between `low` and `high`; bounds may be arrays."""

    def __init__(self, low: Any, high: Any) -> None:
        width = _ratio(high - low, one_of(low))
        if not (np.asarray(width, dtype=float) > 0.0).all():
            raise ValueError(f"the interval is ({low}, {high}); its low end must lie below the high one")
        super().__init__(low, high)
        self.upper = high

    def forward(self, x: Any) -> Any:
        # from the nearer end, so that small distances from both are kept
        return math.where(
            x < 0.0, self.lower + self.width * jax.nn.sigmoid(x), self.upper - self.width * jax.nn.sigmoid(-x)
        )

    def inverse(self, y: Any) -> Any:
        return jnp.log(_ratio(y - self.lower, self.width)) - jnp.log(_ratio(self.upper - y, self.width))


class Log(brainstate.nn.LogT):
    """``y = lower + scale exp(x)``, values above `lower`: equal steps of x are equal ratios of ``y - lower``."""

    def __init__(self, lower: Any, scale: Any = None) -> None:
        super().__init__(lower)
        self.scale = one_of(lower) if scale is None else scale

    def forward(self, x: Any) -> Any:
        return self.lower + jnp.exp(x) * self.scale

    def inverse(self, y: Any) -> Any:
        return jnp.log(_ratio(y - self.lower, self.scale))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return _last_sum(x + jnp.log(jnp.asarray(u.get_mantissa(self.scale))))


class Softplus(brainstate.nn.SoftplusT):
    """``y = lower + scale log(1 + exp(x))``, values above `lower`: linear where ``y - lower`` is above `scale`."""

    def __init__(self, lower: Any, scale: Any = None) -> None:
        super().__init__(lower)
        self.scale = one_of(lower) if scale is None else scale

    def forward(self, x: Any) -> Any:
        return self.lower + jax.nn.softplus(x) * self.scale

    def inverse(self, y: Any) -> Any:
        z = _ratio(y - self.lower, self.scale)
        return z + jnp.log(-jnp.expm1(-z))

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return _last_sum(jax.nn.log_sigmoid(x) + jnp.log(jnp.asarray(u.get_mantissa(self.scale))))


class Ordered(brainstate.nn.OrderedT):
    """``y_1 = scale x_1``, ``y_i = y_(i-1) + scale log(1 + exp(x_i))``: values that increase along the last axis."""

    def __init__(self, scale: Any = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Any) -> Any:
        gaps = jnp.concatenate([x[..., :1], jax.nn.softplus(x[..., 1:])], axis=-1)
        return jnp.cumsum(gaps, axis=-1) * self.scale

    def inverse(self, y: Any) -> Any:
        z = _ratio(y, self.scale)
        gaps = z[..., 1:] - z[..., :-1]
        return jnp.concatenate([z[..., :1], gaps + jnp.log(-jnp.expm1(-gaps))], axis=-1)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        scale = jnp.log(jnp.asarray(u.get_mantissa(self.scale)))
        return jnp.sum(jax.nn.log_sigmoid(x[..., 1:]), axis=-1) + jnp.shape(x)[-1] * scale


def one_of(value: Any) -> Any:
    """1 in the unit of a value."""
    unit = u.get_unit(value)
    return 1.0 if unit == u.UNITLESS else 1.0 * unit


def with_unit(value: Any, unit: Any, name: str = "the value") -> Any:
    """
    A value as a double array or quantity.

    Parameters
    ----------
    value : number, array or Quantity
    unit : str, Unit, Quantity or None
        Put on plain numbers; quantities are converted to it.
    name : str
        What the value is, for the message.

    Raises
    ------
    UnitError
        The value has another dimension.
    """
    if unit is None:
        return value if isinstance(value, u.Quantity) else jnp.asarray(value, jnp.result_type(float))
    unit = parse(unit) if isinstance(unit, str) else u.get_unit(unit)
    if isinstance(value, u.Quantity):
        if value.dim != unit.dim:
            raise UnitError(
                f"{name} is given in {value.unit}, but its unit is {unit}; give a quantity that fits"
            )
        return value.in_unit(unit)
    value = jnp.asarray(value, jnp.result_type(float))
    return value if unit == u.UNITLESS else value * unit


def transform_of(t: Any, value: Any) -> Transform:
    """
    The transform that a short name stands for.

    Parameters
    ----------
    t : None, str, (low, high) or Transform
        None: any value. ``"positive"`` or ``"log"``: above 0, in equal ratios; ``"softplus"``: above 0;
        ``"ordered"``: increasing along the last axis. Plain bounds are in the unit of the value.
    value : number, array or Quantity
        Where the parameter starts: its unit and size set the scale of ``softplus`` and ``ordered``.

    Returns
    -------
    brainstate.nn.Transform
    """
    unit, one = u.get_unit(value), one_of(value)
    if t is None:
        return brainstate.nn.IdentityT() if unit == u.UNITLESS else Scale(one)
    if isinstance(t, Transform):
        return t
    if isinstance(t, tuple) and len(t) == 2:
        low, high = (with_unit(end, unit, "an end of the interval") for end in t)
        return Interval(low, high)
    if t in ("positive", "log"):
        return Log(0.0 * one)
    size = jnp.mean(jnp.abs(jnp.asarray(u.get_mantissa(value))))
    if t == "softplus":
        return Softplus(0.0 * one, _usable(size) * one)
    if t == "ordered":
        if jnp.ndim(u.get_mantissa(value)) < 1 or jnp.shape(u.get_mantissa(value))[-1] < 2:
            raise ValueError(
                "ordered values are an array of at least two; give one value a place in the order"
            )
        gaps = jnp.diff(jnp.asarray(u.get_mantissa(value)), axis=-1)
        return Ordered(_usable(jnp.mean(jnp.abs(gaps))) * one)
    raise ValueError(f"t is {t!r}; it must be None, (low, high), a transform or one of {', '.join(NAMES)}")


def raw_of(t: Transform, value: Any, name: str = "the value") -> Any:
    """
    The unconstrained numbers of a value.

    Raises
    ------
    ValueError
        The value is not strictly inside the range of the transform.
    UnitError
        The value has not the unit of the transform.
    """
    try:
        raw = t.inverse(value)
    except (u.UnitMismatchError, u.DimensionMismatchError) as error:
        raise UnitError(
            f"{name} is given in {u.get_unit(value)}, which does not fit the range {describe(t)}"
        ) from error
    leaves = jax.tree.leaves(raw)
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
        return raw
    if not all(np.isfinite(np.asarray(x, dtype=float)).all() for x in leaves):
        raise ValueError(
            f"{name} is {_short(value)}, which is not strictly inside the range {describe(t)}; move it inside"
        )
    return raw


def describe(t: Transform) -> str:
    """The range of a transform in words."""
    low, high = getattr(t, "lower", None), getattr(t, "upper", None)
    if high is not None:
        return f"({_short(low)}, {_short(high)})"
    if isinstance(t, (brainstate.nn.LogT, brainstate.nn.SoftplusT, brainstate.nn.ExpT)):
        return f"({_short(low)}, inf)"
    if isinstance(t, brainstate.nn.OrderedT):
        return "increasing values"
    return str(t)


def _ratio(value: Any, scale: Any) -> Any:
    """A ratio of two values of the same dimension as a plain array."""
    found = value / scale
    if not isinstance(found, u.Quantity):
        return jnp.asarray(found)
    if found.dim != u.DIMENSIONLESS:
        raise UnitError(f"a value in {u.get_unit(value)} cannot be compared with one in {u.get_unit(scale)}")
    return found.to_decimal()


def _last_sum(x: Any) -> Any:
    return jnp.sum(x, axis=-1) if jnp.ndim(x) else x


def _usable(size: Any) -> Any:
    """A scale that is a positive number whatever the start."""
    return jnp.where(jnp.isfinite(size) & (size > 0.0), size, 1.0)


def _short(value: Any) -> str:
    numbers = np.asarray(u.get_mantissa(value), dtype=float)
    unit = "" if u.get_unit(value) == u.UNITLESS else f" {u.get_unit(value)}"
    if numbers.size == 1:
        return f"{numbers.item():.6g}{unit}"
    return f"{np.nanmin(numbers):.6g} to {np.nanmax(numbers):.6g}{unit}"
