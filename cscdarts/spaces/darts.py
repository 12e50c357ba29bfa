"""The DARTS space (Liu et al. 2019, arXiv 1806.09055): 8 operations, 2 input and 4 intermediate nodes, two kinds of
cell.

A genotype prints as quark0/darts does, `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cscdarts.errors import UserError
from cscdarts.spaces.rules import StrongestInputs
from cscdarts.spaces.skeleton import MacroSkeleton
from cscdarts.spaces.space import SPACES, Genotype, KeptEdge, NetworkSize, Space, register_space

Gene = tuple[str, int]


@dataclass(frozen=True)
class DartsGenotype(Genotype):
    """A pair of DARTS cells: two (operation, input node) genes per intermediate node.

    Attributes:
        normal, reduce: genes, node by node; inputs 0 and 1 are the two previous cells.
        normal_concat, reduce_concat: the nodes whose outputs form the cell's output.

    Errors:
        UserError: an odd number of genes, or see `Genotype.check`.
    """

    normal: tuple[Gene, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Gene, ...]
    reduce_concat: tuple[int, ...]
    space: str = "darts"

    form: ClassVar[str] = "Genotype(normal=[..."

    def __post_init__(self) -> None:
        for kind, genes in (("normal", self.normal), ("reduce", self.reduce)):
            if not genes or len(genes) % 2:
                raise UserError(f"genotype.{kind}", len(genes), "two genes per node", "Check the genotype's text.")
        self.check()

    def __str__(self) -> str:
        return (
            f"Genotype(normal={list(self.normal)}, normal_concat={_concat_text(self.normal_concat)}, "
            f"reduce={list(self.reduce)}, reduce_concat={_concat_text(self.reduce_concat)})"
        )

    def genes(self, kind: str) -> tuple[Gene, ...]:
        """The genes of the cell of this kind (`normal` or `reduce`)."""
        return self.reduce if kind == "reduce" else self.normal

    def concat(self, kind: str) -> tuple[int, ...]:
        """See `Genotype.concat`; published cells may leave nodes out."""
        return self.reduce_concat if kind == "reduce" else self.normal_concat

    def edges(self, kind: str) -> tuple[KeptEdge, ...]:
        """See `Genotype.edges`."""
        inputs = SPACES[self.space].inputs
        return tuple(KeptEdge(source, inputs + at // 2, op) for at, (op, source) in enumerate(self.genes(kind)))

    @classmethod
    def from_edges(cls, space: str, cells: Mapping[str, Sequence[KeptEdge]]) -> Self:
        """See `Genotype.from_edges`; all nodes are concatenated."""
        concat = SPACES[space].output_nodes
        normal, reduce = (tuple((edge.op, edge.source) for edge in cells[kind]) for kind in ("normal", "reduce"))
        return cls(normal, concat, reduce, concat, space)

    @classmethod
    def parse(cls, text: str, space: str) -> Self | None:
        """See `Genotype.parse`."""
        if not text.startswith("Genotype("):
            return None
        allowed = (
            "Genotype(normal=[('op', node), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
        )
        wrong = UserError("genotype", text[:120], allowed, "Copy the whole genotype.")
        try:
            call = ast.parse(text, mode="eval").body
            if not isinstance(call, ast.Call) or call.args:
                raise wrong
            fields = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
            if set(fields) != {"normal", "normal_concat", "reduce", "reduce_concat"}:
                raise wrong
            cells = {
                kind: tuple((_our(op, space), source) for op, source in fields[kind]) for kind in ("normal", "reduce")
            }
            concat = {kind: tuple(fields[f"{kind}_concat"]) for kind in ("normal", "reduce")}
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
            raise wrong from error
        return cls(cells["normal"], concat["normal"], cells["reduce"], concat["reduce"], space)


def _our(op: str, space: str) -> str:
    """An operation's name; automl/RobustDARTS prints `gaussian_noise` as `noise`."""
    return "gaussian_noise" if op == "noise" and "gaussian_noise" in SPACES[space].ops else op


def _concat_text(concat: tuple[int, ...]) -> str:
    if concat == tuple(range(concat[0], concat[-1] + 1)):
        return f"range({concat[0]}, {concat[-1] + 1})"
    return str(list(concat))


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords):
            raise ValueError("only range() may be called in a genotype")
        bounds = [int(ast.literal_eval(argument)) for argument in node.args]
        if any(abs(bound) > 64 for bound in bounds):
            raise ValueError("a cell has a handful of nodes")
        return list(range(*bounds))
    return ast.literal_eval(node)


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
    genotype=DartsGenotype,
    rule=StrongestInputs(),
    # quark0/darts cnn/model_search.py, cnn/model.py: a stem of three times the channels, reductions at 1/3 and 2/3.
    skeleton=MacroSkeleton("cell", stem_factor=3, large_stem=True, auxiliary=True),
    cell_kinds=("normal", "reduce"),
    output="concat",
    pool_norm=True,
    search_size=NetworkSize(channels=16, cells=8),
    evaluation_size=NetworkSize(channels=36, cells=20),
)
register_space(DARTS)
