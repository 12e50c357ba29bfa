"""The mixed operations of all edges that leave one node, computed together.

Every edge (i, j) applies m_ij(x) = sum_o w_ij,o * o_ij(x) (Liu et al. 2019, equation 2) and all edges out of node i
read the same x. So what does not depend on the edge (ReLU, pooling and its normalisation, identity) is computed once,
the convolutions of one kind are batched over the outgoing edges, mixing weights are folded into the normalisation, and
`none` costs nothing. Values are those of edge-by-edge modules; `tests/` holds such a supernet as oracle.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.kernels.candidates import Candidate, ConvBN, SharedMap, convolve
from cscdarts.kernels.mixed_op import may_fuse, mix
from cscdarts.kernels.mixing_weights import EdgeWeights
from cscdarts.kernels.portable import mix as portable
from cscdarts.kernels.portable.levels import lay_out
from cscdarts.models.operations import OperationPerEdge
from cscdarts.models.relaxation.one_per_edge import convolutions_of, fused_convolutions_of
from cscdarts.spaces import OPERATIONS, Conv, Operation, Pool, Skip, Zero

#: `auto`: the CPU's own kernels on a CPU, the portable ones elsewhere; `plain`: plain autograd.
Kernels = Literal["auto", "portable", "plain"]


def conv_parameter(edges: int, outputs: int, inputs: int, kernel: int) -> nn.Parameter:
    """Stacked convolution weights (edges, outputs, inputs, k, k), initialised as torch initialises one convolution.

    In memory the inputs come last, as in the maps: so the library takes them as they are, and gives their gradient.
    """
    bound = 1 / math.sqrt(inputs * kernel * kernel)
    weight = torch.empty(edges, outputs, inputs, kernel, kernel).uniform_(-bound, bound)
    return nn.Parameter(weight.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3))


class MixedOps(nn.Module):
    """All mixed operations that leave one node.

    Args:
        ops: candidate operations in the order of the mixing weights' columns.
        edges: number e of outgoing edges.
        channels: channels c of the input that reach the operations.
        stride: 1, or 2 on edges from the input nodes of a reduction cell.
        pool_norm: whether pooled maps are normalised (DARTS search does, NAS-Bench-201 does not).
    """

    columns: Tensor

    def __init__(self, ops: tuple[str, ...], edges: int, channels: int, stride: int, pool_norm: bool = True) -> None:
        super().__init__()
        self.ops, self.edges, self.channels, self.stride = ops, edges, channels, stride
        self.kernels: Kernels = "auto"
        self.plain: bool = False  # plain autograd, which can be differentiated twice and traced on meta tensors
        self.kinds = nn.ModuleDict()
        for op in ops:
            kind = batched_operation(OPERATIONS[op], edges, channels, stride, pool_norm)
            if kind is not None:
                self.kinds[op] = kind
        # In the order that `mix` wants, then what it does not know; a zero costs nothing.
        self.apart = [op for op, kind in self.kinds.items() if not isinstance(kind, Convolutions | BatchNorm)]
        known = [op for op in ops if not OPERATIONS[op].is_zero and op not in self.apart]
        self.active = [*sorted(known, key=self._rank), *self.apart]
        self.register_buffer(
            "columns", torch.tensor([ops.index(op) for op in self.active], dtype=torch.long), persistent=False
        )
        self._row = {op: row for row, op in enumerate(self.active)}
        # Looked up once: a node's calls are counted in microseconds.
        self._plan = [(_pooling(OPERATIONS[op]), self._kind(op)) for op in self.active[: len(known)]]
        self._norms = [layer for layer in self.modules() if isinstance(layer, BatchNorm)]

    def mixing_weights(self, weights: Tensor, factors: Tensor | None = None) -> EdgeWeights:
        """Mixing weights as this node, and the same one of each cell of its kind, takes them.

        Args:
            weights: (e, m), a row per edge, a column per operation of `ops`.
            factors: (e,) factors of edge normalisation, which the weights have in them, or None for 1.
        """
        return EdgeWeights(weights.t().index_select(0, self.columns), factors)

    def rows_of(self, chosen: Sequence[str]) -> list[int | None]:
        """`EdgeWeights.chosen` of one-hot weights whose edges have their ones at these operations."""
        return [self._row.get(op) for op in chosen]

    def forward(self, x: Tensor, weights: EdgeWeights) -> tuple[Tensor, ...]:
        """Apply the mixed operation of each edge.

        Args:
            x: (n, c, h, w), the node's output (its share for the operations).
            weights: mixing weights from `mixing_weights`.

        Returns:
            for each edge (n, c, h/stride, w/stride).
        """
        if weights.chosen is not None and not any(norm.sync for norm in self._norms):
            return self._one_per_edge(x, weights, weights.chosen)
        if self.apart:
            return self._with_apart(x, weights)
        return self._mix(x, weights)

    def _one_per_edge(self, x: Tensor, weights: EdgeWeights, chosen: Sequence[int | None]) -> tuple[Tensor, ...]:
        """Each edge's only operation, times its weight; see `cscdarts.models.relaxation.one_per_edge`."""
        n, _, h, w = x.shape
        found: list[Tensor | None] = [None] * self.edges
        of_the_cpu = self.kernels == "auto" and not self.plain
        fuses = of_the_cpu and may_fuse(x, self.training, self._norms)
        active = x if fuses else F.relu(x)
        outputs: tuple[Tensor, ...]
        for row in sorted({row for row in chosen if row is not None}):
            edges = [edge for edge, its in enumerate(chosen) if its == row]
            op = self.active[row]
            kind = self.kinds[op] if op in self.kinds else None  # noqa: SIM401 (a ModuleDict has no get)
            if fuses and isinstance(kind, Convolutions):
                outputs = fused_convolutions_of(x, kind.stages(), edges, weights.per_op[row, edges])
                for edge, output in zip(edges, outputs, strict=True):
                    found[edge] = output
                continue
            if isinstance(kind, Convolutions):
                outputs = convolutions_of(x, active, kind.stages(), edges)
            elif isinstance(kind, OperationPerEdge):
                outputs = tuple(kind.edges[edge](x) for edge in edges)
            elif kind is None or isinstance(kind, BatchNorm):
                outputs = (self._shared(x, SharedMap(_pooling(OPERATIONS[op]), kind, self.stride)),) * len(edges)
            else:
                of_all = kind(x).chunk(self.edges, dim=1)
                outputs = tuple(of_all[edge] for edge in edges)
            for edge, output in zip(edges, outputs, strict=True):
                found[edge] = weights.per_op[row, edge] * output
        zero = x.new_zeros((n, self.channels, h // self.stride, w // self.stride))
        return tuple(zero if output is None else output for output in found)

    def _mix(self, x: Tensor, weights: EdgeWeights) -> tuple[Tensor, ...]:
        """The weighted sums of the operations that are computed together."""
        if not self._plan:
            n, _, h, w = x.shape
            return (x.new_zeros((n, self.channels, h // self.stride, w // self.stride)),) * self.edges
        operations = self.operations()
        if self.plain or self.kernels == "plain":
            return self._plain(x, operations, weights.per_op)
        if x.device.type == "cpu" and self.kernels == "auto":
            fuses = may_fuse(x, self.training, self._norms)
            return mix(x, operations, weights) if fuses else self._plain(x, operations, weights.per_op)
        # The compiler fuses plain autograd by itself, and cannot look into a function of ours.
        if torch.compiler.is_compiling() or not portable.may_fuse(self.training):
            return self._plain(x, operations, weights.per_op)
        return portable.mix(x, operations, weights, self.training, any(norm.sync for norm in self._norms))

    def operations(self) -> list[Candidate]:
        """The operations that are computed together, in the order of the rows of `mixing_weights`."""
        return [
            kind.stages() if isinstance(kind, Convolutions) else SharedMap(pool, kind, self.stride)
            for pool, kind in self._plan
        ]

    def use(self, kernels: Kernels) -> None:
        """Choose how the operations are computed, once the module is on its device."""
        self.kernels = kernels
        device = next((p.device.type for p in self.parameters()), "cpu")
        if kernels == "portable" or (kernels == "auto" and device != "cpu"):
            lay_out(self.operations())

    def _with_apart(self, x: Tensor, weights: EdgeWeights) -> tuple[Tensor, ...]:
        """The weighted sums of all operations, those with modules of their own added to the others."""
        known = len(self._plan)
        sums = self._mix(x, weights.only(range(known)))
        learns = torch.is_grad_enabled() or (self.training and any(norm.track for norm in self._norms))
        # A discrete cell weighs most operations by 0; elsewhere than on a CPU it takes longer to look than to compute.
        everything = learns or self.plain or x.device.type != "cpu"
        for row, op in enumerate(self.apart, known):
            if everything or any(weights.as_floats[row]):
                outputs = self.kinds[op](x).chunk(self.edges, dim=1)
                factors = weights.per_op[row].unbind()
                sums = tuple(total + factor * y for total, factor, y in zip(sums, factors, outputs, strict=True))
        return sums

    def _kind(self, op: str) -> "Convolutions | BatchNorm | None":
        kind = self.kinds[op] if op in self.kinds else None  # noqa: SIM401 (a ModuleDict has no get)
        assert kind is None or isinstance(kind, (Convolutions, BatchNorm))
        return kind

    def _rank(self, op: str) -> int:
        """Convolutions first, 1x1 the last of them, which is added in place to what others gave; unnormalised maps
        last."""
        kind = self._kind(op)
        if kind is None or isinstance(kind, BatchNorm):
            return 3 if kind is None else 2
        return int(isinstance(kind, StackedConvs) and kind.parts == (Conv(1),))

    def _shared(self, x: Tensor, operation: SharedMap) -> Tensor:
        """A map that all edges share, by plain autograd."""
        pooled = x
        if operation.pool == "max":
            pooled = F.max_pool2d(x, 3, self.stride, 1)
        elif operation.pool == "avg":
            pooled = F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)
        if operation.norm is not None:
            pooled = operation.norm(pooled)
        return pooled

    def _plain(self, x: Tensor, operations: Sequence[Candidate], weights: Tensor) -> tuple[Tensor, ...]:
        """sum_o w_o * o(x) of every edge by plain autograd; weights: (k, e), a row per operation."""
        active = F.relu(x)
        total: Tensor | None = None
        for operation, weight in zip(operations, weights.unbind(0), strict=True):
            if isinstance(operation, SharedMap):
                pooled = self._shared(x, operation)
                mixed = torch.cat([factor * pooled for factor in weight.unbind()], dim=1)
            else:
                y = active if operation[0].depth is None else active.repeat(1, self.edges, 1, 1)
                for stage in operation[:-1]:
                    y = F.relu(stage.norm(convolve(y, stage, self.edges)))
                last = operation[-1]
                mixed = last.norm(convolve(y, last, self.edges), weight.repeat_interleave(self.channels))
            total = mixed if total is None else total + mixed
        assert total is not None
        return torch.split(total, self.channels, dim=1)


class GroupedWeights(NamedTuple):
    """Mixing weights of the edges that leave one node, group by group, and the factors of its edges in their order."""

    groups: Sequence[EdgeWeights]
    factors: Tensor | None


class GroupedOps(nn.Module):
    """All mixed operations that leave one node, where not every edge has the same candidates.

    Edges with the same candidates are computed together, and no edge computes another's.

    Args:
        ops: all operations in the order of the mixing weights' columns.
        columns: for each edge those of its candidates.
        channels, stride, pool_norm: see `MixedOps`.

    Attributes:
        groups: the mixed operations of edges with the same candidates; members: which edges these are.
    """

    back: Tensor

    def __init__(
        self, ops: tuple[str, ...], columns: Sequence[tuple[int, ...]], channels: int, stride: int, pool_norm: bool
    ) -> None:
        super().__init__()
        found = list(dict.fromkeys(columns))
        self.members = [[edge for edge, its in enumerate(columns) if its == one] for one in found]
        self.groups = nn.ModuleList(
            MixedOps(tuple(ops[column] for column in one), len(edges), channels, stride, pool_norm)
            for one, edges in zip(found, self.members, strict=True)
        )
        in_groups = [edge for edges in self.members for edge in edges]
        self._back = [in_groups.index(edge) for edge in range(len(columns))]
        self.register_buffer("back", torch.tensor(self._back, dtype=torch.long), persistent=False)

    def gather(self, groups: Sequence[EdgeWeights]) -> GroupedWeights:
        """The mixing weights of this node from those of its groups."""
        factors = [group.factors for group in groups if group.factors is not None]
        return GroupedWeights(groups, torch.cat(factors).index_select(0, self.back) if factors else None)

    def forward(self, x: Tensor, weights: GroupedWeights) -> tuple[Tensor, ...]:
        """See `MixedOps.forward`."""
        found = [y for group, own in zip(self.groups, weights.groups, strict=True) for y in group(x, own)]
        return tuple(found[place] for place in self._back)


def mixed_operations(
    ops: tuple[str, ...], columns: Sequence[tuple[int, ...]], channels: int, stride: int, pool_norm: bool
) -> MixedOps | GroupedOps:
    """The mixed operations that leave one node; `columns` are each edge's candidates, see `GroupedOps`."""
    if all(len(one) == len(ops) for one in columns):
        return MixedOps(ops, len(columns), channels, stride, pool_norm)
    return GroupedOps(ops, columns, channels, stride, pool_norm)


def batched_operation(record: Operation, edges: int, channels: int, stride: int, pool_norm: bool) -> nn.Module | None:
    """What an operation holds for all edges that leave a node, or None where it needs no module.

    `Convolutions`, and the `BatchNorm` of a pooling, are computed together; any other module is computed apart.
    """
    if record.batched is not None:
        made: nn.Module = record.batched(edges, channels, stride)
        return made
    convolutions = [part for part in record.parts if isinstance(part, Conv)]
    one = len(convolutions) == 1 and convolutions[0].dilation == 1
    # All edges read the same maps, so one full convolution serves them; a second one would need each edge's own.
    if one or (convolutions and all(part.depthwise for part in convolutions)):
        return StackedConvs(edges, channels, stride, convolutions)
    match record.parts:
        case (Zero(),):
            return None
        case (Skip(),):
            return FactorizedReduces(edges, channels) if stride == 2 else None
        case (Pool(size=3),):
            return BatchNorm(channels, affine=False) if pool_norm else None
    return OperationPerEdge(record, edges, channels, stride, pool_norm)


def _pooling(record: Operation) -> str | None:
    """The kind of pooling that an operation is, or None."""
    first = record.parts[0]
    return first.kind if isinstance(first, Pool) else None


class Convolutions(nn.Module):
    """An operation made of convolutions, for e edges."""

    def stages(self) -> list[ConvBN]:
        """Its convolutions with their normalisations, in order; a ReLU precedes each."""
        raise NotImplementedError


class StackedConvs(Convolutions):
    """Convolutional parts of an operation in a row, their weights stacked over the edges.

    Args:
        parts: one convolution, which is one for all edges as they share its input, or depthwise ones.
    """

    def __init__(self, edges: int, channels: int, stride: int, parts: Sequence[Conv]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self._layers: list[tuple[str | None, str, str, int, Conv]] = []
        for at, part in enumerate(parts):
            # Stored states name a single part's weights without a number.
            number = str(at + 1) if len(parts) > 1 else ""
            depth, point, norm = f"depth{number}", f"point{number}", f"norm{number}"
            if part.depthwise:
                setattr(self, depth, conv_parameter(edges, channels, 1, part.kernel))
                setattr(self, point, conv_parameter(edges, channels, channels, 1))
            else:
                point = f"conv{number}"
                setattr(self, point, conv_parameter(edges, channels, channels, part.kernel))
            setattr(self, norm, BatchNorm(edges * channels, affine=False))
            self._layers.append((depth if part.depthwise else None, point, norm, 1 if at else stride, part))

    def stages(self) -> list[ConvBN]:
        """See `Convolutions.stages`."""
        return [
            ConvBN(
                None if depth is None else getattr(self, depth), getattr(self, point), getattr(self, norm), stride,
                part.padding, part.dilation,
            )
            for depth, point, norm, stride, part in self._layers
        ]  # fmt: skip


class FactorizedReduces(Convolutions):
    """ReLU, two 1x1 convolutions of stride 2 on maps one pixel apart, concatenation, normalisation; h and w even.

    Both are one 2x2 convolution of stride 2 whose kernels are zero but at the first or at the last pixel.
    """

    def __init__(self, edges: int, channels: int) -> None:
        super().__init__()
        self.even = conv_parameter(edges, channels // 2, channels, 1)
        self.odd = conv_parameter(edges, channels // 2, channels, 1)
        self.norm = BatchNorm(edges * channels, affine=False)

    def stages(self) -> list[ConvBN]:
        """See `Convolutions.stages`."""
        kernels = torch.cat([F.pad(self.even, (0, 1, 0, 1)), F.pad(self.odd, (1, 0, 1, 0))], dim=1)
        return [ConvBN(None, kernels, self.norm, stride=2, padding=0)]
