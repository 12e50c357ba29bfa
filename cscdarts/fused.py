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
from torch.nn import functional as F

from cscdarts import depthwise, pooling, rows
from cscdarts.normalise import BatchNorm


@dataclass(frozen=True)
class Stage:
    """A convolution and its normalisation, for e edges at once.

    Attributes:
        depth: (e, c, 1, k, k) depthwise weight before the 1x1 convolution, or None.
        point: (e, c, c, k, k) weight; after a depthwise convolution 1x1 and one for each edge, else all edges read
            the same c channels.
        norm: normalisation of (n, e*c, h, w) without weight and bias.
        stride, padding, dilation: of the depthwise convolution if there is one, else of the other.
    """

    depth: Tensor | None
    point: Tensor
    norm: BatchNorm
    stride: int
    padding: int
    dilation: int = 1


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


def mix(x: Tensor, operations: Sequence[Operation], weights: Tensor) -> Tensor:
    """sum_o w_o * o(x) of every edge.

    Args:
        x: (n, c, h, w), the node's output, before ReLU.
        operations: k operations; a ReLU precedes each `Stage`.
        weights: (e, k) mixing weights.

    Returns:
        (n, e*c, h/s, w/s), the edges' sums side by side, in channels_last.
    """
    tensors = [
        tensor
        for operation in operations
        if not isinstance(operation, Shared)
        for stage in operation
        for tensor in (stage.depth, stage.point)
    ]
    return _Mix.apply(tuple(operations), x, weights, *tensors)  # type: ignore[no-any-return]


