"""Provenance of a study: what made every dataset, and provenance.json with the times of the run."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from pathlib import Path

from brainloom.report.results import Results
from brainloom.report.split_text import split_table
from brainloom.report.summary import KINDS

_FIELDS = ("step", "config_hash", "seed", "precision", "device", "content_hash", "status", "reason")


def dataset_records(results: Results, attrs: dict[Path, dict]) -> list[dict]:
    """One record a dataset, in the order of subjects and steps; the group dataset last.

    Parameters
    ----------
    results : Results
    attrs : dict of Path -> dict
        Attributes of every dataset that was read.
    """
    out = []
    for subject, files in results.datasets.items():
        for kind in KINDS:
            if kind in files:
                out.append(_record(subject, kind, attrs.get(files[kind], {})))
    if results.group is not None:
        out.append(_record("", "group", attrs.get(results.group, {})))
    return out


def _record(subject: str, kind: str, attrs: dict) -> dict:
    return (
        {"subject": subject, "kind": kind}
        | {name: attrs.get(name, "") for name in _FIELDS}
        | {"input_hashes": _json(attrs.get("input_hashes")), "versions": _json(attrs.get("versions"))}
    )


def _json(text: object) -> dict:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def version_table(records: list[dict]) -> dict[str, list[str]]:
    """Package -> the versions that made the datasets; more than one means a mixed study."""
    out: dict[str, set[str]] = {}
    for record in records:
        for package, version in record["versions"].items():
            out.setdefault(package, set()).add(str(version))
    return {package: sorted(versions) for package, versions in sorted(out.items())}


def step_table(records: list[dict]) -> list[dict]:
    """One row a step: datasets, config hashes, seeds, precisions and devices that occur."""
    out = []
    for kind in (*KINDS, "group"):
        part = [r for r in records if r["kind"] == kind]
        if not part:
            continue
        row = {"kind": kind, "n": len(part), "failed": sum(r["status"] == "failed" for r in part)}
        for name in ("step", "config_hash", "seed", "precision", "device"):
            row[name] = sorted({str(r[name]) for r in part if str(r[name]) != ""})
        out.append(row)
    return out


def write_provenance(path: Path, results: Results, records: list[dict], attrs: dict[Path, dict]) -> None:
    """Write provenance.json: the record of every dataset, plus what differs from run to run.

    `attrs` are those of every dataset that was read. Wall times, date and machine live here and not in the datasets, so that equal inputs give equal datasets.
    """
    from brainloom import __version__

    benchmarks = results.benchmarks.astype(object).where(results.benchmarks.notna(), None)
    signals = {
        s: attrs.get(files["signal"], {}) for s, files in results.datasets.items() if "signal" in files
    }
    payload = {
        "study": results.study,
        "brainloom": __version__,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "processor": platform.machine(),
            "cpus": os.cpu_count(),
            "python": sys.version.split()[0],
        },
        "params": results.params,
        "splits": split_table(signals, results.params.get("signal") or {}),
        "versions": version_table(records),
        "steps": step_table(records),
        "datasets": records,
        "jobs": benchmarks.to_dict(orient="records"),
        "cohort": results.cohort[["subject", "included", "reason"]].to_dict(orient="records"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(payload, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
