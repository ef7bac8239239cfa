"""Whether several starts gain by being one batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

# A batch of these is a loop over its members on a CPU, and what surrounds them then leaves the cache.
FACTORISATIONS = {"eigh", "eig", "lu", "cholesky", "qr", "geqrf", "svd", "schur", "triangular_solve"}
# Steps from which on a loop is a simulation: short operations, many times, whose cost a batch shares.
SIMULATION = 200


def runs_in_turn(function: Any, *arguments: Any) -> bool:
    """
    Whether starts are better computed one after the other inside of the program than as one batch.

    On a CPU, simulations gain by a batch: one matrix product for all of it. Dense linear algebra does not, nor do
    reads of histories or of listed neighbours, which a batch scatters over the memory.

    Parameters
    ----------
    function : callable
        The loss.
    arguments
        What it is called with.
    """
    if jax.default_backend() != "cpu":
        return False
    found = list(_operations(jax.make_jaxpr(function)(*arguments).jaxpr, 1))
    if max((times for _, times in found), default=1) >= SIMULATION:
        return any(name == "gather" and times > 1 for name, times in found)
    return any(name in FACTORISATIONS for name, _ in found)


def _operations(jaxpr: Any, times: int) -> Iterator[tuple[str, int]]:
    """Names of primitives, and how often the loops around each one run."""
    for equation in jaxpr.eqns:
        inside = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        yield equation.primitive.name, inside
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_has_equations):
            found = _jaxpr_of(value)
            if found is not None:
                yield from _operations(found, inside)


def _jaxpr_of(value: Any) -> Any:
    inner = getattr(value, "jaxpr", value)
    return inner if hasattr(inner, "eqns") else None


def _has_equations(value: Any) -> bool:
    return _jaxpr_of(value) is not None
