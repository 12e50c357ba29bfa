"""The method, edge by edge, on plain torch modules. Read this first.

A supernet is a row of cells, a cell a graph whose edges (i, j) hold all candidate operations. With split ratio r = p/q
an edge of stride s takes x of C channels to z:

    x_a, x_b = the c1 = max(2, 2 * floor(r * C / 2)) channels that are operated on, and the rest    `ChannelSplit`
    m   = sum over o of softmax(alpha_ij)_o * o(x_a)                                                `MixedEdge`
    z   = shuffle_q(concat(m, b(x_b))),  b the identity, or a reduction at s = 2
    z  += lambda * I(x)                                          with identity=edge
    x_j = sum over i of beta_ij * z_ij,  beta = 1, or with edge normalisation a softmax over i      `MixedCell`
    y   = concat of the nodes (`darts`) or the last node (`nasbench201`)
    y  += lambda * R(s1),  s1 the raw output of the cell before  with identity=cell                 `projection`

The derived cells keep lambda * I or lambda * R when they are trained again (`cscdarts.models.reference_network`).

Every edge computes all of its own, nothing is batched, shared or fused, and of the engine only configs and the tables
of the spaces are used. So it is the oracle of the tests and the baseline of `cscdarts bench`, with the steps of
`cscdarts.training.reference_steps`; `cscdarts.models.reference_weights` moves its weights into the fast models.

Sources: quark0/darts `cnn/model_search.py` (darts), yuhuixu1993/PC-DARTS `model_search.py` (split, edge normalisation),
D-X-Y/AutoDL-Projects `cell_searchs/search_model_darts.py` (nasbench201), Meituan-AutoML/DARTS- (edge identity). Place
and form of CSC-DARTS's identity are not public: `cscdarts config --explain` says what is inferred from what.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.models.operations import discrete_operation
from cscdarts.settings.config import SupernetConfig
from cscdarts.spaces import CLOSED, OPERATIONS, SPACES, CellPlan, Space

#: For each kind of cell softmax(alpha), (edges, operations), and the factors beta of its edges, (edges,) or None for 1.
MixingWeights = dict[str, tuple[Tensor, Tensor | None]]


def relu_conv_bn(inputs: int, outputs: int, kernel: int, affine: bool, stride: int = 1) -> nn.Sequential:
    """ReLU, k x k convolution, batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs, affine=affine))


def depthwise(c: int, kernel: int, stride: int, affine: bool, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise k x k convolution, 1x1 convolution, batch normalisation."""
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        nn.BatchNorm2d(c, affine=affine),
    ]


class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2, the second one pixel further down and right, batch normalisation."""

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, inputs, h, w), h and w even -> (n, outputs, h/2, w/2)."""
        x = F.relu(x)
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))
        return out


class Zero(nn.Module):
    """The operation `none`."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> zeros (n, c, h/s, w/s)."""
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def _pool(pool: nn.Module, c: int, norm: bool) -> nn.Module:
    return nn.Sequential(pool, nn.BatchNorm2d(c, affine=False)) if norm else pool


#: Name -> (channels, stride, whether normalisations are affine, whether pooled maps are normalised) -> module.
_MODULES: dict[str, Callable[[int, int, bool, bool], nn.Module]] = {
    "none": lambda c, s, a, n: Zero(s),
    "skip_connect": lambda c, s, a, n: nn.Identity() if s == 1 else FactorizedReduce(c, c, a),
    "max_pool_3x3": lambda c, s, a, n: _pool(nn.MaxPool2d(3, s, 1), c, n),
    "avg_pool_3x3": lambda c, s, a, n: _pool(nn.AvgPool2d(3, s, 1, count_include_pad=False), c, n),
    "sep_conv_3x3": lambda c, s, a, n: nn.Sequential(*depthwise(c, 3, s, a), *depthwise(c, 3, 1, a)),
    "sep_conv_5x5": lambda c, s, a, n: nn.Sequential(*depthwise(c, 5, s, a), *depthwise(c, 5, 1, a)),
    "dil_conv_3x3": lambda c, s, a, n: nn.Sequential(*depthwise(c, 3, s, a, dilation=2)),
    "dil_conv_5x5": lambda c, s, a, n: nn.Sequential(*depthwise(c, 5, s, a, dilation=2)),
    "nor_conv_1x1": lambda c, s, a, n: relu_conv_bn(c, c, 1, a, s),
    "nor_conv_3x3": lambda c, s, a, n: relu_conv_bn(c, c, 3, a, s),
}


