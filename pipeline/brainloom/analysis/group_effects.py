"""Effects of covariates on the fitted parameters of a cohort: rows of effects.tsv and variables of the group dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from brainloom.analysis.covariates import MOTION, Design, as_groups, make_design, name_of
from brainloom.analysis.group_tests import Effects, permutation_test
from brainloom.analysis.harmonise import harmonise, site_problem
from brainloom.io.participants import Covariate

COLUMNS = (
    "test", "parameter", "region", "statistic", "estimate", "lower", "upper", "p", "p_fwe", "p_fdr", "n",
)  # fmt: skip
_ARRAYS = {
    "statistic": "t of the covariate, or F with more than two groups",
    "slope": "change of the tested value for one unit of the covariate, or second group minus first",
    "size": "effect size, of the kind effect_kind",
    "size_lower": "lower end of its 95% interval",
    "size_upper": "upper end of its 95% interval",
    "p": "p by permutation, not corrected",
    "p_fwe": "p corrected for the regions of the field by the largest statistic",
    "p_fdr": "p adjusted by Benjamini-Hochberg for all values of all tests",
}


@dataclass(frozen=True)
class Estimates:
    """
    Estimates of all subjects as one array.

    Attributes
    ----------
    subjects : list of str
    places : list of (str, str)
        Parameter and region (``global`` for global ones) of each value.
    values : (subject, value) array
        As tested: logarithm of the magnitude where all values of a parameter have one sign.
    scales : dict of str to str
        ``log`` or ``linear``, of each parameter.
    identified : (value,) array
        Share of subjects in whom the value is identified.
    """

    subjects: list[str]
    places: list[tuple[str, str]]
    values: np.ndarray
    scales: dict[str, str]
    identified: np.ndarray


def estimates_of(rows: Sequence[Sequence[str]]) -> Estimates:
    """
    Collect the rows of parameters.tsv.

    Parameters
    ----------
    rows : sequence of sequences of str
        ``subject, model, parameter, region, estimate, lower, upper, unit, identified``; subjects with a value that is
        not finite, or without one that others have, are left out.
    """
    table: dict[str, dict[tuple[str, str], tuple[float, bool]]] = {}
    for subject, _, parameter, region, estimate, *_, identified in rows:
        table.setdefault(subject, {})[parameter, region] = (float(estimate), identified == "yes")
    places = list(dict.fromkeys(place for one in table.values() for place in one))
    complete = [s for s, one in table.items() if all(np.isfinite(one.get(p, (np.nan,))[0]) for p in places)]
    found = np.array([[table[s][p] for p in places] for s in complete]).reshape(len(complete), len(places), 2)
    values, identified = found[..., 0], found[..., 1].sum(axis=0) / max(len(complete), 1)
    names = np.array([parameter for parameter, _ in places], dtype=str)
    scales = {}
    for name in dict.fromkeys(parameter for parameter, _ in places):
        inside = names == name
        part = values[:, inside]
        scales[name] = "log" if part.size and ((part > 0).all() or (part < 0).all()) else "linear"
        if scales[name] == "log":
            values[:, inside] = np.log(np.abs(part))
    return Estimates(complete, places, values, scales, identified)


@dataclass
class _Found:
    """What the tests have given so far."""

    designs: list[Design] = field(default_factory=list)
    effects: list[Effects] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def effects_part(
    rows: Sequence[Sequence[str]],
    covariates: Mapping[str, Covariate],
    settings: Mapping[str, Any],
    seed: int,
) -> tuple[list[tuple], xr.Dataset, list[str]]:
    """
    Make every test of a study.

    Parameters
    ----------
    rows : sequence of sequences of str
        Of parameters.tsv.
    covariates : mapping of str to Covariate
    settings : mapping
        ``tests`` (list of ``covariate``, ``nuisance``), ``permutations``, ``harmonise`` (name of a column or None).
    seed : int
        Of random permutations.

    Returns
    -------
    rows : list of tuple
        Of effects.tsv, in the order of `COLUMNS`.
    dataset : xarray.Dataset
        Variables whose names begin with ``effect_``; empty if no test could be made.
    notes : list of str
        One sentence for each test that could not be made and each group of subjects left out, and what the tests can
        show.
    """
    estimates, found = estimates_of(rows), _Found()
    if broken := list(dict.fromkeys(row[0] for row in rows if row[0] not in estimates.subjects)):
        found.notes.append(f"Left out of all tests, as an estimate is missing: sub-{', sub-'.join(broken)}.")
    names = np.array([parameter for parameter, _ in estimates.places], dtype=str)
    _, fields = np.unique(names, return_inverse=True)
    site: str = settings.get("harmonise") or ""
    for test in settings["tests"]:
        try:
            known = dict(covariates)
            subjects = estimates.subjects
            if site:
                if site not in known:
                    raise ValueError(f"{site} is not among the covariates {', '.join(known)}.")
                subjects = [subject for subject in subjects if subject in known[site].values]
                known[site] = as_groups(known[site])
            design = make_design(test, known, subjects, site=site)
            at = [estimates.subjects.index(subject) for subject in design.subjects]
            values = estimates.values[at]
            if site:
                values = _harmonised(values, fields, known[site], design)
        except ValueError as error:
            found.notes.append(f"Test {name_of(test)} was not made: {error}")
            continue
        effects = permutation_test(
            values,
            design.interest,
            design.nuisance,
            fields,
            groups=bool(design.levels),
            permutations=settings["permutations"],
            seed=seed,
        )
        found.designs.append(design)
        found.effects.append(effects)
        lost = {one: site for one in estimates.subjects if one not in subjects} | dict(design.left_out)
        found.notes += [*_lost(design, lost), power_sentence(design, effects)]
    if not found.effects:
        return [], xr.Dataset(), found.notes
    every = np.stack([one.p for one in found.effects])
    fdr = np.full(every.shape, np.nan)
    finite = np.isfinite(every)
    if finite.any():
        fdr[finite] = stats.false_discovery_control(every[finite])
    return _rows(found, estimates, fdr), _dataset(found, estimates, fdr), found.notes


def _harmonised(values: np.ndarray, fields: np.ndarray, site: Covariate, design: Design) -> np.ndarray:
    """Each field without the effects of sites, those of the covariates kept."""
    sites = [str(site.values[subject]) for subject in design.subjects]
    if problem := site_problem(sites):
        raise ValueError(problem)
    kept = np.hstack([design.interest, design.covariates])
    out = values.copy()
    for one in np.unique(fields):
        out[:, fields == one] = harmonise(values[:, fields == one], sites, kept)
    return out


def _lost(design: Design, lost: Mapping[str, str]) -> list[str]:
    if not lost:
        return []
    named = ", ".join(f"sub-{subject} (no {column})" for subject, column in lost.items())
    return [f"Left out of test {design.name}: {named}."]


def power_sentence(design: Design, effects: Effects) -> str:
    """
    Say how large an effect must be to be found, and whether permutations can show one at all.

    Parameters
    ----------
    design : Design
    effects : Effects
    """
    n = len(design.subjects)
    who = f"{n} subjects"
    if design.levels:
        parts = (f"{count} {level}" for level, count in zip(design.levels, design.counts, strict=True))
        who += f" ({', '.join(parts)})"
    size = {"partial_r": "|r|", "cohen_d": "|d|", "partial_eta2": "partial eta squared"}[effects.kind]
    text = (
        f"Test {design.name}: {who}; effects of {size} {effects.detectable:.2f} are found with 80 % power at p < 0.05 "
        "in one value, larger ones are needed after correction"
    )
    if effects.smallest_p >= 0.05:
        text += (
            f". There are too few subjects: all {effects.n_permutations} orders of them are compared, and no p can be "
            f"below {effects.smallest_p:.2g}"
        )
    elif effects.exact:
        text += f"; all {effects.n_permutations} orders of subjects are compared"
    return text + "."


def _rows(found: _Found, estimates: Estimates, fdr: np.ndarray) -> list[tuple]:
    """Three rows a value: the statistic, the slope, the effect size; F has no slope."""
    rows = []
    for design, one, adjusted in zip(found.designs, found.effects, fdr, strict=True):
        statistic = "F" if one.kind == "partial_eta2" else "t"
        nothing = np.full(len(adjusted), np.nan)
        kinds: list[tuple[str, tuple[np.ndarray, ...]]] = [(statistic, (one.statistic, nothing, nothing))]
        if statistic == "t":
            kinds.append(("slope", (one.slope, one.slope_lower, one.slope_upper)))
        kinds.append((one.kind, (one.size, one.size_lower, one.size_upper)))
        for k, (parameter, region) in enumerate(estimates.places):
            ps = (one.p[k], one.p_fwe[k], adjusted[k])
            for name, numbers in kinds:
                cells = [f"{value:.6g}" for value in (*(a[k] for a in numbers), *ps)]
                rows.append((design.name, parameter, region, name, *cells, str(len(design.subjects))))
    return rows


def _dataset(found: _Found, estimates: Estimates, fdr: np.ndarray) -> xr.Dataset:
    """Arrays (test, value) under names that begin with ``effect_``."""
    pair = ("effect_test", "effect_value")
    data: dict[str, tuple] = {
        f"effect_{name}": (
            pair,
            fdr if name == "p_fdr" else np.stack([getattr(one, name) for one in found.effects]),
            {"units": "1", "long_name": text},
        )
        for name, text in _ARRAYS.items()
    }
    data["effect_n"] = (
        pair[:1],
        np.array([len(design.subjects) for design in found.designs]),
        {"units": "1", "long_name": "subjects of the test"},
    )
    data["effect_detectable"] = (
        pair[:1],
        np.array([one.detectable for one in found.effects]),
        {"units": "1", "long_name": "effect size found with 80 % power at p < 0.05 in one value"},
    )
    data["effect_identified"] = (
        pair[1:],
        estimates.identified,
        {"units": "1", "long_name": "share of subjects in whom the value is identified"},
    )
    labels = {
        "effect_test": (pair[0], [design.name for design in found.designs], "test"),
        "effect_kind": (pair[0], [one.kind for one in found.effects], "kind of effect size"),
        "effect_groups": (
            pair[0],
            [", ".join(design.levels) for design in found.designs],
            "groups, in order",
        ),
        "effect_parameter": (pair[1], [parameter for parameter, _ in estimates.places], "parameter"),
        "effect_region": (pair[1], [region for _, region in estimates.places], "region, or global"),
        "effect_scale": (pair[1], [estimates.scales[p] for p, _ in estimates.places], "log or linear"),
    }
    coords = {
        name: (dim, np.array(cells, dtype=str), {"long_name": text})
        for name, (dim, cells, text) in labels.items()
    }
    return xr.Dataset(data, coords=coords)


def with_motion(
    covariates: Mapping[str, Covariate], motion: Mapping[str, tuple[float, str]]
) -> dict[str, Covariate]:
    """
    Add the median DVARS of the recordings as covariate ``motion``, unless there is a column of that name.

    Parameters
    ----------
    covariates : mapping of str to Covariate
    motion : mapping of str to (float, str)
        Value and unit by subject. Subjects whose unit is not that of most (recordings with and without their mean) count
        as missing.
    """
    units = [unit for _, unit in motion.values()]
    usual = max(units, key=units.count, default="")
    kept: dict[str, str | float] = {
        subject: value for subject, (value, unit) in motion.items() if unit == usual and np.isfinite(value)
    }
    return {MOTION: Covariate(MOTION, kept, False), **covariates}
