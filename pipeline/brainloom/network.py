"""Networks: regions of one model, coupled through a connectome, with or without conduction delays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainloom import coupling as couplings_of
from brainloom import delays
from brainloom.conduction import (
    checked_weights,
    connection_mask,
    counted_weights,
    given_value,
    plain_value,
    planned_delays,
)
from brainloom.core.units import UnitError, parse, plain
from brainloom.coupling import Coupling
from brainloom.engine import Arrays, Structure, Term
from brainloom.models.base import NeuralMass
from brainloom.models.lowering import fresh_memory, node_structure, node_values, stateful_step
from brainloom.module_network import ModuleNetwork


class Network(brainstate.nn.Module):
    """
    A model in every region, coupled through a connectome.

    Parameters
    ----------
    node : NeuralMass
        The regions.
    conn : (region, region) array or Param, optional
        ``conn[i, j]`` is the weight from j to i. The diagonal counts as 0 unless `self_connection`.
    distance : (region, region) array, Quantity or Param, optional
        Lengths of the connections; plain numbers in mm.
    speed : number, array, Quantity or Param, optional
        Conduction speed, for all connections or for each; plain numbers in mm/ms. A trainable one needs a
        transform with finite bounds: they decide how much history is kept.
    delay : (region, region) array or Quantity, optional
        Delays themselves, instead of distance and speed; plain numbers in the time unit of the model.
    coupling : str
        One of `brainloom.coupling.KINDS`; ``"diffusive"`` by default.
    coupled_var : str or tuple of str
        Observables that are sent. Several go to as many ports, in the order in which the model declares them.
    port : str or tuple of str, optional
        Where they arrive, if not at the first ports.
    k : number, array (region,) or Param
        Gain.
    couplings : sequence of Coupling, optional
        Several couplings, instead of `coupling`, `coupled_var`, `port`, `k` and `shape`.
    sparse : bool
        Use lists of connections where there are no delays; the values are the same.
    self_connection : bool
        Keep the diagonal.
    divide_by_n : bool
        Kuramoto coupling: divide by the number of regions.
    **shape
        Shape parameters of the coupling, such as ``scale`` of ``tanh``.

    Raises
    ------
    ValueError
        Wrong shapes, unknown couplings, observables or ports; a trainable speed without bounds.
    UnitError
        A source whose unit does not fit the port.

    Examples
    --------
    >>> import numpy as np
    >>> from brainloom.models import HopfStep
    >>> net = Network(HopfStep(3, a=-0.1), np.ones((3, 3)), distance=30.0 * np.ones((3, 3)), speed=10.0, k=0.2)
    >>> net.delay_values()[0, 1].item()  # 30 mm at 10 mm/ms
    3.0
    """

    def __new__(cls, node: Any = None, *arguments: Any, **options: Any) -> Any:
        """A node that is not a `NeuralMass` makes a `brainloom.module_network.ModuleNetwork`."""
        if node is None or isinstance(node, NeuralMass):  # copies are made without arguments
            return super().__new__(cls)
        return ModuleNetwork(node, *arguments, **options)

    def __init__(
        self,
        node: NeuralMass,
        conn: Any = None,
        *,
        distance: Any = None,
        speed: Any = None,
        delay: Any = None,
        coupling: str = "diffusive",
        coupled_var: str | tuple[str, ...] = "source",
        port: str | tuple[str, ...] | None = None,
        k: Any = 1.0,
        couplings: Sequence[Coupling] | None = None,
        sparse: bool = False,
        self_connection: bool = False,
        divide_by_n: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__()
        self.node = node
        self.n_regions = node.varshape[0]
        self.sparse, self.divide_by_n, self.self_connection = sparse, divide_by_n, self_connection
        if couplings is None:
            couplings = _simple_couplings(node, coupling, coupled_var, port, k, shape)
        elif shape:
            raise TypeError(
                f"unknown keyword {', '.join(shape)}; shape parameters go into the Coupling objects"
            )
        self.weights = None if conn is None else self._weights(conn, "conn")
        plan = partial(planned_delays, node.time_unit, n=self.n_regions, keep_diagonal=self_connection)
        self._lags = {"": plan(distance, speed, delay)}
        self.distance, self.speed = distance, speed
        self.couplings = tuple(couplings)
        self._names = _names(self.couplings)
        self._own_weights = {}
        self.k = k
        for name, one in zip(self._names, self.couplings, strict=True):
            lag = {"distance": one.distance, "speed": one.speed}
            for part, value in ({"k": one.k, "conn": one.conn} | lag | dict(one.shape)).items():
                if isinstance(value, brainstate.nn.Param) and value is not k:
                    setattr(self, f"{name}_{part}", value)  # where states(ParamState) finds it
        for name, one in zip(self._names, self.couplings, strict=True):
            check_coupling(node, one)
            if one.conn is not None:
                self._own_weights[name] = self._weights(one.conn, f"conn of coupling {name}")
            elif self.weights is None:
                raise ValueError(
                    f"coupling {name} has no weights; give conn to the Network or to the Coupling"
                )
            if one.distance is not None or one.speed is not None or one.delay is not None:
                self._lags[name] = plan(one.distance, one.speed, one.delay)

    def _weights(self, conn: Any, name: str) -> Any:
        if isinstance(conn, brainstate.nn.Param):
            value, n = conn.value(), self.n_regions
            if jnp.shape(value) != (n, n):
                raise ValueError(f"{name} has shape {jnp.shape(value)}; {n} regions need {(n, n)}")
            return conn
        return checked_weights(conn, self.n_regions, name, keep_diagonal=self.self_connection)

    # --- what the network is made of ---------------------------------------------------------------------

    def parameter_values(self) -> Arrays:
        """All parameters of nodes, noise and couplings: constrained values as a flat dict of plain arrays."""
        found = node_values(self.node)
        if self.weights is not None:
            found["weights"] = counted_weights(self.weights, self.self_connection)
        lagged = {name: self._delays(name) for name, lag in self._lags.items() if lag is not None}
        for name, one in zip(self._names, self.couplings, strict=True):
            kind = couplings_of.KINDS[one.kind]
            given = dict(one.shape)
            if one.kind == "kuramoto" and self.divide_by_n:
                given["scale"] = 1.0 / self.n_regions
            for part, default in kind.parameters.items():
                value = (
                    self._gain(given_value(one.k), one)
                    if part == "k"
                    else plain_value(given.get(part, default))
                )
                found[f"{name}.{part}"] = value
            if name in self._own_weights:
                found[f"{name}.weights"] = counted_weights(self._own_weights[name], self.self_connection)
            if name in lagged:
                found[f"{name}.delay"] = lagged[name]
            if self._listed(name):
                found |= self._lists(name)
        if "" in lagged:
            found["delay"] = lagged[""]
        return found

    def derived_values(self, values: Arrays) -> Arrays:
        """Values with the delays that follow from speed and distance."""
        found = dict(self.node.derived_values(values))
        for name, lag in self._lags.items():
            prefix = f"{name}." if name else ""
            given = {
                part: values[f"{prefix}{part}"]
                for part in ("speed", "distance")
                if f"{prefix}{part}" in values
            }
            if lag is not None and given:
                found[f"{prefix}delay"] = self._delays(name, **given)
        return found

    def read_value(self, name: str, value: Any) -> jax.Array:
        """A constrained value of a named parameter as a plain array in the units of the model."""
        last = name.rpartition(".")[2]
        if last in ("speed", "distance"):
            return plain(value, {"speed": "mm/ms", "distance": "mm"}[last], f"{last} of Network")
        for prefix, one in zip(self._names, self.couplings, strict=True):
            if name == f"{prefix}.k":
                return self._gain(value, one)
        if last == "weights":
            return counted_weights(value, self.self_connection)
        own = name.rpartition(".")[0] in self._names  # else of the regions, such as noise_x.tau
        return plain_value(value) if own else self.node.read_value(name, value)

    def structure(self, method: str, dt: float) -> Structure:
        """
        The static description that compiled programs are keyed by.

        Parameters
        ----------
        method : str
        dt : float
            In the time unit of the model; decides how many steps a block of delays holds.
        """
        base = node_structure(self.node, method, dt)
        terms = []
        shortest, longest = [], []
        for name, one in zip(self._names, self.couplings, strict=True):
            lag = self._lag_of(name)
            delayed = lag is not None and lag[1] > 0.0
            if delayed:
                shortest.append(lag[0])  # type: ignore[index]
                longest.append(lag[1])  # type: ignore[index]
            terms.append(
                Term(
                    name=name,
                    kind=one.kind,
                    source=one.source,
                    port=port_of(self.node, one),
                    weights=f"{name}.weights" if name in self._own_weights else "weights",
                    delay="" if not delayed else f"{name}.delay" if name in self._lags else "delay",
                    listed=self._listed(name),
                )
            )
        base = replace(base, terms=(*terms, *base.terms))
        if not longest:
            return base
        block, length = delays.block_and_length(min(shortest), max(longest), dt)
        if base.block:
            block, length = min(block, base.block), max(length, base.length)
        return replace(base, block=block, length=length)

    def delay_values(self) -> jax.Array:
        """Delays of the connections in the time unit of the model, (region, region); zeros without."""
        return jnp.zeros((self.n_regions, self.n_regions)) if self._lags[""] is None else self._delays("")

    def trainable(self) -> dict[str, brainstate.nn.Param]:
        """Every ``Param(..., fit=True)`` by the name of its value in `parameter_values`."""
        found = dict(self.node.trainable())
        given: dict[str, Any] = {"weights": self.weights}
        for name, one in zip(self._names, self.couplings, strict=True):
            given |= {f"{name}.{part}": value for part, value in ({"k": one.k} | dict(one.shape)).items()}
            given[f"{name}.weights"] = self._own_weights.get(name)
        for name, lag in self._lags.items():
            if lag is not None and lag["delay"] is None:
                prefix = f"{name}." if name else ""
                given |= {f"{prefix}{part}": value for part, value in self._lag_parameters(name).items()}
        found |= {k: v for k, v in given.items() if isinstance(v, brainstate.nn.Param) and v.fit}
        return found

    # --- the published, stateful face ----------------------------------------------------------------------

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Create the histories; the regions create their own states."""
        self._memory: Any = fresh_memory(self, self.node, batch_size)

    def reset_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Start the histories anew; the regions reset their own states."""
        self._memory = fresh_memory(self, self.node, batch_size)

    def update(self, *inputs: Any, **ports: Any) -> Any:
        """Advance one step of ``brainstate.environ``'s dt and return the source observable."""
        return stateful_step(self, self.node, self.node.port_values(*inputs, **ports))

    # --- connections ---------------------------------------------------------------------------------------

    def _lag_of(self, name: str) -> tuple[float, float] | None:
        given = self._lags.get(name, self._lags[""])
        if given is None:
            return None
        low, high = given["bounds"]
        weights = self._own_weights.get(name, self.weights)
        used = connection_mask(weights, self.n_regions, self.self_connection)
        if used.any() and np.ndim(low) == 2:
            low, high = low[used], high[used]
        return float(np.min(low)), float(np.max(high))

    def _delays(self, name: str, distance: Any = None, speed: Any = None) -> jax.Array:
        lag = self._lags[name]
        if lag["delay"] is not None:
            return plain_value(lag["delay"])
        given = self._lag_parameters(name)
        distance = (
            self.read_value("distance", given_value(given["distance"])) if distance is None else distance
        )
        speed = self.read_value("speed", given_value(given["speed"])) if speed is None else speed
        found = distance / speed * (1.0 if self.node.time_unit == "ms" else 1e-3)
        return jnp.broadcast_to(found, (self.n_regions, self.n_regions))

    def _lag_parameters(self, name: str) -> dict[str, Any]:
        holder: Any = self if not name else self.couplings[self._names.index(name)]
        return {"speed": holder.speed, "distance": holder.distance}

    def _listed(self, name: str) -> bool:
        return self.sparse or self._lag_of(name) is not None

    def _lists(self, name: str) -> Arrays:
        weights = self._own_weights.get(name, self.weights)
        mask = connection_mask(weights, self.n_regions, self.self_connection)
        sources = delays.neighbours(mask)
        real = np.arange(sources.shape[1])[None, :] < mask.sum(axis=1)[:, None]
        return {
            f"{name}.sources": jnp.asarray(sources),
            f"{name}.real": jnp.asarray(real, jnp.result_type(float)),
        }

    def _gain(self, gain: Any, one: Coupling) -> jax.Array:
        """Gain in the units of the model: a quantity converts what is sent to what the port takes."""
        if isinstance(gain, u.Quantity):
            sent = parse(self.node.observables()[one.source].unit, self.node.time_unit)
            taken = next(p.unit for p in self.node.PORTS if p.name == port_of(self.node, one))
            gain = gain.to_decimal(parse(taken, self.node.time_unit) / sent)
        return jnp.asarray(gain, jnp.result_type(float))


