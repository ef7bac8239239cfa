"""The ways to minimise a loss, by the names that `Fitter` knows."""

from __future__ import annotations

from collections.abc import Callable

from brainloom.fit.gradient import descend
from brainloom.fit.population import cmaes, nevergrad
from brainloom.fit.scipy_methods import minimise
from brainloom.fit.task import Task

BACKENDS: dict[str, Callable[[Task], None]] = {
    "grad": descend,
    "scipy": minimise,
    "cmaes": cmaes,
    "nevergrad": nevergrad,
}
# Those that draw random numbers.
POPULATIONS = ("cmaes", "nevergrad")
