"""The plain way: a supernet that computes every operation of every edge by itself, on standard torch modules.

Same arithmetic as quark0/darts `cnn/model_search.py` (DARTS space), yuhuixu1993/PC-DARTS `model_search.py` (with a split
ratio) and D-X-Y/AutoDL-Projects `cell_searchs/search_model_darts.py` (NAS-Bench-201 space), written anew and kept obvious.
It is the oracle of the tests and the baseline of `cscdarts bench`; `copy_weights` moves its weights into our supernet.
The second-order step is DARTS's with a copy of the model, as all public code does it.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.channel_split import shuffle_groups
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.models.supernet import SearchCell, Supernet
from cscdarts.settings.config import SupernetConfig, split_channels
from cscdarts.spaces import SPACES, Space


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)


class _FactorizedReduce(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.norm = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        out: Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))
        return out


class _Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def _relu_conv_bn(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), _norm(outputs))


def _depthwise(c: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        _norm(c),
    ]


def _operation(op: str, c: int, stride: int, pool_norm: bool) -> nn.Module:
    kernel = int(op[-1]) if op[-1].isdigit() else 0
    if op == "none":
        return _Zero(stride)
    if op == "skip_connect":
        return nn.Identity() if stride == 1 else _FactorizedReduce(c, c)
    if op in ("max_pool_3x3", "avg_pool_3x3"):
        pool: nn.Module = nn.MaxPool2d(3, stride, 1)
        if op.startswith("avg"):
            pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return nn.Sequential(pool, _norm(c)) if pool_norm else pool
    if op.startswith("sep_conv"):
        return nn.Sequential(*_depthwise(c, kernel, stride), *_depthwise(c, kernel, 1))
    if op.startswith("dil_conv"):
        return nn.Sequential(*_depthwise(c, kernel, stride, 2))
    return _relu_conv_bn(c, c, kernel)


class Edge(nn.Module):
    """One edge: all operations on the first channels, the rest passed by, shuffled."""

    def __init__(self, config: SupernetConfig, channels: int, stride: int) -> None:
        super().__init__()
        assert config.ops is not None
        self.operated = channels if config.split_ratio == 1 else split_channels(channels, config.split_ratio)
        self.groups = shuffle_groups(channels, config.split_ratio) if config.shuffle else 1
        self.ops = nn.ModuleList(
            _operation(op, self.operated, stride, config.space == "darts") for op in config.ops
        )  # fmt: skip
        self.pool = nn.MaxPool2d(2, 2) if stride == 2 else None

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x: (n, c, h, w), weights: (k,) -> (n, c, h/s, w/s)."""
        if self.operated == x.shape[1]:
            return self._mix(x, weights)
        rest = x[:, self.operated :]
        mixed = self._mix(x[:, : self.operated], weights)
        both = torch.cat([mixed, rest if self.pool is None else self.pool(rest)], dim=1)
        n, c, h, w = both.shape
        return both.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)

    def _mix(self, x: Tensor, weights: Tensor) -> Tensor:
        total: Tensor = sum(weight * op(x) for weight, op in zip(weights, self.ops, strict=True))
        return total


class Cell(nn.Module):
    """A cell of edges, each computed by itself."""

    def __init__(
        self, config: SupernetConfig, inputs: tuple[int, ...], channels: int, reduction: bool, halved: bool
    ) -> None:
        super().__init__()
        self.space, self.reduction = SPACES[config.space], reduction
        self.preprocess = nn.ModuleList()
        if self.space.inputs == 2:
            first = _FactorizedReduce(inputs[0], channels) if halved else _relu_conv_bn(inputs[0], channels, 1)
            self.preprocess.extend([first, _relu_conv_bn(inputs[1], channels, 1)])
        self.edges = nn.ModuleList(
            Edge(config, channels, 2 if reduction and source < self.space.inputs else 1)
            for source, _ in self.space.edges
        )

    def forward(self, previous: tuple[Tensor, ...], mixing: Tensor, factors: Tensor | None) -> Tensor:
        """previous: the outputs of the cells before; mixing: (edges, k); factors: (edges,) or None."""
        states = list(previous)
        if self.preprocess:
            states = [layer(s) for layer, s in zip(self.preprocess, previous, strict=True)]
        for target in range(self.space.inputs, self.space.inputs + self.space.nodes):
            arriving = []
            for row, (source, end) in enumerate(self.space.edges):
                if end == target:
                    out = self.edges[row](states[source], mixing[row])
                    arriving.append(out if factors is None else factors[row] * out)
            states.append(sum(arriving))
        return torch.cat(states[2:], dim=1) if self.space.inputs == 2 else states[-1]


