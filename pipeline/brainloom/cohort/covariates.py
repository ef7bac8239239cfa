"""Covariates that the tests of a study need: where they are, and what is wrong with them before any compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainloom.analysis.covariates import MOTION, as_groups, make_design, name_of
from brainloom.analysis.harmonise import site_problem
from brainloom.core.errors import DataError
from brainloom.io.participants import Covariate, read_covariates


def participants_file(config: Mapping[str, Any]) -> list[str]:
    """The table of participants, as a list of one path, or none if no test needs it."""
    if not config["group"]["tests"]:
        return []
    path = Path(config["input"]["path"]) / "participants.tsv"
    asked = _asked(config["group"])
    return [str(path)] if path.is_file() or set(asked) - {MOTION} else []


def covariate_problems(config: Mapping[str, Any], subjects: Sequence[str]) -> list[str]:
    """
    What makes tests of a study impossible.

    Parameters
    ----------
    config : mapping
        Validated.
    subjects : sequence of str
        Labels that can be used.

    Returns
    -------
    list of str
        One sentence each.
    """
    group = config["group"]
    if not group["tests"]:
        return []
    known: dict[str, Covariate] = {}
    path = ""
    try:
        for path in participants_file(config):
            known = read_covariates(path)
    except DataError as error:
        return [f"group.tests: {error}"]
    asked = _asked(group)
    if MOTION in asked and MOTION not in known:
        if "bold" not in config["modality"]:
            return [
                f"group.tests names {MOTION}, which comes from BOLD; modality is {', '.join(config['modality'])}"
            ]
        # Known only after the recordings are read: any numbers stand for them.
        draw = np.random.default_rng(0).normal(size=len(subjects))
        known[MOTION] = Covariate(MOTION, dict(zip(subjects, draw.tolist(), strict=True)), False)
    missing = [name for name in asked if name not in known]
    if missing:
        there = [name for name in known if name != MOTION]
        columns = f"has {', '.join(there)}" if there else "has no column but participant_id"
        return [
            f"{'group.harmonise' if name == group['harmonise'] else 'group.tests'} names {name}, which is no column of "
            f"{path}; the table {columns}"
            for name in missing
        ]
    problems = []
    if group["harmonise"]:
        known[group["harmonise"]] = as_groups(known[group["harmonise"]])
        site = known[group["harmonise"]].values
        subjects = [subject for subject in subjects if subject in site]
        if problem := site_problem([str(site[subject]) for subject in subjects]):
            problems.append(f"{path}: {problem}")
    for test in group["tests"]:
        try:
            make_design(test, known, subjects, site=group["harmonise"] or "")
        except ValueError as error:
            problems.append(f"{path}: test {name_of(test)} cannot be made: {error}")
    return problems


def _asked(group: Mapping[str, Any]) -> list[str]:
    """Names of all covariates, each once."""
    names = [one for test in group["tests"] for one in (test["covariate"], *test.get("nuisance", ()))]
    return list(dict.fromkeys([*names, *([group["harmonise"]] if group["harmonise"] else [])]))
