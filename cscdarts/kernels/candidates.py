"""What a mixed operation is made of: chains of convolutions with normalisation, and maps without weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm

#: On 16 channels the convolution library is quicker on some processors and slower on others, from here on it never is.
_PRODUCT_CHANNELS = 32


@dataclass(frozen=True)
class ConvBN:
    """A convolution and its normalisation, for e edges at once.

    Attributes:
        depth: (e, c, 1, k, k) depthwise weight before the 1x1 convolution, or None.
        point: (e, c, c, k, k) weight; after a depthwise convolution 1x1 and one per edge, else all edges read the same
            c channels.
        norm: normalisation of (n, e*c, h, w) without weight and bias.
        stride, padding, dilation: of the depthwise convolution if there is one, else of the other.
    """

    depth: Tensor | None
    point: Tensor
    norm: BatchNorm
    stride: int
    padding: int
    dilation: int = 1

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a 1x1 convolution of stride 1 alone, which is a product of matrices."""
        return self.depth is None and self.point.shape[3] == 1 and self.stride == 1

    @property
    def as_product(self) -> bool:
        """Whether it is computed as a product of matrices rather than by the convolution library."""
        return self.is_pointwise and self.point.shape[2] >= _PRODUCT_CHANNELS and self.point.device.type == "cpu"


@dataclass(frozen=True)
class SharedMap:
    """A map without weights that all edges share.

    Attributes:
        pool: `max`, `avg`, or None for the node's output itself.
        norm: normalisation of (n, c, h, w) after the pooling, or None.
        stride: of the pooling.
    """

    pool: str | None
    norm: BatchNorm | None
    stride: int


#: A candidate operation of all edges that leave a node; a ReLU precedes each `ConvBN`.
Candidate = Sequence[ConvBN] | SharedMap


def convolve(x: Tensor, stage: ConvBN, edges: int) -> Tensor:
    """The stage's convolutions; x: (n, c, h, w), with a depthwise one (n, e*c, h, w) -> (n, e*c, h/s, w/s)."""
    if stage.as_product:
        return channel_product(x, stage.point.view(-1, x.shape[1]).t())
    point = stage.point.flatten(0, 1)
    if stage.depth is None:
        return F.conv2d(x, point, None, stage.stride, stage.padding)
    return F.conv2d(convolve_depthwise(x, stage), point, groups=edges)


def convolve_depthwise(x: Tensor, stage: ConvBN) -> Tensor:
    """The stage's depthwise convolution alone, x: (n, e*c, h, w) -> (n, e*c, h/s, w/s)."""
    assert stage.depth is not None
    return F.conv2d(x, stage.depth.flatten(0, 1), None, stage.stride, stage.padding, stage.dilation, x.shape[1])


def channel_product(x: Tensor, factors: Tensor) -> Tensor:
    """Each pixel's channels times a matrix; x: (n, c, h, w), factors: (c, d) -> (n, d, h, w) in channels_last."""
    return (x.permute(0, 2, 3, 1) @ factors).permute(0, 3, 1, 2)
