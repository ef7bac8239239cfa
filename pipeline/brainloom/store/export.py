"""Datasets for other tools: plain Zarr folders, netCDF files, and a text overview."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

from brainloom.core.errors import StoreError
from brainloom.store.reader import read_dataset

FORMATS = ("zarr", "netcdf")


def export_dataset(path: str | os.PathLike, out: str | os.PathLike, *, to: str = "zarr") -> None:
    """
    Copy a stored dataset to a format that other tools open.

    Parameters
    ----------
    path : path-like
        A file made by `brainloom.store.write_dataset`; it is verified first.
    out : path-like
        The folder (Zarr version 3) or file (netCDF 3, 64-bit offsets) to make; it must not exist yet.
    to : {"zarr", "netcdf"}
        The format. netCDF has no booleans, no 64-bit integers, no complex numbers and no empty variables: booleans
        become 0 and 1, integers 32-bit, empty variables are left out, and what does not fit is refused.

    Raises
    ------
    StoreError
        The dataset is damaged, `out` exists, the format is unknown or cannot hold a variable.
    """
    if to not in FORMATS:
        raise StoreError(f"format is {to!r}; it must be one of {', '.join(FORMATS)}")
    out = Path(out)
    if out.exists():
        raise StoreError(f"{out} exists already; remove it or choose another name")
    ds = read_dataset(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        made = folder / "export"
        if to == "zarr":
            _long_strings(ds).to_zarr(made, mode="w", zarr_format=3, consolidated=False)
        else:
            _netcdf_types(ds, str(path)).to_netcdf(made, engine="scipy", format="NETCDF3_64BIT")
        os.replace(made, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe_dataset(path: str | os.PathLike) -> str:
    """
    Overview of a stored dataset as text: attributes, then each variable with dimensions, unit and range.

    Parameters
    ----------
    path : path-like
        A file made by `brainloom.store.write_dataset`; it is verified first.

    Returns
    -------
    str
        Several lines, without a newline at the end.

    Raises
    ------
    StoreError
        The dataset is damaged.
    """
    ds = read_dataset(path)
    lines = [f"{path}"]
    lines += [f"  {key}: {value}" for key, value in sorted(ds.attrs.items()) if key != "expected_variables"]
    for title, names in (("coordinates", ds.coords), ("variables", ds.data_vars)):
        if names:
            lines.append(f"{title}:")
        lines += [f"  {_describe_variable(str(name), ds.variables[name])}" for name in sorted(names, key=str)]
    return "\n".join(lines)


def _describe_variable(name: str, variable: xr.Variable) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in variable.sizes.items())
    unit = variable.attrs.get("units")
    text = f"{name} ({sizes}) {'str' if variable.dtype.kind == 'U' else variable.dtype}"
    text += f" [{unit}]" if unit else ""
    values = variable.values
    if values.dtype.kind == "U" and values.size:
        shown = [str(v) for v in values.ravel()[:3]]
        text += ": " + ", ".join(shown) + (", ..." if values.size > 3 else "")
    elif values.dtype.kind in "iuf" and values.size:
        finite = values[np.isfinite(values)]
        text += f": {finite.min():.4g} to {finite.max():.4g}" if finite.size else ": no finite value"
        if finite.size < values.size:
            text += f", {values.size - finite.size} not finite"
    long_name = variable.attrs.get("long_name")
    return text + (f" | {long_name}" if long_name else "")


def _long_strings(ds: xr.Dataset) -> xr.Dataset:
    """Variable-length strings, which Zarr version 3 specifies; fixed-length ones it does not."""
    text = {
        name: v.astype(np.dtypes.StringDType()) for name, v in ds.variables.items() if v.dtype.kind == "U"
    }
    return ds.assign({name: v for name, v in text.items() if name not in ds.coords}).assign_coords(
        {name: v for name, v in text.items() if name in ds.coords}
    )


def _netcdf_types(ds: xr.Dataset, where: str) -> xr.Dataset:
    """The nearest types that netCDF 3 has; an axis of length 0 would be taken for its unlimited one."""
    limits = np.iinfo(np.int32)
    changed = {}
    for name, variable in ds.variables.items():
        values = variable.values
        if values.size == 0:
            continue
        if values.dtype.kind == "c":
            raise StoreError(
                f"{where}: variable {name!r} is complex, which netCDF cannot hold; export to zarr"
            )
        if (
            values.dtype.kind in "iu"
            and values.size
            and (values.min() < limits.min or values.max() > limits.max)
        ):
            raise StoreError(
                f"{where}: variable {name!r} needs 64-bit integers, which netCDF cannot hold; export to zarr"
            )
        if values.dtype.kind in "iub":
            changed[name] = xr.Variable(
                variable.dims,
                values.astype(np.int8 if values.dtype.kind == "b" else np.int32),
                _netcdf_attrs(variable.attrs),
            )
        else:
            changed[name] = xr.Variable(variable.dims, values, _netcdf_attrs(variable.attrs))
    return xr.Dataset(
        {name: v for name, v in changed.items() if name not in ds.coords},
        coords={name: changed[name] for name in ds.coords if name in changed},
        attrs=_netcdf_attrs(ds.attrs),
    )


def _netcdf_attrs(attrs: dict) -> dict:
    """Booleans as 0 and 1; integers beyond 32 bits as text."""
    limit = 2**31
    plain = {k: int(v) if isinstance(v, bool) else v for k, v in attrs.items()}
    return {k: str(v) if isinstance(v, int) and not -limit <= v < limit else v for k, v in plain.items()}
