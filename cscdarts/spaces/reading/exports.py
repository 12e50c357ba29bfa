"""DARTS cells from the dictionaries of tools that name edges by keys: NAS-Bench-301's ConfigSpace and nni's exports."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from cscdarts.errors import UserError
from cscdarts.spaces.darts import DARTS, DartsGenotype
from cscdarts.spaces.reading.darts import Entry, Nodes, assemble
from cscdarts.spaces.reading.names import Notes, operation, shortened

#: Candidates in the order of nni's DARTS example, whose older exports count them.
_NNI_ORDER = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
#: A key by which an export is known -> how it is read. Looked for with any prefix before it.
_KINDS = (r"(?:.*:)?edge_normal_0", r"normal/op_2_0", r"normal_n2_p0")


def is_export(mapping: Mapping[Any, Any]) -> bool:
    """Whether a dictionary is one of these exports."""
    return any(re.fullmatch(kind, str(key)) for key in mapping for kind in _KINDS)


def from_export(mapping: Mapping[Any, Any], notes: Notes) -> DartsGenotype:
    """The genotype of an export; all intermediate nodes are concatenated, as both tools do.

    Errors:
        UserError: names the key, its value and what is allowed.
    """
    keys = {str(key): value for key, value in mapping.items()}
    if any(re.fullmatch(_KINDS[0], key) for key in keys):
        read: Callable[[dict[str, Any], str, Notes], Nodes] = _nasbench301
        keys = {key.rpartition(":")[2]: value for key, value in keys.items()}
    else:
        read = _nni if "normal/op_2_0" in keys else _nni_switches
    cells = []
    for kind in DARTS.cell_kinds:
        nodes = read(keys, kind, notes)
        cells.append(assemble(kind, nodes, list(nodes), notes))
    (normal, normal_concat), (reduce, reduce_concat) = cells
    return DartsGenotype(normal, normal_concat, reduce, reduce_concat)


def _nasbench301(keys: dict[str, Any], kind: str, notes: Notes) -> Nodes:
    """`edge_normal_0: op` by the number of the edge, `inputs_node_normal_3: 0_1` by node (node 2 has only two)."""
    nodes: Nodes = {}
    rows = {edge: row for row, edge in enumerate(DARTS.edges)}
    for node in range(DARTS.inputs, DARTS.inputs + DARTS.nodes):
        key = f"inputs_node_{kind}_{node}"
        chosen = "0_1" if node == DARTS.inputs else _present(keys, key)
        match = re.fullmatch(r"(\d)_(\d)", str(chosen))
        if match is None or not all(int(source) < node for source in match.groups()):
            raise UserError(
                f"genotype.{key}", shortened(chosen), f"two nodes from 0 to {node - 1}, as 0_1", "Check the export."
            )
        nodes[node] = []
        for source in map(int, match.groups()):
            edge = f"edge_{kind}_{rows[source, node]}"
            op = operation(DARTS, _present(keys, edge), f"genotype.{edge}", notes)
            nodes[node].append(Entry(op, source, f"genotype.{edge}"))
    return nodes


def _nni(keys: dict[str, Any], kind: str, notes: Notes) -> Nodes:
    """nni from 2.0: `normal/op_2_0: op` and `normal/input_2_0: 0` (or `[0]`), by node and by its first and second
    input."""
    nodes: Nodes = {}
    for node in _numbered(keys, rf"{kind}/op_(\d{{1,2}})_0"):
        nodes[node] = []
        for place in (0, 1):
            name, source_name = f"{kind}/op_{node}_{place}", f"{kind}/input_{node}_{place}"
            source = _present(keys, source_name)
            source = source[0] if isinstance(source, list) and len(source) == 1 else source
            if type(source) is not int:
                raise UserError(
                    f"genotype.{source_name}", shortened(source), f"a node from 0 to {node - 1}", "Check the export."
                )
            op = operation(DARTS, _present(keys, name), f"genotype.{name}", notes)
            nodes[node].append(Entry(op, source, f"genotype.{source_name}"))
    return nodes


def _nni_switches(keys: dict[str, Any], kind: str, notes: Notes) -> Nodes:
    """nni 1: `normal_n2_p0: op` for each input of each node, `[]` where it is not taken, `normal_n2_switch` for those
    taken."""
    nodes: Nodes = {}
    for node in _numbered(keys, rf"{kind}_n(\d{{1,2}})_p0"):
        switch = keys.get(f"{kind}_n{node}_switch")
        nodes[node] = []
        for source in range(node):
            name = f"{kind}_n{node}_p{source}"
            if name not in keys or keys[name] in ([], None) or (isinstance(switch, list) and name not in switch):
                continue
            op = _nni_choice(keys[name], f"genotype.{name}", notes)
            nodes[node].append(Entry(op, source, f"genotype.{name}"))
    return nodes


def _nni_choice(value: Any, field: str, notes: Notes) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if type(value) is not int:
        return operation(DARTS, value, field, notes)
    if not 0 <= value < len(_NNI_ORDER):
        raise UserError(field, value, f"0 to {len(_NNI_ORDER) - 1}, or an operation's name", "Check the export.")
    notes.say(f"numbers of operations are read in the order of nni's DARTS example: {', '.join(_NNI_ORDER)}")
    return _NNI_ORDER[value]


def _numbered(keys: dict[str, Any], pattern: str) -> list[int]:
    found = sorted(int(match[1]) for key in keys if (match := re.fullmatch(pattern, key)))
    if found != list(range(DARTS.inputs, DARTS.inputs + len(found))) or not found:
        kind = pattern.partition("/")[0].partition("_")[0]
        raise UserError(
            f"genotype.{kind}", f"nodes {found}", "nodes 2, 3, 4, 5 without a gap", "Copy the whole export."
        )
    return found


def _present(keys: dict[str, Any], name: str) -> Any:
    if name not in keys:
        raise UserError(
            f"genotype.{name}", "missing", "the operations and inputs of all nodes", "Copy the whole export."
        )
    return keys[name]
