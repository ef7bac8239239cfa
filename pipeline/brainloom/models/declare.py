"""What a model declares about itself: state variables, parameters, input ports and observables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

Arrays = dict[str, jax.Array]


@dataclass(frozen=True)
class State:
    """
    One state variable.

    Attributes
    ----------
    name : str
    initial : float, or callable of the parameters
        Value at the start, in `unit`.
    unit : str
        Unit inside the equations; ``time`` stands for the model's time unit.
    long_name : str
    span : (float, float)
        Range that the default dynamics visits: the scale of the registry's noise, and of plots.
    shown : str
        Unit of results if it differs from `unit`, such as ``Hz`` for a rate kept in 1/ms.
    draw : callable, optional
        ``draw(key, shape)``: a random start, used where a key is at hand and no start is given.
    """

    name: str
    initial: float | Callable[[Arrays], Any]
    unit: str = "1"
    long_name: str = ""
    span: tuple[float, float] = (-1.0, 1.0)
    shown: str = ""
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array] | None = None


@dataclass(frozen=True)
class Parameter:
    """
    One parameter.

    Attributes
    ----------
    name : str
    default : float, or callable of the number of regions for an array
    bounds : (float, float)
        Range for fitting; other values are allowed where the equation is defined.
    unit : str
    long_name : str
    """

    name: str
    default: float | Callable[[int], Any]
    bounds: tuple[float, float]
    unit: str = "1"
    long_name: str = ""


@dataclass(frozen=True)
class Port:
    """One named input: its unit and the state whose equation it enters."""

    name: str
    unit: str
    enters: str


@dataclass(frozen=True)
class Observable:
    """
    A named function of the state.

    Attributes
    ----------
    function : callable
        ``function(params, state)``, or ``function(params, state, inputs)`` if `driven`.
    unit : str
    shown : str
        Unit of results if it differs from `unit`.
    driven : bool
        The value depends on the input ports too (firing rates of synaptic models); it cannot be the source
        of a coupling.
    long_name : str
    """

    function: Callable[..., jax.Array]
    unit: str = "1"
    shown: str = ""
    driven: bool = False
    long_name: str = ""


def port(inputs: Arrays, name: str) -> jax.Array | float:
    """Value at a port, zero if nothing arrives."""
    return inputs.get(name, 0.0)
