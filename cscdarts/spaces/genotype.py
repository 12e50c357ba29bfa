"""Genotypes of both spaces and their published text forms. No torch.

`DartsGenotype` prints as quark0/darts does, `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`;
`CellGenotype` prints as NAS-Bench-201 does, `|nor_conv_3x3~0|+|none~0|skip_connect~1|+...`. Text is parsed, never evaluated.
"""

import ast
from dataclasses import dataclass
from typing import Any

from cscdarts.errors import UserError
from cscdarts.spaces.space import DARTS, NASBENCH201, PARAMETER_FREE, SpaceName

Gene = tuple[str, int]


@dataclass(frozen=True)
class DartsGenotype:
    """A pair of DARTS cells: two (operation, input node) genes for each of the intermediate nodes.

    Attributes:
        normal, reduce: genes, node by node; inputs 0 and 1 are the two previous cells.
        normal_concat, reduce_concat: the nodes whose outputs form the cell's output.
    """

    normal: tuple[Gene, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Gene, ...]
    reduce_concat: tuple[int, ...]

    space: SpaceName = "darts"

    def __post_init__(self) -> None:
        for kind, genes, concat in (
            ("normal", self.normal, self.normal_concat),
            ("reduce", self.reduce, self.reduce_concat),
        ):
            if not genes or len(genes) % 2:
                raise UserError(f"genotype.{kind}", len(genes), "two genes for each node", "Check the genotype's text.")
            for position, (op, source) in enumerate(genes):
                if op not in DARTS.ops:
                    raise UserError(
                        f"genotype.{kind}[{position}]", op, ", ".join(DARTS.ops), "Correct the operation's name."
                    )
                # True is an int to Python, and 1.9 would be cut to one: neither is a node.
                if type(source) is not int or not 0 <= source < DARTS.inputs + position // 2:
                    raise UserError(
                        f"genotype.{kind}[{position}]",
                        source,
                        f"an input from 0 to {DARTS.inputs + position // 2 - 1} for node {position // 2}",
                        "A node reads only earlier nodes.",
                    )
            last = DARTS.inputs + len(genes) // 2 - 1
            if not concat:
                raise UserError(
                    f"genotype.{kind}_concat", [], f"some of the nodes 2 to {last}", "Add the cell's outputs."
                )
            for position, node in enumerate(concat):
                if type(node) is not int or not DARTS.inputs <= node <= last:
                    raise UserError(
                        f"genotype.{kind}_concat[{position}]", node, f"an intermediate node, 2 to {last}",
                        "Check the genotype's text.",
                    )  # fmt: skip
                if node in concat[:position]:
                    raise UserError(
                        f"genotype.{kind}_concat[{position}]", node, "each node once", "Take the repeated node out."
                    )

    def __str__(self) -> str:
        return (
            f"Genotype(normal={list(self.normal)}, normal_concat={_concat_text(self.normal_concat)}, "
            f"reduce={list(self.reduce)}, reduce_concat={_concat_text(self.reduce_concat)})"
        )

    def genes(self, kind: str) -> tuple[Gene, ...]:
        """The genes of the cell of this kind (`normal` or `reduce`)."""
        return self.normal if kind == "normal" else self.reduce

    def count(self, op: str) -> int:
        """How often an operation is used in the normal cell (the field's collapse indicator counts skips there)."""
        return sum(name == op for name, _ in self.normal)

    @property
    def parameter_free(self) -> bool:
        """Whether no operation of the normal cell has weights."""
        return all(op in PARAMETER_FREE for op, _ in self.normal)


