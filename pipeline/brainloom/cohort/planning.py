"""What a study will cost: jobs, seconds, memory and disk of every rule, scaled from a probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from brainloom.cohort.costs import job_disk, job_memory, job_seconds
from brainloom.cohort.jobs import PER_BATCH, RULES, schedule, study_jobs
from brainloom.cohort.plan import Plan

# The prediction of the whole is meant to be within this factor of what an idle machine takes.
UNCERTAINTY = 2.0
# Share of a core below which other programs must be running.
BUSY = 0.8


@dataclass(frozen=True)
class Row:
    """
    Prediction for one rule.

    Attributes
    ----------
    rule : str
    jobs, left : int
        All jobs, and those whose files are not there yet.
    job_s, total_s, left_s : float
        Longest job, all jobs, and those that are left, in seconds of a core.
    memory_mb : float
        Peak memory of a job.
    disk_mb : float
        Datasets of all jobs.
    """

    rule: str
    jobs: int
    left: int
    job_s: float
    total_s: float
    left_s: float
    memory_mb: float
    disk_mb: float


@dataclass(frozen=True)
class Prediction:
    """
    Prediction for a study.

    Attributes
    ----------
    study : str
    subjects, cores : int
    rows : tuple of Row
    wall_s, left_wall_s : float
        On these cores, all jobs and those that are left.
    memory_mb : float
        Of the jobs that run side by side, at most.
    disk_mb : float
    core_share : float
        What the probe got of a core: below 1 where other programs run. Times are those of idle cores.
    uncertainty : float
        Factor either way that is meant for `wall_s`, `memory_mb` and `disk_mb`.
    """

    study: str
    subjects: int
    cores: int
    rows: tuple[Row, ...]
    wall_s: float
    left_wall_s: float
    memory_mb: float
    disk_mb: float
    core_share: float
    uncertainty: float = UNCERTAINTY

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def predict(
    config: Mapping[str, Any],
    plan: Plan,
    probe: Mapping[str, Any],
    *,
    cores: int,
    subjects: int | None = None,
) -> Prediction:
    """
    Scale a probe to the whole study.

    Parameters
    ----------
    config : mapping
        Validated.
    plan : Plan
    probe : mapping
        From `brainloom.cohort.probe.run_probe`.
    cores : int
        Jobs at once.
    subjects : int, optional
        As for `study_jobs`.

    Returns
    -------
    Prediction
    """
    jobs = study_jobs(config, plan, subjects)
    cohort = next(job.subjects for job in jobs if job.rule == "index_cohort")
    seen: set[str] = set()
    seconds = []
    for job in jobs:
        first = job.rule not in seen
        seen.add(job.rule)
        seconds.append(job_seconds(config, probe, job, cohort=cohort, first=first))
    rows = []
    for rule in RULES:
        own = [(job, spent) for job, spent in zip(jobs, seconds, strict=True) if job.rule == rule]
        if not own:
            continue
        left = [spent for job, spent in own if not job.done]
        rows.append(
            Row(
                rule=rule,
                jobs=len(own),
                left=len(left),
                job_s=max(spent for _, spent in own),
                total_s=sum(spent for _, spent in own),
                left_s=sum(left),
                memory_mb=max(job_memory(probe, job) for job, _ in own),
                disk_mb=sum(job_disk(config, probe, job, cohort) for job, _ in own),
            )
        )
    undone = [(job, spent) for job, spent in zip(jobs, seconds, strict=True) if not job.done]
    batches = 1 + max((job.batch for job in jobs), default=0)
    alone = max(row.memory_mb for row in rows if row.rule not in PER_BATCH)
    alongside = max(row.memory_mb for row in rows if row.rule in PER_BATCH) * min(cores, batches)
    return Prediction(
        study=plan.study,
        subjects=cohort,
        cores=cores,
        rows=tuple(rows),
        wall_s=schedule(jobs, seconds, cores),
        left_wall_s=schedule([job for job, _ in undone], [spent for _, spent in undone], cores),
        memory_mb=max(alongside, alone),
        disk_mb=sum(row.disk_mb for row in rows),
        core_share=float(probe["core_share"]),
    )


def hours(seconds: float) -> str:
    """
    A duration as people say it.

    Examples
    --------
    >>> hours(42.3), hours(754.0), hours(9000.0)
    ('42 s', '13 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def megabytes(value: float) -> str:
    """
    A size as people say it.

    Examples
    --------
    >>> megabytes(0.4), megabytes(831.2), megabytes(12300.0)
    ('0.4 MB', '831 MB', '12.3 GB')
    """
    if value >= 1000:
        return f"{value / 1000:.1f} GB"
    return f"{value:.0f} MB" if value >= 10 else f"{value:.1f} MB"


def describe_prediction(found: Prediction) -> str:
    """A prediction as a table and its totals."""
    head = ("rule", "jobs", "left", "a job", "all jobs", "memory", "disk")
    cells = [
        (
            row.rule,
            str(row.jobs),
            str(row.left),
            hours(row.job_s),
            hours(row.total_s),
            megabytes(row.memory_mb),
            megabytes(row.disk_mb),
        )
        for row in found.rows
    ]
    width = [max(len(line[k]) for line in (head, *cells)) for k in range(len(head))]
    lines = [f"study {found.study}: {found.subjects} subjects on {found.cores} cores", ""]
    for line in (head, *cells):
        rest = "  ".join(text.rjust(w) for text, w in zip(line[1:], width[1:], strict=True))
        lines.append(f"{line[0]:{width[0]}}  {rest}")
    work = sum(row.total_s for row in found.rows)
    lines += [
        "",
        f"time    {hours(found.wall_s)} ({hours(work)} of a core)",
        f"left    {hours(found.left_wall_s)}, of jobs whose files are not there yet",
        f"memory  {megabytes(found.memory_mb)}, all cores together",
        f"disk    {megabytes(found.disk_mb)}",
        f"On an idle machine, within a factor of {math.ceil(found.uncertainty)} either way.",
    ]
    if found.core_share < BUSY:
        busy = hours(found.wall_s / found.core_share)
        lines.append(
            f"This one is busy: the probe got {found.core_share:.0%} of a core; so loaded, the study takes {busy}."
        )
    return "\n".join(lines)
