"""The backward pass of a node's fused mixed operations (`cscdarts/kernels/mixed_op.py`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cscdarts.kernels import channels_last as rows
from cscdarts.kernels import pointwise
from cscdarts.kernels.conv_bn import Stage, convolve_backward
from cscdarts.kernels.pooling import Shared, pool_gradient


class Inputs:
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


class Backward:
    """The gradients of a node's mixed operations, one operation after the other.

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
        self.inputs = Inputs(x, self.edges, active=x if rectified else None)
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
            self.of_active, (self.needs_x, need[1]),
        )  # fmt: skip
        if self.needs_weights:
            self.dots.append(dot)
        if of_active is not None:
            self.of_active = of_active
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
        grad = pool_gradient(grad, self.x, indices, shared.pool, shared.stride)
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
