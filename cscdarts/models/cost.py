"""Cost accounting: parameters, multiply-accumulates and memory access, counted from shapes without running anything
real.

MACs are multiply-accumulates of convolutions and linear layers, for one image; we print MACs and say so (published
"FLOPs" use several conventions). Memory access follows ShuffleNetV2 (arXiv 1807.11164, G1): a convolution reads its
input and its weights and writes its output,

    access = h_in*w_in*c_in + h_out*w_out*c_out + k*k*c_in*c_out/groups        [elements]

Per edge of a supernet every operation counts as if it ran alone, which is what the equation speaks of; that ours reads
a node's map once for all edges is measured as time and saved bytes, not here.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from cscdarts.errors import UserError
from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.models.network import Network
from cscdarts.models.operations import discrete_operation
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces import OPERATIONS, ConvShape, Genotype, Operation, is_large
from cscdarts.spaces.rules import Columns

_FLOAT_BYTES = 4


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


@lru_cache(maxsize=256)
def operation_convs(record: Operation, channels: int, height: int, width: int, stride: int) -> tuple[ConvShape, ...]:
    """The convolutions of one operation on one edge, on maps (channels, height, width).

    They are read off the record; where it does not tell, off a pass through its module.
    """
    told = record.conv_shapes(channels, height, width, stride)
    if told is not None:
        return tuple(told)
    with torch.device("meta"):
        model = discrete_operation(record, channels, stride, affine=False)
        found = _trace(model, torch.empty(2, channels, height, width))
    return tuple(conv for convs in found.values() for conv, _ in convs)


def supernet_cost(
    config: SupernetConfig, identity: str, classes: int, image_channels: int, size: int, batch: int,
    columns: Columns | None = None,
) -> Cost:  # fmt: skip
    """Cost of a supernet on images of size x size.

    Args:
        batch: images in the batch whose memory access is counted.
        columns: what its edges choose among, see `Supernet`.
    """
    with torch.device("meta"):
        model = Supernet(config, classes, image_channels, identity, large_images=is_large(size), columns=columns)
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
        model = Network(genotype, evaluation, supernet, identity, classes, image_channels, is_large(size))
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


def _trace(model: nn.Module, images: Tensor) -> dict[str, list[tuple[ConvShape, int]]]:
    """Run the model on meta tensors and collect (convolution, how often) by operation; it is of no other use then."""
    found: dict[str, list[tuple[ConvShape, int]]] = defaultdict(list)
    handles = []

    def on_conv(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        x = inputs[0]
        conv = ConvShape(
            layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.groups,
            x.shape[2] * x.shape[3], output.shape[2] * output.shape[3],
        )  # fmt: skip
        found["fixed"].append((conv, 1))

    def on_linear(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        found["fixed"].append((ConvShape(layer.in_features, layer.out_features, 1, 1, 1, 1), 1))

    def on_mixed_ops(layer: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, MixedOps)
        height, width = inputs[0].shape[2:]
        for op in layer.ops:
            for conv in operation_convs(OPERATIONS[op], layer.channels, height, width, layer.stride):
                found[op].append((conv, layer.edges))

    # What is inside of mixed operations is counted by operation.
    inside = {part for layer in model.modules() if isinstance(layer, MixedOps) for part in layer.modules()}
    for layer in model.modules():
        if isinstance(layer, MixedOps):
            layer.plain = True  # shapes are all that counts, and plain autograd knows meta tensors
            handles.append(layer.register_forward_hook(on_mixed_ops))
        elif isinstance(layer, BatchNorm):
            # Keeps shapes and costs no convolution, but is most of the time that a pass of meta tensors takes.
            layer.forward = lambda x, scale=None: x  # type: ignore[method-assign]
        elif layer in inside:
            continue
        elif isinstance(layer, nn.Conv2d):
            handles.append(layer.register_forward_hook(on_conv))
        elif isinstance(layer, nn.Linear):
            handles.append(layer.register_forward_hook(on_linear))
    with torch.no_grad():
        model.eval()(images)
    for handle in handles:
        handle.remove()
    return found


def _total(params: int, found: dict[str, list[tuple[ConvShape, int]]], batch: int) -> Cost:
    macs = sum(conv.macs * times for convs in found.values() for conv, times in convs)
    access = {
        op: _FLOAT_BYTES * sum((conv.activations * batch + conv.weights) * times for conv, times in convs)
        for op, convs in found.items()
    }
    return Cost(params, macs, sum(access.values()), access)
