"""Design matrices of tests: the covariate of interest, and what it is adjusted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brainloom.io.participants import Covariate

#: Covariate that comes from the recording, unless participants.tsv has a column of this name.
MOTION = "motion"


@dataclass(frozen=True)
class Design:
    """
    Made by `make_design`.

    Attributes
    ----------
    name : str
        ``age``, or ``age | sex, site``.
    subjects : list of str
        Those who have every covariate.
    interest : (subject, q) array
        A number, or dummies of all levels but the first.
    nuisance : (subject, z) array
        Constant, scaled numbers and dummies, those of harmonised sites included.
    covariates : (subject, y) array
        Of these, the columns of nuisance covariates.
    levels : tuple of str
        Groups of the covariate of interest, empty for a number.
    counts : tuple of int
        Subjects of each level.
    left_out : mapping of str to str
        Subject to the covariate that it lacks.
    """

    name: str
    subjects: list[str]
    interest: np.ndarray
    nuisance: np.ndarray
    covariates: np.ndarray
    levels: tuple[str, ...]
    counts: tuple[int, ...]
    left_out: Mapping[str, str]


def name_of(test: Mapping) -> str:
    """The name of a test in tables: ``age``, or ``age | sex, site`` with nuisance covariates."""
    nuisance = test.get("nuisance") or []
    return str(test["covariate"]) + (f" | {', '.join(nuisance)}" if nuisance else "")


def as_groups(covariate: Covariate) -> Covariate:
    """The same covariate with its values as names of groups."""
    cells: dict[str, str | float] = {
        subject: value if isinstance(value, str) else f"{value:g}"
        for subject, value in covariate.values.items()
    }
    return Covariate(covariate.name, cells, True)


def make_design(
    test: Mapping, covariates: Mapping[str, Covariate], subjects: Sequence[str], *, site: str = ""
) -> Design:
    """
    Design of one test.

    Parameters
    ----------
    test : mapping
        ``covariate`` (name), ``nuisance`` (list of names).
    covariates : mapping of str to Covariate
    subjects : sequence of str
        Labels of those who have estimates.
    site : str
        Covariate whose effects are harmonised before the test. Means of sites are then part of the nuisance: a test that
        does not know that they were estimated finds effects where there are none if groups are spread unevenly over sites.

    Raises
    ------
    ValueError
        One sentence: a covariate is unknown or does not vary, or its effect cannot be told from the nuisance.
    """
    name = str(test["covariate"])
    adjusted = list(test.get("nuisance") or [])
    wanted = [name, *adjusted, *([site] if site else [])]
    for one in wanted:
        if one not in covariates:
            raise ValueError(f"{one} is not among the covariates {', '.join(covariates)}.")
    left_out = {
        subject: lacks
        for subject in subjects
        if (lacks := next((one for one in wanted if subject not in covariates[one].values), ""))
    }
    used = [subject for subject in subjects if subject not in left_out]
    interest, levels, counts = columns(covariates[name], used)
    if interest.shape[1] == 0:
        raise ValueError(
            f"{name} has one value only in the {len(used)} subjects who have all covariates of the test."
        )
    parts = [columns(covariates[one], used)[0] for one in wanted[1:]]
    parts = [part / part.std(axis=0) for part in parts]
    nuisance = np.hstack([np.ones((len(used), 1)), *parts])
    own = np.hstack([np.empty((len(used), 0)), *parts[: len(adjusted)]])
    if levels and min(counts) < 2:
        few = ", ".join(level for level, n in zip(levels, counts, strict=True) if n < 2)
        raise ValueError(f"{name} has a group of one subject ({few}); groups need at least two.")
    rest = interest - nuisance @ np.linalg.lstsq(nuisance, interest, rcond=None)[0]
    size = np.linalg.norm(interest - interest.mean(axis=0), axis=0)
    if np.linalg.svd(rest / size, compute_uv=False).min() < 1e-6:
        raise ValueError(f"The effect of {name} cannot be told from that of {', '.join(wanted[1:])}.")
    if len(used) - np.linalg.matrix_rank(nuisance) - interest.shape[1] < 2:
        raise ValueError(f"{len(used)} subjects are too few for a model with {len(wanted)} covariates.")
    return Design(name_of(test), used, interest, nuisance, own, levels, counts, left_out)


def columns(
    covariate: Covariate, subjects: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...]]:
    """
    Columns of a design matrix of one covariate.

    A number with two different values is taken for two groups: 0 and 1, or 1 and 2, name groups.

    Parameters
    ----------
    covariate : Covariate
    subjects : sequence of str
        All of them have the covariate.

    Returns
    -------
    columns : (subject, column) array
        None where nothing varies. Numbers are centred.
    levels : tuple of str
        In sorted order, empty for a number.
    counts : tuple of int
        Subjects of each level.
    """
    cells = [covariate.values[subject] for subject in subjects]
    found, place = np.unique(
        np.array(cells, dtype=str if covariate.categorical else float), return_inverse=True
    )
    if covariate.categorical or len(found) == 2:
        levels = tuple(str(one) if covariate.categorical else f"{one:g}" for one in found)
        dummies = (place[:, None] == np.arange(1, len(found))).astype(np.float64)
        return dummies, levels, tuple(int(n) for n in np.bincount(place, minlength=len(found)))
    if len(found) < 2:
        return np.empty((len(cells), 0)), (), ()
    numbers = np.array(cells, dtype=np.float64)
    return (numbers - numbers.mean())[:, None], (), ()
