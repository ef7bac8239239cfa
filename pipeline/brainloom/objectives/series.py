"""Objectives that compare two signals sample by sample."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from brainloom.objectives.arrays import rms, root
from brainloom.objectives.base import Objective, check_finite, is_feature, scale_to, split_unit


def timeseries_rmse(prediction: Any = None, target: Any = None) -> Any:
    """
    Root of the mean squared difference of two signals of the same shape, in the unit of the target.

    It is the objective itself; ``timeseries_rmse()`` gives it too, as all other functions here are called to get
    one. Its gradient is 0 where the signals are equal.

    Raises
    ------
    ValueError
        The shapes differ.
        The units differ in dimension.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(timeseries_rmse()(jnp.full((10, 3), 2.0), jnp.zeros((10, 3))))
    2.0
    """
    if prediction is None and target is None:
        return timeseries_rmse
    a, b = _pair(prediction, target, "timeseries_rmse")
    return rms(a - b)


def _pair(prediction: Any, target: Any, who: str) -> tuple[jax.Array, jax.Array]:
    """Two arrays of one shape, in the unit of the target."""
    is_feature(prediction, who, "prediction"), is_feature(target, who, "target")
    a, unit = split_unit(prediction)
    b, wanted = split_unit(target)
    factor = scale_to(unit, wanted)
    if a.shape != b.shape:
        raise ValueError(f"the prediction has shape {a.shape}, but the target {b.shape}")
    check_finite(prediction, who, "prediction")
    check_finite(target, who, "target")
    return a * factor, b


def cosine_sim(as_loss: bool = False, epsilon: float = 0.0) -> Objective:
    """
    Cosine of the angle between two signals of the same shape, each as one long vector.

    Parameters
    ----------
    as_loss : bool
        1 - cosine, to be minimised.
    epsilon : float
        Least norm that is divided by. A signal of zeros gives 0.
    """
    return Objective("cosine_sim", _cosine, as_loss=as_loss, epsilon=float(epsilon))


def _cosine(prediction: Any, target: Any, who: str, as_loss: bool, epsilon: float) -> jax.Array:
    a, b = _pair(prediction, target, who)
    norms = [jnp.maximum(root(jnp.sum(x**2)), epsilon) for x in (a, b)]
    norms = [jnp.where(norm > 0.0, norm, 1.0) for norm in norms]
    cosine = jnp.sum(a * b) / (norms[0] * norms[1])
    return 1.0 - cosine if as_loss else cosine
