"""
Time the works: the public API, the best raw JAX loop, the first JAX loop that comes to mind and C, then the peers.

``python benchmarks/library/run.py`` writes ``benchmarks/results/library.json``. The first four take turns in one
process bound to one core, so their ratios hold on a machine that others use too; processor time is given beside wall
time for the same reason. ``--quick`` divides all lengths by 10, ``--peers`` adds the peers, ``--only W1 W2`` picks
works. Peers are timed by ``peers/time_peers.py``, each in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from brainloom.core.runtime import configure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
configure(threads=1, precision="float32")

import limits  # noqa: E402
import naive  # noqa: E402
import numpy as np  # noqa: E402
import ours  # noqa: E402
import raw  # noqa: E402
import raw_bold  # noqa: E402
import works  # noqa: E402
from _machine import machine  # noqa: E402

RESULT = HERE.parent / "results" / "library.json"
GOALS = {
    "W1": 1.5,
    "W2": 4.0,
    "W2-400": 2.0,
    "W3": 1.5,
    "W4a": 8.0,
    "W4b": 9.0,
    "W5": 1.5,
}  # over C with equal noise
OVER_RAW = 1.1
NAIVE_PART = {
    "W1": 5,
    "W2": 10,
    "W2-400": 50,
    "W3": 8,
    "W4a": 4,
    "W4b": 16,
    "W5": 50,
}  # its runs are this much shorter
REPEATS = {"W1": 11, "W2": 5, "W2-400": 3, "W3": 7, "W4a": 11, "W4b": 5, "W5": 3}
BOLD = ("W3", "W4b")
MODULES = {"c": limits, "ours": ours, "raw": raw, "naive": naive}


def the_work(name: str, part: int = 1) -> Any:
    """A work, `part` times shorter."""
    if name.startswith("W2"):
        return works.w2(400 if name == "W2-400" else 80, n_steps=100_000 // part)
    if name in BOLD:
        return works.w3(n_samples=max(2, 416 // part))
    made = {"W1": works.w1, "W4a": works.w4a, "W5": works.w5}[name]()
    return replace(made, n_steps=made.n_steps // part)


def call(system: str, name: str, noise: str, part: int) -> Callable[[], Any]:
    """A call without arguments that runs a work."""
    work = the_work(name, part)
    if name in BOLD:
        return program(system, "rww_gradient" if name == "W4b" else "rww")(work, noise=noise)
    if name.startswith("W2"):
        return program(system, "mpr")(work)
    if name != "W4a":
        return program(system, "hopf")(work, noise=noise)
    more = {"by_hand": True} if system == "raw_by_hand" else {}
    return program(system.removesuffix("_by_hand"), "hopf_gradient")(work, noise=noise, **more)


def program(system: str, what: str) -> Callable[..., Callable[[], Any]]:
    """What makes the calls of one system for one kind of work."""
    return getattr(raw_bold if system == "raw" and what.startswith("rww") else MODULES[system], what)


def check() -> dict[str, float]:
    """
    Largest relative error of every system against C on short works without noise; with noise, of ours against raw.

    Raises
    ------
    AssertionError
        An error is above 1e-4: float32 over hundreds to thousands of steps, with nothing chaotic in them.
    """
    errors = {}

    def off(found: Any, expected: Any) -> float:
        return max(
            float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())
            for a, b in zip(found, expected, strict=True)
        )

    still = {"W1": works.w1(n_steps=2000), "W4a": works.w4a(n_steps=2000), "W5": works.w5(16, n_steps=400)}
    for name, work in still.items():
        what = "hopf_gradient" if name == "W4a" else "hopf"
        quiet = replace(work, sigma=0.0)
        expected = getattr(limits, what)(quiet, noise="none")()
        for system in ("ours", "raw", "naive"):
            errors[f"{name} {system}"] = off(getattr(MODULES[system], what)(quiet)(), expected)
        for noise in ("gaussian", "weak"):
            same = getattr(raw, what)(work, noise=noise)()
            errors[f"{name} ours and raw, {noise}"] = off(getattr(ours, what)(work, noise=noise)(), same)
    by_hand = raw.hopf_gradient(still["W4a"], by_hand=True)()
    errors["W4a raw by hand"] = off(by_hand, raw.hopf_gradient(still["W4a"])())
    for name in ("W2", "W2-400"):
        expected = limits.mpr(the_work(name, 50))()
        for system in ("ours", "raw", "naive"):
            errors[f"{name} {system}"] = off([MODULES[system].mpr(the_work(name, 50))()], [expected])
    errors |= check_bold(off)
    assert max(errors.values()) < 1e-4, errors
    return errors


def check_bold(off: Callable[[Any, Any], float]) -> dict[str, float]:
    """
    The same for W3 and W4b.

    The public API integrates the vessels by another scheme of second order than the rest: it differs by 4e-5.
    The naive loop, an Euler scheme of 1 ms, has to stay within 1 % only, and is left out of what is returned.
    """
    errors = {}
    # regions unlike enough for correlations that float32 can tell from 1
    still = replace(works.w3(n_samples=12), sigma=0.0, start=0.6, w=np.linspace(0.1, 0.95, 80))
    noisy = works.w3(n_samples=20)
    for name, what in (("W3", "rww"), ("W4b", "rww_gradient")):
        wrap = (lambda x: x) if name == "W4b" else (lambda x: [x])
        expected = wrap(program("c", what)(still, noise="none")())
        for system in ("ours", "raw"):
            errors[f"{name} {system}"] = off(wrap(program(system, what)(still)()), expected)
        naive_error = off(wrap(program("naive", what)(still)()), expected)
        assert naive_error < 1e-2, naive_error
        for noise in ("gaussian", "weak"):
            same = wrap(program("raw", what)(noisy, noise=noise)())
            errors[f"{name} ours and raw, {noise}"] = off(
                wrap(program("ours", what)(noisy, noise=noise)()), same
            )
    return errors


def measure(name: str, noise: str, part: int) -> dict[str, Any]:
    """Medians of runs that take turns, after one of each that does not count; seconds of the whole work."""
    systems = ["c", "ours", "raw", "naive"] + (["raw_by_hand"] if name == "W4a" else [])
    parts = {system: part * (NAIVE_PART[name] if system == "naive" else 1) for system in systems}
    steps = {system: the_work(name, parts[system]).n_steps for system in systems}
    times = {system: the_work(name).n_steps / steps[system] for system in systems}
    calls = {system: call(system, name, noise, parts[system]) for system in systems}
    wall: dict[str, list[float]] = {system: [] for system in systems}
    cpu: dict[str, list[float]] = {system: [] for system in systems}
    first = {}
    for system, run in calls.items():
        start = time.perf_counter()
        run()
        first[system] = time.perf_counter() - start
    for repeat in range(REPEATS[name]):
        for system, run in calls.items():
            if system == "naive" and repeat >= 3:
                continue
            start, begun = time.perf_counter(), time.process_time()
            run()
            cpu[system].append((time.process_time() - begun) * times[system])
            wall[system].append((time.perf_counter() - start) * times[system])
    middle = {system: (statistics.median(wall[system]), statistics.median(cpu[system])) for system in systems}
    found: dict[str, Any] = {"steps": the_work(name).n_steps}
    for system, (w, c) in middle.items():
        found[system] = {
            "wall_s": round(w, 4),
            "cpu_s": round(c, 4),
            "over_c_wall": round(w / middle["c"][0], 2),
            "over_c_cpu": round(c / middle["c"][1], 2),
            "first_call_s": round(first[system], 2),
            "timed_steps": steps[system],
            "runs": len(wall[system]),
        }
    found["ours_over_raw_wall"] = round(middle["ours"][0] / middle["raw"][0], 2)
    found["ours_over_raw_cpu"] = round(middle["ours"][1] / middle["raw"][1], 2)
    found["goal_over_c"], found["goal_over_raw"] = GOALS[name], OVER_RAW
    return found


def show(name: str, noise: str, found: dict[str, Any]) -> None:
    """One line: processor time, then wall time, over C."""
    row = "  ".join(
        f"{system} {found[system]['over_c_cpu']:.2f} ({found[system]['over_c_wall']:.2f})"
        for system in found
        if isinstance(found[system], dict) and system != "c"
    )
    print(
        f"{name:7}{noise:9} C {found['c']['cpu_s']:.3f} s  {row}  ours/raw {found['ours_over_raw_cpu']:.2f} "
        f"({found['ours_over_raw_wall']:.2f})",
        flush=True,
    )


def main() -> None:
    """Check, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="lengths divided by 10")
    parser.add_argument("--peers", action="store_true", help="time the peers too, in the works without BOLD")
    parser.add_argument("--only", nargs="+", choices=sorted(GOALS), default=list(GOALS))
    arguments = parser.parse_args()
    part = 10 if arguments.quick else 1
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    kept["machine"], kept["checks"] = machine(), {k: float(f"{v:.1e}") for k, v in check().items()}
    print("checks", max(kept["checks"].values()))
    table = kept.setdefault("works", {})
    for name in arguments.only:
        for noise in ("none",) if name.startswith("W2") else ("gaussian", "weak"):
            found = measure(name, noise, part) | {"load": round(os.getloadavg()[0], 1)}
            found["divided_by"] = part
            table.setdefault(name, {})[noise] = found
            show(name, noise, found)
            RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    if arguments.peers:
        sys.path.insert(0, str(HERE / "peers"))
        from time_peers import time_peers

        kept["peers"] = time_peers([name for name in arguments.only if name not in BOLD])
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
