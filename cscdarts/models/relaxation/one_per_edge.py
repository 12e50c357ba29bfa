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
