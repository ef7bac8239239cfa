"""
Evaluations of the loss that each backend of `Fitter` needs, against the number of parameters.

``python benchmarks/fit_dimensions.py`` writes ``benchmarks/results/fit_dimensions.json``. The problem is the same in 2,
20 and 200 dimensions: a field of bifurcation parameters ``a`` of uncoupled Hopf nodes is fitted to the amplitudes
``sqrt(a)`` that its simulation settles at, all from the same start. Counted are evaluations until the root mean square
error of the parameters, relative to the range that they are spread over, is below 0.05, up to a limit of 10,000. An
evaluation with its gradient counts as one here; it takes two to four times the time of one without.
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
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from brainstate.nn import Param, SigmoidT  # noqa: E402

from brainloom import Fitter, HopfStep, Simulator  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "fit_dimensions.json"
DIMENSIONS = (2, 20, 200)
LOW, HIGH, START = 0.1, 1.0, 0.4
TARGET, LIMIT = 0.05, 10_000
WAYS = {
    "grad (Adam 0.1)": ("grad", optax.adam(0.1)),
    "scipy (L-BFGS-B)": ("scipy", None),
    "cmaes": ("cmaes", None),
    "nevergrad (CMA)": ("nevergrad", "CMA"),
    "nevergrad (DE)": ("nevergrad", "DE"),
    "nevergrad (PSO)": ("nevergrad", "PSO"),
    "nevergrad (OnePlusOne)": ("nevergrad", "OnePlusOne"),
}


def amplitudes(node: HopfStep) -> jax.Array:
    """Mean amplitude of each node at the end of 50 ms of simulation."""
    run = Simulator(node, dt=0.5).run(50.0, monitors=["x", "y"], transient=45.0)
    return jnp.mean(jnp.sqrt(run["x"] ** 2 + run["y"] ** 2), axis=0)


def evaluations(backend: str, optimizer: object, n: int) -> dict[str, object]:
    """How many evaluations until the parameters are found, and the seconds that took."""
    truth = LOW + (HIGH - LOW) * (np.arange(n) + 0.5) / n
    node = HopfStep(n, a=Param(np.full(n, START), t=SigmoidT(0.0, 1.2)), w=0.6, init_x=0.5)
    target = amplitudes(HopfStep(n, a=truth, w=0.6, init_x=0.5))

    def found(info: dict) -> bool:
        error = np.sqrt(np.mean((np.asarray(info["params"]["a"]) - truth) ** 2)) / (HIGH - LOW)
        return error < TARGET or info["step"] >= LIMIT

    fitter = Fitter(
        node,
        optimizer,
        predict=amplitudes,
        objective=lambda a, b: jnp.mean((a - b) ** 2),
        backend=backend,
        callbacks=found,
    )
    begun = time.perf_counter()
    result = fitter.fit(target, n_steps=LIMIT, key=jax.random.key(0))
    n_evaluations = len(result.history)
    reached = result.message == "ended by a callback" and n_evaluations < LIMIT
    return {
        "evaluations": n_evaluations if reached else None,
        "tried": n_evaluations,
        "best_loss": float(result.best_loss),
        "seconds": round(time.perf_counter() - begun, 2),
    }


def main() -> None:
    """Run all ways in all dimensions and store what they needed."""
    found = {}
    for name, way in WAYS.items():
        found[name] = {str(n): evaluations(*way, n) for n in DIMENSIONS}
        print(
            name, {n: one["evaluations"] or f"> {one['tried']}" for n, one in found[name].items()}, flush=True
        )
    problem = {"parameters": list(DIMENSIONS), "target": TARGET, "limit": LIMIT}
    RESULTS.write_text(
        json.dumps({"problem": problem, "found": found, "machine": machine()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
