"""Provenance is the same for the same making, and different for a different one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from brainloom.core.provenance import PACKAGES, file_sha256, json_hash, provenance_attrs


def test_attributes_are_json_scalars_with_fixed_names():
    attrs = provenance_attrs("fit", {"seed": 3}, {"signal": "ab"}, seed=3, precision="float32", device="gpu")
    assert set(attrs) == {"step", "config_hash", "input_hashes", "versions", "seed", "precision", "device"}
    assert all(isinstance(value, str | int) for value in attrs.values())
    assert json.loads(str(attrs["input_hashes"])) == {"signal": "ab"}
    assert (attrs["seed"], attrs["precision"], attrs["device"]) == (3, "float32", "gpu")


def test_what_does_not_apply_is_said_so():
    attrs = provenance_attrs("group", {}, {})
    assert (attrs["seed"], attrs["precision"], attrs["device"]) == (-1, "none", "cpu")


def test_versions_are_those_installed():
    versions = json.loads(str(provenance_attrs("fit", {}, {})["versions"]))
    assert versions == {name: metadata.version(name) for name in PACKAGES}


def test_same_in_another_process_and_folder(tmp_path):
    code = (
        "import json, sys; from brainloom.core.provenance import provenance_attrs\n"
        "print(json.dumps(provenance_attrs('fit', {'b': 1, 'a': [1.5, None]}, {'y': '2', 'x': '1'}, seed=0)))\n"
        "assert not {'numpy', 'jax', 'xarray'} & set(sys.modules), 'imported'\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=env,
        timeout=60,
    )
    here = provenance_attrs("fit", {"a": [1.5, None], "b": 1}, {"x": "1", "y": "2"}, seed=0)
    assert json.loads(run.stdout) == here


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": 1.5}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {}, False),
    ],
)
def test_json_hash_sees_values_and_not_the_order_of_keys(a, b, equal):
    assert (json_hash(a) == json_hash(b)) is equal


def test_json_hash_is_the_documented_one():
    assert json_hash({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()


def test_file_sha256(tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "f").write_bytes(content)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "none")
