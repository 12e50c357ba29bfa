"""Per-channel arithmetic of the portable mixed operation in torch's own functions: any device, no wait of the host.

Maps are contiguous, (n, k*e*c, h, w): k operations one after another, in each e edges of c channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.kernel import Statistics
from cscdarts.kernels.portable.levels import follow, joined

_RUNNING = ("running_mean", "running_var")


class Term(NamedTuple):
    """Maps of k operations on their way into the mixed operations' sums.

    Attributes:
        map: (n, k*e*c, h, w), before normalisation, or (n, c, h, w) where all edges share it.
        statistics: of its channels; None without normalisation, and in evaluation.
        weighted: the same normalised, and times the mixing weights where each edge has its own.
        skipped: how many of the k operations come first and are no summands.
    """

    map: Tensor
    statistics: Statistics | None
    weighted: Tensor
    skipped: int = 0


class MapGrads(NamedTuple):
    """Gradients of a map before its normalisation, None where it is not wanted, and channel by channel of its weight."""

    map: Tensor | None
    weight: Tensor | None


def normalise(p: Tensor, norms: Sequence[BatchNorm], weight: Tensor | None, skipped: int = 0) -> Term:
    """Normalise p, and weigh each channel; moves the running statistics that are tracked, in evaluation takes them.

    Args:
        norms: of the k operations; weight: (k*e*c,), or None for 1.
    """
    first = norms[0]
    if not first.training:
        mean, var = (joined([getattr(norm, name) for norm in norms]).flatten() for name in _RUNNING)
        return Term(p, None, torch.native_batch_norm(p, weight, None, mean, var, False, 0.0, first.eps)[0], skipped)
    means, variances = ([getattr(norm, name) for norm in norms] for name in _RUNNING)
    in_place = follow(means) and follow(variances)
    running = (joined(means).flatten(), joined(variances).flatten()) if first.track and in_place else (None, None)
    out, mean, inv_std = torch.native_batch_norm(p, weight, None, *running, True, first.momentum, first.eps)
    if first.track and not in_place:
        var = inv_std.square().reciprocal_().sub_(first.eps)
        for norm, own_mean, own_var in zip(norms, mean.chunk(len(norms)), var.chunk(len(norms)), strict=True):
            norm.track_batch(own_mean, own_var, p.numel() // p.shape[1])
    return Term(p, Statistics(mean, inv_std), out, skipped)


def normalise_again(p: Tensor, eps: float) -> Tensor:
    """The normalised values of p with the batch's own statistics, once more."""
    return torch.native_batch_norm(p, None, None, None, None, True, 0.0, eps)[0]


def rectified(normalised: Tensor, k: int, on: int) -> Tensor:
    """relu of the first `on` of k normalised maps (n, k*e*c, h, w), one map after another: (on, n, e*c, h, w)."""
    n, d, h, w = normalised.shape
    out = normalised.new_empty((on, n, d // k, h, w))
    return torch.clamp_min(normalised.view(n, k, d // k, h, w)[:, :on].transpose(0, 1), 0, out=out)


def weighted_sum(terms: Sequence[Term], shared: Sequence[Term], factors: Tensor, width: int) -> Tensor:
    """The mixed operations' sums, (n, e*c, h, w).

    Args:
        terms: with mixing weights; shared: without, with factors: (s, e), their mixing weights.
        width: e*c.
    """
    summands = [part for term in terms for part in term.weighted.split(width, dim=1)[term.skipped :]]
    edges = factors.shape[1]
    total: Tensor | None = None
    for number, part in enumerate(summands):
        total = part if total is None else total + part if number == 1 else total.add_(part)
    # A single summand may lie between the maps of other operations.
    total = None if total is None else total.contiguous()
    for term, weights in zip(shared, factors.unbind(), strict=True):
        each, part = weights.view(edges, 1, 1, 1), term.weighted.unsqueeze(1)
        if total is None:
            total = (part * each.to(part.dtype)).flatten(1, 2)
        else:
            total.view(part.shape[0], edges, -1, *part.shape[3:]).addcmul_(part, each.to(part.dtype))
    assert total is not None
    return total


def spread(grad: Tensor, k: int, skipped: int) -> Tensor:
    """The sums' gradient for each of k operations that is a summand, memory for those that are not: (n, k, e*c, h, w)."""
    n, d, h, w = grad.shape
    if k == 1 and not skipped:
        return grad.view(n, 1, d, h, w)
    out = grad.new_empty((n, k, d, h, w))
    if skipped < k:
        out[:, skipped:].copy_(grad.unsqueeze(1).expand(-1, k - skipped, -1, -1, -1))
    return out


def normalisation_gradient(
    grad: Tensor, p: Tensor, statistics: Statistics, weight: Tensor | None, wanted: tuple[bool, bool]
) -> MapGrads:
    """Walk back through `normalise` with the batch's statistics.

    Args:
        grad: of its output, shaped as p; wanted: whether the map's gradient is asked for, and the weight's.
    """
    mean, inv_std = statistics
    of_map, of_weight, _ = torch.ops.aten.native_batch_norm_backward(
        grad, p, weight, None, None, mean, inv_std, True, 0.0, [wanted[0], wanted[1], False]
    )
    return MapGrads(of_map if wanted[0] else None, of_weight if wanted[1] else None)


def shared_gradients(grad: Tensor, factors: Tensor) -> Tensor:
    """Gradients of the maps that all edges add, (s, n, c, h, w), from the sums' one: (n, e*c, h, w)."""
    n, d, h, w = grad.shape
    s, edges = factors.shape
    out = grad.new_empty((s, n, d // edges, h, w))
    by_edge = grad.view(n, edges, -1)
    torch.bmm(factors.to(grad.dtype).expand(n, s, edges), by_edge, out=out.view(s, n, -1).transpose(0, 1))
    return out


def dots(grad: Tensor, maps: Sequence[Tensor], edges: int) -> Tensor:
    """Gradients (s, e) of the mixing weights of maps (n, c, h, w) that all edges add, from the sums' one."""
    n = grad.shape[0]
    stacked = torch.stack(list(maps), dim=1).view(n, len(maps), -1)
    whole = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return torch.bmm(stacked, grad.view(n, edges, -1).transpose(1, 2)).sum(0, dtype=whole)
