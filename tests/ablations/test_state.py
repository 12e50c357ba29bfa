"""A run's state from its folder and the standing of its jobs, SLURM's words among them: every cause has its name."""

import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.load import Point, load_grid
from ablations.run.state import RunState, run_state
from cscdarts.records.run_folder import RunFolder
from slurm.backends.slurm.scheduler import JobState
from slurm.backends.slurm.words import translate
from slurm.jobs import Cause, Phase, SubmittedJob
from slurm.lock import this_process

NOW = 1_000_000.0
#: The least that each output holds.
CONTENTS: dict[str, dict[str, Any]] = {
    "search": {"values": {}}, "genotype": {"text": "|a~0|"}, "check": {"benchmark": {}, "datasets": {}},
    "result": {"values": {"test_error_pct": 5.0}},
}  # fmt: skip


@pytest.fixture
def point() -> Point:
    return load_grid("quickstart", "smoke").points[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def _view(
    state: str | None, group: str = "search", reason: str = "", at: float = 100.0, err: Path = Path("no")
) -> SubmittedJob:
    live = state in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")
    return translate("key", "7_1", group, None if state is None else JobState(state, reason, live), at, err)


def _claim(folder: Path, age: float = 1.0, **changes: Any) -> None:
    (folder / "claim").write_text(json.dumps(vars(replace(this_process(), **changes))))
    os.utime(folder / "claim", (NOW - age, NOW - age))


def _outputs(folder: Path, *names: str) -> None:
    RunFolder(folder).create(load_grid("quickstart", "smoke").points[0].config)
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(CONTENTS[name]))


def _failure(folder: Path, when: float, kind: str = "error") -> None:
    value = {"stage": "search", "kind": kind, "message": "it broke", "traceback": "", "time": when}
    (folder / "failure.json").write_text(json.dumps(value))
    os.utime(folder / "failure.json", (when, when))


def test_nothing_there_is_new(point: Point, tmp_path: Path) -> None:
    assert run_state(point, tmp_path / "none", NOW).status == "new"


def test_all_outputs_are_done_whatever_the_scheduler_says(point: Point, folder: Path) -> None:
    _outputs(folder, "search", "genotype", "check", "result")
    assert run_state(point, folder, NOW, [_view("FAILED")]).status == "done"
    (folder / "check.json").unlink()
    assert run_state(point, folder, NOW).status == "new"