class _ResidualReduction(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()

        def block(c: int, stride: int) -> list[nn.Module]:
            return [nn.ReLU(), nn.Conv2d(c, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]

        self.body = nn.Sequential(*block(inputs, 2), *block(outputs, 1))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.body(x)
        return out


class ReferenceSupernet(nn.Module):
    """The whole supernet, edge by edge, without identity connections.

    Args:
        config: space, size, operations, split ratio, shuffle, edge normalisation; other switches at their defaults.
        classes: number of classes.
        image_channels: channels of the images.
    """

    def __init__(self, config: SupernetConfig, classes: int, image_channels: int = 3) -> None:
        super().__init__()
        assert config.ops is not None
        self.config, self.space = config, SPACES[config.space]
        c = config.channels
        width = 3 * c if self.space.name == "darts" else c
        self.stem = nn.Sequential(nn.Conv2d(image_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        self.head: nn.Module = nn.Identity()
        if self.space.name == "darts":
            before, previous, halved = width, width, False
            for index in range(config.cells):
                reduction = index in (config.cells // 3, 2 * config.cells // 3)
                c = 2 * c if reduction else c
                self.cells.append(Cell(config, (before, previous), c, reduction, halved))
                before, previous, halved = previous, 4 * c, reduction
            features = previous
        else:
            for stage in range(3):
                if stage:
                    self.cells.append(_ResidualReduction(c, 2 * c))
                    c = 2 * c
                self.cells.extend(Cell(config, (c,), c, False, False) for _ in range(config.cells))
            features = c
            self.head = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())
        self.classifier = nn.Linear(features, classes)
        edges, ops = len(self.space.edges), len(config.ops)
        self.alphas = nn.ParameterDict({k: 1e-3 * torch.randn(edges, ops) for k in self.space.cell_kinds})
        self.betas = nn.ParameterDict(
            {k: 1e-3 * torch.randn(edges) for k in self.space.cell_kinds} if config.edge_norm else {}
        )

    def architecture(self) -> list[nn.Parameter]:
        """The architecture parameters: alphas, then betas."""
        return [*self.alphas.values(), *self.betas.values()]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        return [p for name, p in self.named_parameters() if not name.startswith(("alphas.", "betas."))]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, image_channels, h, w)."""
        first = second = self.stem(x)
        mixing = {kind: alpha.softmax(-1) for kind, alpha in self.alphas.items()}
        factors = {kind: _edge_factors(self.space, beta) for kind, beta in self.betas.items()}
        for cell in self.cells:
            if not isinstance(cell, Cell):
                second = cell(second)
            elif self.space.inputs == 1:
                second = cell((second,), mixing["cell"], factors.get("cell"))
            else:
                kind = "reduce" if cell.reduction else "normal"
                first, second = second, cell((first, second), mixing[kind], factors.get(kind))
        out: Tensor = self.classifier(F.adaptive_avg_pool2d(self.head(second), 1).flatten(1))
        return out


def _edge_factors(space: Space, beta: Tensor) -> Tensor:
    """softmax of beta over the edges into each node; (edges,) -> (edges,)."""
    nodes = range(space.inputs, space.inputs + space.nodes)
    return torch.cat([beta[[target == node for _, target in space.edges]].softmax(0) for node in nodes])


Batch = tuple[Tensor, Tensor]


def weight_step(model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer, clip: float = 5.0) -> None:
    """DARTS's step of the weights: gradients of everything, clipped, SGD."""
    optimizer.zero_grad()
    torch.autograd.backward(F.cross_entropy(model(batch[0]), batch[1]))
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(weights, clip)
    optimizer.step()


def first_order_gradient(model: ReferenceSupernet, valid: Batch) -> list[Tensor]:
    """DARTS's first-order gradient in the architecture: a backward pass through everything."""
    model.zero_grad()
    torch.autograd.backward(F.cross_entropy(model(valid[0]), valid[1]))
    return [p.grad.clone() for p in model.architecture() if p.grad is not None]


def second_order_gradient(
    model: ReferenceSupernet, train: Batch, valid: Batch, optimizer: torch.optim.SGD, xi: float, eps: float = 0.01
) -> list[Tensor]:
    """DARTS's second-order gradient in the architecture, with a copy of the model (quark0/darts `cnn/architect.py`)."""
    group = optimizer.param_groups[0]
    weights, architecture = model.weights(), model.architecture()
    loss = F.cross_entropy(model(train[0]), train[1])
    grads = torch.autograd.grad(loss, weights)
    unrolled = copy.deepcopy(model)
    with torch.no_grad():
        for old, new, grad in zip(weights, unrolled.weights(), grads, strict=True):
            moment = optimizer.state[old].get("momentum_buffer")
            step = grad + group["weight_decay"] * old
            new.sub_(step if moment is None else step + group["momentum"] * moment, alpha=xi)
    torch.autograd.backward(F.cross_entropy(unrolled(valid[0]), valid[1]))
    outer = [p.grad for p in unrolled.architecture() if p.grad is not None]
    direction = [p.grad for p in unrolled.weights() if p.grad is not None]
    distance = eps / torch.linalg.vector_norm(torch.cat([d.flatten() for d in direction]))
    sides = []
    for sign in (1, -2):
        with torch.no_grad():
            for weight, along in zip(weights, direction, strict=True):
                weight.add_(along, alpha=float(sign * distance))
        loss = F.cross_entropy(model(train[0]), train[1])
        sides.append(torch.autograd.grad(loss, architecture))
    with torch.no_grad():
        for weight, along in zip(weights, direction, strict=True):
            weight.add_(along, alpha=float(distance))
    return [g - xi * (a - b) / (2 * distance) for g, a, b in zip(outer, *sides, strict=True)]


@torch.no_grad()
def copy_weights(oracle: ReferenceSupernet, supernet: Supernet) -> None:
    """Give our supernet (identity `none`) the oracle's weights, architecture parameters and statistics."""
    for name, alpha in oracle.alphas.items():
        supernet.alphas[name].copy_(alpha)
    for name, beta in oracle.betas.items():
        supernet.betas[name].copy_(beta)
    _copy_all(oracle.stem, supernet.stem)
    _copy_all(oracle.head, supernet.head)
    _copy_all(oracle.classifier, supernet.classifier)
    for theirs, ours in zip(oracle.cells, supernet.cells, strict=True):
        if not isinstance(ours, SearchCell):
            _copy_all(theirs, ours)
            continue
        assert isinstance(theirs, Cell)
        _copy_all(theirs.preprocess, ours.preprocess)
        for source, node_ops in enumerate(ours.mixed_ops):
            assert isinstance(node_ops, MixedOps)
            edges = [theirs.edges[row] for row in ours.space.outgoing[source]]
            for column, op in enumerate(node_ops.ops):
                if op not in node_ops.kinds:
                    continue
                kind = node_ops.kinds[op]
                for position, edge in enumerate(edges):
                    assert isinstance(edge, Edge)
                    for stacked, one in zip(_tensors(kind), _tensors(edge.ops[column]), strict=True):
                        # A pooling's statistics are shared by the edges, all else is stacked.
                        shared = isinstance(kind, BatchNorm)
                        (stacked if shared else stacked.view(len(edges), *one.shape)[position]).copy_(one)


def _copy_all(source: nn.Module, target: nn.Module) -> None:
    for to, value in zip(_tensors(target), _tensors(source), strict=True):
        to.copy_(value)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, then running statistics."""
    yield from module.parameters()
    yield from (buffer for name, buffer in module.named_buffers() if name.endswith(("running_mean", "running_var")))
