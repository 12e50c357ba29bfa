"""Cells as arc diagrams: nodes on a line, one arc for each operation, its name at the arc's top.

Arcs between the same nodes (ENAS has some) rise one above the other; all others differ in height or place, so labels
never fall on each other and no layout engine is needed. The same layout feeds the vector figures and the small drawings
of the run pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from cscdarts.spaces import OPERATIONS, SPACES, Genotype, KeptEdge, Space
from reports.figures.style import FAINT, INK, PALETTE, PAPER, styled

#: Palette positions of the operations whose colours readers know from one figure to the next.
_HUES = {
    "skip_connect": 0,
    "sep_conv_3x3": 1,
    "nor_conv_3x3": 1,
    "sep_conv_5x5": 2,
    "nor_conv_1x1": 2,
    "dil_conv_3x3": 3,
    "dil_conv_5x5": 4,
    "max_pool_3x3": 5,
    "avg_pool_3x3": 6,
}


def op_label(op: str) -> str:
    """An operation's short name; of one that is not registered here, its name."""
    return OPERATIONS[op].label if op in OPERATIONS else op


def op_colour(op: str, position: int = 0) -> str:
    """An operation's colour. Users' own take the palette from its end, in the order of their registration.

    Args:
        position: of an operation that is not registered here, its place among others.
    """
    if is_zero(op):
        return FAINT
    if op in _HUES:
        return PALETTE[_HUES[op]]
    own = [name for name in OPERATIONS.names() if OPERATIONS.added(name)]
    return PALETTE[(-1 - own.index(op) if op in own else position) % len(PALETTE)]


def is_zero(op: str) -> bool:
    """Whether an operation is no connection, which drawings leave out."""
    return op in OPERATIONS and OPERATIONS[op].is_zero


#: Height of an arc that spans one node, in node distances.
RISE = 0.62


@dataclass(frozen=True)
class Arc:
    """An operation from one node to another; `source` and `target` are positions on the line.

    Attributes:
        below: how many arcs between the same nodes lie below this one.
    """

    source: int
    target: int
    op: str
    below: int = 0

    @property
    def top(self) -> tuple[float, float]:
        """Where the label stands, in node distances."""
        return (self.source + self.target) / 2, RISE * (self.target - self.source + self.below / 2)


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
            f"{self.nodes[arc.source]} to {self.nodes[arc.target]} {op_label(arc.op)}"
            for arc in self.arcs
            if not is_zero(arc.op)
        ]
        return f"{self.kind}: " + ("; ".join(parts) or "no operation at all")


def layout(genotype: Genotype) -> list[CellDrawing]:
    """The cells of a genotype, one per kind of its space."""
    space = SPACES[genotype.space]
    return [
        CellDrawing(_title(kind, space), _node_names(genotype, kind, space), _arcs(genotype.edges(kind)))
        for kind in space.cell_kinds
    ]


def _arcs(edges: Sequence[KeptEdge]) -> tuple[Arc, ...]:
    """An arc per edge; of several between the same two nodes each lies below the one before."""
    ends = [(edge.source, edge.target) for edge in edges]
    return tuple(
        Arc(edge.source, edge.target, edge.op, ends[:place].count(ends[place])) for place, edge in enumerate(edges)
    )


def _title(kind: str, space: Space) -> str:
    if len(space.cell_kinds) == 1:
        return kind
    return "reduction cell" if kind == "reduce" else f"{kind} cell"


def _node_names(genotype: Genotype, kind: str, space: Space) -> tuple[str, ...]:
    """Inputs by the cell they come from; computed nodes by number, from 1 on where an input is called by its part."""
    last = max(edge.target for edge in genotype.edges(kind))
    if space.inputs == 1:
        inner = [str(node) for node in range(1, last + 1)]
        return ("in", *inner[:-1], "out") if space.output == "last" else ("in", *inner)
    inputs = (f"k−{space.inputs - node}" for node in range(space.inputs))
    return (*inputs, *(str(node) for node in range(last - space.inputs + 1)))


def draw(axes: Axes, cell: CellDrawing, title: str = "") -> None:
    """Draw a cell with matplotlib."""
    axes.set_axis_off()
    for arc in cell.arcs:
        x, y = arc.top
        curve = Curve(
            [(arc.source, 0), (arc.source, y * 4 / 3), (arc.target, y * 4 / 3), (arc.target, 0)],
            [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
        )
        absent = is_zero(arc.op)
        axes.add_patch(
            PathPatch(
                curve,
                fill=False,
                edgecolor=op_colour(arc.op),
                linewidth=0.7 if absent else 1.5,
                linestyle=(0, (1, 2)) if absent else "-",
            )
        )
        if not absent:
            axes.text(
                x,
                y,
                op_label(arc.op),
                ha="center",
                va="center",
                fontsize=7,
                color=INK,
                bbox={
                    "boxstyle": "round,pad=0.12",
                    "facecolor": PAPER,
                    "edgecolor": op_colour(arc.op),
                    "linewidth": 0.8,
                },
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


@styled
def figure(genotype: Genotype, title: str = "") -> Figure:
    """A genotype's cells side by side as one figure; the scale is the same for all, whatever their number of nodes."""
    cells = layout(genotype)
    widths = [len(cell.nodes) for cell in cells]
    height = max(cell.height for cell in cells)
    drawn = Figure(figsize=(0.78 * sum(widths), 0.78 * (height + 0.7) + 0.45), layout="constrained")
    panels = drawn.subplots(1, len(cells), squeeze=False, width_ratios=widths)[0]
    for axes, cell in zip(panels, cells, strict=True):
        draw(axes, cell, cell.kind if len(cells) > 1 else "")
        axes.set_ylim(-0.35, height + 0.35)
    if title:
        drawn.suptitle(title, fontsize=9, parse_math=False)
    return drawn


def cell_svg(cells: Sequence[CellDrawing]) -> str:
    """Small SVG drawings of cells, side by side where there is room; colours follow the page."""
    parts = []
    for cell in cells:
        unit = 84
        width, height = unit * len(cell.nodes), int(unit * (cell.height * 0.72 + 0.75))
        base = height - 24
        lines = [
            f'<svg viewBox="0 0 {width} {height}" class="cell" role="img" '
            f'aria-label="{escape(cell.words, quote=True)}" style="max-width:{width}px">'
        ]
        labels = []
        for arc in cell.arcs:
            x0, x1 = unit * (arc.source + 0.5), unit * (arc.target + 0.5)
            y = base - unit * 0.72 * arc.top[1]
            control = base - unit * 0.72 * arc.top[1] * 4 / 3
            stroke = "var(--line)" if is_zero(arc.op) else op_colour(arc.op)
            dash = ' stroke-dasharray="1 4"' if is_zero(arc.op) else ""
            lines.append(
                f'<path d="M{x0:g} {base}C{x0:g} {control:.1f} {x1:g} {control:.1f} {x1:g} {base}" fill="none" '
                f'stroke="{stroke}" stroke-width="2"{dash}/>'
            )
            if not is_zero(arc.op):
                name = escape(op_label(arc.op))
                half = 4.0 * len(op_label(arc.op)) + 4
                labels.append(
                    f'<rect x="{(x0 + x1) / 2 - half:g}" y="{y - 9:.1f}" width="{2 * half:g}" height="18" rx="4" '
                    f'fill="var(--paper)" stroke="{stroke}"/>'
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
