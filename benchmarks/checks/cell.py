"""What a benchmark says of one cell: accuracy, rank, percentile, regret, equal networks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.tabular.space import (
    SIZE,
    network_classes,
    official_arch,
    official_archs,
    official_index,
    read_cell,
    require_cell,
)
from benchmarks.tabular.table import BenchmarkTable, percentile, rank, regret
from cscdarts.records.genotype_source import read_genotype
from cscdarts.spaces import NASBENCH201, CellGenotype

LIMITS = (
    "The benchmark trained these cells without identity connection and without channel split, so a look-up tests only "
    "what the search found, not the network that CSC-DARTS would retrain."
)

_INPUT_TO_OUTPUT = NASBENCH201.edges.index((0, 3))


def describe_cell(
    table: BenchmarkTable, arch: str | int, epochs: int | None = None, trial: int | None = None
) -> dict[str, Any]:
    """Everything a table says of one cell; see `benchmarks.checks.run.check`."""
    index = table.index(arch)
    held = [dataset for dataset in table.datasets if epochs is None or epochs in table.epochs(dataset)]
    if not held:
        table.resolve(table.datasets[0], epochs)
    return {
        "arch": official_archs()[index],
        "index": index,
        "benchmark": {**table.provenance, "holds": table.holds, "of": SIZE},
        "datasets": {dataset: dataset_entry(table, dataset, index, epochs, trial) for dataset in held},
        "same_network": _same_network(table, index),
        "limits": LIMITS,
    }


def dataset_entry(
    table: BenchmarkTable, dataset: str, index: int, epochs: int | None, trial: int | None
) -> dict[str, Any]:
    """One data set's numbers: rank, percentile and regret by test accuracy (`ranked_by` says so: by validation accuracy
    where the benchmark has no other), `valid_rank` and `valid_regret` by validation."""
    length = table.resolve(dataset, epochs)
    valid, test = (table.accuracy(dataset, split, length, trial) for split in ("valid", "test"))
    by = table.ranked_by(dataset, length)
    ranked = test if by == "test" else valid
    best = int(np.nanargmax(ranked))
    cost = table.query_cost_s(dataset, length)[index]
    return {
        "epochs": length,
        "trial": "mean" if trial is None else trial,
        "trials": list(table.trials(dataset, length)),
        "valid_acc": json_number(valid[index]),
        "test_acc": json_number(test[index]),
        "ranked_by": by,
        "rank": rank(ranked, ranked[index]) if np.isfinite(ranked[index]) else None,
        "percentile": json_number(percentile(ranked, ranked[index])) if np.isfinite(ranked[index]) else None,
        "regret": json_number(regret(ranked, ranked[index])),
        "valid_rank": rank(valid, valid[index]) if np.isfinite(valid[index]) else None,
        "valid_regret": json_number(regret(valid, valid[index])) if np.isfinite(valid[index]) else None,
        "best_index": best,
        "best_test_acc": json_number(test[best]),
        "query_cost_s": json_number(cost),
    }


def identity_as_edge(table: BenchmarkTable, arch: str, epochs: int | None, trial: int | None) -> dict[str, Any] | None:
    """What a table says of a cell whose input is added to its output, y = cell(x) + x, as CSC-DARTS retrains it.

    In the table's cells that sum is `skip_connect` on the edge from the input to the output node, in place of that
    edge's own operation. Without one (`none`), the table's cell is the very network, as long as the channels are not
    split in evaluation; else it is the nearest that the table holds.

    Returns:
        `arch`, `index`, `instead_of` (the operation that gave way), `exact`, and `datasets` with `valid_acc`,
        `test_acc`, `rank`; None where the table does not hold that cell.
    """
    ops = list(read_cell(arch).ops)
    given_way, ops[_INPUT_TO_OUTPUT] = ops[_INPUT_TO_OUTPUT], "skip_connect"
    index = official_index(CellGenotype(tuple(ops)))
    if not table.held[index]:
        return None
    found = describe_cell(table, index, epochs, trial)
    kept = ("valid_acc", "test_acc", "rank")
    return {
        "arch": found["arch"],
        "index": index,
        "instead_of": given_way,
        "exact": given_way == "none",
        "datasets": {dataset: {key: entry[key] for key in kept} for dataset, entry in found["datasets"].items()},
    }


def _same_network(table: BenchmarkTable, index: int) -> dict[str, Any]:
    """Other spellings of the same network: a benchmark that trained each apart disagrees with itself by that much."""
    classes = network_classes()
    others = np.flatnonzero(table.held & (classes == classes[index]))
    return {"count": len(others) - 1, "index": [int(place) for place in others if place != index]}


def arch_of(what: str, report: Callable[[str], None] = lambda line: None) -> str:
    """An architecture from the command line, in any form that `cscdarts.records.genotype_source` reads.

    Errors:
        UserError: no cell, or a cell of another space, which no benchmark here holds.
    """
    reading = read_genotype(what, official_arch)
    for note in reading.notes:
        report(note)
    return str(require_cell(reading.genotype))


def json_number(value: Any) -> float | None:
    """A JSON number; None for what is missing, never 0."""
    return float(value) if math.isfinite(value) else None
