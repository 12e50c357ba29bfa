"""The NAS-Bench-201 space (Dong and Yang 2020): 5 operations, 4 nodes, 6 edges, one kind of cell.

A genotype prints as the benchmark does, `|nor_conv_3x3~0|+|none~0|skip_connect~1|+...`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from cscdarts.errors import UserError
from cscdarts.spaces.rules import StrongestOperation
from cscdarts.spaces.skeleton import MacroSkeleton
from cscdarts.spaces.space import SPACES, Genotype, KeptEdge, NetworkSize, Space, register_space


@dataclass(frozen=True)
class CellGenotype(Genotype):
    """A NAS-Bench-201 cell: one operation per edge, by target node, then source node.

    Attributes:
        ops: operation names in the order of `Space.edges`.

    Errors:
        UserError: another number of operations, or see `Genotype.check`.
    """

    ops: tuple[str, ...]
    space: str = "nasbench201"

    form: ClassVar[str] = "|op~0|+..."

    def __post_init__(self) -> None:
        edges = len(SPACES[self.space].edges)
        if len(self.ops) != edges:
            raise UserError("genotype", len(self.ops), f"{edges} operations", "Give one operation per edge.")
        self.check()

    def __str__(self) -> str:
        nodes: dict[int, list[str]] = {}
        for source, target, op in self.edges("cell"):
            nodes.setdefault(target, []).append(f"{op}~{source}")
        return "+".join("|" + "|".join(genes) + "|" for genes in nodes.values())

    def edges(self, kind: str) -> tuple[KeptEdge, ...]:
        """See `Genotype.edges`; there is one kind."""
        return tuple(KeptEdge(*edge, op) for edge, op in zip(SPACES[self.space].edges, self.ops, strict=True))

    @classmethod
    def from_edges(cls, space: str, cells: Mapping[str, Sequence[KeptEdge]]) -> Self:
        """See `Genotype.from_edges`."""
        (edges,) = cells.values()
        return cls(tuple(edge.op for edge in edges), space)

    @classmethod
    def parse(cls, text: str, space: str) -> Self | None:
        """See `Genotype.parse`."""
        if not text.startswith("|"):
            return None
        ops: list[str] = []
        nodes = text.split("+")
        wrong = UserError(
            "genotype",
            text[:120],
            "the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|",
            "Copy the whole architecture string.",
        )
        if len(nodes) != SPACES[space].nodes:
            raise wrong
        for number, node in enumerate(nodes):
            genes = node.strip("|").split("|")
            if len(genes) != number + 1 or not (node.startswith("|") and node.endswith("|")):
                raise wrong
            for source, gene in enumerate(genes):
                op, separator, index = gene.partition("~")
                if not separator or index != str(source):
                    raise wrong
                ops.append(op)
        return cls(tuple(ops), space)


NASBENCH201 = Space(
    name="nasbench201",
    ops=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
    inputs=1,
    nodes=3,
    genotype=CellGenotype,
    rule=StrongestOperation(),
    # D-X-Y/AutoDL-Projects cell_searchs/generic_model.py and TinyNetwork: three stages, residual blocks between them.
    skeleton=MacroSkeleton("block", normalised_head=True),
    benchmark="nasbench201",
    search_size=NetworkSize(channels=16, cells=5),
    evaluation_size=NetworkSize(channels=16, cells=5),
)
register_space(NASBENCH201)
