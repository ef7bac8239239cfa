"""Figures of one subject: FC, FCD, spectra, convergence, regional maps with intervals."""

from __future__ import annotations

import numpy as np

from brainloom.report.cohort_figures import mark_bands, plotted
from brainloom.report.names import (
    EMPIRICAL,
    IDENTIFIED,
    number,
    parameter_name,
    predictor_colour,
    predictor_name,
    tick_text,
    with_unit,
)
from brainloom.report.style import (
    MUTED,
    SURFACE,
    diverging_map,
    log_axis,
    log_magnitude,
    log_ticks,
    new_figure,
    spreads_widely,
)
from brainloom.report.summary import final_losses, finite_correlation, upper_triangle

_ANALYTIC = predictor_colour("model_analytic")
_SIMULATED = predictor_colour("model_simulated")


def region_order(connectome, n_regions: int) -> tuple[np.ndarray, int]:
    """Order of regions for matrices: left, then right, then the rest; and the number of left ones.

    Mirror regions then lie on a line parallel to the diagonal, which shows homotopic connections.
    """
    if connectome is None or "hemisphere" not in connectome.coords:
        return np.arange(n_regions), 0
    side = np.array([str(h) for h in connectome["hemisphere"].values])
    if side.size != n_regions or not ({"L", "R"} <= set(side)):
        return np.arange(n_regions), 0
    rank = np.where(side == "L", 0, np.where(side == "R", 1, 2))
    return np.argsort(rank, kind="stable"), int((rank == 0).sum())


def fc_figure(signal, fit, simulation, connectome):
    """FC on one colour scale: recorded training and held-out FC, analytic and mean simulated model FC."""
    panels = []
    if signal is not None and "fc" in signal:
        for split, title in (("train", "Recorded, training"), ("test", "Recorded, held out")):
            if split in signal["split"].values:
                panels.append((title, signal["fc"].sel(split=split).values))
    if fit is not None and "fc_model" in fit:
        panels.append((predictor_name("model_analytic"), fit["fc_model"].sel(predictor="model").values))
    if simulation is not None and "fc_mean" in simulation:
        level = float(simulation["noise_level"].values.min())
        panels.append(
            (predictor_name("model_simulated"), simulation["fc_mean"].sel(noise_level=level).values)
        )
    panels = [(title, np.asarray(fc, dtype=float)) for title, fc in panels if np.isfinite(fc).any()]
    if not panels:
        return None
    order, left = region_order(connectome, panels[0][1].shape[0])
    target = next((fc for title, fc in panels if title == "Recorded, held out"), None)
    figure = new_figure(9.6, 2.95)
    axes_row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, fc) in zip(axes_row, panels, strict=True):
        image = axes.imshow(fc[np.ix_(order, order)], cmap=diverging_map(), vmin=-1, vmax=1)
        axes.set_title(title, fontsize=9.5)
        _hemisphere_ticks(axes, left, len(order))
        if target is not None and fc is not target:
            r = finite_correlation(upper_triangle(fc), upper_triangle(target))
            axes.set_xlabel(f"r with held out = {number(r)}", fontsize=9)
    bar = figure.colorbar(image, ax=axes_row, shrink=0.72, pad=0.012, aspect=18, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.set_label("FC (Pearson r)")
    bar.outline.set_visible(False)
    return figure


def _hemisphere_ticks(axes, left: int, n: int) -> None:
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if 0 < left < n:
        for line in (axes.axhline, axes.axvline):
            line(left - 0.5, color="#20262e", lw=0.5)
        places = [left / 2 - 0.5, left + (n - left) / 2 - 0.5]
        axes.set_xticks(places, ["L", "R"])
        axes.set_yticks(places, ["L", "R"])
        axes.xaxis.set_ticks_position("bottom")
    else:
        axes.set_xticks([])
        axes.set_yticks([])


def fcd_figure(signal, simulation):
    """FCD matrices on one scale, and the distributions of their non-overlapping window pairs."""
    panels, times = [], 1.0
    gap = 1
    if signal is not None and "fcd" in signal:
        step = float(signal.attrs.get("fcd_step_frames", 1))
        times = step * float(signal.attrs.get("repetition_time", 1.0))
        gap = int(np.ceil(float(signal.attrs.get("fcd_window_frames", step)) / step))
        for split, title, colour, style in (
            ("train", "Recorded, training", EMPIRICAL, ":"),
            ("test", "Recorded, held out", EMPIRICAL, "-"),
        ):
            if split in signal["split"].values:
                panels.append((title, signal["fcd"].sel(split=split).values, colour, style))
    if simulation is not None and "fcd" in simulation and simulation.sizes.get("seed", 0):
        panels.append(("Simulated", simulation["fcd"].values, _SIMULATED, "-"))
    drawn = []
    for title, fcd, colour, style in panels:
        stack = np.asarray(fcd, dtype=float)
        stack = stack[None] if stack.ndim == 2 else stack
        stack = stack[np.isfinite(stack).any(axis=(1, 2))]
        if len(stack):
            drawn.append((title, stack, colour, style))
    if not drawn:
        return None
    figure = new_figure(9.6, 2.75)
    row = figure.subplots(1, len(drawn) + 1, squeeze=False, width_ratios=[1] * len(drawn) + [1.25])[0]
    for axes, (title, stack, _, _) in zip(row, drawn, strict=False):
        keep = np.isfinite(stack[0]).any(axis=0)
        matrix = stack[0][np.ix_(keep, keep)]
        extent = np.array([0, len(matrix), len(matrix), 0]) * times
        image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1, extent=extent)
        axes.set_title(title, fontsize=9.5)
        axes.set_xlabel("Window start (s)")
        axes.tick_params(length=2)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=list(row[:-1]), shrink=0.75, pad=0.015, aspect=18, extend="min")
    bar.set_label("FCD (r of FC)")
    bar.outline.set_visible(False)
    axes = row[-1]
    for title, stack, colour, style in drawn:
        i, j = np.triu_indices(stack.shape[-1], max(gap, 1))
        values = stack[:, i, j].ravel()
        values = np.sort(values[np.isfinite(values)])
        if values.size:
            pick = np.linspace(0, values.size - 1, min(values.size, 200)).astype(int)
            axes.plot(
                values[pick],
                (pick + 1) / values.size,
                color=colour,
                ls=style,
                lw=1.6,
                label=title.split(", ")[-1].capitalize(),
            )
    axes.set(xlabel="FCD value", ylabel="Cumulative share", ylim=(0, 1))
    axes.legend(fontsize=7.5, loc="lower right", handlelength=1.4, borderpad=0.1)
    axes.grid()
    return figure


