"""Checkpoints of fits: whole or absent, and told apart by everything that a fit depends on."""

import os

import numpy as np
import pytest

from brainloom.fit import checkpoint

ARRAYS = {"theta": np.linspace(0, 1, 500).reshape(2, 250), "n_steps": np.array([3, 4]), "best": np.array(1)}


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(tmp_path / "new" / "folder", "a", ARRAYS)
    found = checkpoint.load(tmp_path / "new" / "folder", "a")
    assert set(found) == set(ARRAYS)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["a.npz"]


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save(None, "a", ARRAYS)
    assert checkpoint.load(None, "a") is None and list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_is_none(tmp_path):
    assert checkpoint.load(tmp_path, "a") is None
    assert checkpoint.load(tmp_path / "absent", "a") is None


@pytest.fixture
def stored(tmp_path):
    checkpoint.save(tmp_path, "a", ARRAYS)
    return tmp_path / "a.npz"


def test_a_truncated_file_counts_as_missing_at_every_length(stored):
    whole = stored.read_bytes()
    for length in {0, 1, 3, 30, 200, len(whole) // 2, len(whole) - 200, len(whole) - 1}:
        stored.write_bytes(whole[:length])
        assert checkpoint.load(stored.parent, "a") is None, length
    stored.write_bytes(whole)
    assert checkpoint.load(stored.parent, "a") is not None


def test_a_flipped_bit_counts_as_missing(stored):
    whole = bytearray(stored.read_bytes())
    place = whole.find(ARRAYS["theta"].tobytes()[800:808])
    whole[place] ^= 4
    stored.write_bytes(whole)
    assert checkpoint.load(stored.parent, "a") is None


def test_a_checkpoint_can_not_run_code(tmp_path):
    np.savez(tmp_path / "a.npz", theta=np.array([object()], dtype=object))
    assert checkpoint.load(tmp_path, "a") is None


def test_a_write_that_fails_leaves_the_old_checkpoint(stored, monkeypatch):
    before = stored.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(stored.parent, "a", {"theta": np.zeros(3)})
    assert stored.read_bytes() == before


def test_the_name_depends_on_everything_a_fit_depends_on():
    base = checkpoint.task_hash("settings", ARRAYS)
    assert checkpoint.task_hash("settings", dict(reversed(ARRAYS.items()))) == base and len(base) == 32
    changed = ARRAYS["theta"].copy()
    changed[1, 7] += 1e-15
    others = [
        ("other", ARRAYS),
        ("settings", ARRAYS | {"theta": changed}),
        ("settings", ARRAYS | {"theta": ARRAYS["theta"].reshape(250, 2)}),
        ("settings", ARRAYS | {"n_steps": ARRAYS["n_steps"].astype(np.uint64)}),
        ("settings", {("start" if name == "theta" else name): value for name, value in ARRAYS.items()}),
        ("settings", ARRAYS | {"more": np.zeros(0)}),
    ]
    assert len({base, *(checkpoint.task_hash(*other) for other in others)}) == len(others) + 1


def test_the_layout_in_memory_does_not_matter():
    strided = np.asfortranarray(ARRAYS["theta"])
    assert checkpoint.task_hash("s", {"theta": strided}) == checkpoint.task_hash(
        "s", {"theta": ARRAYS["theta"]}
    )
