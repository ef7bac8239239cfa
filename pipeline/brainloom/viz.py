"""
Plots of signals, matrices, spectra and fits.

Every function draws on `ax`, or on axes of its own in a new figure, and returns the axes. Arrays and quantities
are taken alike; the units of quantities stand on the axes. Matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that differ for readers with any colour vision (Okabe & Ito 2008), without the yellow; 7 lines differ.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#1c2430")
_FAINT, _STRONG, _INK, _MUTED = "#aab4c0", "#0072B2", "#1c2430", "#5b6673"
_MOST_NAMES = 45  # names of regions beside a matrix that can still be read
_MOST_LINES = 14  # the same of a legend


def plot_timeseries(
    signal: Any, ts: Any = None, *, labels: Sequence[str] | None = None, ax: Axes | None = None, **kw: Any
) -> Axes:
    """
    Signals in time, one line a region.

    Parameters
    ----------
    signal : (time,) or (time, region) array or Quantity
    ts : (time,) array or Quantity, optional
        Times; samples are counted if not given.
    labels : (region,) sequence of str, optional
        Names of the lines; the legend has at most 14 of them.
    ax : matplotlib.axes.Axes, optional
    **kw : options of ``Axes.plot``

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        The shapes do not belong together.

    Examples
    --------
    >>> import brainunit as u, numpy as np
    >>> ax = plot_timeseries(np.zeros((3, 2)) * u.mV, np.arange(3) * u.ms, labels=["V1", "MT"])
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('time (ms)', 'signal (mV)')
    """
    values, unit = _columns(signal, "signal")
    if ts is None:
        times, name = np.arange(len(values)), "sample"
    else:
        times, time_unit = _split(ts)
        name = _with_unit("time", time_unit)
        if times.shape != values.shape[:1]:
            raise ValueError(f"ts has shape {times.shape}, but signal has {len(values)} samples")
    _check_labels(labels, values.shape[1])
    ax = _axes(ax, (7.0, 2.8))
    many = values.shape[1] > len(_COLOURS)
    lines = ax.plot(times, values, **_options({"linewidth": 0.7 if many else 1.1}, kw))
    if many and not {"color", "c"} & set(kw):  # a cycle of colours would come round
        from matplotlib import colormaps

        for line, colour in zip(lines, colormaps["viridis"](np.linspace(0, 0.92, len(lines))), strict=True):
            line.set_color(colour)
    if labels is not None:
        _legend(ax, lines, labels)
    ax.margins(x=0)
    ax.set(xlabel=name, ylabel=_with_unit("signal", unit))
    return ax


def plot_phase(x: Any, y: Any, *, ax: Axes | None = None, **kw: Any) -> Axes:
    """
    One variable against another, with the start marked.

    Parameters
    ----------
    x, y : (time,) or (time, region) array or Quantity
        Of the same shape; one line a region.
    ax : matplotlib.axes.Axes, optional
    **kw : options of ``Axes.plot``

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        The shapes differ.
    """
    (xs, x_unit), (ys, y_unit) = _columns(x, "x"), _columns(y, "y")
    if xs.shape != ys.shape:
        raise ValueError(f"x has shape {xs.shape} and y {ys.shape}; give both for the same times and regions")
    ax = _axes(ax, (3.8, 3.5))
    lines = ax.plot(xs, ys, **_options({"linewidth": 1.1}, kw))
    for line, start in zip(lines, zip(xs[0], ys[0], strict=True), strict=True):
        ax.plot(*start, "o", color=line.get_color(), markersize=4, label="_start")
    ax.set(xlabel=_with_unit("x", x_unit), ylabel=_with_unit("y", y_unit))
    return ax


def plot_connectivity(
    matrix: Any,
    *,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    cmap: Any = "viridis",
    colorbar: bool = True,
    **kw: Any,
) -> Axes:
    """
    A matrix between regions: row i, column j is from region j to region i.

    Parameters
    ----------
    matrix : (region, region) array or Quantity
    labels : (region,) sequence of str, optional
        Every n-th is written if they are many.
    ax : matplotlib.axes.Axes, optional
    cmap, colorbar : colours, and whether their scale is drawn
    **kw : options of ``Axes.imshow``

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        The matrix is not square, or has another number of labels.
    """
    return _heatmap(matrix, labels, ax, ("from region", "to region"), colorbar=colorbar, cmap=cmap, **kw)


def plot_functional_connectivity(
    data: Any,
    *,
    is_matrix: bool = False,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    **kw: Any,
) -> Axes:
    """
    Pearson correlation between regions, on a scale from -1 to 1.

    Parameters
    ----------
    data : (time, region) array or Quantity
        The recording; with ``is_matrix=True`` the matrix itself, (region, region).
    labels, ax, **kw
        See `plot_connectivity`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        The shape is not that of a recording, or of a matrix.
    """
    if not is_matrix:
        from brainloom.analysis.fc import functional_connectivity

        values, _ = _split(data)
        if values.ndim != 2 or len(values) < 2:
            raise ValueError(f"data has shape {values.shape}; give (time, region), or is_matrix=True")
        data = functional_connectivity(values)
    options: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -1.0, "vmax": 1.0} | kw
    return _heatmap(data, labels, ax, ("region", "region"), "correlation", **options)


def plot_spectrum(
    signal: Any, dt: Any, *, ax: Axes | None = None, loglog: bool = True, window: int | None = None, **kw: Any
) -> Axes:
    """
    Power spectral density (Welch: Hann windows, half overlap, one-sided).

    Parameters
    ----------
    signal : (time,) or (time, region) array or Quantity
        Several regions are drawn thin, with their mean.
    dt : Quantity or float
        Time between two samples; frequencies are in Hz. A plain number counts in a unit that is not named.
    ax : matplotlib.axes.Axes, optional
    loglog : bool
        Logarithmic axes, without frequency 0.
    window : int, optional
        Samples in a window: an eighth of the signal, at least 128, if not given.
    **kw : options of ``Axes.plot``

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        The step is not one positive time, or the signal has another shape.
    """
    from brainloom.analysis.spectra import welch_psd
    from brainloom.core.units import parse

    values, unit = _columns(signal, "signal")
    step, known = _seconds(dt)
    n_window = max(128, len(values) // 8) if window is None else window
    frequency, power = welch_psd(values, step, n_window)
    shown = slice(1, None) if loglog else slice(None)
    ax = _axes(ax, (4.6, 3.0))
    several = len(power) > 1
    own = {"color": _FAINT, "linewidth": 0.6} if several else {"color": _STRONG, "linewidth": 1.2}
    ax.plot(frequency[shown], power[:, shown].T, **_options(own, kw))
    if several:
        ax.plot(frequency[shown], power.mean(axis=0)[shown], color=_STRONG, linewidth=1.6, label="mean")
        ax.legend(frameon=False)
    if loglog:
        ax.set(xscale="log", yscale="log")
    else:
        ax.set(xlim=(0, frequency[-1]), ylim=(0, None))
    ax.set_xlabel("frequency (Hz)" if known else "frequency (1 / unit of dt)")
    density = "1 / Hz" if unit is None else unit**2 / parse("Hz")
    ax.set_ylabel(_with_unit("power", density if known else None))
    return ax


def plot_fit_history(history: Any, *, ax: Axes | None = None, **kw: Any) -> Axes:
    """
    Loss at every step of a fit, one line a start, the best one strong.

    Parameters
    ----------
    history : array, mapping or fit result
        (step,) or (start, step) losses; a mapping with ``"loss"``; or an object with one of these as ``history``.
        Steps after the end of a start are NaN.
    ax : matplotlib.axes.Axes, optional
    **kw : options of ``Axes.plot``

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        No losses in it, or none that is a number.
    """
    history = getattr(history, "history", history)
    if isinstance(history, Mapping):
        if "loss" not in history:
            raise ValueError(f"the history has {', '.join(map(str, history))}, but no 'loss'")
        history = history["loss"]
    losses, unit = _split(history)
    losses = np.atleast_2d(losses)
    finite = np.isfinite(losses)
    if losses.ndim != 2 or not finite.any():
        raise ValueError(f"losses have shape {losses.shape}; give numbers as (step,) or (start, step)")
    ax = _axes(ax, (4.6, 3.0))
    best = int(np.where(finite, losses, np.inf).min(axis=1).argmin())
    for start, line in enumerate(losses):
        if start != best:
            ax.plot(line, **_options({"color": _FAINT, "linewidth": 0.9}, kw))
    strong = {"color": _STRONG, "linewidth": 1.6, "label": "best start" if len(losses) > 1 else None}
    ax.plot(losses[best], **_options(strong, kw))
    if len(losses) > 1:
        ax.legend(frameon=False)
    ax.set_yscale("log" if (losses[finite] > 0).all() else "linear")
    ax.set(xlabel="step", ylabel=_with_unit("loss", unit))
    return ax


# The names under which other tools know these two.
plot_phase_portrait = plot_phase
plot_power_spectrum = plot_spectrum


def _split(value: Any) -> tuple[np.ndarray, Any]:
    """Plain float array and the unit, None where there is none."""
    if not hasattr(value, "mantissa"):
        return np.asarray(value, dtype=float), None
    import brainunit as u

    if value.dim == u.DIMENSIONLESS:  # such as ms * kHz: a number
        return np.asarray(value.to_decimal(u.UNITLESS), dtype=float), None
    return np.asarray(value.mantissa, dtype=float), value.unit


def _columns(value: Any, name: str) -> tuple[np.ndarray, Any]:
    """`_split` of a (time, region) array, also when it is given as (time,)."""
    values, unit = _split(value)
    if values.ndim not in (1, 2) or not len(values):
        raise ValueError(
            f"{name} has shape {values.shape}; give (time,) or (time, region), one run at a time"
        )
    return values.reshape(len(values), -1), unit


def _seconds(dt: Any) -> tuple[float, bool]:
    """A time step as a number, and whether that counts seconds."""
    known = hasattr(dt, "mantissa")
    if known:
        from brainloom.core.units import plain

        dt = plain(dt, "s", "dt")
    if np.ndim(dt) or not dt > 0:
        raise ValueError(f"dt is {dt}; it must be one positive time")
    return float(dt), known


def _with_unit(name: str, unit: Any) -> str:
    """`name (unit)`, in typographic form: mV² / Hz."""
    text = "" if unit is None else str(unit)
    powers = str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹")
    text = re.sub(r"\^(-?[\d.]+)", lambda match: match[1].removesuffix(".0").translate(powers), text)
    return f"{name} ({text})" if name and text else name or text


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or new ones of `size` inches in our style."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    _, ax = pyplot.subplots(figsize=size, layout="constrained")
    ax.set_prop_cycle(color=_COLOURS)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=_MUTED, linewidth=0.8)
    ax.tick_params(which="both", color=_MUTED, labelcolor=_INK, labelsize=9, width=0.8)
    ax.xaxis.label.set(color=_INK, fontsize=9.5)
    ax.yaxis.label.set(color=_INK, fontsize=9.5)
    return ax


def _options(own: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Our options of lines and what the caller wants instead, `lw` and `linewidth` being the same."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return own | normalize_kwargs(given, Line2D)


def _check_labels(labels: Any, n_regions: int) -> None:
    if labels is not None and len(labels) != n_regions:
        raise ValueError(f"there are {len(labels)} labels for {n_regions} regions")


def _legend(ax: Axes, lines: Sequence[Any], labels: Sequence[str]) -> None:
    """Beside the axes; every n-th line if they are many, which then differ by a colour that runs in order."""
    every = -(-len(lines) // _MOST_LINES)
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (1.0, 1.0),
        "borderaxespad": 0.3,
        "handlelength": 1.2,
    }
    size = 9 if len(lines) <= len(_COLOURS) else 7.5
    ax.legend(
        lines[::every], [str(label) for label in labels[::every]], frameon=False, fontsize=size, **place
    )


def _heatmap(
    matrix: Any,
    labels: Any,
    ax: Axes | None,
    names: Any,
    meaning: str = "",
    *,
    colorbar: bool = True,
    **kw: Any,
) -> Axes:
    values, unit = _split(matrix)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"the matrix has shape {values.shape}; it must be square, (region, region)")
    n_regions = len(values)
    _check_labels(labels, n_regions)
    ax = _axes(ax, (5.2, 4.4))
    image = ax.imshow(values, **({"interpolation": "none"} | kw))
    if labels is None:
        ax.set(xlabel=names[0], ylabel=names[1])
    else:
        shown = range(0, n_regions, -(-n_regions // _MOST_NAMES))
        written, size = [str(labels[at]) for at in shown], 9.0 if n_regions <= 15 else 6.0
        ax.set_xticks(shown, written, rotation=90, fontsize=size)
        ax.set_yticks(shown, written, fontsize=size)
        ax.tick_params(length=2)
    if colorbar:
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, aspect=25)
        bar.outline.set_visible(False)
        bar.ax.tick_params(color=_MUTED, labelcolor=_INK, labelsize=9)
        bar.set_label(_with_unit(meaning, unit), color=_INK, fontsize=9.5)
    return ax