def spectra_figure(signal, fit, simulation, *, band=None, mode_band=None):
    """Power spectra: mean over regions as lines, the middle 80 % of regions as shade, log-log."""
    curves = []
    if signal is not None and "psd" in signal and "test" in signal["split"].values:
        curves.append(
            ("Recorded (held out)", signal["frequency"].values, signal["psd"].sel(split="test"), EMPIRICAL)
        )
    if fit is not None and "psd_model" in fit:
        curves.append(
            (
                predictor_name("model_analytic"),
                fit["frequency"].values,
                fit["psd_model"].sel(predictor="model"),
                _ANALYTIC,
            )
        )
    if simulation is not None and "psd" in simulation:
        curves.append(
            (
                predictor_name("model_simulated"),
                simulation["frequency"].values,
                simulation["psd"].mean("seed", skipna=True),
                _SIMULATED,
            )
        )
    curves = [(n, f, p.transpose("region", "frequency").values.astype(float), c) for n, f, p, c in curves]
    curves = [c for c in curves if np.isfinite(c[2]).any()]
    if not curves:
        return None
    figure = new_figure(4.7, 3.3)
    axes = figure.subplots()
    for name, frequency, psd, colour in curves:
        keep = plotted(frequency) & np.isfinite(psd).any(axis=0)
        positive = np.where(psd > 0, psd, np.nan)[:, keep]
        axes.plot(frequency[keep], np.nanmean(positive, axis=0), color=colour, lw=1.7, label=name, zorder=3)
        low, high = np.nanquantile(positive, [0.1, 0.9], axis=0)
        axes.fill_between(frequency[keep], low, high, color=colour, alpha=0.13, lw=0, zorder=2)
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.set(xlabel="Frequency (Hz)", ylabel="Power density (1/Hz)")
    axes.grid(which="major")
    mark_bands(axes, band, mode_band)
    axes.legend(fontsize=7.5, loc="lower left", borderpad=0.1)
    return figure


