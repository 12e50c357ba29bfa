"""Honest under lack: the report comes whatever is missing, says so where it stands, and compares only what may be
compared."""

from pathlib import Path

import pytest

from reports.build import Report, build_report
from reports.read.comparison import Selected, differences, selected_search
from reports.read.settings import Study, studies
from reports.read.store import load
from reports.tables.table import TableCell
from tests.support.report_store import SyntheticStore, tiny

PLAIN = {"supernet__split_ratio": "1", "supernet__identity": "none"}
COST = {"peak_memory_mib": 300.0, "search_time_s": 20.0}


def _report(
    made: SyntheticStore, tmp_path: Path, extra: dict[tuple[str, str], dict[str, list[str]]] | None = None
) -> Report:
    report = build_report(["quickstart"], tmp_path / "report", uri=made.finish(extra), formats=("csv", "html", "md"))
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<section") >= 8
    for finding in report.findings:
        assert finding.title in page
    return report


def _cell(report: Report, number: str, key: str, row: int = 0) -> TableCell:
    table = report.table(number)
    place = next(k for k, column in enumerate(table.columns) if column.key == key)
    return table.rows[row].cells[place]


def _titles(report: Report) -> set[str]:
    return {finding.title for finding in report.findings}


def _notes(report: Report, cell: TableCell) -> str:
    texts = dict(report.table("T3").notes)
    return "; ".join(texts[mark] for mark in cell.marks.split(",") if mark)


def test_one_seed_has_no_spread_no_interval_and_no_star(store: SyntheticStore, tmp_path: Path) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0})
    store.add(tiny(0, **PLAIN), {"test_error_pct": 9.0})
    report = _report(store, tmp_path)
    for row in (0, 1):
        error = _cell(report, "T3", "test_error_pct", row)
        assert (error.spread, error.n) == (None, 1)
        assert "±" not in error.text
    assert _cell(report, "T3", "difference_pct", 0).text == "+6.00"
    assert _cell(report, "T3", "interval_95", 0).text == "–"
    assert "One seed" in _titles(report)


def test_all_failed(store: SyntheticStore, tmp_path: Path) -> None:
    for seed in range(2):
        store.add(tiny(seed), status="failed", tags={"cscdarts.failure": "CUDA out of memory"})
    report = _report(store, tmp_path)
    assert {"Nothing finished", "Failed runs"} <= _titles(report)
    error = _cell(report, "T3", "test_error_pct")
    assert (error.text, error.value, error.n) == ("–", None, 0)
    assert _notes(report, error) == "2 of 2 runs failed, see T6"
    missing = report.table("T6c")
    assert [row.cells[4].text for row in missing.rows] == ["CUDA out of memory"] * 2
    assert "CUDA out of memory" in (tmp_path / "report" / "runs" / f"{tiny(0).hash}.html").read_text()
    assert {text.split(" ")[0] for text in report.lacking} == {"F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9"}


def test_runs_that_stood_still_are_said(store: SyntheticStore, tmp_path: Path) -> None:
    note = "for 5 epochs no architecture parameter has moved by more than 1e-06 in one, up to epoch 9"
    store.add(tiny(0), {"test_error_pct": 3.0}, tags={"cscdarts.notes": f"{note}; another"})
    store.add(tiny(1), {"test_error_pct": 3.0})
    report = _report(store, tmp_path)
    (found,) = (finding for finding in report.findings if finding.title == "Runs that stood still")
    assert found.text.startswith("1 of 2 runs noted")
    assert found.text.endswith(f"The first: {note}.")
    assert f'id="{found.link.removeprefix("#")}"' in (tmp_path / "report" / "index.html").read_text()


def test_nan_is_left_out_and_said(store: SyntheticStore, tmp_path: Path) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0})
    store.add(tiny(1), {"test_error_pct": float("nan")})
    store.add(tiny(2), {"test_error_pct": 5.0})
    report = _report(store, tmp_path)
    error = _cell(report, "T3", "test_error_pct")
    assert (error.value, error.n) == (4.0, 2)
    assert "1 of 3 finished runs has no finite test error" in _notes(report, error)
    assert "Numbers that are none" in _titles(report)
    assert report.table("T6c").rows[0].cells[4].text == "recorded as NaN or infinite"


def test_half_a_grid_is_counted_and_listed(store: SyntheticStore, tmp_path: Path) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0})
    store.add(tiny(1), status="running")
    report = _report(store, tmp_path, {("quickstart", "reduced"): {"e" * 16: ["pcdarts"]}})
    assert {"Half a grid", "Unfinished runs"} <= _titles(report)
    rows = {row.cells[0].text: [cell.text for cell in row.cells] for row in report.table("T6c").rows}
    assert rows["e" * 16][1:4] == ["not in the store", "–", "PC-DARTS"]
    assert rows[tiny(1).hash][1] == "not finished (running)"
    assert "1 of 3" in (tmp_path / "report" / "index.html").read_text()


def test_a_run_without_parameters_stands_alone(store: SyntheticStore, tmp_path: Path) -> None:
    for seed in range(2):
        store.add(tiny(seed), {"test_error_pct": 3.0})
    store.add(tiny(2), {"test_error_pct": 50.0}, params=False)
    report = _report(store, tmp_path)
    settings = [setting for study in report.studies for setting in study.settings]
    assert sorted(len(setting.runs) for setting in settings) == [1, 2]


