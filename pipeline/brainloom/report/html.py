"""The cohort report as one self-contained HTML file."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainloom.cohort.layout import EXTREMES, MAX_PAGES
from brainloom.report import sections, tables
from brainloom.report.effect_sections import effect_section
from brainloom.report.generalisation_sections import generalisation_section
from brainloom.report.glossary import ELECTRIC, GLOSSARY
from brainloom.report.meeg_figures import summarise_electric
from brainloom.report.meeg_sections import electric_modalities, meeg_section
from brainloom.report.pages import subject_page
from brainloom.report.record import dataset_records, step_table, version_table, write_provenance
from brainloom.report.reliability_sections import reliability_section
from brainloom.report.results import Results
from brainloom.report.style import figure_style
from brainloom.report.summary import (
    GroupSummary,
    SubjectSummary,
    scores,
    summarise_group,
    summarise_subject,
)

_SECTIONS = (
    ("summary", "Summary"),
    ("cohort", "Cohort"),
    ("fit", "Fit quality"),
    ("electric", "EEG and MEG"),
    ("parameters", "Parameters"),
    ("agreement", "Analytic against simulated"),
    ("subjects", "Subjects"),
    ("provenance", "Provenance"),
    ("timings", "Timings"),
    ("reading", "Reading the numbers"),
)


def write_report(results: Results, *, output: Path, provenance: Path) -> None:
    """Write report.html and provenance.json of a study.

    Parameters
    ----------
    results : Results
    output, provenance : Path
        Files to write; both appear whole or not at all.

    Raises
    ------
    StoreError
        A dataset is damaged.
    """
    from brainloom.store import read_attrs

    attrs = {path: read_attrs(path) for files in results.datasets.values() for path in files.values()}
    if results.group is not None:
        attrs[results.group] = read_attrs(results.group)
    records = dataset_records(results, attrs)
    text = render(results, records)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, output)
    write_provenance(provenance, results, records, attrs)


def render(results: Results, records: list[dict]) -> str:
    """HTML text of the report; the same results give the same text."""
    import jinja2

    from brainloom import __version__

    bands = _bands(results)
    with figure_style():
        context = _context(results, records, bands)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("template.html.j2").render(context, version=__version__)


def _resource(name: str) -> str:
    return resources.files("brainloom.report").joinpath(name).read_text(encoding="utf-8")


def _context(results: Results, records: list[dict], bands: tuple) -> dict:
    """Everything the template shows; needs the figure style."""
    from markupsafe import Markup

    from brainloom.store import read_dataset

    summaries, pages = _subjects(results, *bands)
    group = summarise_group(read_dataset(results.group)) if results.group else GroupSummary()
    usable = [summaries[s] for s in results.included if s in summaries and not summaries[s].reason]
    context: dict[str, Any] = {
        "study": results.study,
        "sections": [
            (anchor, name if anchor != "agreement" or results.simulated else "Warnings")
            for anchor, name in _SECTIONS
            if anchor != "electric" or electric_modalities(results)
        ],
        "css": Markup(_resource("style.css")),
        "subtitle": _subtitle(results, usable),
    }
    context |= sections.headline_section(results, usable, group)
    context |= sections.cohort_section(results, summaries, pages)
    context |= sections.fit_section(results, usable, group, *bands)
    context |= generalisation_section(results)
    context |= reliability_section(results)
    context |= meeg_section(results, usable)
    context |= sections.parameter_section(results, usable)
    context |= effect_section(results)
    context |= sections.agreement_section(summaries, usable, pages, simulated=results.simulated)
    context |= {"pages": pages, "omitted": _omitted(results, pages)}
    context |= _provenance(results, records)
    return context | {"glossary": GLOSSARY + (ELECTRIC if electric_modalities(results) else ())}


def _bands(results: Results) -> tuple:
    """Analysis band from the settings or the datasets, and the frequency band of the model."""
    band = (results.params.get("signal") or {}).get("band")
    model = results.params.get("model") or {}
    mode_band = model.get("frequency_band") if "Hopf" in str(model.get("name", "")) else None
    if band is None:
        from brainloom.store import read_attrs

        for files in results.datasets.values():
            text = read_attrs(files["signal"]).get("band") if "signal" in files else None
            if text:
                band = json.loads(text)
                break
    return (tuple(band) if band else None), (tuple(mode_band) if mode_band else None)


def _subjects(results: Results, band, mode_band) -> tuple[dict[str, SubjectSummary], list[dict]]:
    """Summaries of all subjects and the pages of the first ones; one subject is in memory at a time."""
    from brainloom.store import is_failed, read_dataset

    summaries: dict[str, SubjectSummary] = {}
    pages: list[dict] = []
    paged = paged_subjects(results)
    for subject, files in results.datasets.items():
        datasets = {kind: read_dataset(path) for kind, path in files.items()}
        summary = summarise_subject(subject, datasets)
        summarise_electric(summary, datasets)
        summaries[subject] = summary
        if subject in paged:
            good = {kind: ds for kind, ds in datasets.items() if not is_failed(ds)}
            is_open = not summary.reason and not any(page["open"] for page in pages)
            pages.append(
                subject_page(results, summary, good, band=band, mode_band=mode_band, is_open=is_open)
            )
    return summaries, pages


def paged_subjects(results: Results) -> list[str]:
    """
    Subjects that have a page: all, or of more than `MAX_PAGES` those with the lowest, middle and highest held-out score.

    Parameters
    ----------
    results : Results
    """
    subjects = list(results.datasets)
    if len(subjects) <= MAX_PAGES:
        return subjects
    table = scores(results.metrics, metric="fc_r", split="test")
    own = table["model_analytic"].dropna() if "model_analytic" in table else pd.Series(dtype=float)
    ordered = [name for name in own.sort_values(kind="stable").index if name in results.datasets]
    if len(ordered) < 3 * EXTREMES:
        return subjects[: 3 * EXTREMES]
    middle = (len(ordered) - EXTREMES) // 2
    return [*ordered[:EXTREMES], *ordered[middle : middle + EXTREMES], *ordered[-EXTREMES:]]


def _subtitle(results: Results, usable: list[SubjectSummary]) -> str:
    parts = [results.model] if results.model else []
    regions = {len(s.regions) for s in usable if s.regions}
    if regions:
        parts.append(
            f"{min(regions)} regions" if len(regions) == 1 else f"{min(regions)} to {max(regions)} regions"
        )
    times = {s.data.get("repetition_time") for s in usable}
    times = {t for t in times if t is not None and np.isfinite(t)}
    if len(times) == 1:
        parts.append(f"repetition time {times.pop():g} s")
    return " \u00b7 ".join(parts)


def _omitted(results: Results, pages) -> str:
    missing = len(results.datasets) - len(pages)
    if missing <= 0:
        return ""
    return (
        f"Pages of {len(pages)} of {len(results.datasets)} subjects: those with the lowest, the middle and the highest held-out FC "
        f"correlation. The other {missing} are in all tables and in their datasets; brainloom page {results.study} LABEL writes the "
        "page of any of them beside its datasets."
    )


def _provenance(results: Results, records) -> dict:
    versions = version_table(records)
    mixed = [package for package, found in versions.items() if len(found) > 1]
    return {
        "versions": [(package, ", ".join(found)) for package, found in versions.items()],
        "mixed": f"Datasets were made with different versions of {', '.join(mixed)}." if mixed else "",
        "steps": step_table(records),
        "datasets": records if len(results.datasets) <= MAX_PAGES else [],
        "params_text": json.dumps(results.params, indent=1, sort_keys=True),
        "planned": bool(results.plan),
        "timings": tables.timing_rows(results.benchmarks, results.plan),
    }
