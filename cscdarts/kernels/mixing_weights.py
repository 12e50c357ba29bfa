"""Mixing weights in the forms that the fused operations read, each made once per pass for all cells of a kind."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn import functional as F


class EdgeWeights:
    """Mixing weights of the edges that leave one node, in one pass.

    Args:
        per_op: (k, e), one row per operation in the order of computation, multiplied by the factors of edge
            normalisation.
        factors: (e,), those factors, or None for 1.
        expanded: channels c -> (k, e, c), `per_op` repeated for each channel, where that is made for several nodes at
            once; None to make it here.

    Attributes:
        chosen: for each edge the row of its only operation, or None for a zero, where the weights are one-hot and only
            these operations are to be computed; else None.
    """

    def __init__(
        self, per_op: Tensor, factors: Tensor | None = None, expanded: Callable[[int], Tensor] | None = None
    ) -> None:
        self.per_op, self.factors, self.expanded = per_op, factors, expanded
        self.chosen: Sequence[int | None] | None = None
        self._per_channel: dict[int, Tensor] = {}
        self._of_channels: dict[tuple[int, tuple[int, ...], int], Tensor] = {}

    @cached_property
    def as_floats(self) -> list[list[float]]:
        """`per_op` as numbers. On a GPU the host waits for them."""
        return self.per_op.tolist()

    def per_channel(self, channels: int) -> Tensor:
        """(k, e*c): each edge's weight repeated for its channels, without gradient."""
        if channels not in self._per_channel:
            spread = expand(self.per_op, channels) if self.expanded is None else self.expanded(channels)
            self._per_channel[channels] = spread.view(self.per_op.shape[0], -1)
        return self._per_channel[channels]

    def of_channels(self, channels: int, rows: tuple[int, ...], ones: int) -> Tensor:
        """((ones + rows)*e*c,): 1 for some operations, then those of `per_channel` of others, in a row."""
        key = channels, rows, ones
        if key not in self._of_channels:
            table = self.per_channel(channels)
            if list(rows) == list(range(rows[0], rows[0] + len(rows))) if rows else True:
                chosen = table[rows[0] : rows[0] + len(rows)].flatten() if rows else table[:0].flatten()
            else:
                chosen = torch.cat([table[row] for row in rows])
            self._of_channels[key] = F.pad(chosen, (ones * table.shape[1], 0), value=1.0) if ones else chosen
        return self._of_channels[key]

    def rows(self, rows: Sequence[int]) -> Tensor:
        """(r, e): those of some operations that follow one another, without gradient."""
        own = self.per_op.detach()
        return own[rows[0] : rows[0] + len(rows)] if rows else own[:0]

    def only(self, rows: Sequence[int]) -> "EdgeWeights":
        """The weights of some of the operations."""
        # Row by row: a list of numbers as index is sent to the device, and the host waits.
        return EdgeWeights(torch.stack([self.per_op[row] for row in rows]) if rows else self.per_op[:0], self.factors)


class NodeWeights:
    """Mixing weights of the nodes of one kind of cell, chosen and repeated for all of them in one call each.

    Args:
        chosen: all nodes' `EdgeWeights.per_op` one after another, flat; shapes: (k, e) of each.
        factors: of each node, or None for 1.
    """

    def __init__(
        self, chosen: Tensor, shapes: Sequence[tuple[int, int]], factors: Sequence[Tensor] | None = None
    ) -> None:
        self._chosen, self._shapes = chosen, shapes
        self._expanded: dict[int, tuple[Tensor, ...]] = {}
        parts = chosen.split_with_sizes([k * e for k, e in shapes])
        self.nodes = [
            EdgeWeights(part.view(shape), None if factors is None else factors[node], partial(self._of_node, node))
            for node, (part, shape) in enumerate(zip(parts, shapes, strict=True))
        ]

    def _of_node(self, node: int, channels: int) -> Tensor:
        if channels not in self._expanded:
            self._expanded[channels] = expand(self._chosen, channels).split_with_sizes([k * e for k, e in self._shapes])
        return self._expanded[channels][node].view(*self._shapes[node], channels)


def expand(weights: Tensor, channels: int) -> Tensor:
    """(..., c): each weight repeated, in memory of its own and without gradient.

    As a view of stride 0 torch's batch norm would read it wrongly on channels_last maps.
    """
    return weights.detach().unsqueeze(-1).expand(*weights.shape, channels).contiguous()
