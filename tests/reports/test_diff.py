"""Two reports or two commits compared: what moved, against the seeds' noise; and the commands around it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ablations.commands.report import report as command
from ablations.commands.reproduce import TARGETS
from ablations.grid.file import grid_names
from cscdarts.errors import UserError
from reports.build import Report, build_report
from reports.compare import diff_json, diff_table, write_diff
from reports.diff.lines import APART, lines
from reports.diff.sides import Side, side
from reports.tables.table import ReportTable
from tests.support.report_store import SyntheticStore, tiny

pytestmark = pytest.mark.xdist_group("report")  # reads the report that its tests make once

NEW = {"cscdarts.commit": "fedcba9876543210fedcba9876543210fedcba98"}


def _entry(name: str, scale: str, *errors: float, machine: str = "one", **values: float) -> dict[str, Any]:
    """One setting as a report's JSON has it."""
    runs = [
        {"hash": f"{scale}{seed}", "seed": seed, "code": "0123456", "hardware": machine,
         "values": {"test_error_pct": error, **values}}
        for seed, error in enumerate(errors)
    ]  # fmt: skip
    return {
        "anchor": f"s-{name}-{scale}", "data": "digits", "scale": scale, "block": f"digits · scale {scale}",
        "name": name, "runs": runs,
    }  # fmt: skip


def _side(name: str, *entries: dict[str, Any]) -> Side:
    return Side(name, {entry["anchor"]: entry for entry in entries})


def _words(*sides: Side) -> dict[tuple[str, str, str], list[str]]:
    return {(line.block, line.setting, line.metric): [step.word for step in line.steps] for line in lines(sides)}


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
    table = diff_table([side(str(two[0]), ()), side(str(two[1]), ())])
    rows = _rows(table)
    # sd 1 on both sides, so half a point is half a standard deviation
    assert rows["test error [%]"] == ["4.00 ± 1.00", "4.50 ± 1.00", "+0.50", "−1.77 to +2.77", "+0.50", "within noise"]
    assert rows["parameters [M]"][2:] == ["+0.500", "+0.500 to +0.500", "–", "moved"]
    assert rows["peak memory of the search [MiB]"][-1] == "not comparable: several machines"
    assert "MACs [M]" not in rows
    assert "0123456 against fedcba9" in table.caption
    assert "1 cell is the same" in table.caption


def test_the_same_report_moves_nothing(quick_report: Report) -> None:
    one = side(str(quick_report.folder), ())
    assert diff_table([one, one]).rows == []


def test_settings_of_one_side_only_are_listed(two: tuple[Path, Path], quick_report: Report) -> None:
    table = diff_table([side(str(two[0]), ()), side(str(quick_report.folder), ())])
    words = [row.cells[-1].text for row in table.rows if row.cells[1].text == "test error [%]"]
    assert words.count("only in B") == 15


def test_two_commits_of_one_store(tmp_path: Path, empty_store: Path) -> None:
    store = SyntheticStore(tmp_path, empty_store)
    for seed in range(2):
        store.add(tiny(seed), {"test_error_pct": 3.0 + seed})
        store.add(tiny(seed + 2), {"test_error_pct": 6.0 + seed}, tags=NEW)
    uri = store.finish()
    table = diff_table([side("0123456", ["quickstart"], uri), side("fedcba9", ["quickstart"], uri)])
    assert _rows(table)["test error [%]"][2] == "+3.00"
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


def test_three_reports_cell_by_cell() -> None:
    """Each against the first that has the cell; errors 3, 4, 5 have a standard deviation of 1."""
    a = _side("a", _entry("both", "reduced", 3, 4, 5), _entry("first", "reduced", 1))
    b = _side("b", _entry("both", "reduced", 3, 4, 5), _entry("late", "reduced", 3, 4, 5))
    c = _side("c", _entry("both", "reduced", 13, 14, 15), _entry("late", "reduced", 3.5, 4.5, 5.5))
    words = _words(a, b, c)
    block = "digits · scale reduced"
    assert words[block, "both", "test_error_pct"] == ["", "equal", "moved"]
    assert words[block, "first", "test_error_pct"] == ["only in A", "", ""]
    assert words[block, "late", "test_error_pct"] == ["not in A", "", "within noise"]
    step = next(line for line in lines([a, b, c]) if line.setting == "both").steps[2]
    assert (step.moved, step.in_sds) == (10.0, 10.0)
    # Welch's interval of two samples of three with sd 1: 10 ± t(0.975, 4) sqrt(2 / 3)
    assert step.interval is not None
    assert step.interval.high == pytest.approx(10 + 2.7764 * (2 / 3) ** 0.5, abs=1e-3)
    keys = [column.key for column in diff_table([a, b, c]).columns]
    assert keys[:5] == ["setting", "metric", "a", "b", "c"]
    assert {"b_moved", "b_word", "c_moved", "c_word"} <= set(keys)


