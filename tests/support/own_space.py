"""An operation and a search space as a user would write them: noise, and cells that are trees."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from cscdarts.spaces import Genotype, KeptEdge, MacroSkeleton, Operation, Space, StrongestInputs


class Noise(nn.Module):
    """Zela et al. 2020 (arXiv 1909.09656), space S4: standard normal noise in place of the input."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x[:, :, :: self.stride, :: self.stride])


NOISE = Operation("noise", "noise", module=lambda channels, stride, affine: Noise(stride), has_weights=False)


@dataclass(frozen=True)
class Tree(Genotype):
    """A cell in which every node reads one earlier node; its text is `tree(op<source, ...)`, node by node."""

    genes: tuple[tuple[str, int], ...]
    space: str = "tree"

    form: ClassVar[str] = "tree(op<0, ...)"

    def __post_init__(self) -> None:
        self.check()

    def __str__(self) -> str:
        return f"tree({', '.join(f'{op}<{source}' for op, source in self.genes)})"

    def edges(self, kind: str) -> tuple[KeptEdge, ...]:
        return tuple(KeptEdge(source, node, op) for node, (op, source) in enumerate(self.genes, 1))

    @classmethod
    def from_edges(cls, space: str, cells: Mapping[str, Sequence[KeptEdge]]) -> Self:
        return cls(tuple((edge.op, edge.source) for edge in cells["cell"]), space)

    @classmethod
    def parse(cls, text: str, space: str) -> Self | None:
        found = re.fullmatch(r"tree\((.*)\)", text)
        if found is None:
            return None
        genes = re.findall(r"(\w+)<(\d+)", found[1])
        return cls(tuple((op, int(source)) for op, source in genes), space)


#: A cell of it.
OAK = "tree(sep_conv_3x3<0, skip_connect<1, avg_pool_3x3<0)"


def tree_space(**values: Any) -> Space:
    """One input, three nodes that are all the cell's output, two stages."""
    settings: dict[str, Any] = {
        "ops": ("none", "skip_connect", "sep_conv_3x3", "avg_pool_3x3"),
        "inputs": 1,
        "nodes": 3,
        "genotype": Tree,
        "rule": StrongestInputs(1),
        "skeleton": MacroSkeleton("block", stages=2, normalised_head=True),
        "output": "concat",
    }
    return Space("tree", **{**settings, **values})
