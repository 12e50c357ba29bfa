"""NAS-Bench-301 surrogates as users have them: predicted accuracies of cells of the DARTS space. No torch.

Zela et al. 2022 (Surrogate NAS Benchmarks; Siems et al. 2020, arXiv 2008.09777) fit regressors to about 60,000 trained
DARTS cells: 8 cells of 32 channels, 100 epochs on CIFAR-10. A model here is an ONNX file, or a folder of them whose
mean counts (an ensemble's members). Nothing of the kind is shipped.

The input is the array that automl/nasbench301 gives its XGBoost and LightGBM models (`get_array()` of a ConfigSpace
configuration, missing values as -1). Which column is what the file says itself, in its metadata under
`cscdarts.nasbench301`, as the order is that of the library's version it was made with:

    {"encoding": "configspace-array",
     "features": ["NetworkSelectorDatasetInfo:darts:edge_normal_0", ...],     one name a column
     "constants": {"CreateImageDataLoader:batch_size": 0.585, ...},           columns that are no architecture
     "predicts": "cifar10_valid_acc_pct"}

A column `edge_normal_3` holds the number of the edge's operation in the order of `CHOICES`, `inputs_node_normal_4` the
number of the node's pair of inputs in lexical order, -1 where the edge is not kept. A column
`edge_normal_3=skip_connect` is 1 or 0: so a one-hot encoding is spelled. A prefix up to the last colon does not count.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.official.onnx_bounds import read_model
from benchmarks.tabular.files import checksum
from benchmarks.tabular.table import Floats
from cscdarts.errors import BrokenFile, MissingFile, UserError
from cscdarts.spaces import DARTS, DartsGenotype, Genotype

KEY, ENCODING, PREDICTS = "cscdarts.nasbench301", "configspace-array", "cifar10_valid_acc_pct"
PREFIX = "NetworkSelectorDatasetInfo:darts:"
_MOST_MEMBERS = 100


def _choices() -> dict[str, tuple[str, ...]]:
    """Architecture hyperparameter -> its choices, in the order of automl/nasbench301 `configspace.json`."""
    ops = tuple(op for op in DARTS.ops if op != "none")
    found: dict[str, tuple[str, ...]] = {}
    for kind in DARTS.cell_kinds:
        found |= {f"edge_{kind}_{row}": ops for row in range(len(DARTS.edges))}
        found |= {f"inputs_node_{kind}_{n}": tuple(f"{a}_{b}" for a, b in combinations(range(n), 2)) for n in (3, 4, 5)}
    return found


CHOICES: Mapping[str, tuple[str, ...]] = _choices()


def configuration(genotype: Genotype) -> dict[str, str]:
    """A cell as NAS-Bench-301 writes it: hyperparameter -> choice, without the edges that it does not keep.

    Errors:
        UserError: a cell that the benchmark has no name for: another space, a node that does not read two nodes, an
            operation of another space or `none`, or an output that leaves a node out.
    """
    if not isinstance(genotype, DartsGenotype):
        raise _outside(f"a cell of the {genotype.space} space")
    found: dict[str, str] = {}
    for kind in DARTS.cell_kinds:
        edges = genotype.edges(kind)
        if genotype.concat(kind) != DARTS.output_nodes:
            raise _outside(f"a {kind} cell whose output is of the nodes {list(genotype.concat(kind))}")
        for node in range(DARTS.inputs, DARTS.inputs + DARTS.nodes):
            sources = sorted(edge.source for edge in edges if edge.target == node)
            if len(set(sources)) != 2 or len(sources) != 2:
                raise _outside(f"a {kind} cell whose node {node} reads {sources}")
            if node > DARTS.inputs:
                found[f"inputs_node_{kind}_{node}"] = f"{sources[0]}_{sources[1]}"
        for source, target, op in edges:
            name = f"edge_{kind}_{DARTS.edges.index((source, target))}"
            if op not in CHOICES[name]:
                raise _outside(f"a {kind} cell with {op}")
            found[name] = op
    return found


def _outside(what: str) -> UserError:
    return UserError(
        "cell", what, "a cell of the DARTS space: four nodes, each reading two others, all of them its output",
        "NAS-Bench-301 has no other cells.",
    )  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """One model of an ensemble: its session, the name of its input, and what its columns hold."""

    session: Any
    entry: str
    columns: tuple[tuple[str, str | None], ...]
    constants: Mapping[str, float]

    def rows(self, cells: Sequence[Mapping[str, str]]) -> np.ndarray[Any, Any]:
        """Configurations as the model's input, (cells, columns) float32."""
        return np.array([[self._value(cell, *column) for column in self.columns] for cell in cells], dtype=np.float32)

    def _value(self, cell: Mapping[str, str], name: str, choice: str | None) -> float:
        if name not in CHOICES:
            return self.constants[name]
        if choice is not None:
            return float(cell.get(name) == choice)
        return float(CHOICES[name].index(cell[name])) if name in cell else -1.0


