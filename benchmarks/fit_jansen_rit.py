"""
A Jansen-Rit column fitted to a rhythm of 10 Hz by every backend of `Fitter` from the same start.

``python benchmarks/fit_jansen_rit.py`` writes ``benchmarks/results/fit_jansen_rit.json``: evaluations, those until the
rhythm is right to 0.05 Hz, and the loss at the end. Its mean input p and inhibitory rate constant b may change; the
loss is the difference in Hz of the soft spectral peak of the potential, 0.94 at the start.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from _machine import machine

from brainloom.core.runtime import configure

configure(threads=1, precision="float64")

import brainloom.models  # noqa: E402, F401

# isort: split
import brainunit as u  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from brainstate.nn import Param, SigmoidT  # noqa: E402

from brainloom import Fitter, JansenRitStep, Simulator, objectives  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "fit_jansen_rit.json"
CLOSE = 0.05
# Backend, optimiser and steps: gradients 20 to 40, populations 15 generations of six.
WAYS = {
    "grad, Adam 0.1": ("grad", optax.adam(0.1), 40),
    "grad, 10 steps of Adam, then 10 of L-BFGS": ("grad", [(optax.adam(0.1), 10), ("lbfgs", 10)], None),
    "scipy, L-BFGS-B": ("scipy", None, 40),
    "cmaes": ("cmaes", None, 15),
    "nevergrad, CMA": ("nevergrad", "CMA", 15),
    "nevergrad, DE": ("nevergrad", "DE", 15),
    "nevergrad, PSO": ("nevergrad", "PSO", 15),
    "nevergrad, OnePlusOne": ("nevergrad", "OnePlusOne", 15),
}


def potential(column: JansenRitStep) -> jax.Array:
    """One second of the potential, sampled at 250 Hz, after half a second of transient."""
    run = Simulator(column, dt=1.0 * u.ms).run(
        1500.0 * u.ms, monitors=["potential"], transient=500.0 * u.ms, sample_every=4 * u.ms
    )
    return run["potential"]


def fit(backend: str, optimizer: object, n_steps: int | None) -> dict[str, object]:
    """One fit: what it took and where it ended."""
    p, b = Param(240.0, t=SigmoidT(180.0, 320.0)), Param(55.0, t=SigmoidT(40.0, 70.0))
    objective = objectives.spectral_peak((4, 20), dt=4 * u.ms, window=1.0)
    fitter = Fitter(
        JansenRitStep(1, p=p, b=b), optimizer, predict=potential, objective=objective, backend=backend
    )
    begun = time.perf_counter()
    result = fitter.fit(objectives.PeakFrequency(np.array([10.0])), n_steps, key=jax.random.key(3))
    seconds = time.perf_counter() - begun
    close = np.flatnonzero(result.history < CLOSE)
    return {
        "gradients": backend in ("grad", "scipy"),
        "evaluations": int(result.n_evaluations),
        "until_close": int(close[0]) + 1 if len(close) else None,
        "first_loss": float(result.history[0]),
        "loss": float(result.best_loss),
        "p": float(result.best_params["p"]),
        "b": float(result.best_params["b"]),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Fit by all backends and store what they needed."""
    found = {}
    for name, way in WAYS.items():
        found[name] = fit(*way)
        print(name, found[name], flush=True)
    problem = {"target_hz": 10.0, "close_hz": CLOSE, "start": {"p": 240.0, "b": 55.0}}
    RESULTS.write_text(
        json.dumps({"problem": problem, "found": found, "machine": machine()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
