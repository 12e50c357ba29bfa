"""A cell search space as one object, the genotypes in it, and the registry that finds a space by its name. No torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from cscdarts.errors import UserError
from cscdarts.spaces.operations import OPERATIONS
from cscdarts.spaces.registry import Registry
from cscdarts.spaces.skeleton import MacroSkeleton, NetworkPlan

Floats = npt.NDArray[np.float64]

#: The architecture parameter of an operation that is no candidate of an edge: exp of it, and its sigmoid, are 0 in
#: floating point, so that its weight is 0 in every relaxation and in every reading of stored parameters.
CLOSED = -1e4


class KeptEdge(NamedTuple):
    """An edge of a discrete cell and the operation it keeps."""

    source: int
    target: int
    op: str


class Genotype(ABC):
    """A discrete architecture: for each kind of cell the edges that are kept. Immutable; `str` gives its text form.

    Attributes:
        space: the name of its space.
        form: an example of its text form, for messages.
    """

    space: str
    form: ClassVar[str]

    @abstractmethod
    def edges(self, kind: str) -> tuple[KeptEdge, ...]:
        """The kept edges of the cell of this kind, by target."""

    @abstractmethod
    def __str__(self) -> str:
        """Its text form, which `parse` reads."""

    @classmethod
    @abstractmethod
    def parse(cls, text: str, space: str) -> Self | None:
        """Read the text form, or None where the text is of another form. Text is never evaluated.

        Errors:
            UserError: the text begins as this form does and is wrong.
        """

    @classmethod
    @abstractmethod
    def from_edges(cls, space: str, cells: Mapping[str, Sequence[KeptEdge]]) -> Self:
        """The genotype of kept edges: kind -> edges by target."""

    def concat(self, kind: str) -> tuple[int, ...]:
        """The nodes whose maps, concatenated, are the cell's output."""
        return SPACES[self.space].output_nodes

    @property
    def main_edges(self) -> tuple[KeptEdge, ...]:
        """The kept edges of the first kind of cell, where the field looks for collapse."""
        return self.edges(SPACES[self.space].cell_kinds[0])

    def count(self, op: str) -> int:
        """How often an operation is used in the first kind of cell."""
        return sum(edge.op == op for edge in self.main_edges)

    @property
    def skips(self) -> int:
        """How many skip connections the first kind of cell has."""
        return sum(OPERATIONS[edge.op].is_skip for edge in self.main_edges)

    @property
    def parameter_free(self) -> bool:
        """Whether no operation of the first kind of cell has weights."""
        return all(OPERATIONS[edge.op].parameter_free for edge in self.main_edges)

    def check(self) -> None:
        """Refuse operations that the space does not take, edges from later nodes, and outputs that are no nodes.

        Errors:
            UserError: the genotype is not of its space.
        """
        space = SPACES[self.space]
        for kind in space.cell_kinds:
            where = f"genotype.{kind}" if len(space.cell_kinds) > 1 else "genotype"
            edges = self.edges(kind)
            if not edges:
                raise UserError(where, "no edge", "at least one operation", "Check the genotype's text.")
            for position, (source, target, op) in enumerate(edges):
                space.require_operation(op, f"{where}[{position}]")
                space.require_candidate(kind, (source, target), op, f"{where}[{position}]")
                # True is an int to Python, and 1.9 would be cut to one: neither is a node.
                if type(source) is not int or not 0 <= source < target:
                    raise UserError(
                        f"{where}[{position}]",
                        source,
                        f"an input from 0 to {target - 1} for node {target - space.inputs}",
                        "A node reads only earlier nodes.",
                    )
            _check_concat(f"{where}_concat", self.concat(kind), sorted({edge.target for edge in edges}))


def _check_concat(where: str, concat: tuple[int, ...], nodes: list[int]) -> None:
    allowed = f"{nodes[0]} to {nodes[-1]}" if nodes == list(range(nodes[0], nodes[-1] + 1)) else str(nodes)
    if not concat:
        raise UserError(where, [], f"some of the nodes {allowed}", "Add the cell's outputs.")
    for position, node in enumerate(concat):
        if type(node) is not int or node not in nodes:
            raise UserError(
                f"{where}[{position}]", node, f"an intermediate node, {allowed}", "Check the genotype's text."
            )
        if node in concat[:position]:
            raise UserError(f"{where}[{position}]", node, "each node once", "Take the repeated node out.")


