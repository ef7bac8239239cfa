"""Where searches begin, and how far they look at first: starts and scales of unconstrained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate import nn

from brainloom.fit.composed import Free
from brainloom.fit.trainable import Leaves, Trainable

Bounds = tuple[list[np.ndarray], list[np.ndarray]]
# Regularisers that are distributions; starts are drawn from them.
PRIORS = (
    nn.GaussianReg,
    nn.UniformReg,
    nn.LogNormalReg,
    nn.LogUniformReg,
    nn.StudentTReg,
    nn.CauchyReg,
    nn.GammaReg,
    nn.InverseGammaReg,
    nn.ExponentialReg,
    nn.BetaReg,
)
_FAR = 1e30


def scales(trainable: Trainable, bounds: Bounds) -> list[np.ndarray]:
    """
    How far a search looks from its start, for each leaf.

    A quarter of the interval of a search space; 1 for a transform onto an interval, such as SigmoidT, where that is
    from the middle to 0.73 of it; otherwise the largest magnitude of the unconstrained values, or 1 if they are 0.
    """
    found = []
    for leaf, low, high, param in _leaves(trainable, bounds):
        size = float(np.max(np.abs(leaf), initial=0.0))
        scale = 1.0 if size == 0.0 or (param is not None and _onto_interval(param, leaf.shape)) else size
        inside = np.isfinite(low) & np.isfinite(high)
        found.append(np.where(inside, np.where(inside, high - low, 0.0) / 4.0, scale))
    return found


def draw(trainable: Trainable, bounds: Bounds, n: int, key: jax.Array, spread: float) -> list[Leaves]:
    """
    Starts of a fit; the first is where the model is.

    The others are uniform in a `search_space` (in the space of the parameter), drawn from the prior that is the
    regulariser of the parameter, or normal around its value: `spread` times `scales`.

    Parameters
    ----------
    trainable : Trainable
    bounds : (lower, upper)
    n : int
    key : jax.random key
    spread : float

    Returns
    -------
    list of leaves
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key), dtype=np.uint32).ravel().tolist())
    sizes = scales(trainable, bounds)
    starts = [trainable.leaves()]
    with _drawing_from(key):
        for number in range(1, n):
            new: Leaves = []
            for scale, (leaf, low, high, param) in zip(sizes, _leaves(trainable, bounds), strict=True):
                around = leaf + spread * scale * rng.standard_normal(leaf.shape)
                drawn = around
                if param is not None and np.isfinite(low).all() and np.isfinite(high).all():
                    ends = [param.t.forward(jnp.asarray(end, leaf.dtype)) for end in (low, high)]
                    share = rng.uniform(size=leaf.shape)
                    drawn = _raw(param, ends[0] + share * (ends[1] - ends[0]))
                elif param is not None:
                    own = jax.random.fold_in(jax.random.fold_in(key, number), len(new))
                    drawn = _from_prior(param, leaf.shape, own, around)
                drawn = np.where(np.isfinite(drawn), drawn, around)  # a prior may reach out of the transform
                new.append(jnp.asarray(np.clip(drawn, low, high), leaf.dtype))
            starts.append(new)
    return starts


def _leaves(trainable: Trainable, bounds: Bounds) -> Iterator[tuple]:
    """Each leaf with its interval and its parameter."""
    place = 0
    for name, state in trainable.states.items():
        for leaf in jax.tree.leaves(state.value):
            yield np.asarray(leaf), bounds[0][place], bounds[1][place], trainable.param(name)
            place += 1


def _from_prior(param: Any, shape: tuple[int, ...], key: jax.Array, without: np.ndarray) -> np.ndarray:
    """Unconstrained numbers drawn from the prior of a parameter, if it has one that reaches into its range."""
    if isinstance(param, Free):
        try:
            return _raw(param, param.draw(key))
        except ValueError:
            return without
    return _raw(param, param.reg.sample_init(shape)) if isinstance(param.reg, PRIORS) else without


def _onto_interval(param: Any, shape: tuple[int, ...]) -> bool:
    ends = [_plain(param.t.forward(jnp.full(shape, end))) for end in (-_FAR, _FAR)]
    return all(bool(np.isfinite(end).all() and (np.abs(end) < 1e-3 * _FAR).all()) for end in ends)


def _raw(param: Any, value: Any) -> np.ndarray:
    unit = getattr(param.t.forward(jax.tree.leaves(param.val.value)[0]), "unit", None)
    if unit is not None and not isinstance(value, u.Quantity):
        value = value * unit
    return _plain(param.t.inverse(value))


def _plain(value: Any) -> np.ndarray:
    return np.asarray(jax.tree.leaves(value)[0], dtype=float)


@contextmanager
def _drawing_from(key: jax.Array) -> Iterator[None]:
    """Priors draw from brainstate.random; it is left as it was."""
    state = brainstate.random.DEFAULT
    state.check_if_deleted()
    before = state.value
    state.value = key
    try:
        yield
    finally:
        state.value = before
