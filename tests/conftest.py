"""Settings of every test: float64, one thread, and one cache of compiled programs for the whole session."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

from brainloom.core.runtime import configure

# Before anything imports jax; processes that tests start inherit the cache. Set BRAINLOOM_CACHE to keep it.
_own_cache = None
if not os.environ.get("BRAINLOOM_CACHE"):
    _own_cache = tempfile.mkdtemp(prefix="brainloom-tests-")
    os.environ["BRAINLOOM_CACHE"] = _own_cache
configure(threads=1, precision="float64")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the cache if this session made it."""
    if _own_cache is not None:
        shutil.rmtree(_own_cache, ignore_errors=True)


# Compiled programs stay in memory as long as their functions; two processes share the memory of the machine.
MOST_MEMORY = 4e9


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """After a file of tests, drop the programs of this process if they take much memory."""
    yield
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident > MOST_MEMORY:
        import gc

        import jax

        jax.clear_caches()
        gc.collect()
