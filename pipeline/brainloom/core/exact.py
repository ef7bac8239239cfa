"""Exact metrics for reports have no derivative; asked for one, they say which objective has."""

from __future__ import annotations

import sys
from typing import Any


def refuse_tracing(name: str, instead: str, *values: Any) -> None:
    """
    Raise if a value is traced, that is inside ``jax.jit``, ``grad`` or ``vmap``.

    Parameters
    ----------
    name : str
        The metric.
    instead : str
        What to use, such as ``"brainloom.objectives.fcd_ks()"``.
    *values : arrays

    Raises
    ------
    TypeError
        A value is traced.
    """
    jax = sys.modules.get("jax")  # nothing can be traced where nobody has imported it
    if jax is not None and any(isinstance(getattr(v, "mantissa", v), jax.core.Tracer) for v in values):
        raise TypeError(
            f"{name} is an exact metric without a derivative and takes numbers, not traced values "
            f"(jit, grad, vmap); use {instead} instead"
        )