def _simple_couplings(
    node: NeuralMass, kind: str, sources: Any, ports: Any, k: Any, shape: Mapping[str, Any]
) -> tuple[Coupling, ...]:
    sources = (sources,) if isinstance(sources, str) else tuple(sources)
    if ports is None:
        ports = node.port_names()[: len(sources)] if node.DEFAULT_PORT else ()
        if len(sources) > len(node.PORTS):
            raise ValueError(f"{len(sources)} coupled variables but {len(node.PORTS)} ports")
    ports = (ports,) if isinstance(ports, str) else tuple(ports)
    if len(ports) != len(sources):
        raise ValueError(
            f"{type(node).__name__} has no default port for a coupling; name it, as port={node.port_names()[-1]!r}"
            if not ports
            else f"{len(sources)} coupled variables but {len(ports)} ports"
        )
    names = ["coupling"] if len(sources) == 1 else [f"coupling_{source}" for source in sources]
    return tuple(
        Coupling(kind, source, port, k=k, shape=shape, name=name)
        for source, port, name in zip(sources, ports, names, strict=True)
    )


def _names(terms: Sequence[Coupling]) -> tuple[str, ...]:
    names = tuple(one.name or f"coupling_{index}" for index, one in enumerate(terms))
    if len(set(names)) < len(names):
        raise ValueError(f"two couplings have the same name, among {', '.join(names)}")
    return names


