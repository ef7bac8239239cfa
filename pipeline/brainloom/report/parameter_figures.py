"""Figures of fitted parameters: global values, regional maps, identifiability, truth against estimate."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainloom.report.names import (
    IDENTIFIED,
    TRUTH,
    number,
    parameter_name,
    predictor_colour,
    tick_text,
    unit_text,
    with_unit,
)
from brainloom.report.style import (
    MUTED,
    SURFACE,
    legend_above,
    log_magnitude,
    log_ticks,
    new_figure,
    spreads_widely,
)
from brainloom.report.summary import drawn, finite_correlation

_COLOUR = predictor_colour("model_analytic")
# Regions of subjects that are drawn as dots at most.
_DOTS = 4000


def split_scope(parameters: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Global and regional rows of the parameter table."""
    is_global = parameters["region"] == "global"
    return parameters[is_global], parameters[~is_global]


def parameter_unit(rows: pd.DataFrame) -> str:
    """Unit of a parameter's rows, empty for dimensionless."""
    units = [unit_text(u) for u in rows["unit"].unique()]
    return next((u for u in units if u), "")


def join_truth(parameters: pd.DataFrame, truth: pd.DataFrame | None) -> pd.DataFrame:
    """Parameter rows that have a ground truth, with the column `truth`; empty without any."""
    if truth is None:
        return parameters.iloc[:0].assign(truth=np.nan)
    key = ["subject", "parameter", "region"]
    known = truth.drop_duplicates(key)[[*key, "value"]].rename(columns={"value": "truth"})
    joined = parameters.merge(known, on=key, how="inner")
    return joined[np.isfinite(joined["truth"]) & np.isfinite(joined["estimate"])]