def test_a_live_claim_is_running_with_epoch_and_eta(point: Point, folder: Path) -> None:
    _claim(folder)
    RunFolder(folder).create(point.config)
    line = {"stage": "search", "epoch": 0, "step": 3, "time": 1.0, "values": {"search_epoch_time_s": 40.0}}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n{torn")
    state = run_state(point, folder, NOW)
    assert (state.status, state.epoch, state.epochs, state.eta_s) == ("running", 1, 2, 40.0)
    assert state.detail == "search 1/2"
    assert state.host == socket.gethostname()


def test_a_lost_job_is_told_from_a_slow_one(point: Point, folder: Path) -> None:
    _claim(folder, host="node3", age=10)
    (folder / "heartbeat").touch()
    os.utime(folder / "heartbeat", (NOW - 1200, NOW - 1200))
    slow = run_state(point, folder, NOW)
    assert slow.status == "running"
    assert "no news for 20 min" in slow.detail
    _claim(folder, host="node3", age=500)
    assert run_state(point, folder, NOW).status == "lost"


def test_a_claim_of_a_dead_process_is_lost_at_once(point: Point, folder: Path) -> None:
    _claim(folder, started=1.0)
    assert run_state(point, folder, NOW).status == "lost"


def test_failures_count_until_a_newer_submission(point: Point, folder: Path) -> None:
    _failure(folder, 150.0, "numerical")
    state = run_state(point, folder, NOW, [_view("COMPLETED", at=100.0)])
    assert (state.status, state.kind, state.detail) == ("failed", "numerical", "search: it broke")
    assert run_state(point, folder, NOW, [_view("FAILED", at=100.0), _view("PENDING", at=200.0)]).status == "pending"
    assert run_state(point, folder, NOW).status == "failed"


def test_a_clock_that_goes_an_hour_wrong_decides_nothing(point: Point, folder: Path) -> None:
    """The failure's own time is by a node's clock; that of its file is by the file system's."""
    for clock in (-3600.0, 3600.0):
        _failure(folder, 150.0 + clock)
        for submitted, status in ((100.0, "failed"), (200.0, "pending")):
            os.utime(folder / "failure.json", (150.0, 150.0))
            assert run_state(point, folder, NOW, [_view("PENDING", at=submitted)]).status == status


def test_an_unreadable_failure_is_damage(point: Point, folder: Path) -> None:
    (folder / "failure.json").write_text("{torn")
    state = run_state(point, folder, NOW)
    assert (state.status, state.damage) == ("damaged", str(folder / "failure.json"))
    assert "failure.json" in state.detail
    assert "cscdarts ablate retry" in state.detail


@pytest.mark.parametrize(
    ("word", "reason", "status", "said"),
    [
        ("PENDING", "Resources", "pending", "Resources"),
        ("PENDING", "", "pending", "in the queue"),
        ("RUNNING", "", "running", "at work"),
        ("REQUEUED", "", "preempted", "waits to go on"),
        ("TIMEOUT", "0:0", "failed", "time limit"),
        ("OUT_OF_MEMORY", "0:125", "failed", "out of memory"),
        ("NODE_FAIL", "0:0", "failed", "node failed"),
        ("FAILED", "1:0", "failed", "without a result"),
        ("CANCELLED", "0:0", "cancelled", "cancelled"),
        ("COMPLETED", "0:0", "lost", "no result"),
        (None, "", "lost", "no result"),
    ],
)
def test_the_schedulers_words(
    point: Point, folder: Path, word: str | None, reason: str, status: str, said: str
) -> None:
    state = run_state(point, folder, NOW, [_view(word, reason=reason)])
    assert state.status == status
    assert said in state.detail


@pytest.mark.parametrize(
    ("phase", "reason", "cause", "expected"),
    [
        ("queued", "fair share", None, ("pending", "", "fair share")),
        ("requeued", "", None, ("preempted", "", "search: waits to go on (requeued)")),
        ("running", "", None, ("running", "", "search: job is at work")),
        ("ended", "", Cause("node", "the rack burned down"), ("failed", "node", "search: the rack burned down")),
        ("ended", "", None, ("lost", "lost", "search: its job has ended and left no result")),
        ("cancelled", "", None, ("cancelled", "", "search: cancelled")),
        ("unknown", "", None, ("lost", "lost", "search: its job has ended and left no result")),
    ],
)
def test_a_schedulers_own_words_are_not_needed(
    point: Point, folder: Path, phase: Phase, reason: str, cause: Cause | None, expected: tuple[str, str, str]
) -> None:
    job = SubmittedJob("key", "j1", "search", phase, 100.0, Path("no"), reason, explain=lambda: cause)
    state = run_state(point, folder, NOW, [job])
    assert (state.status, state.kind, state.detail) == expected
    assert state.jobs == ("j1",)


def test_a_job_is_asked_for_its_cause_only_where_no_file_tells(point: Point, folder: Path) -> None:
    def never() -> Cause | None:
        raise AssertionError

    job = SubmittedJob("key", "j1", "search", "ended", 100.0, Path("no"), explain=never)
    _failure(folder, 150.0)
    assert run_state(point, folder, NOW, [job]).detail == "search: it broke"
    (folder / "failure.json").unlink()
    _outputs(folder, "search", "genotype", "check", "result")
    assert run_state(point, folder, NOW, [job]).status == "done"


def test_memory_kills_without_cgroups_are_recognised(point: Point, folder: Path, tmp_path: Path) -> None:
    err = tmp_path / "err"
    err.write_text("slurmstepd: error: Job 7 exceeded memory limit (6 > 5), being killed\n")
    state = run_state(point, folder, NOW, [_view("FAILED", reason="0:9", err=err)])
    assert (state.status, state.kind) == ("failed", "memory")
    err.write_text("OSError: [Errno 28] No space left on device\n")
    assert run_state(point, folder, NOW, [_view("FAILED", err=err)]).kind == "disk"


def test_the_first_cause_in_a_chain_counts(point: Point, folder: Path) -> None:
    state = run_state(point, folder, NOW, [_view("TIMEOUT"), _view("CANCELLED", "retrain")])
    assert (state.status, state.kind) == ("failed", "timeout")
    waiting = _view("PENDING", "retrain", "DependencyNeverSatisfied")
    assert run_state(point, folder, NOW, [_view("TIMEOUT"), waiting]).kind == "timeout"


def test_requeued_runs_wait_to_go_on(point: Point, folder: Path) -> None:
    (folder / "requeued").touch()
    assert run_state(point, folder, NOW, [_view("PENDING", reason="BeginTime")]).status == "preempted"


def test_a_retry_forgets_the_jobs_before_it(point: Point, folder: Path) -> None:
    views = [_view("TIMEOUT", at=100.0), _view("CANCELLED", at=200.0)]
    assert run_state(point, folder, NOW, views).status == "cancelled"


def test_states_are_pure_reading(point: Point, folder: Path) -> None:
    _claim(folder)
    _failure(folder, 1.0)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir())
    for _ in range(3):
        assert isinstance(run_state(point, folder, time.time()), RunState)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir()) == before
