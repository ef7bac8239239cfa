"""Decode the Zarr stores that our writer makes without Zarr, which costs tens of milliseconds a dataset."""

from __future__ import annotations

import itertools
import json
import math
import struct
from typing import Any

import numpy as np
import xarray as xr

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_NUMBERS = frozenset(
    [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    + ["bool", "float16", "float32", "float64", "complex64", "complex128"]
)


class Unknown(Exception):
    """Something that our writer does not make: Zarr has to say what it is."""


def plain_dataset(members: dict[str, bytes]) -> xr.Dataset:
    """
    The dataset held by Zarr keys and values, if all of it is as our writer makes it.

    Nothing is verified here: the caller compares digests of all contents.

    Parameters
    ----------
    members : dict of str to bytes
        Zarr key and its value.

    Returns
    -------
    xarray.Dataset
        Variables sorted by name, strings as ``<U``.

    Raises
    ------
    Unknown
        The store has another structure, or is damaged.
    """
    try:
        root = json.loads(members["zarr.json"])
        attrs = dict(root["attributes"])
        coords = set(str(attrs.pop("coordinates", "")).split())
        names = sorted(key.removesuffix("/zarr.json") for key in members if key.endswith("/zarr.json"))
        found: dict[str, xr.Variable] = {}
        for name in names:
            meta = json.loads(members[f"{name}/zarr.json"])
            own = dict(meta["attributes"])
            dims = tuple(meta.get("dimension_names") or ())
            if len(dims) != len(meta["shape"]):
                raise Unknown
            coords |= set(str(own.pop("coordinates", "")).split())
            coords |= {name} if dims == (name,) else set()
            values = _values(members, name, meta)
            if own.get("dtype") == "bool":
                values = values.astype(bool)
                del own["dtype"]
            found[name] = xr.Variable(dims, values, attrs=own)
    except Unknown:
        raise
    except Exception as err:  # whatever a damaged file makes of it, Zarr names it
        raise Unknown from err
    return xr.Dataset(
        {name: v for name, v in found.items() if name not in coords},
        coords={name: v for name, v in found.items() if name in coords},
        attrs=attrs,
    )


def _values(members: dict[str, bytes], name: str, meta: dict[str, Any]) -> np.ndarray:
    """All chunks of a variable as one array."""
    shape = tuple(meta["shape"])
    text = meta["data_type"] == "string"
    first, *rest = meta["codecs"]
    known = first["name"] == "vlen-utf8" if text else first == _BYTES or first == {"name": "bytes"}
    if not known or [one["name"] for one in rest] != ["zstd", "crc32c"]:
        raise Unknown
    if meta["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}:
        raise Unknown
    if not text and meta["data_type"] not in _NUMBERS:
        raise Unknown
    chunk = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
    grid = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
    if math.prod(grid) == 1:
        only = _chunk(members["/".join([name, "c", *"0" * len(shape)])], meta["data_type"], chunk)
        return only[tuple(slice(n) for n in shape)]
    parts = {
        at: _chunk(members["/".join([name, "c", *map(str, at)])], meta["data_type"], chunk)
        for at in itertools.product(*map(range, grid))
    }
    if not parts:
        return np.empty(shape, np.str_ if text else np.dtype(meta["data_type"]))
    whole = np.empty(shape, np.result_type(*{part.dtype for part in parts.values()}))
    for at, part in parts.items():
        place = tuple(slice(k * c, min((k + 1) * c, n)) for k, c, n in zip(at, chunk, shape, strict=True))
        whole[place] = part[tuple(slice(one.stop - one.start) for one in place)]
    return whole


def _chunk(raw: bytes, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """One chunk: its checksum at the end is left to the digests."""
    from numcodecs.zstd import decompress

    data = decompress(raw[:-4])
    if kind != "string":
        return np.frombuffer(data, np.dtype(kind).newbyteorder("<")).astype(kind).reshape(shape)
    (count,) = struct.unpack_from("<I", data)
    place, words = 4, []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, place)
        words.append(bytes(data[place + 4 : place + 4 + length]).decode())
        place += 4 + length
    return np.array(words, dtype=np.str_).reshape(shape)
