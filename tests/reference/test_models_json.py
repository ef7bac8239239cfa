"""Every entry of the table of reference values is tested in this folder."""

from __future__ import annotations

# Before brainstate, which resets jax to single precision when it is imported.
from reference_entries import ENTRIES, TABLE

# isort: split
import pytest
import test_reference_balloon
import test_reference_couplings
import test_reference_hrf
import test_reference_networks
import test_reference_objectives
import test_reference_points
import test_reference_statistics
import test_reference_trajectories

MODULES = (
    test_reference_balloon,
    test_reference_couplings,
    test_reference_hrf,
    test_reference_networks,
    test_reference_objectives,
    test_reference_points,
    test_reference_statistics,
    test_reference_trajectories,
)


def covered() -> list[str]:
    """Entries that the tests of this folder are run with."""
    found = []
    for module in MODULES:
        for name, function in vars(module).items():
            marks = getattr(function, "pytestmark", []) if name.startswith("test_") else []
            for mark in marks:
                if mark.name == "parametrize" and mark.args[0] == "entry":
                    found += [case.id for case in mark.args[1]]
    return found


def test_the_table_is_whole():
    assert len(TABLE["entries"]) == len(ENTRIES) == TABLE["meta"]["n"]


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_is_tested(name):
    assert covered().count(name) == 1
