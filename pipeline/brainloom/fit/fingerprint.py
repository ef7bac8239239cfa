"""Whether two traced functions are the same program, so that the compiled one is used again."""

from __future__ import annotations

import functools
import hashlib
import types
from enum import Enum
from typing import Any

import jax
import numpy as np
from jax.extend import core

_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, np.dtype, np.generic)


class _UnknownError(Exception):
    """Something whose meaning cannot be read, such as a callback to Python."""


def fingerprint(traced: core.ClosedJaxpr, *more: Any) -> str | None:
    """
    Hash of all that a traced function computes: its operations, their order, and every constant in it.

    Parameters
    ----------
    traced : ClosedJaxpr
    *more : Any
        What else must be the same; plain values.

    Returns
    -------
    str or None
        None where the function calls what cannot be compared. Functions with the same derivative rule by name
        count as the same if the rule is of ``jax.custom_jvp``, as what it differentiates is compared.
    """
    found = hashlib.sha256()
    try:
        _add(found, traced)
        _add(found, more)
    except _UnknownError:
        return None
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    if isinstance(value, core.ClosedJaxpr):
        _add_jaxpr(found, value.jaxpr)
        _add(found, tuple(value.consts))
    elif isinstance(value, core.Jaxpr):
        _add_jaxpr(found, value)
    elif isinstance(value, _PLAIN):
        found.update(f"{type(value).__name__} {value!r};".encode())
    elif isinstance(value, (tuple, list)):
        found.update(f"({len(value)}".encode())
        for one in value:
            _add(found, one)
    elif isinstance(value, dict):
        _add(found, list(value.items()))
    elif hasattr(value, "dtype") and hasattr(value, "shape"):
        if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    else:
        text = repr(value)
        if isinstance(value, _FUNCTIONS) or " at 0x" in text:
            raise _UnknownError
        found.update(text.encode())


def _add_jaxpr(found: Any, jaxpr: core.Jaxpr) -> None:
    number: dict[Any, int] = {}
    for var in (*jaxpr.constvars, *jaxpr.invars):
        number[var] = len(number)
        found.update(f"{var.aval};".encode())
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        found.update(f"|{name}".encode())
        _add_operands(found, equation.invars, number)
        for var in equation.outvars:
            number[var] = len(number)
            found.update(f"{var.aval};".encode())
        for key, value in sorted(equation.params.items()):
            if name == "custom_jvp_call" and key == "jvp_jaxpr_fun":
                value = getattr(value, "__name__", "")
            found.update(f"{key}=".encode())
            _add(found, value)
    _add_operands(found, jaxpr.outvars, number)


def _add_operands(found: Any, operands: Any, number: dict[Any, int]) -> None:
    for operand in operands:
        if isinstance(operand, core.Literal):
            found.update(f"{operand.aval}".encode())
            _add(found, operand.val)
        else:
            found.update(f"%{number[operand]}".encode())
