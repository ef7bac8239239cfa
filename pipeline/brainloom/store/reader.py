"""The one reader: loads a ``.zarr.zip`` whole, verifies it, and names what is damaged."""

from __future__ import annotations

import json
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainloom.core.errors import StoreError
from brainloom.store.dataset import OWN_ATTRS, digests
from brainloom.store.plain import Unknown, plain_dataset

_REMEDY = "delete the file and run the workflow again"


def read_dataset(path: str | os.PathLike) -> xr.Dataset:
    """
    Read a stored dataset into memory and verify all of it.

    Parameters
    ----------
    path : path-like
        A file made by `brainloom.store.write_dataset`.

    Returns
    -------
    xarray.Dataset
        Loaded; strings as numpy ``<U`` arrays; attributes as written, with ``content_hash`` and
        ``expected_variables``.

    Raises
    ------
    StoreError
        The file is missing, is no such file or is damaged; the sentence names the file and the part.
    """
    return decode(_members(Path(path)), str(path))


def read_attrs(path: str | os.PathLike) -> dict[str, Any]:
    """
    Attributes of a stored dataset, without its variables.

    Parameters
    ----------
    path : path-like
        A file made by `brainloom.store.write_dataset`.

    Returns
    -------
    dict
        As written. Their checksum is verified, the variables are not.

    Raises
    ------
    StoreError
        The file is missing, is no such file, or its attributes are damaged.
    """
    members = _members(Path(path), only="zarr.json")
    return _root_attrs(members, str(path))


def decode(members: dict[str, bytes], where: str) -> xr.Dataset:
    """
    The dataset held by Zarr keys and values, verified against its recorded digests.

    Parameters
    ----------
    members : dict of str to bytes
        Zarr key and its value.
    where : str
        File name for messages.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    StoreError
        Something is missing, cannot be decoded, or differs from what was recorded.
    """
    attrs = _root_attrs(members, where)
    expected = _expected(attrs, where)
    _check_keys(members, expected, where)
    try:
        ds = plain_dataset(members)
        if digests(ds) == (expected, attrs["content_hash"]):
            return ds
    except Unknown:
        pass
    # Another structure, or damage, which is named below.
    ds = _decode_with_zarr(members, where)
    each, content_hash = digests(ds)
    for name in expected:
        if each.get(name) != expected[name]:
            raise StoreError(
                f"{where} is damaged: the contents of variable {name!r} differ from their recorded hash; {_REMEDY}"
            )
    if content_hash != attrs["content_hash"]:
        raise StoreError(f"{where} is damaged: its attributes differ from their recorded hash; {_REMEDY}")
    return ds


def _decode_with_zarr(members: dict[str, bytes], where: str) -> xr.Dataset:
    """The dataset as Zarr and xarray read it, which check each chunk."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    prototype = default_buffer_prototype()
    store = MemoryStore(
        {key: prototype.buffer.from_bytes(value) for key, value in members.items()}, read_only=True
    )
    try:
        lazy = xr.open_zarr(
            store,
            consolidated=False,
            chunks=None,
            mask_and_scale=False,
            decode_times=False,
            decode_timedelta=False,
        )
    except Exception as err:
        raise StoreError(
            f"{where} is damaged: its structure cannot be read ({_brief(err)}); {_REMEDY}"
        ) from err
    return _load(lazy, where)


def _members(path: Path, only: str | None = None) -> dict[str, bytes]:
    """All members of the zip (or one), each checked against the zip's checksum."""
    if not path.exists():
        raise StoreError(f"{path} does not exist; run the workflow step that makes it")
    if path.is_dir():
        raise StoreError(f"{path} is a folder; a dataset is one .zarr.zip file")
    if path.stat().st_size == 0:
        raise StoreError(f"{path} is damaged: the file is empty; {_REMEDY}")
    try:
        archive = zipfile.ZipFile(path)
    except PermissionError as err:
        raise StoreError(f"{path} cannot be read: permission denied; change its permissions") from err
    except Exception as err:
        raise StoreError(
            f"{path} is damaged: it is not a whole zip file (cut short, or not a dataset); {_REMEDY}"
        ) from err
    found = {}
    with archive:
        names = archive.namelist() if only is None else [only]
        for name in names:
            try:
                found[name] = archive.read(name)
            except KeyError as err:
                raise StoreError(f"{path} is damaged: it has no {name}; {_REMEDY}") from err
            except Exception as err:
                raise StoreError(
                    f"{path} is damaged: its part {name} cannot be read ({_brief(err)}); {_REMEDY}"
                ) from err
    return found


