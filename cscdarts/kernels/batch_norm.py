"""Batch normalisation whose running statistics can be held still, and which can share statistics between processes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.Module):
    """Batch normalisation over (n, h, w): y = (x - mean) / sqrt(var + eps) * weight + bias.

    In training it uses the batch's statistics and, unless `track` is off, moves the running ones; in evaluation it uses
    the running ones.

    Args:
        channels: number of channels c of the input (n, c, h, w).
        affine: whether weight and bias are learned; the supernet's mixed operations have none (quark0/darts
            `cnn/operations.py`, affine=False), so that a mixing weight cannot be undone by a scale.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, affine: bool = True, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum, self.track, self.sync = eps, momentum, True, False
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise x: (n, c, h, w).

        Args:
            scale: (c,) factors in place of the affine weight. Folding a mixing weight in here saves the product and
                its copy: the weight of an operation *is* the affine weight of its normalisation.
        """
        weight = self.weight if scale is None else scale.contiguous()
        if self.training and self.sync:
            return _synchronised(self, x, weight)
        mean, var = self.running_mean, self.running_var
        if self.training and not self.track:
            # Copies take the change: with None autograd would keep other tensors than in a tracked pass, and a pass
            # that is computed again (see `recompute`) must keep the same.
            mean, var = mean.clone(), var.clone()
        return F.batch_norm(x, mean, var, weight, self.bias, self.training, self.momentum, self.eps)

    def track_batch(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics, if they are tracked, towards a batch's mean and biased variance of `count`
        values."""
        if self.track:
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / max(1, count - 1)), self.momentum)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Leave all running statistics of a model untouched; outputs do not change.

    For passes at perturbed weights: the look-ahead passes of the second-order step would otherwise move the running
    statistics towards weights that are never kept.
    """
    with flag_set(batch_norms(model), "track", False):
        yield


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """All normalisations of a model."""
    return [layer for layer in model.modules() if isinstance(layer, BatchNorm)]


@contextmanager
def flag_set(layers: Iterable[nn.Module], flag: str, value: bool) -> Iterator[None]:
    """Set a flag of some layers, and give each its own value back at the end, whatever happens inside."""
    before = [(layer, getattr(layer, flag)) for layer in layers]
    for layer, _ in before:
        setattr(layer, flag, value)
    try:
        yield
    finally:
        for layer, own in before:
            setattr(layer, flag, own)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient, as every process's loss depends on every share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        out: Tensor = _SumOverProcesses.apply(grad.contiguous())
        return out


def _synchronised(layer: BatchNorm, x: Tensor, weight: Tensor | None) -> Tensor:
    """The statistics of the batch over all processes, each of which holds an equal share of it."""
    local = torch.stack([x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))])
    shared: Tensor = _SumOverProcesses.apply(local)
    mean, square = shared / torch.distributed.get_world_size()
    var = (square - mean * mean).clamp_min(0)
    layer.track_batch(mean.detach(), var.detach(), x.numel() // x.shape[1] * torch.distributed.get_world_size())
    factor = (var + layer.eps).rsqrt() if weight is None else (var + layer.eps).rsqrt() * weight
    shift = -mean * factor if layer.bias is None else layer.bias - mean * factor
    out: Tensor = x * factor[None, :, None, None] + shift[None, :, None, None]
    return out
