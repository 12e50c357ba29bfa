"""The candidate operations of a node, sorted so that what is alike is computed together.

Depthwise chains are walked level by level, one stage of all of them at a time: at each level the 1x1 convolutions of
all chains and edges are one grouped convolution and one normalisation. For that their weights and running statistics
have to follow one another in memory, which `lay_out` sees to; names and values of parameters stay as they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cscdarts.kernels.candidates import Candidate, ConvBN, SharedMap


class Level(NamedTuple):
    """One stage of the depthwise chains that reach this deep.

    Attributes:
        stages: theirs; those that go on come first.
        on: how many of the chains have another stage.
        ending: rows of the mixing weights of those that end here.
    """

    stages: tuple[ConvBN, ...]
    on: int
    ending: tuple[int, ...]


class Sorted(NamedTuple):
    """Candidate operations by what they have in common.

    Attributes:
        chains: for each level, the chains that begin with a depthwise convolution.
        whole: single convolutions over all channels, with their rows of the mixing weights.
        shared: maps without weights, with their rows.
    """

    chains: tuple[Level, ...]
    whole: tuple[tuple[int, ConvBN], ...]
    shared: tuple[tuple[int, SharedMap], ...]

    @property
    def tensors(self) -> list[Tensor]:
        """All convolutions' weights: depthwise and other of each level, then the whole ones'."""
        found: list[Tensor] = []
        for level in self.chains:
            found += [stage.depth for stage in level.stages if stage.depth is not None]
            found += [stage.point for stage in level.stages]
        return found + [stage.point for _, stage in self.whole]


def sort(operations: Sequence[Candidate]) -> Sorted:
    """Sort a node's operations, rows of the mixing weights in the order in which they are given."""
    chains: list[tuple[int, Sequence[ConvBN]]] = []
    whole: list[tuple[int, ConvBN]] = []
    shared: list[tuple[int, SharedMap]] = []
    for row, operation in enumerate(operations):
        if isinstance(operation, SharedMap):
            shared.append((row, operation))
        elif operation[0].depth is None:
            (stage,) = operation
            whole.append((row, stage))
        else:
            chains.append((row, operation))
    chains.sort(key=lambda chain: -len(chain[1]))
    levels = []
    for depth in range(len(chains[0][1]) if chains else 0):
        here = [(row, stages) for row, stages in chains if len(stages) > depth]
        on = sum(len(stages) > depth + 1 for _, stages in here)
        ending = tuple(row for row, _ in here[on:])
        levels.append(Level(tuple(stages[depth] for _, stages in here), on, ending))
    return Sorted(tuple(levels), tuple(whole), tuple(shared))


@torch.no_grad()
def lay_out(operations: Sequence[Candidate]) -> None:
    """Move weights and running statistics to where they follow one another as `mix` reads them.

    Values, names and the tensors' identity stay. What is laid out otherwise, say after a move to another device, costs
    a copy in each pass and nothing else.
    """
    found = sort(operations)
    for depth, level in enumerate(found.chains):
        for stage in level.stages:
            if stage.depth is not None and depth == 0:
                # A channel's kernels for all edges side by side: the convolution of one map with several kernels each.
                stage.depth.data = stage.depth.detach().transpose(0, 1).contiguous().transpose(0, 1)
            elif stage.depth is not None:
                stage.depth.data = stage.depth.detach().contiguous()
        points = torch.stack([stage.point.detach() for stage in level.stages])
        for stage, place in zip(level.stages, points, strict=True):
            stage.point.data = place
        norms = [stage.norm for stage in level.stages]
        for name in ("running_mean", "running_var"):
            for norm, place in zip(norms, torch.stack([getattr(norm, name) for norm in norms]), strict=True):
                setattr(norm, name, place)
    for _, stage in found.whole:
        if stage.point.is_leaf:
            stage.point.data = stage.point.detach().contiguous()


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape stacked, as a view where they follow one another in memory, else as a copy.

    Returns:
        (k, *shape), contiguous.
    """
    first = tensors[0].detach()
    if not follow(tensors):
        return torch.stack([tensor.detach() for tensor in tensors])
    return first.as_strided((len(tensors), *first.shape), (first.numel(), *_row_major(first.shape)))


def follow(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors of one shape are contiguous and follow one another in one storage."""
    first = tensors[0]
    storage, begin, size = first.untyped_storage()._cdata, first.storage_offset(), first.numel()
    return all(
        tensor.is_contiguous()
        and tensor.untyped_storage()._cdata == storage
        and tensor.storage_offset() == begin + number * size
        for number, tensor in enumerate(tensors)
    )


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return tuple(strides)
