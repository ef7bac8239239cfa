"""What every objective does: read signals and features by type, check them, and return one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.units import UnitError, number
from brainloom.objectives.features import Feature


class Objective:
    """
    A comparison with its options: ``objective(prediction, target) -> number``.

    Made by the functions of this package, such as ``fc_rmse()``. It has no state, so it may be used under
    ``jit``, ``grad`` and ``vmap``, be shared and pickled.

    Parameters
    ----------
    name : str
        Of the function that makes it.
    compare : callable
        ``compare(prediction, target, who, **options) -> scalar``, a function of a module; `who` names the
        objective in messages.
    options : dict
    """

    def __init__(self, name: str, compare: Callable[..., Any], **options: Any) -> None:
        self.name, self._compare, self.options = name, compare, options

    def __call__(self, prediction: Any, target: Any) -> jax.Array:
        """
        Compare.

        Raises
        ------
        TypeError
            Neither a signal nor a feature of the right type.
        UnitError
            The units cannot be compared.
        ValueError
            Shapes do not fit; outside of tracing also: samples or the result are not finite. A traced result
            that is not finite stays so.
        """
        value = self._compare(prediction, target, self.name, **self.options)
        check_result(value, self.name)
        return value

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.options.items())})"


def concrete(value: Any) -> bool:
    """Whether the numbers are known, that is not traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def known(value: Any) -> np.ndarray | None:
    """The numbers of an array or Quantity as they were given, also while others are traced; None if they are traced."""
    return np.asarray(getattr(value, "mantissa", value)) if concrete(value) else None


def check_finite(value: Any, who: str, role: str) -> None:
    """Raise if numbers that are known are not finite, and say where the first is."""
    x = known(value)
    wrong = ~np.isfinite(x) if x is not None else None
    if wrong is not None and wrong.any():
        first = tuple(int(i[0]) for i in np.nonzero(wrong))
        raise ValueError(
            f"the {role} of {who} has {int(wrong.sum())} values that are not finite, the first at index {first}; "
            "leave these samples or regions out, or fill them"
        )


def check_result(value: Any, who: str) -> None:
    """Raise if the number that an objective comes to is known and not finite."""
    if concrete(value) and not np.isfinite(value):
        raise ValueError(
            f"{who} is {float(value)} for this prediction and target; "
            "look for values that are too large, or a matrix that is not positive definite"
        )


def split_unit(value: Any) -> tuple[jax.Array, u.Unit]:
    """Array of floating-point (or complex) numbers, and its unit."""
    unit = u.get_unit(value)
    x = jnp.asarray(value.mantissa if isinstance(value, u.Quantity) else value)
    return (x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))), unit


def scale_to(unit: u.Unit, wanted: u.Unit, power: int = 1) -> float:
    """
    Factor that turns a prediction in `unit` into the unit of the target.

    Raises
    ------
    UnitError
        They differ in dimension; `power` is only for the message: that of the signal's unit.
    """
    if unit.dim != wanted.dim:
        raise UnitError(f"the prediction is in {unit}, but the target in {wanted}; use the same unit")
    return float(u.Quantity(1.0, unit=unit).to_decimal(wanted))


def seconds(value: Any, name: str) -> float:
    """A duration that is known before compiling, in s; plain numbers are seconds."""
    found = float(number(value, "s", name))
    if not found > 0.0:
        raise ValueError(f"{name} is {found:g} s; it must be positive")
    return found


def hertz(band: Sequence[Any] | None, name: str = "band") -> tuple[float, float] | None:
    """A frequency band in Hz, or None."""
    if band is None:
        return None
    low, high = (float(number(edge, "Hz", name)) for edge in band)
    if not 0.0 <= low < high:
        raise ValueError(f"{name} is ({low:g}, {high:g}) Hz; it must be rising and not negative")
    return low, high


def one_of(value: str, allowed: Sequence[str], name: str) -> str:
    """An option out of a list."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")
    return value


def _article(kinds: Sequence[type]) -> str:
    return " or ".join(f"objectives.{kind.__name__}(...)" for kind in kinds)


def is_feature(value: Any, who: str, role: str, *kinds: type) -> bool:
    """
    True for a feature of one of the types, False for an array.

    Raises
    ------
    TypeError
        Any other feature; what is neither a feature nor an array.
    ValueError
        A dict.
    """
    takes = "a signal (time, ..., region)" + (f" or {_article(kinds)}" if kinds else "")
    if isinstance(value, Feature):
        if isinstance(value, kinds):
            return True
        raise TypeError(f"the {role} of {who} is {type(value).__name__}; it takes {takes}")
    if isinstance(value, Mapping):
        raise ValueError(
            f"the {role} is a dict of {', '.join(map(str, value))}; let predict return one of them, "
            "or choose with objectives.on(key, objective)"
        )
    if value is None or isinstance(value, (str, bytes)) or callable(value):
        raise TypeError(f"the {role} of {who} is {value!r}; it takes {takes}")
    return False


def read_signal(
    value: Any, who: str, role: str, feature: type | None = None, least: int = 2
) -> tuple[jax.Array, u.Unit]:
    """
    A signal as (time, realisation, region), and its unit.

    Parameters
    ----------
    value : array or Quantity (time, ..., region)
    who, role : str
        Objective, and "prediction" or "target", for messages.
    feature : type, optional
        What a matrix should have been wrapped in.
    least : int
        Samples that are needed.
    """
    x, unit = split_unit(value)
    if jnp.iscomplexobj(x):
        raise TypeError(f"the {role} of {who} is complex; give a real signal such as its real part")
    if x.ndim < 2:
        raise ValueError(
            f"the {role} of {who} has shape {x.shape}; it must be (time, ..., region), with one region (time, 1)"
        )
    if feature is not None and _is_correlation(known(value)):
        raise TypeError(
            f"the {role} of {who} is a plain array, which is read as a signal (time, region), but it looks like "
            f"a matrix of correlations; write objectives.{feature.__name__}(matrix)"
        )
    if x.shape[0] < least:
        raise ValueError(f"the {role} of {who} has {x.shape[0]} samples; it needs at least {least}")
    check_finite(value, who, role)
    return x.reshape(x.shape[0], -1, x.shape[-1]), unit


def _is_correlation(x: np.ndarray | None) -> bool:
    if x is None or x.ndim != 2 or x.shape[0] != x.shape[1] or x.shape[0] < 2:
        return False
    return bool(np.allclose(np.diagonal(x), 1.0, atol=1e-6) and np.allclose(x, x.T, atol=1e-6))


def read_matrix(value: Any, who: str, role: str) -> tuple[jax.Array, u.Unit]:
    """The matrix of a feature (..., n, n), averaged over leading axes, and its unit."""
    x, unit = split_unit(value)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"the matrix of the {role} of {who} has shape {x.shape}; it must be (..., n, n)")
    check_finite(value, who, role)
    return x.reshape(-1, *x.shape[-2:]).mean(axis=0), unit


def same_shape(a: jax.Array, b: jax.Array, who: str) -> None:
    """Raise unless prediction and target have the same shape."""
    if a.shape != b.shape:
        raise ValueError(
            f"{who} compares shapes that differ: {a.shape} of the prediction, {b.shape} of the target; "
            "give both for the same regions"
        )
