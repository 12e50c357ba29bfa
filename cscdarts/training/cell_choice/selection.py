"""Which operations and inputs a cell keeps, by what their absence costs the supernet. No torch.

Wang et al. 2021 (DARTS-PT, arXiv 2108.04392), algorithm 1: edge by edge, in random order, the operation whose removal
raises the validation error most is kept; then, where a node keeps a fixed number of inputs, those whose removal raises
it most. The supernet is trained a little after each decision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cscdarts.spaces.operations import OPERATIONS
from cscdarts.spaces.rules import Columns, StrongestInputs
from cscdarts.spaces.space import Floats, KeptEdge, Space

#: Mixing weights while it is decided: kind -> (edges, operations).
Rows = dict[str, Floats]


@dataclass(frozen=True)
class Question:
    """What is to be decided: the operation of an edge, or the inputs of a node.

    Attributes:
        rows: rows of the mixing weights that it is about: one edge, or all edges into the node.
    """

    about: Literal["operation", "inputs"]
    kind: str
    rows: tuple[int, ...]


def questions(space: Space, draw: np.random.Generator) -> tuple[Question, ...]:
    """All decisions in their order: every edge once, at random, then every node of a space that fixes the number of
    inputs."""
    edges = [Question("operation", kind, (row,)) for kind in space.cell_kinds for row in range(len(space.edges))]
    found = [edges[place] for place in draw.permutation(len(edges))]
    if isinstance(space.rule, StrongestInputs):
        nodes = [Question("inputs", kind, tuple(rows)) for kind in space.cell_kinds for rows in space.incoming.values()]
        found += [nodes[place] for place in draw.permutation(len(nodes))]
    return tuple(found)


def answer(
    question: Question,
    space: Space,
    ops: tuple[str, ...],
    rows: Rows,
    error: Callable[[Rows], float],
    left: Columns | None = None,
) -> Rows:
    """The mixing weights after a decision; of equals the operation that weighs more, or the earlier input, stays.

    Args:
        rows: before it.
        error: validation error of the supernet under some mixing weights.
        left: what the edges choose among; None for all candidates of the space.
    """
    rows = {kind: values.copy() for kind, values in rows.items()}
    if question.about == "operation":
        (row,) = question.rows
        weights = rows[question.kind][row]
        # A node that keeps its best inputs has no use for `none`; where every edge is kept, it is one of the cells.
        fixed = isinstance(space.rule, StrongestInputs)
        candidates = (space.columns(question.kind, ops) if left is None else left[question.kind])[row]
        columns = [column for column in candidates if not (fixed and OPERATIONS[ops[column]].is_zero)]
        costs = {column: error(_without(rows, question.kind, row, column)) for column in columns}
        kept = max(columns, key=lambda column: (costs[column], weights[column], -column))
        rows[question.kind][row] = np.eye(len(ops))[kept]
        return rows
    rule = space.rule
    assert isinstance(rule, StrongestInputs)
    dropped = {row: error(_without(rows, question.kind, row, None)) for row in question.rows}
    ranked = sorted(question.rows, key=lambda row: (-dropped[row], row))
    for row in ranked[rule.inputs :]:
        rows[question.kind][row] = 0.0
    return rows


def cell_of(space: Space, ops: tuple[str, ...], rows: Mapping[str, Floats]) -> Any:
    """The genotype of mixing weights in which everything is decided."""
    kept = {
        kind: tuple(
            KeptEdge(*space.edges[row], ops[int(rows[kind][row].argmax())])
            for row in range(len(space.edges))
            if rows[kind][row].any()
        )
        for kind in space.cell_kinds
    }
    return space.genotype.from_edges(space.name, kept)


def _without(rows: Rows, kind: str, row: int, column: int | None) -> Rows:
    """The mixing weights without an operation of an edge, or without the whole edge; the others stay as they are."""
    out = {name: values.copy() for name, values in rows.items()}
    out[kind][row, slice(None) if column is None else column] = 0.0
    return out
