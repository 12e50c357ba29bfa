"""Maps without weights that all edges of a node share: pooling with or without normalisation, and the identity."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cscdarts.kernels.candidates import SharedMap
from cscdarts.kernels.cpu import channels_last
from cscdarts.kernels.cpu.pooling import pool, pool_gradient
from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.mixing_weights import EdgeWeights


class SharedSummand(NamedTuple):
    """A map that every edge adds with its own mixing weight.

    Attributes:
        map: (n, c, h/s, w/s), before normalisation.
        factors: the mixing weight of each of the e edges.
        statistics: of the map's c channels; None without normalisation.
    """

    map: Tensor
    factors: list[float]
    statistics: Statistics | None

    def add_to(self, sums: Sequence[Tensor], scale: Tensor | None) -> None:
        """sum + scale * map per edge, in place; the shift of the normalisation is in the sums already.

        Args:
            sums: per edge (n, c, h/s, w/s), or a slice of channels of such a map.
            scale: (e*c,); None without normalisation, where the mixing weights alone scale.
        """
        if scale is None:
            for target, factor in zip(sums, self.factors, strict=True):
                target.add_(self.map, alpha=factor)
        else:
            for target, own in zip(sums, scale.chunk(len(sums)), strict=True):
                channels_last.add_scaled_(target, self.map, own)


class SharedGrads(NamedTuple):
    """What the backward pass gives.

    Attributes:
        input: (n, c, h, w), gradient so far of the node's output, None if there is none.
        mixing: per edge the gradient of its mixing weight, scalars; empty if not needed.
    """

    input: Tensor | None
    mixing: list[Tensor]


class SharedMapKernel:
    """A pooling or the identity, once for all edges of a node, with normalisation or without."""

    class Saved(NamedTuple):
        """What is kept.

        Attributes:
            map: (n, c, h/s, w/s), before normalisation; None where nothing reads it again.
            indices: where each maximum came from; None for other maps.
            factors, statistics: of `SharedSummand`.
        """

        map: Tensor | None
        indices: Tensor | None
        factors: list[float]
        statistics: Statistics | None

    def __init__(self, operation: SharedMap) -> None:
        self.operation = operation

    def forward(self, x: Tensor, weights: EdgeWeights, row: int, mixing_learns: bool) -> tuple[SharedSummand, Saved]:
        """The map and its statistics, and what `backward` reads again.

        Args:
            x: (n, c, h, w), the node's output, in channels_last.
            weights, row: the mixing weights, and the operation's row of them.
            mixing_learns: whether the mixing weights need a gradient: that alone reads a map without normalisation
                again.
        """
        p, indices = pool(x, self.operation.pool, self.operation.stride)
        norm = self.operation.norm
        statistics = None if norm is None else channels_last.statistics(p, norm)
        factors = weights.as_floats[row]
        kept = p if norm is not None or mixing_learns else None
        return SharedSummand(p, factors, statistics), self.Saved(kept, indices, factors, statistics)

    def backward(
        self, saved: Saved, x: Tensor, grads: Sequence[Tensor], total: Tensor | None, needs: tuple[bool, bool]
    ) -> SharedGrads:
        """Walk back through the map, its normalisation with the batch's statistics and the mixing weights.

        Args:
            saved: what `forward` kept.
            x: (n, c, h, w), the node's output or its ReLU, for its shape and layout.
            grads: per edge (n, c, h/s, w/s), of the mixed operation's sum, in channels_last.
            total: (n, c, h, w) gradient of the node's output so far, to which this one's is added in place, or None.
            needs: whether the gradients of x and of the mixing weights are asked for.
        """
        needs_input, needs_mixing = needs
        grad_mixing = self._mixing_gradient(saved, grads) if needs_mixing else []
        return SharedGrads(self._input_gradient(saved, x, grads, total) if needs_input else total, grad_mixing)

    @staticmethod
    def _mixing_gradient(saved: Saved, grads: Sequence[Tensor]) -> list[Tensor]:
        assert saved.map is not None
        weighted = saved.map if saved.statistics is None else channels_last.normalised(saved.map, saved.statistics)
        values = channels_last.flat(weighted)
        return [torch.dot(channels_last.flat(grad), values) for grad in grads]

    def _input_gradient(self, saved: Saved, x: Tensor, grads: Sequence[Tensor], total: Tensor | None) -> Tensor:
        factors, kind = saved.factors, self.operation.pool
        if kind is None and saved.statistics is None and total is not None:
            for grad, factor in zip(grads, factors, strict=True):
                total.add_(grad, alpha=factor)
            return total
        grad_map = grads[0] * factors[0]
        for grad, factor in zip(grads[1:], factors[1:], strict=True):
            grad_map.add_(grad, alpha=factor)
        if saved.statistics is not None:
            assert saved.map is not None
            through, _ = channels_last.normalisation_gradient(grad_map, saved.map, saved.statistics, None)
            assert through is not None
            grad_map = through
        grad_x = pool_gradient(grad_map, x, saved.indices, kind, self.operation.stride)
        return grad_x if total is None else total.add_(grad_x)
