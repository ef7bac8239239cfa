"""A loss that users write on a module, as a pure function of unconstrained parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.fit.fingerprint import fingerprint
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
    n_realisations : int
        The loss is the mean over so many keys, split from `key`; the auxiliary output has an axis for them first.

    Attributes
    ----------
    fixed : pytree
        Target, random key, and values of other state variables.
    seeds : list of list of int
        Words of each key; empty if nothing is drawn.
    several : bool
        There are several realisations.
    has_aux : bool
        There is an auxiliary output.
    programs : dict
        What was compiled for it, see `compiled`; losses that are the same program may share it.

    Raises
    ------
    ValueError
        The loss is not one number, or has several realisations although nothing is drawn.
    """

    def __init__(
        self,
        model: Any,
        trainable: Trainable,
        function: Callable[[Any], Any],
        target: Any = None,
        key: jax.Array | None = None,
        n_realisations: int = 1,
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
        values: list[Any] = []
        self.seeds: list[list[int]] = []
        self.key_place: int | None = None
        for place, state in enumerate(others):
            value = state.value
            if state is brainstate.random.DEFAULT:
                value = typed(brainstate.random.split_key() if key is None else key)
                self.key_place = place
                if n_realisations > 1:
                    value = jax.random.split(value, n_realisations)
                self.seeds = np.atleast_2d(np.asarray(jax.random.key_data(value))).tolist()
            values.append(value)
        if n_realisations > 1 and self.key_place is None:
            raise ValueError(
                f"n_realisations is {n_realisations}, but the loss draws nothing from brainstate.random: a "
                "Simulator with key= has the same noise every time"
            )
        self.several = n_realisations > 1
        self.fixed = (values, given)
        self.programs: dict[Hashable, Any] = {}
        _warn_of_strangers(trainable, states, others)
        self.has_aux = bool(jax.tree.leaves(jax.eval_shape(self, trainable.leaves(), self.fixed)[1]))

    def fingerprint(self) -> str | None:
        """Hash of the traced function with its constants, not of what is in `fixed`; None if it is not known."""
        given = self.fixed[1]
        shape = str(jax.tree.structure((self._function.get_out_shapes(given), self.fixed)))
        places = [str(place) for place in (*self._places, self.key_place)]
        return fingerprint(self._function.get_jaxpr(given), shape, places, self.several)

    def compiled(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gave when it was first called for `name`, by this loss or one that shares its programs."""
        try:
            hash(name)
        except TypeError:  # an optimiser that cannot be a key
            return make()
        if name not in self.programs:
            self.programs[name] = make()
        return self.programs[name]

    def __call__(self, leaves: Leaves, fixed: Any) -> tuple[jax.Array, Any]:
        """Loss and auxiliary output at leaves."""
        if not self.several:
            return self.once(leaves, fixed)
        values, _ = fixed
        losses, aux = jax.vmap(lambda key: self.once(leaves, self.with_key(key, fixed)))(
            values[self.key_place]
        )
        return jnp.mean(losses), aux

    def with_key(self, key: jax.Array, fixed: Any) -> Any:
        """`fixed` with another random key."""
        values, target = fixed
        return [key if place == self.key_place else value for place, value in enumerate(values)], target

    def once(self, leaves: Leaves, fixed: Any) -> tuple[jax.Array, Any]:
        """Loss and auxiliary output of one realisation."""
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


def typed(key: Any) -> jax.Array:
    """A random key, or its words, as a typed key."""
    known = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if known else jax.random.wrap_key_data(jnp.asarray(key))


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
