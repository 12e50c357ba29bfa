"""Many cells at once: the embedded benchmark's small network, its weights stacked over models, one pass for all.

Skeleton, for 8x8 gray images: Conv3x3(1 -> C)-BN | cell at 8x8 | reduction to 2C at 4x4 | cell at 4x4 | ReLU | global average
pooling | linear. The reduction is BN(Conv3x3 stride 2(ReLU x)) + BN(Conv1x1(avg_pool2x2 x)). Operations are those of
NAS-Bench-201 (ReLU-Conv-BN; average pooling without padding in the count) with two departures: batch normalisation has
no learned affine parameters, so that an edge which reads zero gives zero and equal expressions are equal networks, and dead
edges are left out.

Feature maps are (n, m, c, h, w) with m models side by side. Convolutions of one kind that leave one node are gathered
over models and target nodes into one grouped convolution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.embedded.protocol import KERNELS, Skeleton
from benchmarks.tabular.isomorphism import live_edges
from cscdarts.data.randomness import generator
from cscdarts.spaces import NASBENCH201

BN_MOMENTUM = 0.1


@dataclass
class _Norm:
    """Running statistics of one batch normalisation without affine parameters, (m*c,) each."""

    mean: Tensor
    var: Tensor

    @classmethod
    def new(cls, size: int) -> "_Norm":
        return cls(torch.zeros(size), torch.ones(size))

    def __call__(self, x: Tensor, training: bool) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, training=training, momentum=BN_MOMENTUM)


@dataclass
class _Plan:
    """Where each operation stands: for a source node and a kind, models by target node."""

    source: int
    op: str
    targets: list[int]
    models: list[Tensor]  # one index tensor for each target
    gathered: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.gathered = torch.cat(self.models)


def _plans(cells: Sequence[Sequence[str]]) -> list[_Plan]:
    found: dict[tuple[int, str], dict[int, list[int]]] = {}
    for model, ops in enumerate(cells):
        for (source, target), op, live in zip(NASBENCH201.edges, ops, live_edges(ops), strict=True):
            if live:
                found.setdefault((source, op), {}).setdefault(target, []).append(model)
    return [
        _Plan(source, op, sorted(targets), [torch.tensor(targets[t]) for t in sorted(targets)])
        for (source, op), targets in sorted(found.items())
    ]


@cache
def _pooling(h: int, w: int) -> Tensor:
    """Average pooling 3x3, stride 1, padding not counted, as an (h*w, h*w) matrix: on 8x8 maps a product is three times faster."""
    eye = torch.eye(h * w).view(h * w, 1, h, w)
    return F.avg_pool2d(eye, 3, 1, 1, count_include_pad=False).view(h * w, h * w)


class BatchedCells:
    """The networks of m cells, trained side by side.

    Args:
        cells: m cells, each six operation names.
        keys: m names, one a model; with `seed` they fix its initial weights whatever stands beside it.
        seed: training seed.
        skeleton: sizes.
    """

    def __init__(self, cells: Sequence[Sequence[str]], keys: Sequence[str], seed: int, skeleton: Skeleton) -> None:
        self.m = len(cells)
        self.skeleton = skeleton
        self.plans = _plans(cells)
        cpu = torch.device("cpu")
        draws = [generator(cpu, seed, "embedded", key) for key in keys]

        def kaiming(models: Sequence[int], out: int, fan_in: int, kernel: int) -> Tensor:
            """(len(models)*out, fan_in, k, k), each model's slice from its own generator."""
            scale = math.sqrt(2 / (fan_in * kernel * kernel))
            weight = torch.cat([torch.randn(out, fan_in, kernel, kernel, generator=draws[i]) for i in models])
            return (weight * scale).requires_grad_()

        everyone = range(self.m)
        c = skeleton.channels
        self.stem = kaiming(everyone, c, skeleton.image_channels, 3)
        self.reduce3 = kaiming(everyone, 2 * c, c, 3)
        self.reduce1 = kaiming(everyone, 2 * c, c, 1)
        self.linear = torch.stack([torch.randn(2 * c, skeleton.classes, generator=draw) for draw in draws])
        self.linear = (self.linear / math.sqrt(2 * c)).requires_grad_()
        self.bias = torch.zeros(self.m, 1, skeleton.classes, requires_grad=True)
        self.norms = {
            "stem": _Norm.new(self.m * c),
            "reduce3": _Norm.new(self.m * 2 * c),
            "reduce1": _Norm.new(self.m * 2 * c),
        }
        self.weights: dict[tuple[int, int], Tensor] = {}
        self.cell_norms: dict[tuple[int, int], _Norm] = {}
        for stage, (width, _) in enumerate(skeleton.stages):
            for number, plan in enumerate(self.plans):
                if plan.op in KERNELS:
                    self.weights[stage, number] = kaiming(plan.gathered.tolist(), width, width, KERNELS[plan.op])
                    self.cell_norms[stage, number] = _Norm.new(len(plan.gathered) * width)

    def parameters(self) -> list[Tensor]:
        """All weights, stacked over models."""
        return [self.stem, self.reduce3, self.reduce1, self.linear, self.bias, *self.weights.values()]

    def forward(self, images: Tensor, training: bool) -> Tensor:
        """Logits (m, n, classes) of images (n, c, h, w), the same images for every model."""
        n = images.shape[0]
        c, size = self.skeleton.channels, self.skeleton.image_size
        x = self.norms["stem"](F.conv2d(images, self.stem, padding=1), training)
        x = self._cell(x.view(n, self.m, c, size, size), 0, training).view(n, -1, size, size)
        main = self.norms["reduce3"](F.conv2d(F.relu(x), self.reduce3, stride=2, padding=1, groups=self.m), training)
        short = self.norms["reduce1"](F.conv2d(F.avg_pool2d(x, 2), self.reduce1, groups=self.m), training)
        x = (main + short).view(n, self.m, 2 * c, size // 2, size // 2)
        x = F.relu(self._cell(x, 1, training)).mean((3, 4))
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.linear)

    def _cell(self, x: Tensor, stage: int, training: bool) -> Tensor:
        n, _, c, h, w = x.shape
        nodes = [x] + [x.new_zeros(x.shape) for _ in range(3)]
        relu: dict[int, Tensor] = {}
        for number, plan in enumerate(self.plans):
            if plan.op in KERNELS:
                if plan.source not in relu:
                    relu[plan.source] = F.relu(nodes[plan.source])
                read = relu[plan.source].index_select(1, plan.gathered).view(n, -1, h, w)
                kernel = KERNELS[plan.op]
                y = F.conv2d(read, self.weights[stage, number], padding=kernel // 2, groups=len(plan.gathered))
                y = self.cell_norms[stage, number](y, training).view(n, -1, c, h, w)
            else:
                y = nodes[plan.source].index_select(1, plan.gathered)
                if plan.op == "avg_pool_3x3":
                    y = (y.view(-1, h * w) @ _pooling(h, w)).view(n, -1, c, h, w)
            pieces = torch.split(y, [len(models) for models in plan.models], dim=1)
            for target, models, piece in zip(plan.targets, plan.models, pieces, strict=True):
                nodes[target].index_add_(1, models, piece)
        return nodes[3]
