"""Two reports or two commits compared: what moved, against the seeds' noise; and the commands around it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ablations.commands.report import report as command
from ablations.commands.reproduce import TARGETS
from ablations.grid.file import grid_names
from cscdarts.errors import UserError
from reports.build import Report, build_report
from reports.diff import diff_table, side
from reports.tables.table import ReportTable
from tests.support.report_store import SyntheticStore, tiny

pytestmark = pytest.mark.xdist_group("report")  # reads the report that its tests make once

NEW = {"cscdarts.commit": "fedcba9876543210fedcba9876543210fedcba98"}


def _rows(table: ReportTable) -> dict[str, list[str]]:
    return {row.cells[1].text: [cell.text for cell in row.cells[2:]] for row in table.rows}


@pytest.fixture
def two(tmp_path: Path, empty_store: Path) -> tuple[Path, Path]:
    """Two reports of one setting: the error moves within noise, the parameters move for sure, memory on other
    machines."""
    made: list[Path] = []
    for name, shift, params, machine in (("a", 0.0, 1.0, "old"), ("b", 0.5, 1.5, "new")):
        folder = tmp_path / f"store-{name}"
        folder.mkdir()
        store = SyntheticStore(folder, empty_store)
        for seed, error in enumerate((3.0, 4.0, 5.0)):
            values = {"test_error_pct": error + shift, "params_m": params, "peak_memory_mib": 100.0 * (1 + len(made))}
            values |= {"macs_m": 7.0}
            tags = {"cscdarts.hardware": machine, **(NEW if name == "b" else {})}
            store.add(tiny(seed), values, tags=tags)
        made.append(build_report(["quickstart"], tmp_path / name, uri=store.finish(), formats=("csv",)).folder)
    return made[0], made[1]


def test_what_moved_against_noise(two: tuple[Path, Path]) -> None:
    table = diff_table(side(str(two[0]), ()), side(str(two[1]), ()))
    rows = _rows(table)
    # sd 1 on both sides, so half a point is half a standard deviation
    assert rows["test error"] == ["4.00 ± 1.00", "4.50 ± 1.00", "+0.50", "−1.77 to +2.77", "+0.50", "within noise"]
    assert rows["parameters"][2:] == ["+0.500", "+0.500 to +0.500", "–", "moved"]
    assert rows["peak memory of the search"][-1] == "not comparable: several machines"
    assert "MACs" not in rows
    assert "0123456 against fedcba9" in table.caption
    assert "1 cells are the same" in table.caption


def test_the_same_report_moves_nothing(quick_report: Report) -> None:
    one = side(str(quick_report.folder), ())
    assert diff_table(one, one).rows == []


def test_settings_of_one_side_only_are_listed(two: tuple[Path, Path], quick_report: Report) -> None:
    table = diff_table(side(str(two[0]), ()), side(str(quick_report.folder), ()))
    words = [row.cells[-1].text for row in table.rows if row.cells[1].text == "–"]
    assert words.count("only in B") == 15


def test_two_commits_of_one_store(tmp_path: Path, empty_store: Path) -> None:
    store = SyntheticStore(tmp_path, empty_store)
    for seed in range(2):
        store.add(tiny(seed), {"test_error_pct": 3.0 + seed})
        store.add(tiny(seed + 2), {"test_error_pct": 6.0 + seed}, tags=NEW)
    uri = store.finish()
    table = diff_table(side("0123456", ["quickstart"], uri), side("fedcba9", ["quickstart"], uri))
    assert _rows(table)["test error"][2] == "+3.00"
    with pytest.raises(UserError, match="a commit with finished runs"):
        side("abcdef0", ["quickstart"], uri)


@pytest.mark.parametrize(("name", "sentence"), [("nowhere", "a report's folder, or a commit"), ("0123456", "--grid")])
def test_bad_sides_are_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        side(name, ())


def test_command_builds_and_prints(quick: SyntheticStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", quick.uri)
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "report"
    done = CliRunner().invoke(command, ["quickstart", "--out", str(out), "--formats", "csv,html"])
    assert done.exit_code == 0, done.output
    assert "Ablation: digits · scale reduced" in done.output
    assert "3.35 ± 0.15 3 default" in done.output
    assert max(len(line) for line in done.output.splitlines() if "±" in line) <= 80
    assert f"page:   {out / 'index.html'}" in done.output


def test_command_compares_and_writes(two: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "moved.csv"
    done = CliRunner().invoke(command, ["diff", str(two[0]), str(two[1]), "--out", str(target)])
    assert done.exit_code == 0, done.output
    assert "within noise" in done.output
    assert target.read_text().startswith("block,setting,metric,a,a_sd,a_n,b,b_sd,b_n,moved,")
    done = CliRunner().invoke(command, ["diff", str(two[0]), str(two[1]), "--out", "x.docx"])
    assert isinstance(done.exception, UserError)


def test_reproduce_knows_only_grids_that_exist() -> None:
    assert {grid for target in TARGETS.values() for grid in target.grids} <= set(grid_names())