def _root_attrs(members: dict[str, bytes], where: str) -> dict[str, Any]:
    if "zarr.json" not in members:
        raise StoreError(f"{where} is damaged: it has no zarr.json; {_REMEDY}")
    try:
        attrs = json.loads(members["zarr.json"])["attributes"]
        missing = [name for name in OWN_ATTRS if not isinstance(attrs[name], str)]
    except (ValueError, KeyError, TypeError) as err:
        raise StoreError(
            f"{where} is not a dataset of brainloom: its attributes have no {' or '.join(OWN_ATTRS)}; {_REMEDY}"
        ) from err
    if missing:
        raise StoreError(f"{where} is damaged: attribute {missing[0]!r} is not text; {_REMEDY}")
    return attrs


def _expected(attrs: dict[str, Any], where: str) -> dict[str, str]:
    try:
        expected = json.loads(attrs["expected_variables"])
        return {str(name): str(digest) for name, digest in expected.items()}
    except (ValueError, AttributeError) as err:
        raise StoreError(
            f"{where} is damaged: attribute 'expected_variables' is no JSON object; {_REMEDY}"
        ) from err


def _check_keys(members: dict[str, bytes], expected: dict[str, str], where: str) -> None:
    """Every expected variable has its description and all its chunks; Zarr itself would fill in silently."""
    for name in expected:
        try:
            meta = json.loads(members[f"{name}/zarr.json"])
        except KeyError as err:
            raise StoreError(f"{where} is damaged: variable {name!r} is missing; {_REMEDY}") from err
        except ValueError as err:
            raise StoreError(
                f"{where} is damaged: the description of variable {name!r} is no JSON; {_REMEDY}"
            ) from err
        try:
            shape, chunks = meta["shape"], meta["chunk_grid"]["configuration"]["chunk_shape"]
            wanted = math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as err:
            raise StoreError(
                f"{where} is damaged: the description of variable {name!r} has no usable shape; {_REMEDY}"
            ) from err
        have = sum(key == f"{name}/c" or key.startswith(f"{name}/c/") for key in members)
        if have < wanted:
            raise StoreError(
                f"{where} is damaged: {wanted - have} of {wanted} chunks of variable {name!r} are missing; {_REMEDY}"
            )


def _load(lazy: xr.Dataset, where: str) -> xr.Dataset:
    """Every variable in memory, strings as ``<U``, encodings dropped."""
    loaded: dict[str, xr.Variable] = {}
    for name in sorted(lazy.variables, key=str):  # Zarr lists them in no fixed order
        variable = lazy.variables[name]
        try:
            values = np.asarray(variable.values)
        except Exception as err:
            raise StoreError(
                f"{where} is damaged: the contents of variable {name!r} cannot be decoded ({_brief(err)}); {_REMEDY}"
            ) from err
        if values.dtype.kind in "UTO":
            values = np.array([str(v) for v in values.ravel()], dtype=np.str_).reshape(values.shape)
        loaded[str(name)] = xr.Variable(variable.dims, values, attrs=variable.attrs)
    return xr.Dataset(
        {name: v for name, v in loaded.items() if name not in lazy.coords},
        coords={name: v for name, v in loaded.items() if name in lazy.coords},
        attrs=lazy.attrs,
    )


def _brief(err: Exception) -> str:
    """The first line of another library's message."""
    text = str(err).strip().splitlines()
    return text[0][:120] if text else type(err).__name__
