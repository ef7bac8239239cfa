"""A loss that users write on a module, as a pure function of unconstrained parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.fit.trainable import Leaves, Trainable


class Loss:
    """
    ``(leaves, fixed) -> (loss, aux)`` for compiled programs.

    The function is traced once. The parameters and every other state variable that it reads become arguments, so
    each evaluation starts from the same state and the same random numbers, whatever the one before did.

    Parameters
    ----------
    model : brainstate.nn.Module
        Is left as it was.
    trainable : Trainable
    function : callable
        ``function(target) -> loss or (loss, aux)``.
    target : pytree of arrays
    key : jax.random key, optional
        Start of ``brainstate.random`` in every evaluation; drawn from it if not given.

    Attributes
    ----------
    fixed : pytree
        Target, random key, and values of other state variables.
    seeds : list of list of int
        Words of the key of each start; empty if nothing is drawn.

    Raises
    ------
    ValueError
        The loss is not one number.
    """

    def __init__(
        self,
        model: Any,
        trainable: Trainable,
        function: Callable[[Any], Any],
        target: Any = None,
        key: jax.Array | None = None,
    ) -> None:
        numbers = all(
            isinstance(leaf, (np.ndarray, jax.Array, float, int)) for leaf in jax.tree.leaves(target)
        )
        given = jax.tree.map(jnp.asarray, target) if numbers else None
        self._function = brainstate.transform.StatefulFunction(
            lambda arrays: _one_number(function(arrays if numbers else target))
        )
        with _as_it_was(model):
            self._function.make_jaxpr(given)
        states = self._function.get_states(given)
        mine = {id(state): place for place, state in enumerate(trainable.states.values())}
        self._trainable = trainable
        self._places = [mine.get(id(state)) for state in states]
        others = [state for state in states if id(state) not in mine]
        values, self.seeds = [], []
        for state in others:
            value = state.value
            if state is brainstate.random.DEFAULT:
                value = _typed(brainstate.random.split_key() if key is None else key)
                self.seeds = [np.asarray(jax.random.key_data(value)).tolist()]
            values.append(value)
        self.fixed = (values, given)
        _warn_of_strangers(trainable, states, others)

    def __call__(self, leaves: Leaves, fixed: Any) -> tuple[jax.Array, Any]:
        """Loss and auxiliary output at leaves."""
        values, target = fixed
        given = self._trainable.values(leaves)
        rest = iter(values)
        states = [next(rest) if place is None else given[place] for place in self._places]
        return self._function.jaxpr_call(states, target)[1]


def _one_number(found: Any) -> tuple[jax.Array, Any]:
    loss, aux = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if isinstance(loss, u.Quantity):
        if loss.dim != u.UNITLESS.dim:
            raise ValueError(f"the loss has the unit {loss.unit}; divide it by a unit so that it is a number")
        loss = loss.to_decimal()
    if isinstance(loss, (tuple, dict)):
        raise ValueError(
            f"the loss is a {type(loss).__name__}; return one number, or (number, anything else)"
        )
    loss = jnp.asarray(loss, jnp.result_type(float))
    if loss.size != 1:
        raise ValueError(f"the loss has shape {loss.shape}; return one number, such as its mean")
    return loss.reshape(()), aux


def _typed(key: jax.Array) -> jax.Array:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if typed else jax.random.wrap_key_data(key)


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """Undo what tracing leaves in a module, such as states of simulations that hold traced values."""
    kept = [(node, dict(vars(node))) for node in model.nodes().values()]
    try:
        yield
    finally:
        for node, before in kept:
            vars(node).clear()
            vars(node).update(before)


def _warn_of_strangers(trainable: Trainable, states: Any, others: list[Any]) -> None:
    read = {id(state) for state in states}
    unread = [name for name, state in trainable.states.items() if id(state) not in read]
    if unread:
        warnings.warn(f"the loss does not depend on {', '.join(unread)}; it stays where it is", stacklevel=5)
    foreign = sum(isinstance(state, brainstate.ParamState) for state in others)
    if foreign:
        warnings.warn(
            f"the loss reads {foreign} trainable parameter{'s' * (foreign > 1)} that the model does not hold as "
            "attributes of its modules; they stay fixed",
            stacklevel=5,
        )
