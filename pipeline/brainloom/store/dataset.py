"""What every stored dataset has: its attributes, its digests, its failed form."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import xarray as xr

from brainloom.core.errors import StoreError

# Attributes that the writer makes; they are no part of what they describe.
OWN_ATTRS = ("content_hash", "expected_variables")


def failed_dataset(kind: str, subject: str, reason: str) -> xr.Dataset:
    """
    Stand-in for the dataset of a subject that cannot be used: attributes only.

    Parameters
    ----------
    kind : str
        What the dataset would have been, such as ``"fit"``.
    subject : str
        Label without ``sub-``.
    reason : str
        One sentence; shown by the cohort table and the report.

    Returns
    -------
    xarray.Dataset
        No variables; attributes ``kind, subject, status="failed", reason``.
    """
    return xr.Dataset(attrs={"kind": kind, "subject": subject, "status": "failed", "reason": reason})


def is_failed(ds: xr.Dataset) -> bool:
    """Whether a dataset stands for a subject that was excluded."""
    return ds.attrs.get("status") == "failed"


def variable_digest(variable: xr.Variable, *, coordinate: bool) -> str:
    """
    SHA-256 of everything a variable says: role, dimensions, type, shape, attributes, values.

    Parameters
    ----------
    variable : xarray.Variable
        Numbers, booleans or strings.
    coordinate : bool
        Whether it is a coordinate of its dataset.

    Returns
    -------
    str
        64 hexadecimal digits; the length in which strings are held does not count.
    """
    values = np.asarray(variable.values)
    text = values.dtype.kind in "UTO"
    head = [
        "coordinate" if coordinate else "data",
        [str(dim) for dim in variable.dims],
        "str" if text else values.dtype.newbyteorder("<").str,
        list(values.shape),
        sorted((str(k), v) for k, v in variable.attrs.items()),
    ]
    digest = hashlib.sha256(_canonical(head))
    if text:
        digest.update(_canonical([str(v) for v in values.ravel()]))
    else:
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def digests(ds: xr.Dataset) -> tuple[dict[str, str], str]:
    """
    Digest of each variable, and the content hash of the whole dataset.

    Returns
    -------
    variables : dict of str to str
        Name of each variable and coordinate, sorted, and its `variable_digest`.
    content_hash : str
        Over those and all attributes of the dataset but `OWN_ATTRS`.
    """
    each = {
        str(name): variable_digest(ds.variables[name], coordinate=name in ds.coords)
        for name in sorted(ds.variables, key=str)
    }
    attrs = sorted((str(k), v) for k, v in ds.attrs.items() if k not in OWN_ATTRS)
    return each, hashlib.sha256(_canonical([attrs, each])).hexdigest()


def plain_attrs(attrs: dict[Any, Any], where: str) -> dict[str, str | int | float | bool]:
    """
    Attributes as sorted JSON scalars.

    Raises
    ------
    StoreError
        A value is something else; `where` says whose attribute it is.
    """
    plain: dict[str, str | int | float | bool] = {}
    for key in sorted(attrs, key=str):
        value = attrs[key]
        if isinstance(value, np.generic):
            value = value.item()
        if not isinstance(value, str | int | float | bool):
            raise StoreError(
                f"{where}: attribute {key!r} is a {type(value).__name__}; "
                "store text, a number or a boolean, and anything nested as JSON text"
            )
        plain[str(key)] = value
    return plain


def _canonical(obj: Any) -> bytes:
    return json.dumps(obj, separators=(",", ":"), sort_keys=True).encode()
