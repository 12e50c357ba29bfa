"""The NAS-Bench-201 space: official numbering, refusals, and which strings spell the same network."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.official.safe_pickle import read_plain_pickle
from benchmarks.tabular.isomorphism import all_cells, canonical_form, classes, live_edges
from benchmarks.tabular.space import (
    SIZE,
    index_of_code,
    network_classes,
    official_archs,
    official_codes,
    official_index,
    official_indices,
    require_official_order,
)
from cscdarts.errors import UserError
from cscdarts.spaces import NASBENCH201, CellGenotype, parse_genotype


def cell(text: str) -> CellGenotype:
    """A cell from six letters: n none, s skip, 1 conv 1x1, 3 conv 3x3, p pooling; edges 01 02 12 03 13 23."""
    return CellGenotype(tuple(NASBENCH201.ops["ns13p".index(letter)] for letter in text))


def test_numbering_is_the_official_one(shared: Path) -> None:
    with gzip.open(shared / "data" / "nasbench201.csv.gz", "rt", newline="") as file:
        rows = [(int(row["index"]), row["arch_str"]) for row in csv.DictReader(file)]
    assert rows == list(enumerate(official_archs()))
    meta = read_plain_pickle(shared / "data" / "fake_torch_dir" / "NATS-tss-v1_0-3ffb9-simple" / "meta.pickle.pbz2")
    assert meta["meta_archs"] == list(official_archs())


def test_codes_and_indices_are_inverse() -> None:
    assert sorted(official_codes().tolist()) == list(range(SIZE))
    assert np.array_equal(index_of_code()[official_codes()], np.arange(SIZE))
    for index in (0, 11, 1835, SIZE - 1):
        assert official_index(official_archs()[index]) == index
        assert str(parse_genotype(official_archs()[index])) == official_archs()[index]
    assert official_index(cell("ssssss")) == 1835


def test_many_indices_at_once_equal_one_by_one() -> None:
    archs = [official_archs()[index] for index in (5, 3, 3, 15_000)]
    assert official_indices(archs).tolist() == [5, 3, 3, 15_000]


@pytest.mark.parametrize(
    "text",
    ["|nor_conv_5x5~0|+|none~0|none~1|+|none~0|none~1|none~2|", "DARTS_V2", "", "|none~0|+|none~0|none~1|", "-1"],
)
def test_what_is_no_cell_of_the_space_is_an_error_not_index_minus_one(text: str) -> None:
    with pytest.raises(UserError):
        official_index(text)
    with pytest.raises(UserError):
        official_indices([official_archs()[0], text])


def test_another_order_is_refused_and_named() -> None:
    swapped = list(official_archs())
    swapped[7], swapped[8] = swapped[8], swapped[7]
    with pytest.raises(UserError, match="at index 7"):
        require_official_order(swapped, "file")
    with pytest.raises(UserError, match="3 architectures"):
        require_official_order(swapped[:3], "file")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3nn1nn", "nnn1nn"),  # node 1 is not read
        ("nnnnnn", "3n3nnn"),  # nothing reaches the output
        ("n1n3n3", "1nn33n"),  # node 2 alone does what node 1 alone did
        ("snsnnp", "nsnnnp"),  # a chain of skips is a skip
        ("psnssp", "spnsps"),  # x + P(x) + P(x) either way round: pooling distributes over the sum
    ],
)
def test_equal_expressions_are_one_class(one: str, other: str) -> None:
    assert canonical_form(cell(one).ops) == canonical_form(cell(other).ops)


@pytest.mark.parametrize(("one", "other"), [("3nnsnn", "1nnsnn"), ("ppppps", "pppppp"), ("3nn1nn", "3nn13n")])
def test_dead_edges_excepted_other_operations_are_other_classes(one: str, other: str) -> None:
    same_live = [op for op, live in zip(cell(one).ops, live_edges(cell(one).ops), strict=True) if live] == [
        op for op, live in zip(cell(other).ops, live_edges(cell(other).ops), strict=True) if live
    ]
    assert (canonical_form(cell(one).ops) == canonical_form(cell(other).ops)) == same_live


def test_one_convolution_read_twice_is_not_two_convolutions() -> None:
    twice = canonical_form(cell("3nsnss").ops)  # node 3 = f(x) + f(x)
    two = canonical_form(cell("33nnss").ops)  # node 3 = f(x) + g(x)
    assert twice != two


def test_live_edges() -> None:
    assert live_edges(cell("nnnnnn").ops) == (False,) * 6
    assert live_edges(cell("3nnnnn").ops) == (False,) * 6  # node 1 is not read
    assert live_edges(cell("3nnn3n").ops) == (True, False, False, False, True, False)
    assert live_edges(cell("n3nn3n").ops) == (False,) * 6  # node 1 is zero, node 2 is not read
    assert live_edges(cell("333333").ops) == (True,) * 6


@pytest.mark.slow
def test_shipped_classes_are_those_the_module_works_out() -> None:
    class_of, first = classes()
    assert len(class_of) == SIZE == len(all_cells())
    assert network_classes().tolist() == [class_of[arch] for arch in official_archs()]
    assert len(first) == len(set(class_of.values())) == network_classes().max() + 1
