"""Objectives on functional connectivity, at lag 0 and at others."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from brainloom.objectives.arrays import average_correlations, compare, correlations, rms, upper
from brainloom.objectives.base import Objective, is_feature, one_of, read_matrix, read_signal, same_shape
from brainloom.objectives.features import FC, LaggedFC


def functional_connectivity(x: jax.Array) -> jax.Array:
    """
    Pearson correlations between regions, differentiable.

    Parameters
    ----------
    x : (time, realisation, region) array

    Returns
    -------
    (region, region) array
        Mean over realisations in Fisher z, diagonal 1. A constant region correlates 0 with the others.
    """
    x = jnp.moveaxis(x, 1, 0)
    mean = average_correlations(correlations(x, x))
    return jnp.where(jnp.eye(mean.shape[-1], dtype=bool), 1.0, mean)


def lagged_connectivity(x: jax.Array, lag: int) -> jax.Array:
    """``C[i, j] = corr(x_i(t + lag), x_j(t))`` of (time, realisation, region), mean over realisations in Fisher z."""
    x = jnp.moveaxis(x, 1, 0)
    return average_correlations(correlations(x[:, lag:], x[:, : x.shape[1] - lag]))


def read_fc(value: Any, who: str, role: str) -> jax.Array:
    """FC of a signal or of a feature, (region, region)."""
    if is_feature(value, who, role, FC):
        return read_matrix(value.matrix, who, role)[0]
    return functional_connectivity(read_signal(value, who, role, FC)[0])


def fc_corr(as_loss: bool = False) -> Objective:
    """
    Pearson correlation between the FC of prediction and target, over the pairs of regions.

    Takes signals (time, ..., region) or `FC` on either side; units do not matter. Axes in the middle are
    realisations, whose FC is averaged in Fisher z before the comparison.

    Parameters
    ----------
    as_loss : bool
        1 - r, to be minimised.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(200, 5))
    >>> round(float(fc_corr()(x, FC(np.corrcoef(x.T)))), 6)
    1.0
    """
    return Objective("fc_corr", _fc_corr, as_loss=as_loss)


def _fc_corr(prediction: Any, target: Any, who: str, as_loss: bool) -> jax.Array:
    a, b = read_fc(prediction, who, "prediction"), read_fc(target, who, "target")
    _at_least(a, b, 3, who)
    return compare(upper(a), upper(b), "corr", as_loss)


def fc_rmse(include_diagonal: bool = False) -> Objective:
    """
    Root mean square difference between the FC of prediction and target, over the pairs of regions.

    Takes what `fc_corr` takes.

    Parameters
    ----------
    include_diagonal : bool
        Mean over all entries of the matrices instead, with the zeros of the diagonal, as in other packages: smaller by
        ``sqrt((n - 1) / n)``.
    """
    return Objective("fc_rmse", _fc_rmse, include_diagonal=include_diagonal)


def _fc_rmse(prediction: Any, target: Any, who: str, include_diagonal: bool) -> jax.Array:
    a, b = read_fc(prediction, who, "prediction"), read_fc(target, who, "target")
    _at_least(a, b, 2, who)
    return rms(a - b if include_diagonal else upper(a) - upper(b))


def lagged_fc(lag: int = 1, measure: str = "corr", as_loss: bool = False) -> Objective:
    """
    Comparison of lagged correlations over all entries, the diagonal (autocorrelations) included.

    Takes signals (time, ..., region) or `LaggedFC` of the same lag.

    Parameters
    ----------
    lag : int
        Samples, at least 1.
    measure : {"corr", "rmse"}
        Pearson correlation, or root mean square difference.
    as_loss : bool
        1 - r for ``"corr"``.
    """
    if not isinstance(lag, int) or lag < 1:
        raise ValueError(f"lag is {lag!r}; it is a number of samples, at least 1")
    one_of(measure, ("corr", "rmse"), "measure")
    return Objective("lagged_fc", _lagged_fc, lag=lag, measure=measure, as_loss=as_loss)


def _lagged_fc(prediction: Any, target: Any, who: str, lag: int, measure: str, as_loss: bool) -> jax.Array:
    a, b = (_read_lagged(x, who, role, lag) for x, role in ((prediction, "prediction"), (target, "target")))
    _at_least(a, b, 2 if measure == "corr" else 1, who)
    return compare(a, b, measure, as_loss)


def _read_lagged(value: Any, who: str, role: str, lag: int) -> jax.Array:
    if is_feature(value, who, role, LaggedFC):
        if value.lag != lag:
            raise ValueError(f"the {role} of {who} is of lag {value.lag}, but the objective of lag {lag}")
        return read_matrix(value.matrix, who, role)[0]
    return lagged_connectivity(read_signal(value, who, role, LaggedFC, least=lag + 2)[0], lag)


def _at_least(a: jax.Array, b: jax.Array, n: int, who: str) -> None:
    same_shape(a, b, who)
    if a.shape[-1] < n:
        raise ValueError(f"{who} compares pairs of regions and needs at least {n} regions, not {a.shape[-1]}")
