"""Cells as arc diagrams: nodes on a line, one arc for each operation, its name at the arc's top.

Two arcs share a top only if they join the same nodes, so labels never fall on each other and no layout engine is
needed. The same layout feeds the vector figures and the small drawings of the run pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from cscdarts.spaces.genotype import DartsGenotype, Genotype
from cscdarts.spaces.space import DARTS, NASBENCH201
from reports.figures.style import FAINT, INK, PALETTE, PAPER

SHORT = {
    "none": "none",
    "skip_connect": "skip",
    "max_pool_3x3": "max 3×3",
    "avg_pool_3x3": "avg 3×3",
    "sep_conv_3x3": "sep 3×3",
    "sep_conv_5x5": "sep 5×5",
    "dil_conv_3x3": "dil 3×3",
    "dil_conv_5x5": "dil 5×5",
    "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3",
}
_OPS = ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "max_pool_3x3", "avg_pool_3x3")
COLOURS = {op: PALETTE[position] for position, op in enumerate(_OPS)} | {
    "nor_conv_3x3": PALETTE[1],
    "nor_conv_1x1": PALETTE[2],
    "none": FAINT,
}
#: Height of an arc that spans one node, in node distances.
RISE = 0.62


@dataclass(frozen=True)
class Arc:
    """An operation from one node to another; `source` and `target` are positions on the line."""

    source: int
    target: int
    op: str

    @property
    def top(self) -> tuple[float, float]:
        """Where the label stands, in node distances."""
        return (self.source + self.target) / 2, RISE * (self.target - self.source)


@dataclass(frozen=True)
class CellDrawing:
    """A cell laid out: node names along the line, arcs above it."""

    kind: str
    nodes: tuple[str, ...]
    arcs: tuple[Arc, ...]

    @property
    def height(self) -> float:
        """Height of the highest arc, in node distances."""
        return max((arc.top[1] for arc in self.arcs), default=RISE)

    @property
    def words(self) -> str:
        """The cell in words, for those who do not see it."""
        parts = [
            f"{self.nodes[arc.source]} to {self.nodes[arc.target]} {SHORT[arc.op]}"
            for arc in self.arcs
            if arc.op != "none"
        ]
        return f"{self.kind}: " + ("; ".join(parts) or "no operation at all")


def layout(genotype: Genotype) -> list[CellDrawing]:
    """The cells of a genotype: normal and reduction for `darts`, one for `nasbench201`."""
    if isinstance(genotype, DartsGenotype):
        found = []
        for kind, title in (("normal", "normal cell"), ("reduce", "reduction cell")):
            genes = genotype.genes(kind)
            nodes = ("k−2", "k−1", *(str(node) for node in range(len(genes) // 2)))
            arcs = tuple(Arc(source, DARTS.inputs + position // 2, op) for position, (op, source) in enumerate(genes))
            found.append(CellDrawing(title, nodes, arcs))
        return found
    arcs = tuple(Arc(s, t, op) for (s, t), op in zip(NASBENCH201.edges, genotype.ops, strict=True))
    return [CellDrawing("cell", ("in", "1", "2", "out"), arcs)]


def draw(axes: Axes, cell: CellDrawing, title: str = "") -> None:
    """Draw a cell with matplotlib."""
    axes.set_axis_off()
    for arc in cell.arcs:
        x, y = arc.top
        curve = Curve(
            [(arc.source, 0), (arc.source, y * 4 / 3), (arc.target, y * 4 / 3), (arc.target, 0)],
            [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
        )
        absent = arc.op == "none"
        axes.add_patch(
            PathPatch(
                curve,
                fill=False,
                edgecolor=COLOURS[arc.op],
                linewidth=0.7 if absent else 1.5,
                linestyle=(0, (1, 2)) if absent else "-",
            )
        )
        if not absent:
            axes.text(
                x,
                y,
                SHORT[arc.op],
                ha="center",
                va="center",
                fontsize=7,
                color=INK,
                bbox={"boxstyle": "round,pad=0.12", "facecolor": PAPER, "edgecolor": COLOURS[arc.op], "linewidth": 0.8},
            )
    for position, name in enumerate(cell.nodes):
        axes.text(
            position,
            0,
            name,
            ha="center",
            va="center",
            fontsize=7.5,
            color=INK,
            bbox={"boxstyle": "circle,pad=0.28", "facecolor": PAPER, "edgecolor": INK, "linewidth": 0.9},
        )
    axes.set_xlim(-0.5, len(cell.nodes) - 0.5)
    axes.set_ylim(-0.35, cell.height + 0.35)
    if title:
        axes.set_title(title, fontsize=8)


def cell_svg(cells: Sequence[CellDrawing]) -> str:
    """Small SVG drawings of cells, side by side where there is room; colours follow the page."""
    parts = []
    for cell in cells:
        unit = 84
        width, height = unit * len(cell.nodes), int(unit * (cell.height * 0.72 + 0.75))
        base = height - 24
        lines = [
            f'<svg viewBox="0 0 {width} {height}" class="cell" role="img" aria-label="{escape(cell.words, quote=True)}" '
            f'style="max-width:{width}px">'
        ]
        labels = []
        for arc in cell.arcs:
            x0, x1 = unit * (arc.source + 0.5), unit * (arc.target + 0.5)
            y = base - unit * 0.72 * arc.top[1]
            control = base - unit * 0.72 * arc.top[1] * 4 / 3
            colour = "var(--line)" if arc.op == "none" else COLOURS[arc.op]
            dash = ' stroke-dasharray="1 4"' if arc.op == "none" else ""
            lines.append(
                f'<path d="M{x0:g} {base}C{x0:g} {control:.1f} {x1:g} {control:.1f} {x1:g} {base}" fill="none" '
                f'stroke="{colour}" stroke-width="2"{dash}/>'
            )
            if arc.op != "none":
                name = escape(SHORT[arc.op])
                half = 4.0 * len(SHORT[arc.op]) + 4
                labels.append(
                    f'<rect x="{(x0 + x1) / 2 - half:g}" y="{y - 9:.1f}" width="{2 * half:g}" height="18" rx="4" '
                    f'fill="var(--paper)" stroke="{colour}"/>'
                    f'<text x="{(x0 + x1) / 2:g}" y="{y + 4:.1f}" text-anchor="middle">{name}</text>'
                )
        for position, name in enumerate(cell.nodes):
            x = unit * (position + 0.5)
            labels.append(
                f'<circle cx="{x:g}" cy="{base}" r="17" fill="var(--paper)" stroke="var(--ink)"/>'
                f'<text x="{x:g}" y="{base + 4}" text-anchor="middle">{name}</text>'
            )
        parts.append("".join([*lines, *labels, "</svg>"]))
    return "".join(parts)
