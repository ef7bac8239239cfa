"""Networks of regions that are written as plain brainstate modules, outside the contract of `NeuralMass`."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp

from brainloom import coupling as couplings_of
from brainloom import delays
from brainloom.conduction import checked_weights, given_value, planned_delays
from brainloom.core.units import number, parse


class ModuleNetwork(brainstate.nn.Module):
    """
    Couple the regions of any module with ``init_state`` and ``update``.

    Made by `brainloom.network.Network` where the node is not a `NeuralMass`. The coupling is the first argument of the
    node's ``update``; it is evaluated once a step, from the state before it, so every scheme is of first order in the
    coupling. Delays are read by linear interpolation.

    Parameters
    ----------
    node : brainstate.nn.Dynamics
    conn, distance, speed, delay, coupling, k, self_connection, shape
        See `Network`.
    coupled_var : str
        State variable that is sent.
    """

    def __init__(
        self,
        node: Any,
        conn: Any,
        *,
        coupled_var: str,
        distance: Any = None,
        speed: Any = None,
        delay: Any = None,
        coupling: str = "diffusive",
        k: Any = 1.0,
        self_connection: bool = False,
        **shape: Any,
    ) -> None:
        super().__init__()
        self.node = node
        n: int = int(node.varshape[0])
        self.n_regions = n
        self.coupled_var = coupled_var
        self.kind = couplings_of.check_kind(coupling)
        unknown = set(shape) - set(couplings_of.KINDS[coupling].parameters)
        if unknown:
            raise ValueError(f"coupling {coupling!r} has no parameter {', '.join(sorted(unknown))}")
        self.k, self.shape = k, shape
        trained = isinstance(conn, brainstate.nn.Param)
        self.weights = conn if trained else checked_weights(conn, n, "conn", keep_diagonal=self_connection)
        self._lag = planned_delays("ms", distance, speed, delay, n)
        self.distance, self.speed = distance, speed

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Create the history; it starts at the initial state of the regions at the first step."""
        self._history: Any = None
        if self._lag is None:
            return
        dt = brainstate.environ.get("dt", None)
        if dt is None:
            raise ValueError("a delayed network needs brainstate.environ's dt when it is initialised")
        longest = float(self._lag["bounds"][1].max())
        self._dt = float(number(dt, "time", "dt"))
        length = delays.block_and_length(0.0, longest, self._dt)[1]
        brainstate.nn.init_all_states(self.node) if batch_size is None else brainstate.nn.init_all_states(
            self.node, batch_size
        )
        first = u.get_mantissa(getattr(self.node, self.coupled_var).value)
        self._history = brainstate.ShortTermState(
            jnp.repeat(jnp.moveaxis(first, -1, 0)[:, None], length, axis=1)
        )

    def update(self, *inputs: Any) -> Any:
        """One step: the coupling, then the regions; returns what the node's ``update`` returns."""
        sent = getattr(self.node, self.coupled_var).value
        unit = u.get_unit(sent)
        now = u.get_mantissa(sent)
        weights = jnp.asarray(given_value(self.weights), now.dtype)
        p = {name: given_value(value) for name, value in {"k": self.k, **self.shape}.items()}
        gain_unit = u.get_unit(p["k"])
        p = {name: jnp.asarray(u.get_mantissa(value), now.dtype) for name, value in p.items()}
        kind = couplings_of.KINDS[self.kind]
        if self._history is None:
            arriving = couplings_of.evaluate(self.kind, p, weights, now)
        else:
            p = {name: jnp.asarray(v, now.dtype) for name, v in kind.parameters.items()} | p
            seen = self._seen(now)
            prepared = couplings_of.prepared_weights(self.kind, weights)
            axes = (...,) + (None,) * (seen.ndim - 2)
            pairs = {
                part: couplings_of.per_pair(p[part])[axes] for part in kind.pairwise if jnp.ndim(p[part])
            }
            channels = (seen,) if kind.pre is None else kind.pre(p | pairs, seen)
            sums = tuple(jnp.moveaxis(jnp.einsum("ij,ij...->i...", prepared, c), 0, -1) for c in channels)
            arriving = kind.combine(p, sums, now, jnp.sum(weights, axis=-1))
        arriving = arriving if unit.is_unitless and gain_unit.is_unitless else arriving * (unit * gain_unit)
        returned = self.node.update(arriving, *inputs)
        if self._history is not None:
            new = jnp.moveaxis(u.get_mantissa(getattr(self.node, self.coupled_var).value), -1, 0)[:, None]
            self._history.value = jnp.concatenate([self._history.value[:, 1:], new], axis=1)
        return returned

    def _seen(self, now: Any) -> Any:
        """Delayed values of the sources as every target sees them, (target, source, ...)."""
        assert self._lag is not None
        lag = self._lag["delay"]
        if lag is None:
            far, fast = (
                u.Quantity(given_value(value)) if isinstance(value, u.Quantity) else given_value(value)
                for value in (self.distance, self.speed)
            )
            ratio = far / fast
            lag = ratio.to_decimal(parse("ms")) if isinstance(ratio, u.Quantity) else ratio
        whole, fraction = delays.split(
            jnp.broadcast_to(jnp.asarray(lag, now.dtype), (self.n_regions,) * 2), self._dt
        )
        buffer = self._history.value
        newest = buffer.shape[1] - 1
        sources = jnp.broadcast_to(jnp.arange(self.n_regions), whole.shape)
        two = delays.windows_up_to(buffer, sources, newest - whole - 1, 2, newest)
        return delays.interpolated(two, fraction)[:, :, 0]
