"""The two sorts of parameters behind `brainloom.fit.parameters`: with numbers of their own, and computed from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Before brainstate, which resets jax to single precision when it is imported.
from brainloom.fit.priors import Gaussian, Prior, as_prior
from brainloom.fit.transforms import Transform, raw_of, transform_of, with_unit

# isort: split
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

Param = brainstate.nn.Param


class Free(Param):
    """
    A parameter with its own unconstrained numbers.

    Parameters
    ----------
    value : number, array or Quantity
        Where it starts, strictly inside the range of the transform.
    unit : str or Unit, optional
        Unit of plain numbers; quantities are converted to it.
    t : optional
        None, ``"positive"``, ``"log"``, ``"softplus"``, ``"ordered"``, (low, high), or a transform; see
        `brainloom.fit.transforms.transform_of`.
    prior : Prior or sequence of them, optional
    fit : bool
        False keeps it at its value.

    Raises
    ------
    ValueError
        A value outside of the range.
    UnitError
        Units of value, bounds or prior that do not fit each other.
    """

    def __init__(
        self, value: Any, unit: Any = None, t: Any = None, *, prior: Any = None, fit: bool = True
    ) -> None:
        value = with_unit(value, unit)
        transform = transform_of(t, value)
        raw_of(transform, value)
        super().__init__(value, t=transform, reg=as_prior(prior), fit=fit)
        _check_prior(self)

    def set_value(self, value: Any) -> None:
        """Set the value; plain numbers are in its unit."""
        value = with_unit(value, u.get_unit(self.value()))
        if jnp.shape(u.get_mantissa(value)) != jnp.shape(u.get_mantissa(self.value())):
            raise ValueError(
                f"the value has shape {jnp.shape(u.get_mantissa(value))}, but the parameter has "
                f"{jnp.shape(u.get_mantissa(self.value()))}"
            )
        raw_of(self.t, value)
        super().set_value(value)

    def raw(self) -> Any:
        """The unconstrained numbers."""
        return self.val.value if isinstance(self.val, brainstate.State) else self.val

    def reg_loss(self) -> Any:
        """The prior at the present value; 0 if it is not fitted."""
        if not self.fit or self.reg is None:
            return 0.0
        if isinstance(self.reg, Prior):
            return self.reg.term(self.value(), self.raw(), self.t)
        return self.reg.loss(self.value())

    def draw(self, key: jax.Array) -> Any:
        """
        A value drawn from its Gaussian prior, in the space where that is Gaussian.

        Raises
        ------
        ValueError
            It has no Gaussian prior, or the draw is outside of the range.
        """
        parts = getattr(self.reg, "parts", (self.reg,))
        prior = next((part for part in parts if isinstance(part, Gaussian)), None)
        if prior is None:
            raise ValueError(
                "the parameter has no Gaussian prior to draw from; give prior=Gaussian(mean, sd)"
            )
        noise = jax.random.normal(key, jnp.shape(self.raw()), jnp.result_type(float))
        if prior.space == "unconstrained":
            return self.t.forward(prior.centre(self.t) + prior.sd * noise)
        found = prior.mean + prior.sd * noise
        raw_of(self.t, found, "the draw")
        return found


class Composed(Param):
    """
    Base of parameters that are computed from others, their parts.

    A subclass sets its parts as attributes through `_hold` and defines `combine`.
    """

    parts: tuple[str, ...] = ()

    def __init__(self, prior: Any = None) -> None:
        brainstate.nn.Module.__init__(self)
        self.reg, self.precompute = as_prior(prior), None
        if isinstance(self.reg, Prior) and self.reg.space == "unconstrained":
            raise ValueError(
                f"{type(self).__name__} has no unconstrained numbers of its own; give that prior to its parts"
            )

    def _hold(self, **parts: Param) -> None:
        self.parts = tuple(parts)
        for name, part in parts.items():
            setattr(self, name, part)
        _check_prior(self)

    def combine(self, values: dict[str, Any]) -> Any:
        """The value from those of the parts; pure."""
        raise TypeError(f"{type(self).__name__} must define combine(values)")

    def limits(self) -> tuple[Any, Any]:
        """Lowest and highest value that it can take; None where that is not known."""
        return None, None

    @property
    def fit(self) -> bool:  # type: ignore[override]
        """Whether any part is fitted."""
        return any(part.fit for part in self._parts().values())

    @property
    def val(self) -> Any:
        """Unconstrained numbers of the parts, as ``.value``."""
        return _Raw({name: _raw_of(part) for name, part in self._parts().items()})

    @property
    def t(self) -> Transform:  # type: ignore[override]
        """From the numbers of `val` to the value."""
        return _FromParts(self)

    def value(self) -> Any:
        """The present value."""
        return self.combine({name: part.value() for name, part in self._parts().items()})

    def evaluate(self, raw: Mapping[int, Any]) -> Any:
        """The value where parameter states have other unconstrained numbers, given by the id of the state."""
        found = {}
        for name, part in self._parts().items():
            if isinstance(part, Composed):
                found[name] = part.evaluate(raw)
            elif id(part.val) in raw:
                value = part.t.forward(raw[id(part.val)])
                found[name] = value if part.precompute is None else part.precompute(value)
            else:
                found[name] = part.value()
        return self.combine(found)

    def set_value(self, value: Any) -> None:
        """Set nothing: what to set are the parts."""
        raise TypeError(f"{type(self).__name__} is computed from {', '.join(self.parts)}; set those")

    def reg_loss(self) -> Any:
        """The prior of the whole at the present value; parts have their own."""
        return 0.0 if self.reg is None or not self.fit else self.reg.loss(self.value())

    def cache(self) -> Any:
        """Nothing is kept: the value follows the parts."""
        return self.value()

    def clear_cache(self) -> None:
        """Nothing is kept."""

    def _parts(self) -> dict[str, Param]:
        return {name: getattr(self, name) for name in self.parts}


class _Raw:
    """What `brainloom.lower` and others read as ``param.val.value``."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value


