"""The backward pass of a node's fused mixed operations (`cscdarts/kernels/mixed_op.py`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cscdarts.kernels import channels_last, pointwise
from cscdarts.kernels.conv_bn import ConvBN, convolve_backward
from cscdarts.kernels.pooling import SharedMap, pool_gradient


class Inputs:
    """What the first convolutions read, made when it is first asked for: relu(x), or a copy of it for each edge."""

    def __init__(self, x: Tensor, edges: int, active: Tensor | None = None) -> None:
        self.x, self.edges, self.active = x, edges, active
        self.copies: Tensor | None = None

    def of(self, stage: ConvBN) -> Tensor:
        """(n, c, h, w), before a depthwise convolution (n, e*c, h, w)."""
        if self.active is None:
            self.active = self.x.relu()
        if stage.depth is None:
            return self.active
        if self.copies is None:
            self.copies = torch.cat([self.active] * self.edges, dim=1)
        return self.copies


class Backward:
    """The gradients of a node's mixed operations, one operation after the other.

    Args:
        x: the node's output, or relu of it if `rectified`.
        per_channel, factors: the mixing weights (k, e*c), one for each channel, and as k lists of e numbers.

    Attributes:
        grad_x: the gradient of x so far, or None.
        dots, sums: the gradients of the mixing weights so far, if they are needed: of operations with convolutions channel
            by channel (e*c,), of the others edge by edge.
    """

    def __init__(
        self,
        grads: Sequence[Tensor],
        x: Tensor,
        per_channel: Tensor,
        factors: list[list[float]],
        rectified: bool,
        needs_x: bool,
        needs_weights: bool,
    ) -> None:
        # Edge by edge they lie in one piece each, which is what is read once for the sums over edges.
        self.parts = [grad.contiguous(memory_format=torch.channels_last) for grad in grads]
        self.grad = self.parts[0] if len(grads) == 1 else torch.cat(self.parts, dim=1)
        self.x, self.needs_x = x, needs_x
        self.per_channel, self.factors = per_channel, factors
        self.edges, self.channels = len(factors[0]), x.shape[1]
        self.inputs = Inputs(x, self.edges, active=x if rectified else None)
        self.needs_weights = needs_weights
        self.dots: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.grad_x: Tensor | None = None
        self.grad_active: Tensor | None = None  # of relu(x), through convolutions that read it directly
        self.grad_copies: Tensor | None = (
            None  # (n, e*c, h, w), through depthwise convolutions, for each edge by itself
        )

    def convolutions(
        self,
        column: int,
        operation: Sequence[ConvBN],
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
        grad_output = self.grad
        for number in reversed(range(len(operation))):
            stage, need = operation[number], needed[number]
            deeper = self.needs_x or any(map(any, needed[:number]))
            last = number == len(operation) - 1
            grad, dot = channels_last.normalisation_gradient(
                grad_output, *outputs[number], self.per_channel[column] if last else None, wanted=deeper or any(need)
            )
            if last and self.needs_weights:
                self.dots.append(dot)
            if grad is None:
                return [*[None] * (2 * number + 2), *grads]
            y: Tensor | None = None
            if number:
                before, mean, inv_std = outputs[number - 1]
                y = channels_last.affine(before, inv_std, -mean * inv_std).relu_()
            elif any(need):
                y = self.inputs.of(stage)
            grad_input, grad_depth, grad_point = convolve_backward(grad, y, self.x, stage, self.edges, deeper, need)
            grads = [grad_depth, grad_point, *grads]
            if grad_input is None:
                return [*[None] * (2 * number), *grads]
            if number:
                assert y is not None
                grad_output = _through_relu_(grad_input, y)
            elif stage.depth is not None:
                self.grad_copies = grad_input if self.grad_copies is None else self.grad_copies.add_(grad_input)
            else:
                self.add_to_active(grad_input)
        return grads

    def pointwise(
        self, column: int, stage: ConvBN, kept: tuple[Tensor, Tensor, Tensor], need: tuple[bool, bool]
    ) -> list[Tensor | None]:
        """Walk back through a 1x1 convolution that left no map."""
        grad_active, grad_filters, dot = pointwise.gradients(
            self.grad, self.inputs.of(stage), stage.point.view(-1, self.channels), kept, self.per_channel[column],
            self.grad_active, (self.needs_x, need[1]),
        )  # fmt: skip
        if self.needs_weights:
            self.dots.append(dot)
        if grad_active is not None:
            self.grad_active = grad_active
        return [None, None if grad_filters is None else grad_filters.view_as(stage.point)]

    def add_to_active(self, grad: Tensor) -> None:
        """Add to the gradient of relu(x)."""
        self.grad_active = grad if self.grad_active is None else self.grad_active.add_(grad)

    def finish_active(self) -> None:
        """Sum over the edges what came through the convolutions and take it through the ReLU."""
        total = self.grad_active
        if self.grad_copies is not None:
            for part in self.grad_copies.chunk(self.edges, dim=1):
                total = part.clone(memory_format=torch.channels_last) if total is None else total.add_(part)
        self.inputs.active = self.inputs.copies = self.grad_copies = None
        if total is not None:
            self.grad_x = _through_relu_(total, self.x)

    def pooling(
        self, column: int, shared: SharedMap, p: Tensor, indices: Tensor, statistics: tuple[Tensor, Tensor] | None
    ) -> None:
        """Walk back through a pooling or the identity; p: (n, c, h, w), its map before normalisation, if it is read."""
        parts, factors = self.parts, self.factors[column]
        if self.needs_weights:
            source = p
            if statistics is not None:
                mean, inv_std = statistics
                source = channels_last.affine(p, inv_std, -mean * inv_std, channels_last.scratch(p))
            source = channels_last.flat(source)
            self.sums += [torch.dot(channels_last.flat(part), source) for part in parts]
        if not self.needs_x:
            return
        if shared.pool is None and statistics is None and self.grad_x is not None:
            for part, factor in zip(parts, factors, strict=True):
                self.grad_x.add_(part, alpha=factor)
            return
        grad = parts[0] * factors[0]
        for part, factor in zip(parts[1:], factors[1:], strict=True):
            grad.add_(part, alpha=factor)
        if statistics is not None:
            through, _ = channels_last.normalisation_gradient(grad, p, *statistics, None)
            assert through is not None
            grad = through
        grad = pool_gradient(grad, self.x, indices, shared.pool, shared.stride)
        self.grad_x = grad if self.grad_x is None else self.grad_x.add_(grad)

    def grad_per_op(self) -> Tensor:
        """The gradients of the mixing weights, (k, e)."""
        found = [torch.stack(self.dots).view(-1, self.edges, self.channels).sum(2)] if self.dots else []
        if self.sums:
            found.append(torch.stack(self.sums).view(-1, self.edges))
        return torch.cat(found)


def _through_relu_(grad: Tensor, of: Tensor) -> Tensor:
    """The gradient before a ReLU in the place of the one after it; `of`: the ReLU's input or output."""
    return torch.ops.aten.threshold_backward.grad_input(grad, of, 0, grad_input=grad)  # type: ignore[no-any-return]
