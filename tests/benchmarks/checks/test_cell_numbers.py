"""Every number of a cell's check by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.checks.cell import LIMITS, arch_of, describe_cell, identity_as_edge, json_number
from benchmarks.tabular.space import SIZE, official_archs
from benchmarks.tabular.table import BenchmarkTable
from cscdarts.errors import UserError
from tests.support.benchmark_table import NAN, sparse, table


def test_a_cells_numbers_by_hand() -> None:
    found = describe_cell(table(), 5)
    assert list(found["datasets"]) == ["cifar10", "digits"]
    assert found["datasets"]["digits"] == {
        "epochs": 6,
        "trial": "mean",
        "trials": [],
        "valid_acc": 90.0,
        "test_acc": 88.0,
        "ranked_by": "test",
        "rank": 2,  # one cell is strictly better by test accuracy
        "percentile": 80.0,  # four of the five held are not better
        "regret": 1.0,
        "valid_rank": 1,
        "valid_regret": 0.0,
        "best_index": 6,
        "best_test_acc": 89.0,
        "query_cost_s": 1.5,
    }
    assert found["datasets"]["cifar10"]["trials"] == [777]
    assert (found["arch"], found["index"], found["limits"]) == (official_archs()[5], 5, LIMITS)
    assert found["benchmark"] == {"kind": "invented", "holds": 5, "of": SIZE}


def test_what_a_benchmark_does_not_have_is_none_and_not_0() -> None:
    entry = describe_cell(table(), 9)["datasets"]["digits"]
    assert (entry["valid_acc"], entry["valid_rank"], entry["valid_regret"], entry["query_cost_s"]) == (None,) * 4
    assert (entry["test_acc"], entry["rank"], entry["percentile"], entry["regret"]) == (50.0, 5, 20.0, 39.0)
    other = describe_cell(table(), 9)["datasets"]["cifar10"]
    assert (other["test_acc"], other["rank"], other["percentile"], other["regret"]) == (None,) * 4
    assert (json_number(NAN), json_number(float("inf")), json_number(np.float64(2))) == (None, None, 2.0)


def test_a_length_keeps_the_data_sets_that_have_it() -> None:
    found = describe_cell(table(), 5, epochs=12)
    assert list(found["datasets"]) == ["cifar10"]
    assert (found["datasets"]["cifar10"]["epochs"], found["datasets"]["cifar10"]["test_acc"]) == (12, 42.0)
    assert describe_cell(table(), 5)["datasets"]["cifar10"]["epochs"] == 200
    with pytest.raises(UserError, match=r"--epochs: .*13.*200, 12"):
        describe_cell(table(), 5, epochs=13)


def test_one_trial_in_place_of_the_mean() -> None:
    entry = describe_cell(table(), 5, epochs=200, trial=777)["datasets"]["cifar10"]
    assert (entry["trial"], entry["valid_acc"], entry["test_acc"], entry["rank"]) == (777, 90.5, 93.5, 1)


# The same network under other names: the third edge's operation reaches nothing.
DEAD = "|none~0|+|{}~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"


def test_equal_networks_are_counted_among_those_held() -> None:
    names = [DEAD.format(op) for op in ("none", "nor_conv_3x3", "avg_pool_3x3")]
    places = [official_archs().index(name) for name in names]
    column = sparse(dict.fromkeys(places[:2], 1.0))
    held = BenchmarkTable({"digits_valid_acc_6": column, "digits_test_acc_6": column}, {})
    assert describe_cell(held, places[0])["same_network"] == {"count": 1, "index": [places[1]]}


def test_the_identity_as_an_edge_by_hand() -> None:
    arch = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    with_skip = official_archs().index(arch.replace("+|none~0", "+|skip_connect~0"))
    own = official_archs().index(arch)
    values = {own: 60.0, with_skip: 75.0}
    columns = {
        "digits_valid_acc_6": sparse(values),
        "digits_test_acc_6": sparse({own: 61.0, with_skip: 76.0}),
        "digits_valid_acc_3": sparse(values),
        "digits_test_acc_3": sparse({own: 31.0, with_skip: 36.0}),
    }
    held = BenchmarkTable(columns, {})
    assert identity_as_edge(held, arch, None, None) == {
        "arch": official_archs()[with_skip],
        "index": with_skip,
        "instead_of": "none",
        "exact": True,
        "datasets": {"digits": {"valid_acc": 75.0, "test_acc": 76.0, "rank": 1}},
    }
    shorter = identity_as_edge(held, arch, 3, None)
    assert shorter is not None
    assert shorter["datasets"]["digits"]["test_acc"] == 36.0
    with pytest.raises(UserError, match="--trial"):
        identity_as_edge(held, arch, None, 777)
    alone = BenchmarkTable({"digits_valid_acc_6": sparse({own: 1.0}), "digits_test_acc_6": sparse({own: 1.0})}, {})
    assert identity_as_edge(alone, arch, None, None) is None


@pytest.mark.parametrize("text", ["7", " 7\n", official_archs()[7]])
def test_architectures_by_index_or_string(text: str) -> None:
    assert arch_of(text) == official_archs()[7]


@pytest.mark.parametrize("text", ["-1", "15625"])
def test_an_index_outside_the_space_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="an index from 0 to 15624"):
        arch_of(text)


def test_an_architecture_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "cell.txt"
    file.write_text(f"\n  {official_archs()[7]}  \n", encoding="utf-8")
    assert arch_of(str(file)) == official_archs()[7]
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError):
        arch_of(str(file))
    with pytest.raises(UserError):
        arch_of("x" * 5000)  # longer than any path: not looked for on disk
