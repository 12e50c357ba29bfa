"""Grids of the tiny engine whose workers are forked from the test, so that starting one costs nothing, and can be
killed at any change that they make on disk."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablations.drive import loop
from ablations.drive.backend import Options
from ablations.drive.driver import Driver, TaskFunctions, untouched
from ablations.drive.local import LocalBackend
from ablations.drive.loop import run_grid
from ablations.grid.load import load_grid
from ablations.run.state import RunState
from cscdarts.records.code import COMMIT_VARIABLE
from cscdarts.records.run_folder import RunFolder, read_json
from slurm.backends.local import NO_WORD
from slurm.job import Job, Task
from tests.support.harness.grids import write_grid
from tests.support.injector import killed_before

ENGINE = TaskFunctions("tests.support.harness.engine:run_task")
Choose = Callable[[Sequence[RunState]], list[str]]


def _worked(job: Job) -> None:
    with contextlib.suppress(RuntimeError):  # all its tasks have failed, and said so themselves
        job()


class ForkedPool:
    """Has the interface of `slurm.backends.local.LocalPool`, with one worker that has ended when `start` returns.

    Args:
        kills: before which change the first worker is killed, then the second; later ones live.
    """

    def __init__(self, kills: Sequence[int] = ()) -> None:
        self.kills, self.killed, self.kills_done = list(kills), False, 0

    def start(self, tasks: Sequence[Task], workers: int, threads: int | None) -> None:
        change = self.kills.pop(0) if self.kills else 10**9
        self.killed = killed_before(change, lambda: _worked(Job(tuple(tasks))))
        self.kills_done += self.killed

    def alive(self) -> int:
        return 0

    def held(self) -> set[str]:
        return set()

    def errors(self) -> list[str]:
        return [NO_WORD] if self.killed else []

    def stop(self) -> None:
        pass


def grid_driver(folder: Path, notes: Sequence[str] = ("", ""), **values: object) -> Driver:
    """A driver of a grid of the tiny engine in `folder/runs`."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write_grid(folder / "mine.py", list(notes), **values)
    return Driver(load_grid(source, "smoke"), folder / "runs", ENGINE)


def drive(driver: Driver, choose: Choose = untouched, pool: ForkedPool | None = None) -> tuple[int, str]:
    """`cscdarts ablate run` or `retry`, without the mirror: the exit code, and what was said."""
    backend = LocalBackend(driver, Options(parallel=1))
    backend.pool = pool or ForkedPool()  # type: ignore[assignment]
    backend.every_s = 0.0
    out = io.StringIO()
    code = run_grid(backend, Console(file=out, width=300), choose)
    return code, out.getvalue()


def failed(states: Sequence[RunState]) -> list[str]:
    return [state.hash for state in states if state.status == "failed"]


def numbers(driver: Driver) -> dict[str, Any]:
    """All that a reader sees of a grid's runs, times and places aside."""
    found: dict[str, Any] = {}
    for point in driver.grid.points:
        folder = RunFolder(driver.path(point))
        outputs = {}
        for name in ("search.json", "genotype.json", "check.json", "result.json"):
            value = read_json(folder.file(name)) or {}
            outputs[name] = {key: one for key, one in value.items() if key != "finished_at"}
        curves = {f"{line['stage']} {line['epoch']}": line["values"] for line in folder.curves()}
        found[point.hash] = {**outputs, "curves": curves, "alphas": folder.alphas(), "keys": folder.keys()}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


@contextlib.contextmanager
def _no_mirror(*_: object) -> Iterator[Callable[..., None]]:
    yield lambda *_, **__: None


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No mirror, no question to git, and the present folder is the test's."""
    monkeypatch.setattr(loop, "mirroring", _no_mirror)
    monkeypatch.setattr(loop, "LOOK_SHARE", 10.0)
    monkeypatch.setenv(COMMIT_VARIABLE, "f" * 40)
    monkeypatch.chdir(tmp_path)
