"""Whether an image reaches the classifier: what the records say of a cell, against the network itself."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cscdarts.errors import UserError
from cscdarts.models.network import Network
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.connected import connection_notes, cut_off, require_connected, require_given_cell
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import NASBENCH201, CellGenotype, DartsGenotype, Genotype
from cscdarts.spaces.connected import idle_kinds, is_cut_off
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.training.derivation import derive
from cscdarts.training.retrain import retrain

NOTHING = CellGenotype(("none",) * 6)
CONCAT = (2, 3, 4, 5)


def darts(normal: str, reduce: str, concat: tuple[int, ...] = CONCAT) -> DartsGenotype:
    """Cells of one operation; a gene is an operation at the older input, then one at the newer."""
    genes = {op: tuple((op, source) for _ in range(4) for source in (0, 1)) for op in (normal, reduce)}
    return DartsGenotype(genes[normal], concat, genes[reduce], concat)


def config(space: str, **values: Any) -> RunConfig:
    sizes = {
        "supernet.space": space,
        "supernet.identity": "none",
        "evaluation.channels": 4,
        "evaluation.cells": 1 if space == "nasbench201" else 6,
        "evaluation.epochs": 600,
        "evaluation.auxiliary": 0.0,
    }
    return with_values(build({}), {**sizes, **values})


def sees(chosen: RunConfig, genotype: Genotype) -> bool:
    """Whether the network's answers differ for two images."""
    torch.manual_seed(0)
    identity = chosen.identity_in("eval")
    network = Network(genotype, chosen.evaluation, chosen.supernet, identity, 3).eval()
    with torch.no_grad():
        first, second = network(torch.randn(2, 3, 8, 8))[0]
    return not torch.equal(first, second)


def test_the_cut_off_cells_of_nasbench201_are_those_without_a_path() -> None:
    """64 patterns of none and operation against powers of the adjacency matrix."""
    for pattern in product((False, True), repeat=6):
        matrix = np.eye(4, dtype=int)
        for (source, target), kept in zip(NASBENCH201.edges, pattern, strict=True):
            matrix[source, target] = kept
        reached = bool(np.linalg.matrix_power(matrix, 3)[0, 3])
        genotype = CellGenotype(tuple("skip_connect" if kept else "none" for kept in pattern))
        assert is_cut_off(genotype, 5) is not reached
        assert (idle_kinds(genotype) == ("cell",)) is not reached


CELLS: dict[str, tuple[str, Genotype, bool]] = {
    "none only": ("nasbench201", NOTHING, True),
    "one edge": ("nasbench201", CellGenotype(("none", "none", "none", "nor_conv_1x1", "none", "none")), False),
    "begun, not ended": ("nasbench201", CellGenotype(("nor_conv_3x3", "nor_conv_3x3", *("none",) * 4)), True),
    "darts, none only": ("darts", darts("none", "none"), True),
    "darts, normal cells of none": ("darts", darts("none", "skip_connect"), True),
    "darts, reductions of none": ("darts", darts("skip_connect", "none"), False),
    "darts, all operations": ("darts", darts("skip_connect", "max_pool_3x3"), False),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_cut_off_where_the_networks_answers_are_one(name: str) -> None:
    space, genotype, expected = CELLS[name]
    chosen = config(space)
    assert cut_off(chosen, genotype) is expected
    assert sees(chosen, genotype) is not expected


@pytest.mark.parametrize(
    "values",
    [
        {"supernet.identity": "cell"},
        {"supernet.identity": "edge"},
        {"supernet.identity": "cell", "supernet.identity_proj": "pool-pad"},
        {"supernet.identity": "cell", "supernet.identity_proj": "skip-cell"},
        {"supernet.identity": "cell", "supernet.identity_scale": 0.0},
        {"supernet.identity": "cell", "supernet.identity_phases": "search"},
        {"evaluation.split_eval": True},
        {"evaluation.split_eval": True, "supernet.bypass_reduce": "nosplit"},
        {"evaluation.split_eval": True, "supernet.split_ratio": "1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["none only", "darts, none only", "darts, normal cells of none"])
def test_identity_and_split_hand_the_image_on_where_the_network_has_them(name: str, values: dict[str, Any]) -> None:
    space, genotype, _ = CELLS[name]
    chosen = config(space, **values)
    assert cut_off(chosen, genotype) is not sees(chosen, genotype)


def test_every_published_cell_is_connected() -> None:
    for genotype in KNOWN_GENOTYPES.values():
        chosen = config(genotype.space)
        assert connection_notes(chosen, genotype) == []
        require_connected(chosen, genotype)


def test_what_is_said_of_a_cell_that_only_the_identity_keeps_alive() -> None:
    (cut,) = connection_notes(config("nasbench201"), NOTHING)
    assert cut.startswith("the cell is cut off from the input")
    (idle,) = connection_notes(config("nasbench201", **{"supernet.identity": "cell"}), NOTHING)
    assert idle.startswith("no operation of the cell leads")
    (one,) = connection_notes(config("darts"), darts("skip_connect", "none"))
    assert one.startswith("no operation of the reduce cell leads")
    (both,) = connection_notes(config("darts", **{"supernet.identity": "cell"}), darts("none", "none"))
    assert both.startswith("no operation of the normal and the reduce cell leads")


@pytest.mark.parametrize("name", ["none only", "darts, none only"])
def test_a_given_cell_that_is_cut_off_is_refused_before_anything_begins(name: str) -> None:
    space, genotype, _ = CELLS[name]
    given = config(space, **{"search.strategy": "given", "search.genotype": str(genotype)})
    with pytest.raises(UserError, match=r"search\.genotype: .*cut off from the input: 600 epochs.*Give another cell"):
        require_given_cell(given)
    ways = (
        ("runtime.cut_off", "train"),
        ("runtime.retrain", False),
        ("evaluation.epochs", 0),
        ("supernet.identity", "cell"),
    )
    for field, value in ways:
        require_given_cell(with_values(given, {field: value}))


def test_a_derived_cell_that_is_cut_off_is_recorded_and_not_retrained(tmp_path: Path) -> None:
    """The derivation keeps it, with a note, so that it can be looked up; the retraining begins with a refusal."""
    folder = RunFolder(tmp_path)
    chosen = config("nasbench201")
    folder.create(chosen)
    write_json(folder.file("search.json"), {"values": {}})
    alpha = [[1.0, 0.0, 0.0, 0.0, 0.0]] * 6
    folder.file("alphas.jsonl").write_text(f'{{"epoch": 0, "alpha": {{"cell": {alpha}}}}}\n', encoding="utf-8")
    said: list[str] = []
    assert derive(chosen, folder, said.append) == NOTHING
    assert len(said) == 1
    assert "cut off from the input" in said[0]
    assert '"notes"' in folder.file("genotype.json").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"Derive by another rule \(search\.derive=best\)") as caught:
        retrain(chosen, folder)
    for way in ("supernet.identity_phases=both", "runtime.retrain=false", "runtime.cut_off=train"):
        assert way in str(caught.value)
    assert not folder.has("result")


def test_alpha_that_is_no_number_derives_no_cell(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    chosen = config("nasbench201")
    folder.create(chosen)
    write_json(folder.file("search.json"), {"values": {}})
    line = '{"epoch": 3, "alpha": {"cell": [[NaN, 0, 0, 0, 0], ' + ", ".join(["[0, 0, 0, 0, 1]"] * 5) + "]}}\n"
    folder.file("alphas.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match=r"alphas\.jsonl: 'epoch 3, cell'.*finite"):
        derive(chosen, folder)