def test_two_scales_stand_side_by_side_and_are_never_compared() -> None:
    small, large = _entry("csc", "smoke", 30, 31), _entry("csc", "reduced", 3, 4)
    words = _words(_side("a", small), _side("b", large))
    assert words == {(APART, "csc", "test_error_pct"): ["", "not compared: scale reduced, A has smoke"]}
    (row,) = diff_table([_side("a", small), _side("b", large)]).rows
    assert [cell.text for cell in row.cells[2:6]] == [
        "30.50 ± 0.71 (digits, smoke)",
        "3.50 ± 0.71 (digits, reduced)",
        "–",
        "–",
    ]
    # A side that holds both scales is compared at the one that it shares, and the other one is not joined to anything.
    words = _words(_side("a", small, large), _side("b", large))
    assert words["digits · scale reduced", "csc", "test_error_pct"] == ["", "equal"]
    assert words["digits · scale smoke", "csc", "test_error_pct"] == ["only in A", ""]


def test_times_of_two_machines_are_not_compared() -> None:
    one, other = (_entry("csc", "reduced", 3, 4, machine=name, search_time_s=9.0 + k) for k, name in enumerate("xy"))
    words = _words(_side("a", one), _side("b", other))
    assert words["digits · scale reduced", "csc", "search_time_s"] == ["", "not comparable: several machines"]
    assert words["digits · scale reduced", "csc", "test_error_pct"] == ["", "equal"]


def test_one_seed_tells_no_noise() -> None:
    words = _words(_side("a", _entry("csc", "reduced", 3)), _side("b", _entry("csc", "reduced", 4)))
    assert words["digits · scale reduced", "csc", "test_error_pct"] == ["", "differs; one seed tells no noise"]


def test_the_page_and_the_json_hold_every_cell(two: tuple[Path, Path], tmp_path: Path) -> None:
    sides = [side(str(folder), ()) for folder in two]
    page = write_diff(sides, tmp_path / "out").read_text(encoding="utf-8")
    for text in ("Reports side by side", "within noise", "equal", "not comparable: several machines", "scale"):
        assert text in page
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".cscdarts-report", "diff.csv", "diff.json", "diff.md", "diff.tex", "index.html"]
    content = json.loads((tmp_path / "out" / "diff.json").read_text(encoding="utf-8"))
    assert content == json.loads(diff_json(sides))
    words = {cell["metric"]: cell["steps"]["B"]["word"] for cell in content["cells"]}
    assert words["test_error_pct"] == "within noise"
    assert words["macs_m"] == "equal"
    assert [one["hardware"] for one in content["sides"]] == [["old"], ["new"]]


def test_a_page_or_a_table_stands_for_its_report(two: tuple[Path, Path]) -> None:
    table = next((two[0] / "tables").glob("*.csv"))
    assert side(str(table), ()).settings == side(str(two[0]), ()).settings


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "it lacks format, settings"),
        ({"format": 1, "settings": [{"anchor": "s", "block": "b", "runs": []}]}, r"it lacks settings\[0\].name"),
        (
            {"format": 1, "settings": [{"anchor": "s", "block": "b", "name": "n", "runs": [{"hash": "h", "seed": 0}]}]},
            r"it lacks settings\[0\].runs\[0\].code, settings\[0\].runs\[0\].hardware, settings\[0\].runs\[0\].values",
        ),
        ({"format": 1, "settings": 3}, "it has other values at settings: Input should be a valid list"),
        ({"format": 7, "settings": []}, "its format is 7, and 1 is read here"),
        ([1, 2], "it holds list in place of an object"),
    ],
)  # fmt: skip
def test_a_json_of_another_form_is_told_key_by_key(change: Any, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(change), encoding="utf-8")
    for name in (tmp_path, tmp_path / "report.json"):
        with pytest.raises(UserError, match=sentence):
            side(str(name), ())


def test_one_report_alone_is_no_comparison(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["diff", str(tmp_path)])
    assert "2 to 9 reports" in str(done.exception)
