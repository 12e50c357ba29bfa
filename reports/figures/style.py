"""One look for all figures, and files that come out byte for byte the same: no dates, fixed salt, embedded fonts."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec, TypeVar

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")
P = ParamSpec("P")
R = TypeVar("R")

#: Okabe and Ito's palette, told apart with every common kind of colour blindness; the yellow is darkened for white
#: paper.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#5a3e99", "#666666")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (6, 2, 1, 2)))
#: Text and axes. In the page these two become the page's own colours, so that figures follow light and dark.
INK, FAINT, PAPER = "#1b1b1f", "#c9c9cf", "#fdfdfe"

#: Inches: fits a phone's width at full size, a column of a paper, and half a page on a desk.
NARROW, WIDE = 4.6, 7.0

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.parse_math": False,
    "svg.hashsalt": "cscdarts",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "pdf.compression": 6,
}


@dataclass(frozen=True)
class Drawing:
    """One figure of the report.

    Attributes:
        number: `F3`.
        name: file name without suffix, `f3_error_memory`.
        title, caption: heading and how to read it.
        alt: what it shows, in words, for those who do not see it.
        figure: the drawing.
        data: what was drawn, long form, for the CSV.
        wide: whether it needs more than a column.
        rest: the words that ask for it, where it is shown on demand under the figure before it; else "".
    """

    number: str
    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    wide: bool = False
    rest: str = ""


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function in the report's style."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return inner


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a grid of axes that share their scales, inches for the whole."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    return figure, [list(row) for row in axes]


def _settle(figure: Figure) -> None:
    """Lay the figure out once and for all: the constrained layout would move by hairs with every further drawing."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


@styled
def svg(figure: Figure) -> str:
    """The figure as SVG text: same figure, same bytes."""
    _settle(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "cscdarts"})
    return buffer.getvalue().decode()


@styled
def pdf(figure: Figure) -> bytes:
    """The figure as vector PDF with embedded TrueType fonts and without dates."""
    _settle(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": "cscdarts", "Producer": None})
    return buffer.getvalue()


@styled
def png(figure: Figure) -> bytes:
    """The figure as PNG on white at 200 dots an inch."""
    _settle(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white", metadata={"Software": "cscdarts"})
    return buffer.getvalue()


def inline_svg(text: str, prefix: str, alt: str) -> str:
    """An SVG file's text as part of a page: no prologue, ids of its own, the page's colours, a text alternative.

    Args:
        prefix: put before each id, so that two figures never share one.
        alt: escaped here.
    """
    from html import escape

    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(xlink:href="|href="|url\()#', rf"\g<1>#{prefix}-", body)
    body = body.replace('xlink:href="', 'href="')
    body = body.replace(INK, "var(--ink)").replace(FAINT, "var(--line)").replace(PAPER, "var(--paper)")
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', body)
    width = float(size.group(1)) * 4 / 3 if size else 440.0
    head, _, rest = body.partition(">")
    head = re.sub(r' (width|height|version|xmlns:xlink)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(alt, quote=True)}" style="max-width:{width:.0f}px">{rest}'.strip()
