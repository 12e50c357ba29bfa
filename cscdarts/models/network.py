"""Discrete networks: what a genotype becomes when it is trained from scratch.

`darts`: quark0/darts `cnn/model.py` (NetworkCIFAR, NetworkImageNet). `nasbench201`: AutoDL-Projects `TinyNetwork`. To
them CSC-DARTS adds the identity connection it also searched with; the split stays in the supernet unless `split_eval`
is set.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.channel_split import Split, concat_and_shuffle
from cscdarts.models.drop_path import DropPath
from cscdarts.models.identity import CellIdentity
from cscdarts.models.operations import (
    FactorizedReduce,
    ResidualReduction,
    discrete_operation,
    head,
    preprocessing,
    stems,
)
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces import OPERATIONS, SPACES, CellPlan, Genotype


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
        operated = self.split.operated if self.split else channels
        self.operation = discrete_operation(OPERATIONS[op], operated, stride)
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


class DerivedCell(nn.Module):
    """A derived cell.

    Args:
        genotype: holds the cell of the plan's kind.
        plan: the cell's place.
        supernet: where the identity's form and the split come from.
        identity: the identity active in evaluation.
        dropper: drop-path state shared by all cells.
    """

    def __init__(
        self, genotype: Genotype, plan: CellPlan, supernet: SupernetConfig, evaluation: EvaluationConfig, identity: str,
        dropper: DropPath,
    ) -> None:  # fmt: skip
        super().__init__()
        space = SPACES[genotype.space]
        self.inputs, self.kept, self.concat = space.inputs, genotype.edges(plan.kind), genotype.concat(plan.kind)
        self.preprocess = preprocessing(plan, affine=True) if space.preprocesses else []
        for place, layer in enumerate(self.preprocess):
            self.add_module(f"preprocess{place}", layer)
        self.edges = nn.ModuleList(
            Edge(
                op,
                plan.channels,
                2 if plan.reduction and source < space.inputs else 1,
                supernet if evaluation.split_eval else None,
                supernet.identity_scale if identity == "edge" else 0.0,
                evaluation.identity_drop_path,
                dropper,
            )
            for source, _, op in self.kept
        )
        self.end = _CellEnd(
            plan.inputs[-1], plan.outputs, 2 if plan.reduction else 1, supernet, identity == "cell",
            evaluation.identity_drop_path, dropper,
        )  # fmt: skip

    def forward(self, *previous: Tensor) -> Tensor:
        """Outputs of the cells before, the newest last -> (n, outputs, h, w)."""
        given = [layer(s) for layer, s in zip(self.preprocess, previous, strict=True)] if self.preprocess else previous
        nodes: dict[int, Tensor] = dict(enumerate(given))
        for edge, (source, target, _) in zip(self.edges, self.kept, strict=True):
            y = edge(nodes[source])
            nodes[target] = nodes[target] + y if target in nodes else y
        joined = [nodes[node] for node in self.concat]
        out: Tensor = self.end(torch.cat(joined, dim=1) if len(joined) > 1 else joined[0], previous[-1])
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
    """A discrete network, as its space's skeleton stacks it.

    Args:
        genotype: the cell or cells.
        evaluation: size and options; `channels` is the width of the first cells, `cells` the number of cells as the
            skeleton counts them.
        supernet: where the identity's form and the split come from.
        identity: the identity active in evaluation (`RunConfig.identity_in("eval")`).
        classes, image_channels: of the data.
        large_images: whether the images are large (`spaces.is_large`), for which some spaces have other stem and heads.

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
        plan = SPACES[genotype.space].plan(evaluation.cells, evaluation.channels, large_images, genotype)
        self.dropper = DropPath()
        self.cells = nn.ModuleList()
        self.auxiliary: AuxiliaryHead | None = None
        self.auxiliary_after = -1
        self.head = head(plan)
        self.stem0, self.stem = stems(plan, image_channels)
        self.inputs = SPACES[genotype.space].inputs
        for index, block in enumerate(plan.blocks):
            self.cells.append(
                DerivedCell(genotype, block, supernet, evaluation, identity, self.dropper)
                if isinstance(block, CellPlan)
                else ResidualReduction(block.inputs, block.outputs)
            )
            if evaluation.auxiliary and index == plan.auxiliary_after:
                self.auxiliary = AuxiliaryHead(block.outputs, classes, plan.large_stem)
                self.auxiliary_after = index
        self.classifier = nn.Linear(plan.features, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x: (n, image_channels, h, w) -> logits (n, classes), and the auxiliary head's in training."""
        auxiliary = None
        if self.stem0 is None:
            first = second = self.stem(x)
        else:
            first = self.stem0(x)
            second = self.stem(first)
        for index, cell in enumerate(self.cells):
            arguments = (first, second)[-self.inputs :] if isinstance(cell, DerivedCell) else (second,)
            first, second = second, cell(*arguments)
            if index == self.auxiliary_after and self.training and self.auxiliary is not None:
                auxiliary = self.auxiliary(second)
        return self.classifier(self.head(second).mean((2, 3))), auxiliary
