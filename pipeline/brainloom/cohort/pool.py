"""Partial pooling: fits of each subject around a prior that is fitted to the other subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import jax
import numpy as np

from brainloom.analysis.fc import average_correlations, fc_correlation
from brainloom.analysis.mixture import choose_weight, matrix_log, mix, rescale_weight
from brainloom.cohort.batch import Outcome, Settings, fit_batch
from brainloom.cohort.pooled_model import PooledSetup, pooled_fc, pooled_objective
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
    """

    rank: int
    strength: float
    learned: bool


@dataclass(frozen=True)
class Pooled:
    """
    Pooled fits of a cohort.

    Attributes
    ----------
    setup : PooledSetup
        Of the candidate that was chosen.
    outcomes, groups : list of Outcome
        One a subject, and the fit to the others behind its prior.
    fc : list of (region, region) arrays
        FC of the pooled model of each subject.
    prior : (subject, size) array
    weights : (subject,) array
        Share of a subject's own FC in what it was fitted to.
    fold : (subject,) int array
        The prior of a subject is made from the subjects of the other folds.
    candidates : list of Candidate
    scores : (candidate, subject) array
        ``fc_r`` of each on the validation part.
    chosen : int
        Its place among the candidates.
    block_precision : dict of str to float
        Relative precision of the prior in each block of parameters, 1 on average.
    """

    setup: PooledSetup
    outcomes: list[Outcome]
    groups: list[Outcome]
    fc: list[np.ndarray]
    prior: np.ndarray
    weights: np.ndarray
    fold: np.ndarray
    candidates: list[Candidate]
    scores: np.ndarray
    chosen: int
    block_precision: dict[str, float]


