"""Parameters of models, networks and observers by dotted name, and copies of these with other values in place."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.core.units import UnitError, number, parse, quantity, shown
from brainloom.models.base import NeuralMass

# isort: split
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate.nn import IdentityT, Module, Param

from brainloom import coupling as couplings_of
from brainloom.conduction import planned_delays
from brainloom.coupling import Coupling
from brainloom.network import Network
from brainloom.noise.base import NoiseProcess
from brainloom.observe.base import Part


class Fixed(Param):
    """A parameter that has a value, which may be traced, and nothing else."""

    def __init__(self, value: Any, fit: bool = False, connections: np.ndarray | None = None) -> None:
        Module.__init__(self)
        self.fit, self.t, self.reg, self.precompute = fit, IdentityT(), None, None
        self.now = value
        if connections is not None:
            self.connections = connections

    @property
    def val(self) -> Any:
        """The value."""
        return self.now

    def value(self) -> Any:
        """The value."""
        return self.now

    def reg_loss(self) -> float:
        """It has no prior."""
        return 0.0


@dataclass(frozen=True, eq=False)
class Place:
    """
    Where the values of a swept parameter go.

    Attributes
    ----------
    name : str
    owner : object
        What holds it.
    key : str
        Name within the owner.
    values : (point, ...) array
        Plain numbers in `unit`.
    unit : Unit
    label : str
        The unit as text.
    bare : bool
        What is held now is a plain number, and so are the values that replace it.
    """

    name: str
    owner: Any
    key: str
    values: np.ndarray
    unit: Any
    label: str
    bare: bool = False

    def put(self, value: Any) -> Any:
        """One value as it is held."""
        return value if self.bare or self.unit == u.UNITLESS else value * self.unit


def place(root: Any, name: str, values: Any, observers: Sequence[Any] = ()) -> Place:
    """
    Find a parameter.

    Parameters
    ----------
    root : model, network or any module
    name : str
        Dotted; ``observe.<name of the observer>.<parameter>`` for observers.
    values : (point, ...) array or Quantity
        Plain numbers are in the declared unit, or in the one that the present value has.
    observers : sequence of observers

    Raises
    ------
    ValueError
        No such parameter; the message lists those that there are.
    UnitError
        The values have another dimension.
    """
    owner, rest = root, name.split(".")
    if rest[0] == "observe" and len(rest) > 1:
        named = {one.name: one for one in observers}
        if rest[1] not in named:
            raise ValueError(f"no observer is called {rest[1]!r}; there is {', '.join(named) or 'none'}")
        owner, rest = named[rest[1]], rest[2:]
    while rest:
        key = ".".join(rest)
        if key in _names(owner):
            return _placed(owner, key, name, values)
        owner = _within(owner, rest[0])
        rest = rest[1:]
        if isinstance(owner, Param) and not rest:
            return _generic(owner, "", name, values, owner.value())
    known = names(root, observers)
    near = difflib.get_close_matches(name, known, 1)
    raise ValueError(
        f"{type(root).__name__} has no parameter {name!r}"
        + (f"; did you mean {near[0]!r}?" if near else "")
        + f"; it has {', '.join(known)}"
    )


def names(root: Any, observers: Sequence[Any] = ()) -> list[str]:
    """Names of all parameters of a model, network or module, and of observers."""
    found = list(_names(root))
    for name, value in _children(root).items():
        inside = names(value)
        found += [f"{name}.{inner}" for inner in inside] or [name] * isinstance(value, Param)
    for one in observers:
        found += [f"observe.{one.name}.{inner}" for inner in names(one)]
    return found


def substituted(root: Any, changes: Mapping[Place, Any], observers: Sequence[Any] = ()) -> tuple[Any, tuple]:
    """
    A copy with other values; the original and what is not changed are shared.

    Parameters
    ----------
    root : model, network or module
    changes : mapping of Place to value
        Plain arrays in the unit of the place; they may be traced.
    observers : sequence of observers

    Returns
    -------
    root, observers
        A parameter that is used in several places is changed in all of them.
    """
    params: dict[int, Any] = {}
    attributes: dict[int, dict[Place, Any]] = {}
    for where, value in changes.items():
        held = where.owner if not where.key else _present(where.owner, where.key)
        if isinstance(held, Param):
            params[id(held)] = _as_param(where, value)
            if not isinstance(where.owner, Network):
                continue
        attributes.setdefault(id(where.owner), {})[where] = value
    memo: dict[int, Any] = {}

    def rebuilt(value: Any) -> Any:
        if id(value) in params:
            return params[id(value)]
        if id(value) in memo:
            return memo[id(value)]
        if isinstance(value, (Module, NoiseProcess)):
            memo[id(value)] = value  # a module that holds itself
            memo[id(value)] = _rebuilt_module(value, rebuilt, attributes.get(id(value), {}))
            return memo[id(value)]
        if isinstance(value, Coupling):
            fields = {
                name: rebuilt(getattr(value, name)) for name in ("conn", "k", "speed", "distance", "shape")
            }
            changed = {k: v for k, v in fields.items() if v is not getattr(value, k)}
            return replace(value, **changed) if changed else value
        if type(value) in (tuple, list):
            parts = [rebuilt(one) for one in value]
            return value if all(a is b for a, b in zip(parts, value, strict=True)) else type(value)(parts)
        if type(value) is dict:
            entries = {name: rebuilt(one) for name, one in value.items()}
            return value if all(entries[name] is value[name] for name in value) else entries
        return value

    return rebuilt(root), tuple(rebuilt(one) for one in observers)


def _rebuilt_module(module: Any, rebuilt: Any, own: dict[Place, Any]) -> Any:
    if isinstance(module, Param) and not hasattr(module, "parts"):
        return module
    inner = {name: rebuilt(value) for name, value in vars(module).items()}
    changed = {name: value for name, value in inner.items() if value is not vars(module)[name]}
    if not changed and not own:
        return module
    other = copy.copy(module)
    for name, value in changed.items():
        object.__setattr__(other, name, value)
    if isinstance(module, Network):
        _change_network(other, own)
    else:
        for where, value in own.items():
            new = _as_param(where, value) if _is_delay(where) else where.put(value)
            object.__setattr__(other, where.key, new)
    return other


def _is_delay(where: Place) -> bool:
    """A delay inside of a model: only that of a trainable parameter may be traced, its bounds plan the history."""
    return isinstance(where.owner, NeuralMass) and where.key in where.owner.SELF_DELAYS


def _as_param(where: Place, value: Any) -> Fixed:
    is_matrix = where.key.rpartition(".")[2] == "weights" and isinstance(where.owner, Network)
    connections = (where.values != 0.0).any(axis=0) if is_matrix else None
    return Fixed(where.put(value), _is_delay(where), connections)


# --- names ---------------------------------------------------------------------------------------------------


def _names(owner: Any) -> dict[str, str]:
    """Names of the numbers that an object holds itself, and their declared units; empty where nothing is declared."""
    if isinstance(owner, NeuralMass):
        found = {p.name: p.unit for p in owner.PARAMETERS}
        found |= {f"init_{s.name}": s.unit for s in owner.STATES}
        given = (s for s in owner.STATES if not isinstance(getattr(owner, f"noise_{s.name}"), NoiseProcess))
        found |= {f"noise_{s.name}": f"{s.unit}/sqrt(time)" for s in given}
        for slot, process in owner.noise_slots().items():
            known = {k: v for k, v in process.PARAMETERS.items() if getattr(process, k) is not None}
            unit = owner.noise_unit(slot)
            found |= {f"noise_{slot}.{name}": text.replace("[unit]", unit) for name, text in known.items()}
        return found
    if isinstance(owner, Network):
        found = {"k": ""} if all(one.k is owner.k for one in owner.couplings) else {}
        for prefix, one in zip(owner._names, owner.couplings, strict=True):
            found |= {f"{prefix}.{part}": "" for part in couplings_of.KINDS[one.kind].parameters}
            found |= {f"{prefix}.weights": "1"} if prefix in owner._own_weights else {}
        found |= {} if owner.weights is None else {"weights": "1"}
        lag = owner._lags[""]
        if lag is not None:
            found |= {"delay": "time"} if lag["delay"] is not None else {"speed": "mm/ms", "distance": "mm"}
        return found
    if isinstance(owner, Part):
        return {p.name: p.unit for p in owner.PARAMETERS}
    if isinstance(owner, Param):
        return {}
    if isinstance(owner, Module):
        return {k: "" for k, v in vars(owner).items() if not k.startswith("_") and _is_number(v)}
    return {}


def _children(owner: Any) -> dict[str, Any]:
    """Modules inside of a module whose parameters have names of their own."""
    if isinstance(owner, Param):
        return {name: getattr(owner, name) for name in getattr(owner, "parts", ())}
    known = {name.split(".")[0] for name in _names(owner)}
    found = {}
    for name, value in vars(owner).items() if isinstance(owner, Module) else ():
        composed = isinstance(value, Param) and hasattr(value, "parts")
        named = name == "node" if isinstance(owner, Network) else name not in known
        if isinstance(value, Module) and not name.startswith("_") and (composed or named):
            found[name] = value
    return found


def _within(owner: Any, name: str) -> Any:
    return getattr(owner, name, None) if isinstance(owner, Module) else None


def _is_number(value: Any) -> bool:
    if isinstance(value, Param):
        return True
    kinds = (int, float, np.ndarray, np.number, jax.Array, u.Quantity)
    if not isinstance(value, kinds) or isinstance(value, bool):
        return False
    return np.asarray(u.get_mantissa(value)).dtype.kind in "iuf"


def _present(owner: Any, key: str) -> Any:
    """What is held now under a name."""
    if isinstance(owner, Network):
        prefix, _, part = key.rpartition(".")
        if not prefix:
            return {"delay": None}.get(key, getattr(owner, key, None))
        one = owner.couplings[owner._names.index(prefix)]
        held = {"k": one.k, "weights": owner._own_weights.get(prefix)}
        return held[part] if part in held else one.shape.get(part)
    if isinstance(owner, NeuralMass) and "." in key:  # of a noise process
        slot, _, part = key.partition(".")
        return getattr(getattr(owner, slot), part)
    return getattr(owner, key, None)


# --- values --------------------------------------------------------------------------------------------------


def _placed(owner: Any, key: str, name: str, values: Any) -> Place:
    declared, present = _names(owner)[key], _present(owner, key)
    present = present.value() if isinstance(present, Param) else present
    if not declared:
        if isinstance(
            owner, Network
        ):  # a gain may have any unit that closes the equation; the network checks it
            unit = u.get_unit(values)
            return Place(name, owner, key, _plain(values, unit, name), unit, _text(unit))
        return _generic(owner, key, name, values, present)
    time_unit = getattr(getattr(owner, "node", owner), "time_unit", "s")
    found = number(values, declared, name, time_unit)
    _check_points(name, found)
    if isinstance(owner, Network) and key.endswith("weights") and found.shape[1:] != (owner.n_regions,) * 2:
        wanted = ("point", owner.n_regions, owner.n_regions)
        raise ValueError(f"{name} has values of shape {found.shape}; give one matrix a point, {wanted}")
    if isinstance(owner, NeuralMass) and key in owner.SELF_DELAYS:
        low, high = next(p.bounds for p in owner.PARAMETERS if p.name == key)
        if found.min() < low or found.max() > high:
            raise ValueError(
                f"{name} goes from {found.min():g} to {found.max():g}; its bounds are {low:g} and {high:g}"
            )
    if isinstance(owner, NeuralMass) and "." in key:
        slot, _, key = key.partition(".")
        owner = getattr(owner, slot)
    bare = not isinstance(present, u.Quantity)
    return Place(name, owner, key, found, parse(declared, time_unit), shown(declared, time_unit), bare)


def _generic(owner: Any, key: str, name: str, values: Any, present: Any) -> Place:
    """A parameter that declares nothing: its unit is that of its present value."""
    unit = u.get_unit(present)
    if isinstance(values, u.Quantity) and values.dim != unit.dim:
        raise UnitError(
            f"{name} is given in {values.unit}, but it is in {unit}; give values that convert to that"
        )
    return Place(name, owner, key, _plain(values, unit, name), unit, _text(unit))


def _plain(values: Any, unit: Any, name: str) -> np.ndarray:
    found = np.asarray(values.to_decimal(unit) if isinstance(values, u.Quantity) else values, dtype=float)
    return _check_points(name, found)


def _check_points(name: str, values: np.ndarray) -> np.ndarray:
    if values.ndim < 1 or not len(values):
        raise ValueError(f"{name} needs a list of values, one a point; it has {values}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite numbers")
    return values


def _text(unit: Any) -> str:
    return "1" if unit == u.UNITLESS else str(unit)


def _change_network(network: Any, own: dict[Place, Any]) -> None:
    """Put values into a copy of a network; delays are planned for all values of the sweep."""
    parts, weights = list(network.couplings), dict(network._own_weights)
    lags: dict[str, Place] = {}
    for where, value in own.items():
        prefix, _, part = where.key.rpartition(".")
        new = where.put(value)
        if where.key == "k":
            parts = [replace(one, k=new) for one in parts]
            object.__setattr__(network, "k", new)
        elif where.key == "weights":
            object.__setattr__(network, "weights", _as_param(where, value))
        elif where.key in ("speed", "distance", "delay"):
            lags[where.key] = where
            if where.key != "delay":
                object.__setattr__(network, where.key, new)
        elif part == "weights":
            weights[prefix] = _as_param(where, value)
        else:
            at = network._names.index(prefix)
            one = parts[at]
            parts[at] = replace(one, k=new) if part == "k" else replace(one, shape={**one.shape, part: new})
    object.__setattr__(network, "couplings", tuple(parts))
    object.__setattr__(network, "_own_weights", weights)
    if lags:
        values = {where.key: value for where, value in own.items()}
        object.__setattr__(network, "_lags", network._lags | {"": _planned(network, lags, values)})


def _planned(network: Any, lags: Mapping[str, Place], values: Mapping[str, Any]) -> dict[str, Any]:
    n, keep, unit = network.n_regions, network.self_connection, network.node.time_unit
    before = network._lags[""]
    if "delay" in lags:
        off = np.ones((n, n), dtype=bool) if keep else ~np.eye(n, dtype=bool)
        given = np.broadcast_to(_as_matrix(lags["delay"].values, n), (len(lags["delay"].values), n, n))
        if (given < 0).any():
            raise ValueError("delay has negative values; delays must be at least 0")
        low, high = (np.where(off, x, x[off].min()) for x in (given.min(axis=0), given.max(axis=0)))
        return {"delay": jnp.broadcast_to(values["delay"], (n, n)), "bounds": (low, high)}
    bounds = list(before["bounds"])
    known = {"speed": network.speed, "distance": network.distance}
    for end, pick in enumerate(({"speed": "max", "distance": "min"}, {"speed": "min", "distance": "max"})):
        extreme = dict(known)
        for key, where in lags.items():
            extreme[key] = quantity(
                getattr(where.values, pick[key])(axis=0), "mm/ms" if key == "speed" else "mm"
            )
        found = planned_delays(unit, extreme["distance"], extreme["speed"], None, n, keep_diagonal=keep)
        bounds[end] = np.zeros((n, n)) if found is None else found["bounds"][end]
    return {"delay": None, "bounds": tuple(bounds)}


def _as_matrix(values: np.ndarray, n: int) -> np.ndarray:
    return values[:, None, None] if values.ndim == 1 else values
