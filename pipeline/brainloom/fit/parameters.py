"""
Parameters of a fit: bounded, regional, one an edge, from brain maps, one a group, tied to each other.

What these functions return is a ``brainstate.nn.Param``: it goes wherever a model, network, noise process, observer or
filter takes one. Values and bounds have units or take that of the parameter, and are checked when it is made.
Parameters that are computed from others (`edges`, `from_maps`, `grouped`, `tied`) hold those as attributes, and a
`Fitter` names them by their place: ``"node.a.bias"``, ``"weights.values"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.fit.composed import Composed, Edges, Free, Grouped, Maps, Param, Tied
from brainloom.fit.priors import Gaussian, Homotopic, Smooth, Sparse
from brainloom.fit.transforms import Log, Scale, Softplus, math, one_of, raw_of, transform_of, with_unit

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np


def free(value: Any, unit: Any = None, *, scale: Any = None, prior: Any = None, fit: bool = True) -> Free:
    """
    A parameter that may take any value.

    Parameters
    ----------
    value, unit, prior, fit
        See `Free`.
    scale : number or Quantity, optional
        Size of a usual change: the optimiser works in units of it.

    Examples
    --------
    >>> free(-0.02).value().item()
    -0.02
    """
    if scale is None:
        return Free(value, unit, prior=prior, fit=fit)
    value = with_unit(value, unit)
    return Free(value, None, Scale(with_unit(scale, u.get_unit(value), "scale")), prior=prior, fit=fit)


def positive(
    value: Any, unit: Any = None, *, lower: Any = 0.0, t: str = "log", prior: Any = None, fit: bool = True
) -> Free:
    """
    A parameter above `lower`.

    Parameters
    ----------
    value, unit, prior, fit
        See `Free`.
    lower : number, array or Quantity
    t : {"log", "softplus"}
        ``"log"``: equal steps of the optimiser are equal ratios; ``"softplus"``: equal differences far above the
        lower end, with the distance of the start from it as the scale.

    Examples
    --------
    >>> import brainunit as u
    >>> print(positive(0.5, u.mV).value())
    0.5 mV
    """
    value = with_unit(value, unit)
    low, one = with_unit(lower, u.get_unit(value), "lower"), one_of(value)
    if t not in ("log", "softplus"):
        raise ValueError(f"t is {t!r}; it must be 'log' or 'softplus'")
    if t == "log":
        return Free(value, None, Log(low, one), prior=prior, fit=fit)
    size = float(np.mean(np.abs(np.asarray(u.get_mantissa(value - low), dtype=float))))
    return Free(value, None, Softplus(low, (size or 1.0) * one), prior=prior, fit=fit)


def log(value: Any, unit: Any = None, *, prior: Any = None, fit: bool = True) -> Free:
    """A positive parameter that the optimiser sees through its logarithm; see `positive`."""
    return positive(value, unit, prior=prior, fit=fit)


def softplus(value: Any, unit: Any = None, *, lower: Any = 0.0, prior: Any = None, fit: bool = True) -> Free:
    """A parameter above `lower` that the optimiser sees almost as it is; see `positive`."""
    return positive(value, unit, lower=lower, t="softplus", prior=prior, fit=fit)


def interval(
    value: Any, low: Any, high: Any, unit: Any = None, *, prior: Any = None, fit: bool = True
) -> Free:
    """
    A parameter strictly between `low` and `high`; plain bounds are in the unit of the value.

    Examples
    --------
    >>> interval(2.0, 0.0, 1.0)
    Traceback (most recent call last):
    ValueError: the value is 2, which is not strictly inside the range (0, 1); move it inside
    """
    value = with_unit(value, unit)
    return Free(value, None, (low, high), prior=prior, fit=fit)


def ordered(values: Any, unit: Any = None, *, prior: Any = None, fit: bool = True) -> Free:
    """Parameters that increase along the last axis, such as thresholds."""
    return Free(values, unit, "ordered", prior=prior, fit=fit)


def field(
    value: Any, n: int, unit: Any = None, *, t: Any = None, prior: Any = None, fit: bool = True
) -> Free:
    """
    One value a region.

    Parameters
    ----------
    value : number, (region,) array or Quantity
        Where all regions, or each of them, start.
    n : int
        Number of regions.
    unit, t, prior, fit
        See `Free`; bounds may be numbers or (region,) arrays.

    Examples
    --------
    >>> field(-0.02, 3, t=(-0.1, 0.0)).value().shape
    (3,)
    """
    value = with_unit(value, unit)
    shape = jnp.shape(u.get_mantissa(value))
    if shape not in ((), (1,), (n,)):
        raise ValueError(f"the field has shape {shape}; {n} regions need a number or {(n,)}")
    return Free(math.broadcast_to(value, (n,)), None, t, prior=prior, fit=fit)


def edges(
    weights: Any,
    unit: Any = None,
    *,
    existing: bool = True,
    symmetric: bool = False,
    t: Any = "positive",
    prior: Any = None,
    edge_prior: Any = None,
    fit: bool = True,
) -> Edges:
    """
    Weights of connections, for ``conn=`` of a network.

    Parameters
    ----------
    weights : (region, region) array or Quantity
        Where they start, ``[i, j]`` from j to i.
    unit, fit
        See `Free`.
    existing : bool
        Fit only those that are not 0; the others stay 0. False: all but the diagonal, which then must start inside
        the range of `t`.
    symmetric : bool
        One number for both directions; the weights must be symmetric.
    t : optional
        See `Free`; weights are positive by default.
    prior, edge_prior : Prior, optional
        On the (region, region) matrix, and on the numbers, which are sorted by row.

    Returns
    -------
    Edges
        Its numbers are ``.values``, their places ``.rows`` and ``.columns``.
    """
    weights = with_unit(weights, unit)
    w = np.asarray(u.get_mantissa(weights), dtype=float)
    if w.ndim != 2 or w.shape[0] != w.shape[1]:
        raise ValueError(f"weights have shape {w.shape}; they must be (region, region)")
    if symmetric and not np.allclose(w, w.T, rtol=1e-6, atol=1e-12):
        raise ValueError("weights differ from their transpose; use symmetric=False or symmetrise them first")
    places = (w != 0.0) if existing else np.ones_like(w, dtype=bool)
    places &= ~np.eye(len(w), dtype=bool)
    if symmetric:
        places = np.triu(places)
    rows, columns = np.nonzero(places)
    if not len(rows):
        raise ValueError("weights have no connections off the diagonal; there is nothing to fit")
    values = Free(_like(w[rows, columns], weights), None, t, prior=edge_prior, fit=fit)
    return Edges(values, rows, columns, len(w), symmetric, prior)


def from_maps(
    maps: Any,
    bias: Any,
    coefficients: Any = 0.0,
    unit: Any = None,
    *,
    t: Any = None,
    standardise: bool = False,
    prior: Any = None,
    coefficient_prior: Any = None,
    fit: bool = True,
) -> Maps:
    """
    A field from brain maps: ``t(bias + sum_m coefficient_m map_m)``, such as a myelin gradient.

    Parameters
    ----------
    maps : (map, region) or (region,) array, or mapping of name to (region,) array
    bias : number, Quantity or Param
        Value of the field where all maps are 0; a number or quantity is fitted, a Param as it says.
    coefficients : (map,) array, number, Quantity or Param
        With a transform they act before it, on plain numbers: for a positive field a coefficient of 0.1 is about
        10 % for a map of 1. Without, they have the unit of the field.
    unit : str or Unit, optional
        Of the field.
    t : optional
        Transform of the result, see `Free`: the field keeps its bounds whatever the coefficients are.
    standardise : bool
        Subtract the mean of each map over regions and divide by its standard deviation.
    prior, coefficient_prior : Prior, optional
        On the field, and on the coefficients.
    fit : bool

    Returns
    -------
    Maps
        Parts are ``.bias`` (before the transform) and ``.coefficients``; ``.names`` names the maps.
    """
    named = isinstance(maps, Mapping)
    table = np.atleast_2d(np.asarray(list(maps.values()) if named else maps, dtype=float))
    names = tuple(maps) if named else tuple(f"map_{k}" for k in range(len(table)))
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ValueError(f"maps have shape {table.shape}; give finite (map, region) arrays")
    if standardise:
        spread = table.std(axis=1, keepdims=True)
        if not (spread > 0).all():
            raise ValueError(f"map {names[int(np.argmin(spread))]} is the same everywhere; leave it out")
        table = (table - table.mean(axis=1, keepdims=True)) / spread
    given = bias.value() if isinstance(bias, Param) else with_unit(bias, unit, "bias")
    # a Param is the bias before the transform, so that the unit of the field is not its own
    onto: Any = brainstate.nn.IdentityT()
    if t is not None:
        onto = transform_of(t, with_unit(1.0, unit) if isinstance(bias, Param) else given)
    if not isinstance(bias, Param):
        bias = Free(raw_of(onto, given, "bias"), fit=fit)
    if not isinstance(coefficients, Param):
        own = with_unit(coefficients, u.get_unit(bias.value()), "coefficients")
        shape = jnp.shape(u.get_mantissa(own))
        if shape not in ((), (1,), (len(table),)):
            raise ValueError(f"coefficients have shape {shape}; {len(table)} maps need {(len(table),)}")
        own = math.broadcast_to(own, (len(table),))
        coefficients = Free(own, prior=coefficient_prior, fit=fit)
    elif coefficient_prior is not None:
        raise ValueError("coefficients are a Param; give the prior to it")
    return Maps(table, names, bias, coefficients, onto, prior)


def grouped(
    labels: Sequence[Any],
    value: Any,
    unit: Any = None,
    *,
    t: Any = None,
    prior: Any = None,
    group_prior: Any = None,
    fit: bool = True,
) -> Grouped:
    """
    One value a group of regions, such as functional networks or hemispheres.

    Parameters
    ----------
    labels : (region,) sequence
        The group of each region.
    value : number, (group,) array, Quantity, or mapping of label to number
        Where groups start; arrays are in the order of first appearance, which is that of ``.labels``.
    unit, t, fit
        See `Free`.
    prior, group_prior : Prior, optional
        On the field, and on the values of the groups.

    Examples
    --------
    >>> grouped(["L", "R", "L"], {"L": 1.0, "R": 2.0}).value().tolist()
    [1.0, 2.0, 1.0]
    """
    names = [str(label) for label in labels]
    order = tuple(dict.fromkeys(names))
    if not order:
        raise ValueError("labels are empty; give the group of each region")
    if isinstance(value, Mapping):
        given = {str(k): v for k, v in value.items()}
        if set(given) != set(order):
            raise ValueError(
                f"values are given for {', '.join(sorted(given))}; the groups are {', '.join(order)}"
            )
        parts = [with_unit(given[name], unit) for name in order]
        value = math.stack(parts) if any(isinstance(x, u.Quantity) for x in parts) else jnp.stack(parts)
    value = with_unit(value, unit)
    shape = jnp.shape(u.get_mantissa(value))
    if shape not in ((), (1,), (len(order),)):
        raise ValueError(
            f"the values have shape {shape}; {len(order)} groups need a number or {(len(order),)}"
        )
    values = Free(math.broadcast_to(value, (len(order),)), None, t, prior=group_prior, fit=fit)
    return Grouped(order, np.array([order.index(name) for name in names]), values, prior)


def tied(
    source: Any, function: Callable[..., Any] | None = None, *, factor: Any = None, prior: Any = None
) -> Tied:
    """
    A parameter that follows others: the same numbers, used in several places.

    Parameters
    ----------
    source : Param or tuple of Params
        One parameter may be the source of many, and be used itself; a fit sees it once.
    function : callable, optional
        ``function(value) -> value``, one argument a source; pure.
    factor : number, array or Quantity, optional
        Instead of `function`: what the value of the source is multiplied with.
    prior : Prior, optional
        On the value.

    Examples
    --------
    >>> both = positive(2.0)
    >>> a, b = tied(both, factor=0.1), tied(both, factor=0.3)  # scaled by the same factor
    >>> round(a.value().item(), 12), round(b.value().item(), 12)
    (0.2, 0.6)
    """
    sources = tuple(source) if isinstance(source, (tuple, list)) else (source,)
    if not sources or not all(isinstance(one, Param) for one in sources):
        raise TypeError("tied needs Params as its source, such as positive(1.0)")
    if function is not None and factor is not None:
        raise ValueError("tied takes a function or a factor, not both")
    if function is None:
        if len(sources) > 1:
            raise ValueError(f"tied has {len(sources)} sources; give the function that joins them")
        size = with_unit(1.0 if factor is None else factor, None)
        return Tied(sources, lambda value: value * size, size, prior)
    return Tied(sources, function, None, prior)


def _like(array: np.ndarray, value: Any) -> Any:
    unit = u.get_unit(value)
    return jnp.asarray(array) if unit == u.UNITLESS else jnp.asarray(array) * unit


__all__ = [
    "Composed",
    "Edges",
    "Free",
    "Gaussian",
    "Grouped",
    "Homotopic",
    "Maps",
    "Smooth",
    "Sparse",
    "Tied",
    "edges",
    "field",
    "free",
    "from_maps",
    "grouped",
    "interval",
    "log",
    "ordered",
    "positive",
    "softplus",
    "tied",
]