class _FromParts(Transform):
    """The way from unconstrained numbers of parts to the value of a composed parameter."""

    def __init__(self, owner: Composed) -> None:
        self.owner = owner
        self.lower, self.upper = owner.limits()

    def __repr__(self) -> str:
        return f"the values of {type(self.owner).__name__}"

    def forward(self, x: Any) -> Any:
        """The value from the numbers of the parts."""
        found = {}
        for name, part in self.owner._parts().items():
            value = part.t.forward(x[name])
            found[name] = value if part.precompute is None else part.precompute(value)
        return self.owner.combine(found)

    def inverse(self, y: Any) -> Any:
        """Not defined: several parts can give one value."""
        raise TypeError(f"{type(self.owner).__name__} has no inverse; set {', '.join(self.owner.parts)}")


class Edges(Composed):
    """Weights of a network from one number an edge; see `edges`."""

    def __init__(
        self, values: Param, rows: np.ndarray, columns: np.ndarray, n: int, symmetric: bool, prior: Any
    ):
        super().__init__(prior)
        self.rows, self.columns, self.n, self.symmetric = rows, columns, n, symmetric
        self.connections = np.zeros((n, n), dtype=bool)  # what a network with delays keeps lists of
        self.connections[rows, columns] = True
        if symmetric:
            self.connections |= self.connections.T
        self._hold(values=values)

    def combine(self, values: dict[str, Any]) -> Any:
        """See `Composed.combine`."""
        x = values["values"]
        unit, x = u.get_unit(x), u.get_mantissa(x)
        found = jnp.zeros((self.n, self.n), x.dtype).at[self.rows, self.columns].set(x)
        if self.symmetric:
            found = found.at[self.columns, self.rows].set(x)
        return found if unit == u.UNITLESS else found * unit


class Maps(Composed):
    """A field from brain maps; see `from_maps`."""

    def __init__(
        self, maps: Any, names: tuple[str, ...], bias: Param, coefficients: Param, t: Transform, prior: Any
    ):
        super().__init__(prior)
        self.maps, self.names, self.onto = maps, names, t
        self._hold(bias=bias, coefficients=coefficients)

    def limits(self) -> tuple[Any, Any]:
        """See `Composed.limits`."""
        return getattr(self.onto, "lower", None), getattr(self.onto, "upper", None)

    def combine(self, values: dict[str, Any]) -> Any:
        """See `Composed.combine`."""
        slopes = values["coefficients"]
        unit, slopes = u.get_unit(slopes), u.get_mantissa(slopes)
        change = slopes @ jnp.asarray(self.maps, slopes.dtype)
        return self.onto.forward(values["bias"] + (change if unit == u.UNITLESS else change * unit))


class Grouped(Composed):
    """A field with one value a group; see `grouped`."""

    def __init__(self, labels: tuple[str, ...], index: np.ndarray, values: Param, prior: Any):
        super().__init__(prior)
        self.labels, self.index = labels, index
        self._hold(values=values)

    def limits(self) -> tuple[Any, Any]:
        """See `Composed.limits`."""
        return _limits(self._parts()["values"])

    def combine(self, values: dict[str, Any]) -> Any:
        """See `Composed.combine`."""
        return values["values"][..., self.index]


class Tied(Composed):
    """A function of other parameters; see `tied`."""

    def __init__(self, sources: Sequence[Param], function: Callable, factor: Any, prior: Any):
        super().__init__(prior)
        self.function, self.factor = function, factor
        names = ("source",) if len(sources) == 1 else tuple(f"source_{k}" for k in range(len(sources)))
        self._hold(**dict(zip(names, sources, strict=True)))

    def limits(self) -> tuple[Any, Any]:
        """See `Composed.limits`."""
        if self.factor is None or len(self.parts) > 1 or (np.asarray(u.get_mantissa(self.factor)) < 0).any():
            return None, None
        low, high = _limits(self._parts()[self.parts[0]])
        return (None if low is None else low * self.factor), (None if high is None else high * self.factor)

    def combine(self, values: dict[str, Any]) -> Any:
        """See `Composed.combine`."""
        return self.function(*(values[name] for name in self.parts))


def _raw_of(part: Param) -> Any:
    value = part.val
    return value.value if isinstance(value, (brainstate.State, _Raw)) else value


def _limits(param: Param) -> tuple[Any, Any]:
    """Ends of the range of a parameter; None where there is none."""
    low, high = getattr(param.t, "lower", None), getattr(param.t, "upper", None)
    if high is None and getattr(param.t, "width", None) is not None:
        high = low + param.t.width  # type: ignore[attr-defined]
    return low, high


def _check_prior(param: Any) -> None:
    """Evaluate the prior once, so that units and shapes that do not fit are found when it is given."""
    if isinstance(param.reg, Prior) and param.fit:
        found = param.reg_loss()
        if not isinstance(found, jax.core.Tracer) and not np.isfinite(float(found)):
            raise ValueError(f"{param.reg.LABEL} is {float(found)} at the start of the parameter")
