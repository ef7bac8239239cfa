"""Fit the subjects of a batch, their controls and all starts together by the linearised model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import xarray as xr

from brainloom.cohort.batch import Outcome, Settings, fit_batch
from brainloom.core.errors import DataError
from brainloom.core.keys import named_key
from brainloom.fit.predict import constrained, jacobian_and_noise, objective
from brainloom.fit.predictors import Fits, Found, Task, fit_tasks, predictor_tasks, subject_results
from brainloom.fit.problem import FitSetup, Problem
from brainloom.fit.search import search_starts_by
from brainloom.fit.stages import simulate_stages, stage_variables, stages_of
from brainloom.fit.subject import describe_fits, fit_dataset, gauged, subject_problem, subject_setup
from brainloom.linear.jacobian import stability_margin

LOST = "the fit diverged from all {n} starts; check the recording, or raise fit.lambda or fit.starts"


@dataclass(frozen=True)
class Case:
    """
    What is given of a subject.

    Attributes
    ----------
    subject : str
        Label.
    connectome, signal : xarray.Dataset
    donor : xarray.Dataset, optional
        Connectome of another subject.
    """

    subject: str
    connectome: xr.Dataset
    signal: xr.Dataset
    donor: xr.Dataset | None = None


@dataclass(frozen=True)
class _Work:
    """A subject whose fits are prepared."""

    case: Case
    setup: FitSetup
    tasks: list[Task]


def fit_subjects(
    cases: Sequence[Case], config: Mapping, checkpoints: Path | None = None
) -> list[xr.Dataset | DataError]:
    """
    Fit subjects from several starts, and their controls.

    With the backend ``lbfgs`` all fits of subjects with as many regions share one compiled program and its slots
    (`brainloom.cohort.batch.fit_batch`). Results do not depend on who else is in the batch.

    Parameters
    ----------
    cases : sequence of Case
    config : mapping
        Sections ``model, fit, controls, signal`` and ``seed``.
    checkpoints : pathlib.Path, optional
        Folder where each finished predictor is kept.

    Returns
    -------
    list of xarray.Dataset or DataError
        One a subject, in their order. Datasets have the dimensions predictor, start, parameter, region, step, frequency;
        see docs/datasets.md. The error says why a subject could not be fitted: regions differ, or the fit diverged
        from every start.
    """
    works = [_prepared(case, config) for case in cases]
    usable = [work for work in works if isinstance(work, _Work)]
    owners = {task.label: work for work in usable for task in work.tasks}

    def describe(task: Task, fits: Fits, best: int) -> Found:
        work = owners[task.label]
        frequency = work.case.signal["frequency"].values
        return describe_fits(work.setup, task.problem, fits, best, config, frequency)

    found = fit_tasks(
        [task for work in usable for task in work.tasks],
        lambda tasks, keep: _search(tasks, owners, config, keep),
        describe,
        checkpoints,
    )
    return [
        work if isinstance(work, DataError) else _dataset(work, found, config, checkpoints) for work in works
    ]


def fit_subject(
    subject: str,
    connectome: xr.Dataset,
    signal: xr.Dataset,
    donor: xr.Dataset | None,
    config: Mapping,
    checkpoints: Path | None = None,
) -> xr.Dataset:
    """
    Fit one subject; see `fit_subjects`.

    Raises
    ------
    DataError
        Regions differ, or the fit diverged from every start.
    """
    found = fit_subjects([Case(subject, connectome, signal, donor)], config, checkpoints)[0]
    if isinstance(found, DataError):
        raise found
    return found


def _prepared(case: Case, config: Mapping) -> _Work | DataError:
    try:
        setup = subject_setup(config, case.connectome)
        problem = subject_problem(setup, config, case.connectome, case.signal)
    except DataError as err:
        return err
    tasks = predictor_tasks(
        case.subject,
        case.connectome,
        case.donor,
        config,
        problem=problem,
        starts=setup.space.starts,
        depends=case.signal["frequency"].values,
    )
    return _Work(case, setup, tasks)


def _search(
    tasks: Sequence[Task],
    owners: Mapping[str, _Work],
    config: Mapping,
    keep: Callable[[Task, Fits], None],
) -> None:
    """Fit tasks: all that share a program in one go, or by another backend one after the other."""
    fit = config["fit"]
    if fit["backend"] != "lbfgs":
        for task in tasks:
            key = named_key(config["seed"], "search", task.subject)
            setup = owners[task.label].setup
            found = search_starts_by(fit["backend"], setup, task.problem, task.starts, fit["max_steps"], key)
            keep(task, found)
        return
    groups: dict[tuple, list[Task]] = {}
    for task in tasks:
        shapes = tuple(sorted((name, np.shape(value)) for name, value in task.problem.items()))
        groups.setdefault((owners[task.label].setup, shapes), []).append(task)
    for (setup, _), alike in groups.items():
        _together(setup, alike, Settings(max_steps=fit["max_steps"]), keep)


def _together(
    setup: FitSetup, tasks: Sequence[Task], settings: Settings, keep: Callable[[Task, Fits], None]
) -> None:
    places = [(task, k) for task in tasks for k in range(len(task.starts))]
    ended: dict[str, dict[int, Outcome]] = {task.label: {} for task in tasks}

    def tell(outcome: Outcome) -> None:
        task, k = places[outcome.index]
        outcomes = ended[task.label]
        outcomes[k] = outcome
        if len(outcomes) == len(task.starts):
            every = [outcomes[j] for j in range(len(outcomes))]
            names = ("theta", "history", "loss", "n_steps", "converged")
            keep(task, Fits(*(np.stack([getattr(one, name) for one in every]) for name in names)))

    problems = [task.problem for task, _ in places]
    starts = np.stack([np.asarray(task.starts[k]) for task, k in places])
    fit_batch(objective, setup, problems, starts, settings, tell=tell)


def _dataset(
    work: _Work, found: Mapping[str, Found], config: Mapping, checkpoints: Path | None
) -> xr.Dataset | DataError:
    """The dataset of a subject, after the stages that follow the analytic one."""
    case, setup = work.case, work.setup
    stages = stages_of(case.subject, setup, case.signal, config)

    def describe(problem: Problem, theta: np.ndarray) -> Found:
        at = jnp.asarray(theta)
        values = gauged(setup, problem, at, config)
        jacobian = jacobian_and_noise(setup, problem, constrained(setup, problem, at))[0]
        own = {f"value_{key}": np.asarray(value) for key, value in values.items()}
        return own | {"margin": np.asarray(stability_margin(jacobian))}

    def refine(task: Task, one: Found) -> Found:
        if not stages:
            return one
        return simulate_stages(
            task.name,
            task.problem,
            one,
            stages=stages,
            describe=describe,
            folder=checkpoints,
            label=task.label,
        )

    try:
        results = subject_results(work.tasks, found, LOST, refine)
    except DataError as err:
        return err
    ds = fit_dataset(setup, config, results, case.connectome, case.signal)
    more = stage_variables(results, stages)
    return ds.assign(more.variables).assign_attrs(more.attrs)
