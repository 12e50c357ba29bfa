"""The mixed operations of all edges that leave one node, computed together.

Every edge (i, j) applies m_ij(x) = sum_o w_ij,o * o_ij(x) (Liu et al. 2019, equation 2) and all edges out of node i read
the same x. So what does not depend on the edge (ReLU, pooling and its normalisation, identity) is computed once, the
convolutions of one kind are batched over the outgoing edges, mixing weights are folded into the normalisation, and
`none` costs nothing. Values are those of edge-by-edge modules; `tests/` holds such a supernet as oracle.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.normalise import BatchNorm


def conv_parameter(edges: int, outputs: int, inputs: int, kernel: int) -> nn.Parameter:
    """Stacked convolution weights (edges, outputs, inputs, k, k), initialised as torch initialises one convolution."""
    bound = 1 / math.sqrt(inputs * kernel * kernel)
    return nn.Parameter(torch.empty(edges, outputs, inputs, kernel, kernel).uniform_(-bound, bound))


class FanOut(nn.Module):
    """All mixed operations that leave one node.

    Args:
        ops: candidate operations in the order of the mixing weights' columns.
        edges: number e of outgoing edges.
        channels: channels c of the input that reach the operations.
        stride: 1, or 2 on edges from the input nodes of a reduction cell.
        pool_norm: whether pooled maps are normalised (DARTS search does, NAS-Bench-201 does not).
    """

    def __init__(self, ops: tuple[str, ...], edges: int, channels: int, stride: int, pool_norm: bool = True) -> None:
        super().__init__()
        self.ops, self.edges, self.channels, self.stride = ops, edges, channels, stride
        self.plain: bool = False  # plain autograd, which can be differentiated twice and traced on meta tensors
        self.kinds = nn.ModuleDict()
        for op in ops:
            if op.startswith("sep_conv"):
                self.kinds[op] = SeparableConvs(edges, channels, stride, kernel=int(op[-1]))
            elif op.startswith("dil_conv"):
                self.kinds[op] = DilatedConvs(edges, channels, stride, kernel=int(op[-1]))
            elif op.startswith("nor_conv"):
                self.kinds[op] = PlainConvs(edges, channels, stride, kernel=int(op[-1]))
            elif op == "skip_connect" and stride == 2:
                self.kinds[op] = FactorizedReduces(edges, channels)
            elif op in ("max_pool_3x3", "avg_pool_3x3"):
                self.kinds[op] = BatchNorm(channels, affine=False) if pool_norm else nn.Identity()

    def forward(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """Apply the mixed operation of each edge.

        Args:
            x: (n, c, h, w), the node's output (its share for the operations).
            weights: (e, k) mixing weights, a row for each edge, a column for each operation.

        Returns:
            e tensors (n, c, h/stride, w/stride).
        """
        active = F.relu(x)
        shared: list[tuple[Tensor, Tensor]] = []  # maps that all edges share, with their (e,) weights
        total: Tensor | None = None  # (n, e*c, h, w): sum of what differs between the edges
        for column, op in enumerate(self.ops):
            weight = weights[:, column]
            if op == "max_pool_3x3":
                shared.append((self.kinds[op](F.max_pool2d(x, 3, self.stride, 1)), weight))
            elif op == "avg_pool_3x3":
                pooled = F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)
                shared.append((self.kinds[op](pooled), weight))
            elif op == "skip_connect" and self.stride == 1:
                shared.append((x, weight))
            elif op != "none":
                mixed = self.kinds[op](active, weight)
                total = mixed if total is None else total + mixed
        if total is None:
            size = (x.shape[0], self.channels, x.shape[2] // self.stride, x.shape[3] // self.stride)
            outputs = [x.new_zeros(size) for _ in range(self.edges)]
        else:
            outputs = list(torch.split(total, self.channels, dim=1))
        for values, weight in shared:
            outputs = [output + weight[edge] * values for edge, output in enumerate(outputs)]
        return outputs


def _per_channel(weight: Tensor, channels: int) -> Tensor:
    """(e,) -> (e*c,): an edge's weight for each of its channels."""
    return weight.repeat_interleave(channels)


