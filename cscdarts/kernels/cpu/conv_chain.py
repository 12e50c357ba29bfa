"""Chains of convolutions: separable, dilated and plain ones and the factorized reduction, for all edges of a node.

Plain autograd keeps, per separable convolution and edge, seven maps for the backward pass. Here only the outputs of the
last convolution of each stage are kept, two maps: normalised values, ReLUs and depthwise outputs are computed again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.kernels.candidates import ConvBN, channel_product, convolve, convolve_depthwise
from cscdarts.kernels.cpu import channels_last, depthwise
from cscdarts.kernels.kernel import Grads, Needs, NodeInput, Statistics, relu_backward_


class StageSaved(NamedTuple):
    """What one stage keeps.

    Attributes:
        depth, point: the weights, as in `ConvBN`.
        map: (n, e*c, h, w), the convolutions' output before normalisation.
        statistics: of this map.
    """

    depth: Tensor | None
    point: Tensor
    map: Tensor
    statistics: Statistics

    def relu(self) -> Tensor:
        """What the next stage reads: the normalised map after its ReLU."""
        return channels_last.normalised(self.map, self.statistics).relu_()


class MapSummand(NamedTuple):
    """A map and its statistics; see `kernel.Summand`."""

    map: Tensor
    statistics: Statistics

    def added_to(self, total: Tensor | None, scale: Tensor, shift: Tensor) -> Tensor:
        """See `kernel.Summand.added_to`."""
        if total is None:
            return channels_last.affine(self.map, scale, shift)
        channels_last.add_scaled_(total, self.map, scale)
        return total


class ConvChain:
    """(ReLU, convolutions, normalisation) one or more times; see `kernel.Kernel`.

    Args:
        stages: the chain's stages; those after the first have a depthwise convolution and stride 1.
    """

    class Saved(NamedTuple):
        """What each stage keeps."""

        stages: tuple[StageSaved, ...]

    def __init__(self, stages: Sequence[ConvBN]) -> None:
        self.stages = stages
        self.per_edge = stages[0].depth is not None

    @property
    def weights(self) -> list[Tensor | None]:
        """Depthwise and other weight of each stage."""
        return [weight for stage in self.stages for weight in (stage.depth, stage.point)]

    def forward(self, inputs: NodeInput) -> tuple[MapSummand, Saved]:
        """See `kernel.Kernel.forward`."""
        kept: list[StageSaved] = []
        for stage in self.stages:
            x = kept[-1].relu() if kept else self._read(inputs)
            p = convolve(x, stage, inputs.edges)
            kept.append(StageSaved(stage.depth, stage.point, p, channels_last.statistics(p, stage.norm)))
        last = kept[-1]
        return MapSummand(last.map, last.statistics), self.Saved(tuple(kept))

    def backward(
        self, saved: Saved, inputs: NodeInput, grad: Tensor, mixing: Tensor, total: Tensor | None, needs: Needs
    ) -> Grads:
        """See `kernel.Kernel.backward`."""
        grads: list[Tensor | None] = [None] * len(needs.weights)
        scale: Tensor | None = mixing
        grad_mixing: Tensor | None = None
        for number in reversed(range(len(self.stages))):
            stage, kept = self.stages[number], saved.stages[number]
            own = slice(2 * number, 2 * number + 2)
            deeper = needs.input or any(needs.weights[: own.start])
            grad_map, dot = channels_last.normalisation_gradient(
                grad, kept.map, kept.statistics, scale, wanted=deeper or any(needs.weights[own])
            )
            if grad_mixing is None:
                grad_mixing, scale = dot, None  # the last stage's normalisation alone carries the mixing weight
            if grad_map is None:
                break
            x: Tensor | None = None
            if number:
                x = saved.stages[number - 1].relu()
            elif any(needs.weights[own]):
                x = self._read(inputs)
            grad_x, *grads[own] = _convolve_backward(
                grad_map, x, inputs, stage, kept, _StageNeeds(deeper, *needs.weights[own])
            )
            if grad_x is None:
                break
            if number:
                assert x is not None
                grad = relu_backward_(grad_x, x)
            else:
                total = grad_x if total is None else total.add_(grad_x)
        assert grad_mixing is not None
        return Grads(total, grads, grad_mixing)

    def _read(self, inputs: NodeInput) -> Tensor:
        return inputs.relu_per_edge if self.per_edge else inputs.relu


class _StageNeeds(NamedTuple):
    """Which gradients of a stage's convolutions are asked for."""

    input: bool
    depth: bool
    point: bool


class _StageGrads(NamedTuple):
    """Gradients of a stage's input, depthwise and other weight, each None where it is not needed."""

    input: Tensor | None
    depth: Tensor | None
    point: Tensor | None


def _convolve_backward(
    grad: Tensor, x: Tensor | None, inputs: NodeInput, stage: ConvBN, kept: StageSaved, needs: _StageNeeds
) -> _StageGrads:
    """Walk back through `convolve`.

    Args:
        grad: (n, e*c, h/s, w/s).
        x: the convolutions' input; None if only its gradient is wanted and the caller has not got it.
        inputs: the node's, for its shape and layout.
    """
    if kept.depth is not None:
        return _separable_backward(grad, x, inputs, stage, kept, needs)
    if stage.as_product:
        grad_x = channel_product(grad, kept.point.view(-1, inputs.x.shape[1])) if needs.input else None
        if not needs.point:
            return _StageGrads(grad_x, None, None)
        assert x is not None
        grad_point = channels_last.matrix(grad, 1).t() @ channels_last.matrix(x, 1)
        return _StageGrads(grad_x, None, grad_point.view_as(kept.point))
    grad_x, grad_point, _ = torch.ops.aten.convolution_backward(
        grad, inputs.x if x is None else x, kept.point.flatten(0, 1), None, [stage.stride] * 2, [stage.padding] * 2,
        [1, 1], False, [0, 0], 1, [needs.input, needs.point, False],
    )  # fmt: skip
    return _StageGrads(grad_x, None, None if grad_point is None else grad_point.view_as(kept.point))


def _separable_backward(
    grad: Tensor, x: Tensor | None, inputs: NodeInput, stage: ConvBN, kept: StageSaved, needs: _StageNeeds
) -> _StageGrads:
    """Walk back through a 1x1 convolution per edge and the depthwise one before it; see `_convolve_backward`."""
    assert kept.depth is not None
    grad_x: Tensor | None = None
    grad_depth: Tensor | None = None
    grad_point: Tensor | None = None
    if needs.point:
        assert x is not None
        grad_point = torch.ops.aten.convolution_backward(
            grad, convolve_depthwise(x, stage), kept.point.flatten(0, 1), None, [1, 1], [0, 0], [1, 1], False, [0, 0],
            inputs.edges, [False, True, False],
        )[1].view_as(kept.point)  # fmt: skip
    if needs.input or needs.depth:
        grad = F.conv2d(grad, kept.point.transpose(1, 2).flatten(0, 1), groups=inputs.edges)
    if needs.depth:
        assert x is not None
        grad_depth = depthwise.weight_gradient(
            grad, x, kept.depth.shape[-1], stage.stride, stage.padding, stage.dilation
        ).view_as(kept.depth)
    if needs.input:
        n, channels, h, w = grad.shape
        shape = torch.Size((n, channels, h * stage.stride, w * stage.stride))
        grad_x = depthwise.input_gradient(
            grad, shape, kept.depth.flatten(0, 1), stage.stride, stage.padding, stage.dilation
        )
    return _StageGrads(grad_x, grad_depth, grad_point)
