"""Datasets survive the disk unchanged, give the same bytes, and refuse what cannot be stored."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest
import xarray as xr

from brainloom.core.errors import StoreError
from brainloom.store import (
    describe_dataset,
    export_dataset,
    failed_dataset,
    is_failed,
    read_attrs,
    read_dataset,
    reader,
    write_dataset,
    writer,
)
from brainloom.store.plain import Unknown, plain_dataset
from brainloom.store.writer import CHUNK_BYTES

OWN = ("content_hash", "expected_variables")


def example() -> xr.Dataset:
    """Every type, rank and special value that steps store."""
    rng = np.random.default_rng(0)
    labels = [f"Région_{i}" for i in range(6)]
    return xr.Dataset(
        {
            "fc": (
                ("region", "region_to"),
                rng.standard_normal((6, 6)),
                {"units": "1", "long_name": "correlation"},
            ),
            "bold": (("seed", "time", "region"), rng.standard_normal((2, 50, 6)).astype(np.float32)),
            "padded": (("region",), np.array([1.0, np.nan, np.inf, -np.inf, -0.0, 0.0])),
            "homotope": (("region",), np.array([1, 0, -1, 4, 3, -1])),
            "zeros": (("region",), np.zeros(6)),
            "missing": (("region",), np.full(6, np.nan)),
            "converged": (("region",), np.array([True, False] * 3)),
            "transfer": (("region",), rng.standard_normal(6) + 1j),
            "nothing": (("step",), np.zeros(0)),
            "identified": (("region",), np.array(["yes", "weak", "no", "", "yes", "ja ü"], dtype=object)),
            "best": ((), 3),
            "note": ((), "one line\nand another"),
        },
        coords={
            "region": labels,
            "region_to": np.array(labels, dtype=object),
            "hemisphere": ("region", ["L", "R"] * 3),
            "x": ("region", np.arange(6.0), {"units": "mm"}),
            "time": ("time", np.arange(50) * 0.72, {"units": "s"}),
        },
        attrs={
            "kind": "fit",
            "subject": "01",
            "level": 0.9,
            "n": np.int64(3),
            "ok": True,
            "gap": float("nan"),
        },
    )


def test_everything_comes_back_as_it_went_in(tmp_path):
    ds = example()
    write_dataset(tmp_path / "a.zarr.zip", ds)
    back = read_dataset(tmp_path / "a.zarr.zip")
    assert {str(name) for name in back.variables} == {str(name) for name in ds.variables}
    assert set(back.coords) == set(ds.coords)
    for name, variable in ds.variables.items():
        found = back.variables[name]
        assert found.dims == variable.dims, name
        assert found.attrs == variable.attrs, name
        if variable.dtype.kind in "UO":
            assert found.dtype.kind == "U"
            assert found.values.tolist() == variable.values.tolist()
        else:
            assert found.dtype == variable.dtype, name
            assert found.values.tobytes() == variable.values.tobytes(), name  # the sign of zero too
    attrs = {k: v for k, v in back.attrs.items() if k not in OWN}
    assert np.isnan(attrs.pop("gap"))
    assert attrs == {"kind": "fit", "subject": "01", "level": 0.9, "n": 3, "ok": True}


def test_labels_select(tmp_path):
    write_dataset(tmp_path / "a.zarr.zip", example())
    back = read_dataset(tmp_path / "a.zarr.zip")
    assert back.x.sel(region="Région_4").item() == 4.0
    assert back.fc.sel(region="Région_1", region_to="Région_2").item() == example().fc.values[1, 2]
    assert back.sel(region=back.hemisphere == "R").region.values.tolist() == [
        "Région_1",
        "Région_3",
        "Région_5",
    ]


def test_reading_and_writing_warn_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_dataset(tmp_path / "a.zarr.zip", example())
        read_dataset(tmp_path / "a.zarr.zip")
        export_dataset(tmp_path / "a.zarr.zip", tmp_path / "a.zarr", to="zarr")


def test_the_input_is_left_alone(tmp_path):
    ds = example()
    before = ds.copy(deep=True)
    write_dataset(tmp_path / "a.zarr.zip", ds)
    xr.testing.assert_identical(ds, before)
    assert not any(name in ds.attrs for name in OWN)


def test_same_dataset_same_bytes(tmp_path):
    write_dataset(tmp_path / "a.zarr.zip", example())
    first = (tmp_path / "a.zarr.zip").read_bytes()
    time.sleep(1.1)  # the zip format counts in seconds
    write_dataset(tmp_path / "b.zarr.zip", example())
    assert (tmp_path / "b.zarr.zip").read_bytes() == first
    write_dataset(tmp_path / "c.zarr.zip", read_dataset(tmp_path / "a.zarr.zip"))
    assert (tmp_path / "c.zarr.zip").read_bytes() == first


def test_same_bytes_from_another_process_and_another_order(tmp_path):
    ds = example()
    write_dataset(tmp_path / "a.zarr.zip", ds)
    code = (
        "import sys; from brainloom.store import read_dataset, write_dataset\n"
        "ds = read_dataset(sys.argv[1])\n"
        "ds = ds[sorted(ds.data_vars, reverse=True)]\n"
        "ds.attrs = dict(sorted(ds.attrs.items(), reverse=True))\n"
        "write_dataset(sys.argv[2], ds)\n"
    )
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.zarr.zip"
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a.zarr.zip", out], check=True, env=env, timeout=120
        )
        assert out.read_bytes() == (tmp_path / "a.zarr.zip").read_bytes()


def test_one_number_changes_the_content_hash(tmp_path):
    hashes = set()
    for change in (
        lambda ds: ds,
        lambda ds: ds.assign(zeros=-ds.zeros),
        lambda ds: ds.assign_attrs(level=0.95),
        lambda ds: ds.rename(best="better"),
        lambda ds: ds.assign(x2=ds.x),
        lambda ds: ds.set_coords("best"),
        lambda ds: ds.assign(bold=ds.bold.assign_attrs(units="1")),
        lambda ds: ds.assign(homotope=ds.homotope.astype(np.int32)),
    ):
        write_dataset(tmp_path / "a.zarr.zip", change(example()))
        hashes.add(read_attrs(tmp_path / "a.zarr.zip")["content_hash"])
    assert len(hashes) == 8


def test_large_variables_are_split_and_come_back(tmp_path):
    values = np.random.default_rng(1).standard_normal((3, CHUNK_BYTES // 8 // 100 + 7, 100))
    write_dataset(tmp_path / "a.zarr.zip", xr.Dataset({"bold": (("seed", "time", "region"), values)}))
    chunks = [n for n in zipfile.ZipFile(tmp_path / "a.zarr.zip").namelist() if n.startswith("bold/c/")]
    assert len(chunks) > 3
    np.testing.assert_array_equal(read_dataset(tmp_path / "a.zarr.zip").bold.values, values)


def test_jax_arrays_are_taken(tmp_path):
    import jax.numpy as jnp

    write_dataset(tmp_path / "a.zarr.zip", xr.Dataset({"x": (("region",), jnp.arange(3.0))}))
    assert read_dataset(tmp_path / "a.zarr.zip").x.values.tolist() == [0.0, 1.0, 2.0]


def test_any_zarr_reader_opens_it(tmp_path):
    import zarr

    write_dataset(tmp_path / "a.zarr.zip", example())
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="r") as store:
        found = xr.open_zarr(store, consolidated=False, chunks=None).load()
    np.testing.assert_array_equal(found.fc.values, example().fc.values)
    assert "hemisphere" in found.coords


@pytest.mark.parametrize(
    ("ds", "words"),
    [
        (xr.Dataset(attrs={"config": {"a": 1}}), ["attribute 'config' is a dict", "JSON text"]),
        (xr.Dataset(attrs={"reason": None}), ["attribute 'reason' is a NoneType"]),
        (xr.Dataset({"x": ("k", [1.0], {"shape": [1, 2]})}), ["variable 'x'", "attribute 'shape' is a list"]),
        (xr.Dataset({"when": ("k", np.array(["2020-01-01"], "datetime64[ns]"))}), ["'when'", "datetime64"]),
        (xr.Dataset({"mix": ("k", np.array(["a", None], object))}), ["'mix'", "float among strings"]),
        (xr.Dataset({"a/b": ("k", [1.0])}), ["'a/b'", "name"]),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(tmp_path, ds, words):
    with pytest.raises(StoreError) as caught:
        write_dataset(tmp_path / "a.zarr.zip", ds)
    for word in [*words, "a.zarr.zip"]:
        assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_the_format_would_change_is_refused(tmp_path):
    """xarray itself reads meaning into some attributes; the write notices, not a reader a month later."""
    ds = xr.Dataset({"x": ("k", [1.0, 2.0], {"coordinates": "y"})}, coords={"y": ("k", [3.0, 4.0])})
    with pytest.raises(StoreError, match="would not come back as it is"):
        write_dataset(tmp_path / "a.zarr.zip", ds)
    assert not (tmp_path / "a.zarr.zip").exists()


def test_leftovers_of_dead_writers_are_removed_and_live_ones_kept(tmp_path):
    import socket

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    stale = tmp_path / f"a.zarr.zip.{host}.{dead.pid}.0.tmp"
    live = tmp_path / f"a.zarr.zip.{host}.{os.getppid()}.0.tmp"
    foreign_new = tmp_path / "a.zarr.zip.other-host.17.0.tmp"
    foreign_old = tmp_path / "a.zarr.zip.other-host.18.0.tmp"
    other = tmp_path / f"b.zarr.zip.{host}.{dead.pid}.0.tmp"
    for path in (stale, live, foreign_new, foreign_old, other):
        path.write_bytes(b"part")
    os.utime(foreign_old, (0, 0))
    write_dataset(tmp_path / "a.zarr.zip", example())
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.zarr.zip", live.name, foreign_new.name, other.name}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr.zip"
    write_dataset(path, example())
    before = path.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_dataset(path, example().assign(zeros=("region", np.ones(6))))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr.zip"]


def test_failed_dataset_round_trip(tmp_path):
    write_dataset(tmp_path / "a.zarr.zip", failed_dataset("signal", "03", "sub-03 has no BOLD"))
    back = read_dataset(tmp_path / "a.zarr.zip")
    assert is_failed(back)
    assert not is_failed(example())
    assert (back.attrs["kind"], back.attrs["subject"], back.attrs["reason"]) == (
        "signal",
        "03",
        "sub-03 has no BOLD",
    )
    assert read_attrs(tmp_path / "a.zarr.zip") == back.attrs


def test_describe_names_attributes_dimensions_units_and_ranges(tmp_path):
    write_dataset(tmp_path / "a.zarr.zip", example())
    text = describe_dataset(tmp_path / "a.zarr.zip")
    for part in (
        "kind: fit",
        "x (region 6) float64 [mm]: 0 to 5",
        "region (region 6) str: Région_0, Région_1, Région_2, ...",
        "padded (region 6) float64: 0 to 1, 3 not finite",
        "missing (region 6) float64: no finite value",
        "| correlation",
    ):
        assert part in text, text
    assert "expected_variables" not in text


def test_export_to_zarr_is_the_same_dataset(tmp_path):
    write_dataset(tmp_path / "a.zarr.zip", example())
    export_dataset(tmp_path / "a.zarr.zip", tmp_path / "a.zarr", to="zarr")
    found = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, chunks=None).load()
    stored = read_dataset(tmp_path / "a.zarr.zip")
    assert found.attrs["content_hash"] == stored.attrs["content_hash"]
    for name in stored.variables:
        np.testing.assert_array_equal(found[name].values, stored[name].values, err_msg=str(name))


def test_export_to_netcdf_keeps_values_labels_and_units(tmp_path):
    ds = example().drop_vars("transfer")
    write_dataset(tmp_path / "a.zarr.zip", ds)
    export_dataset(tmp_path / "a.zarr.zip", tmp_path / "out" / "a.nc", to="netcdf")
    found = xr.load_dataset(tmp_path / "out" / "a.nc")
    assert set(ds.variables) - set(found.variables) == {"nothing"}
    for name in found.variables:
        np.testing.assert_array_equal(
            found[name].values, ds[name].values.astype(found[name].dtype), err_msg=str(name)
        )
    assert found.x.attrs["units"] == "mm"
    assert found.attrs["ok"] == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.nc"]


@pytest.mark.parametrize(
    ("make", "to", "word"),
    [
        (lambda: example(), "netcdf", "complex"),
        (lambda: xr.Dataset({"n": ("k", [2**40])}), "netcdf", "64-bit"),
        (lambda: example(), "mat", "must be one of zarr, netcdf"),
    ],
)
def test_export_says_what_it_cannot_do(tmp_path, make, to, word):
    write_dataset(tmp_path / "a.zarr.zip", make())
    with pytest.raises(StoreError, match=word):
        export_dataset(tmp_path / "a.zarr.zip", tmp_path / "out", to=to)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr.zip"]


def test_export_does_not_overwrite(tmp_path):
    write_dataset(tmp_path / "a.zarr.zip", example())
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        export_dataset(tmp_path / "a.zarr.zip", tmp_path / "out", to="zarr")


def test_what_our_writer_makes_is_read_as_zarr_reads_it():
    members = writer.encode(example(), "x")
    plain, zarr = plain_dataset(members), reader._decode_with_zarr(members, "x")
    assert plain.identical(zarr)
    for name in zarr.variables:
        assert plain[name].dtype == zarr[name].dtype
        assert plain[name].values.flags.writeable == zarr[name].values.flags.writeable
    for key in members:
        if key.endswith("/zarr.json"):  # another codec than ours: Zarr has to read it
            other = members | {key: members[key].replace(b'"zstd"', b'"gzip"')}
            with pytest.raises(Unknown):
                plain_dataset(other)
