"""Figures of EEG and MEG: spectra of data, model and simulation, envelope connectivity, and a look at the lead field."""

from __future__ import annotations

import numpy as np

from brainloom.core.modalities import ELECTRIC
from brainloom.report.names import EMPIRICAL, number, predictor_colour, predictor_name
from brainloom.report.style import MUTED, SURFACE, diverging_map, legend_above, log_axis, new_figure
from brainloom.report.summary import SubjectSummary, finite_correlation, upper_triangle

#: Lines of every figure of spectra: key, label, colour, style.
LINES = (
    ("train", "Recorded (training)", EMPIRICAL, ":"),
    ("test", "Recorded (held out)", EMPIRICAL, "-"),
    ("analytic", predictor_name("model_analytic"), predictor_colour("model_analytic"), "-"),
    ("simulated", predictor_name("model_simulated"), predictor_colour("model_simulated"), "-"),
)
#: Channels that a subject's page shows one by one.
N_CHANNELS = 3


def meeg_spectra(name: str, signal, fit, simulation) -> dict[str, np.ndarray]:
    """Spectra of one modality of one subject: `frequency` (frequency,), the others (channel, frequency)."""
    if signal is None or f"{name}_psd" not in signal:
        return {}
    found = {"frequency": signal[f"{name}_frequency"].values}
    for split in ("train", "test"):
        found[split] = signal[f"{name}_psd"].sel(split=split).values
    if fit is not None and f"{name}_psd_model" in fit:
        found["analytic"] = fit[f"{name}_psd_model"].sel(predictor="model").values
    if simulation is not None and f"{name}_psd" in simulation:
        psd = simulation[f"{name}_psd"].values
        keep = np.isfinite(psd).all(axis=(1, 2))
        if keep.any():
            found["simulated"] = psd[keep].mean(axis=0)
    return {key: np.asarray(value, dtype=float) for key, value in found.items()}


def summarise_electric(out: SubjectSummary, datasets: dict) -> None:
    """Add the spectra of EEG and MEG to the summary of a subject; failed datasets are passed over."""
    good = {kind: ds for kind, ds in datasets.items() if ds.attrs.get("status", "ok") == "ok"}
    signal, fit = good.get("signal"), good.get("fit")
    for name in ELECTRIC:
        if signal is None or f"{name}_psd" not in signal:
            continue
        out.electric[name] = meeg_spectra(name, signal, fit, good.get("simulation"))
        out.electric_units[name] = str(signal.attrs[f"{name}_unit"])
        out.data[f"{name}_sensors"] = signal.sizes[f"{name}_sensor"]
        out.data[f"{name}_sampling_frequency"] = float(signal.attrs[f"{name}_sampling_frequency"])
        for split in ("train", "test"):
            out.data[f"{name}_duration_{split}"] = float(signal[f"{name}_duration"].sel(split=split))


def _decorate(axes, unit: str, *, ylabel: bool = True) -> None:
    log_axis(axes.yaxis)
    axes.set_xlabel("Frequency (Hz)")
    if ylabel:
        axes.set_ylabel(f"Power density ({unit}²/Hz)")
    axes.grid(which="major")


def cohort_spectra_figure(summaries: list[SubjectSummary], name: str, unit: str):
    """Geometric mean over channels and subjects, with the range over subjects: data, model, simulation."""
    figure = new_figure(9.6, 3.6)
    axes = figure.subplots()
    drawn = False
    every = [s.electric[name] for s in summaries if name in s.electric]
    for key, label, colour, style in LINES:
        rows = [
            _on_grid(every[0]["frequency"], one["frequency"], over_channels(one[key]))
            for one in every
            if key in one
        ]
        if not rows:
            continue
        drawn, stack = True, np.array(rows)
        frequency = every[0]["frequency"]
        axes.plot(
            frequency, np.exp(np.nanmean(np.log(stack), axis=0)), color=colour, ls=style, lw=1.8, label=label
        )
        if len(rows) > 1 and style == "-":
            axes.fill_between(
                frequency, np.nanmin(stack, axis=0), np.nanmax(stack, axis=0), color=colour, alpha=0.13, lw=0
            )
    if not drawn:
        return None
    _decorate(axes, unit)
    legend_above(axes, columns=4)
    return figure


def over_channels(psd: np.ndarray) -> np.ndarray:
    """Geometric mean over channels of (channel, frequency) spectra; channels of other gain count alike."""
    return np.exp(np.mean(np.log(np.maximum(psd, np.finfo(float).tiny)), axis=0))


def _on_grid(frequency: np.ndarray, own: np.ndarray, values: np.ndarray) -> np.ndarray:
    if own.shape == frequency.shape and np.allclose(own, frequency):
        return values
    return np.interp(frequency, own, values, left=np.nan, right=np.nan)


