"""The contract of a neural mass model: states, parameters, ports, observables and one pure right-hand side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

_X64 = jax.config.read("jax_enable_x64")
import brainstate  # noqa: E402
import brainunit as u  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from brainloom import integrate  # noqa: E402

# Importing brainstate resets jax to single precision; keep what the process had chosen.
brainstate.environ.set(precision=64 if _X64 else 32)

Arrays = dict[str, jax.Array]


@dataclass(frozen=True)
class State:
    """One state variable: initial value, unit string and meaning."""

    name: str
    initial: float
    unit: str = "1"
    long_name: str = ""


@dataclass(frozen=True)
class Parameter:
    """One parameter: default, fitting range, unit in powers of the model's time unit, meaning."""

    name: str
    default: float
    bounds: tuple[float, float]
    unit: str = "1"
    long_name: str = ""


@dataclass(frozen=True)
class Port:
    """One named input: the derivative that it is added to (or enters) and its unit."""

    name: str
    unit: str
    enters: str


class NeuralMass(brainstate.nn.Dynamics):
    """
    Base of all ``<Name>Step`` models.

    A subclass declares `STATES`, `PARAMETERS`, `PORTS`, `OBSERVABLES` and the pure `rhs`; everything else
    follows. One unit of model time is 1 ms by default; give rates in 1/s to run the same equations in
    seconds, as resting-state BOLD models do.

    Parameters
    ----------
    in_size : int
        Number of regions.
    **parameters
        Declared parameters (numbers, arrays of shape (region,), or ``brainstate.nn.Param``),
        ``init_<state>`` and ``noise_<state>`` (white-noise amplitude, state/sqrt(time)).
    method : str
        Integrator of `update`: ``exp_euler`` (default, as published), ``euler``, ``heun`` or ``rk4``.

    Raises
    ------
    TypeError
        An unknown keyword; the message lists the known ones.
    """

    STATES: ClassVar[tuple[State, ...]] = ()
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()
    PORTS: ClassVar[tuple[Port, ...]] = ()
    OBSERVABLES: ClassVar[Mapping[str, Callable[[Arrays, Arrays], jax.Array]]] = {}

    def __init__(self, in_size: int, *, method: str = "exp_euler", **parameters: Any) -> None:
        super().__init__(in_size)
        self.method = integrate.check_method(method)
        known: dict[str, Any] = {p.name: p.default for p in self.PARAMETERS}
        known |= {f"init_{s.name}": s.initial for s in self.STATES}
        known |= {f"noise_{s.name}": None for s in self.STATES}
        unknown = sorted(set(parameters) - set(known))
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        for name, default in known.items():
            setattr(self, name, parameters.get(name, default))

    @classmethod
    def state_names(cls) -> tuple[str, ...]:
        """Names of the state variables, in order."""
        return tuple(state.name for state in cls.STATES)

    @staticmethod
    def rhs(params: Arrays, state: Arrays, inputs: Arrays, t: jax.Array | float) -> Arrays:
        """
        Time derivative of every state variable.

        Parameters
        ----------
        params, state : dict of arrays, last axis region
        inputs : dict of arrays
            Values of the ports; missing ones are zero.
        t : scalar
            Time in the model's unit.

        Returns
        -------
        dict of arrays, state/time
        """
        raise TypeError("this model declares no right-hand side; define rhs(params, state, inputs, t)")

    def parameter_values(self) -> Arrays:
        """Current value of every declared parameter as a plain array."""
        return {p.name: _plain(getattr(self, p.name)) for p in self.PARAMETERS}

    def noise_values(self) -> Arrays:
        """White-noise amplitude of each state that has one, state/sqrt(time)."""
        given = {s.name: getattr(self, f"noise_{s.name}") for s in self.STATES}
        return {name: _plain(value) for name, value in given.items() if value is not None}

    def initial_values(self, batch_size: int | None = None) -> Arrays:
        """Initial value of each state, shape (region,) or (batch, region)."""
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        return {s.name: jnp.broadcast_to(_plain(getattr(self, f"init_{s.name}")), shape) for s in self.STATES}

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Create the state variables at their initial values."""
        for name, value in self.initial_values(batch_size).items():
            setattr(self, name, brainstate.HiddenState(value))

    def reset_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Put the state variables back to their initial values."""
        for name, value in self.initial_values(batch_size).items():
            getattr(self, name).value = value

    def derivative(self, state: Arrays, t: Any = 0.0, *inputs: jax.Array, **ports: jax.Array) -> Arrays:
        """
        Derivative at a state; positional inputs are the ports in declared order.

        Raises
        ------
        TypeError
            An unknown port; the message lists the known ones.
        """
        names = [port.name for port in self.PORTS]
        if len(inputs) > len(names) or set(ports) - set(names):
            raise TypeError(
                f"{type(self).__name__} has the ports {', '.join(names)}, not {', '.join(ports) or len(inputs)}"
            )
        given = dict(zip(names, inputs, strict=False)) | ports
        return self.rhs(self.parameter_values(), state, given, t)

    def update(self, *inputs: jax.Array, **ports: jax.Array) -> jax.Array:
        """
        Advance the state by one step of ``brainstate.environ``'s dt and return the source observable.

        Returns
        -------
        array, shape of the state
        """
        dt = _plain(brainstate.environ.get("dt"))
        state = {name: getattr(self, name).value for name in self.state_names()}

        def f(values: Arrays, t: jax.Array | float) -> Arrays:
            return self.derivative(values, t, *inputs, **ports)

        new = integrate.deterministic_step(self.method, f, state, 0.0, dt)
        for name, sigma in self.noise_values().items():
            drawn = brainstate.random.randn(*new[name].shape)
            new[name] = new[name] + sigma * jnp.sqrt(dt) * drawn
        for name, value in new.items():
            getattr(self, name).value = value
        return self.OBSERVABLES["source"](self.parameter_values(), new)


def port(inputs: Arrays, name: str) -> jax.Array | float:
    """Value at a port, zero if nothing arrives."""
    return inputs.get(name, 0.0)


def _plain(value: Any) -> jax.Array:
    """Array of a number, array, `Param` or Quantity (taken in its own unit: times in ms)."""
    if isinstance(value, brainstate.nn.Param):
        value = value.value()
    if isinstance(value, u.Quantity):
        ms = u.parse_unit("ms")
        unit = ms if value.dim == ms.dim else value.unit
        value = value.to_decimal(unit)
    return jnp.asarray(value, dtype=jnp.result_type(float))
