"""The methods of scipy.optimize.minimize, with exact gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from scipy import optimize

from brainloom.fit.horizon import Horizon
from brainloom.fit.record import UNKNOWN, Record
from brainloom.fit.resume import Tape
from brainloom.fit.task import Task
from brainloom.fit.trainable import Leaves

# Methods of scipy that take no gradient.
GRADIENT_FREE = ("nelder-mead", "powell", "cobyla", "cobyqa")


def minimise(task: Task) -> None:
    """
    ``scipy.optimize.minimize`` with exact gradients, one start after the other.

    Where the loss is not finite, scipy sees a wall: a parabola around the last good point, far above its loss, so
    that line searches turn back.

    Parameters
    ----------
    task : Task
        Its optimizer is the name of a method, ``"L-BFGS-B"`` if not given, or the keywords ``method``, ``tol`` and
        ``options``. A step is an iteration, which has one or more evaluations.
    """
    keywords = _keywords(task.optimizer)
    method = keywords.pop("method", "L-BFGS-B")
    sloped = method.lower() not in GRADIENT_FREE
    loss = task.loss
    evaluate = loss.compiled(
        ("scipy", sloped), lambda: jax.jit(jax.value_and_grad(loss, has_aux=True) if sloped else loss)
    )
    tape, horizon = Tape(task.checkpoint), Horizon()
    for start, record in zip(task.starts, task.records, strict=True):
        _minimise(task, keywords, method, sloped, evaluate, tape, horizon, start, record)
        if record.called_off:
            break
    tape.save(last=True)


def _minimise(
    task: Task,
    keywords: dict[str, Any],
    method: str,
    sloped: bool,
    evaluate: Any,
    tape: Tape,
    horizon: Horizon,
    start: Leaves,
    record: Record,
) -> None:
    """One start."""
    trainable, fixed = task.trainable, task.loss.fixed
    settings = {"maxiter": task.steps, **keywords.get("options", {})}
    good: tuple[np.ndarray, float] | None = None

    def fun(x: np.ndarray) -> Any:
        nonlocal good
        leaves = trainable.unflat(x)

        def compute() -> tuple:
            found = evaluate(leaves, fixed)
            (value, aux), slope = (found[0], trainable.flat(found[1])[None]) if sloped else (found, None)
            return np.asarray(value, float).reshape(1), slope, aux

        values, slopes, aux, replayed = tape.evaluate(x[None], compute)
        slope = np.zeros_like(x) if slopes is None else slopes[0]
        usable = bool(np.isfinite(values[0]) and np.isfinite(slope).all())
        known = task.loss.has_aux and aux is not None
        over = record.add(leaves, values[0], usable, aux if known else UNKNOWN, silent=replayed)
        tape.save()
        if over:
            raise _EndedError
        if usable and sloped and good is None and not replayed:
            look_ahead(leaves, values[0], slope)
        if usable:
            good = (x.copy(), float(values[0]))
        seen = (float(values[0]), slope) if usable else _wall(x, good)
        return seen if sloped else seen[0]

    def look_ahead(leaves: Leaves, value: float, slope: np.ndarray) -> None:
        like = trainable.leaves()

        def losses(points: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
            typed = [[x.astype(y.dtype) for x, y in zip(point, like, strict=True)] for point in points]
            found = np.array([float(evaluate(point, fixed)[0][0]) for point in typed])
            return found, np.isfinite(found)

        at = [np.asarray(leaf) for leaf in leaves]
        slopes = [[np.asarray(leaf) for leaf in trainable.unflat(slope)]]
        horizon.at_start([at], [value], slopes, task.scales, (task.low, task.high), losses)

    def count(*_: Any, **__: Any) -> None:
        record.n_steps += 1

    low, high = trainable.flat(task.low), trainable.flat(task.high)
    limits = optimize.Bounds(low, high) if np.isfinite([low, high]).any() else None
    try:
        found = optimize.minimize(
            fun,
            trainable.flat(start),
            jac=sloped or None,
            method=method,
            bounds=limits,
            callback=count,
            **{**keywords, "options": settings},
        )
    except _EndedError:
        return
    record.message, record.converged = str(found.message), bool(found.success)
    record.n_steps = int(found.get("nit", record.n_steps))


class _EndedError(Exception):
    """The record wants the start to end."""


def _wall(x: np.ndarray, good: tuple[np.ndarray, float] | None) -> tuple[float, np.ndarray]:
    """A value far above that of the last good point, with the slope of a parabola around it."""
    assert good is not None  # the record refuses a start that is not finite
    away = x - good[0]
    height = 10.0 * (1.0 + abs(good[1]))
    return good[1] + height, 2.0 * height * away / max(float(away @ away), np.finfo(float).tiny)


def _keywords(options: Any) -> dict[str, Any]:
    if options is None or isinstance(options, str):
        return {"method": options or "L-BFGS-B"}
    if not isinstance(options, Mapping) or set(options) - {"method", "tol", "options"}:
        raise TypeError(
            "backend 'scipy' takes the name of a method of scipy.optimize.minimize, or a dict of its "
            f"method, tol and options, not {options if isinstance(options, Mapping) else type(options).__name__}"
        )
    return dict(options)
