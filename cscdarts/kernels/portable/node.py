"""The forward pass of the portable mixed operation, and what it keeps for the backward pass; see `mix.py`."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels.candidates import ConvBN, SharedMap
from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.mixing_weights import EdgeWeights
from cscdarts.kernels.portable.arithmetic import Arithmetic, Item, Term
from cscdarts.kernels.portable.levels import Level, Sorted, joined


class Kept(NamedTuple):
    """What a node keeps for its backward pass.

    Attributes:
        source: (n, c, h, w), the node's output x, or relu(x) if `rectified`, where nothing reads x.
        levels, whole: of each level and each whole convolution its `Conv`.
        shared: statistics of each shared map, None without normalisation.
        factors: (s, e), the mixing weights of the shared maps.
    """

    source: Tensor
    rectified: bool
    levels: tuple["Conv", ...]
    whole: tuple["Conv", ...]
    shared: tuple[Statistics | None, ...]
    factors: Tensor


class Conv(NamedTuple):
    """Of convolutions with one normalisation.

    Attributes:
        depths: the depthwise weights of the k operations, (c*e, 1, k, k) at the first level, (e*c, 1, k, k) below.
        point: (k*e*c, c, ., .), the other weight.
        weight: (k*e*c,), the mixing weights, 1 for operations that go on.
        map: (n, k*e*c, h, w), before normalisation; None where it is computed again.
        statistics: of this map; None in evaluation.
    """

    depths: tuple[Tensor, ...]
    point: Tensor
    weight: Tensor
    map: Tensor | None
    statistics: Statistics | None


class Node:
    """A node's forward pass.

    Args:
        found: its operations; weights: their mixing weights; by: the arithmetic; channels: c.
    """

    def __init__(self, found: Sorted, weights: EdgeWeights, by: Arithmetic, channels: int) -> None:
        self.found, self.weights, self.by, self.channels = found, weights, by, channels
        self.edges = weights.per_op.shape[1]

    def forward(self, x: Tensor, mixing_learns: bool) -> tuple[Kept, list[Tensor]]:
        """What the backward pass reads, and each edge's sum (n, c, h/s, w/s)."""
        found = self.found
        a = x.relu() if found.chains or found.whole else x
        convs = [Conv((), stage.point.detach().flatten(0, 1).to(x.dtype), self._weight((row,)), None, None)
                 for row, stage in found.whole]  # fmt: skip
        items = [
            Item(self.convolve(a, stage, conv), [stage.norm], conv.weight)
            for (_, stage), conv in zip(found.whole, convs, strict=True)
        ]
        pools = [self.pooled(x, operation) for _, operation in found.shared]
        items += [
            Item(p, [operation.norm], None)
            for p, (_, operation) in zip(pools, found.shared, strict=True)
            if operation.norm is not None
        ]
        levels, terms = self._chains(a, items)
        if not levels and items:
            terms, _ = self.by.normalise(items)
        own, rest = terms[: len(levels)], iter(terms[len(levels) :])
        whole = [next(rest) for _ in convs]
        shared = [
            (operation, Term(p, None, p) if operation.norm is None else next(rest))
            for p, (_, operation) in zip(pools, found.shared, strict=True)
        ]
        factors = self.weights.rows([row for row, _ in found.shared])
        sums = self.by.weigh(x, [*own, *whole], shared, factors)
        # Of x only the signs are read again where no pooled map and no mixing weight needs its values.
        rectified = a is not x and not mixing_learns
        for operation, _ in shared:
            rectified &= operation.pool != "max" and operation.norm is None
        kept = [
            conv._replace(map=None if stage.is_pointwise else term.map, statistics=term.statistics)
            for conv, term, (_, stage) in zip(convs, whole, found.whole, strict=True)
        ]
        statistics = tuple(term.statistics for _, term in shared)
        return Kept(a if rectified else x, rectified, tuple(levels), tuple(kept), statistics, factors), sums

    def _chains(self, a: Tensor, last: list[Item]) -> tuple[list[Conv], list[Term]]:
        """Walk down the chains; with their last level, items that wait for nothing are normalised.

        Returns:
            each level; the levels' terms, then those of `last`.
        """
        levels: list[Conv] = []
        terms: list[Term] = []
        sources = [a] * (len(self.found.chains[0].stages) if self.found.chains else 0)
        for depth, level in enumerate(self.found.chains):
            conv = self._weights_of(level, depth, a.dtype)
            d = self.depthwise(sources, level, conv.depths)
            p = F.conv2d(d, conv.point, groups=len(level.stages) * self.edges)
            item = Item(p, [stage.norm for stage in level.stages], conv.weight, level.on)
            found, sources = self.by.normalise([item] if level.on else [item, *last])
            levels.append(conv._replace(map=p, statistics=found[0].statistics))
            terms += found
        return levels, terms

    def depthwise(self, sources: Sequence[Tensor], level: Level, depths: Sequence[Tensor]) -> Tensor:
        """The depthwise convolutions of a level, (n, k*e*c, h/s, w/s)."""
        maps = [
            F.conv2d(source, depth, None, stage.stride, stage.padding, stage.dilation, source.shape[1])
            for source, stage, depth in zip(sources, level.stages, depths, strict=True)
        ]
        n, _, h, w = maps[0].shape
        if sources[0].shape[1] == self.channels and self.edges > 1:
            maps = [m.view(n, self.channels, self.edges, h, w).transpose(1, 2) for m in maps]
        elif len(maps) == 1:
            return maps[0]
        return torch.stack(maps, dim=1).view(n, -1, h, w)

    @staticmethod
    def convolve(a: Tensor, stage: ConvBN, conv: Conv) -> Tensor:
        """A whole convolution of relu(x) for all edges, (n, e*c, h/s, w/s)."""
        return F.conv2d(a, conv.point, None, stage.stride, stage.padding, stage.dilation)

    def pooled(self, x: Tensor, operation: SharedMap) -> Tensor:
        """A pooling of x, or x itself."""
        if operation.pool is None or self.by.folds(operation):
            return x
        if operation.pool == "max":
            return F.max_pool2d(x, 3, operation.stride, 1)
        return averaged(x, operation)

    def _weights_of(self, level: Level, depth: int, dtype: torch.dtype) -> Conv:
        depths = [stage.depth.detach() for stage in level.stages if stage.depth is not None]
        if depth == 0:
            depths = [weight.transpose(0, 1) for weight in depths]
        point = joined([stage.point for stage in level.stages]).flatten(0, 2).to(dtype)
        flat = tuple(weight.flatten(0, 1).to(dtype) for weight in depths)
        return Conv(flat, point, self._weight(level.ending, level.on), None, None)

    def _weight(self, rows: tuple[int, ...], ones: int = 0) -> Tensor:
        return self.weights.of_channels(self.channels, rows, ones)


def averaged(x: Tensor, operation: SharedMap) -> Tensor:
    """Average pooling of x, padding not counted."""
    return F.avg_pool2d(x, 3, operation.stride, 1, count_include_pad=False)
