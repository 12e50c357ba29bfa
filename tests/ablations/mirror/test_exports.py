"""`cscdarts runs export`: what other programs read is what the run folder holds, and another export replaces it."""

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ablations.commands.runs import runs as command
from ablations.drive.driver import Driver
from ablations.mirror.exports.content import content_of
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_json
from tests.support.harness.mirrors import driver_of, work

SECRET = "planted-5f2c9a"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Three runs: two done, one failed."""
    monkeypatch.chdir(tmp_path)
    driver = driver_of(tmp_path, ["", "", "raise"])
    work(driver, [0, 1, 2])
    return driver


def _export(*words: str) -> str:
    result = CliRunner().invoke(command, ["export", *words], catch_exceptions=False, standalone_mode=False)
    return result.output


def _curves(driver: Driver, index: int) -> dict[tuple[str, int], float]:
    lines = RunFolder(driver.path(driver.grid.points[index])).curves()
    return {
        (f"{line['stage']}/{name}", line["epoch"]): value for line in lines for name, value in line["values"].items()
    }


def _result(driver: Driver, index: int) -> dict[str, float]:
    record: dict[str, Any] = read_json(RunFolder(driver.path(driver.grid.points[index])).file("result.json")) or {}
    values: dict[str, float] = record["values"]
    return values


def test_csv_holds_what_the_folders_hold(driver: Driver, tmp_path: Path) -> None:
    assert "3 runs in out" in _export("mine", "--to", "csv", "--out", "out")
    with (tmp_path / "out" / "runs.csv").open(newline="") as file:
        rows = {row["hash"]: row for row in csv.DictReader(file)}
    with (tmp_path / "out" / "curves.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    points = driver.grid.points
    assert [rows[point.hash]["status"] for point in points] == ["done", "done", "failed"]
    for index in (0, 1):
        key = points[index].hash
        assert float(rows[key]["test_error_pct"]) == _result(driver, index)["test_error_pct"]
        assert rows[key]["supernet.split_ratio"] == "1/2"
        curves = {
            (f"{row['stage']}/{row['metric']}", int(row["epoch"])): float(row["value"])
            for row in lines
            if row["hash"] == key
        }
        assert curves == _curves(driver, index)
    assert rows[points[2].hash]["test_error_pct"] == ""


def test_tensorboard_reads_curves_results_settings_and_the_cell(driver: Driver, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    point = driver.grid.points[0]
    _export(point.hash[:8], "--to", "tensorboard", "--out", "out")
    assert [path.name for path in (tmp_path / "out" / "mine").iterdir()] == [point.hash]
    read = EventAccumulator(str(tmp_path / "out" / "mine" / point.hash))
    read.Reload()
    tags = read.Tags()
    curves = {
        (name, event.step): event.value
        for name in tags["scalars"]
        if not name.startswith("result/")
        for event in read.Scalars(name)
    }
    assert curves == pytest.approx(_curves(driver, 0), rel=1e-6)
    (line,) = (one for one in RunFolder(driver.path(point)).curves() if (one["stage"], one["epoch"]) == ("search", 1))
    assert read.Scalars("search/search_train_loss")[1].wall_time == pytest.approx(line["time"])
    assert read.Scalars("result/test_error_pct")[0].value == pytest.approx(_result(driver, 0)["test_error_pct"])
    assert tags["images"] == ["cell"]
    assert {"description/text_summary", "cell/text_summary"} <= set(tags["tensors"])
    assert "_hparams_/session_start_info" in read.summary_metadata


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed: pip install wandb")
def test_wandb_writes_offline_runs(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("WANDB_MODE", "online")
    point = driver.grid.points[0]
    _export(point.hash, "--to", "wandb", "--out", "out")
    (made,) = (tmp_path / "out" / "wandb").iterdir()
    assert made.name.startswith("offline-run-")
    assert made.name.endswith(point.hash)
    records = _wandb_records(made / f"run-{point.hash}.wandb")
    curves: dict[tuple[str, int], float] = {}
    for row in (one["history"] for one in records if "history" in one):
        for name, value in row.items():
            stage, _, metric = name.partition("/")
            if metric and stage != "cell" and metric != "epoch" and isinstance(value, int | float):
                curves[name, int(row[f"{stage}/epoch"])] = value
    assert curves == _curves(driver, 0)
    summary: dict[str, Any] = {}
    for one in records:
        summary |= one.get("summary", {})
    assert summary["test_error_pct"] == _result(driver, 0)["test_error_pct"]
    assert list(made.rglob("*.png")), "the cell"
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    monkeypatch.setenv("WANDB_RUN_ID", "one")
    with pytest.raises(UserError, match="a run of its own"):
        _export("mine", "--to", "wandb", "--out", "out")
    assert made.is_dir()


def _wandb_records(path: Path) -> list[dict[str, dict[str, Any]]]:
    """History and summary of an offline file: LevelDB's log format (blocks of 32 KiB, a header of 7 bytes for each
    piece) around protobuf records."""
    import json

    from wandb.proto import wandb_internal_pb2

    data, place, whole, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        piece, place = data[place + 7 : place + 7 + length], place + 7 + length
        whole = piece if kind in (1, 2) else whole + piece
        if kind in (1, 4):
            record = wandb_internal_pb2.Record.FromString(whole)
            told: dict[str, dict[str, Any]] = {}
            if record.HasField("history"):
                told["history"] = {
                    i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item
                }
            if record.HasField("summary"):
                told["summary"] = {
                    i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update
                }
            found.append(told)
    return found


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_an_export_replaces_one_of_its_kind_and_nothing_else(driver: Driver, tmp_path: Path, kind: str) -> None:
    _export("mine", "--to", kind, "--out", "out")
    before = {path.relative_to(tmp_path / "out").parts[:2] for path in (tmp_path / "out").rglob("*")}
    _export("mine", "--to", kind, "--out", "out")
    after = {path.relative_to(tmp_path / "out").parts[:2] for path in (tmp_path / "out").rglob("*")}
    assert after == before
    other = "csv" if kind == "tensorboard" else "tensorboard"
    with pytest.raises(UserError, match=f"an export to {kind} lies there"):
        _export("mine", "--to", other, "--out", "out")
    mine = tmp_path / "kept"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="something else lies there"):
        _export("mine", "--to", kind, "--out", "kept")
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_exported_is_said(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="tensorboard, wandb, csv"):
        _export("mine", "--to", "excel", "--out", "out")
    with pytest.raises(UserError, match="a grid of runs"):
        _export("other", "--to", "csv", "--out", "out")
    with monkeypatch.context() as patch:
        patch.setattr("cscdarts.extras._found", lambda name: False)
        for kind in ("tensorboard", "wandb"):
            with pytest.raises(UserError, match=rf"pip install 'cscdarts\[{kind}\]'"):
                _export("mine", "--to", kind, "--out", "out")
    torn = RunFolder(driver.path(driver.grid.points[1])).file("result.json")
    torn.write_text("{")
    with pytest.raises(UserError, match=r"result\.json"):
        _export("mine", "--to", "csv", "--out", "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_run_tells_why(driver: Driver) -> None:
    content = content_of(driver.path(driver.grid.points[2]))
    assert content.status == "failed"
    assert "the loss went astray" in content.note
