"""
What brainloom costs beside the loop: memory of a gradient, compile time, import time.

``python benchmarks/library/costs.py`` writes ``benchmarks/results/costs.json``. Everything is measured in fresh
processes on one core; processor time is given beside wall time, because other people may use the machine.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "results" / "costs.json"
N_REGIONS, N_STEPS, DT = 80, 60_000, 0.1
GOALS = {"memory_gb": 1.0, "compile_cold_s": 5.0, "compile_cached_s": 1.0, "import_over_others": 1.3}
IMPORTS = {
    "jax, brainstate, brainunit": "import jax, brainstate, brainunit",
    "brainloom": "import brainloom",
    "brainloom and its models": "import brainloom; brainloom.HopfStep; brainloom.Network; brainloom.Simulator",
}
REPEATS = 9


def loss_of(*, delayed: bool, n_steps: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Any]:
    """Run and loss of an 80-region Hopf network as functions of (k, a), with default settings throughout."""
    import jax
    import jax.numpy as jnp
    import works

    import brainloom

    weights, lengths = works.connectome(N_REGIONS)
    lag = {"distance": lengths, "speed": 5.0} if delayed else {}

    def run(p: jax.Array) -> jax.Array:
        node = brainloom.HopfStep(N_REGIONS, a=p[1:], w=0.06, noise_x=0.01, noise_y=0.01)
        net = brainloom.Network(node, weights, k=p[0], **lag)
        return brainloom.Simulator(net, dt=DT).run(n_steps * DT, monitors="x", key=jax.random.key(0))["x"]

    start = jnp.concatenate([jnp.asarray([0.02]), jnp.full(N_REGIONS, -0.03)])
    return run, lambda p: jnp.mean(run(p) ** 2), start


def bold_loss() -> tuple[Callable[[Any], Any], Any]:
    """FC of ten minutes of BOLD of 80 reduced Wong-Wang regions at dt 1 ms, as a function of (k, w)."""
    import brainunit as u
    import jax
    import jax.numpy as jnp
    import works

    import brainloom

    weights, _ = works.connectome(N_REGIONS)

    def loss(p: jax.Array) -> jax.Array:
        node = brainloom.ReducedWongWangStep(N_REGIONS, w=p[1:], noise_S=0.01)
        net = brainloom.Network(node, weights, k=p[0])
        run = brainloom.Simulator(net, dt=1.0 * u.ms, method="euler").run
        found = run(600.48 * u.second, observe=[brainloom.BOLD(0.72 * u.second)], key=jax.random.key(0))
        return jnp.sum(jnp.corrcoef(found["bold"].T) ** 2)

    return loss, jnp.concatenate([jnp.asarray([0.2]), jnp.full(N_REGIONS, 0.9)])


def probe_memory(delayed: str) -> dict[str, float]:
    """Bytes that the compiled gradient asks for, and how much the process grows by running it."""
    import jax

    if delayed == "bold":
        loss, start = bold_loss()
    else:
        _, loss, start = loss_of(delayed=delayed == "delayed", n_steps=N_STEPS)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(start).compile()
    asked = compiled.memory_analysis()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    value, slope = jax.block_until_ready(compiled(start))
    taken = time.process_time() - begun
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert bool(jax.numpy.isfinite(slope).all()), value
    return {
        "temp_mb": asked.temp_size_in_bytes / 1e6,
        "peak_rss_growth_mb": (after - before) * 1024 / 1e6,
        "peak_rss_mb": after * 1024 / 1e6,
        "run_cpu_s": taken,
    }


def probe_compile(_: str) -> dict[str, float]:
    """Seconds to trace and lower, and to compile, the forward run and the gradient of a delayed network."""
    import jax

    import brainloom

    run, loss, start = loss_of(delayed=True, n_steps=10_000)
    _ = brainloom.HopfStep, brainloom.Network, brainloom.Simulator  # imported when first used
    found = {}
    for name, function in (("forward", run), ("gradient", jax.value_and_grad(loss))):
        wall, cpu = [time.perf_counter()], [time.process_time()]
        lowered = jax.jit(function).lower(start)
        wall.append(time.perf_counter()), cpu.append(time.process_time())
        lowered.compile()
        wall.append(time.perf_counter()), cpu.append(time.process_time())
        for part, at in (("lower", 0), ("compile", 1)):
            found[f"{name}_{part}_s"] = wall[at + 1] - wall[at]
            found[f"{name}_{part}_cpu_s"] = cpu[at + 1] - cpu[at]
    return found


def fresh(arguments: list[str], cache: str | None = None) -> dict[str, float]:
    """Run a probe in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    environment = os.environ | {"BRAINLOOM_CACHE": cache or ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def memory() -> dict[str, Any]:
    """Of a gradient through 60,000 steps, and through 600,480 with BOLD."""
    with tempfile.TemporaryDirectory() as cache:
        return {kind: _rounded(fresh(["memory", kind], cache)) for kind in ("undelayed", "delayed", "bold")}


def compile_time(repeats: int = 3) -> dict[str, Any]:
    """With an empty cache, and with one that holds the programs: medians over processes."""
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for kind in ("cold", "cached"):
                runs[kind].append(fresh(["compile", ""], cache))
    found = {}
    for kind, several in runs.items():
        middle = {name: statistics.median(one[name] for one in several) for name in several[0]}
        for end in ("s", "cpu_s"):
            for part in ("lower", "compile"):
                middle[f"{part}_{end}"] = sum(
                    middle[f"{name}_{part}_{end}"] for name in ("forward", "gradient")
                )
            middle[f"total_{end}"] = middle[f"lower_{end}"] + middle[f"compile_{end}"]
        found[kind] = _rounded(middle)
    return found


def import_time(repeats: int = REPEATS) -> dict[str, Any]:
    """Medians over processes that take turns, and ratios to the import of the packages underneath."""
    clock = (
        "import time, os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}); a, b = time.perf_counter(), "
        "time.process_time(); %s; print(time.perf_counter() - a, time.process_time() - b)"
    )
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in IMPORTS}
    for repeat in range(repeats + 1):
        for name, statement in IMPORTS.items():
            done = subprocess.run(
                [sys.executable, "-c", clock % statement], capture_output=True, text=True, check=True
            )
            if repeat:  # the first one fills the file cache
                taken[name].append(tuple(map(float, done.stdout.split())))
    wall, cpu = (
        {name: statistics.median(one[at] for one in several) for name, several in taken.items()}
        for at in (0, 1)
    )
    base = next(iter(IMPORTS))
    return {
        name: _rounded(
            {
                "wall_s": wall[name],
                "cpu_s": cpu[name],
                "ratio_wall": wall[name] / wall[base],
                "ratio_cpu": cpu[name] / cpu[base],
            }
        )
        for name in IMPORTS
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def main() -> None:
    """Measure everything and write it."""
    sys.path.insert(0, str(HERE.parent))
    from _machine import machine

    found = {"machine": machine(), "goals": GOALS}
    for name, measure in (("memory", memory), ("compile", compile_time), ("import", import_time)):
        found[name] = measure()
        print(name, json.dumps(found[name], indent=1), flush=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from brainloom.core.runtime import configure

        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        configure(threads=1, precision="float32")
        print(json.dumps({"memory": probe_memory, "compile": probe_compile}[sys.argv[1]](sys.argv[2])))
    else:
        main()