def candidate(op: str, c: int, stride: int, affine: bool, pool_norm: bool) -> nn.Module:
    """An operation's module; users' own, which are not spelled out here, are made as their records say."""
    if op in _MODULES:
        return _MODULES[op](c, stride, affine, pool_norm)
    module = discrete_operation(OPERATIONS[op], c, stride, affine)
    return _pool(module, c, pool_norm) if OPERATIONS[op].is_pool else module


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel k = g * (c / q) + t of x: (n, c, h, w) moves to t * q + g, q the number of groups."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ChannelSplit(nn.Module):
    """The share x_a of an edge's input of C channels that is operated on, and what becomes of the rest x_b.

    `affine` says whether the normalisation of a factorized bypass is.

    Attributes:
        operated: c1, the channels of x_a; C when nothing is split: at ratio 1, or at stride 2 with bypass `nosplit`.
        order: with pick `random`, the channels' order; the first c1 of it are x_a.
    """

    def __init__(self, config: SupernetConfig, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        ratio, bypass = config.split_ratio, config.bypass_reduce
        self.pick = config.split_pick
        self.operated = max(2, 2 * math.floor(ratio * channels / 2))
        if ratio == 1 or (stride == 2 and bypass == "nosplit"):
            self.operated = channels
        self.groups = math.gcd(channels, ratio.denominator) if config.shuffle else 1
        self.order: Tensor | None = None
        rest = channels - self.operated
        self.reduce: nn.Module | None = None
        if rest and stride == 2 and bypass == "factorized":
            self.reduce = FactorizedReduce(rest, rest, affine)
        elif rest and stride == 2:
            self.reduce = nn.MaxPool2d(2, 2) if bypass == "max" else nn.AvgPool2d(2, 2)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (n, C, h, w) -> x_a: (n, c1, h, w) and x_b: (n, C - c1, h, w)."""
        if self.pick == "first":
            return x[:, : self.operated], x[:, self.operated :]
        if self.pick == "last":
            return x[:, -self.operated :], x[:, : -self.operated]
        if self.order is None:
            raise RuntimeError("split_pick=random needs draw_channels() before a pass")
        return x[:, self.order[: self.operated]], x[:, self.order[self.operated :]]

    def join(self, m: Tensor, x_b: Tensor) -> Tensor:
        """m: (n, c1, h/s, w/s) and x_b: (n, C - c1, h, w) -> z: (n, C, h/s, w/s)."""
        z = torch.cat([m, x_b if self.reduce is None else self.reduce(x_b)], dim=1)
        return z if self.groups == 1 else shuffle(z, self.groups)


class PoolPad(nn.Module):
    """A projection without parameters: 2x2 averages at stride 2; zero channels behind, or the last channels cut off."""

    def __init__(self, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w) -> (n, outputs, h/s, w/s)."""
        if self.stride == 2:
            x = F.avg_pool2d(x, 2)
        n, c, h, w = x.shape
        return torch.cat([x[:, : self.outputs], x.new_zeros(n, max(0, self.outputs - c), h, w)], dim=1)


def projection(kind: str, inputs: int, outputs: int, stride: int, affine: bool) -> nn.Module | None:
    """R of the cell identity, from the previous cell's output to this cell's: the identity where shapes agree.

    Args:
        kind: what it is elsewhere: `conv`, `pool-pad` or `skip-cell` (None: no connection).
        affine: whether its normalisation is affine: not in search, as in all operations there.
    """
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if kind == "skip-cell":
        return None
    if kind == "pool-pad":
        return PoolPad(outputs, stride)
    return FactorizedReduce(inputs, outputs, affine) if stride == 2 else relu_conv_bn(inputs, outputs, 1, affine)


class MixedEdge(nn.Module):
    """An edge of C channels: weighted sum of the operations on x_a, bypass, shuffle, and its identity if it has one."""

    def __init__(
        self, config: SupernetConfig, columns: tuple[int, ...], channels: int, stride: int, identity: bool
    ) -> None:
        super().__init__()
        assert config.ops is not None
        self.columns = columns  # of the edge's candidates
        self.split = ChannelSplit(config, channels, stride, affine=False)
        c, pool_norm = self.split.operated, SPACES[config.space].pool_norm
        self.ops = nn.ModuleList(candidate(config.ops[k], c, stride, False, pool_norm) for k in columns)
        self.identity = candidate("skip_connect", channels, stride, False, False) if identity else None

    def forward(self, x: Tensor, weights: Tensor, scale: float) -> Tensor:
        """x: (n, c, h, w), weights: (operations,), scale: lambda -> z: (n, c, h/s, w/s)."""
        if self.split.operated == x.shape[1]:
            z = self._mix(x, weights)
        else:
            x_a, x_b = self.split.parts(x)
            z = self.split.join(self._mix(x_a, weights), x_b)
        if self.identity is not None and scale != 0:
            z = z + scale * self.identity(x)
        return z

    def _mix(self, x: Tensor, weights: Tensor) -> Tensor:
        total: Tensor = sum(weights[column] * op(x) for column, op in zip(self.columns, self.ops, strict=True))
        return total


def preprocessing(plan: CellPlan, affine: bool) -> list[nn.Module]:
    """Layers that bring a cell's inputs to its own width, and the first of two to half its size after a reduction."""
    found: list[nn.Module] = [relu_conv_bn(inputs, plan.channels, 1, affine) for inputs in plan.inputs]
    if plan.halved and len(plan.inputs) == 2:
        found[0] = FactorizedReduce(plan.inputs[0], plan.channels, affine)
    return found


class MixedCell(nn.Module):
    """A cell in which every edge holds all operations.

    Args:
        config: the supernet's config.
        plan: the channels that it reads, has and gives, its kind, whether its edges from input nodes have stride 2.
        identity: the identity that is active in search: `cell`, `edge` or `none`.
    """

    def __init__(self, config: SupernetConfig, plan: CellPlan, identity: str) -> None:
        super().__init__()
        space = self.space = SPACES[config.space]
        self.plan, channels = plan, plan.channels
        self.preprocess = nn.ModuleList(preprocessing(plan, affine=False) if space.preprocesses else [])
        columns = space.columns(plan.kind, config.ops or ())
        edges = [
            MixedEdge(config, its, channels, 2 if plan.reduction and source < space.inputs else 1, identity == "edge")
            for its, (source, _) in zip(columns, space.edges, strict=True)
        ]
        for leaving in space.outgoing:
            # What bypasses the operations does not depend on the edge: a node's edges share its convolutions.
            one, *others = (edges[row].split.reduce for row in leaving)
            for other in others:
                if isinstance(one, FactorizedReduce) and isinstance(other, FactorizedReduce):
                    other.even, other.odd = one.even, one.odd
        self.edges = nn.ModuleList(edges)
        self.identity: nn.Module | None = None
        if identity == "cell":
            stride = 2 if plan.reduction else 1
            self.identity = projection(config.identity_proj, plan.inputs[-1], plan.outputs, stride, affine=False)

    def forward(self, previous: tuple[Tensor, ...], mixing: Tensor, factors: Tensor | None, scale: float) -> Tensor:
        """The cell's output y.

        Args:
            previous: raw outputs of the two cells before (`darts`) or of the one before (`nasbench201`).
            mixing: softmax(alpha), (edges, operations).
            factors: beta, (edges,), or None for 1.
            scale: lambda of the identity; 0 is the same as no identity.
        """
        states = list(previous)
        if self.preprocess:
            states = [layer(s) for layer, s in zip(self.preprocess, previous, strict=True)]
        for target in range(self.space.inputs, self.space.inputs + self.space.nodes):
            arriving = []
            for row, (source, end) in enumerate(self.space.edges):
                if end == target:
                    z = self.edges[row](states[source], mixing[row], scale)
                    arriving.append(z if factors is None else factors[row] * z)
            states.append(sum(arriving))
        y = torch.cat([states[node] for node in self.space.output_nodes], dim=1)
        if self.identity is not None and scale != 0:
            y = y + scale * self.identity(previous[-1])
        return y


class ResidualReduction(nn.Module):
    """NAS-Bench-201's fixed block between stages: two 3x3 convolutions beside a pooling and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *relu_conv_bn(inputs, outputs, 3, True, stride=2), *relu_conv_bn(outputs, outputs, 3, True)
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, inputs, h, w) -> (n, outputs, h/2, w/2)."""
        out: Tensor = self.shortcut(x) + self.body(x)
        return out


def stem(image_channels: int, c: int, large_images: bool) -> nn.ModuleList:
    """The layers before the first cell: one, or ImageNet's two, which halve h and w three times."""
    if not large_images:
        return nn.ModuleList([nn.Sequential(nn.Conv2d(image_channels, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))])
    half = nn.Sequential(nn.Conv2d(image_channels, c // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(c // 2))
    first = nn.Sequential(*half, *relu_conv_bn(c // 2, c, 3, affine=True, stride=2))
    return nn.ModuleList([first, relu_conv_bn(c, c, 3, affine=True, stride=2)])


class ReferenceSupernet(nn.Module):
    """The whole supernet: stem, cells, classifier, architecture parameters.

    Args:
        config: space, size, operations, split, edge normalisation, identity (off if its phases leave search out).
        classes: number of classes.
        image_channels: channels of the images.
        large_images: `darts` only: ImageNet's stem.

    Attributes:
        identity_scale: lambda; a search with `identity_decay=linear` lowers it from epoch to epoch.
    """

    def __init__(
        self, config: SupernetConfig, classes: int, image_channels: int = 3, large_images: bool = False
    ) -> None:
        super().__init__()
        assert config.ops is not None
        self.config, self.space = config, SPACES[config.space]
        self.identity_scale = config.identity_scale
        identity = config.identity if config.identity_phases in ("search", "both") else "none"
        plan = self.space.plan(config.cells, config.channels, large_images)
        self.cells = nn.ModuleList(
            MixedCell(config, block, identity)
            if isinstance(block, CellPlan)
            else ResidualReduction(block.inputs, block.outputs)
            for block in plan.blocks
        )
        self.head = nn.Sequential(nn.BatchNorm2d(plan.features), nn.ReLU()) if plan.normalised_head else nn.Identity()
        self.stem = stem(image_channels, plan.stem, plan.large_stem)
        self.classifier = nn.Linear(plan.features, classes)
        edges, ops = len(self.space.edges), len(config.ops)
        self.alphas = nn.ParameterDict({k: 1e-3 * torch.randn(edges, ops) for k in self.space.cell_kinds})
        with torch.no_grad():
            for kind, alpha in self.alphas.items():
                for row, columns in enumerate(self.space.columns(kind, config.ops)):
                    alpha[row, [k for k in range(ops) if k not in columns]] = CLOSED
        self.betas = nn.ParameterDict(
            {k: 1e-3 * torch.randn(edges) for k in self.space.cell_kinds} if config.edge_norm else {}
        )

    def architecture(self) -> list[nn.Parameter]:
        """The architecture parameters: alphas, then betas."""
        return [*self.alphas.values(), *self.betas.values()]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        return [p for name, p in self.named_parameters() if not name.startswith(("alphas.", "betas."))]

    def mixing(self) -> MixingWeights:
        """softmax(alpha) over the operations and, with edge normalisation, softmax(beta) over the edges into a node."""
        return {
            kind: (alpha.softmax(-1), edge_factors(self.space, self.betas[kind]) if kind in self.betas else None)
            for kind, alpha in self.alphas.items()
        }

    def draw_channels(self, generator: torch.Generator) -> None:
        """With `split_pick=random`: draw which channels of each node go to the operations, on all its edges."""
        for cell in self.cells:
            if isinstance(cell, MixedCell):
                for leaving in self.space.outgoing:
                    order = torch.randperm(cell.plan.channels, generator=generator).to(self.classifier.weight.device)
                    for row in leaving:
                        cell.edges[row].split.order = order  # type: ignore[union-attr]

    def forward(self, x: Tensor, mixing: MixingWeights | None = None) -> Tensor:
        """Logits (n, classes) of images (n, image_channels, h, w).

        Args:
            mixing: mixing weights in place of those of the architecture parameters.
        """
        mixing = self.mixing() if mixing is None else mixing
        first = second = self.stem[0](x)
        if len(self.stem) == 2:
            second = self.stem[1](first)
        for cell in self.cells:
            if isinstance(cell, MixedCell):
                previous = (first, second)[-self.space.inputs :]
                first, second = second, cell(previous, *mixing[cell.plan.kind], self.identity_scale)
            else:
                first, second = second, cell(second)
        out: Tensor = self.classifier(F.adaptive_avg_pool2d(self.head(second), 1).flatten(1))
        return out


def edge_factors(space: Space, beta: Tensor) -> Tensor:
    """softmax of beta over the edges into each node; (edges,) -> (edges,)."""
    return torch.cat([beta[rows].softmax(0) for rows in space.incoming.values()])