class SeparableConvs(nn.Module):
    """(ReLU, depthwise k x k, 1x1, normalisation) twice, for e edges; the first ReLU is the caller's."""

    def __init__(self, edges: int, channels: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.edges, self.channels, self.stride, self.padding = edges, channels, stride, kernel // 2
        self.depth1 = conv_parameter(edges, channels, 1, kernel)
        self.point1 = conv_parameter(edges, channels, channels, 1)
        self.norm1 = BatchNorm(edges * channels, affine=False)
        self.depth2 = conv_parameter(edges, channels, 1, kernel)
        self.point2 = conv_parameter(edges, channels, channels, 1)
        self.norm2 = BatchNorm(edges * channels, affine=False)

    def forward(self, active: Tensor, weight: Tensor) -> Tensor:
        """active: (n, c, h, w) after ReLU; weight: (e,) -> (n, e*c, h/s, w/s)."""
        groups = self.edges * self.channels
        y = active.repeat(1, self.edges, 1, 1)
        y = F.conv2d(y, self.depth1.flatten(0, 1), None, self.stride, self.padding, 1, groups)
        y = F.relu(self.norm1(F.conv2d(y, self.point1.flatten(0, 1), groups=self.edges)))
        y = F.conv2d(y, self.depth2.flatten(0, 1), None, 1, self.padding, 1, groups)
        y = F.conv2d(y, self.point2.flatten(0, 1), groups=self.edges)
        return self.norm2(y, _per_channel(weight, self.channels))  # type: ignore[no-any-return]


class DilatedConvs(nn.Module):
    """ReLU, depthwise k x k with dilation 2, 1x1, normalisation, for e edges; the ReLU is the caller's."""

    def __init__(self, edges: int, channels: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.edges, self.channels, self.stride, self.padding = edges, channels, stride, kernel - 1
        self.depth = conv_parameter(edges, channels, 1, kernel)
        self.point = conv_parameter(edges, channels, channels, 1)
        self.norm = BatchNorm(edges * channels, affine=False)

    def forward(self, active: Tensor, weight: Tensor) -> Tensor:
        """active: (n, c, h, w) after ReLU; weight: (e,) -> (n, e*c, h/s, w/s)."""
        y = active.repeat(1, self.edges, 1, 1)
        groups = self.edges * self.channels
        y = F.conv2d(y, self.depth.flatten(0, 1), None, self.stride, self.padding, 2, groups)
        y = F.conv2d(y, self.point.flatten(0, 1), groups=self.edges)
        return self.norm(y, _per_channel(weight, self.channels))  # type: ignore[no-any-return]


class PlainConvs(nn.Module):
    """ReLU, k x k convolution, normalisation, for e edges; one convolution as all edges share the input."""

    def __init__(self, edges: int, channels: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.channels, self.stride, self.padding = channels, stride, kernel // 2
        self.conv = conv_parameter(edges, channels, channels, kernel)
        self.norm = BatchNorm(edges * channels, affine=False)

    def forward(self, active: Tensor, weight: Tensor) -> Tensor:
        """active: (n, c, h, w) after ReLU; weight: (e,) -> (n, e*c, h/s, w/s)."""
        y = F.conv2d(active, self.conv.flatten(0, 1), None, self.stride, self.padding)
        return self.norm(y, _per_channel(weight, self.channels))  # type: ignore[no-any-return]


class FactorizedReduces(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2 on maps one pixel apart, concatenation, normalisation, for e edges."""

    def __init__(self, edges: int, channels: int) -> None:
        super().__init__()
        self.edges, self.channels = edges, channels
        self.even = conv_parameter(edges, channels // 2, channels, 1)
        self.odd = conv_parameter(edges, channels // 2, channels, 1)
        self.norm = BatchNorm(edges * channels, affine=False)

    def forward(self, active: Tensor, weight: Tensor) -> Tensor:
        """active: (n, c, h, w) after ReLU, h and w even; weight: (e,) -> (n, e*c, h/2, w/2)."""
        even = F.conv2d(active, self.even.flatten(0, 1), stride=2)
        odd = F.conv2d(active[:, :, 1:, 1:], self.odd.flatten(0, 1), stride=2)
        n, _, h, w = even.shape
        halves = (part.view(n, self.edges, self.channels // 2, h, w) for part in (even, odd))
        y = torch.cat(tuple(halves), dim=2).flatten(1, 2)
        return self.norm(y, _per_channel(weight, self.channels))  # type: ignore[no-any-return]
