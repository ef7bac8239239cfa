"""What the starts of a fit come to: which one is the result, how they differ, and scores with fresh noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.fit.evaluate import Loss, typed
from brainloom.fit.record import Record
from brainloom.fit.result import Score, Starts
from brainloom.fit.trainable import Leaves, Trainable


def choose(records: Sequence[Record], validation: np.ndarray | None) -> int:
    """The start with the lowest validation loss, or the lowest loss where no validation loss is finite."""
    losses = np.array([record.best[1] for record in records])
    if validation is not None and np.isfinite(validation).any():
        return int(np.argmin(np.where(np.isfinite(validation), validation, np.inf)))
    return int(np.argmin(losses))


def gather(
    trainable: Trainable,
    records: Sequence[Record],
    starts: list[Leaves],
    validation: np.ndarray | None,
    chosen: int,
) -> Starts:
    """All starts with an axis for them; one that could not be evaluated is NaN."""
    fine = [bool(np.isfinite(record.best[1])) for record in records]
    each = []
    for record, ok, start in zip(records, fine, starts, strict=True):
        leaves = record.best[0] if ok else [jnp.full_like(leaf, jnp.nan) for leaf in start]
        each.append(trainable.constrained([jnp.asarray(leaf) for leaf in leaves]))
    length = max(len(record.history) for record in records)
    history = np.full((len(records), length), np.nan)
    for row, record in zip(history, records, strict=True):
        row[: len(record.history)] = record.history
    return Starts(
        loss=np.array([record.best[1] if ok else np.nan for record, ok in zip(records, fine, strict=True)]),
        validation=validation,
        params={
            name: jax.tree.map(lambda *x: jnp.stack(x), *[one[name] for one in each]) for name in each[0]
        },
        history=history,
        converged=np.array([record.converged for record in records]),
        chosen=chosen,
    )


def score(loss: Loss, leaves: Leaves, key: Any, n: int) -> Score:
    """Losses at leaves for `n` fresh keys; one loss if nothing is drawn."""
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n}; it must be a whole number, at least 1")
    if loss.key_place is None:
        once = loss.compiled("once", lambda: jax.jit(lambda leaves, fixed: loss.once(leaves, fixed)[0]))
        value = float(once(leaves, loss.fixed))
        return Score(value, 0.0, np.array([value]), [])
    keys = jax.random.split(typed(brainstate.random.split_key() if key is None else key), n)

    # one after the other: a long simulation n times at once may not fit into memory
    def each(leaves: Leaves, keys: jax.Array, fixed: Any) -> jax.Array:
        return jax.lax.map(lambda one: loss.once(leaves, loss.with_key(one, fixed))[0], keys)

    values = np.asarray(loss.compiled("scores", lambda: jax.jit(each))(leaves, keys, loss.fixed), float)
    words = np.asarray(jax.random.key_data(keys)).tolist()
    return Score(float(values.mean()), float(values.std(ddof=1)) if n > 1 else 0.0, values, words)
