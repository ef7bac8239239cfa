"""What regularisation does to a subject's fit: scores of it and its controls, and fits to parts that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from brainloom.analysis.fc import fc_correlation
from brainloom.cohort.batch import Settings, fit_batch
from brainloom.fit.predict import functional_connectivity, objective
from brainloom.fit.problem import FitSetup, Problem

# Both halves of the recording, both halves of the training part, and what comes before its validation part.
PARTS = ("train", "test", "first", "second", "early")


@dataclass(frozen=True)
class Part:
    """
    FC of a part of a recording.

    Attributes
    ----------
    fc : (region, region) array
    dof : float
        Its effective degrees of freedom.
    """

    fc: np.ndarray
    dof: float


@dataclass(frozen=True)
class Curve:
    """
    Fits of one subject along a grid of regularisation strengths.

    Attributes
    ----------
    theta : (strength, part, coordinate) array
        Of the own connectome; NaN where a fit failed.
    fc, fc_test : (strength, region, region) arrays
        Of the fits of the own connectome to the training part and to the held-out part.
    test, train : (strength, predictor) arrays
        ``fc_r`` of fits to the training part with the held-out part, and with what was fitted; the own connectome
        first, then the controls.
    validation : (strength,) array
        ``fc_r`` of fits to the early part with the validation part.
    """

    theta: np.ndarray
    fc: np.ndarray
    fc_test: np.ndarray
    test: np.ndarray
    train: np.ndarray
    validation: np.ndarray


def regularisation_curve(
    setup: FitSetup,
    problem: Problem,
    connectomes: Mapping[str, np.ndarray],
    parts: Mapping[str, Part],
    validation: np.ndarray,
    strengths: Sequence[float],
    search: Settings,
) -> Curve:
    """
    Fit a subject at every strength of the penalty, all in one compiled program.

    The own connectome is fitted to every part of the recording, controls to the training part. A strength is meant
    for the training part; for parts with fewer effective degrees of freedom it is larger in proportion, as less data
    need more of a prior.

    Parameters
    ----------
    setup : FitSetup
    problem : dict of arrays
        See `brainloom.fit.problem.make_problem`; connectome, FC and penalty are replaced.
    connectomes : mapping of str to (region, region) array
        The own connectome first, then controls.
    parts : mapping of str to Part
        Each of `PARTS`.
    validation : (region, region) array
        FC of the validation part.
    strengths : sequence of float
        Weights of the squared log deviation (``fit.lambda``).
    search : Settings

    Returns
    -------
    Curve
    """
    n, own = setup.space.n_regions, next(iter(connectomes))
    tasks = [(k, own, part) for k in range(len(strengths)) for part in PARTS]
    tasks += [(k, name, "train") for k in range(len(strengths)) for name in connectomes if name != own]

    def of(task: tuple[int, str, str]) -> Problem:
        k, name, part = task
        weight = strengths[k] * parts["train"].dof / parts[part].dof
        return problem | {
            "weights": connectomes[name],
            "fc": parts[part].fc,
            "penalty": np.asarray(weight / n),
        }

    problems = [of(task) for task in tasks]
    starts = np.zeros((len(tasks), setup.space.size))
    outcomes = fit_batch(objective, setup, problems, starts, search)
    names = list(connectomes)
    size = setup.space.size
    theta = np.full((len(strengths), len(PARTS), size), np.nan)
    fc, fc_test = (np.full((len(strengths), n, n), np.nan) for _ in range(2))
    test, train = (np.full((len(strengths), len(names)), np.nan) for _ in range(2))
    validated = np.full(len(strengths), np.nan)
    for (k, name, part), task, outcome in zip(tasks, problems, outcomes, strict=True):
        if not np.isfinite(outcome.loss):
            continue
        if name == own:
            theta[k, PARTS.index(part)] = outcome.theta
        if part not in ("train", "test", "early"):
            continue
        predicted = np.asarray(_model_fc(setup, task, outcome.theta))
        if part == "test":
            fc_test[k] = predicted
            continue
        if part == "early":
            validated[k] = fc_correlation(predicted, validation)
            continue
        test[k, names.index(name)] = fc_correlation(predicted, parts["test"].fc)
        train[k, names.index(name)] = fc_correlation(predicted, parts["train"].fc)
        if name == own:
            fc[k] = predicted
    return Curve(theta, fc, fc_test, test, train, validated)


_model_fc = jax.jit(functional_connectivity, static_argnums=0)
