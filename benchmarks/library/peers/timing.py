"""
What every peer's script shares; runs inside the environment of the peer, with numpy only.

A script gives `main` a function for each work that it can do: ``make(work) -> call``. Runs are as long as `SECONDS`
allow; the time of the whole work follows by proportion (stated as ``timed_steps``).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import works  # noqa: E402

SECONDS = 2.0  # a run is at most about this long
MAKERS = {
    "W1": works.w1,
    "W2": works.w2,
    "W2-400": lambda: works.w2(400),
    "W4a": works.w4a,
    "W5": works.w5,
}
Make = Callable[[Any], Callable[[], Any]]


def one_after_another(make: Make) -> Make:
    """W5 for systems without sets: the first set, as many times as there are sets."""

    def made(work: Any) -> Callable[[], Any]:
        return make(replace(work, a=work.a[0], k=float(work.k[0])))

    made.sets_apart = True  # type: ignore[attr-defined]
    return made


def measure(name: str, make: Make, *, complete: bool) -> dict[str, Any]:
    """Seconds of a work after a run that does not count; `complete` never shortens it."""
    whole = MAKERS[name]()
    times = len(whole.a) if getattr(make, "sets_apart", False) else 1
    steps = whole.n_steps if complete else whole.n_steps // 100
    while True:
        run = make(replace(whole, n_steps=steps))
        start = time.perf_counter()
        run()
        first = time.perf_counter() - start
        taken = []
        while len(taken) < 3 and sum(taken) < 3 * SECONDS:
            start, begun = time.perf_counter(), time.process_time()
            run()
            taken.append(time.perf_counter() - start)
            cpu = time.process_time() - begun
        middle = statistics.median(taken)
        longer = min(whole.n_steps, steps * int(max(1, SECONDS / middle)) // 1000 * 1000)
        if longer < 3 * steps:
            break
        steps = longer
    scale = times * whole.n_steps / steps
    return {
        "wall_s": round(middle * scale, 3),
        "cpu_s": round(cpu * scale, 3),
        "first_call_s": round(first, 2),
        "timed_steps": steps,
        "scaled_by": round(scale, 1),
    }


def main(
    package: str,
    makers: dict[str, Make],
    how: dict[str, str],
    cannot: dict[str, str],
    *,
    complete: bool = False,
) -> None:
    """Time the works named on the command line and print them as JSON, one line."""
    found: dict[str, Any] = {"version": metadata.version(package), "works": {}}
    for name in sys.argv[1:]:
        if name not in makers:
            found["works"][name] = {"cannot": cannot[name]}
            continue
        try:
            found["works"][name] = measure(name, makers[name], complete=complete) | {"how": how[name]}
        except Exception as error:
            found["works"][name] = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
    print(json.dumps(found))
