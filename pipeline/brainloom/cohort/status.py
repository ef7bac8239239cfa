"""How far a study is, and whom it leaves out and why: for the end of a run and for `brainloom status`."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainloom.cohort.layout import KINDS, dataset, study_file
from brainloom.cohort.manifest import members, read_manifest
from brainloom.core.errors import BrainloomError, ConfigError, StoreError

# The step that makes each kind of dataset, in the order in which they run.
STEPS = dict(
    zip(
        KINDS,
        ("preprocess_connectome", "preprocess_signal", "fit", "identify", "simulate", "analyse"),
        strict=True,
    )
)
# Files of the whole study and the step that makes them.
COHORT_FILES = {
    "index.tsv": "index_cohort",
    "group.zarr.zip": "group",
    "metrics.tsv": "group",
    "parameters.tsv": "group",
    "cohort.tsv": "group",
    "report.html": "report",
    "provenance.json": "report",
}


@dataclass(frozen=True)
class Status:
    """The state of a study.

    Attributes
    ----------
    study : str
        Name.
    subjects : tuple of str
        All labels of the study.
    excluded : dict of str to str
        Labels that are left out, and why.
    steps : dict of str to dict of str to int
        For each per-subject step the number of subjects ``done``, ``failed`` and ``missing``.
    missing : tuple of str
        Files of the whole study that are not there.
    damaged : tuple of str
        One sentence for each dataset that cannot be read.
    """

    study: str
    subjects: tuple[str, ...]
    excluded: dict[str, str]
    steps: dict[str, dict[str, int]]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything is done and nobody is left out."""
        undone = any(count["missing"] for count in self.steps.values())
        return not (self.excluded or undone or self.missing or self.damaged)


def read_status(study: str) -> Status:
    """
    Look at the results of a study.

    Parameters
    ----------
    study : str
        Its name; results are looked for in ``results/<study>`` below the current folder.

    Returns
    -------
    Status

    Raises
    ------
    ConfigError
        There are no results, or their tables are damaged.
    """
    from brainloom.store import read_attrs

    placed = members(read_manifest(study_file(study, "batches.tsv")))
    index = _table(Path(study_file(study, "index.tsv")))
    if not placed and not index:
        raise ConfigError(
            f"results/{study} has no results of a study; start snakemake, or give the name of another study"
        )
    subjects = tuple(index) or tuple(placed)
    excluded = {label: reason for label, (included, reason) in index.items() if included != "yes"}
    counts = {step: {"done": 0, "failed": 0, "missing": 0} for step in STEPS.values()}
    damaged = []
    for label in subjects:
        if label not in placed:
            continue
        for kind, step in STEPS.items():
            path = dataset(study, label, kind)
            state = "missing"
            if Path(path).exists():
                try:
                    attrs = read_attrs(path)
                except StoreError as err:
                    damaged.append(str(err))
                else:
                    state = "failed" if attrs.get("status") == "failed" else "done"
                    if state == "failed":
                        excluded.setdefault(label, str(attrs.get("reason", "")))
            counts[step][state] += 1
        if _scored_without_simulation(label, study):
            counts["simulate"]["missing"] -= 1
    if not any(counts["simulate"].values()):
        del counts["simulate"]  # the study leaves it out
    missing = tuple(name for name in COHORT_FILES if not Path(study_file(study, name)).exists())
    return Status(study, subjects, excluded, counts, missing, tuple(damaged))


def _scored_without_simulation(label: str, study: str) -> bool:
    """Whether the scores of a subject say that no simulation was among what they were made from."""
    from brainloom.store import read_attrs

    scores = Path(dataset(study, label, "metrics"))
    if Path(dataset(study, label, "simulation")).exists() or not scores.exists():
        return False
    try:
        inputs = json.loads(str(read_attrs(scores).get("input_hashes", "null")))
    except (StoreError, ValueError):
        return False
    return isinstance(inputs, dict) and "fit" in inputs and "simulation" not in inputs


def describe_status(status: Status) -> str:
    """
    A status as text.

    Parameters
    ----------
    status : Status
        From `read_status`.

    Returns
    -------
    str
        Several lines, without a newline at the end.
    """
    lines = [_headline(status.study, len(status.subjects), status.excluded), ""]
    width = max(map(len, status.steps))
    lines.append(f"{'step':{width}}  {'done':>6}  {'failed':>6}  {'missing':>7}")
    for step, count in status.steps.items():
        lines.append(f"{step:{width}}  {count['done']:6d}  {count['failed']:6d}  {count['missing']:7d}")
    for step in dict.fromkeys(COHORT_FILES.values()):
        undone = [name for name in status.missing if COHORT_FILES[name] == step]
        lines.append(f"{step:{width}}  {'missing: ' + ', '.join(undone) if undone else 'done'}")
    lines += [f"damaged: {sentence}" for sentence in status.damaged]
    return "\n".join(lines + _exclusions(status.excluded))


def run_summary(study: str) -> str:
    """
    What the end of a workflow run says: how many subjects are in, who is out and why, where the report is.

    Parameters
    ----------
    study : str
        Its name.

    Returns
    -------
    str
        Several lines, without a newline at the end. Files that a run to an earlier target did not make, or that
        are damaged, make it shorter, never an error.
    """
    # A run that stopped early leaves the cohort table of the run before: the newer table tells.
    paths = [path for name in ("index.tsv", "cohort.tsv") if (path := Path(study_file(study, name))).exists()]
    try:
        table = _table(max(paths, key=lambda path: path.stat().st_mtime_ns)) if paths else {}
    except BrainloomError as err:
        return f"study {study}: {err}"
    if not table:
        return f"study {study}: no subject has been looked at yet"
    excluded = {label: reason for label, (included, reason) in table.items() if included != "yes"}
    lines = [_headline(study, len(table), excluded), *_exclusions(excluded)]
    page = study_file(study, "report.html")
    return "\n".join([*lines, f"report: {page}"] if Path(page).exists() else lines)


def _headline(study: str, total: int, excluded: Mapping[str, str]) -> str:
    return f"study {study}: {total - len(excluded)} of {total} subjects included, {len(excluded)} excluded"


def _exclusions(excluded: Mapping[str, str]) -> list[str]:
    return [f"excluded sub-{label}: {reason}" for label, reason in excluded.items()]


def _table(path: Path) -> dict[str, tuple[str, str]]:
    """Label to (included, reason) of an index or cohort table; empty if there is none yet."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        rows = list(reader)
    if not {"subject", "included", "reason"} <= set(reader.fieldnames or ()):
        raise ConfigError(
            f"{path} lacks one of the columns subject, included, reason; delete it and run snakemake"
        )
    return {row["subject"]: (row["included"] or "", row["reason"] or "") for row in rows}
