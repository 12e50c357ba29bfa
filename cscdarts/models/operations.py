"""Operations of discrete networks and the fixed parts of supernets, as in quark0/darts `cnn/operations.py`.

NAS-Bench-201's come from D-X-Y/AutoDL-Projects `xautodl/models/cell_operations.py`. All take and give (n, c, h, w).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm


class ReLUConvBN(nn.Sequential):
    """ReLU, k x k convolution without bias, normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            BatchNorm(outputs, affine),
        )


class SepConv(nn.Sequential):
    """(ReLU, depthwise k x k, 1x1, normalisation) twice; the stride is in the first."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        def half(step: int) -> list[nn.Module]:
            return [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                BatchNorm(channels, affine),
            ]

        super().__init__(*half(stride), *half(1))


class DilConv(nn.Sequential):
    """ReLU, depthwise k x k with dilation 2, 1x1, normalisation."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, kernel - 1, 2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm(channels, affine),
        )


class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2 on maps one pixel apart, concatenation, normalisation."""

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = BatchNorm(outputs, affine)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, inputs, h, w), h and w even -> (n, outputs, h/2, w/2)."""
        x = F.relu(x)
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))
        return out


class Pool(nn.Module):
    """3x3 pooling, `max` or `avg` (which does not count the padding)."""

    def __init__(self, kind: str, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> (n, c, h/s, w/s)."""
        if self.kind == "max":
            return F.max_pool2d(x, 3, self.stride, 1)
        return F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)


class Zero(nn.Module):
    """The operation `none`: zeros."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> zeros (n, c, h/s, w/s)."""
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class ResidualReduction(nn.Module):
    """NAS-Bench-201's fixed block between stages: two 3x3 convolutions beside pooling and 1x1; halves h and w."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ReLUConvBN(inputs, outputs, 3, 2), ReLUConvBN(outputs, outputs, 3, 1))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, inputs, h, w) -> (n, outputs, h/2, w/2)."""
        out: Tensor = self.shortcut(x) + self.body(x)
        return out


def operation(op: str, channels: int, stride: int, affine: bool = True) -> nn.Module:
    """The discrete operation of this name, for `channels` in and out."""
    kernel = int(op[-1]) if op[-1].isdigit() else 0
    if op == "none":
        return Zero(stride)
    if op == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    if op in ("max_pool_3x3", "avg_pool_3x3"):
        return Pool(op[:3], stride)
    if op.startswith("sep_conv"):
        return SepConv(channels, kernel, stride, affine)
    if op.startswith("dil_conv"):
        return DilConv(channels, kernel, stride, affine)
    if op.startswith("nor_conv"):
        return ReLUConvBN(channels, channels, kernel, stride, affine)
    raise ValueError(f"no operation {op!r}")
