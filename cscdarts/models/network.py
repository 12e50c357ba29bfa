"""Discrete networks: what a genotype becomes when it is trained from scratch.

`darts`: quark0/darts `cnn/model.py` (NetworkCIFAR, NetworkImageNet). `nasbench201`: AutoDL-Projects `TinyNetwork`. To both
CSC-DARTS adds the identity connection it also searched with; the split stays in the supernet unless `split_eval` is set.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.channel_split import Split, concat_and_shuffle
from cscdarts.models.drop_path import DropPath
from cscdarts.models.identity import CellIdentity
from cscdarts.models.operations import FactorizedReduce, ReLUConvBN, ResidualReduction, operation
from cscdarts.models.supernet import imagenet_stem
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces.genotype import CellGenotype, DartsGenotype, Genotype
from cscdarts.spaces.space import NASBENCH201


class Edge(nn.Module):
    """One kept operation with, if asked for, its channel split and its edge identity.

    Args:
        op: the operation's name.
        split: the supernet's config when the split is kept in evaluation, else None.
        identity_scale: scale of the edge identity, 0 for none.
    """

    def __init__(
        self,
        op: str,
        channels: int,
        stride: int,
        split: SupernetConfig | None,
        identity_scale: float,
        drop_identity: bool,
        dropper: DropPath,
    ) -> None:
        super().__init__()
        self.split_config, self.identity_scale, self.drop_identity = split, identity_scale, drop_identity
        self.dropper = dropper
        self.split = Split(split, channels, stride, affine=True) if split is not None else None
        self.operation = operation(op, self.split.operated if self.split else channels, stride)
        self.spared = isinstance(self.operation, nn.Identity)  # drop-path exempts identities, as quark0/darts does
        self.identity: nn.Module | None = None
        if identity_scale:
            self.identity = nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> (n, c, h/s, w/s)."""
        operated, bypass = self.split(x) if self.split is not None else (x, None)
        y: Tensor = self.operation(operated)
        if not self.spared:
            y = self.dropper(y)
        if self.split_config is not None:
            y = concat_and_shuffle(y, bypass, self.split_config.split_ratio, self.split_config.shuffle)
        if self.identity is not None:
            carried = self.identity(x)
            y = y + self.identity_scale * (self.dropper(carried) if self.drop_identity else carried)
        return y


class _CellEnd(nn.Module):
    """Adds the cell identity to a cell's output."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, supernet: SupernetConfig, active: bool, drop: bool,
        dropper: DropPath,
    ) -> None:  # fmt: skip
        super().__init__()
        self.scale, self.drop, self.dropper = supernet.identity_scale, drop, dropper
        self.carry = (
            CellIdentity(inputs, outputs, stride, supernet.identity_proj, affine=True)
            if active and supernet.identity_scale
            else None
        )

    def forward(self, output: Tensor, previous: Tensor) -> Tensor:
        """output: (n, c, h, w), previous: raw output of the cell before."""
        carried = None if self.carry is None else self.carry(previous)
        if carried is None:
            return output
        return output + self.scale * (self.dropper(carried) if self.drop else carried)


class DartsCell(nn.Module):
    """A derived DARTS cell."""

    def __init__(
        self, genotype: DartsGenotype, before: int, previous: int, channels: int, reduction: bool, halved: bool,
        supernet: SupernetConfig, evaluation: EvaluationConfig, identity: str, dropper: DropPath,
    ) -> None:  # fmt: skip
        super().__init__()
        kind = "reduce" if reduction else "normal"
        self.genes = genotype.genes(kind)
        self.concat = genotype.reduce_concat if reduction else genotype.normal_concat
        self.outputs = channels * len(self.concat)
        self.preprocess0: nn.Module = (
            FactorizedReduce(before, channels) if halved else ReLUConvBN(before, channels, 1, 1)
        )
        self.preprocess1 = ReLUConvBN(previous, channels, 1, 1)
        self.edges = nn.ModuleList(
            Edge(
                op,
                channels,
                2 if reduction and source < 2 else 1,
                supernet if evaluation.split_eval else None,
                supernet.identity_scale if identity == "edge" else 0.0,
                evaluation.identity_drop_path,
                dropper,
            )
            for op, source in self.genes
        )
        self.end = _CellEnd(
            previous, self.outputs, 2 if reduction else 1, supernet, identity == "cell",
            evaluation.identity_drop_path, dropper,
        )  # fmt: skip

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        """Outputs of the two cells before -> (n, outputs, h, w)."""
        states = [self.preprocess0(before), self.preprocess1(previous)]
        for node in range(len(self.genes) // 2):
            first, second = self.genes[2 * node][1], self.genes[2 * node + 1][1]
            states.append(self.edges[2 * node](states[first]) + self.edges[2 * node + 1](states[second]))
        out: Tensor = self.end(torch.cat([states[node] for node in self.concat], dim=1), previous)
        return out


class TabularCell(nn.Module):
    """A NAS-Bench-201 cell: every edge holds one operation, the last node is the output."""

    def __init__(
        self, genotype: CellGenotype, channels: int, supernet: SupernetConfig, evaluation: EvaluationConfig,
        identity: str, dropper: DropPath,
    ) -> None:  # fmt: skip
        super().__init__()
        self.edges = nn.ModuleList(
            Edge(
                op,
                channels,
                1,
                supernet if evaluation.split_eval else None,
                supernet.identity_scale if identity == "edge" else 0.0,
                evaluation.identity_drop_path,
                dropper,
            )
            for op in genotype.ops
        )
        self.end = _CellEnd(
            channels, channels, 1, supernet, identity == "cell", evaluation.identity_drop_path, dropper
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> (n, c, h, w)."""
        nodes: dict[int, Tensor] = {0: x}
        for edge, (source, target) in zip(self.edges, NASBENCH201.edges, strict=True):
            y = edge(nodes[source])
            nodes[target] = nodes[target] + y if target in nodes else y
        out: Tensor = self.end(nodes[NASBENCH201.nodes], x)
        return out


