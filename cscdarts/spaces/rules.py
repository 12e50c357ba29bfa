"""How cells are picked: from architecture parameters, and uniformly at random. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from cscdarts.errors import UserError
from cscdarts.spaces.operations import OPERATIONS
from cscdarts.spaces.space import CLOSED, Floats, KeptEdge, Rule, Space

#: Kind of cell -> for each edge the columns of the operations that it chooses among.
Columns = Mapping[str, Sequence[tuple[int, ...]]]


def softmax(values: Floats) -> Floats:
    """softmax over the last axis."""
    shifted = np.exp(values - values.max(-1, keepdims=True))
    out: Floats = shifted / shifted.sum(-1, keepdims=True)
    return out


def strengths(weighting: str, alpha: Floats) -> Floats:
    """How much each operation weighs in a derivation, (edges, operations): the mixing weights without a draw.

    softmax(alpha), sigmoid(alpha) of the weighting `sigmoid`, and the mean (elu(alpha) + 1) / sum of `dirichlet`.
    """
    if weighting == "sigmoid":
        out: Floats = 1 / (1 + np.exp(-np.clip(alpha, -500, 500)))
        return out
    if weighting == "dirichlet":
        concentration = np.where(alpha > 0, alpha + 1, np.exp(np.minimum(alpha, 0)))
        mean: Floats = concentration / concentration.sum(-1, keepdims=True)
        return mean
    return softmax(alpha)


def derive_weighted(
    space: Space, ops: tuple[str, ...], alpha: Mapping[str, Floats], beta: Mapping[str, Floats] | None, weighting: str
) -> dict[str, tuple[KeptEdge, ...]]:
    """Derive by the space's rule under a weighting; see `Rule.derive` and `strengths`.

    The order of an edge's operations is that of alpha in all weightings; strengths of different edges are not. A space
    whose rule is its own sees alpha.
    """
    rule = space.rule
    if weighting in ("sigmoid", "dirichlet") and _picks(rule):
        return rule.pick(space, ops, {kind: strengths(weighting, alpha[kind]) for kind in space.cell_kinds}, beta)
    return rule.derive(space, ops, alpha, beta)


class StrongestOperation:
    """Every edge keeps its strongest operation, `none` included (D-X-Y/AutoDL-Projects)."""

    def derive(
        self, space: Space, ops: tuple[str, ...], alpha: Mapping[str, Floats], beta: Mapping[str, Floats] | None
    ) -> dict[str, tuple[KeptEdge, ...]]:
        """See `Rule.derive`; edge parameters do not matter, as every edge is kept."""
        return {
            kind: tuple(
                KeptEdge(*edge, ops[int(column)])
                for edge, column in zip(space.edges, np.argmax(alpha[kind], axis=1), strict=True)
            )
            for kind in space.cell_kinds
        }

    def sample(self, space: Space, draw: Any) -> dict[str, tuple[KeptEdge, ...]]:
        """See `Rule.sample`: each edge's operation uniformly among its candidates."""
        if space.candidates is not None:
            return {
                kind: tuple(
                    KeptEdge(*edge, space.ops[columns[int(draw.integers(len(columns)))]])
                    for edge, columns in zip(space.edges, space.columns(kind, space.ops), strict=True)
                )
                for kind in space.cell_kinds
            }
        return {
            kind: tuple(
                KeptEdge(*edge, space.ops[int(column)])
                for edge, column in zip(space.edges, draw.integers(0, len(space.ops), len(space.edges)), strict=True)
            )
            for kind in space.cell_kinds
        }


class StrongestInputs:
    """Every node keeps the inputs whose strongest operation weighs most, with that operation.

    Liu et al. 2019, section 2.4, where it is two inputs; `none` is no candidate. With edge normalisation strengths are
    softmax(alpha) * softmax(beta) (PC-DARTS).

    Args:
        inputs: how many inputs a node keeps, where it has as many.
    """

    def __init__(self, inputs: int = 2) -> None:
        self.inputs = inputs

    def derive(
        self, space: Space, ops: tuple[str, ...], alpha: Mapping[str, Floats], beta: Mapping[str, Floats] | None
    ) -> dict[str, tuple[KeptEdge, ...]]:
        """See `Rule.derive`."""
        return self.pick(space, ops, {kind: softmax(alpha[kind]) for kind in space.cell_kinds}, beta)

    def pick(
        self, space: Space, ops: tuple[str, ...], weights: Mapping[str, Floats], beta: Mapping[str, Floats] | None
    ) -> dict[str, tuple[KeptEdge, ...]]:
        """As `derive`, from the weights of the operations, (edges, operations) for each kind, in place of alpha."""
        candidates = [column for column, op in enumerate(ops) if not OPERATIONS[op].is_zero]

        def cell(kind: str) -> tuple[KeptEdge, ...]:
            of_kind = weights[kind][:, candidates]
            kept: list[KeptEdge] = []
            for rows in space.incoming.values():
                strength = of_kind[rows].max(axis=1)
                if beta:
                    strength = strength * softmax(beta[kind][rows])
                # A stable sort keeps the earlier input where strengths are equal, as sorted() does in quark0/darts.
                for best in np.argsort(-strength, kind="stable")[: self.inputs]:
                    op = ops[candidates[int(np.argmax(of_kind[rows[best]]))]]
                    source, target = space.edges[rows[best]]
                    kept.append(KeptEdge(source, target, op))
            return tuple(kept)

        return {kind: cell(kind) for kind in space.cell_kinds}

    def sample(self, space: Space, draw: Any) -> dict[str, tuple[KeptEdge, ...]]:
        """See `Rule.sample`: each node's set of inputs uniformly, then each one's operation."""
        choices = [op for op in space.ops if not OPERATIONS[op].is_zero]

        def cell(kind: str) -> tuple[KeptEdge, ...]:
            kept: list[KeptEdge] = []
            for node in range(space.inputs, space.inputs + space.nodes):
                chosen = draw.choice(node, size=min(self.inputs, node), replace=False)
                for source in sorted(int(s) for s in chosen):
                    row = space.edges.index((source, node))
                    candidates = [op for op in choices if space.is_candidate(kind, row, op)]
                    kept.append(KeptEdge(source, node, candidates[int(draw.integers(len(candidates)))]))
            return tuple(kept)

        return {kind: cell(kind) for kind in space.cell_kinds}


