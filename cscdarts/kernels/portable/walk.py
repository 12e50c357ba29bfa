"""The backward pass of the portable mixed operation; see `mix.py`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels.candidates import ConvBN, SharedMap
from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.portable.arithmetic import BackItem, MapGrads, shared_dots
from cscdarts.kernels.portable.levels import Level
from cscdarts.kernels.portable.node import Conv, Kept, Node, averaged


class Walk:
    """A node's backward pass.

    Args:
        grad: (n, e*c, h/s, w/s), of the sums.
        needs_x, needs_mixing, needs_tensors: which gradients are asked for.
    """

    def __init__(
        self, node: Node, kept: Kept, grad: Tensor, needs_x: bool, needs_mixing: bool, needs_tensors: Sequence[bool]
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
                    self._give(begin + number, of_point.view(node.edges, -1, *of_point.shape[1:]), stage.point)
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
            # Where below only mixing weights' gradients are wanted, there are none of the sources, and none is read.
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
        self, level: Level, conv: Conv, gp: Tensor, sources: list[Tensor], begin: int, deeper: bool
    ) -> list[Tensor]:
        """Walk back through a level's convolutions: gradients of what the depthwise ones read, if `deeper`."""
        node, k = self.node, len(level.stages)
        need_depth, need_point = self.needs[begin : begin + k], self.needs[begin + k : begin + 2 * k]
        # Where the weight takes no gradient, of the convolution's input only the shape is read.
        d = node.depthwise(sources, level, conv.depths) if any(need_point) else gp
        below = deeper or any(need_depth)
        gd, grad_point = _convolution_backward(gp, d, conv.point, k * node.edges, (below, any(need_point)))
        if grad_point is not None:
            for number, part in enumerate(grad_point.view(k, node.edges, -1, *grad_point.shape[1:])):
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
                part = of_depth.view(*order, *of_depth.shape[1:])
                self._give(begin + number, part.transpose(0, 1) if multiplied else part, stage.depth)
            if of_source is not None:
                found.append(of_source)
        return found

    def _of_x(self) -> Tensor:
        """The gradient of x, from those of relu(x) and of the shared maps."""
        node, kept, x = self.node, self.kept, self.kept.source
        carried: Tensor | None = None
        averages: Tensor | None = None
        pools: list[tuple[SharedMap, Tensor, Statistics | None, Tensor, Tensor | None]] = []
        for (_, operation), statistics, factors in zip(
            node.found.shared, kept.shared, kept.factors.unbind(), strict=True
        ):
            folds = self.by.folds(operation)
            if folds and operation.pool is None and carried is None:
                carried = factors
            elif folds and operation.pool == "avg" and averages is None:
                averages = factors
            else:
                p, indices = x, None
                if operation.pool == "max":
                    p, indices = F.max_pool2d(x, 3, operation.stride, 1, return_indices=True)
                elif operation.pool == "avg" and statistics is not None:
                    p = averaged(x, operation)
                pools.append((operation, p, statistics, factors, indices))
        parts: list[Tensor] = []
        if pools:
            factors = torch.stack([row for *_, row, _ in pools]) if len(pools) < len(kept.shared) else kept.factors
            through = self.by.shared_backward(
                self.grad, factors, [p for _, p, *_ in pools], [s for *_, s, _, _ in pools]
            )
            parts = [
                _pool_backward(part, x, operation, indices)
                for part, (operation, *_, indices) in zip(through, pools, strict=True)
            ]
        return self.by.gather(self.of_relu, self.a, parts, self.grad, carried, averages)

    def _dots_of_shared(self) -> None:
        x, shared = self.kept.source, self.node.found.shared
        maps = []
        for (_, operation), statistics in zip(shared, self.kept.shared, strict=True):
            p = x
            if operation.pool == "max":
                p = F.max_pool2d(x, 3, operation.stride, 1)
            elif operation.pool == "avg":
                p = averaged(x, operation)
            if operation.norm is not None and statistics is not None:
                p = self.by.normalised(p, statistics, operation.norm.eps)
            maps.append(p)
        if maps:
            found = shared_dots(self.grad, maps, self.node.edges)
            self.mixing |= dict(zip([row for row, _ in shared], found.unbind(), strict=True))

    def _give(self, place: int, grad: Tensor, like: Tensor | None) -> None:
        assert like is not None
        if self.needs[place]:
            self.tensors[place] = grad.to(like.dtype)


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
