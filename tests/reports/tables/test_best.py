"""What competes in a table: the best number of a block in bold, interquartile means and the probability of
improvement."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ablations.cli import cscdarts
from cscdarts.errors import UserError
from reports.read.settings import studies
from reports.read.store import load
from reports.render.latex import table_latex
from reports.tables.ablation import ablation_table
from reports.tables.table import Block, Column, Provenance, ReportTable, Row, TableCell, best_of, number_cell
from tests.support.report_store import SyntheticStore, tiny

PLAIN = {"supernet__split_ratio": "1", "supernet__identity": "none"}


def block(*numbers: tuple[float | None, Provenance], title: str = "one") -> Block:
    return Block(title, tuple(Row((number_cell(value, 2, source, spread=0.1),)) for value, source in numbers))


def best(found: Block, better: str) -> list[str]:
    return [cell.text for cell in best_of(found, 0, better)]  # type: ignore[arg-type]


def test_the_best_of_a_block_ours_and_published_apart() -> None:
    mixed = block((3.0, "ours"), (2.5, "ours"), (2.0, "paper"), (1.9, "paper"), (None, "ours"))
    assert best(mixed, "lower") == ["2.50 ± 0.10", "1.90 ± 0.10"]
    assert best(mixed, "higher") == ["3.00 ± 0.10", "2.00 ± 0.10"]
    assert best(mixed, "none") == []


def test_numbers_that_print_alike_are_best_together_and_one_alone_competes_with_nobody() -> None:
    assert best(block((2.501, "ours"), (2.499, "ours"), (3.0, "ours")), "lower") == ["2.50 ± 0.10"] * 2
    assert best(block((2.501, "ours"), (2.499, "ours")), "lower") == []
    assert best(block((2.5, "ours"), (2.0, "paper")), "lower") == []
    assert best(block(), "lower") == []


def test_latex_sets_it_in_bold_where_that_is_asked_for_and_says_so() -> None:
    column = Column("test_error_pct", "test error", "%", source="ours", better="lower")
    blocks = (block((3.0, "ours"), (2.5, "ours")), block((7.0, "ours"), (8.0, "ours"), title="two"))
    table = ReportTable("T0", "t0", "Title", "Caption.", (column,), blocks)
    plain, bold = table_latex(table), table_latex(table, bold_best=True)
    marked = [line for line in bold.splitlines() if line.startswith(r"\textbf{")]
    assert marked == [r"\textbf{2.50 $\pm$ 0.10} \\", r"\textbf{7.00 $\pm$ 0.10} \\"]
    assert "Bold: the best number of each block" in bold
    assert "Bold:" not in plain
    assert bold.replace(r"\textbf{2.50 $\pm$ 0.10}", r"2.50 $\pm$ 0.10").count(r"\textbf{7") == 1
    assert [line for line in plain.splitlines() if "2.50" in line] == [r"2.50 $\pm$ 0.10 \\"]
    lone = ReportTable("T0", "t0", "Title", "Caption.", (column,), (block((3.0, "ours")),))
    assert table_latex(lone, bold_best=True) == table_latex(lone)


def test_the_option_needs_a_latex_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--bold-best.*Add tex to --formats"):
        CliRunner().invoke(
            cscdarts, ["report", "quickstart", "--bold-best", "--formats", "csv"], catch_exceptions=False
        )


def row(made: SyntheticStore) -> list[dict[str, TableCell]]:
    found = studies(load(["quickstart"], made.finish()))
    table = ablation_table(found)
    assert "Agarwal" in table.caption or all(column.key != "p_improvement" for column in table.columns)
    return [dict(zip((c.key for c in table.columns), one.cells, strict=True)) for one in table.rows]


def test_interquartile_mean_and_probability_of_improvement_from_five_seeds_on(store: SyntheticStore) -> None:
    for seed, error in enumerate((10.0, 4.0, 5.0, 6.0, 1.0)):
        store.add(tiny(seed), {"test_error_pct": error})
        store.add(tiny(seed, **PLAIN), {"test_error_pct": error + 1.0})
    plain, default = row(store)
    assert default["iqm_test_error_pct"].text == "5.00"  # of 4, 5 and 6
    assert default["p_improvement"].value is None
    assert plain["iqm_test_error_pct"].value == pytest.approx(6.0)

    ours, theirs = (2.0, 5.0, 6.0, 7.0, 11.0), (1.0, 4.0, 5.0, 6.0, 10.0)
    counted = sum((x < y) + 0.5 * (x == y) for x in ours for y in theirs) / 25
    assert plain["p_improvement"].value == pytest.approx(counted)


def test_below_five_seeds_the_columns_are_not_there(store: SyntheticStore) -> None:
    for seed in range(4):
        store.add(tiny(seed), {"test_error_pct": 1.0 + seed})
    assert "iqm_test_error_pct" not in row(store)[0]