class Rule(Protocol):
    """How a space picks cells: from architecture parameters, and at random."""

    def derive(
        self, space: "Space", ops: tuple[str, ...], alpha: Mapping[str, Floats], beta: Mapping[str, Floats] | None
    ) -> dict[str, tuple[KeptEdge, ...]]:
        """Kind -> kept edges.

        Args:
            ops: the operations of alpha's columns.
            alpha: kind -> (edges, operations), raw architecture parameters.
            beta: kind -> (edges,), raw edge parameters, with edge normalisation.
        """

    def sample(self, space: "Space", draw: Any) -> dict[str, tuple[KeptEdge, ...]]:
        """Kind -> kept edges of a uniformly drawn architecture; draw: a `numpy.random.Generator`."""


class NetworkSize(NamedTuple):
    """Channels of the first cell, and number of cells as the skeleton counts them."""

    channels: int
    cells: int


_SIZE = NetworkSize(channels=16, cells=5)


@dataclass(frozen=True)
class Space:
    """A cell search space.

    Attributes:
        name: its name in configs.
        ops: candidate operations in the order of the architecture parameters' columns.
        inputs: how many nodes of a cell are given, 1 or 2: the outputs of the cells before.
        nodes: how many nodes are computed; each may read all nodes before it.
        genotype: the type of its discrete architectures, which has their text form.
        rule: how cells are derived and drawn.
        skeleton: how cells are stacked.
        cell_kinds: the kinds of cell that have their own architecture parameters; of several, the last reduces.
        output: a cell's output is its `last` node, or `concat`, all computed nodes.
        pool_norm: whether the supernet normalises pooled maps.
        benchmark: the tabular benchmark that holds its cells, None for none.
        search_size, evaluation_size: the sizes its field searches and retrains at.
        candidates: kind -> for each row of `edges` the operations of `ops` that this edge chooses among; None where
            every edge has all. A user's own operation in `supernet.ops` is a candidate of every edge.

    Errors:
        UserError: fewer than two operations, a number of inputs or nodes out of range, an edge without a candidate.
    """

    name: str
    ops: tuple[str, ...]
    inputs: int
    nodes: int
    genotype: type[Genotype]
    rule: Rule
    skeleton: MacroSkeleton
    cell_kinds: tuple[str, ...] = ("cell",)
    output: Literal["last", "concat"] = "last"
    pool_norm: bool = False
    benchmark: str | None = None
    search_size: NetworkSize = _SIZE
    evaluation_size: NetworkSize = _SIZE
    candidates: Mapping[str, tuple[tuple[str, ...], ...]] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        where = f"space {self.name}"
        if len(self.ops) < 2 or len(set(self.ops)) != len(self.ops):
            raise UserError(where, self.ops, "at least two different operations", "Correct ops.")
        if self.inputs not in (1, 2):
            raise UserError(
                where, f"inputs={self.inputs}", "1 or 2 inputs", "A cell reads the last one or two outputs."
            )
        if self.nodes < 1 or not self.cell_kinds:
            raise UserError(where, f"nodes={self.nodes}, cell_kinds={self.cell_kinds}", "one or more", "Correct them.")
        for op in self.ops:
            OPERATIONS.require(op)
        if self.candidates is None:
            return
        rows = {kind: len(edges) for kind, edges in self.candidates.items()}
        if rows != dict.fromkeys(self.cell_kinds, len(self.edges)):
            allowed = f"for each of {', '.join(self.cell_kinds)} the operations of {len(self.edges)} edges"
            raise UserError(where, f"candidates of {rows}", allowed, "Give each edge its operations.")
        for op in (op for edges in self.candidates.values() for edge in edges for op in edge):
            if op not in self.ops:
                raise UserError(where, f"candidate {op}", ", ".join(self.ops), "Name it in ops too.")
        self.require_candidates(self.ops, where)

    def is_candidate(self, kind: str, row: int, op: str) -> bool:
        """Whether an edge, a row of `edges`, chooses among operations of which this is one."""
        return self.candidates is None or op not in self.ops or op in self.candidates[kind][row]

    def columns(self, kind: str, ops: Sequence[str]) -> list[tuple[int, ...]]:
        """For each row of `edges` the columns of `ops` that are its candidates."""
        return [
            tuple(column for column, op in enumerate(ops) if self.is_candidate(kind, row, op))
            for row in range(len(self.edges))
        ]

    def require_operations(self, ops: Sequence[str], where: str) -> None:
        """Refuse operations that a search of this space cannot choose among.

        Errors:
            UserError: see `require_operation` and `require_candidates`.
        """
        for op in ops:
            self.require_operation(op, where)
        self.require_candidates(ops, where)

    def require_candidates(self, ops: Sequence[str], where: str) -> None:
        """Refuse operations that leave an edge without a candidate other than `none`.

        Errors:
            UserError: see above; `where` names the field.
        """
        for kind in self.cell_kinds if self.candidates is not None else ():
            for (source, target), columns in zip(self.edges, self.columns(kind, ops), strict=True):
                if all(OPERATIONS[ops[column]].is_zero for column in columns):
                    raise UserError(
                        where, ", ".join(ops), f"a candidate of every edge; {kind} edge {source} to {target} has none",
                        "Add one of its operations.",
                    )  # fmt: skip

    def require_candidate(self, kind: str, edge: tuple[int, int], op: str, where: str) -> None:
        """Refuse an operation that an edge of the space does not choose among.

        Errors:
            UserError: see above; `where` names the field.
        """
        if self.candidates is None or edge not in self.edges:
            return
        row = self.edges.index(edge)
        if not self.is_candidate(kind, row, op):
            allowed = f"one of {', '.join(self.candidates[kind][row])} on the edge from {edge[0]} to {edge[1]}"
            raise UserError(where, op, allowed, f"The {self.name} space has other candidates on other edges.")

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All edges (source, target) by target, then source: the row order of the architecture parameters."""
        return tuple((i, self.inputs + j) for j in range(self.nodes) for i in range(self.inputs + j))

    @cached_property
    def outgoing(self) -> list[list[int]]:
        """For each node but the last the rows of `edges` that leave it."""
        nodes = range(self.inputs + self.nodes - 1)
        return [[row for row, (source, _) in enumerate(self.edges) if source == node] for node in nodes]

    @cached_property
    def incoming(self) -> dict[int, list[int]]:
        """For each computed node the rows of `edges` that enter it; in this order they are all rows."""
        nodes = range(self.inputs, self.inputs + self.nodes)
        return {node: [row for row, (_, target) in enumerate(self.edges) if target == node] for node in nodes}

    @property
    def output_nodes(self) -> tuple[int, ...]:
        """The nodes whose maps, concatenated, are a cell's output."""
        end = self.inputs + self.nodes
        return tuple(range(self.inputs, end)) if self.output == "concat" else (end - 1,)

    @property
    def preprocesses(self) -> bool:
        """Whether a cell brings its inputs to its own width first: wherever they can differ from it."""
        same_width = self.inputs == 1 and self.output == "last" and self.skeleton.stem_factor == 1
        return not (same_width and self.skeleton.reduction == "block")

    def plan(self, cells: int, channels: int, large_images: bool, genotype: Genotype | None = None) -> NetworkPlan:
        """The places of a network of this space: a supernet, or of a genotype. See `MacroSkeleton.plan`."""
        joined = {
            kind: len(self.output_nodes if genotype is None else genotype.concat(kind)) for kind in self.cell_kinds
        }
        return self.skeleton.plan(cells, channels, large_images, self.cell_kinds, self.inputs, joined)

    def require_operation(self, op: str, where: str) -> None:
        """Refuse an operation that is neither one of this space nor a user's own.

        Errors:
            UserError: see above; `where` names the field.
        """
        if not isinstance(op, str) or (op not in self.ops and not OPERATIONS.added(op)):
            raise UserError(where, op, ", ".join(self.ops), f"Correct the operation's name. {OPERATIONS.help}")

    def holds(self, ops: Sequence[str]) -> bool:
        """Whether a tabular benchmark holds the cells of these operations."""
        return self.benchmark is not None and set(ops) <= set(self.ops)


SPACES: Registry[Space] = Registry("space", "cscdarts.register_space(Space(...))")


def register_space(space: Space) -> None:
    """Make a space known by its name: configurations accept it, and its genotypes are read from their text.

    Errors:
        UserError: the name is one of the package's.
    """
    SPACES.register(space)
