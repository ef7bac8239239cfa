"""Every damage of a stored dataset is one clear error; a killed writer never leaves a wrong file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from brainloom.core.errors import StoreError
from brainloom.steps._common import parse, run_subjects
from brainloom.store import read_attrs, read_dataset, write_dataset


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A stored dataset with one variable of zeros, whose lost chunk Zarr would fill in unnoticed."""
    rng = np.random.default_rng(0)
    ds = xr.Dataset(
        {
            "fc": (("region", "region_to"), rng.standard_normal((8, 8)), {"units": "1"}),
            "zeros": (("region",), np.zeros(8)),
        },
        coords={"region": list("abcdefgh")},
        attrs={"kind": "fit", "subject": "01", "status": "ok", "reason": ""},
    )
    write_dataset(tmp_path / "sub-01_desc-fit.zarr.zip", ds)
    return tmp_path / "sub-01_desc-fit.zarr.zip"


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path: Path, parts: dict[str, bytes]) -> None:
    """A zip that is sound as a zip, whatever its parts hold."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def error_of(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        read_dataset(path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["fc", "zeros", "region"])
def test_missing_chunk(path, name):
    parts = members(path)
    for key in [key for key in parts if key.startswith(f"{name}/c")]:
        del parts[key]
    rewrite(path, parts)
    assert f"1 of 1 chunks of variable '{name}' are missing" in error_of(path)


def test_missing_variable(path):
    parts = {key: value for key, value in members(path).items() if not key.startswith("fc/")}
    rewrite(path, parts)
    assert "variable 'fc' is missing" in error_of(path)


def test_missing_root(path):
    parts = members(path)
    del parts["zarr.json"]
    rewrite(path, parts)
    assert "it has no zarr.json" in error_of(path)
    with pytest.raises(StoreError, match=r"it has no zarr\.json"):
        read_attrs(path)


def test_bit_flip_in_a_chunk_on_disk(path):
    chunk = members(path)["fc/c/0/0"]
    raw = bytearray(path.read_bytes())
    raw[raw.find(chunk) + len(chunk) // 2] ^= 1
    path.write_bytes(raw)
    text = error_of(path)
    assert "its part fc/c/0/0 cannot be read" in text
    assert "CRC" in text


def test_bit_flip_that_the_zip_does_not_notice(path):
    """As by a tool that repacked a damaged folder: the checksum of the chunk itself catches it."""
    parts = members(path)
    chunk = bytearray(parts["fc/c/0/0"])
    chunk[len(chunk) // 2] ^= 1
    rewrite(path, parts | {"fc/c/0/0": bytes(chunk)})
    assert "the contents of variable 'fc' cannot be decoded" in error_of(path)


@pytest.mark.parametrize("keep", [0, 7])
def test_chunk_cut_short(path, keep):
    parts = members(path)
    rewrite(path, parts | {"fc/c/0/0": parts["fc/c/0/0"][:keep]})
    assert "the contents of variable 'fc' cannot be decoded" in error_of(path)


def test_chunk_of_another_dataset(path, tmp_path):
    """Sound in itself, but not what was written: the recorded hash tells."""
    other = xr.Dataset({"fc": (("region", "region_to"), np.ones((8, 8)))})
    write_dataset(tmp_path / "other.zarr.zip", other)
    rewrite(path, members(path) | {"fc/c/0/0": members(tmp_path / "other.zarr.zip")["fc/c/0/0"]})
    assert "the contents of variable 'fc' differ from their recorded hash" in error_of(path)


def test_edited_attribute(path):
    parts = members(path)
    root = json.loads(parts["zarr.json"])
    root["attributes"]["subject"] = "02"
    rewrite(path, parts | {"zarr.json": json.dumps(root).encode()})
    assert "its attributes differ from their recorded hash" in error_of(path)


def test_variable_added_by_hand(path, tmp_path):
    write_dataset(tmp_path / "other.zarr.zip", xr.Dataset({"more": ("k", [1.0])}))
    extra = {k: v for k, v in members(tmp_path / "other.zarr.zip").items() if k.startswith("more/")}
    rewrite(path, members(path) | extra)
    assert "damaged" in error_of(path)


@pytest.mark.parametrize("key", ["zarr.json", "fc/zarr.json"])
def test_description_cut_short(path, key):
    parts = members(path)
    rewrite(path, parts | {key: parts[key][: len(parts[key]) // 2]})
    assert "is damaged" in error_of(path) or "is not a dataset of brainloom" in error_of(path)


def test_description_with_another_shape(path):
    parts = members(path)
    meta = json.loads(parts["fc/zarr.json"])
    meta["shape"] = [9, 8]
    rewrite(path, parts | {"fc/zarr.json": json.dumps(meta).encode()})
    assert "'fc'" in error_of(path) or "structure" in error_of(path)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_file_cut_short(path, part):
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * part)])
    assert "not a whole zip file" in error_of(path)


def test_empty_file(path):
    path.write_bytes(b"")
    assert "the file is empty" in error_of(path)


@pytest.mark.parametrize("content", [b"subject\tvalue\n01\t0.5\n", b"\x00" * 4096])
def test_not_a_zip(path, content):
    path.write_bytes(content)
    assert "not a whole zip file" in error_of(path)


def test_a_zip_of_something_else(path):
    rewrite(path, {"readme.txt": b"hello"})
    assert "it has no zarr.json" in error_of(path)


def test_a_zarr_zip_of_another_program(path):
    rewrite(path, {"zarr.json": b'{"attributes": {}, "zarr_format": 3, "node_type": "group"}'})
    assert "is not a dataset of brainloom" in error_of(path)


def test_missing_file_and_folder(tmp_path):
    assert "does not exist" in error_of(tmp_path / "none.zarr.zip")
    (tmp_path / "folder.zarr.zip").mkdir()
    assert "is a folder" in error_of(tmp_path / "folder.zarr.zip")


def test_every_flipped_bit_is_noticed_or_harmless(path):
    """Whatever byte is hit, the reader raises its own error or returns exactly what was written."""
    good = read_dataset(path)
    raw = path.read_bytes()
    noticed = 0
    places = range(0, len(raw), 13)
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            found = read_dataset(path)
        except StoreError as err:
            noticed += 1
            assert path.name in str(err)
        else:
            assert found.identical(good), place
    assert noticed > 0.7 * len(places)  # the rest hits dates and permissions, which mean nothing


WRITER = """
import sys
import numpy as np, xarray as xr
from brainloom.store import write_dataset
version = int(sys.argv[2])
print("ready", flush=True)
while True:
    values = np.full((64, 4096), float(version))
    write_dataset(sys.argv[1], xr.Dataset({"a": (("i", "j"), values), "b": ((), version)}))
    version += 1
