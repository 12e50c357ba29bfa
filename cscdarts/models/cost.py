"""Cost accounting: parameters, multiply-accumulates and memory access, counted from shapes without running anything real.

MACs are multiply-accumulates of convolutions and linear layers, for one image; we print MACs and say so (published "FLOPs"
use several conventions). Memory access follows ShuffleNetV2 (arXiv 1807.11164, G1): a convolution reads its input and its
weights and writes its output,

    access = h_in*w_in*c_in + h_out*w_out*c_out + k*k*c_in*c_out/groups        [elements]

Per edge of a supernet every operation counts as if it ran alone, which is what the equation speaks of; that ours reads a
node's map once for all edges is measured as time and saved bytes, not here.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cscdarts.errors import UserError
from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.models.network import Network
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces.genotype import Genotype

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Conv:
    """One convolution's shape: channels, kernel side, groups, input and output pixels."""

    inputs: int
    outputs: int
    kernel: int
    groups: int
    pixels_in: int
    pixels_out: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.pixels_out * self.outputs * (self.inputs // self.groups) * self.kernel**2

    @property
    def activations(self) -> int:
        """Elements read and written for one image."""
        return self.pixels_in * self.inputs + self.pixels_out * self.outputs

    @property
    def weights(self) -> int:
        """Elements of the kernel."""
        return self.outputs * (self.inputs // self.groups) * self.kernel**2


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        params: parameters, architecture parameters and auxiliary head left out.
        macs: multiply-accumulates for one image.
        memory_access_bytes: float32 bytes moved in the forward pass of one batch, by G1.
        by_operation: operation -> memory access in bytes; fixed parts under `fixed`.
    """

    params: int
    macs: int
    memory_access_bytes: int
    by_operation: dict[str, int]


def operation_convs(op: str, c: int, height: int, width: int, stride: int) -> list[Conv]:
    """The convolutions of one operation on c channels of h x w."""
    before, after = height * width, (height // stride) * (width // stride)
    kernel = int(op[-1]) if op[-1].isdigit() else 0
    if op.startswith("sep_conv"):
        return [
            Conv(c, c, kernel, c, before, after),
            Conv(c, c, 1, 1, after, after),
            Conv(c, c, kernel, c, after, after),
            Conv(c, c, 1, 1, after, after),
        ]
    if op.startswith("dil_conv"):
        return [Conv(c, c, kernel, c, before, after), Conv(c, c, 1, 1, after, after)]
    if op.startswith("nor_conv"):
        return [Conv(c, c, kernel, 1, before, after)]
    if op == "skip_connect" and stride == 2:
        return [Conv(c, c // 2, 1, 1, before, after)] * 2
    return []


def supernet_cost(
    config: SupernetConfig, identity: str, classes: int, image_channels: int, size: int, batch: int
) -> Cost:  # fmt: skip
    """Cost of a supernet on images of size x size.

    Args:
        batch: images in the batch whose memory access is counted.
    """
    with torch.device("meta"):
        model = Supernet(config, classes, image_channels, identity, large_images=size >= 96)
        if config.split_pick == "random":
            model.draw_channels(torch.Generator())
        found = _trace(model, torch.empty(2, image_channels, size, size))
    return _total(sum(w.numel() for w in model.weights()), found, batch)


def network_cost(
    genotype: Genotype, evaluation: EvaluationConfig, supernet: SupernetConfig, identity: str, classes: int,
    image_channels: int, size: int, batch: int = 1,
) -> Cost:  # fmt: skip
    """Cost of a discrete network on images of size x size, auxiliary head excluded."""
    with torch.device("meta"):
        model = Network(genotype, evaluation, supernet, identity, classes, image_channels, size >= 96)
        model.auxiliary = None
        found = _trace(model, torch.empty(2, image_channels, size, size))
    return _total(sum(p.numel() for p in model.parameters()), found, batch)


def fit_channels(
    genotype: Genotype, evaluation: EvaluationConfig, supernet: SupernetConfig, identity: str, classes: int,
    image_channels: int, size: int, limit_macs: float,
) -> int:  # fmt: skip
    """The largest even number of channels whose network stays within a limit of MACs.

    Errors:
        UserError: even two channels exceed the limit.
    """

    def macs(channels: int) -> int:
        fitted = evaluation.model_copy(update={"channels": channels})
        return network_cost(genotype, fitted, supernet, identity, classes, image_channels, size).macs

    smallest = 2 if supernet.split_ratio == 1 or not evaluation.split_eval else 8
    if macs(smallest) > limit_macs:
        raise UserError(
            "evaluation.fit_macs_m", limit_macs / 1e6, f"at least {macs(smallest) / 1e6:.2f}", "Raise the limit."
        )
    low, high = smallest, smallest * 2
    while macs(high) <= limit_macs:
        low, high = high, high * 2
    while high - low > 2:
        middle = (low + high) // 4 * 2
        low, high = (middle, high) if macs(middle) <= limit_macs else (low, middle)
    return low


def _trace(model: nn.Module, images: Tensor) -> dict[str, list[tuple[Conv, int]]]:
    """Run the model on meta tensors and collect (convolution, how often) by operation; it is of no other use then."""
    found: dict[str, list[tuple[Conv, int]]] = defaultdict(list)
    handles = []

    def on_conv(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        x = inputs[0]
        conv = Conv(
            layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.groups,
            x.shape[2] * x.shape[3], output.shape[2] * output.shape[3],
        )  # fmt: skip
        found["fixed"].append((conv, 1))

    def on_linear(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        found["fixed"].append((Conv(layer.in_features, layer.out_features, 1, 1, 1, 1), 1))

    def on_fanout(layer: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, MixedOps)
        height, width = inputs[0].shape[2:]
        for op in layer.ops:
            for conv in operation_convs(op, layer.channels, height, width, layer.stride):
                found[op].append((conv, layer.edges))

    for layer in model.modules():
        if isinstance(layer, MixedOps):
            layer.plain = True  # shapes are all that counts, and plain autograd knows meta tensors
            handles.append(layer.register_forward_hook(on_fanout))
        elif isinstance(layer, nn.Conv2d):
            handles.append(layer.register_forward_hook(on_conv))
        elif isinstance(layer, nn.Linear):
            handles.append(layer.register_forward_hook(on_linear))
        elif isinstance(layer, BatchNorm):
            # Keeps shapes and costs no convolution, but is most of the time that a pass of meta tensors takes.
            layer.forward = lambda x, scale=None: x  # type: ignore[method-assign]
    with torch.no_grad():
        model.eval()(images)
    for handle in handles:
        handle.remove()
    return found


def _total(params: int, found: dict[str, list[tuple[Conv, int]]], batch: int) -> Cost:
    macs = sum(conv.macs * times for convs in found.values() for conv, times in convs)
    access = {
        op: _FLOAT_BYTES * sum((conv.activations * batch + conv.weights) * times for conv, times in convs)
        for op, convs in found.items()
    }
    return Cost(params, macs, sum(access.values()), access)
