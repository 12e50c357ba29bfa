"""A node's edges with one operation each, so that a pass costs one operation an edge and not all of them.

Dong and Yang 2019 (GDAS, section 3.2): of a one-hot sample only the sampled operation is computed. The weight of that
operation, 1, takes the gradient <dL/dy, o(x)>, which goes straight through to the soft weights; the weights of
operations that were not computed take none. (The released code adds dL/dy summed to those, which no operation stands
for.)
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import ConvBN, convolve
from cscdarts.kernels.mixed_op import mix
from cscdarts.kernels.mixing_weights import EdgeWeights


def convolutions_of(x: Tensor, active: Tensor, stages: Sequence[ConvBN], edges: Sequence[int]) -> tuple[Tensor, ...]:
    """A chain of convolutions on some of a node's edges.

    Args:
        x: (n, c, h, w), the node's output; active: its ReLU.
        stages: of all edges that leave the node.
        edges: which of them.

    Returns:
        for each of these edges (n, c, h/s, w/s).
    """
    rows = torch.tensor(edges, device=x.device)
    y = active if stages[0].depth is None else active.repeat(1, len(edges), 1, 1)
    for at, stage in enumerate(stages):
        chosen = replace(stage, depth=None if stage.depth is None else stage.depth[rows], point=stage.point[rows])
        y = _normalised(convolve(y if at == 0 else F.relu(y), chosen, len(edges)), stage.norm, rows)
    return y.chunk(len(edges), dim=1)


def fused_convolutions_of(
    x: Tensor, stages: Sequence[ConvBN], edges: Sequence[int], weights: Tensor
) -> tuple[Tensor, ...]:
    """A chain of convolutions on some of a node's edges, times their weights, by the CPU's fused function.

    It keeps less for the backward pass than plain autograd, and where it may be called
    `cscdarts.kernels.mixed_op.may_fuse` says.

    Args:
        x: (n, c, h, w), the node's output, before ReLU.
        stages: of all edges that leave the node.
        edges: which of them.
        weights: (len(edges),), of this operation on these edges.

    Returns:
        for each of these edges (n, c, h/s, w/s).
    """
    chosen = [_of_edges(stage, edges) for stage in stages]
    outputs = mix(x, [chosen], EdgeWeights(weights[None]))
    for stage, own in zip(stages, chosen, strict=True):
        norm = stage.norm
        if norm.training and norm.track:
            with torch.no_grad():
                places = _places(norm, stage.point.shape[0], edges)
                norm.running_mean[places], norm.running_var[places] = own.norm.running_mean, own.norm.running_var
    return outputs


def _of_edges(stage: ConvBN, edges: Sequence[int]) -> ConvBN:
    """A stage of some edges alone, with copies of their running statistics."""
    norm, places = stage.norm, _places(stage.norm, stage.point.shape[0], edges)
    own = BatchNorm(len(places), affine=False, eps=norm.eps, momentum=norm.momentum)
    own.running_mean, own.running_var = norm.running_mean[places], norm.running_var[places]
    own.track = norm.track
    own.train(norm.training)
    depth = None if stage.depth is None else _rows(stage.depth, edges)
    return replace(stage, depth=depth, point=_rows(stage.point, edges), norm=own)


def _rows(weights: Tensor, edges: Sequence[int]) -> Tensor:
    """The weights of some edges; of neighbours a view, so that no copy is kept for the backward pass."""
    first, last = edges[0], edges[-1]
    if last - first + 1 == len(edges):
        return weights[first : last + 1]
    return weights[torch.tensor(edges, device=weights.device)]


def _places(norm: BatchNorm, total: int, edges: Sequence[int]) -> Tensor:
    """Channels of some edges in a layer that holds those of all `total` edges."""
    width = len(norm.running_mean) // total
    rows = torch.tensor(edges, device=norm.running_mean.device)
    return (rows[:, None] * width + torch.arange(width, device=rows.device)).flatten()


def _normalised(y: Tensor, norm: BatchNorm, rows: Tensor) -> Tensor:
    """The normalisation of some edges' channels by a layer that holds those of all edges; y: (n, len(rows)*c, h, w)."""
    width = y.shape[1] // len(rows)
    places = (rows[:, None] * width + torch.arange(width, device=rows.device)).flatten()
    mean, var = norm.running_mean[places], norm.running_var[places]
    out = F.batch_norm(y, mean, var, None, None, norm.training, norm.momentum, norm.eps)
    if norm.training and norm.track:
        with torch.no_grad():
            norm.running_mean[places], norm.running_var[places] = mean, var
    return out