"""


def test_kill_in_the_middle_of_writing_never_leaves_a_wrong_file(tmp_path):
    path = tmp_path / "a.zarr.zip"
    seen, cut = [], 0
    for round_ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(round_ * 10_000)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.15 + 0.037 * round_)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        cut += any(p.name.endswith(".tmp") for p in tmp_path.iterdir())
        if path.exists():
            ds = read_dataset(path)
            assert np.all(ds.a.values == ds.b.item())
            seen.append(ds.b.item())
    assert len(seen) >= 6
    assert seen == sorted(seen)
    write_dataset(path, xr.Dataset({"b": ((), -1)}))
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr.zip"], f"{cut} rounds left a part, none may stay"


def test_a_reader_never_sees_a_part(tmp_path):
    """Reads at full speed while another process rewrites the file."""
    path = tmp_path / "a.zarr.zip"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        versions, stop = set(), time.monotonic() + 4
        while time.monotonic() < stop:
            if path.exists():
                ds = read_dataset(path)
                assert np.all(ds.a.values == ds.b.item())
                versions.add(ds.b.item())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert len(versions) > 1


def test_a_step_names_the_damaged_input_and_writes_nothing(path, tmp_path, capsys):
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    output = tmp_path / "posterior.zarr.zip"
    params = json.dumps({"study": "demo", "seed": 0, "precision": "float64"})
    args = parse(
        "identify",
        lists=["fit", "output"],
        argv=["--fit", str(path), "--output", str(output), "--params", params],
    )
    assert run_subjects(args, lambda subject, inputs, args: inputs["fit"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert path.name in lines[0]
    assert not output.exists()