def pool_cohort(
    setup: FitSetup | None,
    members: Sequence[Member],
    *,
    ranks: Sequence[int],
    strengths: Sequence[float],
    folds: int,
    seed: int,
    search: Settings,
    learn_shrinkage: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Pooled:
    """
    Fit every subject around a prior from the others.

    The hierarchical model: coordinates of subject s are normal around those of its group. The group is a fit to the
    mean FC of the subjects of all other folds on their mean connectome, so nothing of a subject enters its own
    prior. The subject is fitted to its FC shrunk towards that mean on the log-Euclidean path.

    Everything that could be tuned is chosen inside of the training parts: the early part of each is fitted, with
    priors and mean FC from the training parts of the others, and scored on its validation part. The weight of the
    own FC is that of the best mixture without a model, the number of common inputs and the strength of the prior
    those of the best mean score. Then all is repeated with the whole training part; weight and strength are
    rescaled, as more data need less of a prior: the odds of the own FC are proportional to the effective degrees
    of freedom, the strength to their inverse. Test data of a subject choose and fit nothing that is its own.

    With `learn_shrinkage` the variance of each block of parameters over subjects is estimated from the fits of
    the selection (empirical Bayes, with the precision of blocks as the only hyper-parameters), and the best
    candidate is tried with precisions in that proportion too.

    Parameters
    ----------
    setup : FitSetup or None
        None if there is no usable subject.
    members : sequence of Member
        At least three.
    ranks, strengths : sequences
        Numbers of common inputs and strengths of the prior to choose from.
    folds : int
        Groups that are left out; every subject by itself where there are no more subjects than this.
    seed : int
        Of the loadings at the start, and of the assignment to folds.
    search : Settings
    learn_shrinkage : bool
    tell : callable
        Gets a line about progress.

    Returns
    -------
    Pooled

    Raises
    ------
    DataError
        Fewer than three subjects; or a fit to a group diverged.
    """
    if setup is None or len(members) < 3:
        raise DataError(
            f"pooling needs at least three usable subjects, this cohort has {len(members)}; set pool to null"
        )
    fold = assign_folds(len(members), folds, seed)
    selection = _Stage(setup, members, fold, [m.train for m in members], seed, search)
    chosen_weight, _ = choose_weight(
        [m.early for m in members], [selection.means[f] for f in fold], [m.validation for m in members]
    )
    inside = [chosen_weight] * len(members)
    early = [m.early for m in members]
    grid = [Candidate(rank, strength, False) for rank, strength in product(ranks, strengths)]
    scores, fits = [], []
    for candidate in grid:
        found = selection.fit(candidate, early, inside, {})
        fits.append(found)
        scores.append([fc_correlation(fc, m.validation) for fc, m in zip(found.fc, members, strict=True)])
        tell(f"rank {candidate.rank}, lambda {candidate.strength:g}: validation r {np.mean(scores[-1]):.3f}")
    best = _best(scores)
    precision: dict[str, float] = {}
    if learn_shrinkage:
        learned = fits[best].learned_precision()
        grid.append(Candidate(grid[best].rank, grid[best].strength, True))
        found = selection.fit(grid[-1], early, inside, learned)
        scores.append([fc_correlation(fc, m.validation) for fc, m in zip(found.fc, members, strict=True)])
        tell(f"with learned shrinkage: validation r {np.mean(scores[-1]):.3f}")
        best = _best(scores)
        precision = learned if grid[best].learned else {}
    final = _Stage(setup, members, fold, [m.whole for m in members], seed, search)
    weights = [rescale_weight(chosen_weight, *m.dof) for m in members]
    less = float(np.mean([m.dof[0] for m in members]) / np.mean([m.dof[1] for m in members]))
    winner = grid[best]
    found = final.fit(
        Candidate(winner.rank, winner.strength * less, winner.learned),
        [m.train for m in members],
        weights,
        precision,
    )
    return Pooled(
        setup=found.setup,
        outcomes=found.outcomes,
        groups=[found.groups[f] for f in fold],
        fc=found.fc,
        prior=found.prior,
        weights=np.array(weights),
        fold=fold,
        candidates=grid,
        scores=np.array(scores),
        chosen=best,
        block_precision=found.precision,
    )


def assign_folds(n: int, folds: int, seed: int) -> np.ndarray:
    """
    Fold of each subject, balanced and at random; each subject its own where there are no more than `folds`.

    Examples
    --------
    >>> assign_folds(3, 10, 0)
    array([0, 1, 2])
    """
    if n <= folds:
        return np.arange(n)
    return np.random.default_rng(seed).permutation(np.arange(n) % folds)


@dataclass(frozen=True)
class _Found:
    setup: PooledSetup
    groups: list[Outcome]
    outcomes: list[Outcome]
    fc: list[np.ndarray]
    prior: np.ndarray
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


class _Stage:
    """Priors from one part of the others' data, and fits around them."""

    def __init__(
        self,
        setup: FitSetup,
        members: Sequence[Member],
        fold: np.ndarray,
        shared: Sequence[np.ndarray],
        seed: int,
        search: Settings,
    ) -> None:
        self._setup, self._members, self._fold, self._search, self._seed = setup, members, fold, search, seed
        names = sorted(set(fold.tolist()))
        others = {f: [k for k, own in enumerate(fold) if own != f] for f in names}
        self.means = {f: average_correlations([shared[k] for k in others[f]]) for f in names}
        self._problems = {f: _mean_problem([members[k].problem for k in others[f]]) for f in names}
        self._groups: dict[int, list[Outcome]] = {}

    def fit(
        self,
        candidate: Candidate,
        own: Sequence[np.ndarray],
        weights: Sequence[float],
        relative: Mapping[str, float],
    ) -> _Found:
        """Fit all subjects to their FC mixed with that of their group."""
        setup = PooledSetup(self._setup, candidate.rank)
        n = self._setup.space.n_regions
        groups = self._fit_groups(setup)
        prior = np.stack([groups[f].theta for f in self._fold])
        precision = np.full(setup.size, candidate.strength / n)
        for name, part in setup.blocks.items():
            precision[part] *= relative.get(name, 1.0)
        logs = {f: matrix_log(mean) for f, mean in self.means.items()}
        problems = []
        for member, fc, weight, f, centre in zip(self._members, own, weights, self._fold, prior, strict=True):
            target = mix(matrix_log(fc), logs[f], weight)
            problems.append(member.problem | {"fc": target, "prior": centre, "precision": precision})
        outcomes = fit_batch(pooled_objective, setup, problems, prior, self._search)
        predicted = [
            np.asarray(_model_fc(setup, p, o.theta)) for p, o in zip(problems, outcomes, strict=True)
        ]
        full = {name: float(relative.get(name, 1.0)) for name in setup.blocks}
        return _Found(setup, groups, outcomes, predicted, prior, full)

    def _fit_groups(self, setup: PooledSetup) -> list[Outcome]:
        """Fits to the mean of the other folds, pulled to the reference as the fit of a subject by itself is."""
        if setup.rank not in self._groups:
            folds = sorted(self.means)
            n_own = setup.own.space.size
            start = np.zeros(setup.size)
            start[n_own:] = LOADING * np.random.default_rng(self._seed).normal(size=setup.size - n_own)
            problems = []
            for f in folds:
                base = self._problems[f]
                precision = np.full(setup.size, float(base["penalty"]))
                precision[:n_own] /= setup.own.space.prior_sd() ** 2
                more = {"fc": self.means[f], "prior": np.zeros(setup.size), "precision": precision}
                problems.append(base | more)
            found = fit_batch(
                pooled_objective, setup, problems, np.tile(start, (len(folds), 1)), self._search
            )
            if not all(np.isfinite(one.loss) for one in found):
                raise DataError("the fit to the mean FC of a group diverged; raise fit.lambda")
            self._groups[setup.rank] = found
        return self._groups[setup.rank]


def _mean_problem(problems: Sequence[Problem]) -> Problem:
    """What subjects have in common: the mean of every array."""
    return {name: np.mean([np.asarray(p[name]) for p in problems], axis=0) for name in problems[0]}


def _best(scores: Sequence[Sequence[float]]) -> int:
    mean = np.mean(scores, axis=1)
    return int(np.nanargmax(mean))


_model_fc = jax.jit(pooled_fc, static_argnums=0)
