"""Figures over subjects: spectra, identification, agreement of theory and simulation, sloppiness.

Every function returns a matplotlib figure, or None where the data hold nothing to draw.
"""

from __future__ import annotations

import numpy as np

from brainloom.analysis.subject_scores import MIN_AGREEMENT
from brainloom.report.names import (
    EMPIRICAL,
    predictor_colour,
    predictor_name,
)
from brainloom.report.style import BAND, MUTED, legend_above, log_axis, new_figure
from brainloom.report.summary import (
    MAX_DRAWN,
    SubjectSummary,
    drawn,
)

#: Fisher information (1/log unit^2) below which a direction counts as an exact freedom.
_NO_INFORMATION = 1e-7


def spectra_figure(summaries: list[SubjectSummary], *, band=None, mode_band=None):
    """Mean spectra over regions and subjects, with the range over subjects: recorded, analytic, simulated."""
    lines = [
        ("empirical", "Recorded (held out)", EMPIRICAL),
        ("analytic", predictor_name("model_analytic"), predictor_colour("model_analytic")),
        ("simulated", predictor_name("model_simulated"), predictor_colour("model_simulated")),
    ]
    grids = [s.spectra["frequency"] for s in summaries if "frequency" in s.spectra]
    if not grids:
        return None
    frequency = grids[0]
    figure = new_figure(9.6, 3.6)
    axes = figure.subplots()
    drawn = False
    for key, label, colour in lines:
        # Subjects with another repetition time have another frequency grid: put them on the first one.
        rows = np.array(
            [
                _on_grid(frequency, s.spectra["frequency"], s.spectra[key])
                for s in summaries
                if key in s.spectra and "frequency" in s.spectra
            ]
        )
        rows = rows[np.isfinite(rows).any(axis=1)] if rows.size else rows
        if not rows.size:
            continue
        drawn = True
        keep = plotted(frequency) & np.isfinite(rows).any(axis=0)
        positive = np.where(rows > 0, rows, np.nan)[:, keep]
        axes.plot(frequency[keep], np.nanmean(positive, axis=0), color=colour, lw=1.8, label=label, zorder=3)
        if len(rows) > 1:
            axes.fill_between(
                frequency[keep],
                np.nanmin(positive, axis=0),
                np.nanmax(positive, axis=0),
                color=colour,
                alpha=0.13,
                lw=0,
                zorder=2,
            )
    if not drawn:
        return None
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.set(xlabel="Frequency (Hz)", ylabel="Power density (1/Hz)")
    mark_bands(axes, band, mode_band)
    axes.grid(which="major")
    legend_above(axes, columns=3)
    return figure


def plotted(frequency: np.ndarray) -> np.ndarray:
    """Frequencies shown: not 0 (log axis), not the last, where one-sided spectra have half their density."""
    return (frequency > 0) & (frequency < frequency.max())


def _on_grid(frequency, own, values) -> np.ndarray:
    if own.shape == frequency.shape and np.allclose(own, frequency):
        return values
    return np.interp(frequency, own, values, left=np.nan, right=np.nan)


def mark_bands(axes, band, mode_band) -> None:
    """Shade the analysis band and mark the range of the model's own frequencies on a frequency axis."""
    if band:
        axes.axvspan(
            *band, color=BAND, lw=0, zorder=0, label=f"Analysis band {band[0]:g}\u2013{band[1]:g} Hz"
        )
    if mode_band:
        axes.plot(
            mode_band,
            [0.985, 0.985],
            transform=axes.get_xaxis_transform(),
            color=MUTED,
            lw=3,
            solid_capstyle="butt",
            label=f"Model frequencies {mode_band[0]:g}\u2013{mode_band[1]:g} Hz",
        )


