"""Errors of unconstrained numbers as intervals of parameters, with units, through transforms and compositions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate import nn

from brainloom.fit.composed import Composed, Edges, Free, Grouped
from brainloom.fit.trainable import Trainable

JOINT = (nn.OrderedT, nn.SimplexT, nn.UnitVectorT)
# Standard deviation of the logit of a uniform distribution: the scale of a parameter between two bounds.
UNIFORM = float(np.pi / np.sqrt(3.0))
_FAR = 1e30


@dataclass
class Errors:
    """
    What is known of a point in unconstrained space.

    Attributes
    ----------
    covariance : (size, size) array
    unbounded : (size,) bool array
        Coordinates without a finite error.
    free : (size, n) array
        Directions that nothing holds.
    prior : (size, size) array
        Covariance of the prior, of the coordinates that have one.
    no_prior : (size,) bool array
    seeds : (size, size) array or None
        Covariance from the noise seeds of the loss.
    """

    covariance: np.ndarray
    unbounded: np.ndarray
    free: np.ndarray
    prior: np.ndarray
    no_prior: np.ndarray
    seeds: np.ndarray | None = None

    def sd(self) -> np.ndarray:
        """Standard deviation of each coordinate."""
        found = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        return np.where(self.unbounded, np.inf, found)

    def prior_sd(self) -> np.ndarray:
        """That of its prior; infinite without one."""
        return np.where(self.no_prior, np.inf, np.sqrt(np.maximum(np.diag(self.prior), 0.0)))


@dataclass
class Estimate:
    """
    One parameter: its value, error, and what the data say of it.

    Attributes
    ----------
    value, sd, lower, upper
        In the space and unit of the parameter; ends of the interval.
    contraction : array
        ``1 - sd / sd(prior)`` of the unconstrained number; NaN without a prior.
    relative_error : array
        Standard deviation by the value (by the distance from the bound, where there is one; between two bounds, by
        the standard deviation of a uniform distribution, in logits).
    seed_sd : array or None
        Part of the error that comes from the noise seeds of the loss, in the unit of the parameter.
    labels : list of str
        A name for each number, in C order.
    """

    value: Any
    sd: Any
    lower: Any
    upper: Any
    contraction: np.ndarray
    relative_error: np.ndarray
    seed_sd: Any = None
    labels: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Estimate({self.value}, {self.lower} to {self.upper})"


def labels_of(name: str, shape: tuple[int, ...], regions: Any = None) -> list[str]:
    """A name for each number of a parameter: ``a``, ``a[3]``, ``a[V1]``, ``weights[3,4]``."""
    if not shape:
        return [name]
    names = [regions if regions is not None and len(regions) == n else range(n) for n in shape]
    return [
        f"{name}[{','.join(str(one[k]) for one, k in zip(names, place, strict=True))}]"
        for place in np.ndindex(*shape)
    ]


def slices(trainable: Trainable) -> list[tuple[str, slice, Any]]:
    """Name of each leaf, its place in the vector, and the transform of its parameter (None: as it is)."""
    found, start, place = [], 0, 0
    for name, state in trainable.states.items():
        param = trainable.param(name)
        leaves = jax.tree_util.tree_flatten_with_path(state.value)[0]
        for path, _ in leaves:
            size = int(np.prod(trainable.shapes[place]))
            inner = "".join(f".{getattr(key, 'key', getattr(key, 'idx', key))}" for key in path)
            own = name if param is not None else f"{name}{inner}"
            found.append((own, slice(start, start + size), param))
            start, place = start + size, place + 1
    return found


def is_joint(param: Any) -> bool:
    """Whether numbers of a parameter depend on several unconstrained ones."""
    steps = (param.t, *getattr(param.t, "transforms", ()))
    return param.precompute is not None or any(isinstance(step, JOINT) for step in steps)


def natural_scales(trainable: Trainable, at: np.ndarray) -> np.ndarray:
    """
    Size of each unconstrained coordinate that is as large as the parameter itself; NaN where that is 0.

    ``|y - bound| / |dy/dx|`` of a value y with one bound, ``rms(y) / |dy/dx|`` without, so that an error in units of
    it is relative; that of a uniform distribution between two bounds.
    """
    found = np.full(len(at), np.nan)
    for (_, place, param), shape in zip(slices(trainable), trainable.shapes, strict=True):
        x = jnp.asarray(at[place].reshape(shape))
        if param is None:
            y, slope, ends = np.asarray(x), np.ones(shape), [np.full(shape, np.inf)] * 2
        elif is_joint(param):
            found[place] = 1.0
            continue
        else:
            y, slope = _slope(param, x)
            ends = [plain(_forward(param, jnp.full(shape, end, x.dtype))) for end in (-_FAR, _FAR)]
        found[place] = np.ravel(_reference(y, *ends) / np.abs(slope))
    return np.where(np.isfinite(found) & (found > 0.0), found, np.nan)


def _reference(y: np.ndarray, low: np.ndarray, high: np.ndarray, slope: Any = None) -> np.ndarray:
    """What an error of a value is held against."""
    lowest, highest = (np.isfinite(end) & (np.abs(end) < 1e-3 * _FAR) for end in (low, high))
    with np.errstate(invalid="ignore", divide="ignore"):
        both = UNIFORM * (y - low) * (high - y) / (high - low)  # d logit / dy
        one = np.where(lowest, np.abs(y - low), np.abs(high - y))
    typical = np.sqrt(np.mean(np.square(y))) if np.size(y) else np.nan
    return np.where(lowest & highest, both, np.where(lowest | highest, one, typical))


def estimates(
    trainable: Trainable, at: np.ndarray, errors: Errors, scale: np.ndarray, quantile: float, regions: Any
) -> dict[str, Estimate]:
    """
    All parameters of a model, those that are computed from others last.

    Parameters
    ----------
    trainable : Trainable
    at : (size,) array
    errors : Errors
    scale : (size,) array
        See `natural_scales`.
    quantile : float
        Half the width of an interval in standard deviations.
    regions : sequence of str or None
        Names of the regions.
    """
    found: dict[str, Estimate] = {}
    sd, prior_sd = errors.sd(), errors.prior_sd()
    seed = None if errors.seeds is None else np.sqrt(np.maximum(np.diag(errors.seeds), 0.0))
    by_state: dict[int, Estimate] = {}
    for (name, place, param), shape in zip(slices(trainable), trainable.shapes, strict=True):
        x, own = jnp.asarray(at[place].reshape(shape)), sd[place].reshape(shape)
        with np.errstate(invalid="ignore"):
            contraction = np.where(np.isfinite(prior_sd), 1.0 - sd / prior_sd, np.nan)[place].reshape(shape)
        relative = (sd / scale)[place].reshape(shape)
        if param is not None and is_joint(param):
            made = _mixed(
                lambda v, place=place, param=param, shape=shape: _forward(param, v[place].reshape(shape)),
                at,
                errors,
                quantile,
                (None, None),
            )
            made.labels = labels_of(name, np.shape(plain(made.value)), regions)
            found[name] = made
            continue
        forward = partial(_forward, param)
        slope = np.ones(shape) if param is None else _slope(param, x)[1]
        value = forward(x)
        ends = [forward(x + side * quantile * jnp.asarray(own)) for side in (-1.0, 1.0)]
        low, high = (np.fmin, np.fmax)
        plains = [plain(end) for end in ends]
        with np.errstate(invalid="ignore"):
            spread = np.abs(slope) * own
        spread = np.where(np.isinf(own), np.inf, spread)
        made = Estimate(
            value=value,
            sd=like(value, spread),
            lower=like(value, low(*plains)),
            upper=like(value, high(*plains)),
            contraction=contraction,
            relative_error=relative,
            seed_sd=None if seed is None else like(value, np.abs(slope) * seed[place].reshape(shape)),
            labels=labels_of(name, shape, regions),
        )
        found[name] = made
        if param is not None:
            by_state[id(trainable.states[name])] = made
    states = list(trainable.states.values())
    for name, node in trainable.composed.items():
        part = getattr(node, "values", None)
        if isinstance(node, (Edges, Grouped)) and isinstance(part, Free) and id(part.val) in by_state:
            made = _gathered(node, by_state[id(part.val)])
        else:

            def evaluate(v: jax.Array, node: Composed = node) -> Any:
                values = trainable.values(_leaves(trainable, v))
                return node.evaluate(dict(zip(map(id, states), values, strict=True)))

            made = _mixed(evaluate, at, errors, quantile, node.limits())
        made.labels = labels_of(name, np.shape(plain(made.value)), regions)
        found[name] = made
    return found


def _gathered(node: Any, part: Estimate) -> Estimate:
    """Weights of edges, or values of groups at their regions: copies of other numbers."""

    def there(value: Any) -> Any:
        return node.combine({"values": jnp.asarray(value) if isinstance(value, np.ndarray) else value})

    def judged(value: np.ndarray) -> np.ndarray:
        known = np.asarray(there(np.ones_like(value))) > 0.0  # edges that do not exist are 0 for sure
        return np.where(known, np.asarray(there(np.nan_to_num(value, nan=-np.inf))), np.nan)

    contraction, relative = (judged(x) for x in (part.contraction, part.relative_error))
    value, sd, lower, upper = (there(x) for x in (part.value, part.sd, part.lower, part.upper))
    return Estimate(
        value=value,
        sd=sd,
        lower=lower,
        upper=upper,
        contraction=np.where(np.isinf(contraction), np.nan, contraction),
        relative_error=np.where(np.isneginf(relative), np.nan, relative),
        seed_sd=None if part.seed_sd is None else there(part.seed_sd),
    )


def _mixed(evaluate: Any, at: np.ndarray, errors: Errors, quantile: float, limits: tuple) -> Estimate:
    """Delta method, where the bounds of the value are infinitely far away: in its logarithm or logit."""
    x = jnp.asarray(at)
    value = evaluate(x)
    y = plain(value)
    jacobian = np.asarray(jax.jacfwd(lambda v: jnp.ravel(u.get_mantissa(evaluate(v))))(x), float)
    size = np.maximum(np.abs(jacobian).max(axis=1, initial=0.0), np.finfo(float).tiny)

    def spread(covariance: np.ndarray, free: np.ndarray) -> np.ndarray:
        found = np.sqrt(np.maximum(np.einsum("ei,ij,ej->e", jacobian, covariance, jacobian), 0.0))
        norm = np.linalg.norm(free, axis=0, keepdims=True) + np.finfo(float).tiny
        moved = np.abs(jacobian @ (free / norm)).max(axis=1, initial=0.0)
        return np.where(moved > 1e-3 * size, np.inf, found).reshape(y.shape)

    sd = spread(errors.covariance, errors.free)
    prior = spread(errors.prior, np.eye(len(at))[:, errors.no_prior])
    low, high = (
        np.broadcast_to(np.nan if end is None else plain(_as(end, value)), y.shape) for end in limits
    )
    lower, upper = _ends(y, sd, quantile, low, high)
    with np.errstate(invalid="ignore", divide="ignore"):
        contraction = np.where(np.isfinite(prior) & (prior > 0.0), 1.0 - sd / prior, np.nan)
        relative = sd / _reference(y, low, high)
    none = np.zeros((len(at), 0))
    return Estimate(
        value=value,
        sd=like(value, sd),
        lower=like(value, lower),
        upper=like(value, upper),
        contraction=contraction,
        relative_error=relative,
        seed_sd=None if errors.seeds is None else like(value, spread(errors.seeds, none)),
    )


def _ends(y: np.ndarray, sd: np.ndarray, quantile: float, low: np.ndarray, high: np.ndarray) -> tuple:
    """Ends of an interval that keeps the bounds of a value; NaN bounds are none."""
    found = []
    for side in (-1.0, 1.0):
        move = side * quantile * sd
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            above = low + (y - low) * np.exp(move / (y - low))
            below = high - (high - y) * np.exp(-move / (high - y))
            logit = np.log((y - low) / (high - y)) + move * (high - low) / ((y - low) * (high - y))
            between = low + (high - low) / (1.0 + np.exp(-logit))
        one, other = np.isfinite(low), np.isfinite(high)
        end = np.where(one & other, between, np.where(one, above, np.where(other, below, y + move)))
        found.append(np.where(np.isnan(end), y, end))  # a value at its bound, without an error
    return tuple(found)


def _leaves(trainable: Trainable, vector: jax.Array) -> list[jax.Array]:
    ends = np.cumsum([int(np.prod(shape)) for shape in trainable.shapes])[:-1]
    return [
        part.reshape(shape) for part, shape in zip(jnp.split(vector, ends), trainable.shapes, strict=True)
    ]


def _forward(param: Any, x: Any) -> Any:
    if param is None:
        return x
    value = param.t.forward(x)
    return value if param.precompute is None else param.precompute(value)


def _slope(param: Any, x: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Plain value, and its derivative in the number at the same place."""
    found = jax.jvp(lambda v: u.get_mantissa(_forward(param, v)), (x,), (jnp.ones_like(x),))
    return np.asarray(found[0], float), np.asarray(found[1], float)


def plain(value: Any) -> np.ndarray:
    """Numbers of a value in its own unit."""
    return np.asarray(u.get_mantissa(value), float)


def like(value: Any, numbers: np.ndarray) -> Any:
    """Numbers with the unit of a value."""
    return u.Quantity(numbers, unit=value.unit) if isinstance(value, u.Quantity) else numbers


def _as(end: Any, value: Any) -> Any:
    if isinstance(end, u.Quantity) and isinstance(value, u.Quantity):
        return end.in_unit(value.unit)
    return end
