"""Threads, precision and compile cache are what was asked for, in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brainloom.core.runtime import compiling_alone, configure, default_cache_dir, device_kind

REPORT = """
import json, os, sys
import jax, jax.numpy as jnp, numpy as np
x = jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((64, 64)))
x.block_until_ready()
import threadpoolctl
blas = [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
from brainloom.core.runtime import device_kind
print(json.dumps({
    "dtype": str(x.dtype), "flags": os.environ.get("XLA_FLAGS", ""), "blas": blas,
    "threads": len(os.listdir("/proc/self/task")), "device": device_kind(),
}))
"""


def run(setup: str, **env: str) -> dict:
    """Setup, then what jax and numpy made of it, in a process without the settings of this one."""
    clean = {
        k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PJRT_NPROC") and "NUM_THREADS" not in k
    }
    clean = {k: v for k, v in clean.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", setup + REPORT],
        capture_output=True,
        text=True,
        env={**clean, **env},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"stderr": done.stderr}


def setup(*, threads: int = 1, precision: str = "float64", cache: Path, before: str = "") -> str:
    call = f"configure({threads}, {precision!r}, {str(cache)!r})"
    return f"{before}\nfrom brainloom.core.runtime import configure\n{call}\n"


def test_one_thread_float64_and_a_filled_cache(tmp_path):
    found = run(setup(cache=tmp_path / "jax"))
    assert found["dtype"] == "float64"
    assert "--xla_cpu_multi_thread_eigen=false" in found["flags"]
    assert "intra_op_parallelism_threads=1" in found["flags"]
    assert set(found["blas"]) == {1}
    assert found["device"] in ("cpu", "gpu")
    first = sorted(p.name for p in (tmp_path / "jax").iterdir() if p.name.endswith("-cache"))
    assert first, "the compiled program was not kept"
    run(setup(cache=tmp_path / "jax"))
    assert sorted(p.name for p in (tmp_path / "jax").iterdir() if p.name.endswith("-cache")) == first


def test_float32(tmp_path):
    assert run(setup(precision="float32", cache=tmp_path))["dtype"] == "float32"


def test_the_number_of_threads_bounds_the_pools(tmp_path):
    """More threads than cores, so that the machine's own number cannot pass for ours."""
    one = run(setup(threads=1, cache=tmp_path))
    eight = run(setup(threads=8, cache=tmp_path))
    assert "--xla_cpu_multi_thread_eigen=false" not in eight["flags"]
    assert eight["threads"] >= one["threads"] + 7
    assert set(one["blas"]) == {1}


def test_numpy_that_is_imported_already_obeys_too(tmp_path):
    found = run(setup(threads=1, cache=tmp_path, before="import numpy"), OPENBLAS_NUM_THREADS="2")
    assert set(found["blas"]) == {1}


def test_jax_that_is_imported_already_obeys_too(tmp_path):
    found = run(setup(cache=tmp_path / "jax", before="import jax"))
    assert found["dtype"] == "float64"
    assert any((tmp_path / "jax").iterdir())


def test_flags_of_the_user_stay_and_win(tmp_path):
    found = run(
        setup(cache=tmp_path), XLA_FLAGS="--xla_cpu_multi_thread_eigen=true --xla_cpu_enable_fast_math=false"
    )
    flags = found["flags"].split()
    assert "--xla_cpu_multi_thread_eigen=true" in flags
    assert "--xla_cpu_enable_fast_math=false" in flags
    assert "--xla_cpu_multi_thread_eigen=false" not in flags
    assert "intra_op_parallelism_threads=1" in flags


def test_calling_twice_adds_nothing_and_the_last_call_counts(tmp_path):
    once = run(setup(cache=tmp_path))["flags"]
    again = setup(cache=tmp_path) + setup(cache=tmp_path)
    assert run(again)["flags"] == once
    assert run(setup(cache=tmp_path) + setup(threads=2, cache=tmp_path))["flags"] == ""


def test_a_cache_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    found = run(setup(cache=tmp_path / "file" / "jax"))
    assert found["dtype"] == "float64"
    assert "Traceback" not in found["stderr"]


def test_default_cache_dir(monkeypatch):
    monkeypatch.setenv("BRAINLOOM_CACHE", "/somewhere/else")
    assert default_cache_dir() == "/somewhere/else"
    monkeypatch.delenv("BRAINLOOM_CACHE")
    assert default_cache_dir() == str(Path.home() / ".cache" / "brainloom" / "jax")


@pytest.mark.parametrize(("threads", "precision"), [(0, "float64"), (1, "float16")])
def test_wrong_arguments(threads, precision):
    with pytest.raises(ValueError, match="must be"):
        configure(threads, precision)


def test_device_kind_imports_nothing():
    code = (
        "import sys; from brainloom.core.runtime import configure, device_kind\n"
        "configure(1, 'float64'); assert device_kind() == 'cpu'\n"
        "assert not {'jax', 'numpy'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.gpu
def test_device_kind_on_a_gpu():
    import jax

    jax.devices("gpu")
    assert device_kind() == "gpu"


def test_two_jobs_do_not_compile_at_the_same_time(tmp_path):
    program = (
        "import sys, time\n"
        "from brainloom.core.runtime import compiling_alone, configure\n"
        f"configure(cache_dir={str(tmp_path)!r})\n"
        "with compiling_alone('program'):\n"
        "    print(time.monotonic(), flush=True); time.sleep(1.0); print(time.monotonic(), flush=True)\n"
    )
    jobs = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    spans = sorted([float(line) for line in job.communicate()[0].split()] for job in jobs)
    assert spans[0][1] <= spans[1][0]


def test_a_folder_that_cannot_be_locked_stops_nobody(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/nowhere/at/all")
    with compiling_alone("program"):
        pass
