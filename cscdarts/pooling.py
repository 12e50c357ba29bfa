"""Maps without weights that all edges of a node share: 3x3 pooling with padding 1 and its gradient, fast on a CPU."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.normalise import BatchNorm


@dataclass(frozen=True)
class Shared:
    """A map without weights that all edges share.

    Attributes:
        pool: `max`, `avg`, or None for the node's output itself.
        norm: normalisation of (n, c, h, w) after the pooling, or None.
        stride: of the pooling.
    """

    pool: str | None
    norm: BatchNorm | None
    stride: int


def pool(x: Tensor, kind: str | None, stride: int) -> tuple[Tensor, Tensor]:
    """Pool x and say where each maximum came from.

    Args:
        x: (n, c, h, w) in channels_last.
        kind: `max`, `avg` (which does not count the padding), or None for x itself.

    Returns:
        (n, c, h/stride, w/stride) and, for `max`, the indices in the image (int16 where they fit: torch's int64 would
        take twice the memory of the map itself), else an empty tensor.
    """
    none = x.new_empty(0)
    if kind is None:
        return x, none
    if kind == "max":
        pooled, indices = F.max_pool2d(x, 3, stride, 1, return_indices=True)
        return pooled, indices.to(torch.int16 if x.shape[2] * x.shape[3] < 2**15 else torch.int32)
    if x.device.type != "cpu":
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False), none
    ones, shares = _average(x.shape[1], x.shape[2], x.shape[3], stride, x.dtype)
    return F.conv2d(x, ones, None, stride, 1, 1, x.shape[1]).mul_(shares), none


def pool_gradient(grad: Tensor, x: Tensor, indices: Tensor, kind: str | None, stride: int) -> Tensor:
    """Gradient of x through `pool`; grad: (n, c, h/stride, w/stride), is overwritten, x: (n, c, h, w) -> (n, c, h, w)."""
    if kind is None:
        return grad.clone()
    size = [3, 3], [stride, stride], [1, 1]
    if kind == "max":
        return torch.ops.aten.max_pool2d_with_indices_backward(  # type: ignore[no-any-return]
            grad, x, *size, [1, 1], False, indices.long()
        )
    if x.device.type != "cpu" or stride != 1:
        return torch.ops.aten.avg_pool2d_backward(grad, x, *size, False, False, None)  # type: ignore[no-any-return]
    ones, shares = _average(x.shape[1], x.shape[2], x.shape[3], 1, x.dtype)
    return F.conv2d(grad.mul_(shares), ones, None, 1, 1, 1, x.shape[1])


@lru_cache(maxsize=64)
def _average(c: int, h: int, w: int, stride: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Average pooling as a depthwise convolution with ones (c, 1, 3, 3), times 1 / pixels in the window (1, c, h/s, w/s)."""
    pixels = F.avg_pool2d(torch.ones((1, 1, h, w), dtype=dtype), 3, stride, 1, divisor_override=1)
    shares = pixels.reciprocal().expand(-1, c, -1, -1).contiguous(memory_format=torch.channels_last)
    return torch.ones((c, 1, 3, 3), dtype=dtype), shares
