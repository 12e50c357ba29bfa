"""Maps without weights that all edges of a node share: 3x3 pooling with padding 1 and its gradient, fast on a CPU.

Average pooling is linear and separable: with x an image's h x w pixels of one channel it gives A_h x A_w^T, where row i
of A_h (h/stride, h) has 1 / (pixels in the window) at the up to three pixels that output i averages. Its gradient takes
the transposed matrices. On small images these are the quickest way, on larger ones a depthwise convolution with ones.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

#: Images with no more rows and columns are averaged by products of matrices.
_SMALL = 16


def pool(x: Tensor, kind: str | None, stride: int) -> tuple[Tensor, Tensor | None]:
    """Pool x and say where each maximum came from.

    Args:
        x: (n, c, h, w) in channels_last.
        kind: `max`, `avg` (which does not count the padding), or None for x itself.

    Returns:
        (n, c, h/stride, w/stride) and, for `max`, the indices in the image (int16 where they fit: torch's int64 would
        take twice the memory of the map itself), else None.
    """
    if kind is None:
        return x, None
    if kind == "max":
        pooled, indices = F.max_pool2d(x, 3, stride, 1, return_indices=True)
        return pooled, indices.to(torch.int16 if x.shape[2] * x.shape[3] < 2**15 else torch.int32)
    if max(x.shape[2:]) <= _SMALL:
        return _products(x, *_averages(x, stride)), None
    ones, shares = _window(x.shape[1], x.shape[2], x.shape[3], stride, x.dtype)
    return F.conv2d(x, ones, None, stride, 1, 1, x.shape[1]).mul_(shares), None


def pool_gradient(grad: Tensor, x: Tensor, indices: Tensor | None, kind: str | None, stride: int) -> Tensor:
    """Gradient (n, c, h, w) of x through `pool`, for the identity `grad` itself.

    Args:
        grad: (n, c, h/stride, w/stride), is overwritten.
        x: (n, c, h, w), for its shape and layout.
        indices: those that `pool` gave.
    """
    if kind is None:
        return grad
    size = [3, 3], [stride, stride], [1, 1]
    if kind == "max":
        assert indices is not None
        return torch.ops.aten.max_pool2d_with_indices_backward(  # type: ignore[no-any-return]
            grad, x, *size, [1, 1], False, indices.long()
        )
    if max(x.shape[2:]) <= _SMALL:
        return _products(grad, *(matrix.t() for matrix in _averages(x, stride)))
    if stride == 1:
        ones, shares = _window(x.shape[1], x.shape[2], x.shape[3], 1, x.dtype)
        return F.conv2d(grad.mul_(shares), ones, None, 1, 1, 1, x.shape[1])
    return torch.ops.aten.avg_pool2d_backward(grad, x, *size, False, False, None)  # type: ignore[no-any-return]


def _products(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ x @ columns^T of each channel; x: (n, c, h, w), rows: (p, h), columns: (q, w) -> (n, c, p, q) in
    channels_last."""
    n, c, h, w = x.shape
    p, q = rows.shape[0], columns.shape[0]
    y = torch.bmm(rows.expand(n, p, h), x.permute(0, 2, 3, 1).reshape(n, h, w * c))
    y = torch.bmm(columns.expand(n * p, q, w), y.view(n * p, w, c))
    return y.view(n, p, q, c).permute(0, 3, 1, 2)


def _averages(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """A_h and A_w of the module's text for x: (n, c, h, w)."""
    return _average(x.shape[2], stride, x.dtype), _average(x.shape[3], stride, x.dtype)


@lru_cache(maxsize=64)
def _average(length: int, stride: int, dtype: torch.dtype) -> Tensor:
    """The matrix (length/stride, length) that averages up to three neighbours along one axis."""
    distance = torch.arange(length) - stride * torch.arange(-(-length // stride))[:, None]
    near = (distance.abs() <= 1).to(dtype)
    return near / near.sum(1, keepdim=True)


@lru_cache(maxsize=64)
def _window(c: int, h: int, w: int, stride: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Average pooling as a depthwise convolution with ones (c, 1, 3, 3), times 1 / pixels in the window,
    (1, c, h/s, w/s)."""
    pixels = F.avg_pool2d(torch.ones((1, 1, h, w), dtype=dtype), 3, stride, 1, divisor_override=1)
    shares = pixels.reciprocal().expand(-1, c, -1, -1).contiguous(memory_format=torch.channels_last)
    return torch.ones((c, 1, 3, 3), dtype=dtype), shares
