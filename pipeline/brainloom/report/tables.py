"""Tables of the report as plain rows of text, ready for the template."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainloom.report.names import (
    METRICS,
    PREDICTORS,
    number,
    parameter_name,
    predictor_colour,
    predictor_name,
    predictor_order,
    unit_text,
)
from brainloom.report.summary import SubjectSummary, bootstrap_interval, scores

_COLUMNS = (
    "fc_r",
    "fc_r_corrected",
    "fc_z",
    "fc_rmse",
    "lag1_r",
    "psd_r",
    "variance_r",
    "fcd_ks",
    "metastability",
)

ELECTRIC_SCORES = ("psd_r", "psd_rmse", "peak_error", "envelope_fc_r")


def metric_head(metric: str) -> str:
    """Column head of a metric."""
    return METRICS[metric][0] if metric in METRICS else metric


def score_table(
    metrics: pd.DataFrame, *, columns: tuple[str, ...] = _COLUMNS, training: str = "fc_r"
) -> dict:
    """Means over subjects: one row a predictor, one training metric and all held-out ones.

    Parameters
    ----------
    metrics : pandas.DataFrame
    columns : tuple of str
        Held-out metrics; those without a value are left out.
    training : str
        Metric of the training part.

    Returns
    -------
    dict
        `head` (list of str) and `rows` (list of dict: name, colour, meaning, cells).
    """
    train = scores(metrics, metric=training, split="train")
    test = {metric: scores(metrics, metric=metric, split="test") for metric in columns}
    test = {metric: table for metric, table in test.items() if table.shape[1]}
    predictors = predictor_order(
        set(train.columns).union(*(t.columns for t in test.values())) if test else train
    )
    head = ([f"{METRICS[training][0]}, training"] if train.shape[1] else []) + [METRICS[m][0] for m in test]
    rows = []
    for predictor in predictors:
        cells = [_mean_cell(train, predictor, 3, interval=False)] if train.shape[1] else []
        cells += [
            _mean_cell(table, predictor, METRICS[m][2], interval=m == training) for m, table in test.items()
        ]
        counts = [int(t[predictor].notna().sum()) for t in test.values() if predictor in t]
        rows.append(
            {
                "name": predictor_name(predictor),
                "colour": predictor_colour(predictor),
                "meaning": PREDICTORS.get(predictor, ("", "", ""))[2],
                "cells": cells,
                "n": max(counts, default=int(train[predictor].notna().sum()) if predictor in train else 0),
            }
        )
    return {"head": head, "rows": rows}


def _mean_cell(table: pd.DataFrame, predictor: str, digits: int, *, interval: bool) -> dict[str, str]:
    if predictor not in table:
        return {"value": "", "note": ""}
    values = table[predictor].dropna()
    low, high = bootstrap_interval(values) if interval else (np.nan, np.nan)
    note = f"{number(low, 2)}\u2013{number(high, 2)}" if np.isfinite(low) else ""
    return {"value": number(values.mean(), digits), "note": note}


def cohort_table(
    cohort: pd.DataFrame, summaries: dict[str, SubjectSummary], metrics: pd.DataFrame
) -> list[dict]:
    """One row a subject of the cohort table, excluded ones with their reason."""
    test = scores(metrics, metric="fc_r", split="test")
    rows = []
    for subject, included, reason in cohort[["subject", "included", "reason"]].itertuples(index=False):
        summary = summaries.get(subject)
        data = summary.data if summary else {}
        row = {
            "subject": subject,
            "included": included == "yes",
            "reason": reason or (summary.reason if summary else ""),
            "frames": _pair(data, "n_frames", 0),
            "dof": _pair(data, "effective_dof", 0),
            "tsnr": number(data.get("tsnr"), 0),
            "dvars": _dvars(summary),
            "warnings": len(summary.warnings) if summary else 0,
        }
        for key in ("model_analytic", "model_simulated", "ceiling"):
            row[key] = number(test.at[subject, key]) if key in test and subject in test.index else "\u2013"
        rows.append(row)
    return rows


def _dvars(summary: SubjectSummary | None) -> str:
    if summary is None or not np.isfinite(summary.data.get("dvars_median", np.nan)):
        return "\u2013"
    return f"{number(summary.data['dvars_median'], 2)} {summary.dvars_unit}"


def _pair(data: dict[str, float], name: str, digits: int) -> str:
    pair = [number(data.get(f"{name}_{split}"), digits) for split in ("train", "test")]
    return "\u2013" if set(pair) == {"\u2013"} else " / ".join(pair)


def subject_metrics(metrics: pd.DataFrame, subject: str) -> dict:
    """Scores of one subject: predictors as rows, held-out metrics as columns, training FC correlation first."""
    rows = metrics[metrics["subject"] == subject]
    return score_table(rows) | {"subject": subject}


def electric_scores(metrics: pd.DataFrame, subject: str, modality: str) -> dict:
    """As `subject_metrics`, of EEG or MEG."""
    columns = tuple(f"{modality}_{key}" for key in ELECTRIC_SCORES)
    return score_table(metrics[metrics["subject"] == subject], columns=columns, training=f"{modality}_psd_r")


def parameter_rows(parameters: pd.DataFrame) -> list[dict]:
    """Every parameter of one subject: global ones as value and interval, regional ones as median and range."""
    out = []
    for name, part in parameters.groupby("parameter", sort=False):
        unit = next((unit_text(u) for u in part["unit"] if unit_text(u)), "")
        finite = part[np.isfinite(part["estimate"])]
        if finite.empty:
            continue
        shares = part["identified"].value_counts(normalize=True)
        if (part["region"] == "global").all():
            first = part.iloc[0]
            value, spread = (
                number(first["estimate"], 4, significant=True),
                _interval(first["lower"], first["upper"]),
            )
            identified = str(first["identified"])
            scope = "global"
        else:
            value = number(finite["estimate"].median(), 4, significant=True)
            spread = _interval(finite["estimate"].min(), finite["estimate"].max())
            identified = ", ".join(
                f"{100 * shares.get(k, 0):.0f} % {k}" for k in ("yes", "weak", "no") if shares.get(k, 0) > 0
            )
            scope = f"{part['region'].nunique()} regions"
        out.append(
            {
                "name": parameter_name(name),
                "scope": scope,
                "value": value,
                "spread": spread,
                "unit": unit,
                "identified": identified,
            }
        )
    return out


def _interval(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "\u2013"
    return f"{number(low, 4, significant=True)} to {number(high, 4, significant=True)}"


def timing_rows(benchmarks: pd.DataFrame, plan: dict | None = None) -> list[dict]:
    """Jobs, summed and longest wall time and peak memory of every rule, and what its plan said if there is one."""
    out = []
    planned = {row["rule"]: row for row in (plan or {}).get("prediction", {}).get("rows", [])}
    for rule, part in benchmarks.groupby("rule", sort=False):
        out.append(
            {
                "rule": rule,
                "jobs": len(part),
                "total": number(part["s"].sum(), 1),
                "longest": number(part["s"].max(), 1),
                "memory": number(part["max_rss"].max(), 0),
                "load": number(part["mean_load"].mean(), 0),
                "planned": number(planned[rule]["total_s"], 1) if rule in planned else "\u2013",
                "planned_memory": number(planned[rule]["memory_mb"], 0) if rule in planned else "\u2013",
            }
        )
    return out
