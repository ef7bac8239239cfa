"""Partial pooling: fits of each subject around a prior that is fitted to the other subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from brainloom.analysis.fc import fc_correlation
from brainloom.analysis.mixture import choose_weight
from brainloom.cohort.batch import Outcome, Settings
from brainloom.cohort.pool_choices import FIRMER, MAP_STRENGTHS, SUBJECTS_A_DIRECTION
from brainloom.cohort.pooled_model import PooledSetup
from brainloom.cohort.pooled_prior import jackknife, map_coefficients
from brainloom.cohort.pooled_stage import Candidate, Found, Member, Stage
from brainloom.core.errors import DataError
from brainloom.fit.problem import FitSetup


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
    map_coefficient, map_error : (field, map) arrays or None
        Coefficients of brain maps in the regional fields of the fits to groups, log units per standard deviation of
        the map, and their jackknife standard error over folds.
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
    map_coefficient: np.ndarray | None = None
    map_error: np.ndarray | None = None


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
    directions: Sequence[int] = (),
    maps: np.ndarray | None = None,
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

    What follows is tried in turn on the best candidate so far, and kept where the score is better:

    - `learn_shrinkage`: the variance of each block of parameters over subjects, estimated from the fits of the
      selection (empirical Bayes, with the precision of blocks as the only hyper-parameters);
    - `maps`: regional fields of the prior are pulled to linear combinations of brain maps;
    - `directions`: the others are fitted around the prior themselves, and the principal directions of these fits
      are held less than all else, where there are four others a direction; with the shrunk FC as
      the target and with the subject's own.

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
    directions : sequence of int
        Numbers of directions to choose from, beside none.
    maps : (region, map) array, optional
        Of mean 0 and standard deviation 1.
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
    early_dof, dof = ([m.dof[k] for m in members] for k in (0, 1))
    selection = Stage(setup, members, fold, [m.train for m in members], dof, maps, seed, search)
    weight, _ = choose_weight(
        [m.early for m in members], [selection.means[f] for f in fold], [m.validation for m in members]
    )
    tried = _Selection(selection, members, weight, tell)
    for rank, strength in product(ranks, strengths):
        tried.add(Candidate(rank, strength))
    if learn_shrinkage and tried.fit is not None:
        learned = tried.fit.learned_precision()
        tried.add(replace(tried.winner, learned=True), learned)
    if maps is not None:
        plain, precision = tried.winner, tried.relative[tried.best]
        for strength in MAP_STRENGTHS:
            tried.add(replace(plain, maps=strength), precision)
    start = tried.winner
    for number in directions:
        if selection.fewest_others < SUBJECTS_A_DIRECTION * number:
            continue
        for firmer, shrunk in product(FIRMER, (True, False)):
            tried.add(
                replace(
                    start,
                    strength=start.strength * firmer,
                    learned=False,
                    directions=number,
                    taught=start.strength,
                    shrunk=shrunk,
                )
            )
    winner = tried.winner
    whole_dof = [m.dof[1] * (1.0 + m.n_frames[1] / m.n_frames[0]) for m in members]
    final = Stage(setup, members, fold, [m.whole for m in members], whole_dof, maps, seed, search)
    less = float(np.mean(early_dof) / np.mean(dof))
    found = final.fit(
        replace(winner, strength=winner.strength * less, taught=winner.taught * less),
        [m.train for m in members],
        weight,
        dof,
        tried.relative[tried.best],
    )
    coefficient, error = None, None
    if maps is not None:
        followed = final.fit_groups(found.setup, winner.maps or MAP_STRENGTHS[0])
        coefficient, error = jackknife(
            np.stack([map_coefficients(found.setup, one.theta, maps) for one in followed.values()])
        )
    return Pooled(
        setup=found.setup,
        outcomes=found.outcomes,
        groups=found.groups,
        fc=found.fc,
        prior=found.prior,
        weights=found.weights,
        fold=fold,
        candidates=tried.grid,
        scores=np.array(tried.scores),
        chosen=tried.best,
        block_precision=found.precision,
        map_coefficient=coefficient,
        map_error=error,
    )


class _Selection:
    """Candidates that were fitted to the early parts, and their scores on the validation parts."""

    def __init__(
        self, stage: Stage, members: Sequence[Member], weight: float, tell: Callable[[str], None]
    ) -> None:
        self._stage, self._members, self._weight, self._tell = stage, members, weight, tell
        self.grid: list[Candidate] = []
        self.scores: list[list[float]] = []
        self.fit: Found | None = None
        self.relative: list[Mapping[str, float]] = []

    @property
    def best(self) -> int:
        """Place of the best mean score."""
        return int(np.nanargmax(np.mean(self.scores, axis=1)))

    @property
    def winner(self) -> Candidate:
        return self.grid[self.best]

    def add(self, candidate: Candidate, relative: Mapping[str, float] | None = None) -> None:
        """Fit and score a candidate."""
        people, relative = self._members, relative or {}
        found = self._stage.fit(
            candidate, [m.early for m in people], self._weight, [m.dof[0] for m in people], relative
        )
        self.grid.append(candidate)
        self.relative.append(relative)
        self.scores.append([fc_correlation(fc, m.validation) for fc, m in zip(found.fc, people, strict=True)])
        if self.best == len(self.grid) - 1:
            self.fit = found  # those of the others take room and are not needed
        self._tell(f"{candidate.describe()}: validation r {np.mean(self.scores[-1]):.3f}")


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
