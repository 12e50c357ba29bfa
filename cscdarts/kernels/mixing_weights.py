"""Mixing weights in the forms that the fused operations read, each made once a pass for all cells of a kind."""

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor


class EdgeWeights:
    """Mixing weights of the edges that leave one node, in one pass.

    Args:
        chosen: (k, e), a row for each operation that is computed, in the order in which it is; factors of edge
            normalisation are in them.
        factors: (e,) these factors, or None for 1.
    """

    def __init__(self, chosen: Tensor, factors: Tensor | None = None) -> None:
        self.chosen, self.factors = chosen, factors
        self._wide: dict[int, Tensor] = {}

    @cached_property
    def numbers(self) -> list[list[float]]:
        """`chosen` as numbers. On a GPU this waits for it."""
        return self.chosen.tolist()

    def wide(self, channels: int) -> Tensor:
        """(k, e*c): an edge's weight for each of its channels. Without gradient."""
        if channels not in self._wide:
            # Of one edge a reshape would be a view of stride 0, which torch's batch norm reads wrongly on channels_last maps.
            spread = self.chosen.detach().unsqueeze(2).expand(-1, -1, channels)
            self._wide[channels] = spread.contiguous().view(self.chosen.shape[0], -1)
        return self._wide[channels]

    def only(self, rows: Sequence[int]) -> "EdgeWeights":
        """The weights of some of the operations."""
        return EdgeWeights(self.chosen[list(rows)], self.factors)
