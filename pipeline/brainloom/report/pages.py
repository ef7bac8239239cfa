"""The page of one subject: facts, figures, tables; what the template needs and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from brainloom.core.modalities import ELECTRIC
from brainloom.report import subject_figures
from brainloom.report.figure import Figure, draw
from brainloom.report.meeg_sections import electric_modalities, subject_meeg
from brainloom.report.names import number
from brainloom.report.results import Results
from brainloom.report.split_text import split_sentence
from brainloom.report.summary import SubjectSummary
from brainloom.report.tables import electric_scores, parameter_rows, subject_metrics


def anchor(subject: str) -> str:
    """A label as part of an HTML id."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", subject)


def subject_page(
    results: Results, summary: SubjectSummary, datasets: dict, *, band, mode_band, is_open: bool
) -> dict:
    """Everything the template shows of one subject.

    Parameters
    ----------
    results : Results
    summary : SubjectSummary
    datasets : dict of str -> xarray.Dataset
        Kind -> dataset, without failed ones.
    band, mode_band : (float, float) or None
        Analysis band and range of the model's own frequencies, Hz.
    is_open : bool
        Whether the page starts unfolded.
    """
    subject = summary.subject
    signal, fit = datasets.get("signal"), datasets.get("fit")
    if fit is not None and "model" not in fit["predictor"].values:
        fit = None
    simulation, connectome = datasets.get("simulation"), datasets.get("connectome")
    parameters = results.parameters[results.parameters["subject"] == subject]
    table = subject_metrics(results.metrics, subject)
    name = f"sub-{anchor(subject)}"
    return {
        "subject": subject,
        "anchor": anchor(subject),
        "open": is_open,
        "reason": summary.reason,
        "warnings": summary.warnings,
        "headline": _headline(results.metrics, subject),
        "facts": _facts(summary, fit),
        "scores": table,
        "electric": [
            subject_meeg(name, modality, subject, signal, fit, simulation)
            | {"scores": electric_scores(results.metrics, subject, modality)}
            for modality in electric_modalities(results)
        ],
        "parameters": parameter_rows(parameters),
        "figures": {
            "fc": _fc(name, subject, signal, fit, simulation, connectome),
            "fcd": _fcd(name, subject, signal, simulation),
            "spectra": _spectra(name, subject, signal, fit, simulation, band, mode_band),
            "convergence": _convergence(name, subject, fit),
            "profile": _profile(name, subject, parameters),
        },
    }


def _fc(name, subject, signal, fit, simulation, connectome) -> Figure | None:
    return draw(
        subject_figures.fc_figure,
        signal,
        fit,
        simulation,
        connectome,
        name=f"{name}-fc",
        wide=True,
        title="Functional connectivity",
        caption="All on one scale; regions in the order of the atlas, left hemisphere first. Below each matrix: "
        "correlation of its upper triangle with the held-out FC.",
        alt=f"Subject {subject}: recorded training and held-out FC beside analytic and simulated model FC.",
    )


def _fcd(name, subject, signal, simulation) -> Figure | None:
    return draw(
        subject_figures.fcd_figure,
        signal,
        simulation,
        name=f"{name}-fcd",
        wide=True,
        title="FC dynamics",
        caption="Correlation of FC between sliding windows, on one scale (simulation: first realisation); right: share of window pairs up to a value, "
        "overlapping windows left out.",
        alt=f"Subject {subject}: FCD matrices of recording and simulation and the distributions of their values.",
    )


def _spectra(name, subject, signal, fit, simulation, band, mode_band) -> Figure | None:
    return draw(
        subject_figures.spectra_figure,
        signal,
        fit,
        simulation,
        band=band,
        mode_band=mode_band,
        name=f"{name}-psd",
        title="Spectra",
        caption="Of unfiltered, z-scored signals; line: mean over regions, shade: middle 80 % of regions.",
        alt=f"Subject {subject}: power spectra of recording, analytic model and simulation.",
    )


def _convergence(name, subject, fit) -> Figure | None:
    return draw(
        subject_figures.convergence_figure,
        fit,
        name=f"{name}-loss",
        title="Convergence",
        caption="Training loss of all starts of the model; the chosen start has the lowest final loss.",
        alt=f"Subject {subject}: training loss against optimiser steps for all starts.",
    )


def _profile(name, subject, parameters) -> Figure | None:
    return draw(
        subject_figures.profile_figure,
        parameters,
        name=f"{name}-map",
        wide=True,
        title="Regional parameters",
        caption="Dots: estimates, bars: intervals, cut where they leave the panel; logarithmic where values spread widely. Dark blue: identified, light blue: "
        "weakly, grey: not identified.",
        alt=f"Subject {subject}: regional parameter estimates with intervals, sorted.",
    )


def _headline(metrics: pd.DataFrame, subject: str) -> list[str]:
    rows = metrics[
        (metrics["subject"] == subject) & (metrics["metric"] == "fc_r") & (metrics["split"] == "test")
    ]
    values = rows.groupby("predictor")["value"].mean()
    if rows.empty:
        rows = metrics[
            (metrics["subject"] == subject)
            & metrics["metric"].isin(["eeg_psd_r", "meg_psd_r"])
            & (metrics["split"] == "test")
        ]
        values = rows.groupby("predictor")["value"].mean()
    parts = (("model_analytic", "analytic"), ("model_simulated", "simulated"), ("ceiling", "ceiling"))
    return [
        f"{label} r {number(values[key])}"
        for key, label in parts
        if key in values and np.isfinite(values[key])
    ]


def _facts(summary: SubjectSummary, fit) -> list[tuple[str, str]]:
    data = summary.data
    facts: list[tuple[str, str]] = []
    if "n_regions" in data:
        facts.append(("Regions", f"{data['n_regions']:.0f}"))
    if np.isfinite(data.get("density", np.nan)):
        facts.append(("Connected pairs", f"{100 * data['density']:.0f} %"))
    if np.isfinite(data.get("repetition_time", np.nan)):
        facts.append(("Repetition time", f"{data['repetition_time']:g} s"))
    for name in ELECTRIC:
        if f"{name}_sensors" in data:
            facts.append(
                (
                    name.upper(),
                    f"{data[f'{name}_sensors']:.0f} channels, {data[f'{name}_sampling_frequency']:g} Hz, "
                    f"{data[f'{name}_duration_train']:g} + {data[f'{name}_duration_test']:g} s",
                )
            )
    if summary.split:
        facts.append(("Split", split_sentence([summary.split])))
    if "n_starts" in data:
        converged = f", {data['n_converged']:.0f} converged" if "n_converged" in data else ""
        facts.append(("Starts", f"{data['n_starts']:.0f}{converged}"))
        facts.append(("Final loss", number(data.get("loss"), 4, significant=True)))
    if np.isfinite(summary.margin):
        facts.append(("Stability margin", f"{number(summary.margin, 4, significant=True)} 1/s"))
    if fit is not None and "frequency_hz" in fit:
        values = fit["frequency_hz"].values[np.isfinite(fit["frequency_hz"].values)]
        if values.size and values.max() > 0:
            facts.append(("Regional frequencies", f"{values.min():.3f}\u2013{values.max():.3f} Hz"))
    if "n_realisations" in data:
        facts.append(("Realisations", f"{data['n_realisations']:.0f}"))
    for level, r in sorted(summary.agreement.items()):
        facts.append((f"Analytic against simulated, noise {level:g}", f"r {number(r)}"))
    return facts
