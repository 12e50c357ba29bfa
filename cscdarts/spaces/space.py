"""The two search spaces as data: candidate operations, nodes and edges. No torch.

`darts` (Liu et al. 2019, arXiv 1806.09055): 8 operations, 2 input nodes and 4 intermediate nodes, normal and reduction
cells. `nasbench201` (Dong and Yang 2020): 5 operations, 4 nodes, 6 edges, one kind of cell.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

SpaceName = Literal["darts", "nasbench201"]


@dataclass(frozen=True)
class Space:
    """A cell search space.

    Attributes:
        name: its name in configs.
        ops: candidate operations in the order of the architecture parameters' columns.
        inputs: how many nodes of a cell are given (the outputs of earlier cells).
        nodes: how many nodes are computed.
        cell_kinds: the kinds of cell that have their own architecture parameters.
    """

    name: SpaceName
    ops: tuple[str, ...]
    inputs: int
    nodes: int
    cell_kinds: tuple[str, ...]

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All edges (source, target) by target, then source: the row order of the architecture parameters."""
        return tuple((i, self.inputs + j) for j in range(self.nodes) for i in range(self.inputs + j))

    @cached_property
    def outgoing(self) -> list[list[int]]:
        """For each node but the last the rows of `edges` that leave it."""
        nodes = range(self.inputs + self.nodes - 1)
        return [[row for row, (source, _) in enumerate(self.edges) if source == node] for node in nodes]


DARTS = Space(
    name="darts",
    ops=(
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
    inputs=2,
    nodes=4,
    cell_kinds=("normal", "reduce"),
)

NASBENCH201 = Space(
    name="nasbench201",
    ops=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
    inputs=1,
    nodes=3,
    cell_kinds=("cell",),
)

SPACES: dict[str, Space] = {"darts": DARTS, "nasbench201": NASBENCH201}

#: Operations without weights. A cell that uses only these has collapsed.
PARAMETER_FREE = frozenset({"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3"})
