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
    ChannelSplit,
    ResidualReduction,
    candidate,
    preprocessing,
    projection,
    stem,
)
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces import SPACES, CellPlan, Genotype

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
        self.operation = candidate(op, operated, stride, True, False)
        self.identity = candidate("skip_connect", channels, stride, True, False) if identity else None
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
    """A derived cell.

    Args:
        genotype: holds the kept edges of the plan's kind of cell.
        plan: as in `cscdarts.models.reference.MixedCell`.
        supernet, evaluation: form of split and identity.
        identity: the identity that is active in evaluation: `cell`, `edge` or `none`.
    """

    def __init__(
        self, genotype: Genotype, plan: CellPlan, supernet: SupernetConfig, evaluation: EvaluationConfig, identity: str
    ) -> None:
        super().__init__()
        space = SPACES[genotype.space]
        self.kept, self.concat = genotype.edges(plan.kind), genotype.concat(plan.kind)
        self.scale, self.drop_identity = supernet.identity_scale, evaluation.identity_drop_path
        self.preprocess = nn.ModuleList(preprocessing(plan, affine=True) if space.preprocesses else [])
        strides = [2 if plan.reduction and edge.source < space.inputs else 1 for edge in self.kept]
        self.edges = nn.ModuleList(
            DiscreteEdge(edge.op, plan.channels, stride, supernet, evaluation, identity == "edge")
            for edge, stride in zip(self.kept, strides, strict=True)
        )
        self.identity: nn.Module | None = None
        if identity == "cell":
            stride = 2 if plan.reduction else 1
            self.identity = projection(supernet.identity_proj, plan.inputs[-1], plan.outputs, stride, affine=True)

    def forward(self, previous: tuple[Tensor, ...], drop: Drop) -> Tensor:
        """previous: raw outputs of the two cells before (`darts`) or of the one before -> y."""
        states = dict(enumerate(previous))
        if self.preprocess:
            states = {node: layer(states[node]) for node, layer in enumerate(self.preprocess)}
        for edge, (source, target, _) in zip(self.edges, self.kept, strict=True):
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
        self.inputs = SPACES[genotype.space].inputs
        plan = SPACES[genotype.space].plan(evaluation.cells, evaluation.channels, large_images, genotype)
        self.cells = nn.ModuleList(
            DiscreteCell(genotype, block, supernet, evaluation, identity)
            if isinstance(block, CellPlan)
            else ResidualReduction(block.inputs, block.outputs)
            for block in plan.blocks
        )
        self.auxiliary: nn.Module | None = None
        self.auxiliary_after = -1
        if evaluation.auxiliary and plan.auxiliary_after is not None:
            self.auxiliary_after = plan.auxiliary_after
            outputs = plan.blocks[plan.auxiliary_after].outputs
            self.auxiliary = ReferenceAuxiliaryHead(outputs, classes, plan.large_stem)
        self.head = nn.Sequential(nn.BatchNorm2d(plan.features), nn.ReLU()) if plan.normalised_head else nn.Identity()
        self.stem = stem(image_channels, plan.stem, plan.large_stem)
        self.classifier = nn.Linear(plan.features, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images (n, image_channels, h, w) -> logits (n, classes), and in training those of the auxiliary head."""

        def drop(y: Tensor) -> Tensor:
            return drop_path(y, self.drop_path_probability, self.generator)

        auxiliary = None
        first = second = self.stem[0](x)
        if len(self.stem) == 2:
            second = self.stem[1](first)
        for index, cell in enumerate(self.cells):
            if isinstance(cell, DiscreteCell):
                first, second = second, cell((first, second)[-self.inputs :], drop)
            else:
                first, second = second, cell(second)
            if self.auxiliary is not None and self.training and index == self.auxiliary_after:
                auxiliary = self.auxiliary(second)
        out = self.classifier(F.adaptive_avg_pool2d(self.head(second), 1).flatten(1))
        return out, auxiliary
