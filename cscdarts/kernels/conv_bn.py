"""A stage of an operation, a convolution and its normalisation for all edges that leave a node, and its gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels import channels_last, depthwise
from cscdarts.kernels.batch_norm import BatchNorm

#: On 16 channels the convolution library is quicker on some processors and slower on others, from here on it never is.
_PRODUCT_CHANNELS = 32


@dataclass(frozen=True)
class ConvBN:
    """A convolution and its normalisation, for e edges at once.

    Attributes:
        depth: (e, c, 1, k, k) depthwise weight before the 1x1 convolution, or None.
        point: (e, c, c, k, k) weight; after a depthwise convolution 1x1 and one for each edge, else all edges read
            the same c channels.
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
    def is_product(self) -> bool:
        """Whether it is a 1x1 convolution alone, on a CPU: a product of matrices."""
        plain = self.depth is None and self.point.shape[3] == 1 and self.stride == 1
        return plain and self.point.device.type == "cpu"


def convolve(y: Tensor, stage: ConvBN, edges: int) -> Tensor:
    """The stage's convolutions; y: (n, c, h, w), with a depthwise one (n, e*c, h, w) -> (n, e*c, h/s, w/s)."""
    if _as_product(stage):
        return _product(y, stage.point.view(-1, y.shape[1]).t())
    point = stage.point.flatten(0, 1)
    if stage.depth is None:
        return F.conv2d(y, point, None, stage.stride, stage.padding)
    y = F.conv2d(y, stage.depth.flatten(0, 1), None, stage.stride, stage.padding, stage.dilation, y.shape[1])
    return F.conv2d(y, point, groups=edges)


def _as_product(stage: ConvBN) -> bool:
    return stage.is_product and stage.point.shape[2] >= _PRODUCT_CHANNELS


def _product(x: Tensor, factors: Tensor) -> Tensor:
    """Each pixel's channels times a matrix; x: (n, c, h, w), factors: (c, d) -> (n, d, h, w) in channels_last."""
    return (x.permute(0, 2, 3, 1) @ factors).permute(0, 3, 1, 2)


def convolve_backward(
    grad: Tensor, y: Tensor | None, x: Tensor, stage: ConvBN, edges: int, deeper: bool, need: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of `convolve`'s input, depthwise weight and other weight, each None where it is not needed.

    grad: (n, e*c, h/s, w/s); y: `convolve`'s input, None if only its gradient is wanted and the caller has not got it;
    x: (n, c, h, w), the node's output, for its shape and layout.
    """
    need_depth, need_point = need
    if _as_product(stage):
        grad_input = _product(grad, stage.point.view(-1, x.shape[1])) if deeper else None
        if not need_point:
            return grad_input, None, None
        assert y is not None
        return grad_input, None, (channels_last.matrix(grad, 1).t() @ channels_last.matrix(y, 1)).view_as(stage.point)
    point = stage.point.flatten(0, 1)
    size = [stage.stride] * 2, [stage.padding] * 2, [1, 1], False, [0, 0], 1
    if stage.depth is None:
        results = torch.ops.aten.convolution_backward(
            grad, x if y is None else y, point, None, *size, [deeper, need_point, False]
        )
        return results[0], None, None if results[1] is None else results[1].view_as(stage.point)
    channels = grad.shape[1]
    kernel = stage.depth.shape[-1]
    grad_point: Tensor | None = None
    if need_point:
        assert y is not None
        middle = F.conv2d(y, stage.depth.flatten(0, 1), None, stage.stride, stage.padding, stage.dilation, channels)
        grad_point = torch.ops.aten.convolution_backward(
            grad, middle, point, None, [1, 1], [0, 0], [1, 1], False, [0, 0], edges, [False, True, False]
        )[1].view_as(stage.point)
    if not deeper and not need_depth:
        return None, None, grad_point
    grad = F.conv2d(grad, stage.point.transpose(1, 2).flatten(0, 1), groups=edges)
    grad_input, grad_depth = None, None
    if need_depth:
        assert y is not None
        grad_depth = depthwise.weight_gradient(grad, y, kernel, stage.stride, stage.padding, stage.dilation)
        grad_depth = grad_depth.view_as(stage.depth)
    if deeper:
        shape = torch.Size((x.shape[0], channels, grad.shape[2] * stage.stride, grad.shape[3] * stage.stride))
        grad_input = depthwise.input_gradient(
            grad, shape, stage.depth.flatten(0, 1), stage.stride, stage.padding, stage.dilation
        )
    return grad_input, grad_depth, grad_point
