"""Several runs in one job: a process and a GPU each, ends and failures of their own, one requeue for all of them."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from slurm.backends.slurm.host import HOST
from slurm.job import CLAIM, REQUEUED, Task, cancel_mark, task_output
from slurm.node import NodeJob, _cause

TASKS = "tests.support.harness.tasks"
UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-2,MIG-3a1b5d52-8a6c-5a5f-9f2e-0a6ef6a1c5b7,GPU-3"


pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `scontrol` that notes its calls; the environment of a SLURM job on a node of two GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.calls\n')
    (folder / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name, value in {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "CUDA_VISIBLE_DEVICES": "0,1"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "scontrol.calls"


def _task(folder: Path, function: str = "on_gpu", to: int = 3, pace: float = 0.0) -> Task:
    return Task(folder.name, str(folder), f"{TASKS}:{function}", f"{TASKS}:hung", {"to": to, "pace": pace})


def _job(tmp_path: Path, *tasks: Task, workers: int = 2, per_gpu: int = 1, **values: float) -> NodeJob:
    return NodeJob(tasks, HOST, folder=str(tmp_path / "jobs"), workers=workers, per_gpu=per_gpu, **values)  # type: ignore[arg-type]


def _when(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Do something once it is time, while the job has the main thread."""

    def wait() -> None:
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def _counting(tmp_path: Path, *names: str) -> Callable[[], bool]:
    return lambda: all((tmp_path / name / "count.json").exists() for name in names)


