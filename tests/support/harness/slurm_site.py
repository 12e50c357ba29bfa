"""A place to run drivers against a real SLURM, and the ways its tests look at what happens there."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.backend import Observer, Options
from ablations.drive.driver import Driver, TaskFunctions
from ablations.drive.slurm import SlurmBackend
from ablations.grid.load import load_grid
from ablations.run.state import RunState
from tests.support.harness.grids import write_grid

ROOT = Path(__file__).parents[3]

#: Tests on a cluster are one group, worked through in order, since some stop daemons or fill nodes that others need.
#: Those that neither do so nor mind it are a second group beside it (pytest-xdist joins the names of a test's groups);
#: their jobs keep to a node that no other test touches (`BESIDE`).
beside = pytest.mark.xdist_group("beside")


@contextmanager
def cluster(alone: bool) -> Iterator[None]:
    """Use this machine's cluster: together with other tests, or alone where a test stops its controller."""
    with (Path(tempfile.gettempdir()) / f"cscdarts-tests-cluster-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def until(condition: Callable[[], Any], seconds: float = 240, what: str = "") -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            queue = subprocess.run(["squeue", "-r"], capture_output=True, text=True, check=False).stdout
            pytest.fail(f"this did not happen within {seconds:.0f} s: {what}\n{queue}")
        time.sleep(0.3)
    return value


def queued_names(submitted_in: Path) -> set[str]:
    """The names of the jobs in the queue that were submitted in a folder: other tests' grids have names alike, and jobs
    that come, or come back, at any moment."""
    said = subprocess.run(["squeue", "-h", "-o", "%j|%Z"], capture_output=True, text=True, check=True).stdout
    jobs = [line.split("|", 1) for line in said.splitlines()]
    return {name for name, folder in jobs if Path(folder).resolve() == submitted_in.resolve()}


class Site:
    """A folder to run drivers in, with everything cleaned from the queue at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *words: str, engine: str = "tiny", folder: Path | None = None) -> "subprocess.Popen[str]":
        """Start `cscdarts WORDS`, with the tiny engine or the real one, in this folder or another."""
        script = ["-m", "tests.support.harness.drive"] if engine == "tiny" else ["-m", "ablations.cli"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        env.pop("MLFLOW_TRACKING_URI", None)
        # One version for all, even if someone commits while this test runs: reports compare no runs of different code.
        env["CSCDARTS_COMMIT"] = "f" * 40
        process = subprocess.Popen(
            [sys.executable, *script, *words], cwd=folder or self.path, env=env, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def call(self, *words: str, engine: str = "tiny", code: int | None = 0, seconds: float = 540) -> str:
        """Run `cscdarts WORDS` to its end; returns what it said."""
        process = self.start(*words, engine=engine)
        out, _ = process.communicate(timeout=seconds)
        assert code is None or process.returncode == code, out
        return out

    def grid(self, notes: list[str], **values: object) -> tuple[Driver, str]:
        """A grid of the tiny engine: its driver, to look at it, and its file."""
        source = write_grid(self.path / "mine.py", notes, **values)
        driver = Driver(
            load_grid(source, "smoke"), self.path / "runs", TaskFunctions("tests.support.harness.engine:run_task")
        )
        return driver, "mine.py"


ON = ("--on", "slurm:single-node", "--allow-dirty", "--scale", "smoke", "--slurm", "runs_per_job=1")
BESIDE = (*ON, "--slurm", "extra.nodelist=n4")


def states_of(driver: Driver) -> list[RunState]:
    observer = Observer(driver)
    states = observer.states()
    assert observer.caveat == ""
    return states


def starts_of(driver: Driver) -> list[int]:
    return [
        len((driver.path(p) / "starts.jsonl").read_text().splitlines())
        if (driver.path(p) / "starts.jsonl").exists()
        else 0
        for p in driver.grid.points
    ]


def job_of(driver: Driver, index: int, group: str) -> str:
    """The scheduler's id of a run's job."""
    jobs = SlurmBackend(driver, Options()).jobs({driver.grid.points[index].hash})
    return next(one.job for one in reversed(jobs) if one.group == group)


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """The process that works on a run, stopped for the length of a block: what happens then meets it in the middle of
    its stage, however short that is."""
    pid = int(json.loads((folder / "claim").read_text())["pid"])
    os.kill(pid, signal.SIGSTOP)
    # On a busy machine it stops a moment later; until then it would look as if something had let it go on.
    until(lambda: _state(pid) in "Tt", what=f"process {pid} stopped")
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    """The letter of a process's state, T or t where it is stopped; "" where there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return ""
    found = re.search(r"^State:\s*(\w)", status, re.MULTILINE)
    return found[1] if found else ""


def has_come(pid: int, number: signal.Signals) -> bool:
    """Whether a signal waits for a process that is `held`, or has ended the hold: SLURM lets it go on then."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    found = re.search(r"^ShdPnd:\s*(\w+)$", status, re.MULTILINE)
    return _state(pid) not in ("T", "t") or bool(found and int(found[1], 16) >> (number - 1) & 1)


def scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], capture_output=True, text=True, check=True).stdout
