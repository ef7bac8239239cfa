"""Coupling functions: what reaches a region from the others. ``W[i, j]`` is the weight from j to i."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

Arrays = dict[str, jax.Array]


@dataclass(frozen=True)
class Kind:
    """
    One coupling function ``combine(sum_j W_ij pre(x_ij), x_i)``.

    Attributes
    ----------
    combine : callable
        ``combine(p, sums, target, degree)``: `sums` is a tuple of (..., region) arrays, one a channel;
        `target` the undelayed observable of the receiving region; `degree` the row sums of the weights.
    parameters : mapping
        Shape parameters and their defaults; each may be per target. ``k`` scales the result.
    pre : callable, optional
        ``pre(p, x) -> tuple of channels``, applied before the sum; the value itself if not given.
    pairwise : tuple of str
        Parameters that `pre` reads: given per target or per pair, they need one evaluation a pair.
    weights : callable, optional
        ``weights(p, W)``: what the sum uses instead of W.
    """

    combine: Callable[[Arrays, tuple, jax.Array, jax.Array], jax.Array]
    parameters: Mapping[str, float] = field(default_factory=dict)
    pre: Callable[[Arrays, jax.Array], tuple] | None = None
    pairwise: tuple[str, ...] = ()
    weights: Callable[[jax.Array], jax.Array] | None = None


def laplacian(weights: jax.Array, normalisation: str | None = None) -> jax.Array:
    """
    Graph Laplacian in the sign of a coupling: ``L x`` moves every region towards its neighbours.

    Parameters
    ----------
    weights : (region, region) array
    normalisation : {None, "rw", "sym"}
        ``W - D``, ``D^-1 W - I`` or ``D^-1/2 W D^-1/2 - I`` with D the row sums. Rows without any weight are
        0, and so is their gradient.

    Returns
    -------
    (region, region) array
    """
    degree = jnp.sum(weights, axis=-1)
    some = jnp.where(degree > 0.0, 1.0, 0.0)
    if normalisation is None:
        return weights - jnp.diag(degree)
    if normalisation == "rw":
        return _over_rows(weights) - jnp.diag(some)
    if normalisation == "sym":
        return _over_roots(weights) - jnp.diag(some)
    raise ValueError(f"normalisation is {normalisation!r}; it must be None, 'rw' or 'sym'")


def _over_rows(weights: jax.Array) -> jax.Array:
    degree = jnp.sum(weights, axis=-1, keepdims=True)
    return weights * jnp.where(degree > 0.0, 1.0 / jnp.where(degree > 0.0, degree, 1.0), 0.0)


def _over_roots(weights: jax.Array) -> jax.Array:
    degree = jnp.sum(weights, axis=-1)
    root = jnp.where(degree > 0.0, jax.lax.rsqrt(jnp.where(degree > 0.0, degree, 1.0)), 0.0)
    return weights * root[..., :, None] * root[..., None, :]


def _additive(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    return p["k"] * sums[0] + p["b"]


def _scaled(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    return p["k"] * sums[0]


def _diffusive(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    return p["k"] * (sums[0] - degree * target)


def _normalised(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    return p["k"] * (sums[0] - jnp.where(degree > 0.0, target, 0.0))


def _sigmoidal(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    return p["k"] * jax.nn.sigmoid(p["slope"] * (p["a"] * sums[0] + p["b"] - p["midpoint"]))


def _sigmoidal_range(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    risen = jax.nn.sigmoid(p["a"] * (sums[0] - p["midpoint"]) / p["sigma"])
    return p["k"] * (p["cmin"] + (p["cmax"] - p["cmin"]) * risen)


def _tanh(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    return p["k"] * jnp.tanh(p["scale"] * sums[0])


def _tanh_pre(p: Arrays, x: jax.Array) -> tuple:
    return (p["a"] * (1.0 + jnp.tanh((p["b"] * x - p["midpoint"]) / p["sigma"])),)


def _jansen_rit_pre(p: Arrays, x: jax.Array) -> tuple:
    return (p["cmin"] + (p["cmax"] - p["cmin"]) * jax.nn.sigmoid(p["r"] * (x - p["midpoint"])),)


def _pre_sigmoidal(p: Arrays, x: jax.Array) -> tuple:
    return (p["H"] * (p["Q"] + jnp.tanh(p["G"] * (p["P"] * x - p["theta"]))),)


def _kuramoto_pre(p: Arrays, x: jax.Array) -> tuple:
    return jnp.sin(x - p["alpha"]), jnp.cos(x - p["alpha"])


def _kuramoto(p: Arrays, sums: tuple, target: jax.Array, degree: jax.Array) -> jax.Array:
    # sin(x_ij - alpha - x_i) by the addition theorem: two sums over sources instead of one over pairs
    return p["k"] * p["scale"] * (sums[0] * jnp.cos(target) - sums[1] * jnp.sin(target))


_TANH_PRE = {"k": 1.0, "a": 1.0, "b": 1.0, "midpoint": 0.0, "sigma": 1.0}
_RANGE = {"k": 1.0, "cmin": -1.0, "cmax": 1.0, "a": 1.0, "midpoint": 0.0, "sigma": 230.0}
_PRE_SIGMOIDAL = {"k": 1.0, "H": 0.5, "Q": 1.0, "G": 60.0, "P": 1.0, "theta": 0.5}
_JANSEN_RIT = {"k": 1.0, "cmin": 0.0, "cmax": 5.0, "midpoint": 6.0, "r": 0.56}

KINDS: dict[str, Kind] = {
    "additive": Kind(_additive, {"k": 1.0, "b": 0.0}),
    "scaling": Kind(_scaled, {"k": 1.0}),
    "diffusive": Kind(_diffusive, {"k": 1.0}),
    "laplacian": Kind(_diffusive, {"k": 1.0}),
    "laplacian_rw": Kind(_normalised, {"k": 1.0}, weights=_over_rows),
    "laplacian_sym": Kind(_normalised, {"k": 1.0}, weights=_over_roots),
    "sigmoidal": Kind(_sigmoidal, {"k": 1.0, "slope": 1.0, "a": 1.0, "b": 0.0, "midpoint": 0.0}),
    "sigmoidal_range": Kind(_sigmoidal_range, _RANGE),
    "tanh": Kind(_tanh, {"k": 1.0, "scale": 1.0}),
    "tanh_presummation": Kind(_scaled, _TANH_PRE, _tanh_pre, ("a", "b", "midpoint", "sigma")),
    "sigmoidal_jansen_rit": Kind(_scaled, _JANSEN_RIT, _jansen_rit_pre, ("cmin", "cmax", "midpoint", "r")),
    "presigmoidal": Kind(_scaled, _PRE_SIGMOIDAL, _pre_sigmoidal, ("H", "Q", "G", "P", "theta")),
    "kuramoto": Kind(_kuramoto, {"k": 1.0, "alpha": 0.0, "scale": 1.0}, _kuramoto_pre, ("alpha",)),
}


def register_coupling(name: str, kind: Kind) -> None:
    """
    Add a coupling function of your own under a name that `Network` then accepts.

    Raises
    ------
    ValueError
        The name is taken.
    """
    if name in KINDS:
        raise ValueError(f"there is a coupling {name!r} already; choose another name")
    KINDS[name] = kind


def check_kind(name: str) -> str:
    """
    Return the name of a known coupling function.

    Raises
    ------
    ValueError
        It is unknown; the message lists the known ones.
    """
    if name not in KINDS:
        raise ValueError(f"coupling is {name!r}; it must be one of {', '.join(sorted(KINDS))}")
    return name


def evaluate(
    name: str,
    p: Arrays,
    weights: jax.Array,
    source: jax.Array,
    target: jax.Array | None = None,
    *,
    degree: jax.Array | None = None,
) -> jax.Array:
    """
    Undelayed coupling.

    Parameters
    ----------
    name : str
        One of `KINDS`.
    p : dict of arrays
        Its parameters; missing ones take their defaults.
    weights : (region, region) array
        As given to the network; see `prepared_weights`.
    source : (..., region) array
        Observable that is sent.
    target : (..., region) array, optional
        The same observable of the receiving region; `source` if not given.
    degree : (region,) array, optional
        Row sums of the weights as given, where `weights` has been prepared already.

    Returns
    -------
    (..., region) array
    """
    kind = KINDS[check_kind(name)]
    p = {k: jnp.asarray(v, source.dtype) for k, v in kind.parameters.items()} | p
    if degree is None:
        degree, weights = jnp.sum(weights, axis=-1), prepared_weights(name, weights)
    if kind.pre is None:
        sums: tuple = (weighted_sum(weights, source),)
    elif all(jnp.ndim(p[part]) == 0 for part in kind.pairwise):
        sums = tuple(weighted_sum(weights, channel) for channel in kind.pre(p, source))
    else:
        pairs = {part: per_pair(p[part]) for part in kind.pairwise}
        sums = tuple(jnp.sum(weights * one, axis=-1) for one in kind.pre(p | pairs, source[..., None, :]))
    return kind.combine(p, sums, source if target is None else target, degree)


def prepared_weights(name: str, weights: jax.Array) -> jax.Array:
    """What the sum of a coupling uses for the weights: normalised by some of the Laplacians, else as given."""
    change = KINDS[name].weights
    return weights if change is None else change(weights)


def per_pair(value: jax.Array) -> jax.Array:
    """A parameter per target as a column, so that it broadcasts over (target, source) pairs."""
    return value[:, None] if jnp.ndim(value) == 1 else value


def weighted_sum(weights: jax.Array, x: jax.Array) -> jax.Array:
    """``sum_j W_ij x_j`` for a batch: (region_to, region) times (..., region), one matrix product."""
    return x @ weights.T


@dataclass(frozen=True, eq=False)
class Coupling:
    """
    One coupling of a network, for networks with several of them.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    source : str
        Observable that is sent; the model's ``source`` by default.
    port : str, optional
        Port that it arrives at; the model's first by default.
    conn : (region, region) array or Param, optional
        Weights; those of the network if not given.
    k : float, array or Param
        Gain.
    distance, speed, delay : optional
        Own delays, as in `Network`; those of the network if none of them is given. ``delay=0`` is none.
    name : str, optional
        Prefix of its parameters.
    shape : dict
        Shape parameters of the kind.
    """

    kind: str = "diffusive"
    source: str = "source"
    port: str | None = None
    conn: Any = None
    k: Any = 1.0
    distance: Any = None
    speed: Any = None
    delay: Any = None
    name: str | None = None
    shape: Mapping[str, Any] = field(default_factory=dict)
