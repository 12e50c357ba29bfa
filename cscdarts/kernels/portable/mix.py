"""The mixed operations of one node as one differentiable function, in arithmetic that any device has.

Like the CPU's (`cscdarts.kernels.mixed_op`) it keeps, of a separable convolution, the outputs of its two 1x1
convolutions and computes the rest again. It is made for few launches, as each costs a GPU's host some microseconds:
what is alike in the operations of a node is one call, and nothing looks at a value, so that the host never waits.

Forward, with a = relu(x) and the depthwise chains level by level:

    d = depthwise convolutions of a, one a kernel with all edges' kernels as channel multiplier       (n, k, e, c, h, w)
    p = one grouped 1x1 convolution                                                             kept
    y = normalised p, times the mixing weights where a chain ends; relu where it goes on is the next level's a

The function is differentiable once.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import Candidate, ConvBN, SharedMap
from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.mixing_weights import EdgeWeights
from cscdarts.kernels.packing import pack, unpack
from cscdarts.kernels.portable import arithmetic
from cscdarts.kernels.portable.arithmetic import Term
from cscdarts.kernels.portable.levels import Level, Sorted, joined, sort


def may_fuse(training: bool, norms: Iterable[BatchNorm]) -> bool:
    """Whether `mix` may compute what plain autograd would.

    It takes the batch's own statistics or, where nothing is differentiated, the running ones. Statistics that several
    processes share are taken by plain autograd: they cost messages in the middle of what is one call here.
    """
    return (training or not torch.is_grad_enabled()) and not any(norm.sync for norm in norms)


def mix(x: Tensor, operations: Sequence[Candidate], weights: EdgeWeights) -> tuple[Tensor, ...]:
    """sum_o w_o * o(x) of every edge; see `cscdarts.kernels.mixed_op.mix`.

    Under autocast maps are in the lower precision, statistics and weights in theirs.
    """
    found = sort(operations)
    return _Mix.apply(found, weights, x, weights.per_op, *found.tensors)  # type: ignore[no-any-return]


class _Kept(NamedTuple):
    """What a node keeps for its backward pass.

    Attributes:
        source: (n, c, h, w), the node's output x, or relu(x) if `rectified`, where nothing reads x.
        levels, whole: of each level and each whole convolution its `_Conv`.
        shared: statistics of each shared map, None without normalisation.
        factors: (s, e), the mixing weights of the shared maps.
    """

    source: Tensor
    rectified: bool
    levels: tuple["_Conv", ...]
    whole: tuple["_Conv", ...]
    shared: tuple[Statistics | None, ...]
    factors: Tensor


class _Conv(NamedTuple):
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


class _Mix(torch.autograd.Function):
    """See `mix`."""

    @staticmethod
    def forward(
        ctx: Any, found: Sorted, weights: EdgeWeights, x: Tensor, per_op: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        precision, full = _precision(x)
        mixing_learns = ctx.needs_input_grad[3]
        with full:
            node = _Node(found, weights, x.shape[1])
            kept, total = node.forward(x.to(precision).contiguous(), mixing_learns)
        ctx.found, ctx.node, ctx.dtype = found, node, x.dtype
        ctx.structure, saved = pack(kept)
        ctx.save_for_backward(*saved)
        return total.view(x.shape[0], node.edges, -1, *total.shape[2:]).unbind(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept: _Kept = unpack(ctx.structure, ctx.saved_tensors)
        _, _, needs_x, needs_mixing, *needs_tensors = ctx.needs_input_grad
        grad = grads[0].contiguous() if len(grads) == 1 else torch.cat(grads, dim=1)
        walk = _Walk(ctx.node, kept, grad, needs_x, needs_mixing, needs_tensors)
        grad_x, grad_per_op, tensors = walk.gradients()
        return None, None, None if grad_x is None else grad_x.to(ctx.dtype), grad_per_op, *tensors


class _Node:
    """A node's forward pass.

    Args:
        found: its operations; weights: their mixing weights; channels: c.
    """

    def __init__(self, found: Sorted, weights: EdgeWeights, channels: int) -> None:
        self.found, self.weights, self.channels = found, weights, channels
        self.edges = weights.per_op.shape[1]
        self.width = self.edges * channels

    def forward(self, x: Tensor, mixing_learns: bool) -> tuple[_Kept, Tensor]:
        """What the backward pass reads, and the sums (n, e*c, h/s, w/s)."""
        terms: list[Term] = []
        levels: list[_Conv] = []
        a = x.relu() if self.found.chains or self.found.whole else x
        sources = [a] * (len(self.found.chains[0].stages) if self.found.chains else 0)
        for depth, level in enumerate(self.found.chains):
            conv = self._weights_of(level, depth, x.dtype)
            p = F.conv2d(self.depthwise(sources, level, conv.depths), conv.point, groups=self._groups(level))
            term = arithmetic.normalise(p, [s.norm for s in level.stages], conv.weight, level.on)
            if level.on:
                sources = list(arithmetic.rectified(term.weighted, len(level.stages), level.on))
            levels.append(conv._replace(map=p, statistics=term.statistics))
            terms.append(term)
        whole: list[_Conv] = []
        for row, stage in self.found.whole:
            conv = _Conv((), stage.point.detach().flatten(0, 1).to(x.dtype), self._weight(0, (row,)), None, None)
            p = self.convolve(a, stage, conv)
            term = arithmetic.normalise(p, [stage.norm], conv.weight)
            terms.append(term)
            whole.append(conv._replace(map=None if stage.is_pointwise else p, statistics=term.statistics))
        shared = [self.shared_map(x, operation) for _, operation in self.found.shared]
        factors = self.weights.rows([row for row, _ in self.found.shared])
        total = arithmetic.weighted_sum(terms, shared, factors, self.width)
        # Of x only the signs are read again where no pooled map and no mixing weight needs its values.
        rectified = a is not x and not mixing_learns
        for _, operation in self.found.shared:
            rectified &= operation.pool != "max" and operation.norm is None
        statistics = tuple(term.statistics for term in shared)
        return _Kept(a if rectified else x, rectified, tuple(levels), tuple(whole), statistics, factors), total

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
    def convolve(a: Tensor, stage: ConvBN, conv: _Conv) -> Tensor:
        """A whole convolution of relu(x) for all edges, (n, e*c, h/s, w/s)."""
        return F.conv2d(a, conv.point, None, stage.stride, stage.padding, stage.dilation)

    @staticmethod
    def shared_map(x: Tensor, operation: SharedMap) -> Term:
        """A pooling or x itself, normalised if it is to be; moves the running statistics."""
        p = x
        if operation.pool == "max":
            p = F.max_pool2d(x, 3, operation.stride, 1)
        elif operation.pool == "avg":
            p = F.avg_pool2d(x, 3, operation.stride, 1, count_include_pad=False)
        return Term(p, None, p) if operation.norm is None else arithmetic.normalise(p, [operation.norm], None)

    def _weights_of(self, level: Level, depth: int, dtype: torch.dtype) -> _Conv:
        depths = [stage.depth.detach() for stage in level.stages if stage.depth is not None]
        if depth == 0:
            depths = [weight.transpose(0, 1) for weight in depths]
        point = joined([stage.point for stage in level.stages]).flatten(0, 2).to(dtype)
        flat = tuple(weight.flatten(0, 1).to(dtype) for weight in depths)
        return _Conv(flat, point, self._weight(level.on, level.ending), None, None)

    def _weight(self, on: int, rows: tuple[int, ...]) -> Tensor:
        return self.weights.of_channels(self.channels, rows, on)

    def _groups(self, level: Level) -> int:
        return len(level.stages) * self.edges


class _Walk:
    """A node's backward pass.

    Args:
        grad: (n, e*c, h/s, w/s), of the sums.
        needs_x, needs_mixing, needs_tensors: which gradients are asked for.
    """

    def __init__(
        self, node: _Node, kept: _Kept, grad: Tensor, needs_x: bool, needs_mixing: bool, needs_tensors: Sequence[bool]
    ) -> None:
        self.node, self.kept, self.grad = node, kept, grad
        self.needs_x, self.needs_mixing = needs_x, needs_mixing
        self.needs = list(needs_tensors)
        self.tensors: list[Tensor | None] = [None] * len(self.needs)
        self.mixing: dict[int, Tensor] = {}
        self.of_a: Tensor | None = None
        convolves = bool(node.found.chains or node.found.whole) and not kept.rectified
        self.a = kept.source.relu() if convolves else kept.source

    def gradients(self) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
        """Of x, of the mixing weights (k, e), and of the convolutions' weights."""
        self._through_chains()
        self._through_whole()
        grad_x: Tensor | None = None
        if self.of_a is not None and self.needs_x:
            grad_x = torch.ops.aten.threshold_backward(self.of_a, self.a, 0)
        if self.node.found.shared and (self.needs_x or self.needs_mixing):
            grad_x = self._through_shared(grad_x)
        rows = None
        if self.needs_mixing:
            rows = torch.stack([self.mixing[row] for row in range(len(self.mixing))]).to(self.node.weights.per_op.dtype)
        return grad_x, rows, self.tensors

    def _through_chains(self) -> None:
        node, kept, levels = self.node, self.kept, self.node.found.chains
        begins = [sum(2 * len(level.stages) for level in levels[:depth]) for depth in range(len(levels) + 1)]
        flowing: Tensor | None = None  # (n, k, e*c, h, w), gradient of the level's normalised maps
        for depth in reversed(range(len(levels))):
            level, conv = levels[depth], kept.levels[depth]
            k, begin = len(level.stages), begins[depth]
            assert conv.map is not None
            assert conv.statistics is not None
            if level.on == 0:
                flowing = arithmetic.spread(self.grad, k, 0)
            assert flowing is not None
            deeper = self.needs_x or any(self.needs[:begin])
            wanted = deeper or any(self.needs[begin : begin + 2 * k])
            gp, of_weight = arithmetic.normalisation_gradient(
                flowing.view_as(conv.map), conv.map, conv.statistics, conv.weight, (wanted, self.needs_mixing)
            )
            if of_weight is not None:
                by_edge = of_weight.view(k, node.edges, -1).sum(2)
                self.mixing |= dict(zip(level.ending, by_edge[level.on :].unbind(), strict=True))
            of_sources: list[Tensor] = []
            sources = [self.a] * k
            if depth and wanted:
                before = kept.levels[depth - 1]
                assert before.map is not None
                again = arithmetic.normalise_again(before.map, levels[depth - 1].stages[0].norm.eps)
                sources = list(arithmetic.rectified(again, len(levels[depth - 1].stages), k))
            if gp is not None:
                of_sources = self._through_level(level, conv, gp, sources, begin, deeper)
            if depth:
                # Nothing is read of what is left empty: no gradient below is wanted then but the mixing weights'.
                flowing = arithmetic.spread(self.grad, len(levels[depth - 1].stages), k)
                for number, (part, source) in enumerate(zip(of_sources, sources, strict=False)):
                    torch.ops.aten.threshold_backward.grad_input(part, source, 0, grad_input=flowing[:, number])
            else:
                for part in of_sources:
                    self._add(part)

    def _through_level(
        self, level: Level, conv: _Conv, gp: Tensor, sources: list[Tensor], begin: int, deeper: bool
    ) -> list[Tensor]:
        """Walk back through a level's convolutions: gradients of what the depthwise ones read, if `deeper`."""
        node, k = self.node, len(level.stages)
        need_depth, need_point = self.needs[begin : begin + k], self.needs[begin + k : begin + 2 * k]
        # Where the weight takes no gradient, of the convolution's input only the shape is read.
        d = node.depthwise(sources, level, conv.depths) if any(need_point) else gp
        below = deeper or any(need_depth)
        gd, grad_point = _convolution_backward(gp, d, conv.point, k * node.edges, (below, any(need_point)))
        if grad_point is not None:
            for number, part in enumerate(grad_point.unflatten(0, (k, node.edges, -1))):
                self._give(begin + k + number, part, level.stages[number].point)
        if gd is None:
            return []
        n, _, h, w = gd.shape
        by_op = gd.view(n, k, node.edges, -1, h, w)
        multiplied = sources[0].shape[1] == node.channels
        by_op = by_op.permute(1, 0, 3, 2, 4, 5) if multiplied else by_op.transpose(0, 1)
        by_op = by_op.reshape(k, n, -1, h, w)
        found: list[Tensor] = []
        for number, (stage, source, depth) in enumerate(zip(level.stages, sources, conv.depths, strict=True)):
            of_source, of_depth = _convolution_backward(
                by_op[number], source, depth, source.shape[1], (deeper, need_depth[number]), stage
            )
            if of_depth is not None:
                order = (-1, node.edges) if multiplied else (node.edges, -1)
                part = of_depth.unflatten(0, order)
                self._give(begin + number, part.transpose(0, 1) if multiplied else part, stage.depth)
            if of_source is not None:
                found.append(of_source)
        return found

    def _through_whole(self) -> None:
        node = self.node
        begin = len(self.needs) - len(node.found.whole)
        for number, ((row, stage), conv) in enumerate(zip(node.found.whole, self.kept.whole, strict=True)):
            need_point = self.needs[begin + number]
            assert conv.statistics is not None
            p = node.convolve(self.a, stage, conv) if conv.map is None else conv.map
            gp, of_weight = arithmetic.normalisation_gradient(
                self.grad, p, conv.statistics, conv.weight, (self.needs_x or need_point, self.needs_mixing)
            )
            if of_weight is not None:
                self.mixing[row] = of_weight.view(node.edges, -1).sum(1)
            if gp is None:
                continue
            of_a, grad_point = _convolution_backward(gp, self.a, conv.point, 1, (self.needs_x, need_point), stage)
            if grad_point is not None:
                self._give(begin + number, grad_point.unflatten(0, (node.edges, -1)), stage.point)
            if of_a is not None:
                self._add(of_a)

    def _through_shared(self, grad_x: Tensor | None) -> Tensor | None:
        node, kept, x = self.node, self.kept, self.kept.source
        shared = node.found.shared
        maps: list[Tensor] = []
        parts = arithmetic.shared_gradients(self.grad, kept.factors) if self.needs_x else None
        for number, ((_, operation), statistics) in enumerate(zip(shared, kept.shared, strict=True)):
            p, indices = x, None
            if operation.pool == "max":
                p, indices = F.max_pool2d(x, 3, operation.stride, 1, return_indices=True)
            elif operation.pool == "avg" and (statistics is not None or self.needs_mixing):
                p = F.avg_pool2d(x, 3, operation.stride, 1, count_include_pad=False)
            if self.needs_mixing:
                maps.append(p if operation.norm is None else arithmetic.normalise_again(p, operation.norm.eps))
            if parts is None:
                continue
            part = parts[number]
            if statistics is not None:
                through = arithmetic.normalisation_gradient(part, p, statistics, None, (True, False)).map
                assert through is not None
                part = through
            part = _pool_backward(part, x, operation, indices)
            grad_x = part if grad_x is None else grad_x.add_(part)
        if maps:
            found = arithmetic.dots(self.grad, maps, node.edges)
            self.mixing |= dict(zip([row for row, _ in shared], found.unbind(), strict=True))
        return grad_x

    def _add(self, part: Tensor) -> None:
        self.of_a = part if self.of_a is None else self.of_a.add_(part)

    def _give(self, place: int, grad: Tensor, like: Tensor | None) -> None:
        assert like is not None
        if self.needs[place]:
            self.tensors[place] = grad.to(like.dtype)


