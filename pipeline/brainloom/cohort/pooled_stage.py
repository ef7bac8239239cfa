"""Fits of a cohort around priors from one part of its data: the pieces that pooling is put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from brainloom.analysis.fc import average_correlations
from brainloom.analysis.mixture import matrix_log, mix, rescale_weight
from brainloom.cohort.batch import Outcome, Settings, fit_batch
from brainloom.cohort.pool_choices import TEACHERS
from brainloom.cohort.pooled_model import PooledSetup, pooled_fc, pooled_objective
from brainloom.cohort.pooled_prior import direction_penalty, learn_directions, map_penalty
from brainloom.core.errors import DataError
from brainloom.fit.problem import FitSetup, Problem

# Standard deviation of the loadings where the fit to a group starts: at 0 their gradient vanishes.
LOADING = 0.3
# Relative precisions of blocks stay within this factor of their mean, however little subjects differ.
MOST_PRECISE = 100.0


@dataclass(frozen=True)
class Member:
    """
    A subject of the cohort.

    Attributes
    ----------
    subject : str
        Label.
    problem : dict of arrays
        See `brainloom.fit.problem.make_problem`; its FC is replaced.
    train, test, early, validation : (region, region) arrays
        FC of the parts of the recording. The training part is `early`, a gap, and `validation`.
    n_frames : (float, float)
        Frames of the training and the test part.
    dof : (float, float)
        Effective degrees of freedom of the early and of the whole training part.
    """

    subject: str
    problem: Problem
    train: np.ndarray
    test: np.ndarray
    early: np.ndarray
    validation: np.ndarray
    n_frames: tuple[float, float]
    dof: tuple[float, float]

    @property
    def whole(self) -> np.ndarray:
        """FC of all data."""
        return average_correlations([self.train, self.test], self.n_frames)


@dataclass(frozen=True)
class Candidate:
    """
    Hyper-parameters of a pooled fit.

    Attributes
    ----------
    rank : int
        Common inputs.
    strength : float
        Weight of the squared deviation from the prior (`lambda`, over the number of regions).
    learned : bool
        Whether blocks of parameters are held as tightly as subjects agree in them, or all alike.
    maps : float
        Weight of what brain maps do not explain of the fields of the prior; 0: maps are off.
    directions : int
        Directions of the cohort along which subjects are held less.
    taught : float
        Strength of the prior in the fits that directions are learned from.
    shrunk : bool
        Whether the subject is fitted to its FC mixed with that of its group, or to its own.
    """

    rank: int
    strength: float
    learned: bool = False
    maps: float = 0.0
    directions: int = 0
    taught: float = 0.0
    shrunk: bool = True

    def describe(self) -> str:
        """The hyper-parameters in a few words."""
        words = [f"rank {self.rank}", f"lambda {self.strength:g}"]
        words += ["learned shrinkage"] if self.learned else []
        words += [f"maps {self.maps:g}"] if self.maps else []
        words += [f"{self.directions} directions"] if self.directions else []
        return ", ".join(words + ([] if self.shrunk else ["own FC"]))


@dataclass(frozen=True)
class Found:
    """Fits of all subjects, the group fit and the prior of each, the weight of its own FC, and the precision of blocks."""

    setup: PooledSetup
    groups: list[Outcome]
    outcomes: list[Outcome]
    fc: list[np.ndarray]
    prior: np.ndarray
    weights: np.ndarray
    precision: dict[str, float]

    def learned_precision(self) -> dict[str, float]:
        """Inverse mean squared deviation of the fits from their priors by block, 1 on average over blocks."""
        usable = np.array([np.isfinite(one.loss) for one in self.outcomes])
        theta = np.stack([one.theta for one in self.outcomes])[usable]
        square = (theta - self.prior[usable]) ** 2
        spread = {name: float(np.mean(square[:, part])) for name, part in self.setup.blocks.items()}
        largest = max(spread.values())
        inverse = {name: 1.0 / max(value, largest / MOST_PRECISE) for name, value in spread.items()}
        sizes = {name: part.stop - part.start for name, part in self.setup.blocks.items()}
        mean = sum(inverse[name] * sizes[name] for name in sizes) / sum(sizes.values())
        return {name: value / mean for name, value in inverse.items()}


class Stage:
    """
    Priors from one part of the others' data, and fits around them.

    Parameters
    ----------
    setup : FitSetup
    members : sequence of Member
    fold : (subject,) int array
    shared : sequence of (region, region) arrays
        FC that each subject brings to the priors of the other folds.
    shared_dof : sequence of float
        Effective degrees of freedom of these.
    maps : (region, map) array or None
    seed : int
    search : Settings
    """

    def __init__(
        self,
        setup: FitSetup,
        members: Sequence[Member],
        fold: np.ndarray,
        shared: Sequence[np.ndarray],
        shared_dof: Sequence[float],
        maps: np.ndarray | None,
        seed: int,
        search: Settings,
    ) -> None:
        self._setup, self._members, self._fold, self._search, self._seed = setup, members, fold, search, seed
        self._shared, self._shared_dof, self._maps = shared, shared_dof, maps
        names = sorted(set(fold.tolist()))
        self._others = {f: [k for k, own in enumerate(fold) if own != f] for f in names}
        self.means = {f: average_correlations([shared[k] for k in self._others[f]]) for f in names}
        self._logs = {f: matrix_log(mean) for f, mean in self.means.items()}
        self._problems = {f: _mean_problem([members[k].problem for k in self._others[f]]) for f in names}
        self._groups: dict[tuple[int, float], list[Outcome]] = {}
        self._thetas: dict[tuple, np.ndarray] = {}

    @property
    def fewest_others(self) -> int:
        """Subjects behind the prior that has the fewest."""
        return min(len(others) for others in self._others.values())

    def fit(
        self,
        candidate: Candidate,
        own: Sequence[np.ndarray],
        weight: float,
        dof: Sequence[float],
        relative: Mapping[str, float],
    ) -> Found:
        """
        Fit all subjects around the priors of their folds.

        Parameters
        ----------
        candidate : Candidate
        own : sequence of (region, region) arrays
            FC that each is fitted to.
        weight : float
            Weight of the own FC in a mixture with that of the group, chosen for the early parts.
        dof : sequence of float
            Effective degrees of freedom of `own`.
        relative : dict of str to float
            Precision of blocks.
        """
        setup = PooledSetup(self._setup, candidate.rank)
        groups = self.fit_groups(setup, candidate.maps)
        precision = np.full(setup.size, candidate.strength / self._setup.space.n_regions)
        for name, part in setup.blocks.items():
            precision[part] *= relative.get(name, 1.0)
        centre = {f: group.theta for f, group in groups.items()}
        penalty: dict[int, dict[str, np.ndarray]] = {f: {"precision": precision} for f in centre}
        if candidate.directions:
            for f in centre:
                learned = learn_directions(
                    self._teach(setup, candidate, f, centre[f], weight), candidate.directions
                )
                centre[f], penalty[f] = learned.centre, direction_penalty(learned, precision)
        prior = np.stack([centre[f] for f in self._fold])
        weights = [self._weight(k, weight, dof[k]) if candidate.shrunk else 1.0 for k in range(len(own))]
        problems = [
            self._members[k].problem
            | {"fc": self._target(fc, weights[k], f), "prior": centre[f]}
            | penalty[f]
            for k, (fc, f) in enumerate(zip(own, self._fold, strict=True))
        ]
        outcomes = fit_batch(pooled_objective, setup, problems, prior, self._search)
        predicted = [
            np.asarray(_model_fc(setup, p, o.theta)) for p, o in zip(problems, outcomes, strict=True)
        ]
        full = {name: float(relative.get(name, 1.0)) for name in setup.blocks}
        return Found(
            setup, [groups[f] for f in self._fold], outcomes, predicted, prior, np.array(weights), full
        )

    def _weight(self, k: int, weight: float, dof: float) -> float:
        """Weight of the own FC of a subject with these degrees of freedom: that of the early part is given."""
        early = self._members[k].dof[0]
        return weight if dof == early else rescale_weight(weight, early, dof)

    def _target(self, fc: np.ndarray, weight: float, fold: int) -> np.ndarray:
        return mix(matrix_log(fc), self._logs[fold], weight) if weight < 1.0 else fc

    def _teach(
        self, setup: PooledSetup, candidate: Candidate, fold: int, centre: np.ndarray, weight: float
    ) -> np.ndarray:
        """Coordinates of the subjects of other folds around the prior of this one, which has none of its data."""
        key = (fold, setup.rank, candidate.maps, candidate.taught)
        if key not in self._thetas:
            others = self._others[fold]
            if len(others) > TEACHERS:
                rng = np.random.default_rng([self._seed, fold])
                others = sorted(rng.choice(others, TEACHERS, replace=False).tolist())
            precision = np.full(setup.size, candidate.taught / self._setup.space.n_regions)
            problems = [
                self._members[k].problem
                | {
                    "fc": self._target(self._shared[k], self._weight(k, weight, self._shared_dof[k]), fold),
                    "prior": centre,
                    "precision": precision,
                }
                for k in others
            ]
            found = fit_batch(
                pooled_objective, setup, problems, np.tile(centre, (len(others), 1)), self._search
            )
            self._thetas[key] = np.stack([one.theta for one in found if np.isfinite(one.loss)])
        return self._thetas[key]

    def fit_groups(self, setup: PooledSetup, maps: float) -> dict[int, Outcome]:
        """Fits to the mean of the other folds, pulled to the reference as the fit of a subject by itself is."""
        folds = sorted(self.means)
        key = (setup.rank, maps)
        if key not in self._groups:
            n_own = setup.own.space.size
            start = np.zeros(setup.size)
            start[n_own:] = LOADING * np.random.default_rng(self._seed).normal(size=setup.size - n_own)
            problems = []
            for f in folds:
                base = self._problems[f]
                precision = np.full(setup.size, float(base["penalty"]))
                precision[:n_own] /= setup.own.space.prior_sd() ** 2
                more = {"fc": self.means[f], "prior": np.zeros(setup.size), "precision": precision}
                if maps and self._maps is not None:
                    more |= map_penalty(setup, precision, self._maps, maps)
                problems.append(base | more)
            found = fit_batch(
                pooled_objective, setup, problems, np.tile(start, (len(folds), 1)), self._search
            )
            if not all(np.isfinite(one.loss) for one in found):
                raise DataError("the fit to the mean FC of a group diverged; raise fit.lambda")
            self._groups[key] = found
        return dict(zip(folds, self._groups[key], strict=True))


def _mean_problem(problems: Sequence[Problem]) -> Problem:
    """What subjects have in common: the mean of every array."""
    return {name: np.mean([np.asarray(p[name]) for p in problems], axis=0) for name in problems[0]}


_model_fc = jax.jit(pooled_fc, static_argnums=0)
