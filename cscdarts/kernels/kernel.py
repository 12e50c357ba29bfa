"""What every kernel of a candidate operation with convolutions reads, gives and keeps.

A kernel computes one kind of operation for all e edges that leave a node, by hand in both directions:

    forward(inputs)                     -> (map that is not yet normalised, Saved)
    backward(saved, inputs, grad, ...)  -> gradients

`Saved` is a named tuple of exactly what the kind keeps between the two. The mixed operation (`mixed_op.py`) normalises,
weighs and adds the maps, since the mixing weight is the affine weight of the normalisation.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class NodeInput:
    """A node's output after the ReLU, made when it is first asked for.

    Args:
        x: (n, c, h, w) in channels_last, or relu(x) if `rectified`.
        edges: number e of outgoing edges.
    """

    def __init__(self, x: Tensor, edges: int, rectified: bool = False) -> None:
        self.x, self.edges = x, edges
        self._relu: Tensor | None = x if rectified else None
        self._copies: Tensor | None = None

    @property
    def relu(self) -> Tensor:
        """relu(x), (n, c, h, w)."""
        if self._relu is None:
            self._relu = self.x.relu()
        return self._relu

    @property
    def relu_per_edge(self) -> Tensor:
        """relu(x) once per edge, (n, e*c, h, w)."""
        if self._copies is None:
            self._copies = torch.cat([self.relu] * self.edges, dim=1)
        return self._copies


class Statistics(NamedTuple):
    """What normalises a map: the mean and 1/sqrt(var + eps) of each channel, (channels,)."""

    mean: Tensor
    inv_std: Tensor


class Summand(Protocol):
    """An operation's map before normalisation, ready to be added to the mixed operation's sum."""

    @property
    def statistics(self) -> Statistics:
        """Of the map's e*c channels."""

    def added_to(self, total: Tensor | None, scale: Tensor, shift: Tensor) -> Tensor:
        """total + scale * map per channel, in place; without a total scale * map + shift.

        total: (n, e*c, h, w) in channels_last; scale, shift: (e*c,).
        """


class Needs(NamedTuple):
    """Which gradients are asked for.

    Attributes:
        input: that of the node's output.
        weights: those of the kernel's weights, in the order of `Kernel.weights`.
    """

    input: bool
    weights: tuple[bool, ...]


class Grads(NamedTuple):
    """What a kernel's backward pass gives.

    Attributes:
        input: the gradient so far of what the kernel reads, None if there is none.
        weights: in the order of `Kernel.weights`, None where it is not needed.
        mixing: (e*c,), of the mixing weights, channel by channel.
    """

    input: Tensor | None
    weights: list[Tensor | None]
    mixing: Tensor


class Kernel(Protocol):
    """One kind of operation with convolutions.

    Attributes:
        per_edge: whether it reads relu(x) once per edge, as depthwise convolutions do, or the one that all edges share.
        weights: the convolutions' weights that may learn; None where a stage has no depthwise one.
    """

    @property
    def per_edge(self) -> bool: ...

    @property
    def weights(self) -> list[Tensor | None]: ...

    def forward(self, inputs: NodeInput) -> tuple[Summand, Any]:
        """The operation's map before its last normalisation, and what `backward` reads again."""

    def backward(
        self, saved: Any, inputs: NodeInput, grad: Tensor, mixing: Tensor, total: Tensor | None, needs: Needs
    ) -> Grads:
        """Walk back through the operation, its normalisation with the batch's statistics and its mixing weight.

        Args:
            saved: what `forward` kept.
            grad: (n, e*c, h/s, w/s), of the mixed operations' sum, in channels_last.
            mixing: (e*c,) the operation's mixing weight for each channel.
            total: gradient so far of what the kernel reads, to which this one's is added in place, or None.
        """


def relu_backward_(grad: Tensor, active: Tensor) -> Tensor:
    """The gradient before a ReLU in the place of the one after it; `active`: the ReLU's input or output."""
    return torch.ops.aten.threshold_backward.grad_input(grad, active, 0, grad_input=grad)  # type: ignore[no-any-return]
