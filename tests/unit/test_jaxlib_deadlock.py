"""
The installed jaxlib finishes a program with two independent batched inverses.

jaxlib 0.10.2 hangs on it for ever on a machine with few cores, mostly within the first hundred calls. A
batched Lyapunov fit has this shape, so an upgrade of jax that brings the hang back must fail here and not in
a user's run.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

import pytest

CALLS = 200
SILENT_SECONDS = 20.0
LONG_ENOUGH_SECONDS = 180.0
PROGRAM = """
import sys
from brainloom.core.runtime import configure
if sys.argv[1] != "0":
    configure(int(sys.argv[1]), "float64", sys.argv[2])
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
x = jax.random.normal(jax.random.key(0), (2, 16, 80, 80)) + 20 * jnp.eye(80)
f = jax.jit(jax.vmap(lambda J, K: jnp.linalg.inv(J) + jnp.linalg.inv(K)))
for call in range(int(sys.argv[3])):
    y = f(x[0], x[1]).block_until_ready()
    print(call, flush=True)
assert jnp.allclose(x[0] @ (y - jnp.linalg.inv(x[1])), jnp.eye(80), atol=1e-8)
print("finished", flush=True)
"""


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells a hang from a slow machine by /proc")
@pytest.mark.parametrize("threads", [0, 1, 2], ids=["defaults-of-jax", "one-thread", "two-threads"])
def test_two_independent_batched_inverses_finish(threads, tmp_path):
    """A hang is silence without CPU time: on a busy machine a call may be slow, but it computes."""
    ours = ("XLA_FLAGS", "PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in ours}
    command = [sys.executable, "-c", PROGRAM, str(threads), str(tmp_path / "cache"), str(CALLS)]
    log = tmp_path / "stderr"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env)
    assert process.stdout is not None
    calls, start = 0, time.monotonic()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while time.monotonic() - start < LONG_ENOUGH_SECONDS:
                used = cpu_seconds(process.pid)
                if selector.select(timeout=SILENT_SECONDS):
                    line = process.stdout.readline().strip()
                    if line == b"finished":
                        return
                    assert line, f"ended after {calls} calls:\n{log.read_text()}"
                    calls += 1
                elif cpu_seconds(process.pid) - used < 0.02 * SILENT_SECONDS:
                    pytest.fail(
                        f"jaxlib hangs after {calls} calls of two batched inverses; keep jax below 0.10"
                    )
        assert calls > 0, f"no call was done in {LONG_ENOUGH_SECONDS:.0f} s"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