class _Mix(torch.autograd.Function):
    """See `mix`."""

    @staticmethod
    def forward(ctx: Any, operations: tuple[Operation, ...], x: Tensor, weights: Tensor, *tensors: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        edges, channels = weights.shape[0], x.shape[1]
        active = x.relu()
        wide = torch.cat([active] * edges, dim=1)
        total: Tensor | None = None  # (n, e*c, h, w), complete but for `shift`
        shift = x.new_zeros(edges * channels)
        kept: list[Tensor] = []
        for operation, weight in zip(operations, weights.unbind(1), strict=True):
            if isinstance(operation, Shared):
                continue
            y = active if operation[0].depth is None else wide
            for stage in operation[:-1]:
                p = convolve(y, stage, edges)
                mean, inv_std = rows.statistics(p, stage.norm)
                y = rows.affine(p, inv_std, -mean * inv_std).relu_()
                kept += (p, mean, inv_std)
            p = convolve(y, operation[-1], edges)
            mean, inv_std = rows.statistics(p, operation[-1].norm)
            kept += (p, mean, inv_std)
            scale = weight.repeat_interleave(channels) * inv_std
            shift -= scale * mean
            if total is None:
                total = rows.scaled(p, scale)
            else:
                rows.add_scaled_(total, p, scale)
        del active, wide
        for operation, weight in zip(operations, weights.unbind(1), strict=True):
            if not isinstance(operation, Shared):
                continue
            p, indices = pooling.pool(x, operation.pool, operation.stride)
            mean, inv_std = x.new_zeros(channels), x.new_ones(channels)
            if operation.norm is not None:
                mean, inv_std = rows.statistics(p, operation.norm)
            scales = weight[:, None] * inv_std
            shift -= (scales * mean).flatten()
            if total is None:
                n, _, h, w = p.shape
                total = x.new_zeros((n, h, w, edges * channels)).permute(0, 3, 1, 2)
            for part, scale in zip(total.chunk(edges, dim=1), scales, strict=True):
                rows.add_scaled_(part, p, scale)
            kept += (p, indices, mean, inv_std)
        assert total is not None
        rows.add_(total, shift)
        ctx.operations, ctx.count = operations, len(tensors)
        ctx.save_for_backward(x, weights, *tensors, *kept)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, *rest = ctx.saved_tensors
        kept, needs = iter(rest[ctx.count :]), iter(ctx.needs_input_grad)
        next(needs)
        back = _Backward(grad, x, weights, needs_x=next(needs), needs_weights=next(needs))
        of_tensors: list[Tensor | None] = []
        for column, operation in enumerate(ctx.operations):
            if not isinstance(operation, Shared):
                outputs = [(next(kept), next(kept), next(kept)) for _ in operation]
                needed = [(next(needs), next(needs)) for _ in operation]
                of_tensors += back.convolutions(column, operation, outputs, needed)
        back.finish_active()
        for column, operation in enumerate(ctx.operations):
            if isinstance(operation, Shared):
                back.shared(column, operation, next(kept), next(kept), next(kept), next(kept))
        return None, back.of_x, back.of_weights(), *of_tensors


class _Backward:
    """The backward pass of `_Mix`, one operation after the other.

    Attributes:
        of_x: the gradient of x so far, or None.
    """

    def __init__(self, grad: Tensor, x: Tensor, weights: Tensor, needs_x: bool, needs_weights: bool) -> None:
        self.grad = grad.contiguous(memory_format=torch.channels_last)
        self.grad_sum = rows.channel_sum(self.grad)
        self.x, self.weights, self.needs_x, self.needs_weights = x, weights, needs_x, needs_weights
        self.edges, self.channels = weights.shape[0], x.shape[1]
        self.columns: list[Tensor] = [weights.new_zeros(self.edges)] * weights.shape[1]
        self.of_x: Tensor | None = None
        self.of_active: Tensor | None = None  # of relu(x), through convolutions that read it directly
        self.of_wide: Tensor | None = None  # (n, e*c, h, w), through depthwise convolutions, for each edge by itself
        self.active: Tensor | None = None
        self.wide: Tensor | None = None

    def of_weights(self) -> Tensor | None:
        """The gradient of the mixing weights (e, k)."""
        return torch.stack(self.columns, dim=1) if self.needs_weights else None

    def convolutions(
        self,
        column: int,
        operation: Sequence[Stage],
        outputs: list[tuple[Tensor, Tensor, Tensor]],
        needed: list[tuple[bool, bool]],
    ) -> list[Tensor | None]:
        """Walk an operation's stages backwards.

        Args:
            outputs: for each stage its convolutions' output and that one's mean and 1/sqrt(var + eps).
            needed: for each stage whether the depthwise and the other weight need a gradient.

        Returns:
            the gradients of the stages' weights, in the order of `needed`.
        """
        grads: list[Tensor | None] = []
        grad, grad_sum = self.grad, self.grad_sum
        weight: Tensor | None = self.weights[:, column].repeat_interleave(self.channels)
        for number in reversed(range(len(operation))):
            stage, (p, mean, inv_std), need = operation[number], outputs[number], needed[number]
            deeper = self.needs_x or any(map(any, needed[:number]))
            grad_dot = rows.normalised_dot(grad_sum, grad, p, mean, inv_std)
            if stage is operation[-1]:
                self.columns[column] = grad_dot.view(self.edges, self.channels).sum(1)
            if not deeper and not any(need):
                return [*[None] * (2 * number + 2), *grads]
            grad = rows.normalisation_gradient(grad, grad_sum, grad_dot, p, mean, inv_std, weight)
            y: Tensor | None = None
            if number:
                p, mean, inv_std = outputs[number - 1]
                y = rows.affine(p, inv_std, -mean * inv_std).relu_()
            elif any(need):
                y = self._input(stage)
            of_input, of_depth, of_point = _convolve_backward(grad, y, self.x, stage, self.edges, deeper, need)
            grads = [of_depth, of_point, *grads]
            if of_input is None:
                return [*[None] * (2 * number), *grads]
            if number:
                grad = torch.ops.aten.threshold_backward(of_input, y, 0)
                grad_sum, weight = rows.channel_sum(grad), None
            elif stage.depth is not None:
                self.of_wide = of_input if self.of_wide is None else self.of_wide.add_(of_input)
            else:
                self.of_active = of_input if self.of_active is None else self.of_active.add_(of_input)
        return grads

    def _input(self, stage: Stage) -> Tensor:
        """relu(x): (n, c, h, w), or before a depthwise convolution (n, e*c, h, w), a copy for each edge."""
        if self.active is None:
            self.active = self.x.relu()
        if stage.depth is None:
            return self.active
        if self.wide is None:
            self.wide = torch.cat([self.active] * self.edges, dim=1)
        return self.wide

    def finish_active(self) -> None:
        """Sum over the edges what came through the convolutions and take it through the ReLU."""
        total = self.of_active
        if self.of_wide is not None:
            for part in self.of_wide.chunk(self.edges, dim=1):
                total = part.clone(memory_format=torch.channels_last) if total is None else total.add_(part)
        self.active = self.wide = self.of_wide = None
        if total is not None:
            self.of_x = torch.ops.aten.threshold_backward(total, self.x, 0)

    def shared(self, column: int, operation: Shared, p: Tensor, indices: Tensor, mean: Tensor, inv_std: Tensor) -> None:
        """Walk back through a pooling or the identity; p: (n, c, h, w) and its statistics."""
        parts, sums = self.grad.chunk(self.edges, dim=1), self.grad_sum.view(self.edges, self.channels)
        weight = self.weights[:, column]
        if self.needs_weights:
            dots = torch.stack([rows.channel_dot(part, p) for part in parts])
            self.columns[column] = ((dots - mean * sums) * inv_std).sum(1)
        if not self.needs_x:
            return
        per_channel = weight[:, None].expand(-1, self.channels).contiguous()
        grad = rows.scaled(parts[0], per_channel[0])
        for part, factor in zip(parts[1:], per_channel[1:], strict=True):
            rows.add_scaled_(grad, part, factor)
        if operation.norm is not None:
            grad_sum = weight @ sums
            grad_dot = rows.normalised_dot(grad_sum, grad, p, mean, inv_std)
            grad = rows.normalisation_gradient(grad, grad_sum, grad_dot, p, mean, inv_std, None)
        grad = pooling.pool_gradient(grad, self.x, indices, operation.pool, operation.stride)
        self.of_x = grad if self.of_x is None else self.of_x.add_(grad)


def convolve(y: Tensor, stage: Stage, edges: int) -> Tensor:
    """The stage's convolutions; y: (n, c, h, w), with a depthwise one (n, e*c, h, w) -> (n, e*c, h/s, w/s)."""
    point = stage.point.flatten(0, 1)
    if stage.depth is None:
        return F.conv2d(y, point, None, stage.stride, stage.padding)
    y = F.conv2d(y, stage.depth.flatten(0, 1), None, stage.stride, stage.padding, stage.dilation, y.shape[1])
    return F.conv2d(y, point, groups=edges)


def _convolve_backward(
    grad: Tensor, y: Tensor | None, x: Tensor, stage: Stage, edges: int, deeper: bool, need: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of `_convolve`'s input, depthwise weight and other weight, each None where it is not needed.

    grad: (n, e*c, h/s, w/s); y: `_convolve`'s input, None if only its gradient is wanted and the caller has not got it;
    x: (n, c, h, w), the node's output, for its shape and layout.
    """
    need_depth, need_point = need
    point = stage.point.flatten(0, 1)
    size = [stage.stride] * 2, [stage.padding] * 2, [1, 1], False, [0, 0], 1
    if stage.depth is None:
        results = torch.ops.aten.convolution_backward(
            grad, x if y is None else y, point, None, *size, [deeper, need_point, False]
        )
        return results[0], None, None if results[1] is None else results[1].view_as(stage.point)
    channels = grad.shape[1]
    kernel = stage.depth.shape[-1]
    of_point: Tensor | None = None
    if need_point:
        assert y is not None
        middle = F.conv2d(y, stage.depth.flatten(0, 1), None, stage.stride, stage.padding, stage.dilation, channels)
        of_point = torch.ops.aten.convolution_backward(
            grad, middle, point, None, [1, 1], [0, 0], [1, 1], False, [0, 0], edges, [False, True, False]
        )[1].view_as(stage.point)
    if not deeper and not need_depth:
        return None, None, of_point
    grad = F.conv2d(grad, stage.point.transpose(1, 2).flatten(0, 1), groups=edges)
    of_input, of_depth = None, None
    if need_depth:
        assert y is not None
        of_depth = depthwise.weight_gradient(grad, y, kernel, stage.stride, stage.padding, stage.dilation)
        of_depth = of_depth.view_as(stage.depth)
    if deeper:
        shape = torch.Size((x.shape[0], channels, grad.shape[2] * stage.stride, grad.shape[3] * stage.stride))
        of_input = depthwise.input_gradient(
            grad, shape, stage.depth.flatten(0, 1), stage.stride, stage.padding, stage.dilation
        )
    return of_input, of_depth, of_point
