"""The discrete network, edge by edge, on plain torch modules: what a genotype becomes when it is trained from scratch.

Cells as in `cscdarts.models.reference`, with one operation on an edge and two differences: normalisations are affine,
and pooled maps are not normalised. The channel split stays only with `split_eval`. The identity is that of the search:

    edge: z <- z + lambda * I(x)        cell: y <- y + lambda * R(s1),  s1 the raw output of the cell before

Drop-path drops an edge's operation, but not an operation that is an identity, and the identity connections only with
`identity_drop_path`. Sources: quark0/darts `cnn/model.py`, `cnn/utils.py`; D-X-Y/AutoDL-Projects `TinyNetwork`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.models.reference import (
    OPERATIONS,
    ChannelSplit,
    FactorizedReduce,
    ResidualReduction,
    projection,
    relu_conv_bn,
    stem,
)
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces.genotype import CellGenotype, Genotype
from cscdarts.spaces.space import NASBENCH201

Drop = Callable[[Tensor], Tensor]


def drop_path(x: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """x: (n, c, h, w) times a mask (n, 1, 1, 1) of Bernoulli(1 - p), divided by 1 - p."""
    if probability == 0:
        return x
    keep = 1 - probability
    mask = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(keep, generator=generator)
    return x / keep * mask


class DiscreteEdge(nn.Module):
    """One operation, with the split if it is kept, and the identity connection of the edge if it has one.

    Args:
        op: the operation's name.
        channels: channels C of the edge's input and output.
        stride: 1 or 2.
        supernet: form of the split and of the identity.
        evaluation: `split_eval`, `identity_drop_path`.
        identity: whether the edge has an identity connection.
    """

    def __init__(
        self,
        op: str,
        channels: int,
        stride: int,
        supernet: SupernetConfig,
        evaluation: EvaluationConfig,
        identity: bool,
    ) -> None:
        super().__init__()
        self.split = ChannelSplit(supernet, channels, stride, affine=True) if evaluation.split_eval else None
        operated = channels if self.split is None else self.split.operated
        self.operation = OPERATIONS[op](operated, stride, True, False)
        self.identity = OPERATIONS["skip_connect"](channels, stride, True, False) if identity else None
        self.scale, self.drop_identity = supernet.identity_scale, evaluation.identity_drop_path

    def forward(self, x: Tensor, drop: Drop) -> Tensor:
        """x: (n, c, h, w) -> z: (n, c, h/s, w/s)."""
        if self.split is None or self.split.operated == x.shape[1]:
            z = self._operate(x, drop)
        else:
            x_a, x_b = self.split.parts(x)
            z = self.split.join(self._operate(x_a, drop), x_b)
        if self.identity is not None:
            carried = self.identity(x)
            z = z + self.scale * (drop(carried) if self.drop_identity else carried)
        return z

    def _operate(self, x: Tensor, drop: Drop) -> Tensor:
        m: Tensor = self.operation(x)
        return m if isinstance(self.operation, nn.Identity) else drop(m)


class DiscreteCell(nn.Module):
    """A derived cell of either space.

    Args:
        genes: (operation, source node, target node) of each kept edge, by target.
        concat: the nodes whose outputs are the cell's output.
        inputs: channels of the previous cell's output, in `darts` those of the one before it first.
        channels: channels of each node.
        reduction, halved: as in `cscdarts.models.reference.MixedCell`.
        supernet, evaluation: form of split and identity.
        identity: the identity that is active in evaluation: `cell`, `edge` or `none`.
    """

    def __init__(
        self, genes: list[tuple[str, int, int]], concat: tuple[int, ...], inputs: tuple[int, ...], channels: int,
        reduction: bool, halved: bool, supernet: SupernetConfig, evaluation: EvaluationConfig, identity: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.genes, self.concat = genes, concat
        self.scale, self.drop_identity = supernet.identity_scale, evaluation.identity_drop_path
        self.preprocess = nn.ModuleList()
        if len(inputs) == 2:
            c0, c1 = inputs
            first = FactorizedReduce(c0, channels, True) if halved else relu_conv_bn(c0, channels, 1, True)
            self.preprocess.extend([first, relu_conv_bn(c1, channels, 1, True)])
        self.edges = nn.ModuleList(
            DiscreteEdge(op, channels, 2 if reduction and source < 2 else 1, supernet, evaluation, identity == "edge")
            for op, source, _ in genes
        )
        self.identity: nn.Module | None = None
        if identity == "cell":
            stride = 2 if reduction else 1
            self.identity = projection(supernet.identity_proj, inputs[-1], channels * len(concat), stride, affine=True)

    def forward(self, previous: tuple[Tensor, ...], drop: Drop) -> Tensor:
        """previous: raw outputs of the two cells before (`darts`) or of the one before -> y."""
        states = dict(enumerate(previous))
        if self.preprocess:
            states = {node: layer(states[node]) for node, layer in enumerate(self.preprocess)}
        for edge, (_, source, target) in zip(self.edges, self.genes, strict=True):
            z = edge(states[source], drop)
            states[target] = states[target] + z if target in states else z
        y = torch.cat([states[node] for node in self.concat], dim=1)
        if self.identity is not None:
            carried = self.identity(previous[-1])
            y = y + self.scale * (drop(carried) if self.drop_identity else carried)
        return y


class ReferenceAuxiliaryHead(nn.Module):
    """The second classifier: 5x5 averages (of 8x8 or, large images, 7x7 maps), 1x1 and 2x2 convolutions, linear."""

    def __init__(self, inputs: int, classes: int, large_images: bool) -> None:
        super().__init__()
        self.stride = 2 if large_images else 3
        self.reduce = nn.Sequential(nn.Conv2d(inputs, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        # quark0/darts leaves the second normalisation out on ImageNet.
        norm = nn.Identity() if large_images else nn.BatchNorm2d(768)
        self.expand = nn.Sequential(nn.Conv2d(128, 768, 2, bias=False), norm, nn.ReLU())
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> (n, classes)."""
        x = F.relu(x)
        if x.shape[2] == (7 if self.stride == 2 else 8):
            x = F.avg_pool2d(x, 5, self.stride)
        else:  # smaller images than the method's
            x = F.adaptive_avg_pool2d(x, 2)
        out: Tensor = self.classifier(self.expand(self.reduce(x)).flatten(1))
        return out


