"""Published numbers: the packaged files are the researched ones, blanks stay blank, conflicts stay visible."""

from pathlib import Path

import pytest

from benchmarks.published import rows as published
from benchmarks.published.rows import find_published, primary_rows, published_rows
from cscdarts.errors import UserError


@pytest.mark.parametrize("name", ["cifar", "imagenet", "nasbench201"])
def test_packaged_files_equal_the_shared_ones(shared: Path, name: str) -> None:
    packaged = Path(published.__file__).parent / f"{name}.csv"
    assert packaged.read_bytes() == (shared / "published" / f"{name}.csv").read_bytes()


def test_counts_and_primary_rows() -> None:
    assert {name: len(published_rows(name)) for name in ("cifar", "imagenet", "nasbench201")} == {
        "cifar": 62,
        "imagenet": 37,
        "nasbench201": 27,
    }
    assert len(primary_rows("cifar", "cifar10")) == 22
    assert len(primary_rows("cifar", "cifar100")) == 20


def test_the_paper_s_own_row_holds_the_abstract_and_blanks() -> None:
    row = find_published("cifar", "csc", "cifar10")
    assert row is not None
    assert row.numbers == {
        "test_error_pct": 2.52,
        "test_error_std": None,
        "params_m": None,
        "search_cost_gpu_days": None,
    }
    hundred = find_published("cifar", "csc", "cifar100")
    assert hundred is not None
    assert hundred.numbers["test_error_pct"] == 17.25
    assert find_published("cifar", "random", "cifar10") is None


def test_conflicts_and_secondary_sources_are_marked() -> None:
    row = find_published("cifar", "pcdarts", "cifar100")
    assert row is not None
    assert row.conflict
    assert row.secondary
    assert "17.11" in row.cross_check


def test_every_number_has_a_source() -> None:
    for name in ("cifar", "imagenet", "nasbench201", "memory"):
        for row in published_rows(name):
            if any(value is not None for value in row.numbers.values()):
                assert row.source, f"{name}: {row.method}"


def test_a_broken_row_names_the_line() -> None:
    with pytest.raises(UserError, match="line 7, test_error_pct: 'x' is not valid"):
        published._row("cifar", 7, {"method": "m", "primary": "yes", "note": "", "source": "", "test_error_pct": "x"})
