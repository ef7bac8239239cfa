"""
The installed jaxlib finishes a program with two independent batched inverses.

jaxlib 0.10.2 hangs on it for ever on a machine with few cores. A batched Lyapunov fit has this shape, so an
upgrade of jax that brings the hang back must fail here and not in a user's run.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from brainloom.core.runtime import configure
if sys.argv[1] != "0":
    configure(int(sys.argv[1]), "float64", sys.argv[2])
import jax, jax.numpy as jnp
x = jax.random.normal(jax.random.key(0), (2, 16, 80, 80)) + 20 * jnp.eye(80)
y = jax.jit(jax.vmap(lambda J, K: jnp.linalg.inv(J) + jnp.linalg.inv(K)))(x[0], x[1])
assert jnp.allclose(x[0] @ (y - jnp.linalg.inv(x[1])), jnp.eye(80), atol=1e-3)
print("finished")
"""


@pytest.mark.parametrize("threads", ["0", "1", "2"], ids=["jax-defaults", "one-thread", "two-threads"])
def test_two_independent_batched_inverses_finish(threads, tmp_path):
    ours = ("XLA_FLAGS", "PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in ours}
    for _ in range(2):  # the hang does not come every time
        try:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, threads, str(tmp_path)],
                capture_output=True,
                text=True,
                env=env,
                timeout=120,
            )
        except subprocess.TimeoutExpired:
            pytest.fail("jaxlib hangs on two batched inverses; keep jax below 0.10")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "finished"
