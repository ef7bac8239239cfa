"""Connections and their delays as a network is given them: checked, and planned by the bounds they can take."""

from __future__ import annotations

from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import BrainloomError
from brainloom.core.units import UnitError, number


class DelayError(BrainloomError, ValueError):
    """Delays cannot be planned; the sentence says what is missing."""


def checked_weights(conn: Any, n: int, name: str, *, keep_diagonal: bool = False) -> Any:
    """Weights with the diagonal 0; kept as a numpy array where they are known, to find the connections."""
    known = not isinstance(conn, jax.core.Tracer)
    weights: Any = np.asarray(conn, dtype=float) if known else conn
    if weights.ndim == 1 and weights.size == n * n:
        weights = weights.reshape(n, n)
    if weights.shape != (n, n):
        raise ValueError(f"{name} has shape {weights.shape}; {n} regions need {(n, n)}")
    return weights if keep_diagonal else weights * (1.0 - np.eye(n, dtype=weights.dtype))


def planned_delays(
    time_unit: str, distance: Any, speed: Any, delay: Any, n: int, *, keep_diagonal: bool = False
) -> Any:
    """Delays as given, with the bounds that plan the history; None without delays."""
    if delay is not None:
        if distance is not None or speed is not None:
            raise ValueError("delay is given together with distance or speed; give one of them")
        concrete = np.broadcast_to(_known(delay, "time", "delay", time_unit), (n, n))
        if (concrete < 0).any() or not np.isfinite(concrete).all():
            raise ValueError("delay has negative or missing values; delays must be at least 0")
        return {"delay": concrete, "bounds": (concrete, concrete)} if concrete.any() else None
    if distance is None and speed is None:
        return None
    if distance is None or speed is None:
        missing, given = ("speed", "distance") if speed is None else ("distance", "speed")
        raise ValueError(f"{given} is given without {missing}; delays need both, or delay")
    far = _bounds(distance, "mm", "distance", n, keep_diagonal)
    fast = _bounds(speed, "mm/ms", "speed", n, keep_diagonal)
    if (fast[0] <= 0).any():
        raise ValueError(f"speed is {np.min(fast[0]):g}; it must be positive")
    if (far[0] < 0).any() or not np.isfinite(far[0]).all():
        raise ValueError("distance has negative or missing values; lengths must be at least 0")
    scale = 1.0 if time_unit == "ms" else 1e-3
    bounds = (scale * far[0] / fast[1], scale * far[1] / fast[0])
    return {"delay": None, "bounds": bounds} if bounds[1].any() else None


def _bounds(value: Any, unit: str, name: str, n: int, keep_diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value that a parameter of the delays can take."""
    if isinstance(value, brainstate.nn.Param) and value.fit:
        limits = [getattr(value.t, "lower", None), getattr(value.t, "upper", None)]
        if limits[1] is None and getattr(value.t, "width", None) is not None:
            limits[1] = limits[0] + value.t.width  # type: ignore[attr-defined]
        if limits[0] is None or limits[1] is None:
            raise DelayError(
                f"{name} is trainable without finite bounds; the length of the history follows from them, so give "
                f"Param(..., t=SigmoidT(low, high))"
            )
        found = [number(limit, unit, f"{name} of Network") for limit in limits]
    else:
        found = [_known(value, unit, name)] * 2
    if any(x.ndim and x.shape != (n, n) for x in found):
        raise ValueError(f"{name} has shape {found[0].shape}; {n} regions need a number or {(n, n)}")
    off = ~np.eye(n, dtype=bool)
    low, high = (np.broadcast_to(x, (n, n)) * 1.0 for x in found)
    if keep_diagonal:
        return low, high
    # the diagonal carries no connection; it must not decide how long a block is
    low, high = (np.where(off, x, x[off].min() if n > 1 else x) for x in (low, high))
    return low, high


def _known(value: Any, unit: str, name: str, time_unit: str = "ms") -> np.ndarray:
    try:
        return number(given_value(value), unit, f"{name} of Network", time_unit)
    except TypeError as error:
        if isinstance(error, UnitError):
            raise
        raise DelayError(
            f"{name} is traced, so the length of the history is unknown; make it a Param with finite bounds, "
            "as Param(value, t=SigmoidT(low, high)), and train that"
        ) from error


def connection_mask(weights: Any, n: int, keep_diagonal: bool) -> np.ndarray:
    """Where there are connections, or may come to be: everywhere if all weights are trained or traced."""
    known = getattr(weights, "connections", None)
    if known is not None:  # one parameter an edge, such as those of brainloom.fit.parameters.edges
        return known if keep_diagonal else known & ~np.eye(n, dtype=bool)
    if isinstance(weights, (brainstate.nn.Param, jax.core.Tracer)):
        return np.ones((n, n), dtype=bool) if keep_diagonal else ~np.eye(n, dtype=bool)
    return np.asarray(weights) != 0


def counted_weights(weights: Any, keep_diagonal: bool) -> jax.Array:
    """Weights as a plain array, without self-connections where they do not count."""
    found = plain_value(weights)
    return found if keep_diagonal else found * (1.0 - jnp.eye(len(found), dtype=found.dtype))


def given_value(value: Any) -> Any:
    return value.value() if isinstance(value, brainstate.nn.Param) else value


def plain_value(value: Any) -> jax.Array:
    return jnp.asarray(given_value(value), jnp.result_type(float))
