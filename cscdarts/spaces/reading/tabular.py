"""NAS-Bench-201 cells: architecture strings as printed, six operations, dictionaries by edge, nested tuples, an
index."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cscdarts.errors import UserError
from cscdarts.spaces.nasbench201 import NASBENCH201, CellGenotype
from cscdarts.spaces.reading.names import Notes, operation, shortened

_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
#: A key of an edge, as `(source, target)`: `1<-0` in AutoDL-Projects and HPOBench, `0_1` in nni.
_KEYS = {(f"{t}<-{s}", f"{s}_{t}"): (s, t) for s, t in NASBENCH201.edges}
#: Syne Tune counts the six edges in the order of the string.
_COUNTED = tuple(f"hp_x{place}" for place in range(len(NASBENCH201.edges)))


def from_string(text: str, notes: Notes) -> CellGenotype:
    """The cell of an architecture string, with or without spaces and outer bars.

    Errors:
        UserError: names the node and the place in it.
    """
    nodes = [node.strip().strip("|") for node in text.strip().split("+")]
    if len(nodes) != NASBENCH201.nodes:
        raise UserError(
            "genotype", shortened(text), f"three nodes, {_FORM}", f"This has {len(nodes)}; copy the whole string."
        )
    ops: dict[tuple[int, int], str] = {}
    for target, node in enumerate(nodes, 1):
        for place, gene in enumerate(node.split("|")):
            field = f"genotype, node {target}, place {place}"
            name, sign, source = (part.strip() for part in gene.partition("~"))
            if not sign or not source.isdigit() or int(source) >= target:
                allowed = f"operation~input, inputs 0 to {target - 1}"
                raise UserError(field, gene.strip(), allowed, f"The form is {_FORM}.")
            if (int(source), target) in ops:
                raise UserError(field, gene.strip(), "each input once", f"The form is {_FORM}.")
            ops[int(source), target] = operation(NASBENCH201, name, field, notes)
    return _cell(ops)


def from_mapping(mapping: Mapping[Any, Any], notes: Notes) -> CellGenotype | None:
    """The cell of a dictionary by edge, or None where it is none."""
    names = {str(key): value for key, value in mapping.items()}
    if set(_COUNTED) <= set(names):
        return from_sequence([names[key] for key in _COUNTED], notes)
    ops = {
        edge: operation(NASBENCH201, names[key], f"genotype.{key}", notes)
        for keys, edge in _KEYS.items()
        for key in keys
        if key in names
    }
    return _cell(ops) if ops else None


def from_sequence(parts: Sequence[Any], notes: Notes) -> CellGenotype | None:
    """The cell of six operations or of their numbers, or of pairs node by node as `CellStructure` keeps them; else
    None."""
    if len(parts) == len(NASBENCH201.edges) and all(type(part) is int for part in parts):
        for place, part in enumerate(parts):
            if not 0 <= part < len(NASBENCH201.ops):
                raise UserError(
                    f"genotype[{place}]", part, f"0 to {len(NASBENCH201.ops) - 1}", "Each number is one operation."
                )
        order = ", ".join(f"{number} {op}" for number, op in enumerate(NASBENCH201.ops))
        notes.say(
            f"numbers are read in the official order: {order}; edges by target, then source (NASLib counts otherwise)"
        )
        return CellGenotype(tuple(NASBENCH201.ops[part] for part in parts))
    if len(parts) == len(NASBENCH201.edges) and all(isinstance(part, str) for part in parts):
        return CellGenotype(
            tuple(operation(NASBENCH201, part, f"genotype[{place}]", notes) for place, part in enumerate(parts))
        )
    nodes = [node for node in parts if isinstance(node, list)]
    if [len(node) for node in nodes] != [1, 2, 3] or len(parts) != len(nodes):
        return None
    ops: dict[tuple[int, int], str] = {}
    for target, node in enumerate(nodes, 1):
        for place, gene in enumerate(node):
            field = f"genotype[{target - 1}][{place}]"
            if not (isinstance(gene, list) and len(gene) == 2 and type(gene[1]) is int and 0 <= gene[1] < target):
                raise UserError(
                    field, shortened(gene), f"('operation', input from 0 to {target - 1})", f"As in {_FORM}."
                )
            ops[gene[1], target] = operation(NASBENCH201, gene[0], field, notes)
    return _cell(ops)


def from_index(index: int, by_index: Callable[[int], str] | None, notes: Notes) -> CellGenotype:
    """The cell of an index in the official order of NAS-Bench-201."""
    if by_index is None:
        raise UserError(
            "genotype",
            index,
            f"a cell, such as {_FORM}",
            "The order of the indices is the benchmark's; give the string.",
        )
    return from_string(by_index(index), notes)


def looks_like_number(text: str) -> bool:
    """Whether a text is an index."""
    return re.fullmatch(r"-?\d{1,9}", text) is not None


def _cell(ops: Mapping[tuple[int, int], str]) -> CellGenotype:
    for source, target in NASBENCH201.edges:
        if (source, target) not in ops:
            raise UserError(
                "genotype", f"no operation from node {source} to node {target}", f"six operations, {_FORM}",
                "Give one operation for each edge.",
            )  # fmt: skip
    return CellGenotype(tuple(ops[edge] for edge in NASBENCH201.edges))