def open_columns(alpha: Mapping[str, Floats]) -> dict[str, list[tuple[int, ...]]]:
    """The columns that each edge chooses among: all but those that hold `CLOSED`.

    Args:
        alpha: kind -> (edges, operations), raw architecture parameters.
    """
    return {
        kind: [tuple(np.flatnonzero(row).tolist()) for row in np.asarray(rows) > CLOSED / 2]
        for kind, rows in alpha.items()
    }


def strongest_columns(alpha: Mapping[str, Floats], keep: int) -> dict[str, list[tuple[int, ...]]]:
    """Of the columns that each edge chooses among those that weigh most; of equals the earlier one is dropped.

    Chen et al. 2019 (P-DARTS, arXiv 1904.12760), section 3.2, as chenxin061/pdarts train_search.py has it between two
    stages: `none` is dropped like any other. All weightings order an edge's operations as alpha does.

    Args:
        alpha: kind -> (edges, operations), raw architecture parameters.
        keep: how many an edge has left, where it has as many.
    """
    return {
        kind: [
            tuple(sorted(sorted(columns, key=lambda column: (row[column], column))[-keep:]))
            for row, columns in zip(alpha[kind], edges, strict=True)
        ]
        for kind, edges in open_columns(alpha).items()
    }


def derive_capped(
    space: Space, ops: tuple[str, ...], alpha: Mapping[str, Floats], beta: Mapping[str, Floats] | None, most: int
) -> tuple[dict[str, tuple[KeptEdge, ...]], tuple[KeptEdge, ...]]:
    """Derive a cell by the space's rule with at most so many skip connections in the first kind of cell.

    Chen et al. 2019 (P-DARTS, arXiv 1904.12760), section 3.3, as chenxin061/pdarts train_search.py has it: while there
    are more, the kept skip connection with the smallest weight softmax(alpha) is taken out of its edge, whose other
    operations keep their weights, and the cell is derived anew. Only the normal cell is capped, as there. Departures:
    the earlier edge of equals goes; a space whose rule is its own sees the operation at alpha = -inf, so the others'
    weights are normalised without it; the rank among skip connections is by softmax(alpha), with edge normalisation
    too, which P-DARTS has not.

    Args:
        ops, alpha, beta: see `Rule.derive`.
        most: skip connections that may stay.

    Returns:
        Kind -> kept edges, and the skip connections taken out, in that order.

    Errors:
        UserError: there is no other operation to put in a skip connection's place.
    """
    rule, kind = space.rule, space.cell_kinds[0]
    raw = dict(alpha) | {kind: alpha[kind].copy()}
    weights = {name: softmax(alpha[name]) for name in space.cell_kinds}
    original = weights[kind].copy()
    cells, removed = rule.derive(space, ops, alpha, beta), list[KeptEdge]()

    def place(edge: KeptEdge) -> tuple[int, int]:
        return space.edges.index((edge.source, edge.target)), ops.index(edge.op)

    while True:
        skips = [edge for edge in cells[kind] if OPERATIONS[edge.op].is_skip]
        if len(skips) <= most:
            return cells, tuple(removed)
        weakest = min(skips, key=lambda edge: float(original[place(edge)]))
        if weakest in removed:
            raise _no_other(weakest, most)
        removed.append(weakest)
        raw[kind][place(weakest)] = -np.inf
        weights[kind][place(weakest)] = -1.0  # below every weight, also one that is 0 in floating point
        cells = rule.pick(space, ops, weights, beta) if _picks(rule) else rule.derive(space, ops, raw, beta)
        if any(raw[kind][place(edge)] <= CLOSED / 2 for edge in cells[kind]):
            raise _no_other(weakest, most)  # an operation that is no candidate of its edge


def _no_other(edge: KeptEdge, most: int) -> UserError:
    return UserError(
        "search.derive", f"skip-cap at {most}", "candidate operations beside skip connections",
        f"Edge {edge.source} to {edge.target} has no other one; choose another rule.",
    )  # fmt: skip


def _picks(rule: Rule) -> TypeGuard[StrongestInputs]:
    """Whether a rule derives from weights as `StrongestInputs` does."""
    return getattr(type(rule), "derive", None) is StrongestInputs.derive
