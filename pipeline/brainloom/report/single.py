"""The report of one subject of a finished study, for cohorts of which the report holds some pages only."""

from __future__ import annotations

import json
import os
from pathlib import Path

from brainloom.cohort.layout import KINDS, dataset, study_file
from brainloom.core.errors import StoreError
from brainloom.report.html import render
from brainloom.report.record import dataset_records
from brainloom.report.results import Results, read_benchmarks, read_tables, read_truth


def write_subject_report(study: str, subject: str) -> Path:
    """
    Write ``results/<study>/sub-<label>/sub-<label>_report.html`` from the datasets and tables that are there.

    Parameters
    ----------
    study, subject : str
        Name of a study that has a report, and label without ``sub-``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    StoreError
        The study has no report yet, or the subject no datasets.
    """
    from brainloom.store import read_attrs

    provenance = Path(study_file(study, "provenance.json"))
    if not provenance.is_file():
        raise StoreError(f"{provenance}: file not found; run the workflow to its report first")
    params = json.loads(provenance.read_text(encoding="utf-8"))["params"]
    files = {kind: path for kind in KINDS if (path := Path(dataset(study, subject, kind))).is_file()}
    if not files:
        raise StoreError(
            f"sub-{subject} has no datasets in {study_file(study, '')}; give the label of a subject"
        )
    tables = {
        name: table[table["subject"] == subject]
        for name, table in read_tables(Path(study_file(study, ""))).items()
    }
    source = params.get("input") or {}
    truth = source.get("truth") or Path(str(source.get("path", ""))) / "truth.tsv"
    results = Results(
        study=study,
        **tables,
        datasets={subject: files},
        truth=read_truth(Path(truth)) if Path(truth).is_file() else None,
        benchmarks=read_benchmarks(None),
        params=params,
    )
    text = render(results, dataset_records(results, {path: read_attrs(path) for path in files.values()}))
    output = Path(study_file(study, f"sub-{subject}/sub-{subject}_report.html"))
    temporary = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, output)
    return output
