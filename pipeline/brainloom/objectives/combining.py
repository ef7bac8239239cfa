"""Objectives made of others: weighted sums, and parts of predictions that are dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from brainloom.objectives.base import Objective


def combine(*weighted_objectives: tuple[Any, Callable[[Any, Any], Any]]) -> Objective:
    """
    Weighted sum: ``sum(weight * objective(prediction, target))``.

    Parameters
    ----------
    *weighted_objectives : (weight, objective)
        Any callables of prediction and target that return a number. With several modalities, choose what each
        compares by `on`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from brainloom.objectives import fc_corr, timeseries_rmse
    >>> loss = combine((2.0, timeseries_rmse()), (0.5, timeseries_rmse()))
    >>> float(loss(jnp.ones((10, 3)), jnp.zeros((10, 3))))
    2.5
    """
    if not weighted_objectives:
        raise ValueError("give at least one pair (weight, objective)")
    for pair in weighted_objectives:
        if not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]) or callable(pair[0]):
            raise TypeError(f"combine takes pairs (weight, objective), not {pair!r}")
    return Objective("combine", _combine, pairs=weighted_objectives)


def _combine(prediction: Any, target: Any, who: str, pairs: tuple) -> jax.Array:
    return sum((jnp.asarray(w) * objective(prediction, target) for w, objective in pairs), jnp.asarray(0.0))


def on(key: str, objective: Callable[[Any, Any], Any], target: str | None = None) -> Objective:
    """
    The objective on one entry of a prediction that is a dict, such as the result of ``Simulator.run``.

    Parameters
    ----------
    key : str
        Entry of the prediction.
    objective : callable
    target : str, optional
        Entry of the target if that is a dict; `key` if not given.

    Examples
    --------
    >>> import numpy as np
    >>> from brainloom.objectives import FC, fc_rmse, psd_log
    >>> x = np.random.default_rng(0).normal(size=(500, 4))
    >>> both = combine((1.0, on("bold", fc_rmse())), (0.1, on("eeg", psd_log(dt=0.004))))
    >>> float(both({"bold": x, "eeg": x}, {"bold": FC(np.corrcoef(x.T)), "eeg": x})) < 1e-3
    True
    """
    if not callable(objective):
        raise TypeError(f"objective is {objective!r}; give one such as fc_rmse()")
    return Objective("on", _on, key=key, objective=objective, target=key if target is None else target)


def _on(prediction: Any, wanted: Any, who: str, key: str, objective: Any, target: str) -> jax.Array:
    if not isinstance(prediction, Mapping):
        raise TypeError(
            f"on({key!r}, ...) takes a prediction that is a dict, not {type(prediction).__name__}"
        )
    if isinstance(wanted, Mapping):
        wanted = _entry(wanted, target, "target")
    return objective(_entry(prediction, key, "prediction"), wanted)


def _entry(values: Mapping, key: str, role: str) -> Any:
    if key not in values:
        raise ValueError(f"the {role} has no entry {key!r}; it has {', '.join(map(str, values))}")
    return values[key]
