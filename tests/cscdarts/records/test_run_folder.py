"""What a run folder's readers make of lines that are torn, foreign or without end."""

from pathlib import Path

import pytest

from cscdarts.records import run_folder
from cscdarts.records.run_folder import RunFolder, append_line, read_lines

ODD = [
    "{torn",
    "[1, 2]",
    "null",
    '{"stage": "search", "epoch": 0, "values": [1, 2]}',
    '{"stage": "search", "epoch": "zero", "values": {}}',
    '{"stage": "search", "epoch": null, "values": {}}',
    '{"stage": "search", "epoch": true, "values": {"a": 1}}',
    '{"stage": "search", "values": {"a": 1}}',
    '{"epoch": 0, "values": {"a": 1}}',
    '{"epoch": 1, "alpha": [[0.0]]}',
    "[" * 100_000,
]


@pytest.mark.parametrize("odd", ODD, ids=[line[:45] for line in ODD])
def test_an_odd_line_costs_itself_and_no_other(tmp_path: Path, odd: str) -> None:
    for name in ("metrics.jsonl", "alphas.jsonl"):
        (tmp_path / name).write_text(odd + "\n")
    append_line(tmp_path / "metrics.jsonl", {"stage": "search", "epoch": 2, "values": {"loss": 1.0}})
    append_line(tmp_path / "alphas.jsonl", {"epoch": 2, "alpha": {"cell": [[0.0]]}})
    folder = RunFolder(tmp_path)
    assert [line["epoch"] for line in folder.curves()] == [2]
    assert [line["epoch"] for line in folder.alphas()] == [2]


def test_a_line_without_end_is_passed_over_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "MAX_LINE", 64)
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n{"b": "' + "x" * 1000 + '"}\n{"c": 3}\n')
    assert list(read_lines(path)) == [{"a": 1}, {"c": 3}]
    path.write_text('{"a": 1}\n{"b": "' + "x" * 1000)
    assert list(read_lines(path)) == [{"a": 1}]


def test_the_last_epoch_written_counts_and_values_of_one_epoch_merge(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.record("search", 0, 3, {"loss": 2.0, "error": 9.0})
    folder.record("search", 0, 3, {"loss": 1.0})
    (line,) = folder.curves()
    assert line["values"] == {"loss": 1.0, "error": 9.0}
