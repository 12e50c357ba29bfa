"""Gradients of depthwise convolutions by the routes that are fast on a CPU.

torch's CPU library computes a 3x3 weight gradient and every forward pass quickly, but kernels more than three columns
wide and dilated kernels fall back to code 10 to 20 times slower. The same sums can be had from the fast passes:

- the gradient of the input at stride 1 is a forward convolution with the flipped kernel;
- the gradient of a wide kernel is that of its strips of three columns;
- a dilation of 2 is an ordinary convolution on each of the four images of every second pixel.

`benchmarks/speed.md` has the measurements.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def input_gradient(
    grad: Tensor, x_shape: torch.Size, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    """Gradient of the input of a depthwise convolution.

    Args:
        grad: (n, c, h/stride, w/stride), gradient of the output.
        x_shape: (n, c, h, w) of the input.
        weight: (c, 1, k, k) with padding = dilation * (k - 1) / 2.

    Returns:
        (n, c, h, w).
    """
    channels = weight.shape[0]
    if stride == 1:
        return F.conv2d(grad, weight.flip(2, 3), None, 1, padding, dilation, channels)
    if dilation != 2:
        x = torch.empty(x_shape, dtype=grad.dtype, memory_format=torch.channels_last)
        return _library(grad, x, weight, stride, (padding, padding), dilation, True)
    # Taps two apart on every second pixel: only pixels of even row and column were read.
    n, c, h, w = x_shape
    x = grad.new_zeros((n, h, w, c)).permute(0, 3, 1, 2)
    x[:, :, ::2, ::2] = F.conv2d(grad, weight.flip(2, 3), None, 1, padding // 2, 1, channels)
    return x


def weight_gradient(grad: Tensor, x: Tensor, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """Gradient of the weight of a depthwise convolution.

    Args:
        grad: (n, c, h/stride, w/stride), gradient of the output.
        x: (n, c, h, w), the input.
        kernel: k, with padding = dilation * (k - 1) / 2.

    Returns:
        (c, 1, k, k).
    """
    weight = x.new_empty((x.shape[1], 1, kernel, kernel))
    if dilation == 2 and stride == 1 and x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0:
        return weight_gradient(_phases(grad), _phases(x), kernel, 1, padding // 2, 1)
    if dilation == 2 and stride == 2:
        # Taps two apart on every second pixel: only pixels of even row and column are ever read.
        return weight_gradient(
            grad, x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), kernel, 1, padding // 2, 1
        )
    if dilation == 1 and kernel == 5 and stride <= 2:
        return _by_strips(grad, x, stride)
    return _library(grad, x, weight, stride, (padding, padding), dilation, False)


def _library(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int], dilation: int, grad_input: bool
) -> Tensor:
    results = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, padding, [dilation] * 2, False, [0, 0], x.shape[1],
        [grad_input, not grad_input, False],
    )  # fmt: skip
    return results[0 if grad_input else 1]  # type: ignore[no-any-return]


def _phases(x: Tensor) -> Tensor:
    """(n, c, h, w) -> (4n, c, h/2, w/2): the four images of every second pixel."""
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c)
    return pixels.permute(2, 4, 0, 1, 3, 5).reshape(4 * n, h // 2, w // 2, c).permute(0, 3, 1, 2)


def _by_strips(grad: Tensor, x: Tensor, stride: int) -> Tensor:
    """The weight gradient (c, 1, 5, 5) from its two left and its three other columns.

    The library is quick only for a padding of up to one column and rows that fill the kernel. So the gradient is moved
    for the left strip, x gets zero columns at its right for the other one, and small images get their zero rows first.
    """
    rows = 2
    if x.shape[2] < 5:
        x, rows = _pad(x, (0, 0, 2, 2)), 0
    moved = _pad(grad[:, :, :, 1:], (0, 2 // stride, 0, 0))  # the first column meets nothing but padding here
    left = _library(moved, x, x.new_empty((x.shape[1], 1, 5, 2)), stride, (rows, 2 - stride), 1, False)
    right = _library(grad, _pad(x, (0, 2, 0, 0)), x.new_empty((x.shape[1], 1, 5, 3)), stride, (rows, 0), 1, False)
    return torch.cat([left, right], dim=3)


def _pad(x: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    """x: (n, c, h, w) with zeros at its left, right, top and bottom, in channels_last."""
    return F.pad(x.permute(0, 2, 3, 1), (0, 0, *sides)).permute(0, 3, 1, 2)
