"""The channel-split connection: part of the channels is operated on, the rest is reused as it is.

For an edge with input x = [x_a ; x_b], x_a the share that goes to the operations:

    z = Shuffle_q(Concat(m(x_a), b(x_b))),   b = identity (stride 1) or a 2x2 pooling (stride 2)

Both Concat and Shuffle are linear and the same on every edge into a node, so they are applied once to the node's sums.
INFERRED from the abstract of CSC-DARTS; the precedents are PC-DARTS (arXiv 1907.05737) and ShuffleNetV2 (1807.11164).
"""

import math
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.models.operations import FactorizedReduce
from cscdarts.settings.config import SupernetConfig
from cscdarts.settings.ratio import split_channels


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Channel k = g*(C/q) + t moves to t*q + g; the identity for q = 1.

    Args:
        x: (n, c, h, w); groups: q, a divisor of c.
    """
    if groups == 1:
        return x
    n, c, h, w = x.shape
    if not x.is_contiguous(memory_format=torch.channels_last):
        return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)
    pixels = x.permute(0, 2, 3, 1)
    return pixels.reshape(n, h, w, groups, c // groups).transpose(3, 4).reshape(n, h, w, c).permute(0, 3, 1, 2)


def unshuffle_channels(x: Tensor, groups: int) -> Tensor:
    """The inverse of `shuffle_channels`."""
    return shuffle_channels(x, x.shape[1] // groups)


def shuffle_groups(channels: int, ratio: Fraction) -> int:
    """q of ratio p/q, or the largest divisor it shares with the channels (36 channels are not divisible by 8)."""
    return math.gcd(channels, ratio.denominator)


class Split(nn.Module):
    """Splits a node's output into the operations' share and the bypass, and joins a node's sums again.

    Args:
        config: ratio, pick, shuffle, bypass.
        channels: channels c of the node's output.
        stride: of the edges that leave this node.
        affine: whether a factorized bypass has an affine normalisation.

    Attributes:
        operated: channels that go to the operations (c1).
    """

    def __init__(self, config: SupernetConfig, channels: int, stride: int, affine: bool = False) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        self.pick, self.bypass_reduce = config.split_pick, config.bypass_reduce
        whole = config.split_ratio == 1 or (stride == 2 and config.bypass_reduce == "nosplit")
        self.operated = channels if whole else split_channels(channels, config.split_ratio)
        self.reduce: nn.Module | None = None
        if stride == 2 and self.operated < channels and config.bypass_reduce == "factorized":
            # One per node, shared by its edges: what the bypass carries does not depend on the edge.
            self.reduce = FactorizedReduce(channels - self.operated, channels - self.operated, affine)
        self.order: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x: (n, c, h, w) -> x_a: (n, c1, h, w) and b: (n, c - c1, h/s, w/s), None where nothing bypasses."""
        if self.operated == self.channels:
            return x, None
        if self.pick == "first":
            operated, rest = x[:, : self.operated], x[:, self.operated :]
        elif self.pick == "last":
            cut = self.channels - self.operated
            operated, rest = x[:, cut:], x[:, :cut]
        else:
            if self.order is None:
                raise RuntimeError("split_pick=random needs Supernet.draw_channels() before a pass")
            operated, rest = x[:, self.order[: self.operated]], x[:, self.order[self.operated :]]
        if self.stride == 2:
            if self.reduce is not None:
                rest = self.reduce(rest)
            elif self.bypass_reduce == "avg":
                rest = F.avg_pool2d(rest, 2)
            else:
                rest = F.max_pool2d(rest, 2)
        return operated, rest


def concat_and_shuffle(mixed: Tensor, bypass: Tensor | None, ratio: Fraction, shuffle: bool) -> Tensor:
    """Concat and shuffle a node's sums: (n, c1, h, w) and (n, c - c1, h, w) -> (n, c, h, w)."""
    if bypass is None:
        return mixed
    both = torch.cat([mixed, bypass], dim=1)
    return shuffle_channels(both, shuffle_groups(both.shape[1], ratio)) if shuffle else both
