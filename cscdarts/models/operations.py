"""The layers of networks: what each part of an operation's record becomes on one edge, and the fixed layers of a plan.

As in quark0/darts `cnn/operations.py` and D-X-Y/AutoDL-Projects `xautodl/models/cell_operations.py`. All modules take
and give (n, c, h, w).
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.spaces import CellPlan, Conv, NetworkPlan, Noise, Operation, Pool


def conv_layers(part: Conv, inputs: int, outputs: int, stride: int, affine: bool = True) -> list[nn.Module]:
    """The layers of one convolutional part; a depthwise one has as many outputs as inputs before its 1x1
    convolution."""
    if not part.depthwise:
        conv = nn.Conv2d(inputs, outputs, part.kernel, stride, part.padding, part.dilation, bias=False)
        return [nn.ReLU(), conv, BatchNorm(outputs, affine)]
    return [
        nn.ReLU(),
        nn.Conv2d(inputs, inputs, part.kernel, stride, part.padding, part.dilation, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        BatchNorm(outputs, affine),
    ]


class ReLUConvBN(nn.Sequential):
    """ReLU, k x k convolution without bias, normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__(*conv_layers(Conv(kernel), inputs, outputs, stride, affine))


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


class Pooling(nn.Module):
    """Pooling over size x size pixels, `max` or `avg` (which does not count the padding)."""

    def __init__(self, kind: Literal["max", "avg"], size: int, stride: int) -> None:
        super().__init__()
        self.kind, self.size, self.stride = kind, size, stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> (n, c, h/s, w/s)."""
        if self.kind == "max":
            return F.max_pool2d(x, self.size, self.stride, self.size // 2)
        return F.avg_pool2d(x, self.size, self.stride, self.size // 2, count_include_pad=False)


class Zeros(nn.Module):
    """No connection: zeros."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> zeros (n, c, h/s, w/s)."""
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class GaussianNoise(nn.Module):
    """Standard normal draws in place of the map: what a search should never prefer (Zela et al. 2020, space S4).

    A draw depends on `seed`, `place` and the map's shape alone, not on how many were made before: what is resumed, or
    computed again in the backward pass, sees the same one, and so do all passes of a step. No gradient passes.
    Departure from automl/RobustDARTS `src/operations.py:NoiseOp`, which draws anew in every pass.

    Attributes:
        seed: of the present step, see `seed_noise`.
        place: its number in the model, so that no two of it draw the same.
        rank, world: every process draws for the whole batch and keeps its share.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.seed, self.place, self.rank, self.world = stride, 0, 0, 0, 1

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> draws (n, c, h/s, w/s)."""
        shape = x[:, :, :: self.stride, :: self.stride].shape
        if x.device.type == "meta":
            return x.new_empty(shape)
        # Odd multiples of an odd number are spread over all 63 bits.
        number = (self.seed + (2 * self.place + 1) * 0x9E3779B97F4A7C15) % 2**63
        generator = torch.Generator(x.device).manual_seed(number)
        whole = torch.randn((shape[0] * self.world, *shape[1:]), generator=generator, device=x.device)
        return whole[self.rank :: self.world].to(x.dtype)


def noises(model: nn.Module) -> list[GaussianNoise]:
    """All noise operations of a model, each numbered by its place."""
    found = [module for module in model.modules() if isinstance(module, GaussianNoise)]
    for place, module in enumerate(found):
        module.place = place
    return found


def seed_noise(modules: Iterable[GaussianNoise], seed: int, rank: int = 0, world: int = 1) -> None:
    """Let noise operations draw by a number until the next one is given."""
    for module in modules:
        module.seed, module.rank, module.world = seed, rank, world


def discrete_operation(record: Operation, channels: int, stride: int, affine: bool = True) -> nn.Module:
    """The module of an operation on one edge, for `channels` in and out."""
    if record.module is not None:
        made: nn.Module = record.module(channels, stride, affine)
        return made
    first = record.parts[0]
    if isinstance(first, Pool):
        return Pooling(first.kind, first.size, stride)
    if isinstance(first, Conv):
        layers: list[nn.Module] = []
        for at, part in enumerate(record.parts):
            assert isinstance(part, Conv)
            layers += conv_layers(part, channels, channels, 1 if at else stride, affine)
        return nn.Sequential(*layers)
    if record.is_skip:
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    return GaussianNoise(stride) if isinstance(first, Noise) else Zeros(stride)


class OperationPerEdge(nn.Module):
    """An operation for all edges that leave a node, a module per edge: for what has no batched form.

    Args:
        pool_norm: whether a pooled map is normalised.
    """

    def __init__(self, record: Operation, edges: int, channels: int, stride: int, pool_norm: bool) -> None:
        super().__init__()

        def edge() -> nn.Module:
            module = discrete_operation(record, channels, stride, affine=False)
            norms = pool_norm and record.is_pool
            return nn.Sequential(module, BatchNorm(channels, affine=False)) if norms else module

        self.edges = nn.ModuleList(edge() for _ in range(edges))

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> the edges' outputs, (n, e*c, h/s, w/s)."""
        return torch.cat([edge(x) for edge in self.edges], dim=1)


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


def stems(plan: NetworkPlan, image_channels: int) -> tuple[nn.Module | None, nn.Module]:
    """The layers that make the first cell's inputs.

    Returns:
        None and the stem, whose map is both inputs; or with the large stem (quark0/darts
        `cnn/model.py:NetworkImageNet`) one that reduces h and w by 4 and one that halves its map again.
    """
    c = plan.stem
    if not plan.large_stem:
        return None, nn.Sequential(nn.Conv2d(image_channels, c, 3, padding=1, bias=False), BatchNorm(c))
    first = nn.Sequential(
        nn.Conv2d(image_channels, c // 2, 3, 2, 1, bias=False),
        BatchNorm(c // 2),
        nn.ReLU(),
        nn.Conv2d(c // 2, c, 3, 2, 1, bias=False),
        BatchNorm(c),
    )
    return first, nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3, 2, 1, bias=False), BatchNorm(c))


def head(plan: NetworkPlan) -> nn.Module:
    """What stands before the last pooling."""
    return nn.Sequential(BatchNorm(plan.features), nn.ReLU()) if plan.normalised_head else nn.Identity()


def preprocessing(plan: CellPlan, affine: bool) -> list[nn.Module]:
    """The layers that bring a cell's inputs to its own width, and the older of two to the size of the newer."""
    found: list[nn.Module] = [
        FactorizedReduce(channels, plan.channels, affine)
        if plan.halved and place < len(plan.inputs) - 1
        else ReLUConvBN(channels, plan.channels, 1, 1, affine)
        for place, channels in enumerate(plan.inputs)
    ]
    return found
