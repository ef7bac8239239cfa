"""
Synthetic cohorts through `brainloom.cohort`: fits an hour by the number of slots, and what the prior gains with the cohort.

``python benchmarks/cohort.py [throughput] [prior]`` writes ``benchmarks/results/cohort.json``. Subjects have 80 regions, an own
connectome, and the true model of `LinearStep` with two regional fields (162 parameters) and two common inputs; parts of their
recordings are Wishart samples around the true FC with the degrees of freedom of real halves.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path

from _machine import machine

from brainloom.core.runtime import configure

configure(threads=1, precision="float64")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from brainloom.analysis.fc import average_correlations, fc_correlation  # noqa: E402
from brainloom.cohort.batch import Settings, fit_batch  # noqa: E402
from brainloom.cohort.pool import Member, pool_cohort  # noqa: E402
from brainloom.cohort.pooled_model import PooledSetup, pooled_fc  # noqa: E402
from brainloom.fit.fc_errors import laplace  # noqa: E402
from brainloom.fit.predict import objective  # noqa: E402
from brainloom.fit.problem import FitSetup, make_problem  # noqa: E402
from brainloom.fit.space import FitSpace  # noqa: E402
from brainloom.models import get_model  # noqa: E402

N, RANK = 80, 2
DOF = {"early": 30, "validation": 15, "test": 50}
CONFIG = {
    "model": {"parameters": {"gamma": -0.1}},
    "fit": {"lambda": 0.01, "margin": 0.01},
    "signal": {"band": (0.01, 0.1), "filter_order": 2},
}
SETUP = FitSetup(
    model=get_model("LinearStep"),
    local="gamma",
    space=FitSpace(("coupling", "homotopic"), ("local", "noise"), N),
    symmetric=True,
    through_band=True,
    lag1_weight=0.0,
)


def subject(number: int) -> tuple[Member, np.ndarray]:
    """A subject around a common brain, and its true FC."""
    common, own = np.random.default_rng(0), np.random.default_rng([1, number])
    pattern = 0.9 * common.normal(size=(N, N)) + 0.3 * own.normal(size=(N, N))
    weights = np.exp(2.0 * (pattern + pattern.T))
    np.fill_diagonal(weights, 0.0)
    theta = 0.5 * common.normal(size=SETUP.space.size) + 0.2 * own.normal(size=SETUP.space.size)
    loadings = 0.5 * common.normal(size=N * RANK) + 0.2 * own.normal(size=N * RANK)
    problem = make_problem(
        SETUP, CONFIG, weights=weights / weights.sum(1).mean(), homotope=np.arange(N) ^ 1, fc=np.eye(N), lag1=np.eye(N),
        frequency_hz=np.full(N, 0.05), repetition_time=0.72,
    )  # fmt: skip
    true = np.asarray(
        pooled_fc(PooledSetup(SETUP, RANK), problem, jnp.asarray(np.concatenate([theta, loadings])))
    )
    root = np.linalg.cholesky(true)

    def sample(dof: int) -> np.ndarray:
        return np.corrcoef((own.normal(size=(dof, N)) @ root.T).T)

    early, validation, test = (sample(dof) for dof in DOF.values())
    train = average_correlations([early, validation], [DOF["early"], DOF["validation"]])
    dof = (float(DOF["early"]), float(DOF["early"] + DOF["validation"]))
    return Member(f"{number:04d}", problem, train, test, early, validation, (600.0, 600.0), dof), true


def throughput(n_subjects: int = 16) -> dict:
    """Fits an hour on one core for 1, 8 and 64 slots, in turns and side by side, and of intervals."""
    people = [subject(k)[0] for k in range(n_subjects)]
    problems = [m.problem | {"fc": np.asarray(part)} for m in people for part in (m.train, m.test)]
    starts = np.zeros((len(problems), SETUP.space.size))
    found: dict[str, dict] = {}
    for slots, together in ((1, False), (8, False), (64, False), (8, True), (64, True)):
        fit_batch(objective, SETUP, problems[:slots], starts[:slots], slots=slots, side_by_side=together)
        begun, busy = time.perf_counter(), time.process_time()
        outcomes = fit_batch(objective, SETUP, problems, starts, slots=slots, side_by_side=together)
        wall, busy = time.perf_counter() - begun, time.process_time() - busy
        evaluations = sum(one.n_evaluations for one in outcomes)
        found[f"{slots} slots, {'side by side' if together else 'in turns'}"] = {
            "seconds_a_fit": wall / len(problems),
            "processor_seconds_a_fit": busy / len(problems),
            "fits_an_hour": 3600 * len(problems) / wall,
            "milliseconds_an_evaluation": 1e3 * busy / evaluations,
            "evaluations_a_fit": evaluations / len(problems),
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        print(
            slots, together, found[f"{slots} slots, {'side by side' if together else 'in turns'}"], flush=True
        )
    theta = jnp.asarray(outcomes[0].theta)
    times = []
    for problem in problems[:6]:
        begun = time.process_time()
        laplace(
            SETUP, {k: jnp.asarray(v) for k, v in problem.items()}, theta, 45.0, 1.0
        ).sd.block_until_ready()
        times.append(time.process_time() - begun)
    return {"fits": found, "processor_seconds_of_intervals": statistics.median(times[1:])}


def prior(sizes: tuple[int, ...] = (7, 30, 100)) -> list[dict]:
    """Correlation with the true FC of pooled fits, by the size of the cohort."""
    rows = []
    for size in sizes:
        people, true = zip(*[subject(k) for k in range(size)], strict=True)
        begun = time.perf_counter()
        found = pool_cohort(
            SETUP,
            people,
            ranks=[RANK],
            strengths=[0.003, 0.03],
            folds=10,
            seed=0,
            search=Settings(max_steps=200),
        )
        folds = [[k for k in range(size) if found.fold[k] != f] for f in found.fold]
        means = [average_correlations([people[k].whole for k in others]) for others in folds]
        rows.append(
            {
                "subjects": size,
                "pooled": float(np.mean([fc_correlation(a, b) for a, b in zip(found.fc, true, strict=True)])),
                "own_training_fc": float(
                    np.mean([fc_correlation(m.train, b) for m, b in zip(people, true, strict=True)])
                ),
                "mean_of_others": float(
                    np.mean([fc_correlation(a, b) for a, b in zip(means, true, strict=True)])
                ),
                "own_weight": float(found.weights[0]),
                "seconds": time.perf_counter() - begun,
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure what the command line names, everything without."""
    wanted = sys.argv[1:] or ["throughput", "prior"]
    path = Path(__file__).parent / "results" / "cohort.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result["machine"] = machine()
    for name in wanted:
        result[name] = {"throughput": throughput, "prior": prior}[name]()
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