class Surrogate:
    """A surrogate: predictions of validation accuracy, never measurements.

    Attributes:
        provenance: kind, name, source, SHA-256 of each file, number of models.
    """

    def __init__(self, members: Sequence[_Member], provenance: dict[str, Any]) -> None:
        self._members, self.provenance = tuple(members), provenance

    def predict(self, genotypes: Sequence[Genotype]) -> tuple[Floats, Floats | None]:
        """Predicted accuracies in percent, (cells,), and their standard deviation over an ensemble's members.

        Errors:
            UserError: see `configuration`; or a model gives something else than a percentage for each cell.
        """
        cells = [configuration(genotype) for genotype in genotypes]
        each = np.stack([self._of(member, cells) for member in self._members])
        return each.mean(0), each.std(0, ddof=1) if len(each) > 1 else None

    def _of(self, member: _Member, cells: Sequence[Mapping[str, str]]) -> Floats:
        source = self.provenance["source"]
        try:
            (out,) = member.session.run(None, {member.entry: member.rows(cells)})
            values = np.asarray(out, dtype=np.float64).reshape(len(cells))
        except Exception as error:  # onnxruntime's have no class in common
            why = " ".join(str(error).split())[:200]
            raise BrokenFile(source, f"it gives no number for each cell ({why})", _SAID, _AGAIN) from None
        wrong = values[~(np.isfinite(values) & (values >= 0) & (values <= 100))]
        if len(wrong):
            raise BrokenFile(source, f"it predicts {wrong[0]:.6g} percent", "accuracies from 0 to 100", _AGAIN)
        return values


_SAID = f"a model whose metadata {KEY} says its input, see benchmarks/official/nasbench301.py"
_AGAIN = "Export it again."


def open_surrogate(path: Path) -> Surrogate:
    """Open an ONNX model, or a folder of `*.onnx` models whose mean counts.

    Errors:
        UserError: nothing there, packages that are not installed, or a model that is not as this module has it.
    """
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    if not files:
        raise MissingFile(path, "Name an ONNX model, or a folder of *.onnx models.")
    if len(files) > _MOST_MEMBERS:
        raise BrokenFile(path, f"it holds {len(files)} models", f"at most {_MOST_MEMBERS}", "Name another folder.")
    members = [_member(file) for file in files]
    hashes = {file.name: checksum(file)["sha256"] for file in files}
    provenance = {
        "kind": "nasbench301-surrogate",
        "name": f"NAS-Bench-301 surrogate {path.name}",
        "source": path.name,
        "sha256": hashes if len(hashes) > 1 else next(iter(hashes.values())),
        "members": len(members),
        "predicts": PREDICTS,
    }
    return Surrogate(members, provenance)


def _member(path: Path) -> _Member:
    model, session, _ = read_model(path)
    told = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if told is None:
        raise BrokenFile(path, f"it has no metadata {KEY}", _SAID, _AGAIN)
    try:
        content = json.loads(told)
        names, constants = content["features"], content.get("constants", {})
        known = content["encoding"] == ENCODING and content["predicts"] == PREDICTS
        right = all(isinstance(name, str) for name in names) and all(_number(value) for value in constants.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BrokenFile(path, f"its metadata {KEY} is damaged ({type(error).__name__})", _SAID, _AGAIN) from None
    if not known or not right or not isinstance(names, list):
        why = f"its metadata {KEY} has another encoding, target or type of value"
        raise BrokenFile(path, why, f'encoding "{ENCODING}", predicts "{PREDICTS}"', _AGAIN)
    columns = tuple(_column(path, name, constants) for name in names)
    _require_whole(path, columns)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(outputs) != 1 or len(shape) != 2 or inputs[0].type != "tensor(float)":
        raise BrokenFile(path, "its input or output is another", "one input float (cells, columns), one output", _AGAIN)
    if isinstance(shape[1], int) and shape[1] != len(columns):
        raise BrokenFile(path, f"it reads {shape[1]} columns", f"{len(columns)}, as its metadata names", _AGAIN)
    return _Member(session, inputs[0].name, columns, {str(key): float(value) for key, value in constants.items()})


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _column(path: Path, name: str, constants: Mapping[str, Any]) -> tuple[str, str | None]:
    """What a column holds: a hyperparameter, and of a one-hot column its choice."""
    if name in constants:
        return name, None
    its, equals, choice = name.rpartition(":")[2].partition("=")
    if its not in CHOICES or (equals and choice not in CHOICES[its]):
        raise BrokenFile(path, f"its column {name[:80]} is unknown", "columns of CHOICES, or among constants", _AGAIN)
    return its, choice if equals else None


def _require_whole(path: Path, columns: Sequence[tuple[str, str | None]]) -> None:
    """Refuse columns that leave a part of the cell out, or have it twice."""
    if len(set(columns)) != len(columns):
        raise BrokenFile(path, "it names a column twice", "each column once", _AGAIN)
    held = set(columns)
    for name, choices in CHOICES.items():
        if (name, None) not in held and not all((name, choice) in held for choice in choices):
            raise BrokenFile(path, f"it has no column {name}", "columns for all of a cell", _AGAIN)