def subject_spectra_figure(name: str, signal, fit, simulation):
    """Spectra of one subject: mean over channels, and of the channels with most power."""
    spectra = meeg_spectra(name, signal, fit, simulation)
    if not spectra:
        return None
    labels = [str(label) for label in signal[f"{name}_sensor"].values]
    strongest = np.argsort(-spectra["test"].sum(axis=1), kind="stable")[:N_CHANNELS]
    figure = new_figure(9.6, 2.9)
    row = figure.subplots(1, 1 + len(strongest), sharex=True, squeeze=False)[0]
    for axes, channel in zip(row, [None, *strongest], strict=True):
        for key, label, colour, style in LINES:
            if key in spectra:
                psd = over_channels(spectra[key]) if channel is None else spectra[key][channel]
                axes.plot(spectra["frequency"], psd, color=colour, ls=style, lw=1.5, label=label)
        axes.set_title("Mean over channels" if channel is None else labels[channel])
        _decorate(axes, str(signal.attrs[f"{name}_unit"]), ylabel=axes is row[0])
    handles, texts = row[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper left", ncols=4, fontsize=8.5, borderpad=0.1)
    return figure


def envelope_figure(name: str, signal, simulation):
    """Envelope connectivity on one colour scale: recorded training and held-out part, mean of the simulations."""
    if signal is None or f"{name}_envelope_fc" not in signal or signal.sizes[f"{name}_sensor"] < 3:
        return None
    matrices = signal[f"{name}_envelope_fc"]
    panels = [
        ("Recorded, training", matrices.sel(split="train").values),
        ("Recorded, held out", matrices.sel(split="test").values),
    ]
    if simulation is not None and f"{name}_envelope_fc" in simulation:
        found = simulation[f"{name}_envelope_fc"].values
        keep = np.isfinite(found).all(axis=(1, 2))
        if keep.any():
            panels.append((predictor_name("model_simulated"), found[keep].mean(axis=0)))
    target = panels[1][1]
    off = np.abs(np.concatenate([upper_triangle(matrix) for _, matrix in panels]))
    limit = max(float(np.quantile(off, 0.98)), 1e-3)
    figure = new_figure(2.6 * len(panels) + 1.0, 2.9)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, matrix) in zip(row, panels, strict=True):
        shown = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
        image = axes.imshow(shown, cmap=diverging_map(), vmin=-limit, vmax=limit)
        axes.set_title(title, fontsize=9.5)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        if matrix is not target:
            r = finite_correlation(upper_triangle(matrix), upper_triangle(target))
            axes.set_xlabel(f"r with held out = {number(r)}", fontsize=9)
    bar = figure.colorbar(image, ax=row, shrink=0.75, pad=0.015, aspect=18, extend="both")
    bar.set_label("Envelope correlation r")
    bar.outline.set_visible(False)
    return figure


def lead_field_figure(name: str, signal):
    """The lead field as a matrix, and as maps of the regions farthest left and right, where sensor positions are known."""
    if signal is None or f"{name}_lead_field" not in signal:
        return None
    field = signal[f"{name}_lead_field"].values
    unit = str(signal[f"{name}_lead_field"].attrs.get("units", "")).replace("*", " ")
    position = signal[f"{name}_position"].values if f"{name}_position" in signal else None
    sides = _outermost(field, position)
    limit = float(np.abs(field).max()) or 1.0
    options = {"cmap": diverging_map(), "vmin": -limit, "vmax": limit}
    figure = new_figure(9.6, 2.9)
    row = figure.subplots(1, 1 + len(sides), squeeze=False, width_ratios=[1.7] + [1.0] * len(sides))[0]
    image = row[0].imshow(field, aspect="auto", **options)
    row[0].set(xlabel="Region", ylabel="Sensor")
    row[0].set_title("Lead field")
    sensors = [str(label) for label in signal[f"{name}_sensor"].values]
    if len(sensors) <= 24:
        row[0].set_yticks(range(len(sensors)), sensors, fontsize=7)
    row[0].spines[:].set_visible(False)
    x, y = np.empty((2, 0)) if position is None else _flat(position).T
    for axes, region in zip(row[1:], sides, strict=True):
        axes.scatter(x, y, c=field[:, region], s=70, edgecolors=MUTED, linewidths=0.5, **options)
        axes.set_title(str(signal["region"].values[region]), fontsize=9.5)
        axes.set_aspect("equal")
        axes.margins(0.15)
        axes.set_facecolor(SURFACE)
        axes.set(xlabel="left to right", ylabel="back to front", xticks=[], yticks=[])
    bar = figure.colorbar(image, ax=row, shrink=0.8, pad=0.015, aspect=20)
    bar.set_label(unit)
    bar.outline.set_visible(False)
    return figure


def _outermost(field: np.ndarray, position: np.ndarray | None) -> list[int]:
    """Regions whose field is centred farthest left and right, judged by the sensors that see them best."""
    if position is None or not np.isfinite(position).all():
        return []
    weight = field**2
    with np.errstate(invalid="ignore", divide="ignore"):
        side = (weight * position[:, :1]).sum(axis=0) / weight.sum(axis=0)
    side = np.where(np.isfinite(side), side, 0.0)
    left, right = int(np.argmin(side)), int(np.argmax(side))
    return [left, right] if left != right else [left]


def _flat(position: np.ndarray) -> np.ndarray:
    """Sensors seen from above: angle kept, distance from the top along the sphere (azimuthal projection)."""
    centred = position - np.array([0.0, 0.0, position[:, 2].min()])
    length = np.maximum(np.linalg.norm(centred, axis=1), 1e-9)
    polar = np.arccos(np.clip(centred[:, 2] / length, -1.0, 1.0))
    around = np.arctan2(centred[:, 1], centred[:, 0])
    return np.stack([polar * np.cos(around), polar * np.sin(around)], axis=1)
