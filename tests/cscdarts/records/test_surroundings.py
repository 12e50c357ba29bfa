"""What a run ran on, and where its search did: recorded, and told apart."""

from pathlib import Path

import pytest

from ablations.grid.load import load_grid
from ablations.mirror.updates import read_update
from ablations.run.state import run_state
from cscdarts.records.environment import code_text, describe, stage_environments, surroundings
from cscdarts.records.run_folder import write_json
from tests.support.harness.finished import finish
from tests.support.harness.grids import write_grid


@pytest.mark.parametrize(("size", "processes"), [(None, 1), ("4", 4)])
def test_a_start_records_processes_and_determinism(
    monkeypatch: pytest.MonkeyPatch, size: str | None, processes: int
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    found = describe("cpu", deterministic=False)
    assert found["processes"] == processes
    assert found["deterministic"] is True  # on the CPU, whatever was asked for
    assert describe("cuda:0", deterministic=False)["deterministic"] is False
    assert describe("cuda:0")["deterministic"] is None
    assert [describe(device, None, "auto")["kernels"] for device in ("cpu", "cuda:0")] == ["cpu", "portable"]
    assert [describe("cpu", None, kernels)["kernels"] for kernels in ("portable", "plain", None)] == [
        "portable", "plain", None,
    ]  # fmt: skip


def test_surroundings_are_one_word_each_or_one_for_each_stage() -> None:
    one = {"threads": 2, "processes": 1, "device": "cuda:1", "deterministic": True, "kernels": "plain"}
    assert surroundings({"search": one, "retraining": {**one, "device": "cuda:0"}}) == {
        "threads": "2", "processes": "1", "device": "cuda", "deterministic": "yes", "kernels": "plain",
    }  # fmt: skip
    other = {**one, "threads": 1, "deterministic": False}
    told = surroundings({"search": one, "retraining": other})
    assert (told["threads"], told["deterministic"]) == (
        "2 in search, 1 in retraining",
        "yes in search, no in retraining",
    )
    assert surroundings({"search": {}, "retraining": {"threads": 3}})["threads"] == "3"
    assert set(surroundings({}).values()) == {""}


def test_a_commit_is_told_with_its_changes() -> None:
    assert code_text({"commit": "abc", "dirty": True}) == "abc+dirty"
    assert code_text({"commit": "abc", "dirty": False}) == "abc"
    assert code_text({"commit": None, "dirty": True}) == code_text({}) == ""


def test_the_tracker_knows_where_a_shared_search_was_made(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path / "mine.py", [""]), "smoke")
    (point,) = grid.points
    folder = finish(tmp_path / "runs", "mine", point.config)
    here = {"cpu": "Mine", "threads": 2, "device": "cpu", "processes": 1, "deterministic": True, "commit": "a" * 40}
    write_json(folder.path / "environment.json", here)
    write_json(folder.stage_folder("retrain") / "environment.json", here)
    write_json(folder.stage_folder("search") / "environment.json", {**here, "gpu": "Theirs", "device": "cuda:0"})
    update = read_update(grid, point, folder.path, run_state(point, folder.path, 0.0), "", {}, "")
    assert update is not None
    tags = {name.removeprefix("cscdarts."): value for name, value in update.tags.items()}
    assert (tags["hardware"], tags["search_hardware"]) == ("Mine (2 threads)", "Theirs")
    assert (tags["device"], tags["threads"]) == ("cuda in search, cpu in retraining", "2")
    assert tags["search_code"] == "a" * 40
    assert tags["search"] == folder.stage_folder("search").name
    assert tags["retraining"] == folder.stage_folder("retrain").name


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({}, {"search", "retraining"}),
        ({"search__strategy": "random"}, {"retraining"}),
        ({"runtime__retrain": False}, {"search"}),
    ],
)
def test_only_stages_that_compute_have_surroundings(
    tmp_path: Path, changes: dict[str, object], stages: set[str]
) -> None:
    (point,) = load_grid(write_grid(tmp_path / "mine.py", [""], **changes), "smoke").points
    folder = finish(tmp_path / "runs", "mine", point.config)
    for path in (tmp_path / "runs").glob("*/*"):
        write_json(path / "environment.json", {"threads": 1})
    assert set(stage_environments(folder, point.config)) == stages
    for path in (tmp_path / "runs").glob("*/*/environment.json"):
        path.write_text("{torn")
    assert stage_environments(folder, point.config) == {}
