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
from cscdarts.kernels.portable.arithmetic import TORCH, Arithmetic, BackItem, Item, MapGrads, Term, normalise_again, shared_dots
from cscdarts.kernels.portable.choice import arithmetic_for
from cscdarts.kernels.portable.levels import Level, Sorted, joined, sort


def may_fuse(training: bool, norms: Iterable[BatchNorm]) -> bool:
    """Whether `mix` may compute what plain autograd would.

    It takes the batch's own statistics or, where nothing is differentiated, the running ones. Statistics that several
    processes share are taken by plain autograd: they cost messages in the middle of what is one call here.
    """
    return (training or not torch.is_grad_enabled()) and not any(norm.sync for norm in norms)


def mix(
    x: Tensor, operations: Sequence[Candidate], weights: EdgeWeights, training: bool = True
) -> tuple[Tensor, ...]:
    """sum_o w_o * o(x) of every edge; see `cscdarts.kernels.mixed_op.mix`.

    Under autocast maps are in the lower precision, statistics and weights in theirs.
    """
    found = sort(operations)
    by = arithmetic_for(x) if training else TORCH
    return _Mix.apply(found, weights, by, x, weights.per_op, *found.tensors)  # type: ignore[no-any-return]


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
        ctx: Any, found: Sorted, weights: EdgeWeights, by: Arithmetic, x: Tensor, per_op: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        precision, full = _precision(x)
        with full:
            node = _Node(found, weights, by, x.shape[1])
            kept, sums = node.forward(x.to(precision).contiguous(), mixing_learns=ctx.needs_input_grad[4])
        ctx.node, ctx.dtype = node, x.dtype
        ctx.structure, saved = pack(kept)
        ctx.save_for_backward(*saved)
        return tuple(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept: _Kept = unpack(ctx.structure, ctx.saved_tensors)
        _, _, _, needs_x, needs_mixing, *needs_tensors = ctx.needs_input_grad
        grad = grads[0].contiguous() if len(grads) == 1 else torch.cat(grads, dim=1)
        walk = _Walk(ctx.node, kept, grad, needs_x, needs_mixing, needs_tensors)
        grad_x, grad_per_op, tensors = walk.gradients()
        return None, None, None, None if grad_x is None else grad_x.to(ctx.dtype), grad_per_op, *tensors


class _Node:
    """A node's forward pass.

    Args:
        found: its operations; weights: their mixing weights; by: the arithmetic; channels: c.
    """

    def __init__(self, found: Sorted, weights: EdgeWeights, by: Arithmetic, channels: int) -> None:
        self.found, self.weights, self.by, self.channels = found, weights, by, channels
        self.edges = weights.per_op.shape[1]

    def forward(self, x: Tensor, mixing_learns: bool) -> tuple[_Kept, list[Tensor]]:
        """What the backward pass reads, and each edge's sum (n, c, h/s, w/s)."""
        found = self.found
        a = x.relu() if found.chains or found.whole else x
        convs = [_Conv((), stage.point.detach().flatten(0, 1).to(x.dtype), self._weight((row,)), None, None)
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
        sums = self.by.weigh(x, [*own, *whole], shared, factors, ())
        # Of x only the signs are read again where no pooled map and no mixing weight needs its values.
        rectified = a is not x and not mixing_learns
        for operation, _ in shared:
            rectified &= operation.pool != "max" and operation.norm is None
        kept = [
            conv._replace(map=None if stage.is_pointwise else term.map, statistics=term.statistics)
            for conv, term, (_, stage) in zip(convs, whole, found.whole, strict=True)
        ]
        statistics = tuple(term.statistics for _, term in shared)
        return _Kept(a if rectified else x, rectified, tuple(levels), tuple(kept), statistics, factors), sums

    def _chains(self, a: Tensor, last: list[Item]) -> tuple[list[_Conv], list[Term]]:
        """Walk down the chains; with their last level, items that wait for nothing are normalised.

        Returns:
            each level; the levels' terms, then those of `last`.
        """
        levels: list[_Conv] = []
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
    def convolve(a: Tensor, stage: ConvBN, conv: _Conv) -> Tensor:
        """A whole convolution of relu(x) for all edges, (n, e*c, h/s, w/s)."""
        return F.conv2d(a, conv.point, None, stage.stride, stage.padding, stage.dilation)

    def pooled(self, x: Tensor, operation: SharedMap) -> Tensor:
        """A pooling of x, or x itself."""
        if operation.pool is None or self.by.folds(operation):
            return x
        if operation.pool == "max":
            return F.max_pool2d(x, 3, operation.stride, 1)
        return _averaged(x, operation)

    def _weights_of(self, level: Level, depth: int, dtype: torch.dtype) -> _Conv:
        depths = [stage.depth.detach() for stage in level.stages if stage.depth is not None]
        if depth == 0:
            depths = [weight.transpose(0, 1) for weight in depths]
        point = joined([stage.point for stage in level.stages]).flatten(0, 2).to(dtype)
        flat = tuple(weight.flatten(0, 1).to(dtype) for weight in depths)
        return _Conv(flat, point, self._weight(level.ending, level.on), None, None)

    def _weight(self, rows: tuple[int, ...], ones: int = 0) -> Tensor:
        return self.weights.of_channels(self.channels, rows, ones)


class _Walk:
    """A node's backward pass.

    Args:
        grad: (n, e*c, h/s, w/s), of the sums.
        needs_x, needs_mixing, needs_tensors: which gradients are asked for.
    """

    def __init__(
        self, node: _Node, kept: _Kept, grad: Tensor, needs_x: bool, needs_mixing: bool, needs_tensors: Sequence[bool]
    ) -> None:
        self.node, self.by, self.kept, self.grad = node, node.by, kept, grad
        self.needs_x, self.needs_mixing, self.needs = needs_x, needs_mixing, list(needs_tensors)
        self.tensors: list[Tensor | None] = [None] * len(self.needs)
        self.mixing: dict[int, Tensor] = {}
        self.of_relu: list[Tensor] = []
        convolves = bool(node.found.chains or node.found.whole) and not kept.rectified
        self.a = kept.source.relu() if convolves else kept.source

    def gradients(self) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
        """Of x, of the mixing weights (k, e), and of the convolutions' weights."""
        node, found = self.node, self.node.found
        begin = len(self.needs) - len(found.whole)
        whole = [self._whole_item(number) for number in range(len(found.whole))]
        wanted = [self.needs_x or self.needs[begin + number] for number in range(len(found.whole))]
        if found.chains:
            through = self._through_chains(whole, wanted)
        elif whole:
            through = self.by.normalise_backward(self.grad, whole, [], [], [(w, self.needs_mixing) for w in wanted])
        else:
            through = []
        for number, (of_map, of_weight) in enumerate(through):
            row, stage = found.whole[number]
            if of_weight is not None:
                self.mixing[row] = of_weight.view(node.edges, -1).sum(1)
            if of_map is not None:
                point, need = self.kept.whole[number].point, (self.needs_x, self.needs[begin + number])
                of_a, of_point = _convolution_backward(of_map, self.a, point, 1, need, stage)
                if of_point is not None:
                    self._give(begin + number, of_point.unflatten(0, (node.edges, -1)), stage.point)
                self.of_relu += [] if of_a is None else [of_a]
        grad_x = self._of_x() if self.needs_x else None
        if not self.needs_mixing:
            return grad_x, None, self.tensors
        self._dots_of_shared()
        rows = torch.stack([self.mixing[row] for row in range(len(self.mixing))])
        return grad_x, rows.to(node.weights.per_op.dtype), self.tensors

    def _whole_item(self, number: int) -> BackItem:
        (_, stage), conv = self.node.found.whole[number], self.kept.whole[number]
        assert conv.statistics is not None
        p = self.node.convolve(self.a, stage, conv) if conv.map is None else conv.map
        return BackItem(p, conv.statistics, conv.weight)

    def _through_chains(self, others: list[BackItem], others_wanted: list[bool]) -> list[MapGrads]:
        """Walk up the chains; gradients of the `others`, which are walked through with their last level."""
        node, levels = self.node, self.node.found.chains
        begins = [sum(2 * len(level.stages) for level in levels[:depth]) for depth in range(len(levels))]
        of_others: list[MapGrads] = []
        of_sources: list[Tensor] = []
        sources: list[Tensor] = []
        for depth in reversed(range(len(levels))):
            level, conv = levels[depth], self.kept.levels[depth]
            k, begin = len(level.stages), begins[depth]
            assert conv.map is not None
            assert conv.statistics is not None
            deeper = self.needs_x or any(self.needs[:begin])
            wanted = deeper or any(self.needs[begin : begin + 2 * k])
            items = [BackItem(conv.map, conv.statistics, conv.weight, level.on)]
            needs = [(wanted, self.needs_mixing)]
            if not level.on:
                items, needs = items + others, needs + [(w, self.needs_mixing) for w in others_wanted]
            # Where no gradient below is wanted but the mixing weights', there are none of the sources, and none is read.
            (of_map, of_weight), *rest = self.by.normalise_backward(self.grad, items, of_sources, sources, needs)
            of_others += rest
            if of_weight is not None:
                by_edge = of_weight.view(k, node.edges, -1).sum(2)
                self.mixing |= dict(zip(level.ending, by_edge[level.on :].unbind(), strict=True))
            of_sources, sources = [], [self.a] * k
            if of_map is None:
                continue
            if depth:
                before, stages = self.kept.levels[depth - 1], levels[depth - 1].stages
                assert before.map is not None
                assert before.statistics is not None
                sources = self.by.rectify(before.map, before.statistics, stages[0].norm.eps, len(stages), k)
            of_sources = self._through_level(level, conv, of_map, sources, begin, deeper)
        self.of_relu += of_sources
        return of_others

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

    def _of_x(self) -> Tensor:
        """The gradient of x, from those of relu(x) and of the shared maps."""
        node, kept, x = self.node, self.kept, self.kept.source
        carried: Tensor | None = None
        averaged: Tensor | None = None
        pools: list[tuple[SharedMap, Tensor, Statistics | None, Tensor, Tensor | None]] = []
        for (_, operation), statistics, factors in zip(
            node.found.shared, kept.shared, kept.factors.unbind(), strict=True
        ):
            folds = self.by.folds(operation)
            if folds and operation.pool is None and carried is None:
                carried = factors
            elif folds and operation.pool == "avg" and averaged is None:
                averaged = factors
            else:
                p, indices = x, None
                if operation.pool == "max":
                    p, indices = F.max_pool2d(x, 3, operation.stride, 1, return_indices=True)
                elif operation.pool == "avg" and statistics is not None:
                    p = _averaged(x, operation)
                pools.append((operation, p, statistics, factors, indices))
        parts: list[Tensor] = []
        if pools:
            factors = torch.stack([row for *_, row, _ in pools]) if len(pools) < len(kept.shared) else kept.factors
            through = self.by.shared_backward(self.grad, factors, [p for _, p, *_ in pools], [s for *_, s, _, _ in pools])
            parts = [
                _pool_backward(part, x, operation, indices)
                for part, (operation, *_, indices) in zip(through, pools, strict=True)
            ]
        return self.by.gather(self.of_relu, self.a, parts, self.grad, carried, averaged)

    def _dots_of_shared(self) -> None:
        x, shared = self.kept.source, self.node.found.shared
        maps = []
        for _, operation in shared:
            p = x
            if operation.pool == "max":
                p = F.max_pool2d(x, 3, operation.stride, 1)
            elif operation.pool == "avg":
                p = _averaged(x, operation)
            maps.append(p if operation.norm is None else normalise_again(p, operation.norm.eps))
        if maps:
            found = shared_dots(self.grad, maps, self.node.edges)
            self.mixing |= dict(zip([row for row, _ in shared], found.unbind(), strict=True))

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


def _averaged(x: Tensor, operation: SharedMap) -> Tensor:
    return F.avg_pool2d(x, 3, operation.stride, 1, count_include_pad=False)


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
