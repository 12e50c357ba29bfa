"""From a search's records to a cell: which epoch, which operations, and the monitors that read alpha."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, append_line, write_json
from cscdarts.settings.config import RunConfig, SupernetConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import DARTS, NASBENCH201, CellGenotype, DartsGenotype, parse_genotype
from cscdarts.training.derivation import alpha_entropy, derive, genotype_of, genotype_of_line, skip_share_pct
from tests.support.records import written

OPS = NASBENCH201.ops
TABULAR = SupernetConfig(space="nasbench201")


def config(**values: Any) -> RunConfig:
    return with_values(build({}), {"supernet.space": "nasbench201", "search.epochs": 4, **values})


def searched(path: Path, cells: list[str], errors: list[float | None]) -> RunFolder:
    """A folder whose epoch k has alpha for operation cells[k] on every edge, and this supernet validation error."""
    folder = RunFolder(path)
    for epoch, (op, error) in enumerate(zip(cells, errors, strict=True)):
        alpha = [[float(name == op) for name in OPS]] * 6
        append_line(folder.file("alphas.jsonl"), {"epoch": epoch, "alpha": {"cell": alpha}})
        values = {"search_train_loss": 1.0} | ({} if error is None else {"search_valid_error_pct": error})
        folder.record("search", epoch, 1, values)
        folder.record("check", epoch, 1, {"search_valid_error_pct": 0.0})  # of another stage: says nothing here
    write_json(folder.file("search.json"), {"values": {}})
    return folder


CELLS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"]


def test_an_epoch_without_a_line_of_numbers_is_not_the_best(tmp_path: Path) -> None:
    folder = searched(tmp_path, CELLS[:3], [4.0, 1.0, 2.0])
    append_line(folder.file("alphas.jsonl"), {"epoch": 3, "alpha": {"cell": [[0.0, 0.0, 0.0, 1.0, 0.0]] * 6}})
    assert derive(config(**{"search.derive": "best"}), folder) == CellGenotype((CELLS[1],) * 6)


def test_the_last_epoch_is_not_another_where_its_line_is_broken(tmp_path: Path) -> None:
    folder = searched(tmp_path, CELLS[:3], [1.0] * 3)
    append_line(folder.file("alphas.jsonl"), {"epoch": 3, "alpha": {"cell": [["none"]]}})
    with pytest.raises(UserError, match="its last line is of epoch 3"):
        derive(config(), folder)
    assert not folder.has("genotype")


def test_a_folder_that_holds_one_search_gives_no_best_of_several(tmp_path: Path) -> None:
    folder = searched(tmp_path, CELLS, [4.0, 1.0, 2.0, 3.0])
    with pytest.raises(UserError) as caught:
        derive(config(**{"search.best_of": 2}), folder)
    assert str(caught.value) == (
        "search.best_of: 2 is not valid; allowed: 1 in a folder that holds one search. Run it with `cscdarts search`."
    )
    assert not folder.file("genotype.json").exists()


def test_last_takes_the_last_epoch(tmp_path: Path) -> None:
    folder = searched(tmp_path, CELLS, [4.0, 1.0, 2.0, 3.0])
    assert derive(config(), folder) == CellGenotype(("nor_conv_3x3",) * 6)
    found = written(folder.file("genotype.json"))
    cell = str(CellGenotype(("nor_conv_3x3",) * 6))
    wanted = {"space": "nasbench201", "text": cell, "epoch": 3, "rule": "last", "why": "the last epoch"}
    assert {key: found[key] for key in wanted} == wanted
    assert "values" not in found


@pytest.mark.parametrize(
    ("errors", "epoch"),
    [
        ([4.0, 1.0, 2.0, 3.0], 1),
        ([4.0, 2.0, 1.0, 1.0], 2),  # the earliest of equals
        ([None, 3.0, 2.0, None], 2),
        ([None, None, None, None], 3),  # nothing measured: the last
    ],
)
def test_best_takes_the_epoch_of_the_least_validation_error(
    tmp_path: Path, errors: list[float | None], epoch: int
) -> None:
    folder = searched(tmp_path, CELLS, errors)
    assert derive(config(**{"search.derive": "best"}), folder) == CellGenotype((CELLS[epoch],) * 6)
    found = written(folder.file("genotype.json"))
    assert (found["epoch"], found["rule"]) == (epoch, "best")
    least = min((error for error in errors if error is not None), default=None)
    assert found["why"] == (
        "no validation error was recorded, so the last epoch"
        if least is None
        else f"the lowest supernet validation error, {least:.2f} %"
    )


def test_what_is_derived_stays_derived(tmp_path: Path) -> None:
    folder = searched(tmp_path, CELLS, [1.0] * 4)
    write_json(folder.file("genotype.json"), {"text": str(CellGenotype(("avg_pool_3x3",) * 6))})
    assert derive(config(), folder) == CellGenotype(("avg_pool_3x3",) * 6)
    assert "epoch" not in written(folder.file("genotype.json"))


def test_a_search_that_names_its_cell_is_believed(tmp_path: Path) -> None:
    """Random search has no alpha to derive from."""
    cell = CellGenotype(("skip_connect",) * 6)
    folder = RunFolder(tmp_path)
    write_json(folder.file("search.json"), {"values": {}, "genotype": str(cell)})
    assert derive(config(), folder) == cell
    assert written(folder.file("genotype.json"))["epoch"] == 3


def test_a_search_under_way_has_no_cell(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        derive(config(), RunFolder(tmp_path))
    for words in (str(tmp_path), "has no search.json", "Run the search first."):
        assert words in str(caught.value)
    assert not (tmp_path / "genotype.json").exists()


# --- operations ---------------------------------------------------------------------------------


def darts_alpha(rows: dict[int, dict[str, float]]) -> dict[str, np.ndarray]:
    """Alpha of both kinds: 0 but for the given edge rows."""
    alpha = np.zeros((14, len(DARTS.ops)))
    for row, values in rows.items():
        for op, value in values.items():
            alpha[row, DARTS.ops.index(op)] = value
    return {"normal": alpha, "reduce": alpha.copy()}


def genes(alpha: dict[str, np.ndarray], beta: dict[str, np.ndarray] | None = None) -> DartsGenotype:
    found = genotype_of(SupernetConfig(), alpha, beta)
    assert isinstance(found, DartsGenotype)
    return found


def test_of_equal_strengths_the_earlier_input_and_operation_are_kept() -> None:
    found = genes(darts_alpha({}))
    first = next(op for op in DARTS.ops if op != "none")
    assert found.normal == ((first, 0), (first, 1)) * 4
    assert found.normal_concat == found.reduce_concat == (2, 3, 4, 5)


def test_none_takes_part_in_the_softmax_though_it_is_never_chosen() -> None:
    """An edge where `none` is strong has weak operations, whatever their order among themselves."""
    # Node 2 has edges 0 and 1, node 3 edges 2 to 4.
    alpha = darts_alpha({2: {"sep_conv_3x3": 2.0, "none": 5.0}, 3: {"sep_conv_3x3": 1.0}, 4: {"dil_conv_3x3": 0.5}})
    assert genes(alpha).normal[2:4] == (("sep_conv_3x3", 1), ("dil_conv_3x3", 2))


def test_each_kind_is_derived_from_its_own_alpha() -> None:
    alpha = darts_alpha({0: {"sep_conv_3x3": 2.0}})
    alpha["reduce"] = darts_alpha({0: {"max_pool_3x3": 2.0}})["reduce"]
    found = genes(alpha)
    assert (found.normal[0], found.reduce[0]) == (("sep_conv_3x3", 0), ("max_pool_3x3", 0))


def test_edge_parameters_are_softmaxed_over_the_inputs_of_a_node_and_multiplied() -> None:
    """Strengths by hand at node 3 (edges 2 to 4): alpha 2 and 1 and 0 against beta 0, 0 and 3."""
    alpha = darts_alpha({2: {"sep_conv_3x3": 2.0}, 3: {"sep_conv_3x3": 1.0}})
    beta = np.zeros(14)
    assert [source for _, source in genes(alpha, {"normal": beta, "reduce": beta}).normal[2:4]] == [0, 1]
    beta[4] = 3.0

    def strength(a: float, b: float) -> float:
        return math.exp(a) / (math.exp(a) + 7) * math.exp(b)

    by_hand = sorted(range(3), key=lambda k: -strength((2.0, 1.0, 0.0)[k], (0.0, 0.0, 3.0)[k]))[:2]
    assert by_hand == [2, 0]
    assert [source for _, source in genes(alpha, {"normal": beta, "reduce": beta}).normal[2:4]] == by_hand


def test_large_alphas_do_not_overflow() -> None:
    assert genes(darts_alpha({0: {"sep_conv_3x3": 2000.0}})).normal[0] == ("sep_conv_3x3", 0)


def test_a_line_of_the_record_becomes_a_cell() -> None:
    alpha = [[float(op == "nor_conv_1x1") for op in OPS]] * 6
    assert genotype_of_line(TABULAR, {"alpha": {"cell": alpha}}) == CellGenotype(("nor_conv_1x1",) * 6)
    both = darts_alpha({})
    beta = {kind: np.zeros(14) for kind in both}
    beta["normal"][13] = 9.0  # the last node's last input
    line = {
        "alpha": {kind: rows.tolist() for kind, rows in both.items()},
        "beta": {kind: rows.tolist() for kind, rows in beta.items()},
    }
    found = genotype_of_line(SupernetConfig(), line)
    assert isinstance(found, DartsGenotype)
    assert (found.normal[6][1], found.reduce[6][1]) == (4, 0)


def test_fewer_candidate_operations_are_named_by_their_own_place() -> None:
    few = SupernetConfig(space="nasbench201", ops=("nor_conv_3x3", "none"))
    alpha = {"cell": np.array([[0.0, 1.0], [1.0, 0.0]] * 3)}
    assert genotype_of(few, alpha) == CellGenotype(("none", "nor_conv_3x3") * 3)


# --- monitors -----------------------------------------------------------------------------------


def test_entropy_is_the_mean_over_all_edges_of_all_kinds() -> None:
    decided, open_ = np.zeros((14, 8)), np.zeros((14, 8))
    decided[:, 3] = 1000.0
    assert alpha_entropy({"normal": decided, "reduce": open_}) == pytest.approx(math.log(8) / 2)
    two = np.array([[math.log(3.0), 0.0]])
    assert alpha_entropy({"cell": two}) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_share_of_skip_connections() -> None:
    cell = parse_genotype("|skip_connect~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|")
    assert skip_share_pct(cell) == 50.0
    normal = (("skip_connect", 0), ("max_pool_3x3", 1)) + (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)) * 3
    reduce = (("skip_connect", 0), ("skip_connect", 1)) * 4
    assert skip_share_pct(DartsGenotype(normal, (2, 3, 4, 5), reduce, (2, 3, 4, 5))) == 12.5
