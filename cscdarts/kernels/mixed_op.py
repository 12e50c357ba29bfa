"""The mixed operations of one node as a single differentiable function that saves little and recomputes what is cheap.

Plain autograd keeps, for each separable convolution of each edge, seven maps for the backward pass. Here only the
outputs of the 1x1 convolutions are kept, two maps: normalised values, ReLUs and depthwise outputs are computed again.
The mixing weights scale the normalisation, so their gradient falls out of its backward pass and the weighted operations
are never stored. What a step does not need is not computed: no gradients of weights while the architecture learns, none
of the architecture while the weights learn.

The function is differentiable once. `MixedOps` has a plain path with the same parameters for second derivatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cscdarts.kernels import channels_last, pointwise
from cscdarts.kernels.conv_bn import ConvBN, convolve
from cscdarts.kernels.mixed_op_backward import Backward, Inputs
from cscdarts.kernels.mixing_weights import EdgeWeights
from cscdarts.kernels.pooling import SharedMap, pool

Operation = Sequence[ConvBN] | SharedMap


def mix(x: Tensor, operations: Sequence[Operation], weights: EdgeWeights) -> tuple[Tensor, ...]:
    """sum_o w_o * o(x) of every edge.

    Args:
        x: (n, c, h, w), the node's output, before ReLU.
        operations: k operations, those with convolutions first, those without normalisation last; a ReLU precedes each
            `ConvBN`.
        weights: mixing weights of e edges, a row for each operation.

    Returns:
        for each edge its sum (n, c, h/s, w/s) in channels_last, or a slice of channels of such a map.
    """
    tensors = [
        tensor
        for operation in operations
        if not isinstance(operation, SharedMap)
        for stage in operation
        for tensor in (stage.depth, stage.point)
    ]
    return _Mix.apply(tuple(operations), weights, x, weights.per_op, *tensors)  # type: ignore[no-any-return]


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
            return pointwise.weighted(self.x, self.filters, scale, shift, total)
        if total is None:
            return channels_last.affine(self.x, scale, shift)
        channels_last.add_scaled_(total, self.x, scale)
        return total


class _Mix(torch.autograd.Function):
    """See `mix`."""

    @staticmethod
    def forward(
        ctx: Any, operations: tuple[Operation, ...], weights: EdgeWeights, x: Tensor, per_op: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        x = x.contiguous(memory_format=torch.channels_last)
        edges, channels = per_op.shape[1], x.shape[1]
        inputs = Inputs(x, edges)
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
                mean, inv_std = channels_last.statistics(p, stage.norm)
                y = channels_last.affine(p, inv_std, -mean * inv_std).relu_()
                kept += (p, mean, inv_std)
            p = convolve(y, operation[-1], edges)
            mean, inv_std = channels_last.statistics(p, operation[-1].norm)
            last.append(_Last(p, mean, inv_std, None))
            kept += (p, mean, inv_std)
        # Of the node's output only the signs are read again, unless the mixing weights learn: relu(x) has them too.
        rectified = learns_weights and not learns_mixing and inputs.active is not None
        source_map = inputs.active if rectified else x
        del inputs
        pooled = []
        for source in shared:
            p, indices = pool(x, source.pool, source.stride)
            statistics = (None, None) if source.norm is None else channels_last.statistics(p, source.norm)
            pooled.append((p, *statistics))
            # A pooled map without normalisation is read again for the gradient of its weight alone.
            again = source.norm is not None or learns_mixing
            kept += (p if again else p.new_empty(0), indices, *(s for s in statistics if s is not None))

        per_channel, plain = weights.per_channel(channels), weights.as_floats
        scales, shift = _scales(per_channel, edges, last, pooled)
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
                    channels_last.add_scaled_(target, p, scales[column].view(edges, channels)[edge])
        ctx.operations, ctx.count, ctx.rectified = operations, len(tensors), rectified
        ctx.factors = plain
        ctx.save_for_backward(source_map, per_channel, *tensors, *kept)
        return mixed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, per_channel, *rest = ctx.saved_tensors
        kept, needs = iter(rest[ctx.count :]), iter(ctx.needs_input_grad[4:])
        needs_x, needs_weights = ctx.needs_input_grad[2:4]
        back = Backward(grads, x, per_channel, ctx.factors, ctx.rectified, needs_x, needs_weights)
        convolutional, shared = _sorted(ctx.operations)
        outputs = [[(next(kept), next(kept), next(kept)) for _ in operation] for operation in convolutional]
        needed = [[(next(needs), next(needs)) for _ in operation] for operation in convolutional]
        grad_tensors: list[Tensor | None] = []
        for column, (operation, out, need) in enumerate(zip(convolutional, outputs, needed, strict=True)):
            grad_tensors += back.convolutions(column, operation, out, need)
        back.finish_active()
        for column, source in enumerate(shared, len(convolutional)):
            p, indices = next(kept), next(kept)
            statistics = None if source.norm is None else (next(kept), next(kept))
            back.pooling(column, source, p, indices, statistics)
        grad_weights = back.grad_per_op() if needs_weights else None
        return None, None, back.grad_x, grad_weights, *grad_tensors


def _sorted(operations: tuple[Operation, ...]) -> tuple[list[Sequence[ConvBN]], list[SharedMap]]:
    """Operations with convolutions, and maps that the edges share."""
    return [o for o in operations if not isinstance(o, SharedMap)], [o for o in operations if isinstance(o, SharedMap)]


def _scales(
    per_channel: Tensor,
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
        return per_channel, per_channel.new_zeros(per_channel.shape[1])
    scales = torch.cat(inv_stds).view(-1, per_channel.shape[1])
    scales = scales * per_channel[: len(scales)]
    return scales, (scales * torch.cat(means).view_as(scales)).sum(0).neg_()