def convergence_figure(fit):
    """Loss of all starts of the model against the step, the chosen start on top; end points as dots."""
    if fit is None or "loss" not in fit:
        return None
    model = fit.sel(predictor="model")
    loss = model["loss"].transpose("start", "step").values.astype(float)
    if not np.isfinite(loss).any():
        return None
    best = int(model["best_start"])
    figure = new_figure(4.7, 3.3)
    axes = figure.subplots()
    ends = final_losses(model)
    for start in [s for s in range(len(loss)) if s != best] + [best]:
        keep = np.isfinite(loss[start])
        steps = np.flatnonzero(keep)
        colour, width = (_ANALYTIC, 2.0) if start == best else ("#9aa4b0", 1.2)
        label = (
            f"Start {start + 1}, chosen"
            if start == best
            else ("Other starts" if start == (best == 0) else None)
        )
        axes.plot(steps, loss[start][keep], color=colour, lw=width, label=label)
        if steps.size:
            axes.plot(steps[-1], ends[start], "o", ms=5, color=colour, mec=SURFACE, mew=0.6)
    if np.nanmin(loss) > 0:
        log_axis(axes.yaxis)
        ticks = log_ticks(np.nanmin(loss), np.nanmax(loss))
        axes.set_yticks(ticks, [tick_text(tick) for tick in ticks])
    axes.set(xlabel="Optimiser step", ylabel="Training loss")
    axes.grid(which="major")
    axes.legend(loc="upper right")
    return figure


def profile_figure(parameters):
    """Regional parameters of one subject, regions sorted by estimate, with intervals and identifiability."""
    rows = parameters[(parameters["region"] != "global") & np.isfinite(parameters["estimate"])]
    if rows.empty:
        return None
    names = list(dict.fromkeys(rows["parameter"]))
    columns = 2 if len(names) > 1 else 1
    lines = -(-len(names) // columns)
    figure = new_figure(9.6, 2.35 * lines + 0.2)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        part = rows[rows["parameter"] == name].sort_values(["estimate", "region"])
        x = np.arange(1, len(part) + 1)
        for kind, colour in (*IDENTIFIED.items(), (None, MUTED)):
            keep = (
                (part["identified"] == kind).to_numpy()
                if kind
                else ~part["identified"].isin(list(IDENTIFIED)).to_numpy()
            )
            if not keep.any():
                continue
            axes.vlines(x[keep], part["lower"][keep], part["upper"][keep], color=colour, lw=1.5, alpha=0.55)
            axes.plot(x[keep], part["estimate"][keep], "o", ms=3.4, color=colour, mec="none")
        axes.set_title(parameter_name(name))
        axes.set_ylabel(with_unit("Estimate", part["unit"].iloc[0]))
        axes.grid(axis="y")
        axes.margins(x=0.02)
        _limit_to_estimates(axes, part)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel("Region, sorted by estimate")
    return figure


def _limit_to_estimates(axes, part) -> None:
    """Limits that follow the estimates: a few very wide intervals would flatten the map.

    Logarithmic in the magnitude where estimates of one sign spread widely.
    """
    estimate = part["estimate"].to_numpy()
    ends = (float(estimate.min()), float(estimate.max()))
    wide = spreads_widely(*ends)
    forward, inverse = log_magnitude(*ends) if wide else (np.asarray, np.asarray)
    low, high = (float(forward(end)) for end in ends)
    room = 0.7 * max(high - low, 1e-12)
    lowest = forward(part["lower"].fillna(ends[0]).min())
    highest = forward(part["upper"].fillna(ends[1]).max())
    bottom, top = max(low - room, float(lowest)), min(high + room, float(highest))
    limits = inverse(np.array([bottom - 0.06 * room, top + 0.06 * room]))
    if wide:
        axes.set_yscale("function", functions=(forward, inverse))
        ticks = log_ticks(*limits, most=6)
        axes.set_yticks(ticks, [tick_text(tick) for tick in ticks])
    axes.set_ylim(limits)
