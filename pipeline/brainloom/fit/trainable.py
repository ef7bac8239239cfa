"""The trainable parameters of any module: names, unconstrained values, and bounds of a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom.core.errors import BrainloomError
from brainloom.core.units import UnitError
from brainloom.fit.composed import Composed

Leaves = list[jax.Array]


class StartError(BrainloomError, ValueError):
    """A fit cannot start: nothing to fit, a start outside of its range, or a loss that is not a number there."""


class Trainable:
    """
    Every ``brainstate.nn.Param(..., fit=True)`` and other ``ParamState`` of a module.

    Optimisers see the unconstrained values as a list of plain arrays, the *leaves*; units are put back by
    `constrained`.

    Parameters
    ----------
    model : brainstate.nn.Module

    Attributes
    ----------
    states : dict of ParamState
        By dotted name: ``"a"``, ``"node.a"``; a parameter that is used in several places has one name.

    Raises
    ------
    StartError
        The model has nothing to fit, or a value is not inside the range of its transform.
    """

    def __init__(self, model: Any) -> None:
        nodes = model.nodes()
        self.states: dict[str, brainstate.ParamState] = {}
        self._params: dict[str, brainstate.nn.Param] = {}
        for path, state in model.states(brainstate.ParamState).items():
            owner = nodes.get(path[:-1])
            is_param = isinstance(owner, brainstate.nn.Param) and len(path) > 1
            name = _name(path[:-1] if is_param else path)
            self.states[name] = state
            if is_param:
                self._params[name] = owner
        composed = ((path, node) for path, node in nodes.items() if isinstance(node, Composed))
        self.composed = {_name(path): node for path, node in composed if node.fit}
        if not self.states:
            raise StartError(
                f"{type(model).__name__} has no trainable parameters; make one with "
                "brainstate.nn.Param(value, t=transform, fit=True)"
            )
        flat, self._tree = jax.tree.flatten([state.value for state in self.states.values()])
        for name, state in self.states.items():
            if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.value)):
                how = self._params[name].t if name in self._params else "its values"
                raise StartError(f"{name} does not start strictly inside the range of {how}; move its start")
        self._dtypes = [jnp.result_type(leaf) for leaf in flat]
        self.shapes = [jnp.shape(leaf) for leaf in flat]

    def param(self, name: str) -> brainstate.nn.Param | None:
        """The parameter behind a name, or None for a bare state."""
        return self._params.get(name)

    def leaves(self) -> Leaves:
        """Present unconstrained values."""
        return [
            jnp.asarray(leaf) for leaf in jax.tree.leaves([state.value for state in self.states.values()])
        ]

    def values(self, leaves: Leaves) -> list[Any]:
        """The values of `states` that belong to leaves, in order."""
        return jax.tree.unflatten(self._tree, leaves)

    def write(self, leaves: Leaves) -> None:
        """Put leaves into the model."""
        for state, value in zip(self.states.values(), self.values(leaves), strict=True):
            state.value = value

    def constrained(self, leaves: Leaves) -> dict[str, Any]:
        """Values as the model uses them, with units, by dotted name; then those that are computed from them."""
        found: dict[str, Any] = {}
        for (name, _), value in zip(self.states.items(), self.values(leaves), strict=True):
            if name in self._params:
                param = self._params[name]
                value = param.t.forward(value)
                found[name] = value if param.precompute is None else param.precompute(value)
            else:
                found |= {f"{name}{part}": leaf for part, leaf in _parts(value)}
        raw = dict(zip(map(id, self.states.values()), self.values(leaves), strict=True))
        return found | {name: node.evaluate(raw) for name, node in self.composed.items()}

    def flat(self, leaves: Iterable[Any]) -> np.ndarray:
        """Leaves as one vector in double precision."""
        return np.concatenate([np.ravel(np.asarray(leaf, dtype=float)) for leaf in leaves])

    def unflat(self, vector: np.ndarray) -> Leaves:
        """Leaves of a vector; see `flat`."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        parts = zip(np.split(vector, ends), self.shapes, self._dtypes, strict=True)
        return [jnp.asarray(part.reshape(shape), dtype) for part, shape, dtype in parts]

    def bounds(self, search_space: Mapping[str, Any] | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """
        Lowest and highest value of each leaf.

        Parameters
        ----------
        search_space : mapping of name to (low, high), optional
            In the space and unit of the parameter; numbers or arrays of its shape. Intervals of transforms need
            no bounds: no unconstrained value leads out of them.

        Raises
        ------
        ValueError
            Unknown names, empty intervals, or intervals that the transform or the start leave.
        UnitError
            The unit of an interval is not that of the parameter.
        """
        space = dict(search_space or {})
        unknown = sorted(set(space) - set(self._params))
        if unknown:
            known = ", ".join(self._params)
            raise ValueError(f"search_space names {', '.join(unknown)}; the parameters are {known}")
        lower = [np.full(shape, -np.inf) for shape in self.shapes]
        upper = [np.full(shape, np.inf) for shape in self.shapes]
        place = 0
        for name, state in self.states.items():
            own = jax.tree.leaves(state.value)
            if name in space:
                lower[place], upper[place] = _raw_interval(name, self._params[name], state.value, space[name])
                if ((own[0] < lower[place]) | (own[0] > upper[place])).any():
                    raise StartError(
                        f"{name} starts outside of its search_space {space[name]}; move one of them"
                    )
            place += len(own)
        return lower, upper


def _name(path: tuple) -> str:
    """Dotted name of a place; weights of one coupling of a network are called as in its `parameter_values`."""
    parts = [str(part) for part in path]
    if "_own_weights" in parts[:-1]:
        at = parts.index("_own_weights")
        parts[at : at + 2] = [parts[at + 1], "weights"]
    return ".".join(parts)


def _raw_interval(
    name: str, param: brainstate.nn.Param, raw: Any, interval: Any
) -> tuple[np.ndarray, np.ndarray]:
    """An interval of a parameter in its unconstrained space."""
    joint = (brainstate.nn.OrderedT, brainstate.nn.SimplexT, brainstate.nn.UnitVectorT)
    if isinstance(param.t, joint):
        raise ValueError(f"search_space bounds {name}, whose values depend on each other through {param.t}")
    value = param.t.forward(raw)
    ends = []
    for end in interval:
        plain = _in_unit_of(value, end, name)
        end = jnp.broadcast_to(jnp.asarray(plain, jnp.result_type(float)), jnp.shape(value))
        end = end * value.unit if isinstance(value, u.Quantity) else end
        ends.append(np.asarray(jax.tree.leaves(param.t.inverse(end))[0], dtype=float))
    low, high = np.minimum(*ends), np.maximum(*ends)  # transforms may fall
    if np.isnan(low).any() or not (low < high).all():
        raise ValueError(
            f"search_space of {name} is {interval}; it must be (low, high) inside the range of {param.t}"
        )
    return low, high


def _in_unit_of(value: Any, end: Any, name: str) -> Any:
    """An end of an interval as a number in the unit of the parameter; plain numbers are taken as they are."""
    if not isinstance(end, u.Quantity):
        return end
    unit = value.unit if isinstance(value, u.Quantity) else u.UNITLESS
    if end.dim != unit.dim:
        raise UnitError(
            f"search_space of {name} is given in {end.unit}, but {name} is in {unit}; use the same unit"
        )
    return end.to_decimal(unit)


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Parts of a value that is a tree, such as the weight and bias of a linear layer."""
    flat, _ = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda x: isinstance(x, u.Quantity))
    return [
        ("".join(f".{getattr(key, 'key', getattr(key, 'idx', key))}" for key in path), x) for path, x in flat
    ]
