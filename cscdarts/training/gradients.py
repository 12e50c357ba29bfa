"""Gradients of the mean loss under mixed precision, accumulation and several processes: one place for all three."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.data.source import Batch
from cscdarts.models.supernet import Supernet
from cscdarts.training.bilevel import only_gradients_of
from cscdarts.training.distributed import World, average

Precision = Literal["none", "bf16", "fp16"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Mixed precision for one pass. Weight casts are cached within one pass only, so perturbed weights are seen."""
    if precision == "none":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def full(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, others as they are: losses are never summed in half precision."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def clip(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradients together so that their norm is at most `limit`; returns what it was, and waits for nothing.

    As `torch.nn.utils.clip_grad_norm_`, bit for bit, in a few launches on any device.
    """
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, torch.clamp(limit / (norm + 1e-6), max=1.0))
    return norm


class SupernetGradients:
    """Gradients of the mean cross-entropy of the supernet.

    With `accumulate` = a the batch is passed in a parts and their gradients averaged; batch statistics then come from
    parts of the batch, as they would on a smaller batch. fp16 losses are scaled by a fixed 2^12 before the backward
    pass and the gradients divided again in float32; bf16 needs no scale.

    Args:
        forward: the supernet or its compiled form.
        replayed: whether `forward` replays CUDA graphs. The next pass overwrites their gradients, and the second-order
            step holds some over several passes, so they are copied.
        last: set after every call: the detached mean loss and number of wrong answers, on the device.
    """

    def __init__(
        self,
        supernet: Supernet,
        forward: Callable[[Tensor], Tensor],
        precision: Precision,
        accumulate: int,
        world: World,
        replayed: bool = False,
    ) -> None:
        self.forward, self.world, self.replayed = forward, world, replayed
        self.parameters = list(supernet.parameters())
        self.precision: Precision = precision
        self.accumulate = accumulate
        self.scale = 4096.0 if precision == "fp16" else 1.0
        self.last: tuple[Tensor, Tensor] | None = None

    def __call__(self, batch: Batch, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Gradients with respect to the parameters, averaged over parts and processes."""
        images, labels = batch
        sums: list[Tensor] | None = None
        losses, wrong = [], []
        with only_gradients_of(self.parameters, parameters):
            for part, answers in zip(images.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True):
                with autocast(part.device, self.precision):
                    logits = self.forward(part)
                loss = F.cross_entropy(full(logits), answers)
                # A sampled cell that `none` cuts off gives the same answer whatever alpha is.
                grads: tuple[Tensor | None, ...] = (
                    torch.autograd.grad(loss * self.scale, parameters, allow_unused=True)
                    if loss.requires_grad
                    else (None,) * len(parameters)
                )
                if self.replayed:
                    grads = tuple(None if g is None else g.clone() for g in grads)
                filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
                sums = filled if sums is None else list(torch._foreach_add(sums, filled))
                losses.append(loss.detach())
                wrong.append((logits.detach().argmax(1) != answers).sum())
        assert sums is not None
        factor = 1 / (self.scale * self.accumulate)
        result = sums if factor == 1 else list(torch._foreach_mul(sums, factor))
        average(result, self.world)
        self.last = (torch.stack(losses).mean(), torch.stack(wrong).sum())
        return result