def _precision(x: Tensor) -> tuple[torch.dtype, AbstractContextManager[object]]:
    """The precision that autocast asks for on x's device, and a context that leaves all else to us."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x.dtype, nullcontext()
    return torch.get_autocast_dtype(device), torch.autocast(device, enabled=False)


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, groups: int, needs: tuple[bool, bool], stage: ConvBN | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a convolution's input and weight; without a stage it is one of 1x1 pixels."""
    if not any(needs):
        return None, None
    stride, padding, dilation = (1, 0, 1) if stage is None else (stage.stride, stage.padding, stage.dilation)
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], groups, [*needs, False]
    )
    return (of_x if needs[0] else None), (of_weight if needs[1] else None)


def _pool_backward(grad: Tensor, x: Tensor, operation: SharedMap, indices: Tensor | None) -> Tensor:
    """Gradient of x through a shared map's pooling."""
    size = [3, 3], [operation.stride] * 2, [1, 1]
    if operation.pool == "max":
        return torch.ops.aten.max_pool2d_with_indices_backward(  # type: ignore[no-any-return]
            grad, x, *size, [1, 1], False, indices
        )
    if operation.pool == "avg":
        return torch.ops.aten.avg_pool2d_backward(grad, x, *size, False, False, None)  # type: ignore[no-any-return]
    return grad
