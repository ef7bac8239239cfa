"""A drawn figure: inline SVG with title and caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from brainloom.report.style import to_svg


@dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes
    ----------
    name : str
        Unique in the page.
    title, caption : str
        Title may be empty.
    svg : str
        Safe HTML.
    wide : bool
        Scrolls instead of shrinking on narrow screens.
    """

    name: str
    title: str
    caption: str
    svg: str
    wide: bool = False


def draw(
    function: Callable, *args, name: str, title: str, caption: str, alt: str, wide: bool = False, **options
) -> Figure | None:
    """Call a figure function and render what it returns; None where it has nothing to draw.

    To be called under `brainloom.report.style.figure_style`.
    """
    from markupsafe import Markup

    figure = function(*args, **options)
    if figure is None:
        return None
    svg = to_svg(figure, name=name, alt=alt)
    # The SVG comes from matplotlib, which escapes all text it is given.
    return Figure(name=name, title=title, caption=caption, svg=Markup(svg), wide=wide)