class AuxiliaryHead(nn.Module):
    """The classifier that helps training from two thirds of the depth (quark0/darts `cnn/model.py`).

    Expects 8x8 maps (CIFAR, pooling stride 3) or 7x7 (ImageNet, stride 2); other sizes are pooled to 2x2 adaptively.
    """

    def __init__(self, inputs: int, classes: int, large_images: bool) -> None:
        super().__init__()
        self.stride = 2 if large_images else 3
        self.reduce = nn.Sequential(nn.Conv2d(inputs, 128, 1, bias=False), BatchNorm(128), nn.ReLU())
        # The ImageNet head of quark0/darts has no normalisation here.
        last = nn.Identity() if large_images else BatchNorm(768)
        self.expand = nn.Sequential(nn.Conv2d(128, 768, 2, bias=False), last, nn.ReLU())
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> (n, classes)."""
        x = F.relu(x)
        fits = x.shape[-1] >= 5 and (x.shape[-1] - 5) // self.stride + 1 == 2
        x = F.avg_pool2d(x, 5, self.stride, count_include_pad=False) if fits else F.adaptive_avg_pool2d(x, 2)
        out: Tensor = self.classifier(self.expand(self.reduce(x)).flatten(1))
        return out


class Network(nn.Module):
    """A discrete network of either space.

    Args:
        genotype: the cell or cells.
        evaluation: size and options; `channels` is the width of the first cells, `cells` the number of cells (`darts`)
            or of cells in each of the three stages (`nasbench201`).
        supernet: where the identity's form and the split come from.
        identity: the identity active in evaluation (`RunConfig.identity_in("eval")`).
        classes, image_channels: of the data.
        large_images: `darts` only: ImageNet stem and heads.

    Attributes:
        dropper: drop-path state shared by all cells; the trainer moves its probability.
    """

    def __init__(
        self,
        genotype: Genotype,
        evaluation: EvaluationConfig,
        supernet: SupernetConfig,
        identity: str,
        classes: int,
        image_channels: int = 3,
        large_images: bool = False,
    ) -> None:
        super().__init__()
        self.dropper = DropPath()
        self.cells = nn.ModuleList()
        self.auxiliary: AuxiliaryHead | None = None
        self.auxiliary_after = -1
        self.stem0: nn.Module | None = None
        self.stem: nn.Module
        self.head: nn.Module = nn.Identity()
        c = evaluation.channels
        if isinstance(genotype, CellGenotype):
            self.stem = nn.Sequential(nn.Conv2d(image_channels, c, 3, padding=1, bias=False), BatchNorm(c))
            for stage in range(3):
                width = c * 2**stage
                if stage:
                    self.cells.append(ResidualReduction(width // 2, width))
                self.cells.extend(
                    TabularCell(genotype, width, supernet, evaluation, identity, self.dropper)
                    for _ in range(evaluation.cells)
                )
            features = 4 * c
            self.head = nn.Sequential(BatchNorm(features), nn.ReLU())
        else:
            width = c if large_images else 3 * c
            if large_images:
                self.stem0, self.stem = imagenet_stem(image_channels, c, affine=True)
            else:
                self.stem = nn.Sequential(nn.Conv2d(image_channels, width, 3, padding=1, bias=False), BatchNorm(width))
            before, previous, halved = width, width, large_images
            for index in range(evaluation.cells):
                reduction = index in (evaluation.cells // 3, 2 * evaluation.cells // 3)
                c = 2 * c if reduction else c
                cell = DartsCell(
                    genotype, before, previous, c, reduction, halved, supernet, evaluation, identity, self.dropper
                )  # fmt: skip
                self.cells.append(cell)
                before, previous, halved = previous, cell.outputs, reduction
                if evaluation.auxiliary and index == 2 * evaluation.cells // 3:
                    self.auxiliary, self.auxiliary_after = AuxiliaryHead(previous, classes, large_images), index
            features = previous
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x: (n, image_channels, h, w) -> logits (n, classes), and the auxiliary head's in training."""
        auxiliary = None
        if self.stem0 is None:
            before = previous = self.stem(x)
        else:
            before = self.stem0(x)
            previous = self.stem(before)
        for index, cell in enumerate(self.cells):
            if isinstance(cell, DartsCell):
                before, previous = previous, cell(before, previous)
            else:
                previous = cell(previous)
            if index == self.auxiliary_after and self.training and self.auxiliary is not None:
                auxiliary = self.auxiliary(previous)
        return self.classifier(self.head(previous).mean((2, 3))), auxiliary