def port_of(node: NeuralMass, one: Coupling) -> str:
    """The port at which a coupling arrives."""
    return node.port_names()[0] if one.port is None else one.port


def check_coupling(node: NeuralMass, one: Coupling) -> None:
    """
    Check that a coupling fits a model.

    Raises
    ------
    ValueError
        Unknown kind, observable, port or shape parameter, or no port where the model has no default.
    UnitError
        The unit of the source, times that of the gain, is not that of the port.
    """
    kind = couplings_of.KINDS[couplings_of.check_kind(one.kind)]
    model = type(node).__name__
    known = node.observables()
    if one.source not in known:
        raise ValueError(f"{model} has no observable {one.source!r}; it has {', '.join(known)}")
    if known[one.source].driven:
        raise ValueError(
            f"{one.source!r} of {model} depends on its inputs and cannot be sent to other regions"
        )
    if one.port is None and not node.DEFAULT_PORT:
        raise ValueError(
            f"{model} has no default port for a coupling; name one of {', '.join(node.port_names())}"
        )
    if port_of(node, one) not in node.port_names():
        raise ValueError(f"{model} has no port {one.port!r}; it has {', '.join(node.port_names())}")
    unknown = set(one.shape) - set(kind.parameters)
    if unknown:
        raise ValueError(
            f"coupling {one.kind!r} has no parameter {', '.join(sorted(unknown))}; "
            f"it has {', '.join(kind.parameters)}"
        )
    _check_units(node, one)


def _check_units(node: NeuralMass, one: Coupling) -> None:
    """A plain gain takes the unit that closes the equation; a quantity must close it."""
    if one.kind not in ("additive", "scaling", "diffusive", "laplacian", "laplacian_rw", "laplacian_sym"):
        return
    gain = given_value(one.k)
    sent = parse(node.observables()[one.source].unit, node.time_unit)
    need = parse(next(p.unit for p in node.PORTS if p.name == port_of(node, one)), node.time_unit)
    have = gain.unit * sent if isinstance(gain, u.Quantity) else sent
    # a plain gain may be a rate: what is sent per unit of time
    per_time = (sent / parse("time", node.time_unit)).dim
    fits = have.dim == need.dim or (not isinstance(gain, u.Quantity) and per_time == need.dim)
    if not fits:
        raise UnitError(
            f"{one.source} of {type(node).__name__} is sent in {have}, but its port {port_of(node, one)} takes "
            f"{need}; give the gain k as a quantity that converts one to the other"
        )
