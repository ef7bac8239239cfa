"""Scores of all subjects: every predictor beside ceiling and controls, and differences to the model.

A predictor far from the others (the bare connectome, as a rule) would squeeze them into a corner: it is then named at
the edge of the panel with its mean instead of being drawn.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainloom.report.names import (
    SPLITS,
    metric_label,
    number,
    predictor_colour,
    predictor_name,
    predictor_order,
    signed,
)
from brainloom.report.style import BAND, GRID, INK, MUTED, SURFACE, new_figure
from brainloom.report.summary import MAX_DRAWN, bootstrap_interval, compare, drawn, scores

#: A predictor that would stretch the axis by more than this factor is not drawn to scale.
_STRETCH = 1.6


def score_figure(metrics: pd.DataFrame, *, metric: str, splits: tuple[str, ...] = ("train", "test")):
    """Every subject's score under every predictor: dots joined by subject, mean and 95 % bootstrap interval.

    The band is the interval of the ceiling's mean on that split. One panel a split, predictors as rows.
    """
    tables = {split: scores(metrics, metric=metric, split=split) for split in splits}
    # The training FC predicts itself perfectly: that point carries nothing and would stretch the axis.
    if "train" in tables and "ceiling" in tables["train"]:
        tables["train"] = tables["train"].drop(columns="ceiling")
    tables = {split: table for split, table in tables.items() if table.shape[1]}
    if not tables:
        return None
    rows = predictor_order(set().union(*(table.columns for table in tables.values())))
    far = far_predictors(pd.concat(list(tables.values())))
    figure = new_figure(9.6, 0.75 + 0.36 * len(rows))
    panels = figure.subplots(1, len(tables), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (split, table) in zip(panels, tables.items(), strict=True):
        if "ceiling" in table:
            mean = float(table["ceiling"].mean())
            low, high = bootstrap_interval(table["ceiling"])
            if np.isfinite(low):
                axes.axvspan(low, high, color=BAND, lw=0)
            axes.axvline(mean, color=MUTED, lw=0.9, ls=(0, (4, 3)))
        near = [p for p in rows if p not in far]
        values = table.reindex(columns=near).to_numpy(dtype=float)
        for line in values if len(values) <= MAX_DRAWN else ():
            keep = np.isfinite(line)
            axes.plot(
                line[keep], [rows.index(near[k]) for k in np.flatnonzero(keep)], color=GRID, lw=0.9, zorder=1
            )
        for row, predictor in enumerate(rows):
            if predictor not in table:
                continue
            if predictor in far:
                _mark_far(axes, row, float(table[predictor].mean()), far[predictor], predictor)
            else:
                x = table[predictor].dropna().to_numpy()
                _draw_row(axes, row, x, bootstrap_interval(x), predictor)
        axes.set_title(SPLITS.get(split, split))
        axes.set_xlabel(metric_label(metric))
    _finish(panels, rows)
    return figure


def difference_figure(
    metrics: pd.DataFrame, *, metric: str = "fc_r", reference: str = "model_analytic", seed: int = 0
):
    """Held-out score of the model minus that of every other predictor, paired by subject.

    Mean, interval and p as in the group dataset for the same seed.
    """
    table = scores(metrics, metric=metric, split="test")
    if reference not in table:
        return None
    differences = pd.DataFrame({p: table[reference] - table[p] for p in table.columns if p != reference})
    differences = differences.dropna(axis=1, how="all")
    if differences.empty:
        return None
    rows = predictor_order(differences.columns)
    far = far_predictors(differences)
    figure = new_figure(9.6, 0.95 + 0.34 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=MUTED, lw=1)
    for row, predictor in enumerate(rows):
        difference = differences[predictor].dropna().to_numpy()
        found = compare(table[reference], table[predictor], seed=seed)
        if predictor in far:
            _mark_far(axes, row, float(difference.mean()), far[predictor], predictor, show_value=False)
        else:
            interval = (found.lower, found.upper) if found else (np.nan, np.nan)
            _draw_row(axes, row, difference, interval, predictor)
        better = f"{(difference > 0).sum()} of {difference.size}"
        texts = (signed(difference.mean()), better, number(found.p_value) if found else "")
        _margin_text(axes, row, texts, INK)
    _margin_text(axes, -0.8, ("mean", "better in", "p"), MUTED)
    axes.set_xlabel(f"Held-out {metric_label(metric)}: {predictor_name(reference)} minus the other")
    _finish([axes], rows)
    return figure


def far_predictors(table: pd.DataFrame) -> dict[str, int]:
    """Predictors that lie far from all others: name -> side, -1 below and 1 above.

    Only one that needs no fit (`structural`) can be far: models and controls are always drawn to scale.
    """
    if "structural" not in table or table.shape[1] < 3:
        return {}
    others = table.drop(columns="structural").to_numpy(dtype=float)
    low, high = np.nanmin(others), np.nanmax(others)
    own = table["structural"].dropna()
    if own.empty or not np.isfinite([low, high]).all():
        return {}
    reach = (_STRETCH - 1) * max(high - low, 1e-9)
    if own.max() < low and own.min() < low - reach:
        return {"structural": -1}
    return {"structural": 1} if own.min() > high and own.max() > high + reach else {}


def _draw_row(axes, row: int, x: np.ndarray, interval: tuple[float, float], predictor: str) -> None:
    if not x.size:
        return
    colour = predictor_colour(predictor)
    strength = float(np.clip(6 / x.size, 0.15, 0.6))
    shown = x[drawn(x.size)]
    axes.scatter(shown, np.full(shown.size, row), s=20, color=colour, alpha=strength, lw=0, zorder=2)
    if np.isfinite(interval).all():
        axes.plot(interval, [row, row], color=colour, lw=2.4, zorder=3)
    axes.plot(x.mean(), row, "D", ms=6.5, color=colour, mec=SURFACE, mew=0.9, zorder=4)


def _mark_far(axes, row: int, mean: float, side: int, predictor: str, *, show_value: bool = True) -> None:
    arrow = "\u25c0" if side < 0 else "\u25b6"
    value = f" {number(mean)}" if show_value else ""
    axes.annotate(
        f"{arrow}{value}" if side < 0 else f"{value} {arrow}",
        (0 if side < 0 else 1, row),
        (4 * -side, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="left" if side < 0 else "right",
        va="center",
        fontsize=8.5,
        color=predictor_colour(predictor),
    )


def _finish(panels, rows: list[str]) -> None:
    for axes in panels:
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.locator_params(axis="x", nbins=6 if len(panels) > 1 else 9)
    panels[0].set_yticks(range(len(rows)), [predictor_name(p) for p in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)


def _margin_text(axes, row: float, texts: tuple[str, str, str], colour: str) -> None:
    for place, text in zip((52, 104, 146), texts, strict=True):
        axes.annotate(
            text,
            (1, row),
            (place, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            ha="right",
            fontsize=9,
            color=colour,
        )
