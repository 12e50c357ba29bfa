"""Mixing weights in the forms that the fused operations read, each made once per pass for all cells of a kind."""

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor


class EdgeWeights:
    """Mixing weights of the edges that leave one node, in one pass.

    Args:
        per_op: (k, e), one row per operation in the order of computation, multiplied by the factors of edge
            normalisation.
        factors: (e,), those factors, or None for 1.
        chosen: for each edge the row of its only operation, or None for a zero, where the weights are one-hot and only
            these operations are to be computed.
    """

    def __init__(
        self, per_op: Tensor, factors: Tensor | None = None, chosen: Sequence[int | None] | None = None
    ) -> None:
        self.per_op, self.factors, self.chosen = per_op, factors, chosen
        self._per_channel: dict[int, Tensor] = {}

    @cached_property
    def as_floats(self) -> list[list[float]]:
        """`per_op` as numbers. On a GPU the host waits for them."""
        return self.per_op.tolist()

    def per_channel(self, channels: int) -> Tensor:
        """(k, e*c): each edge's weight repeated for its channels, without gradient."""
        if channels not in self._per_channel:
            # Of one edge a reshape would be a view of stride 0, which torch's batch norm reads wrongly on channels_last
            # maps.
            spread = self.per_op.detach().unsqueeze(2).expand(-1, -1, channels)
            self._per_channel[channels] = spread.contiguous().view(self.per_op.shape[0], -1)
        return self._per_channel[channels]

    def only(self, rows: Sequence[int]) -> "EdgeWeights":
        """The weights of some of the operations."""
        return EdgeWeights(self.per_op[list(rows)], self.factors)
