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

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from cscdarts.kernels.candidates import Candidate
from cscdarts.kernels.mixing_weights import EdgeWeights
from cscdarts.kernels.packing import pack, unpack
from cscdarts.kernels.portable.arithmetic import TORCH, Arithmetic
from cscdarts.kernels.portable.choice import arithmetic_for
from cscdarts.kernels.portable.levels import Sorted, sort
from cscdarts.kernels.portable.node import Kept, Node
from cscdarts.kernels.portable.synchronised import SYNCHRONISED
from cscdarts.kernels.portable.walk import Walk


def may_fuse(training: bool) -> bool:
    """Whether `mix` may compute what plain autograd would.

    It takes the batch's own statistics or, where nothing is differentiated, the running ones.
    """
    return training or not torch.is_grad_enabled()


def mix(
    x: Tensor, operations: Sequence[Candidate], weights: EdgeWeights, training: bool, synchronised: bool
) -> tuple[Tensor, ...]:
    """sum_o w_o * o(x) of every edge; see `cscdarts.kernels.mixed_op.mix`.

    Under autocast maps are in the lower precision, statistics and mixing weights in theirs.

    Args:
        training: whether the batch's statistics normalise; synchronised: of a batch that several processes share.
    """
    found = sort(operations)
    by: Arithmetic = TORCH
    if training:
        precision, full = _precision(x)
        with full:
            by = SYNCHRONISED if synchronised else arithmetic_for(x.device, precision)
    return _Mix.apply(found, weights, by, x, weights.per_op, *found.tensors)  # type: ignore[no-any-return]


class _Mix(torch.autograd.Function):
    """See `mix`."""

    @staticmethod
    def forward(
        ctx: Any, found: Sorted, weights: EdgeWeights, by: Arithmetic, x: Tensor, per_op: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        precision, full = _precision(x)
        with full:
            node = Node(found, weights, by, x.shape[1])
            kept, sums = node.forward(x.to(precision).contiguous(), mixing_learns=ctx.needs_input_grad[4])
        ctx.node, ctx.dtype = node, x.dtype
        ctx.structure, saved = pack(kept)
        ctx.save_for_backward(*saved)
        return tuple(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept: Kept = unpack(ctx.structure, ctx.saved_tensors)
        _, _, _, needs_x, needs_mixing, *needs_tensors = ctx.needs_input_grad
        grad = grads[0].contiguous() if len(grads) == 1 else torch.cat(grads, dim=1)
        walk = Walk(ctx.node, kept, grad, needs_x, needs_mixing, needs_tensors)
        grad_x, grad_per_op, tensors = walk.gradients()
        return None, None, None, None if grad_x is None else grad_x.to(ctx.dtype), grad_per_op, *tensors


def _precision(x: Tensor) -> tuple[torch.dtype, AbstractContextManager[object]]:
    """The precision that autocast asks for on x's device, and a context that leaves all else to us."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return x.dtype, nullcontext()
    return torch.get_autocast_dtype(device), torch.autocast(device, enabled=False)
