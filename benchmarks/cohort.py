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
from brainloom.analysis.mixture import choose_weight, matrix_log, mix, rescale_weight  # noqa: E402
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
    return _recorded(number, weights, np.concatenate([theta, loadings]), own, DOF)


def _recorded(
    number: int, weights: np.ndarray, theta: np.ndarray, rng: np.random.Generator, dof: dict[str, int]
) -> tuple[Member, np.ndarray]:
    problem = make_problem(
        SETUP, CONFIG, weights=weights / weights.sum(1).mean(), homotope=np.arange(N) ^ 1, fc=np.eye(N), lag1=np.eye(N),
        frequency_hz=np.full(N, 0.05), repetition_time=0.72,
    )  # fmt: skip
    true = np.asarray(pooled_fc(PooledSetup(SETUP, RANK), problem, jnp.asarray(theta)))
    root = np.linalg.cholesky(true)
    early, validation, test = (np.corrcoef((rng.normal(size=(n, N)) @ root.T).T) for n in dof.values())
    train = average_correlations([early, validation], [dof["early"], dof["validation"]])
    known = (float(dof["early"]), float(dof["early"] + dof["validation"]))
    return Member(f"{number:04d}", problem, train, test, early, validation, (600.0, 600.0), known), true


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


def relative(draw: int, number: int) -> tuple[Member, np.ndarray]:
    """
    A subject of a cohort that differs mostly along ten directions of its coordinates, and its true FC.

    Log parameters and loadings deviate by .3 from those of the cohort, 60 % of the variance along directions with
    variances 1, 1/2 .. 1/10. FC of two halves (38 degrees of freedom each) then correlate by .82 within and .54
    between subjects, as in seven subjects of the Human Connectome Project (.81 and .54).
    """
    common, own = np.random.default_rng([2, draw]), np.random.default_rng([3, draw, number])
    pattern = 0.9 * common.normal(size=(N, N)) + 0.3 * own.normal(size=(N, N))
    weights = np.exp(2.0 * (pattern + pattern.T))
    np.fill_diagonal(weights, 0.0)
    setup = PooledSetup(SETUP, RANK)
    centre = 0.5 * common.normal(size=setup.size)
    centre[SETUP.space.size :] *= 1.4
    directions = common.normal(size=(10, setup.size)) / np.sqrt(np.arange(1, 11))[:, None]
    directions /= np.sqrt((directions**2).sum(0).mean())
    shared, alone = own.normal(size=10) @ directions, own.normal(size=setup.size)
    theta = centre + 0.3 * (np.sqrt(0.6) * shared + np.sqrt(0.4) * alone)
    return _recorded(number, weights, theta, own, {"early": 26, "validation": 12, "test": 38})


def prior(sizes: tuple[int, ...] = (7, 30, 100), draws: int = 3, scored: int = 7) -> dict:
    """
    Correlation with the true FC by the size of the cohort: mean and standard error over draws of cohorts.

    The same first subjects are scored in cohorts of all sizes: only what they are pooled with differs.
    """
    settings = {"ranks": [RANK], "strengths": [0.003, 0.01], "folds": 10, "seed": 0, "search": Settings(200)}
    rows: list[dict] = []
    for draw in range(draws):
        everybody = [relative(draw, k) for k in range(max(sizes))]
        for size in sizes:
            people, true = zip(*everybody[:size], strict=True)
            begun = time.process_time()
            found = pool_cohort(SETUP, people, directions=[3, 6], **settings)
            seconds = time.process_time() - begun
            plain = (
                pool_cohort(SETUP, people, **settings) if found.candidates[found.chosen].directions else found
            )
            others = [[k for k in range(size) if found.fold[k] != f] for f in found.fold]
            means = [average_correlations([people[k].whole for k in rest]) for rest in others]
            inside = [average_correlations([people[k].train for k in rest]) for rest in others]
            early, validation = [m.early for m in people], [m.validation for m in people]
            weight, _ = choose_weight(early, inside, validation)
            mixture = [
                mix(matrix_log(m.train), matrix_log(mean), rescale_weight(weight, *m.dof))
                for m, mean in zip(people, means, strict=True)
            ]
            predicted = {
                "own_training_fc": [m.train for m in people],
                "mean_of_others": means,
                "mixture": mixture,
                "model_pooled_without_directions": plain.fc,
                "model_pooled": found.fc,
            }
            rows.append(
                {"draw": draw, "subjects": size, "directions": found.candidates[found.chosen].directions}
                | {"own_weight": float(found.weights[0]), "processor_seconds": seconds}
                | {
                    name: float(np.mean([fc_correlation(fc[k], true[k]) for k in range(scored)]))
                    for name, fc in predicted.items()
                }
            )
            print(rows[-1], flush=True)
    names = list(predicted)
    curve = []
    for size in sizes:
        these = np.array([[row[name] for name in names] for row in rows if row["subjects"] == size])
        error = these.std(axis=0, ddof=1) / np.sqrt(draws)
        gain = these - np.array(
            [[row[name] for name in names] for row in rows if row["subjects"] == sizes[0]]
        )
        curve.append(
            {"subjects": size}
            | {
                name: {"mean": float(m), "standard_error": float(e)}
                for name, m, e in zip(names, these.mean(0), error, strict=True)
            }
            | {
                "gain_over_the_smallest": {
                    name: {"mean": float(g.mean()), "standard_error": float(g.std(ddof=1) / np.sqrt(draws))}
                    for name, g in zip(names, gain.T, strict=True)
                }
            }
        )
        print(curve[-1], flush=True)
    return {"scored_subjects": scored, "draws": draws, "curve": curve, "rows": rows}


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