@dataclass(frozen=True)
class CellGenotype:
    """A NAS-Bench-201 cell: one operation for each of the six edges, by target node, then source node.

    Attributes:
        ops: six operation names in the order of `spaces.NASBENCH201.edges`.
    """

    ops: tuple[str, ...]

    space: SpaceName = "nasbench201"

    def __post_init__(self) -> None:
        if len(self.ops) != len(NASBENCH201.edges):
            raise UserError("genotype", len(self.ops), "six operations", "Give one operation for each edge.")
        for op in self.ops:
            if op not in NASBENCH201.ops:
                raise UserError("genotype", op, ", ".join(NASBENCH201.ops), "Correct the operation's name.")

    def __str__(self) -> str:
        nodes: dict[int, list[str]] = {}
        for (source, target), op in zip(NASBENCH201.edges, self.ops, strict=True):
            nodes.setdefault(target, []).append(f"{op}~{source}")
        return "+".join("|" + "|".join(genes) + "|" for genes in nodes.values())

    def count(self, op: str) -> int:
        """How often an operation is used in the cell."""
        return self.ops.count(op)

    @property
    def parameter_free(self) -> bool:
        """Whether no operation of the cell has weights."""
        return all(op in PARAMETER_FREE for op in self.ops)


Genotype = DartsGenotype | CellGenotype


def parse_genotype(text: str) -> Genotype:
    """Read a genotype from the text that `str` makes of it, as records hold it; `cscdarts.spaces.reading` reads other forms.

    Errors:
        UserError: the text is neither form; nothing in it is executed.
    """
    text = text.strip()
    if text.startswith("|"):
        return _parse_cell(text)
    if text.startswith("Genotype("):
        return _parse_darts(text)
    raise UserError(
        "genotype",
        text[:80],
        "text like 'Genotype(normal=[...' or '|op~0|+...'",
        "Copy the whole genotype.",
    )


def random_genotype(space: SpaceName, draw: Any) -> Genotype:
    """Sample a genotype uniformly: each gene's operation and, in `darts`, each node's pair of distinct inputs.

    Args:
        space: `darts` (operations without `none`, as derivation has it) or `nasbench201`.
        draw: a `numpy.random.Generator`.
    """
    if space == "nasbench201":
        return CellGenotype(tuple(NASBENCH201.ops[int(k)] for k in draw.integers(0, len(NASBENCH201.ops), 6)))
    candidates = [op for op in DARTS.ops if op != "none"]

    def cell() -> tuple[Gene, ...]:
        genes: list[Gene] = []
        for node in range(DARTS.nodes):
            sources = sorted(int(s) for s in draw.choice(DARTS.inputs + node, size=2, replace=False))
            genes += [(candidates[int(draw.integers(len(candidates)))], source) for source in sources]
        return tuple(genes)

    concat = tuple(range(DARTS.inputs, DARTS.inputs + DARTS.nodes))
    return DartsGenotype(cell(), concat, cell(), concat)


def _concat_text(concat: tuple[int, ...]) -> str:
    if concat == tuple(range(concat[0], concat[-1] + 1)):
        return f"range({concat[0]}, {concat[-1] + 1})"
    return str(list(concat))


def _parse_cell(text: str) -> CellGenotype:
    ops: list[str] = []
    nodes = text.split("+")
    wrong = UserError(
        "genotype", text[:120], "the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|", "Copy the whole architecture string."
    )
    if len(nodes) != NASBENCH201.nodes:
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
    return CellGenotype(tuple(ops))


def _parse_darts(text: str) -> DartsGenotype:
    allowed = "Genotype(normal=[('op', node), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
    wrong = UserError("genotype", text[:120], allowed, "Copy the whole genotype.")
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise wrong
        fields = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
        if set(fields) != {"normal", "normal_concat", "reduce", "reduce_concat"}:
            raise wrong
        cells = {kind: tuple((op, source) for op, source in fields[kind]) for kind in ("normal", "reduce")}
        concat = {kind: tuple(fields[f"{kind}_concat"]) for kind in ("normal", "reduce")}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise wrong from error
    return DartsGenotype(cells["normal"], concat["normal"], cells["reduce"], concat["reduce"])


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords):
            raise ValueError("only range() may be called in a genotype")
        bounds = [int(ast.literal_eval(argument)) for argument in node.args]
        if any(abs(bound) > 64 for bound in bounds):
            raise ValueError("a cell has a handful of nodes")
        return list(range(*bounds))
    return ast.literal_eval(node)
