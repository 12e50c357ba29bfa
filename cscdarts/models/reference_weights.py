"""Weights and statistics of the reference models, moved into the fast ones."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from cscdarts.kernels.batch_norm import BatchNorm
from cscdarts.models.mixed_ops import GroupedOps, MixedOps
from cscdarts.models.network import DerivedCell, Network
from cscdarts.models.operations import OperationPerEdge
from cscdarts.models.reference import MixedCell, MixedEdge, ReferenceSupernet
from cscdarts.models.reference_network import DiscreteCell, DiscreteEdge, ReferenceNetwork
from cscdarts.models.supernet import SearchCell, Supernet


@torch.no_grad()
def copy_weights(reference: ReferenceSupernet | ReferenceNetwork, fast: Supernet | Network) -> None:
    """Give a fast model the reference's weights, architecture parameters and running statistics.

    Errors:
        ValueError: the two differ in a layer or in its shape: they are not built from the same config.
    """
    _copy(reference.stem, nn.ModuleList([layer for layer in (fast.stem0, fast.stem) if layer is not None]))
    _copy(reference.head, fast.head)
    _copy(reference.classifier, fast.classifier)
    if isinstance(reference, ReferenceSupernet) and isinstance(fast, Supernet):
        _copy(reference.alphas, fast.alphas)
        _copy(reference.betas, fast.betas)
    elif isinstance(reference, ReferenceNetwork) and isinstance(fast, Network):
        _copy(reference.auxiliary, fast.auxiliary)
    else:
        raise ValueError("a supernet and a discrete network have no weights in common")
    for plain, cell in zip(reference.cells, fast.cells, strict=True):
        if isinstance(plain, MixedCell) and isinstance(cell, SearchCell):
            _copy_search_cell(plain, cell)
        elif isinstance(plain, DiscreteCell) and isinstance(cell, DerivedCell):
            _copy_discrete_cell(plain, cell)
        else:
            _copy(plain, cell)


def _copy_search_cell(plain: MixedCell, cell: SearchCell) -> None:
    _copy(plain.preprocess, cell.preprocess)
    _copy(plain.identity, cell.cell_identity)
    for source, leaving in enumerate(cell.space.outgoing):
        edges = [edge for edge in (plain.edges[row] for row in leaving) if isinstance(edge, MixedEdge)]
        node_ops, identity = cell.mixed_ops[source], cell.edge_identities[source]
        if isinstance(node_ops, GroupedOps):
            for members, group in zip(node_ops.members, node_ops.groups, strict=True):
                _copy_operations([edges[place] for place in members], group)
        else:
            _copy_operations(edges, node_ops)
        identities = [edge.identity for edge in edges]
        _copy_stacked(identities, identity.kinds["skip_connect"] if isinstance(identity, MixedOps) else identity)
        # The edges' bypasses share weights and normalise the same maps.
        _copy(edges[0].split.reduce, cell.splits[source].reduce)  # type: ignore[arg-type]


def _copy_operations(edges: Sequence[MixedEdge], node_ops: nn.Module) -> None:
    assert isinstance(node_ops, MixedOps)
    for column, op in enumerate(node_ops.ops):
        kind = node_ops.kinds[op] if op in node_ops.kinds else None  # noqa: SIM401 (a ModuleDict has no get)
        _copy_stacked([edge.ops[column] for edge in edges], kind)


def _copy_discrete_cell(plain: DiscreteCell, cell: DerivedCell) -> None:
    _copy(plain.preprocess, nn.ModuleList(cell.preprocess))
    _copy(plain.identity, cell.end.carry)
    for one, edge in zip(plain.edges, cell.edges, strict=True):
        assert isinstance(one, DiscreteEdge)
        _copy(one.operation, edge.operation)  # type: ignore[arg-type]
        _copy(one.identity, edge.identity)  # type: ignore[arg-type]
        _copy(one.split, edge.split)  # type: ignore[arg-type]


def _copy_stacked(edges: Sequence[nn.Module | None], kind: nn.Module | None) -> None:
    """Copy one operation of a node's edges; their weights and statistics are stacked along the first axis."""
    if isinstance(kind, BatchNorm):  # of pooled maps, which are the same on all edges
        _copy(edges[0], kind)
        return
    if isinstance(kind, OperationPerEdge):
        for edge, own in zip(edges, kind.edges, strict=True):
            _copy(edge, own)
        return
    for position, edge in enumerate(edges):
        for stacked, one in zip(_tensors(kind), _tensors(edge), strict=True):
            if stacked.numel() != len(edges) * one.numel():
                raise ValueError(f"{tuple(one.shape)} of {len(edges)} edges does not fit {tuple(stacked.shape)}")
            stacked.view(len(edges), *one.shape)[position].copy_(one)


def _copy(source: nn.Module | None, target: nn.Module | None) -> None:
    for value, to in zip(_tensors(source), _tensors(target), strict=True):
        if value.shape != to.shape:
            raise ValueError(f"{tuple(value.shape)} does not fit {tuple(to.shape)}")
        to.copy_(value)


def _tensors(module: nn.Module | None) -> Iterator[Tensor]:
    """Parameters, then running statistics, in the order in which the layers are computed."""
    if module is not None:
        yield from module.parameters()
        yield from (value for name, value in module.named_buffers() if name.endswith(("running_mean", "running_var")))
