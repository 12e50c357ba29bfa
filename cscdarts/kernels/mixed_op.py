"""The mixed operations of one node as a single differentiable function that saves little and computes again what is
cheap.

The mixing weights scale the normalisation, so their gradient falls out of its backward pass and the weighted operations
are never stored. What a step does not need is not computed: no gradients of weights while the architecture learns, none
of the architecture while the weights learn. Each kind of operation has a kernel of its own (`kernel.py`); here their
maps are added and their gradients collected.

The function is differentiable once. `MixedOps` has a plain path with the same parameters for second derivatives.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import Candidate, ConvBN, SharedMap
from cscdarts.kernels.cpu.conv_chain import ConvChain
from cscdarts.kernels.cpu.pointwise import PointwiseConv
from cscdarts.kernels.cpu.shared_map import SharedMapKernel, SharedSummand
from cscdarts.kernels.kernel import Kernel, Needs, NodeInput, Summand, relu_backward_
from cscdarts.kernels.mixing_weights import EdgeWeights
from cscdarts.kernels.packing import pack, unpack


def may_fuse(x: Tensor, training: bool, norms: Iterable[BatchNorm]) -> bool:
    """Whether `mix` may compute what plain autograd would.

    It takes the batch's own statistics or, where nothing is differentiated, the running ones; one precision, one
    process, one differentiation.
    """
    return (
        (training or not torch.is_grad_enabled())
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not any(norm.sync for norm in norms)
    )


def mix(x: Tensor, operations: Sequence[Candidate], weights: EdgeWeights) -> tuple[Tensor, ...]:
    """sum_o w_o * o(x) of every edge.

    Args:
        x: (n, c, h, w), the node's output, before ReLU.
        operations: k operations, those with convolutions first, those without normalisation last.
        weights: mixing weights of e edges, a row per operation.

    Returns:
        per edge its sum (n, c, h/s, w/s) in channels_last, or a slice of channels of such a map.
    """
    if not torch.is_grad_enabled() and not any(norm.training and norm.track for norm in _norms(operations)):
        # A discrete cell weighs most operations by 0, and nothing is to be learned from these here.
        used = [row for row, factors in enumerate(weights.as_floats) if any(factors)] or [0]
        operations, weights = [operations[row] for row in used], weights.only(used)
    kernels = _Kernels(
        tuple(_kernel(o) for o in operations if not isinstance(o, SharedMap)),
        tuple(SharedMapKernel(o) for o in operations if isinstance(o, SharedMap)),
    )
    tensors = [weight for kernel in kernels.convolutions for weight in kernel.weights]
    return _Mix.apply(kernels, weights, x, weights.per_op, *tensors)  # type: ignore[no-any-return]


class _Kernels(NamedTuple):
    """A node's kernels, in the order of the mixing weights' rows."""

    convolutions: tuple[Kernel, ...]
    shared: tuple[SharedMapKernel, ...]


def _kernel(stages: Sequence[ConvBN]) -> Kernel:
    return PointwiseConv(stages[0]) if PointwiseConv.suits(stages[0]) else ConvChain(stages)


def _norms(operations: Sequence[Candidate]) -> Iterator[BatchNorm]:
    for operation in operations:
        for layer in [operation] if isinstance(operation, SharedMap) else operation:
            if layer.norm is not None:
                yield layer.norm


class _Saved(NamedTuple):
    """What a node keeps for its backward pass.

    Attributes:
        source: (n, c, h, w), the node's output, or its ReLU if `rectified`.
        per_channel: (k, e*c), the mixing weights.
        convolutions, shared: what the kernels keep.
    """

    source: Tensor
    rectified: bool
    per_channel: Tensor
    convolutions: tuple[Any, ...]
    shared: tuple[SharedMapKernel.Saved, ...]


class _Mix(torch.autograd.Function):
    """See `mix`."""

    @staticmethod
    def forward(
        ctx: Any, kernels: _Kernels, weights: EdgeWeights, x: Tensor, per_op: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        x = x.contiguous(memory_format=torch.channels_last)
        edges, channels = per_op.shape[1], x.shape[1]
        mixing_learns, weights_learn = ctx.needs_input_grad[3], any(ctx.needs_input_grad[4:])
        inputs = NodeInput(x, edges)
        maps, kept = _unzip(kernel.forward(inputs) for kernel in kernels.convolutions)
        # Of the node's output only the signs are read again, unless the mixing weights learn: relu(x) has them too.
        rectified = bool(maps) and weights_learn and not mixing_learns
        source = inputs.relu if rectified else x
        del inputs
        shared_maps, shared_kept = _unzip(
            kernel.forward(x, weights, row, mixing_learns) for row, kernel in enumerate(kernels.shared, len(maps))
        )
        per_channel = weights.per_channel(channels)
        ctx.kernels = kernels
        ctx.structure, saved = pack(_Saved(source, rectified, per_channel, kept, shared_kept))
        ctx.save_for_backward(*saved)
        return _sum(maps, shared_maps, per_channel, edges)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved: _Saved = unpack(ctx.structure, ctx.saved_tensors)
        needs_x, needs_mixing = ctx.needs_input_grad[2:4]
        # Edge by edge they lie in one piece each, which is what is read once for sums over edges.
        parts = [grad.contiguous(memory_format=torch.channels_last) for grad in grads]
        grad_x, mixing, tensors = _backward_convolutions(
            ctx.kernels.convolutions, saved, parts, needs_x, ctx.needs_input_grad[4:]
        )
        mixing_of_shared: list[Tensor] = []
        for kernel, kept in zip(ctx.kernels.shared, saved.shared, strict=True):
            grad_x, dots = kernel.backward(kept, saved.source, parts, grad_x, (needs_x, needs_mixing))
            mixing_of_shared += dots
        grad_per_op = _grad_per_op(mixing, mixing_of_shared, len(parts)) if needs_mixing else None
        return None, None, grad_x, grad_per_op, *tensors


def _sum(
    maps: Sequence[Summand], shared: Sequence[SharedSummand], per_channel: Tensor, edges: int
) -> tuple[Tensor, ...]:
    """Normalise, weigh and add the operations' maps: per edge (n, c, h/s, w/s).

    Normalisation and mixing weight in one: sum_o w_o * x_hat_o = sum_o scale_o * x_o + shift.
    """
    statistics = [m.statistics for m in maps]
    statistics += [m.statistics for m in shared if m.statistics is not None for _ in range(edges)]
    if statistics:
        scales = torch.cat([inv_std for _, inv_std in statistics]).view(-1, per_channel.shape[1])
        scales = scales * per_channel[: len(scales)]
        shift = (scales * torch.cat([mean for mean, _ in statistics]).view_as(scales)).sum(0).neg_()
    else:
        scales, shift = per_channel, per_channel.new_zeros(per_channel.shape[1])
    total: Tensor | None = None
    for summand, scale in zip(maps, scales, strict=False):
        total = summand.added_to(total, scale, shift)
    if total is None:
        n, _, h, w = shared[0].map.shape
        total = shift[:, None, None].expand(n, -1, h, w).clone(memory_format=torch.channels_last)
    sums = total.chunk(edges, dim=1)
    for row, shared_map in enumerate(shared, len(maps)):
        shared_map.add_to(sums, None if shared_map.statistics is None else scales[row])
    return sums


def _backward_convolutions(
    kernels: Sequence[Kernel], saved: _Saved, parts: list[Tensor], needs_x: bool, needs_weights: Sequence[bool]
) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
    """Walk back through the operations with convolutions and the ReLU before them.

    Returns:
        the gradients of x so far (n, c, h, w) or None, of the mixing weights channel by channel (e*c,) per operation,
        and of the convolutions' weights.
    """
    grad = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    inputs, needed = NodeInput(saved.source, len(parts), saved.rectified), iter(needs_weights)
    of_relu: Tensor | None = None
    of_relu_per_edge: Tensor | None = None
    mixing: list[Tensor] = []
    tensors: list[Tensor | None] = []
    for kernel, kept, weight in zip(kernels, saved.convolutions, saved.per_channel, strict=False):
        needs = Needs(needs_x, tuple(islice(needed, len(kernel.weights))))
        if kernel.per_edge:
            of_relu_per_edge, of_weights, of_mixing = kernel.backward(
                kept, inputs, grad, weight, of_relu_per_edge, needs
            )
        else:
            of_relu, of_weights, of_mixing = kernel.backward(kept, inputs, grad, weight, of_relu, needs)
        tensors += of_weights
        mixing.append(of_mixing)
    if of_relu_per_edge is not None:
        for part in of_relu_per_edge.chunk(len(parts), dim=1):
            of_relu = part.clone(memory_format=torch.channels_last) if of_relu is None else of_relu.add_(part)
    return None if of_relu is None else relu_backward_(of_relu, saved.source), mixing, tensors


def _grad_per_op(of_convolutions: list[Tensor], of_shared: list[Tensor], edges: int) -> Tensor:
    """Gradients of the mixing weights, (k, e), from those channel by channel (e*c,) and those edge by edge."""
    found = [torch.stack(of_convolutions).view(len(of_convolutions), edges, -1).sum(2)] if of_convolutions else []
    if of_shared:
        found.append(torch.stack(of_shared).view(-1, edges))
    return torch.cat(found)


def _unzip(pairs: Iterable[tuple[Any, Any]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The first and the second of each pair."""
    both = list(pairs)
    return tuple(first for first, _ in both), tuple(second for _, second in both)
