"""DARTS cells from the fields that repositories print: pairs, pairs node by node, triples, with weights and further
fields.

A node of ours sums two operations. Where a repository keeps fewer (FairDARTS), the other is `none`, which adds zeros; a
node that nothing enters is left out, as FairDARTS' network leaves it out, and later nodes move up. More than two are
refused.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cscdarts.errors import UserError
from cscdarts.spaces.darts import DARTS, DartsGenotype, Gene
from cscdarts.spaces.reading.names import Notes, operation, shortened
from cscdarts.spaces.reading.values import Damaged, NotPlain, plain

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
#: Other names of the fields: ADV-RUSH and others write `reduction`, aw_nas numbers its cell groups.
_OTHER_NAMES = {
    "normal_cell": "normal",
    "normal_0": "normal",
    "normal_cell_concat": "normal_concat",
    "normal_0_concat": "normal_concat",
    "reduction": "reduce",
    "reduce_cell": "reduce",
    "reduction_cell": "reduce",
    "reduce_1": "reduce",
    "reduction_concat": "reduce_concat",
    "reduce_cell_concat": "reduce_concat",
    "reduce_1_concat": "reduce_concat",
}
#: Fields that change the network unless they are empty: further connections (AutoDL-Projects), bottlenecks (GeNAS).
_EMPTY = ("connectN", "connects", "normal_bottleneck", "reduce_bottleneck", "bottleneck")
#: Fields that only describe: where the cell came from and how it fared.
_DESCRIBE = re.compile(
    "primitives|source|name|id|index|seed|epochs?|step|space|search_space|dataset|data|time|date|rank|comment|score|fitness|reward"
    "|top1|top5|params(_m)?|flops|macs|((train|valid|val|test|predicted)_)?(acc|accuracy|error|loss|top1|top5)"
)
_MOST_NODES = 16


@dataclass(frozen=True)
class Entry:
    """One operation of a cell as it was read.

    Attributes:
        op, source: the operation and the node it reads.
        field: where in the text it stands, for sentences.
    """

    op: str
    source: int
    field: str


Nodes = dict[int, list[Entry]]


def from_fields(given: Mapping[Any, Any], notes: Notes, *, printed: bool = True) -> DartsGenotype:
    """The genotype of the fields `normal`, `normal_concat`, `reduce`, `reduce_concat`.

    Args:
        printed: whether a named tuple printed them, so that a field that lacks was lost; else, as in hand-made
            dictionaries, a `concat` that lacks means all intermediate nodes.

    Errors:
        UserError: names the field, the position in it, the value and what is allowed.
    """
    fields: dict[str, Any] = {}
    for name, value in given.items():
        ours = _OTHER_NAMES.get(str(name), str(name))
        if ours in fields:
            raise UserError(f"genotype.{ours}", name, "each field once", "Take one of the two out.")
        if ours in FIELDS:
            fields[ours] = value
        else:
            _further(str(name), value, notes)
    for name in FIELDS:
        if name not in fields and (printed or not name.endswith("_concat")):
            raise UserError(
                f"genotype.{name}", "missing", ", ".join(FIELDS), f"Copy the genotype together with its {name}."
            )
    cells: list[tuple[tuple[Gene, ...], tuple[int, ...]]] = []
    for kind in ("normal", "reduce"):
        nodes = _nodes(kind, fields[kind], notes)
        cells.append(assemble(kind, nodes, fields.get(f"{kind}_concat", "all"), notes))
    (normal, normal_concat), (reduce, reduce_concat) = cells
    return DartsGenotype(normal, normal_concat, reduce, reduce_concat)


def _further(name: str, value: Any, notes: Notes) -> None:
    """Accept a further field that leaves the network as it is, and say so."""
    if name in ("recurrent", "concat"):
        raise UserError(f"genotype.{name}", shortened(value), ", ".join(FIELDS), "Recurrent cells are not built here.")
    if name in _EMPTY and value not in (None, "", [], 0):
        raise UserError(
            f"genotype.{name}", shortened(value), "None or empty", "It changes the network, which is not built here."
        )
    if name not in _EMPTY and not _DESCRIBE.fullmatch(name):
        allowed = f"{', '.join(FIELDS)}, and fields that only describe, such as primitives, source, epoch, accuracy"
        raise UserError(
            f"genotype.{name}", shortened(value), allowed, f"Take {name} out if it leaves the network as it is."
        )
    notes.say(f"the field {name} is passed over")


def _nodes(kind: str, genes: Any, notes: Notes) -> Nodes:
    """The entries of each intermediate node, numbered as in the text (inputs are 0 and 1)."""
    field = f"genotype.{kind}"
    shape = "a list of ('operation', input node) pairs, two for each node"
    if not isinstance(genes, list) or not genes:
        raise UserError(field, shortened(genes), shape, "Copy the whole cell.")
    if all(isinstance(gene, list) and all(isinstance(part, list) for part in gene) for gene in genes):
        nodes: Nodes = {}
        for node, pairs in enumerate(genes):
            entries = [_gene(pair, f"{field}[{node}][{place}]", notes) for place, pair in enumerate(pairs)]
            nodes[DARTS.inputs + node] = [entry for entry, _ in entries]
        return nodes
    read = [_gene(gene, f"{field}[{place}]", notes) for place, gene in enumerate(genes)]
    with_node = [place for place, (_, further) in enumerate(read) if further is not None]
    if with_node and len(with_node) < len(read):
        odd = min(set(range(len(read))) - set(with_node)) if 0 in with_node else with_node[0]
        raise UserError(
            f"{field}[{odd}]", shortened(genes[odd]), "pairs or triples, the same in the whole cell", "Correct it."
        )
    if with_node:
        return _triples(field, genes, [entry for entry, _ in read], [int(str(further)) for _, further in read])
    if len(read) % 2:
        raise UserError(field, f"{len(read)} pairs", "two for each node", "Copy the whole cell.")
    return {DARTS.inputs + place // 2: [read[place][0], read[place + 1][0]] for place in range(0, len(read), 2)}


def _gene(gene: Any, field: str, notes: Notes) -> tuple[Entry, int | None]:
    """One printed gene, and of a triple the second node."""
    pair = "('operation', input node)"
    if not isinstance(gene, list) or len(gene) not in (2, 3):
        raise UserError(field, shortened(gene), pair, "Each entry of a cell is one such pair.")
    named = [place for place, part in enumerate(gene) if isinstance(part, str)]
    if not named or named[0] > 1 or (len(gene) == 3 and named[0] != 0):
        allowed = f"{pair}, the operation by its name"
        raise UserError(field, shortened(gene), allowed, "Numbers of operations mean another one in each repository.")
    name, rest = gene[named[0]], [part for place, part in enumerate(gene) if place != named[0]]
    op = operation(DARTS, name, field, notes)
    source = _whole(rest[0], field, "the input node")
    if len(rest) == 1:
        return Entry(op, source, field), None
    if isinstance(rest[1], float):
        notes.say("the third number of each entry is its weight in the search and is passed over")
        return Entry(op, source, field), None
    return Entry(op, source, field), _whole(rest[1], field, "a node")


def _triples(field: str, genes: list[Any], entries: list[Entry], further: list[int]) -> Nodes:
    """Entries that name both nodes: (operation, target, source) in FairDARTS, (operation, source, target) in NAT and
    aw_nas."""
    target_first = all(entry.source > other for entry, other in zip(entries, further, strict=True))
    target_last = all(entry.source < other for entry, other in zip(entries, further, strict=True))
    if not (target_first or target_last):
        first = entries[0].source > further[0]
        odd = next(
            p for p, entry in enumerate(entries) if (entry.source > further[p]) != first or entry.source == further[p]
        )
        order = "('operation', node, earlier node)" if first else "('operation', earlier node, node)"
        raise UserError(
            entries[odd].field, shortened(genes[odd]), f"{order}, as the others are", "A node reads only earlier nodes."
        )
    nodes: Nodes = {}
    for entry, other in zip(entries, further, strict=True):
        target, source = (entry.source, other) if target_first else (other, entry.source)
        if not DARTS.inputs <= target < DARTS.inputs + _MOST_NODES:
            raise UserError(
                entry.field, target, f"a node from {DARTS.inputs} to {DARTS.inputs + _MOST_NODES - 1}",
                "Nodes 0 and 1 are the outputs of the two cells before.",
            )  # fmt: skip
        nodes.setdefault(target, []).append(Entry(entry.op, source, entry.field))
    return {node: nodes.get(node, []) for node in range(DARTS.inputs, max(nodes) + 1)}


def assemble(kind: str, nodes: Nodes, concat: Any, notes: Notes) -> tuple[tuple[Gene, ...], tuple[int, ...]]:
    """Genes and concatenated nodes of a cell: two entries for each node, nodes that nothing enters left out.

    Args:
        concat: the field as it was read, or `all` for all intermediate nodes.
    """
    field = f"genotype.{kind}"
    if len(nodes) > _MOST_NODES:
        raise UserError(field, f"{len(nodes)} nodes", f"at most {_MOST_NODES}", "This is no cell.")
    genes: list[Gene] = []
    moved = {source: source for source in range(DARTS.inputs)}
    for node in sorted(nodes):
        kept: list[Gene] = []
        for entry in nodes[node]:
            if not 0 <= entry.source < node:
                allowed = f"an input from 0 to {node - 1} for node {node}"
                raise UserError(entry.field, entry.source, allowed, "A node reads only earlier nodes.")
            if entry.source in moved:
                kept.append((entry.op, moved[entry.source]))
            else:
                notes.say(f"{entry.field} reads node {entry.source}, which nothing enters, and is left out")
        if len(kept) > 2:
            raise UserError(
                nodes[node][2].field, f"a third input of node {node}", "two inputs for each node",
                "Networks whose nodes sum more are not built here.",
            )  # fmt: skip
        if not kept:
            notes.say(f"nothing enters node {node} of the {kind} cell: it is left out and later nodes move up")
            continue
        if len(kept) == 1:
            notes.say(f"node {node} of the {kind} cell has one input: its second is none, which adds nothing")
            kept.append(("none", 0))
        moved[node] = DARTS.inputs + len(genes) // 2
        genes += kept
    if not genes:
        raise UserError(field, "no node with an input", "at least one", "Copy the whole cell.")
    if concat == "all":
        notes.say(f"{kind}_concat is not given: all intermediate nodes are taken")
        return tuple(genes), tuple(moved[node] for node in sorted(nodes) if node in moved)
    return tuple(genes), _concat(f"{field}_concat", concat, nodes, moved)


def _concat(field: str, value: Any, nodes: Nodes, moved: dict[int, int]) -> tuple[int, ...]:
    if isinstance(value, str):  # JSON and YAML keep a range as a string
        with contextlib.suppress(NotPlain, Damaged):
            value = plain(value)
    last = max(nodes)
    if not isinstance(value, list) or not value:
        allowed = f"the nodes whose outputs are concatenated, some of 2 to {last}, as range(2, {last + 1})"
        raise UserError(field, shortened(value), allowed, "A cell without an output is no cell.")
    found: list[int] = []
    for place, part in enumerate(value):
        node = _whole(part, f"{field}[{place}]", "a node")
        if node not in nodes:
            raise UserError(
                f"{field}[{place}]", node, f"an intermediate node, 2 to {last}", "Check the genotype's text."
            )
        if value.index(part) != place:
            raise UserError(f"{field}[{place}]", node, "each node once", "Take the repeated node out.")
        if node in moved:
            found.append(moved[node])
    if not found:
        raise UserError(
            field, shortened(value), "at least one node that something enters", "Check the genotype's text."
        )
    return tuple(found)


def _whole(value: Any, field: str, what: str) -> int:
    if type(value) is not int or abs(value) > 10**6:  # bool is an int to isinstance
        raise UserError(
            field,
            shortened(value),
            f"a whole number, {what}",
            "Nodes are counted from 0; write it without quotes or point.",
        )
    return value
