"""Ways to minimise a loss: gradient descent with optax, and the methods of scipy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize

from brainloom.fit.evaluate import Loss
from brainloom.fit.record import Record
from brainloom.fit.trainable import Trainable

Bounds = tuple[list[np.ndarray], list[np.ndarray]]
# Methods of scipy that take no gradient.
GRADIENT_FREE = ("nelder-mead", "powell", "cobyla", "cobyqa")


def descend(
    loss: Loss, trainable: Trainable, optimizer: Any, n_steps: int, bounds: Bounds, record: Record
) -> tuple[int, bool]:
    """
    Gradient descent: one compiled program a step.

    A point whose loss, gradient or update is not finite is not taken: the step from the last good point is halved
    until it is. Steps then grow back to their full length, twice as long each time, so that momentum can turn.
    Bounds are kept by projection.

    Parameters
    ----------
    loss : Loss
    trainable : Trainable
    optimizer : optax.GradientTransformation, object with one as ``tx``, or None
        Adam with rate 0.01 if not given. A ``lr_scheduler`` of the object advances by one a step.
    n_steps : int
        Evaluations of loss and gradient; the first is at the start.
    bounds : (lower, upper)
    record : Record

    Returns
    -------
    n_steps : int
    converged : bool
    """
    transform = _transformation(optimizer)
    scheduler = getattr(optimizer, "lr_scheduler", None)
    leaves = trainable.leaves()
    state = transform.init(leaves)
    value_and_grad = _with_slope(loss)
    update = brainstate.transform.StatefulFunction(
        lambda grads, state, leaves, fixed, value: transform.update(
            grads, state, leaves, value=value, grad=grads, value_fn=lambda at: loss(at, fixed)[0]
        )
    )
    like = (leaves, state, leaves, loss.fixed, jnp.zeros((), jnp.result_type(float)))
    update.make_jaxpr(*like)
    knobs = update.get_states(*like)  # learning rates that a scheduler moves
    low, high = (
        [jnp.asarray(x, leaf.dtype) for x, leaf in zip(side, leaves, strict=True)] for side in bounds
    )

    @jax.jit
    def step(carry: tuple, rates: Any, fixed: Any) -> tuple:
        leaves, good, change, scale, state = carry
        (value, aux), grads = value_and_grad(leaves, fixed)
        new, after = update.jaxpr_call(rates, grads, state, leaves, fixed, value)[1]
        usable = _all_finite((value, grads, new))
        take = partial(jax.tree.map, partial(jnp.where, usable))
        good, change, state = take((leaves, new, after), (good, change, state))
        scale = jnp.where(usable, jnp.minimum(1.0, 2.0 * scale), 0.5 * scale)
        moved = optax.apply_updates(good, jax.tree.map(lambda x: scale.astype(x.dtype) * x, change))
        moved = jax.tree.map(jnp.clip, moved, low, high)
        return (moved, good, change, scale, state), (value, usable, aux)

    before = scheduler.state_dict() if scheduler is not None else None
    still = jax.tree.map(jnp.zeros_like, leaves)
    carry = (leaves, leaves, still, jnp.ones((), jnp.result_type(float)), state)
    try:
        for done in range(1, n_steps + 1):
            rates = [jax.tree.map(_number, knob.value) for knob in knobs]
            here = carry[0]
            carry, (value, usable, aux) = step(carry, rates, loss.fixed)
            if record.add(here, value, usable, aux):
                return done, record.settled()
            if scheduler is not None:
                scheduler.step()
    finally:
        if scheduler is not None:
            scheduler.load_state_dict(before)
    record.message = f"made {n_steps} steps"
    return n_steps, record.settled()


def minimise(
    loss: Loss, trainable: Trainable, options: Any, n_steps: int, bounds: Bounds, record: Record
) -> tuple[int, bool]:
    """
    ``scipy.optimize.minimize`` with exact gradients.

    Where the loss is not finite, scipy sees a wall: a parabola around the last good point, far above its loss, so
    that line searches turn back.

    Parameters
    ----------
    loss : Loss
    trainable : Trainable
    options : str or mapping, optional
        Name of the method, ``"L-BFGS-B"`` if not given; or the keywords ``method``, ``tol`` and ``options``.
    n_steps : int
        Iterations at most.
    bounds : (lower, upper)
    record : Record

    Returns
    -------
    n_steps : int
        Iterations; each has one or more evaluations.
    converged : bool
        What scipy says.
    """
    keywords = _keywords(options)
    method = keywords.pop("method", "L-BFGS-B")
    settings = {"maxiter": n_steps, **keywords.pop("options", {})}
    sloped = method.lower() not in GRADIENT_FREE
    evaluate = jax.jit(_with_slope(loss) if sloped else loss)
    low, high = (trainable.flat(side) for side in bounds)
    good: tuple[np.ndarray, float] | None = None
    iterations = 0

    def fun(x: np.ndarray) -> Any:
        nonlocal good
        leaves = trainable.unflat(x)
        found = evaluate(leaves, loss.fixed)
        (value, aux), slope = (found[0], trainable.flat(found[1])) if sloped else (found, np.zeros_like(x))
        usable = bool(np.isfinite(value) and np.isfinite(slope).all())
        if record.add(leaves, value, usable, aux):
            raise _Ended
        if usable:
            good = (x.copy(), float(value))
        seen = (float(value), slope) if usable else _wall(x, good)
        return seen if sloped else seen[0]

    def count(*_: Any, **__: Any) -> None:
        nonlocal iterations
        iterations += 1

    limits = optimize.Bounds(low, high) if np.isfinite([low, high]).any() else None
    start = trainable.flat(trainable.leaves())
    try:
        found = optimize.minimize(
            fun,
            start,
            jac=sloped or None,
            method=method,
            bounds=limits,
            callback=count,
            options=settings,
            **keywords,
        )
    except _Ended:
        return iterations, False
    record.message = str(found.message)
    return int(found.get("nit", iterations)), bool(found.success)


BACKENDS: dict[str, Callable[..., tuple[int, bool]]] = {"grad": descend, "scipy": minimise}


class _Ended(Exception):
    """The record wants the fit to end."""


def _with_slope(loss: Loss) -> Callable:
    return jax.value_and_grad(loss, has_aux=True)


def _wall(x: np.ndarray, good: tuple[np.ndarray, float] | None) -> tuple[float, np.ndarray]:
    """A value far above that of the last good point, with the slope of a parabola around it."""
    assert good is not None  # the record refuses a start that is not finite
    away = x - good[0]
    height = 10.0 * (1.0 + abs(good[1]))
    return good[1] + height, 2.0 * height * away / max(float(away @ away), np.finfo(float).tiny)


def _transformation(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    found = optax.adam(1e-2) if optimizer is None else getattr(optimizer, "tx", optimizer)
    if not isinstance(found, optax.GradientTransformation):
        raise TypeError(
            f"backend 'grad' takes an optax transformation or an optimiser of braintools.optim, "
            f"not {type(optimizer).__name__}"
        )
    if len(getattr(optimizer, "param_groups", ())) > 1:
        raise TypeError("the optimiser has parameter groups; use optax.multi_transform for several rates")
    return optax.with_extra_args_support(found)


def _keywords(options: Any) -> dict[str, Any]:
    if options is None or isinstance(options, str):
        return {"method": options or "L-BFGS-B"}
    if not isinstance(options, Mapping) or set(options) - {"method", "tol", "options"}:
        raise TypeError(
            "backend 'scipy' takes the name of a method of scipy.optimize.minimize, or a dict of its "
            f"method, tol and options, not {options if isinstance(options, Mapping) else type(options).__name__}"
        )
    return dict(options)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _number(x: Any) -> np.ndarray:
    """Without jax's weak type, which would compile the program twice."""
    return np.asarray(x, np.result_type(x) if np.ndim(x) else jnp.result_type(float))
