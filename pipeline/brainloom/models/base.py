"""The contract of a neural mass model: declared parts and one pure right-hand side make everything else."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import jax

_X64 = jax.config.read("jax_enable_x64")
import brainstate  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from brainloom import integrate  # noqa: E402
from brainloom.core.units import plain, shown  # noqa: E402
from brainloom.models.declare import Arrays, Observable, Parameter, Port, State, port  # noqa: E402
from brainloom.models.results import as_shown  # noqa: E402
from brainloom.noise.base import NoiseProcess  # noqa: E402

# Importing brainstate resets jax to single precision; keep what the process had chosen.
brainstate.environ.set(precision=64 if _X64 else 32)


class NeuralMass(brainstate.nn.Dynamics):
    """
    Base of all ``<Name>Step`` models.

    A subclass declares `STATES`, `PARAMETERS`, `PORTS`, `OBSERVABLES` and the pure `rhs`; everything else
    follows. Plain numbers are in the declared units; quantities are converted, and a wrong dimension raises.

    Parameters
    ----------
    in_size : int
        Number of regions.
    **parameters
        Declared parameters, ``init_<state>``, ``noise_<state>`` and ``noise_<port>``. A parameter is a
        number, an array (region,), a quantity, an initialiser called with the shape, or
        ``brainstate.nn.Param(value, t=transform, fit=True)``; initial values may be trained, too. A noise is the amplitude of white noise
        (state/sqrt(time), states only) or a process of `brainloom.noise`.
    method : str
        Integrator of `update` and the default of simulations: ``exp_euler`` (as published), ``euler``,
        ``heun`` or ``rk4``.
    time_unit : {"ms", "s"}
        Unit of time of plain numbers, for models whose rates are declared in 1/time. The others fix it.

    Raises
    ------
    TypeError
        An unknown keyword; the message lists the known ones.
    UnitError
        A quantity of the wrong dimension.
    """

    STATES: ClassVar[tuple[State, ...]] = ()
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()
    PORTS: ClassVar[tuple[Port, ...]] = ()
    OBSERVABLES: ClassVar[Mapping[str, Observable]] = {}
    # What is sent to other regions, what drives BOLD, and the source-level signal: names of observables.
    SOURCE: ClassVar[str] = ""
    BOLD: ClassVar[str] = ""
    EEG: ClassVar[str] = ""
    # Unit of time that the equations are written in; rates declared in 1/time leave the choice to the user.
    TIME_UNIT: ClassVar[str] = "ms"
    # Own delayed states: parameter that holds the delay -> (observable that is read, input that gets it).
    SELF_DELAYS: ClassVar[Mapping[str, tuple[str, str]]] = {}
    # For the registry and for users who ask what to start with (time in TIME_UNIT).
    CATEGORY: ClassVar[str] = ""
    USE: ClassVar[str] = ""
    DT: ClassVar[float] = 0.1
    METHOD: ClassVar[str] = "rk4"
    NOISE: ClassVar[Mapping[str, float]] = {}
    CHAOTIC: ClassVar[bool] = False
    DEFAULT_PORT: ClassVar[bool] = True
    # A map in discrete time instead of a differential equation; follows from `discrete_step`.
    MAP: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.MAP = cls.discrete_step.__func__ is not NeuralMass.discrete_step.__func__  # type: ignore[attr-defined]

    def __init__(
        self, in_size: int, *, method: str = "exp_euler", time_unit: str | None = None, **parameters: Any
    ) -> None:
        super().__init__(in_size)
        self.method = integrate.check_method(method)
        self.time_unit = self.TIME_UNIT if time_unit is None else time_unit
        if time_unit not in (None, self.TIME_UNIT) and not self._time_is_free():
            raise ValueError(
                f"{type(self).__name__} is written in {self.TIME_UNIT}, not {time_unit!r}; give quantities instead"
            )
        if self.time_unit not in ("ms", "s"):
            raise ValueError(f"time_unit is {time_unit!r}; it must be 'ms' or 's'")
        known: dict[str, Any] = {p.name: p.default for p in self.PARAMETERS}
        known |= {f"init_{s.name}": None for s in self.STATES}
        known |= {f"noise_{name}": None for name in (*self.state_names(), *self.port_names())}
        unknown = sorted(set(parameters) - set(known))
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        for name, default in known.items():
            value = parameters.get(name, default)
            if callable(value) and not isinstance(value, (brainstate.nn.Param, NoiseProcess)):
                if name in parameters and not name.startswith("init_"):
                    value = value(self.varshape)  # an initialiser
                elif name not in parameters:
                    value = value(self.varshape[0])  # the declared default of an array
            setattr(self, name, value)
        self.parameter_values(), self.noise_values()  # wrong units are found now
        for slot, process in self.noise_slots().items():
            for name in process.PARAMETERS:
                if isinstance(getattr(process, name), brainstate.nn.Param):
                    setattr(self, f"noise_{slot}_{name}", getattr(process, name))  # where states() finds it

    # --- what the class declares -----------------------------------------------------------------------

    @classmethod
    def state_names(cls) -> tuple[str, ...]:
        """Names of the state variables, in order."""
        return tuple(state.name for state in cls.STATES)

    @classmethod
    def port_names(cls) -> tuple[str, ...]:
        """Names of the input ports, in order; the first is the default."""
        return tuple(port.name for port in cls.PORTS)

    @classmethod
    def observables(cls) -> dict[str, Observable]:
        """Every observable by name: states, declared ones, and ``source``, ``bold``, ``eeg``."""
        found = {s.name: Observable(_reader(s.name), s.unit, s.shown) for s in cls.STATES} | dict(
            cls.OBSERVABLES
        )
        first = cls.STATES[0].name if cls.STATES else ""
        chosen = {"source": cls.SOURCE or first, "bold": cls.BOLD or cls.SOURCE or first}
        chosen["eeg"] = cls.EEG or cls.SOURCE or first
        return {name: found[target] for name, target in chosen.items() if target in found} | found

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

    @classmethod
    def discrete_step(cls, params: Arrays, state: Arrays, inputs: Arrays) -> Arrays | None:
        """One step of a model that is a map; None for differential equations, which have `rhs`."""
        return None

    # --- values ----------------------------------------------------------------------------------------

    def parameter_values(self) -> Arrays:
        """Current (constrained) value of every declared parameter as a plain array."""
        return {p.name: self._read(p.name) for p in self.PARAMETERS}

    def structure(self, method: str, dt: float) -> Any:
        """The static description that compiled programs are keyed by; see `brainloom.engine.Structure`."""
        from brainloom.models.lowering import node_structure

        return node_structure(self, method, dt)

    def trainable(self) -> dict[str, brainstate.nn.Param]:
        """Parameters that are given as ``Param(..., fit=True)``."""
        given = {name: getattr(self, name) for name in (p.name for p in self.PARAMETERS)}
        given |= {f"noise_{name}": getattr(self, f"noise_{name}") for name in self.state_names()}
        for slot, process in self.noise_slots().items():
            given |= {f"noise_{slot}.{name}": getattr(process, name) for name in process.PARAMETERS}
        return {k: v for k, v in given.items() if isinstance(v, brainstate.nn.Param) and v.fit}

    def read_value(self, name: str, value: Any) -> jax.Array:
        """A constrained value of a named parameter as a plain array in its declared unit."""
        units = {p.name: p.unit for p in self.PARAMETERS}
        units |= {f"noise_{s.name}": f"{s.unit}/sqrt(time)" for s in self.STATES}
        for slot, process in self.noise_slots().items() if name not in units else ():
            wanted = process.PARAMETERS.items()
            units |= {f"noise_{slot}.{k}": v.replace("[unit]", self.noise_unit(slot)) for k, v in wanted}
        return plain(value, units[name], f"{name} of {type(self).__name__}", self.time_unit)

    def noise_unit(self, slot: str) -> str:
        """Unit of what a noise process is added to: a state if it is white, state/time, or that of a port."""
        units = {s.name: s.unit for s in self.STATES}
        if slot not in units:
            return next(p.unit for p in self.PORTS if p.name == slot)
        return units[slot] if self.noise_slots()[slot].WHITE else f"{units[slot]}/time"

    def derived_values(self, values: Arrays) -> Arrays:
        """Values with those that follow from others; see `trainable`."""
        return values

    def noise_values(self) -> Arrays:
        """White-noise amplitude of each state that has one, state/sqrt(time)."""
        return {
            name: self._read(f"noise_{name}")
            for name in self.state_names()
            if not isinstance(getattr(self, f"noise_{name}"), (NoiseProcess, type(None)))
        }

    def noise_slots(self) -> dict[str, NoiseProcess]:
        """
        Noise processes by the state or port that they are attached to.

        Raises
        ------
        ValueError
            A port got white noise, which enters states only.
        """
        slots = {}
        for name in (*self.state_names(), *self.port_names()):
            given = getattr(self, f"noise_{name}")
            signal = isinstance(given, NoiseProcess) and not given.WHITE
            if name in self.port_names() and given is not None and not signal:
                raise ValueError(
                    f"noise_{name} is white, but white noise enters states only; "
                    "give an OUProcess for a port, or noise_<state>"
                )
            if isinstance(given, NoiseProcess):
                slots[name] = given
        return slots

    def initial_values(self, batch_size: int | None = None, key: jax.Array | None = None) -> Arrays:
        """
        Initial value of each state.

        Parameters
        ----------
        batch_size : int, optional
        key : jax.random key, optional
            For states that start at random unless a start is given.

        Returns
        -------
        dict of arrays, (region,) or (batch, region)
        """
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        params = None
        found = {}
        for index, state in enumerate(self.STATES):
            given = getattr(self, f"init_{state.name}")
            if isinstance(given, brainstate.nn.Param):
                given = given.value()
            elif callable(given):
                given = given(shape)
            if given is None and state.draw is not None:
                draw_key = brainstate.random.split_key() if key is None else jax.random.fold_in(key, index)
                given = state.draw(draw_key, shape)
            if given is None and callable(state.initial):
                params = self.parameter_values() if params is None else params
                given = state.initial(params)
            value = plain(
                state.initial if given is None else given,
                state.unit,
                f"init_{state.name} of {type(self).__name__}",
                self.time_unit,
            )
            found[state.name] = jnp.broadcast_to(value, shape)
        return found

    # --- the published, stateful face ------------------------------------------------------------------

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Create the state variables at their initial values."""
        for name, value in self.initial_values(batch_size).items():
            setattr(self, name, brainstate.HiddenState(value))
        self._remember(batch_size)

    def reset_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Put the state variables back to their initial values."""
        for name, value in self.initial_values(batch_size).items():
            getattr(self, name).value = value
        self._remember(batch_size)

    def derivative(self, state: Arrays, t: Any = 0.0, *inputs: jax.Array, **ports: jax.Array) -> Arrays:
        """
        Derivative at a state; positional inputs are the ports in declared order.

        Raises
        ------
        TypeError
            An unknown port; the message lists the known ones.
        """
        return self.rhs(self.parameter_values(), state, self.port_values(*inputs, **ports), t)

    def port_values(self, *inputs: Any, **ports: Any) -> Arrays:
        """Positional and named inputs as plain arrays by port, units checked."""
        names = self.port_names()
        if len(inputs) > len(names) or set(ports) - set(names):
            raise TypeError(
                f"{type(self).__name__} has the ports {', '.join(names)}, not {', '.join(ports) or len(inputs)}"
            )
        given = dict(zip(names, inputs, strict=False)) | ports
        units = {p.name: p.unit for p in self.PORTS}
        return {
            name: plain(value, units[name], f"the input {name} of {type(self).__name__}", self.time_unit)
            for name, value in given.items()
            if value is not None
        }

    def update(self, *inputs: Any, **ports: Any) -> jax.Array:
        """
        Advance the state by one step of ``brainstate.environ``'s dt and return the source observable.

        Returns
        -------
        array or quantity, shape of the state
        """
        from brainloom.models.lowering import stateful_step

        return stateful_step(self, self, self.port_values(*inputs, **ports))

    def observe(self, name: str) -> Any:
        """Observable of the current state, with its unit; see `observables`."""
        found = self.observables()[name]
        state = {
            s.name: plain(getattr(self, s.name).value, s.unit, s.name, self.time_unit) for s in self.STATES
        }
        extra: tuple = ({},) if found.driven else ()
        return as_shown(found.function(self.parameter_values(), state, *extra), found, self.time_unit)

    def source(self) -> Any:
        """What is sent to other regions."""
        return self.observe("source")

    def bold(self) -> Any:
        """What drives the haemodynamic model."""
        return self.observe("bold")

    def eeg(self) -> Any:
        """Source-level signal for the lead field."""
        return self.observe("eeg")

    def with_state(self, state: Arrays) -> NeuralMass:
        """A copy whose state variables hold the given plain arrays with their units, for functions of the model."""
        other = copy.copy(self)
        known = self.observables()
        for name in self.state_names():
            value = as_shown(state[name], known[name], self.time_unit)
            object.__setattr__(other, name, brainstate.HiddenState(value))
        return other

    def _remember(self, batch_size: int | None) -> None:
        from brainloom.models.lowering import fresh_memory

        self._memory: Any = fresh_memory(self, self, batch_size)

    # --- reading values --------------------------------------------------------------------------------

    def _read(self, name: str) -> jax.Array:
        value = getattr(self, name)
        return self.read_value(name, value.value() if isinstance(value, brainstate.nn.Param) else value)

    def _time_is_free(self) -> bool:
        units = [p.unit for p in self.PARAMETERS] + [p.unit for p in self.PORTS]
        fixed = any(part in ("ms", "s", "Hz") for unit in units for part in unit.replace("*", "/").split("/"))
        return not fixed


def _reader(name: str) -> Any:
    return lambda params, state: state[name]


__all__ = ["Arrays", "NeuralMass", "Observable", "Parameter", "Port", "State", "port", "shown"]
