"""The mixed operations of one node as a single differentiable function that saves little and recomputes what is cheap.

Plain autograd keeps, for each separable convolution of each edge, seven maps for the backward pass. Here only the
outputs of the 1x1 convolutions are kept, two maps: normalised values, ReLUs and depthwise outputs are computed again.
The mixing weights scale the normalisation, so their gradient falls out of its backward pass and the weighted operations
are never stored. What a step does not need is not computed: no gradients of weights while the architecture learns, none
of the architecture while the weights learn.

The function is differentiable once. `FanOut` has a plain path with the same parameters for second derivatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cscdarts import pointwise, pooling, rows
from cscdarts.mixing import EdgeWeights
from cscdarts.normalise import BatchNorm
from cscdarts.stage import Stage, convolve, convolve_backward


@dataclass(frozen=True)
class Shared:
    """A map without weights that all edges share.

    Attributes:
        pool: `max`, `avg`, or None for the node's output itself.
        norm: normalisation of (n, c, h, w) after the pooling, or None.
        stride: of the pooling.
    """

    pool: str | None
    norm: BatchNorm | None
    stride: int


Operation = Sequence[Stage] | Shared


def mix(x: Tensor, operations: Sequence[Operation], weights: EdgeWeights) -> tuple[Tensor, ...]:
    """sum_o w_o * o(x) of every edge.

    Args:
        x: (n, c, h, w), the node's output, before ReLU.
        operations: k operations, those with convolutions first, those without normalisation last; a ReLU precedes each
            `Stage`.
        weights: mixing weights of e edges, a row for each operation.

    Returns:
        for each edge its sum (n, c, h/s, w/s) in channels_last, or a slice of channels of such a map.
    """
    tensors = [
        tensor
        for operation in operations
        if not isinstance(operation, Shared)
        for stage in operation
        for tensor in (stage.depth, stage.point)
    ]
    return _Mix.apply(tuple(operations), weights, x, weights.chosen, *tensors)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Last:
    """The last map of a convolutional operation and its statistics, or with `filters` what they convolve to it.

    Attributes:
        x: (n, e*c, h, w), or with filters: (e*c, c) their input (n, c, h, w).
        mean, inv_std: (e*c,), of the operation's last map, before normalisation.
    """

    x: Tensor
    mean: Tensor
    inv_std: Tensor
    filters: Tensor | None

    def add(self, total: Tensor | None, scale: Tensor, shift: Tensor) -> Tensor:
        """total + scale * map per channel, in place; without a total scale * map + shift."""
        if self.filters is not None:
            return pointwise.weighted(self.x, self.filters, scale, shift if total is None else rows.matrix(total, 1))
        if total is None:
            return rows.affine(self.x, scale, shift)
        rows.add_scaled_(total, self.x, scale)
        return total


class _Mix(torch.autograd.Function):
    """See `mix`."""

    @staticmethod
    def forward(
        ctx: Any, operations: tuple[Operation, ...], weights: EdgeWeights, x: Tensor, chosen: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        x = x.contiguous(memory_format=torch.channels_last)
        edges, channels = chosen.shape[1], x.shape[1]
        inputs = _Inputs(x, edges)
        convolutional, shared = _sorted(operations)
        learns_mixing, learns_weights = ctx.needs_input_grad[3], any(ctx.needs_input_grad[4:])
        kept: list[Tensor] = []
        last: list[_Last] = []
        for operation in convolutional:
            y = inputs.of(operation[0])
            if pointwise.applies(operation[0]):
                stage = operation[0]
                filters = stage.point.view(-1, channels)
                mean, inv_std, *moments = pointwise.statistics(y, filters, stage.norm)
                last.append(_Last(y, mean, inv_std, filters))
                kept += (*moments, inv_std)
                continue
            for stage in operation[:-1]:
                p = convolve(y, stage, edges)
                mean, inv_std = rows.statistics(p, stage.norm)
                y = rows.affine(p, inv_std, -mean * inv_std).relu_()
                kept += (p, mean, inv_std)
            p = convolve(y, operation[-1], edges)
            mean, inv_std = rows.statistics(p, operation[-1].norm)
            last.append(_Last(p, mean, inv_std, None))
            kept += (p, mean, inv_std)
        # Of the node's output only the signs are read again, unless the mixing weights learn: relu(x) has them too.
        rectified = learns_weights and not learns_mixing and inputs.active is not None
        source_map = inputs.active if rectified else x
        del inputs
        pooled = []
        for source in shared:
            p, indices = pooling.pool(x, source.pool, source.stride)
            statistics = (None, None) if source.norm is None else rows.statistics(p, source.norm)
            pooled.append((p, *statistics))
            # A pooled map without normalisation is read again for the gradient of its weight alone.
            again = source.norm is not None or learns_mixing
            kept += (p if again else p.new_empty(0), indices, *(s for s in statistics if s is not None))

        wide, plain = weights.wide(channels), weights.numbers
        scales, shift = _scales(wide, edges, last, pooled)
        total: Tensor | None = None
        for end, scale in zip(last, scales, strict=False):
            total = end.add(total, scale, shift)
        if total is None:
            n, _, h, w = pooled[0][0].shape
            total = shift[:, None, None].expand(n, -1, h, w).clone(memory_format=torch.channels_last)
        mixed = total.chunk(edges, dim=1)
        for column, (p, mean, _) in enumerate(pooled, len(last)):
            for edge, target in enumerate(mixed):
                if mean is None:
                    target.add_(p, alpha=plain[column][edge])
                else:
                    rows.add_scaled_(target, p, scales[column].view(edges, channels)[edge])
        ctx.operations, ctx.count, ctx.rectified = operations, len(tensors), rectified
        ctx.factors = plain
        ctx.save_for_backward(source_map, wide, *tensors, *kept)
        return mixed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, wide, *rest = ctx.saved_tensors
        kept, needs = iter(rest[ctx.count :]), iter(ctx.needs_input_grad[4:])
        needs_x, needs_weights = ctx.needs_input_grad[2:4]
        back = _Backward(grads, x, wide, ctx.factors, ctx.rectified, needs_x, needs_weights)
        convolutional, shared = _sorted(ctx.operations)
        outputs = [[(next(kept), next(kept), next(kept)) for _ in operation] for operation in convolutional]
        needed = [[(next(needs), next(needs)) for _ in operation] for operation in convolutional]
        of_tensors: list[Tensor | None] = []
        for column, (operation, out, need) in enumerate(zip(convolutional, outputs, needed, strict=True)):
            of_tensors += back.convolutions(column, operation, out, need)
        back.finish_active()
        for column, source in enumerate(shared, len(convolutional)):
            p, indices = next(kept), next(kept)
            statistics = None if source.norm is None else (next(kept), next(kept))
            back.pooling(column, source, p, indices, statistics)
        of_weights: Tensor | None = None
        if needs_weights:
            of_weights = back.of_chosen()
        return None, None, back.of_x, of_weights, *of_tensors


def _sorted(operations: tuple[Operation, ...]) -> tuple[list[Sequence[Stage]], list[Shared]]:
    """Operations with convolutions, and maps that the edges share."""
    return [o for o in operations if not isinstance(o, Shared)], [o for o in operations if isinstance(o, Shared)]


def _scales(
    wide: Tensor,
    edges: int,
    last: list[_Last],
    pooled: list[tuple[Tensor, Tensor | None, Tensor | None]],
) -> tuple[Tensor, Tensor]:
    """Normalisation and mixing weight in one: sum_o w_o * x_hat_o = sum_o scale_o * x_o + shift.

    Returns:
        scales (normalised operations, e*c) and shift (e*c,).
    """
    means = [o.mean for o in last] + [m for _, m, _ in pooled if m is not None for _ in range(edges)]
    inv_stds = [o.inv_std for o in last] + [s for _, _, s in pooled if s is not None for _ in range(edges)]
    if not means:
        return wide, wide.new_zeros(wide.shape[1])
    scales = torch.cat(inv_stds).view(-1, wide.shape[1])
    scales = scales * wide[: len(scales)]
    return scales, (scales * torch.cat(means).view_as(scales)).sum(0).neg_()


class _Inputs:
    """What the first convolutions read, made when it is first asked for: relu(x), or a copy of it for each edge."""

    def __init__(self, x: Tensor, edges: int, active: Tensor | None = None) -> None:
        self.x, self.edges, self.active = x, edges, active
        self.copies: Tensor | None = None

    def of(self, stage: Stage) -> Tensor:
        """(n, c, h, w), before a depthwise convolution (n, e*c, h, w)."""
        if self.active is None:
            self.active = self.x.relu()
        if stage.depth is None:
            return self.active
        if self.copies is None:
            self.copies = torch.cat([self.active] * self.edges, dim=1)
        return self.copies


class _Backward:
    """The backward pass of `_Mix`, one operation after the other.

    Args:
        x: the node's output, or relu of it if `rectified`.
        wide, factors: the mixing weights (k, e*c), one for each channel, and as k lists of e numbers.

    Attributes:
        of_x: the gradient of x so far, or None.
        dots, sums: the gradients of the mixing weights so far, if they are needed: of operations with convolutions channel
            by channel (e*c,), of the others edge by edge.
    """

    def __init__(
        self,
        grads: Sequence[Tensor],
        x: Tensor,
        wide: Tensor,
        factors: list[list[float]],
        rectified: bool,
        needs_x: bool,
        needs_weights: bool,
    ) -> None:
        # Edge by edge they lie in one piece each, which is what is read once for the sums over edges.
        self.parts = [grad.contiguous(memory_format=torch.channels_last) for grad in grads]
        self.grad = self.parts[0] if len(grads) == 1 else torch.cat(self.parts, dim=1)
        self.x, self.needs_x = x, needs_x
        self.wide, self.factors = wide, factors
        self.edges, self.channels = len(factors[0]), x.shape[1]
        self.inputs = _Inputs(x, self.edges, active=x if rectified else None)
        self.needs_weights = needs_weights
        self.dots: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.of_x: Tensor | None = None
        self.of_active: Tensor | None = None  # of relu(x), through convolutions that read it directly
        self.of_copies: Tensor | None = None  # (n, e*c, h, w), through depthwise convolutions, for each edge by itself

    def convolutions(
        self,
        column: int,
        operation: Sequence[Stage],
        outputs: list[tuple[Tensor, Tensor, Tensor]],
        needed: list[tuple[bool, bool]],
    ) -> list[Tensor | None]:
        """Walk an operation's stages backwards.

        Args:
            column: the operation's column of the mixing weights.
            outputs: for each stage its convolutions' output and that one's mean and 1/sqrt(var + eps).
            needed: for each stage whether the depthwise and the other weight need a gradient.

        Returns:
            the gradients of the stages' weights, in the order of `needed`.
        """
        if pointwise.applies(operation[0]):
            return self.pointwise(column, operation[0], outputs[0], needed[0])
        grads: list[Tensor | None] = []
        of_output = self.grad
        for number in reversed(range(len(operation))):
            stage, need = operation[number], needed[number]
            deeper = self.needs_x or any(map(any, needed[:number]))
            last = number == len(operation) - 1
            grad, dot = rows.normalisation_gradient(
                of_output, *outputs[number], self.wide[column] if last else None, wanted=deeper or any(need)
            )
            if last and self.needs_weights:
                self.dots.append(dot)
            if grad is None:
                return [*[None] * (2 * number + 2), *grads]
            y: Tensor | None = None
            if number:
                before, mean, inv_std = outputs[number - 1]
                y = rows.affine(before, inv_std, -mean * inv_std).relu_()
            elif any(need):
                y = self.inputs.of(stage)
            of_input, of_depth, of_point = convolve_backward(grad, y, self.x, stage, self.edges, deeper, need)
            grads = [of_depth, of_point, *grads]
            if of_input is None:
                return [*[None] * (2 * number), *grads]
            if number:
                assert y is not None
                of_output = _through_relu_(of_input, y)
            elif stage.depth is not None:
                self.of_copies = of_input if self.of_copies is None else self.of_copies.add_(of_input)
            else:
                self.add_to_active(of_input)
        return grads

    def pointwise(
        self, column: int, stage: Stage, kept: tuple[Tensor, Tensor, Tensor], need: tuple[bool, bool]
    ) -> list[Tensor | None]:
        """Walk back through a 1x1 convolution that left no map."""
        of_active, of_filters, dot = pointwise.gradients(
            self.grad, self.inputs.of(stage), stage.point.view(-1, self.channels), kept, self.wide[column],
            (self.needs_x, need[1]),
        )  # fmt: skip
        if self.needs_weights:
            self.dots.append(dot)
        if of_active is not None:
            self.add_to_active(of_active)
        return [None, None if of_filters is None else of_filters.view_as(stage.point)]

    def add_to_active(self, grad: Tensor) -> None:
        """Add to the gradient of relu(x)."""
        self.of_active = grad if self.of_active is None else self.of_active.add_(grad)

    def finish_active(self) -> None:
        """Sum over the edges what came through the convolutions and take it through the ReLU."""
        total = self.of_active
        if self.of_copies is not None:
            for part in self.of_copies.chunk(self.edges, dim=1):
                total = part.clone(memory_format=torch.channels_last) if total is None else total.add_(part)
        self.inputs.active = self.inputs.copies = self.of_copies = None
        if total is not None:
            self.of_x = _through_relu_(total, self.x)

    def pooling(
        self, column: int, shared: Shared, p: Tensor, indices: Tensor, statistics: tuple[Tensor, Tensor] | None
    ) -> None:
        """Walk back through a pooling or the identity; p: (n, c, h, w), its map before normalisation, if it is read."""
        parts, factors = self.parts, self.factors[column]
        if self.needs_weights:
            source = p
            if statistics is not None:
                mean, inv_std = statistics
                source = rows.affine(p, inv_std, -mean * inv_std, rows.scratch(p))
            source = rows.flat(source)
            self.sums += [torch.dot(rows.flat(part), source) for part in parts]
        if not self.needs_x:
            return
        if shared.pool is None and statistics is None and self.of_x is not None:
            for part, factor in zip(parts, factors, strict=True):
                self.of_x.add_(part, alpha=factor)
            return
        grad = parts[0] * factors[0]
        for part, factor in zip(parts[1:], factors[1:], strict=True):
            grad.add_(part, alpha=factor)
        if statistics is not None:
            through, _ = rows.normalisation_gradient(grad, p, *statistics, None)
            assert through is not None
            grad = through
        grad = pooling.pool_gradient(grad, self.x, indices, shared.pool, shared.stride)
        self.of_x = grad if self.of_x is None else self.of_x.add_(grad)

    def of_chosen(self) -> Tensor:
        """The gradients of the mixing weights, (k, e)."""
        found = [torch.stack(self.dots).view(-1, self.edges, self.channels).sum(2)] if self.dots else []
        if self.sums:
            found.append(torch.stack(self.sums).view(-1, self.edges))
        return torch.cat(found)


def _through_relu_(grad: Tensor, of: Tensor) -> Tensor:
    """The gradient before a ReLU in the place of the one after it; `of`: the ReLU's input or output."""
    return torch.ops.aten.threshold_backward.grad_input(grad, of, 0, grad_input=grad)  # type: ignore[no-any-return]