def test_an_empty_grid(store: SyntheticStore, tmp_path: Path) -> None:
    store.experiment("quickstart")
    report = _report(store, tmp_path)
    assert "No runs" in _titles(report)
    assert not report.table("T3").rows
    assert report.table("T1").rows


def _two_settings(made: SyntheticStore, first: dict[str, str], second: dict[str, str]) -> None:
    for seed in range(3):
        made.add(tiny(seed), {"test_error_pct": 3.0 + seed, **COST}, tags=first)
        made.add(tiny(seed, **PLAIN), {"test_error_pct": 4.0 + seed, **COST}, tags=second)


def _only(report: Report) -> Study:
    (study,) = report.studies
    return study


def test_runs_of_different_code_are_not_paired(store: SyntheticStore, tmp_path: Path) -> None:
    _two_settings(store, {"cscdarts.commit": "a" * 40}, {"cscdarts.commit": "b" * 40})
    report = _report(store, tmp_path)
    (difference,) = differences(_only(report)).values()
    assert (difference.n, difference.mean) == (0, None)
    cell = _cell(report, "T3", "difference_pct", 0)
    assert cell.text == "–"
    assert "different code versions are not compared" in _notes(report, cell)
    ours = [row.cells[1].text for row in report.table("T4").rows[-2:]]
    ratios = dict(zip(ours, (_cell(report, "T4", "memory_ratio", row).text for row in (-2, -1)), strict=True))
    assert ratios == {"1": "1.00", "1/2": "–"}
    assert "Several code versions" in _titles(report)


def test_a_changed_tree_is_other_code_than_its_commit(store: SyntheticStore, tmp_path: Path) -> None:
    _two_settings(store, {"cscdarts.dirty": "False"}, {"cscdarts.dirty": "True"})
    report = _report(store, tmp_path)
    (difference,) = differences(_only(report)).values()
    assert difference.n == 0
    assert "Uncommitted changes" in _titles(report)


def test_memory_and_time_of_two_machines_are_neither_averaged_nor_compared(
    store: SyntheticStore,
    tmp_path: Path,
) -> None:
    for seed in range(2):
        machine = {"cscdarts.hardware": f"machine {seed}"}
        store.add(tiny(seed), {"test_error_pct": 3.0, "peak_memory_mib": 100.0 + 900 * seed}, tags=machine)
    store.add(
        tiny(0, **PLAIN), {"test_error_pct": 4.0, "peak_memory_mib": 200.0}, tags={"cscdarts.hardware": "machine 0"}
    )
    report = _report(store, tmp_path)
    rows = {row.cells[1].text: row for row in report.table("T3").rows}
    place = next(k for k, column in enumerate(report.table("T3").columns) if column.key == "peak_memory_mib")
    cell = rows["1/2"].cells[place]
    assert (cell.text, cell.value) == ("–", None)
    assert "several machines" in _notes(report, cell)
    t4 = report.table("T4")
    hardware, ratio = (
        next(k for k, c in enumerate(t4.columns) if c.key == key) for key in ("hardware", "memory_ratio")
    )
    found = {(row.cells[1].text, row.cells[hardware].text): row.cells[ratio].text for row in t4.blocks[1].rows}
    assert found == {("1", "machine 0"): "1.00", ("1/2", "machine 0"): "0.50", ("1/2", "machine 1"): "–"}
    assert "Several machines" in _titles(report)


@pytest.mark.parametrize("key", ["cscdarts.data", "cscdarts.scale"])
def test_other_data_or_scale_is_another_study(store: SyntheticStore, tmp_path: Path, key: str) -> None:
    _two_settings(store, {}, {key: "other"})
    assert len(_report(store, tmp_path).studies) == 2


def test_overrides_of_a_recipe_are_said(store: SyntheticStore, tmp_path: Path) -> None:
    import json

    store.add(tiny(0), {"test_error_pct": 3.0})
    uri = store.finish()
    for path in store.folder.rglob("grid.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "overrides": {"search.epochs": "1"}}))
    report = build_report(["quickstart"], tmp_path / "report", uri=uri, formats=("md",))
    assert any("search.epochs=1" in finding.text for finding in report.findings)


@pytest.mark.parametrize(
    ("derived", "chosen"),
    [((9.0, 7.0, 8.0), 1), ((9.0, None, 7.0), 0), ((None, None, None), 0)],
    ids=["by the derived cell", "one run lacks it", "none has it"],
)
def test_validation_chooses_between_seeds_by_the_derived_cell(
    store: SyntheticStore, derived: tuple[float | None, ...], chosen: int
) -> None:
    """The supernet's error decides only where a finished run has no error of its derived cell; the test error never
    does."""
    for seed, error in enumerate(derived):
        values = {"test_error_pct": 3.0 - seed, "supernet_valid_error_pct": 5.0 + seed}
        store.add(tiny(seed), values if error is None else {**values, "derived_valid_error_pct": error})
    ((setting,),) = (study.settings for study in studies(load(["quickstart"], store.finish())))
    assert selected_search(setting) == Selected(tiny(chosen).hash, 3.0 - chosen, 1)
