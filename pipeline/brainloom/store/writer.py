"""The one writer: a byte-reproducible Zarr zip that appears whole or not at all."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from brainloom.core.errors import StoreError
from brainloom.store.dataset import digests, plain_attrs
from brainloom.store.reader import decode

CHUNK_BYTES = 16 * 2**20
FOREIGN_TMP_SECONDS = 24 * 3600.0
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_counter = itertools.count()


def write_dataset(path: str | os.PathLike, ds: xr.Dataset) -> None:
    """
    Write a dataset to one ``.zarr.zip`` file, atomically and reproducibly.

    The same dataset gives the same bytes. The file is written beside its place, synced and moved, so another
    process sees the old file, no file or the new file, never a part. What is to be written is read back from
    memory first, so a dataset that the format would change is refused.

    Parameters
    ----------
    path : path-like
        Where the file goes; folders are made.
    ds : xarray.Dataset
        Variables of numbers, booleans or strings; attributes of text, numbers or booleans. jax arrays are
        taken too. Attributes ``expected_variables`` (JSON: name and SHA-256 of each variable) and
        ``content_hash`` are added to the file, not to `ds`.

    Raises
    ------
    StoreError
        The dataset holds something that cannot be stored faithfully; the sentence names it.
    OSError
        The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    members = encode(ds, str(path))
    host = socket.gethostname()
    tmp = path.with_name(f"{path.name}.{host}.{os.getpid()}.{next(_counter)}.tmp")
    try:
        with tmp.open("xb") as file:
            file.write(_zip_bytes(members))
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp, path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def encode(ds: xr.Dataset, where: str) -> dict[str, bytes]:
    """
    The Zarr keys and values of a dataset, verified by decoding them again.

    Parameters
    ----------
    ds : xarray.Dataset
        See `write_dataset`.
    where : str
        File name for messages.

    Returns
    -------
    dict of str to bytes
        Zarr key and its value, sorted by key.
    """
    plain = _plain_dataset(ds, where)
    each, content_hash = digests(plain)
    attrs = {
        **plain.attrs,
        "content_hash": content_hash,
        "expected_variables": json.dumps(each, sort_keys=True),
    }
    plain.attrs = dict(sorted(attrs.items()))
    raw: dict[str, Buffer] = {}
    try:
        plain.to_zarr(
            MemoryStore(raw),
            mode="w",
            zarr_format=3,
            consolidated=False,
            encoding={str(name): _encoding(v) for name, v in plain.variables.items()},
            write_empty_chunks=True,  # so that a chunk that is not there is always damage
        )
        members = {key: raw[key].to_bytes() for key in sorted(raw)}
        decode(members, where)
    except (StoreError, TypeError, ValueError) as err:
        raise StoreError(
            f"{where}: the dataset would not come back as it is ({err}); nothing was written"
        ) from err
    return members


def _plain_dataset(ds: xr.Dataset, where: str) -> xr.Dataset:
    """A copy with numpy arrays, variable-length strings, sorted plain attributes and no encodings."""
    out: dict[str, xr.Variable] = {}
    for name in sorted(ds.variables, key=str):
        variable = ds.variables[name]
        if not str(name).isidentifier():
            raise StoreError(
                f"{where}: {name!r} is no usable variable name; use letters, digits and underscores"
            )
        values = np.asarray(variable.values)
        if values.dtype.kind in "UTO":
            bad = [v for v in values.ravel() if not isinstance(v, str)]
            if bad:
                raise StoreError(
                    f"{where}: variable {name!r} holds a {type(bad[0]).__name__} among strings; "
                    "store numbers, booleans or strings"
                )
            values = values.astype(np.dtypes.StringDType())
        elif values.dtype.kind not in "biufc":
            raise StoreError(
                f"{where}: variable {name!r} is of type {values.dtype}; store numbers, booleans or strings"
            )
        attrs = plain_attrs(variable.attrs, f"{where}: variable {name!r}")
        out[str(name)] = xr.Variable(variable.dims, values, attrs=attrs)
    coords = [str(name) for name in ds.coords]
    return xr.Dataset(
        {name: v for name, v in out.items() if name not in coords},
        coords={name: out[name] for name in sorted(coords)},
        attrs=plain_attrs(dict(ds.attrs), where),
    )


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    """Chunks of at most `CHUNK_BYTES`, split along the leading axes; compressed, then checksummed."""
    chunks = [max(1, n) for n in variable.shape]
    itemsize = max(variable.dtype.itemsize, 1)
    for axis in range(len(chunks)):
        rest = math.prod(chunks[axis + 1 :]) * itemsize
        if chunks[axis] * rest <= CHUNK_BYTES:
            break
        chunks[axis] = max(1, CHUNK_BYTES // rest)
    encoding: dict[str, Any] = {"compressors": [ZstdCodec(level=3), Crc32cCodec()], "_FillValue": None}
    if chunks:
        encoding["chunks"] = tuple(chunks)
    return encoding


def _zip_bytes(members: dict[str, bytes]) -> bytes:
    """An uncompressed zip with sorted names, one fixed date and fixed permissions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(members):
            info = zipfile.ZipInfo(key, _ZIP_DATE)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[key])
    return buffer.getvalue()


def _sweep(path: Path) -> None:
    """Remove what killed writers of this file left: theirs if dead, another host's if a day old."""
    for stale in path.parent.glob(f"{_glob_escape(path.name)}.*.tmp"):
        *_, host, pid, _n, _tmp = ["", *stale.name[len(path.name) :].rsplit(".", 3)]
        try:
            if host.lstrip(".") == socket.gethostname() and pid.isdecimal():
                dead = not _alive(int(pid))
            else:
                dead = time.time() - stale.stat().st_mtime > FOREIGN_TMP_SECONDS
            if dead:
                stale.unlink()
        except OSError:
            continue  # its writer moved it, or it is not ours to remove


def _glob_escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the move itself durable; some network file systems refuse this, and then it is theirs to do."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