class ReferenceNetwork(nn.Module):
    """The whole discrete network.

    Args:
        genotype: the cell or cells.
        evaluation: `channels` of the first cells, `cells` (`darts`: all, `nasbench201`: of each stage), options.
        supernet: form of split and identity, which is off if its phases leave evaluation out or its scale is 0.
        classes, image_channels: of the data.
        large_images: `darts` only: ImageNet's stem and auxiliary head.

    Attributes:
        drop_path_probability: rises from epoch to epoch.
        generator: of the masks of drop-path.
    """

    def __init__(
        self, genotype: Genotype, evaluation: EvaluationConfig, supernet: SupernetConfig, classes: int,
        image_channels: int = 3, large_images: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.drop_path_probability, self.generator = 0.0, torch.default_generator
        active = supernet.identity_phases in ("eval", "both") and supernet.identity_scale != 0
        identity = supernet.identity if active else "none"
        common = (supernet, evaluation, identity)
        c = evaluation.channels
        self.cells = nn.ModuleList()
        self.head: nn.Module = nn.Identity()
        self.auxiliary: nn.Module | None = None
        self.auxiliary_after = -1
        if isinstance(genotype, CellGenotype):
            self.inputs, width = 1, c
            genes = [(op, *edge) for op, edge in zip(genotype.ops, NASBENCH201.edges, strict=True)]
            for stage in range(3):
                if stage:
                    self.cells.append(ResidualReduction(c, 2 * c))
                    c = 2 * c
                self.cells.extend(
                    DiscreteCell(genes, (3,), (c,), c, False, False, *common) for _ in range(evaluation.cells)
                )
            previous = c
            self.head = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())
        else:
            self.inputs, width = 2, c if large_images else 3 * c
            before, previous, halved = width, width, large_images
            for index in range(evaluation.cells):
                reduction = index in (evaluation.cells // 3, 2 * evaluation.cells // 3)
                c = 2 * c if reduction else c
                concat = genotype.reduce_concat if reduction else genotype.normal_concat
                kept = genotype.reduce if reduction else genotype.normal
                genes = [(op, source, 2 + position // 2) for position, (op, source) in enumerate(kept)]
                self.cells.append(DiscreteCell(genes, concat, (before, previous), c, reduction, halved, *common))
                before, previous, halved = previous, c * len(concat), reduction
                if evaluation.auxiliary and index == 2 * evaluation.cells // 3:
                    self.auxiliary = ReferenceAuxiliaryHead(previous, classes, large_images)
                    self.auxiliary_after = index
        self.stem = stem(image_channels, width, large_images)
        self.classifier = nn.Linear(previous, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images (n, image_channels, h, w) -> logits (n, classes), and in training those of the auxiliary head."""

        def drop(y: Tensor) -> Tensor:
            return drop_path(y, self.drop_path_probability, self.generator)

        auxiliary = None
        first = second = self.stem[0](x)
        if len(self.stem) == 2:
            second = self.stem[1](first)
        for index, cell in enumerate(self.cells):
            if not isinstance(cell, DiscreteCell):
                second = cell(second)
            else:
                first, second = second, cell((first, second)[-self.inputs :], drop)
            if self.auxiliary is not None and self.training and index == self.auxiliary_after:
                auxiliary = self.auxiliary(second)
        out = self.classifier(F.adaptive_avg_pool2d(self.head(second), 1).flatten(1))
        return out, auxiliary