def identification_figure(matrix: np.ndarray, labels: list[str]):
    """Heat map of predictions (rows) against held-out FCs (columns); a frame marks the best prediction of a column.

    Parameters
    ----------
    matrix : (subject, subject_to) array
        Correlations, from the variable `fingerprint` of the group dataset.
    labels : list of str
    """
    n = len(labels)
    if n < 2:
        return None
    size = float(np.clip(1.4 + 0.52 * n, 3.8, 7.2))
    figure = new_figure(size + 1.3, size)
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="viridis", aspect="equal")
    if n <= 14:
        low, high = np.nanmin(matrix), np.nanmax(matrix)
        for i, j in np.ndindex(n, n):
            dark = matrix[i, j] < low + 0.6 * (high - low)
            axes.text(
                j,
                i,
                f"{matrix[i, j]:.2f}",
                ha="center",
                va="center",
                fontsize=8.5,
                color="#ffffff" if dark else "#111111",
            )
    if n <= 40:
        axes.set_xticks(range(n), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
        axes.set_yticks(range(n), labels)
        for j in range(n):
            if not np.isfinite(matrix[:, j]).any():
                continue
            i = int(np.nanargmax(matrix[:, j]))
            axes.add_patch(_square(j, i, "#111111", 3.6))
            axes.add_patch(_square(j, i, "#ffffff" if i == j else "#ff7a1a", 1.8))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Held-out FC of subject")
    axes.set_ylabel("Model of subject")
    bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.03)
    bar.set_label("FC correlation r")
    bar.outline.set_visible(False)
    return figure


def _square(x, y, colour, width):
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, ec=colour, lw=width)


def agreement_figure(summaries: list[SubjectSummary]):
    """Correlation of analytic and mean simulated FC, one dot a subject, one row a noise level."""
    levels = sorted({level for s in summaries for level in s.agreement})
    levels = [k for k in levels if any(np.isfinite(s.agreement.get(k, np.nan)) for s in summaries)]
    if not levels:
        return None
    figure = new_figure(9.6, 1.15 + 0.5 * len(levels))
    axes = figure.subplots()
    axes.axvline(MIN_AGREEMENT, color=MUTED, lw=1, ls=(0, (4, 3)), label=f"Warning below {MIN_AGREEMENT:g}")
    colour = predictor_colour("model_simulated")
    for row, level in enumerate(levels):
        pairs = [
            (s.agreement[level], s.subject) for s in summaries if np.isfinite(s.agreement.get(level, np.nan))
        ]
        if len(pairs) > MAX_DRAWN:  # those that disagree are all drawn
            some = set(drawn(len(pairs)).tolist())
            pairs = [p for k, p in enumerate(pairs) if k in some or p[0] < MIN_AGREEMENT]
        x = np.array([p[0] for p in pairs])
        low = x < MIN_AGREEMENT
        axes.scatter(x[~low], np.full((~low).sum(), row), s=34, color=colour, alpha=0.75, lw=0, zorder=3)
        axes.scatter(x[low], np.full(low.sum(), row), s=40, color="#c0392b", marker="X", lw=0, zorder=4)
        for value, subject in pairs:
            if value < MIN_AGREEMENT and low.sum() <= 4:
                axes.annotate(
                    subject,
                    (value, row),
                    xytext=(0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=MUTED,
                )
    axes.set_yticks(
        range(len(levels)), [f"Noise level {k:g}" + (" (scored)" if k == levels[0] else "") for k in levels]
    )
    axes.set_ylim(len(levels) - 0.4, -0.6)
    axes.set_xlabel("Correlation of analytic FC and mean simulated FC")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    legend_above(axes)
    return figure


def eigenvalue_figure(summaries: list[SubjectSummary], *, prior_sd: float | None = None):
    """Fisher information along its principal directions, stiff to sloppy, one line a subject.

    With `prior_sd` (log units) a line marks where data and prior say equally much.
    """
    spectra = [s.eigenvalues for s in summaries if s.eigenvalues is not None and s.eigenvalues.size]
    if not spectra:
        return None
    spectra = [spectra[k] for k in drawn(len(spectra))]
    figure = new_figure(9.6, 3.3)
    axes = figure.subplots()
    colour = predictor_colour("model_analytic")
    alpha = float(np.clip(4 / len(spectra), 0.12, 0.7))
    for values in spectra:
        axes.plot(
            np.arange(1, values.size + 1),
            np.where(values > 0, values, np.nan),
            color=colour,
            lw=1.3,
            alpha=alpha,
        )
    log_axis(axes.yaxis)
    axes.set_xlabel("Direction in log-parameter space, stiff to sloppy")
    axes.set_ylabel("Fisher information (1/log unit²)")
    if prior_sd:
        axes.axhline(prior_sd**-2, color=MUTED, lw=1, ls=(0, (4, 3)), label="As much as the prior")
        legend_above(axes)
    axes.set_xlim(1, max(max(v.size for v in spectra), 2))
    # Exact freedoms have zero information, which arithmetic turns into anything below this.
    axes.set_ylim(bottom=max(axes.get_ylim()[0], _NO_INFORMATION))
    axes.grid(axis="y")
    return figure