@pytest.mark.parametrize(
    ("visible", "workers", "per_gpu", "slots"),
    [
        ("0,1,2,3", 4, 1, ["0", "1", "2", "3"]),
        ("0,1", 4, 2, ["0", "1", "0", "1"]),  # one on each before there is a second on any
        (UUIDS, 4, 1, UUIDS.split(",")),
        ("0,1,2,3,4,5,6,7", 4, 1, ["0", "1", "2", "3"]),
        ("3", 2, 2, ["3", "3"]),
        ("2,5", 8, 2, ["2", "5", "2", "5"]),  # fewer GPUs than were asked for: none takes more than its share
        ("", 3, 1, [None] * 3),
        ("NoDevFiles", 2, 1, [None] * 2),
    ],
)
def test_each_worker_has_its_gpu(
    visible: str, workers: int, per_gpu: int, slots: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert NodeJob((), workers=workers, per_gpu=per_gpu).slots() == slots


def test_a_run_that_ends_fails_or_is_killed_makes_room_for_the_next(tmp_path: Path, scontrol: Path) -> None:
    good = [_task(tmp_path / name, pace=0.1) for name in ("a", "b", "c")]
    bad = [_task(tmp_path / name, name) for name in ("fail", "killed")]
    outcomes = _job(tmp_path, good[0], *bad, *good[1:])()
    assert outcomes == {"a": "done", "b": "done", "c": "done", "fail": "failed", "killed": "failed"}
    found = [json.loads((tmp_path / name / "gpu.json").read_text()) for name in "abc"]
    assert {one["gpu"] for one in found} == {"0", "1"}
    for one, other in combinations(found, 2):
        at_once = other["began"] < one["ended"] and one["began"] < other["ended"]
        assert not (at_once and one["gpu"] == other["gpu"]), "one run on a GPU at a time, so two at most"
    # The one that was killed has a record of its own, and leaves no claim; those of the others are gone too.
    assert "its process was killed, most likely because memory ran out" in (tmp_path / "killed/hung.txt").read_text()
    assert not (tmp_path / "fail/hung.txt").exists()
    assert not list(tmp_path.glob(f"*/{CLAIM}"))
    # What each said is in its own files.
    assert task_output(tmp_path / "jobs", "77", "killed")[1].read_text() == "the last words\n"
    assert task_output(tmp_path / "jobs", "77", "a")[1].read_text() == ""
    assert not scontrol.exists()


def test_all_failed_fails_the_job(tmp_path: Path, scontrol: Path) -> None:
    with pytest.raises(RuntimeError, match="failed: fail, killed"):
        _job(tmp_path, _task(tmp_path / "fail", "fail"), _task(tmp_path / "killed", "killed"))()


def test_the_signal_before_a_limit_reaches_every_run_and_the_job_goes_back_once(tmp_path: Path, scontrol: Path) -> None:
    """The scheduler's signal reaches the first process only; four runs, two at once, of which one is done by then."""
    job = _job(
        tmp_path, _task(tmp_path / "a", "count", 2), _task(tmp_path / "b", "count", 100_000, 0.02),
        _task(tmp_path / "c", "count", 100_000, 0.02), _task(tmp_path / "d", "count"),
    )  # fmt: skip
    sender = _when(_counting(tmp_path, "a", "b", "c"), lambda: os.kill(os.getpid(), signal.SIGUSR2))
    with pytest.raises(SystemExit) as ended:
        job()
    sender.join()
    assert ended.value.code == 75
    assert scontrol.read_text() == "requeue 77\n", "once for all"
    assert [(tmp_path / name / REQUEUED).exists() for name in "abcd"] == [False, True, True, False]
    assert not (tmp_path / "d").exists()
    assert not list(tmp_path.glob("*/hung.txt")) + list(tmp_path.glob(f"*/{CLAIM}"))
    saved = [int((tmp_path / name / "count.json").read_text()) for name in "bc"]
    assert all(0 < number < 100_000 for number in saved)
    # The next life goes on with what is unfinished.
    for name in "bc":
        (tmp_path / name / "count.json").write_text("99999")
    os.environ["SLURM_RESTART_COUNT"] = "1"
    assert job() == dict.fromkeys("abcd", "done")
    assert not list(tmp_path.glob(f"*/{REQUEUED}"))
    assert scontrol.read_text() == "requeue 77\n"


def test_a_signal_that_comes_before_a_process_can_hear_it(tmp_path: Path, scontrol: Path) -> None:
    job = _job(tmp_path, *(_task(tmp_path / name, "count", 100_000, 0.02) for name in "ab"))
    started = task_output(tmp_path / "jobs", "77", "a")[0]
    sender = _when(started.exists, lambda: os.kill(os.getpid(), signal.SIGUSR2))
    with pytest.raises(SystemExit) as ended:
        job()
    sender.join()
    assert ended.value.code == 75
    assert scontrol.read_text() == "requeue 77\n"
    assert not list(tmp_path.glob("*/hung.txt")), "nothing has crashed"


def test_a_cancellation_of_the_job_saves_and_does_not_requeue(tmp_path: Path, scontrol: Path) -> None:
    job = _job(tmp_path, *(_task(tmp_path / name, "count", 100_000, 0.02) for name in "abc"))
    sender = _when(_counting(tmp_path, "a", "b"), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        job()
    sender.join()
    assert ended.value.code == 75
    assert not scontrol.exists()
    assert not list(tmp_path.glob("*/hung.txt")) + list(tmp_path.glob(f"*/{CLAIM}"))


def test_one_run_is_cancelled_and_the_others_go_on(tmp_path: Path, scontrol: Path) -> None:
    """One at work saves and leaves, one that waits never begins; a mark of another job means nothing."""
    (tmp_path / "jobs").mkdir()
    cancel_mark(tmp_path / "jobs", "77", "c").touch()
    cancel_mark(tmp_path / "jobs", "76", "b").touch()
    job = _job(
        tmp_path, _task(tmp_path / "a", "count", 100_000, 0.02), _task(tmp_path / "b"), _task(tmp_path / "c"),
        _task(tmp_path / "d"),
    )  # fmt: skip
    sender = _when(_counting(tmp_path, "a"), cancel_mark(tmp_path / "jobs", "77", "a").touch)
    assert job() == {"a": "cancelled", "b": "done", "c": "cancelled", "d": "done"}
    sender.join()
    assert not (tmp_path / "c").exists()
    assert 0 < int((tmp_path / "a/count.json").read_text()) < 100_000
    assert not scontrol.exists()


def test_a_hang_is_that_run_s_alone(tmp_path: Path, scontrol: Path) -> None:
    job = _job(tmp_path, _task(tmp_path / "stuck", "stuck"), _task(tmp_path / "a"), stall_s=0.5)
    assert job() == {"stuck": "failed", "a": "done"}
    assert "hung: no step" in (tmp_path / "stuck/hung.txt").read_text()
    assert not list(tmp_path.glob(f"*/{CLAIM}"))


def test_a_process_that_is_ended_from_outside_is_tried_again_but_not_for_ever(
    tmp_path: Path, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm.node.BUSY_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr("slurm.node.MAX_STOPS", 2)
    ended = replace(_task(tmp_path / "ended", "killed"), arguments={"signal": signal.SIGTERM})
    assert _job(tmp_path, ended, _task(tmp_path / "a"))() == {"ended": "failed", "a": "done"}
    words = task_output(tmp_path / "jobs", "77", "ended")[1].read_text()
    assert words.count("the last words") == 2
    assert "asked to end 2 times while its job went on" in (tmp_path / "ended/hung.txt").read_text()


@pytest.mark.parametrize(
    ("code", "output", "kind", "words"),
    [
        (-9, "", "memory", "killed, most likely because memory ran out"),
        (-9, "OSError: [Errno 28] No space left on device", "disk", "no space left"),
        (-11, "Fatal Python error", "error", "signal SIGSEGV: Fatal Python error"),
        (-99, "", "error", "code -99"),
        (1, "Traceback\nImportError: no module\n", "error", "code 1: ImportError: no module"),
        (3, "", "error", "ended with code 3"),
    ],
)
def test_why_a_process_ended_without_a_word(code: int, output: str, kind: str, words: str) -> None:
    cause = _cause(code, output)
    assert cause.kind == kind
    assert words in cause.sentence
