"""How figures look, and how they become deterministic inline SVG.

Text stays text (it takes the font of the page), and the few neutral colours become CSS variables, so that the
figures follow the light or dark theme of the page and of print.
"""

from __future__ import annotations

import html
import io
import re
from contextlib import contextmanager
from typing import Any

import numpy as np

# Neutral colours, replaced by CSS variables in the page. They must not be used for data.
INK, MUTED, GRID, BAND, SURFACE = "#1c2430", "#5b6673", "#dfe3e8", "#e9ecf0", "#fdfefe"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", BAND: "band", SURFACE: "surface"}

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # shipped with matplotlib: the same layout everywhere
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "brainloom",
    "image.interpolation": "none",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.06,
}


@contextmanager
def figure_style():
    """Settings under which all figures are drawn and saved; nothing outside is changed."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure(width: float, height: float):
    """An empty figure of `width` x `height` inches that no global registry holds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def to_svg(figure, *, name: str, alt: str) -> str:
    """Inline SVG of a figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Unique in the page; prefixes all ids, which would otherwise clash between figures.
    alt : str
        What a reader who cannot see the figure should know.

    Returns
    -------
    str
        An `<svg>` element without external references; same figure, same text.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    # Laid out and printed here; savefig would draw the figure a second time to lay it out.
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(
        buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    prefix = re.sub(r"[^a-zA-Z0-9]+", "-", name)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'xlink:href="#{prefix}-')
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable},{colour})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    text = re.sub(r"font: bold ([\d.]+)px [^;\"]+", r"font-size: \1px; font-weight: 600", text)
    width, height = (72 * float(inches) for inches in figure.get_size_inches())
    head = (
        f'<svg viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{html.escape(alt, quote=True)}" style="max-width:{width / 72 * 96:.0f}px">'
    )
    return head + text.partition(">")[2].strip()


def _oklab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] of OKLab colours (n, 3) (Ottosson 2020)."""
    lms = lab @ np.array(
        [
            [1, 1, 1],
            [0.3963377774, -0.1055613458, -0.0894841775],
            [0.2158037573, -0.0638541728, -1.2914855480],
        ]
    )
    rgb = lms**3 @ np.array(
        [
            [4.0767416621, -1.2684380046, -0.0041960863],
            [-3.3077115913, 2.6097574011, -0.7034186147],
            [0.2309699292, -0.3413193965, 1.7076147010],
        ]
    )
    rgb = np.clip(rgb, 0, 1)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)


def diverging_map():
    """Blue - white - red with lightness linear in the value on both sides (OKLab), for values around zero."""
    from matplotlib.colors import ListedColormap

    t = np.linspace(-1, 1, 257)
    strength = np.abs(t)
    lightness = 0.975 - 0.56 * strength
    # Chroma rises fast and is held where the sRGB gamut narrows.
    chroma = 0.165 * np.sin(np.minimum(strength * 1.45, 1.25)) / np.sin(1.25)
    hue = np.where(t < 0, np.deg2rad(252), np.deg2rad(27))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    return ListedColormap(np.clip(_oklab_to_rgb(lab), 0, 1), name="brainloom_diverging")


def log_axis(axis) -> None:
    """Logarithmic scale with labels at powers of ten only, in plain text."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axis.set_minor_formatter(NullFormatter())


def power_of_ten(value: float) -> str:
    """`0.01`, `100`, or `10⁻⁶` beyond three digits."""
    exponent = round(float(np.log10(value))) if value > 0 else 0
    if abs(exponent) <= 3:
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def log_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Ticks at 1, 2, 5 times powers of ten between two values of one sign, as many as `most` allows.

    Examples
    --------
    >>> log_ticks(0.03, 1.2)
    [0.05, 0.1, 0.2, 0.5, 1.0]
    >>> log_ticks(-0.9, -0.02, most=3)
    [-0.3, -0.1, -0.03]
    """
    sign = -1.0 if low < 0 else 1.0
    small, large = sorted((abs(low), abs(high)))
    decades = range(int(np.floor(np.log10(small))), int(np.ceil(np.log10(large))) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [float(f"{factor}e{decade}") for decade in decades for factor in factors]
        ticks = [sign * value for value in values if small <= value <= large]
        if len(ticks) <= most:
            return sorted(ticks)
    return sorted(ticks[:: -(-len(ticks) // most)])


def log_magnitude(low: float, high: float):
    """Forward and inverse function of a scale that is logarithmic in the magnitude, for values of one sign."""
    sign, tiny = (-1.0 if low < 0 else 1.0), 1e-3 * min(abs(low), abs(high))
    return (
        lambda v: sign * np.log(np.maximum(sign * np.asarray(v), tiny)),
        lambda u: sign * np.exp(sign * np.asarray(u)),
    )


def spreads_widely(low: float, high: float, factor: float = 8.0) -> bool:
    """Whether two values have one sign and differ by more than a factor."""
    return low * high > 0 and max(low / high, high / low) >= factor


def legend_above(axes, *, columns: int | None = None, **options):
    """A frameless legend in one row above the axes, out of the way of the data."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            borderaxespad=0.2,
            borderpad=0.1,
            ncols=columns or len(handles),
            handlelength=1.6,
            columnspacing=1.4,
            handletextpad=0.5,
            **options,
        )