def global_figure(parameters: pd.DataFrame, truth: pd.DataFrame | None = None):
    """Global parameters, one panel each: estimate and interval by subject, and the truth where known."""
    rows, _ = split_scope(parameters)
    rows = rows[np.isfinite(rows["estimate"])]
    if rows.empty:
        return None
    names = list(dict.fromkeys(rows["parameter"]))
    subjects = list(dict.fromkeys(rows["subject"]))
    subjects = [subjects[k] for k in drawn(len(subjects))]
    rows = rows[rows["subject"].isin(subjects)]
    columns = min(len(names), 3)
    lines = -(-len(names) // columns)
    height = float(np.clip(0.9 + 0.26 * len(subjects), 1.9, 9.0))
    figure = new_figure(9.6, height * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    position = {subject: i for i, subject in enumerate(subjects)}
    known = join_truth(rows, truth)
    for axes, name in zip(panels, names, strict=False):
        part = rows[rows["parameter"] == name]
        y = part["subject"].map(position).to_numpy()
        _intervals(axes, part, y)
        mark = known[known["parameter"] == name]
        if len(mark):
            axes.plot(
                mark["truth"],
                mark["subject"].map(position),
                "|",
                ms=13,
                mew=2,
                color=TRUTH,
                zorder=4,
                label="Truth",
            )
        axes.set_title(parameter_name(name))
        axes.set_xlabel(with_unit("Estimate", parameter_unit(part)))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if len(subjects) <= 60:
            axes.set_yticks(range(len(subjects)), subjects)
        axes.set_ylim(len(subjects) - 0.4, -0.6)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("Subject")
    return figure


def _intervals(axes, part: pd.DataFrame, y: np.ndarray) -> None:
    for kind, colour in IDENTIFIED.items():
        keep = (part["identified"] == kind).to_numpy()
        if not keep.any():
            continue
        axes.hlines(y[keep], part["lower"][keep], part["upper"][keep], color=colour, lw=2.2, zorder=2)
        axes.plot(part["estimate"][keep], y[keep], "o", ms=5.5, color=colour, mec=SURFACE, mew=0.7, zorder=3)
    other = ~part["identified"].isin(list(IDENTIFIED)).to_numpy()
    if other.any():
        axes.plot(part["estimate"][other], y[other], "o", ms=5.5, color=MUTED, zorder=3)


def regional_figure(parameters: pd.DataFrame):
    """Regional parameters as heat maps, one row a subject, one column a region in the order of the atlas."""
    _, rows = split_scope(parameters)
    rows = rows[np.isfinite(rows["estimate"])]
    if rows.empty:
        return None
    names = list(dict.fromkeys(rows["parameter"]))
    tables = {
        name: part.pivot_table(index="subject", columns="region", values="estimate", sort=False)
        for name, part in rows.groupby("parameter", sort=False)
    }
    n_subjects = max(len(t) for t in tables.values())
    height = float(np.clip(0.75 + 0.19 * n_subjects, 1.3, 6.0))
    figure = new_figure(9.6, height * len(names) + 0.2)
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        table = tables[name]
        values = table.to_numpy(dtype=float)
        image = axes.imshow(values, cmap="viridis", aspect="auto", norm=_colour_scale(values))
        axes.set_title(parameter_name(name))
        step = max(1, -(-len(table) // 30))
        axes.set_yticks(range(0, len(table), step), table.index[::step])
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, pad=0.012, fraction=0.03, extend="both")
        bar.set_label(parameter_unit(rows[rows["parameter"] == name]))
        if spreads_widely(*image.get_clim()):
            ticks = log_ticks(*image.get_clim(), most=5)
            bar.set_ticks(ticks, labels=[tick_text(tick) for tick in ticks], minor=False)
        bar.minorticks_off()
        bar.outline.set_visible(False)
    panels[-1].set_xlabel("Region, in the order of the atlas")
    return figure


def _colour_scale(values: np.ndarray):
    """From the 2nd to the 98th percentile; logarithmic in the magnitude where values of one sign spread widely."""
    from matplotlib.colors import FuncNorm, Normalize

    low, high = np.nanquantile(values, [0.02, 0.98])
    ends = {"vmin": low, "vmax": high if high > low else low + 1e-9}
    return FuncNorm(log_magnitude(low, high), **ends) if spreads_widely(low, high) else Normalize(**ends)


def identified_figure(parameters: pd.DataFrame):
    """Share of parameter values that the data determine, weakly determine, or leave to the prior."""
    rows = parameters[parameters["identified"].isin(list(IDENTIFIED))]
    if rows.empty:
        return None
    names = list(dict.fromkeys(rows["parameter"]))
    figure = new_figure(9.6, 0.95 + 0.36 * len(names))
    axes = figure.subplots()
    labels = {"yes": "Identified", "weak": "Weakly identified", "no": "Not identified"}
    left = np.zeros(len(names))
    for kind, colour in IDENTIFIED.items():
        share = (
            np.array([(rows.loc[rows["parameter"] == n, "identified"] == kind).mean() for n in names]) * 100
        )
        axes.barh(range(len(names)), share, left=left, color=colour, height=0.62, label=labels[kind])
        for row, (start, width) in enumerate(zip(left, share, strict=True)):
            if width >= 6:
                axes.text(
                    start + width / 2,
                    row,
                    f"{width:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="#ffffff" if kind == "yes" else "#111111",
                )
        left += share
    counts = rows.groupby("parameter").size()
    axes.set_yticks(range(len(names)), [f"{parameter_name(n)} ({counts[n]} values)" for n in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of values (%)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    legend_above(axes)
    return figure


def truth_figure(parameters: pd.DataFrame, truth: pd.DataFrame | None):
    """Truth against estimate, one panel a parameter: intervals of global ones as bars, the diagonal as reference.

    Global panels have equal axes; regional ones each their own, from the 1st to the 99th percentile.
    """
    joined = join_truth(parameters, truth)
    if joined.empty:
        return None
    names = list(dict.fromkeys(joined["parameter"]))
    columns = len(names) if len(names) <= 3 else 2 if len(names) == 4 else 3
    lines = -(-len(names) // columns)
    figure = new_figure(9.6 if columns > 1 else 4.8, 3.2 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        part = joined[joined["parameter"] == name]
        draw = _truth_global if (part["region"] == "global").all() else _truth_regional
        draw(axes, part)
        unit = parameter_unit(part)
        axes.set_title(parameter_name(name), pad=20)
        axes.text(
            0, 1.03, _recovery_text(part), transform=axes.transAxes, va="bottom", fontsize=9, color=MUTED
        )
        axes.set_xlabel(with_unit("Truth", unit))
        axes.set_ylabel(with_unit("Estimate", unit))
        axes.grid()
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure


def _truth_global(axes, part: pd.DataFrame) -> None:
    x, y = part["truth"].to_numpy(), part["estimate"].to_numpy()
    bars = np.isfinite(part["lower"]) & np.isfinite(part["upper"])
    every = np.concatenate([x, y, part.loc[bars, ["lower", "upper"]].to_numpy().ravel()])
    span = _widened(every.min(), every.max())
    axes.plot(span, span, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.vlines(x[bars], part["lower"][bars], part["upper"][bars], color=_COLOUR, lw=1.6, alpha=0.8, zorder=2)
    axes.scatter(x, y, s=32, color=_COLOUR, alpha=0.95, lw=0, zorder=3)
    axes.set(xlim=span, ylim=span)
    axes.locator_params(nbins=4)


def _truth_regional(axes, part: pd.DataFrame) -> None:
    part = part.iloc[:: -(-len(part) // _DOTS)]
    x, y = part["truth"].to_numpy(), part["estimate"].to_numpy()
    axes.axline((x.mean(), x.mean()), slope=1, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.scatter(x, y, s=9, color=_COLOUR, alpha=0.45, lw=0, zorder=3)
    axes.set(xlim=_widened(*np.quantile(x, [0.01, 0.99])), ylim=_widened(*np.quantile(y, [0.01, 0.99])))
    axes.locator_params(nbins=5)


def _widened(low: float, high: float) -> np.ndarray:
    room = 0.06 * max(high - low, 1e-9, 1e-3 * abs(high))
    return np.array([low - room, high + room])


def _recovery_text(part: pd.DataFrame) -> str:
    if (part["region"] == "global").all():
        if np.ptp(part["truth"]) <= 1e-9 * abs(part["truth"]).max():
            return "the same truth in all subjects"
        return f"r = {number(finite_correlation(part['truth'], part['estimate']), 2)} across subjects"
    within = recovery_within(part)
    if not len(within):
        return ""
    ends = f" ({number(within.min(), 2)} to {number(within.max(), 2)})" if len(within) > 1 else ""
    return f"r = {number(within.mean(), 2)} within subjects{ends}"


def recovery_within(part: pd.DataFrame) -> pd.Series:
    """Correlation of truth and estimate over regions, one value a subject."""
    values = {
        subject: finite_correlation(rows["truth"], rows["estimate"])
        for subject, rows in part.groupby("subject")
    }
    return pd.Series(values, dtype=float).dropna()


def recovery_table(parameters: pd.DataFrame, truth: pd.DataFrame | None) -> list[dict]:
    """Recovery of every parameter: correlations and the share of intervals that hold the truth."""
    joined = join_truth(parameters, truth)
    out = []
    for name, part in joined.groupby("parameter", sort=False):
        is_global = bool((part["region"] == "global").all())
        within = recovery_within(part)
        inside = (part["lower"] <= part["truth"]) & (part["truth"] <= part["upper"])
        known = np.isfinite(part["lower"]) & np.isfinite(part["upper"])
        out.append(
            {
                "parameter": name,
                "scope": "global" if is_global else "regional",
                "across": finite_correlation(part["truth"], part["estimate"]) if is_global else float("nan"),
                "within": float("nan") if is_global or not len(within) else float(within.mean()),
                "lowest": float("nan") if is_global or not len(within) else float(within.min()),
                "coverage": float(inside[known].mean()) if known.any() else float("nan"),
                "n": len(part),
            }
        )
    return out
