"""How cells are picked: from architecture parameters, and uniformly at random. No torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cscdarts.spaces.operations import OPERATIONS
from cscdarts.spaces.space import Floats, KeptEdge, Space


def softmax(values: Floats) -> Floats:
    """softmax over the last axis."""
    shifted = np.exp(values - values.max(-1, keepdims=True))
    out: Floats = shifted / shifted.sum(-1, keepdims=True)
    return out


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
        """See `Rule.sample`: each edge's operation uniformly."""
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
        candidates = [column for column, op in enumerate(ops) if not OPERATIONS[op].is_zero]

        def cell(kind: str) -> tuple[KeptEdge, ...]:
            weights = softmax(alpha[kind])[:, candidates]
            kept: list[KeptEdge] = []
            for rows in space.incoming.values():
                strength = weights[rows].max(axis=1)
                if beta:
                    strength = strength * softmax(beta[kind][rows])
                # A stable sort keeps the earlier input where strengths are equal, as sorted() does in quark0/darts.
                for best in np.argsort(-strength, kind="stable")[: self.inputs]:
                    op = ops[candidates[int(np.argmax(weights[rows[best]]))]]
                    source, target = space.edges[rows[best]]
                    kept.append(KeptEdge(source, target, op))
            return tuple(kept)

        return {kind: cell(kind) for kind in space.cell_kinds}

    def sample(self, space: Space, draw: Any) -> dict[str, tuple[KeptEdge, ...]]:
        """See `Rule.sample`: each node's set of inputs uniformly, then each one's operation."""
        candidates = [op for op in space.ops if not OPERATIONS[op].is_zero]

        def cell() -> tuple[KeptEdge, ...]:
            kept: list[KeptEdge] = []
            for node in range(space.inputs, space.inputs + space.nodes):
                chosen = draw.choice(node, size=min(self.inputs, node), replace=False)
                kept += (
                    KeptEdge(source, node, candidates[int(draw.integers(len(candidates)))])
                    for source in sorted(int(s) for s in chosen)
                )
            return tuple(kept)

        return {kind: cell() for kind in space.cell_kinds}
