"""What the system has no more of: room at each write of a run, files to open; and what a user's umask keeps to
himself."""

import ast
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations import cli
from ablations.commands import ablate as cmd_ablate
from ablations.drive.backend import BACKENDS
from ablations.drive.driver import Driver, TaskFunctions
from ablations.drive.mirroring import mirroring
from ablations.grid.load import load_grid
from ablations.run import state as run_states
from ablations.run import visible
from ablations.run.state import RunState
from cscdarts.records.run_folder import RunFolder, read_json, write_json
from slurm.control import Control
from slurm.job import CLAIM, Job
from slurm.jobs import Cause, cause_of_limit
from tests.support.harness.engine import run_task
from tests.support.harness.full_disk import FullDisk
from tests.support.harness.grids import write_grid

ROOT = Path(__file__).parents[2]
FUNCTIONS = TaskFunctions("tests.support.harness.engine:run_task")


pytestmark = pytest.mark.usefixtures("own_environment")


def _driver(folder: Path, notes: list[str]) -> Driver:
    folder.mkdir(exist_ok=True)
    return Driver(
        load_grid(write_grid(folder / "mine.py", notes, search__epochs=2), "smoke"), folder / "runs", FUNCTIONS
    )


def _work(driver: Driver, since: float) -> dict[str, str]:
    """What a worker does with all runs of a grid, in this process."""
    driver.folder.mkdir(parents=True, exist_ok=True)
    stages = ("search", "derive", "check", "retrain")
    return Job(tuple(driver.tasks([p.hash for p in driver.grid.points], stages, since, None))).work()


def _results(driver: Driver) -> list[Any]:
    """What came out of each run, without times of day."""
    found = []
    for point in driver.grid.points:
        folder = RunFolder(driver.path(point))
        result = read_json(folder.file("result.json")) or {}
        curves = sorted(
            (line["stage"], line["epoch"], line["values"].get("search_train_loss")) for line in folder.curves()
        )
        found.append(({**result, "finished_at": 0}, curves))
    return found


def _say_well(states: list[RunState], root: Path) -> None:
    for state in states:
        if state.status == "done":
            continue
        assert (state.status, state.kind) == ("failed", "disk"), state
        assert re.search(rf"disk full: {re.escape(str(root))}\S* cannot be written", state.detail), state
        assert "Free space there, and run the same command again" in state.detail
        assert "\n" not in state.detail


def test_a_disk_that_is_full_from_any_write_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each write of a run: nothing is thrown, the state says what and the way out, nothing is left half-made, and
    with room again the runs end as if nothing had been."""
    monkeypatch.setattr(os, "fsync", lambda number: None)  # the disk under the test is patient
    tried = 0
    for notes, only, step in (([""], False, 1), (["", ""], True, 5)):
        whole = _driver(tmp_path / f"whole{only}", notes)
        whole.folder.mkdir(parents=True)
        with FullDisk(tmp_path / f"whole{only}") as disk:
            assert set(_work(whole, 1.0).values()) == {"done"}
        expected = _results(whole)
        assert disk.writes > 30
        for at in range(1, disk.writes + 1, step):
            root = tmp_path / f"{at}{only}"
            driver = _driver(root, notes)
            driver.folder.mkdir(parents=True)
            with FullDisk(root, at, only), monkeypatch.context() as patch:
                outcomes = _work(driver, 1.0)
                # As the system itself would tell.
                patch.setattr(run_states, "_is_full", lambda path, only=only: not only)
                states = driver.states()
            assert "failed" in outcomes.values() or only, (at, outcomes)
            assert len(outcomes) == len(notes), "one that fails keeps no other from its turn"
            _say_well([state for state in states if state.status != "new"], root)
            assert not [p for p in root.rglob("*") if p.name == CLAIM or p.name.startswith(".")], at
            finished = {p: p.read_bytes() for name in ("search", "result") for p in root.rglob(f"{name}.json")}
            assert set(_work(driver, 2.0).values()) == {"done"}, at
            assert _results(driver) == expected, at
            assert all(path.read_bytes() == content for path, content in finished.items()), "nothing finished was lost"
            tried += 1
            shutil.rmtree(root)
    assert tried > 40


def test_no_more_files_at_any_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ulimit -n` reached at one open, for reading or writing: that run says so, and is done by the next command."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    whole = _driver(tmp_path / "whole", [""])
    whole.folder.mkdir(parents=True)
    with FullDisk(tmp_path / "whole", reads=True) as disk:
        _work(whole, 1.0)
    expected = _results(whole)
    for at in range(1, disk.writes + 1, 4):
        root = tmp_path / str(at)
        driver = _driver(root, [""])
        driver.folder.mkdir(parents=True)
        with FullDisk(root, at, only=True, error=errno.EMFILE, reads=True):
            outcomes = _work(driver, 1.0)
        (state,) = driver.states()
        if "failed" in outcomes.values():
            assert state.status == "failed", state
            assert re.search(r"too many open files: .* `ulimit -n`, is \d+\). Raise it", state.detail), (at, state)
        assert set(_work(driver, 2.0).values()) == {"done"}, at
        assert _results(driver) == expected, at


def test_a_disk_of_the_system_s_that_is_full(tmp_path: Path) -> None:
    """The same on a true file system of a few pages, which the system itself fills."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        driver = _driver(place, ["", ""])
        driver.folder.mkdir(parents=True)
        for left in (0, 4, 10):
            filler = place / "filler"
            with filler.open("wb") as file:
                room = os.statvfs(place)
                file.write(bytes(max(0, room.f_bavail * room.f_frsize - left * 4096)))
            assert "failed" in _work(driver, 1.0 + left).values()
            _say_well([state for state in driver.states() if state.status != "new"], place)
            filler.unlink()
        assert set(_work(driver, 100.0).values()) == {"done"}
        assert {state.status for state in driver.states()} == {"done"}
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_driver_on_a_full_disk_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The driver's own writes: the lock, the manifest, what is submitted, the mirror. The same command then goes on."""
    monkeypatch.setitem(BACKENDS, "counter", "tests.support.harness.counter_backend:CounterBackend")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cmd_ablate, "Driver", lambda grid, runs: Driver(grid, runs, FUNCTIONS))
    source = write_grid(tmp_path / "mine.py", [""])

    def run(name: str) -> tuple[int, str]:
        # Nobody waits, so that the driver's writes are all that there are.
        words = ("ablate", "run", source, "--scale", "smoke", "--on", "counter:open", "--no-wait", "--runs", name)
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        return int(end.value.code or 0), capsys.readouterr().err

    with FullDisk(tmp_path) as disk:
        assert run("whole") == (0, "")
    assert disk.writes >= 5
    for at in range(1, disk.writes + 1):
        with FullDisk(tmp_path, at):
            code, said = run(str(at))
        if code:
            assert code == 2, (at, said)
            assert len(said.strip().splitlines()) == 1, (at, said)
            assert "No space left on device" in said, (at, said)
            assert str(tmp_path) in said or str(at) in said, (at, said)
        assert run(str(at)) == (0, ""), at


def test_a_mirror_on_a_full_disk_says_so_once_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    with mirroring(_driver(tmp_path, [""]), said.append) as mirror, FullDisk(tmp_path, 1):
        mirror([])
        mirror._next = 0.0
        mirror([])
    (line,) = said
    assert "No space left on device" in line
    assert "The runs go on" in line


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk full: /a/b cannot be written (No space left on device). Free space there"),
        (errno.EDQUOT, "disk full: /a/b cannot be written (Disk quota exceeded). Free space there or have the quota"),
        (errno.EROFS, "read-only file system: /a/b cannot be written"),
        (errno.EFBIG, "file too large: /a/b cannot be written (File too large). Raise the limit, `ulimit -f`"),
        (errno.EMFILE, "too many open files: /a/b cannot be opened (Too many open files; the limit, `ulimit -n`, is"),
        (errno.ENFILE, "too many open files: /a/b cannot be opened (Too many open files in system"),
    ],
)
def test_any_command_says_it_in_one_sentence(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number), "/a/b")

    monkeypatch.setattr("ablations.commands.ablate.grid_names", full)
    with pytest.raises(SystemExit) as end:
        cli.main(["ablate", "list"])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"cscdarts: {words}")
    assert "run the same command again; what has finished is kept." in line


def test_other_errors_are_no_limits() -> None:
    assert cause_of_limit(OSError(errno.ENOENT, "No such file")) is None
    assert cause_of_limit(ValueError("No space left on device")) is None
    cause = cause_of_limit(OSError(errno.ENOSPC, "No space left on device"), "/runs")
    assert cause is not None
    assert "disk full: /runs cannot be written" in cause.sentence


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
def test_failures_on_nodes_whose_clocks_are_an_hour_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """A failure counts for the submission that it names, and for no other, whatever the node's clock says."""
    driver = _driver(tmp_path, ["raise"])
    clock = time.time
    monkeypatch.setattr("ablations.run.stages.time.time", lambda: clock() + ahead)
    starts = driver.path(driver.grid.points[0]) / "starts.jsonl"

    def started(since: float) -> int:
        assert set(_work(driver, since).values()) == {"failed"}
        return len(starts.read_text().splitlines())

    first = clock()
    assert started(first) == 1
    assert started(first) == 1, "the same submission does not try again, say after a requeue for other runs"
    assert started(first + 1) == 2, "a retry does"
    assert driver.states()[0].status == "failed"


def _task(driver: Driver, stages: tuple[str, ...]) -> dict[str, Any]:
    (task,) = driver.tasks([driver.grid.points[0].hash], stages, 1.0, None)
    return dict(task.arguments)


def test_a_retraining_waits_for_a_cell_that_is_seen_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search ran on another host: its files appear here one by one, names before contents, after its job ended."""
    monkeypatch.setattr(visible, "_LOOK_S", 0.05)
    driver = _driver(tmp_path, [""])
    place = driver.path(driver.grid.points[0])
    place.mkdir(parents=True)
    assert run_task(place, _task(driver, ("search", "derive", "check")), Control()) == "done"
    hidden = tmp_path / "hidden"
    place.rename(hidden)
    place.mkdir()

    def appear() -> None:
        for path in sorted(hidden.iterdir(), reverse=True):  # config.json and genotype.json late
            (place / path.name).touch()
            time.sleep(0.05)
            shutil.copy(path, place / path.name)

    thread = threading.Thread(target=appear)
    thread.start()
    assert run_task(place, _task(driver, ("retrain",)), Control(job="7")) == "done"
    thread.join()


def test_a_retraining_does_not_wait_for_a_cell_that_will_not_come(tmp_path: Path) -> None:
    driver = _driver(tmp_path, ["raise"])
    place = driver.path(driver.grid.points[0])
    place.mkdir(parents=True)
    assert run_task(place, _task(driver, ("search", "derive", "check")), Control(job="7")) == "failed"
    assert run_task(place, _task(driver, ("retrain",)), Control(job="7")) == "skipped"


def test_a_retraining_without_a_cell_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visible, "VISIBLE_S", 0.2)
    driver = _driver(tmp_path, [""])
    driver.path(driver.grid.points[0]).mkdir(parents=True)
    found = run_task(driver.path(driver.grid.points[0]), _task(driver, ("retrain",)), Control(job="7"))
    assert found == "skipped"


def test_what_one_s_own_record_says_is_not_written_over(tmp_path: Path) -> None:
    driver = _driver(tmp_path, [""])
    place, arguments = driver.path(driver.grid.points[0]), _task(driver, ("search",))
    from ablations.run.stages import record_end

    record_end(place, arguments, Cause("memory", "killed"), "the last words")
    failure = read_json(place / "failure.json") or {}
    assert (failure["kind"], failure["message"], failure["traceback"]) == ("memory", "killed", "the last words")
    record_end(place, arguments, Cause("error", "later"), "")
    assert read_json(place / "failure.json") == failure
    write_json(place / "failure.json", {**failure, "since": 0.5})
    record_end(place, arguments, Cause("error", "later"), "")
    assert (read_json(place / "failure.json") or {})["message"] == "later"


def test_who_may_only_look_is_told_by_the_files_own_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague whose clock is an hour ahead, and who cannot write: a live claim is no lost one."""
    driver = _driver(tmp_path, [""])
    place = driver.path(driver.grid.points[0])
    place.mkdir(parents=True)
    from dataclasses import replace

    from slurm.lock import this_process

    (place / CLAIM).write_text(json.dumps(vars(replace(this_process("run"), host="elsewhere"))))
    clock = time.time
    monkeypatch.setattr("ablations.drive.driver.time.time", lambda: clock() + 3600)
    monkeypatch.setattr("ablations.drive.driver.file_time", lambda folder: None)
    assert driver.states()[0].status == "running"


@pytest.mark.slow
def test_few_files_and_a_private_umask(tmp_path: Path) -> None:
    """A whole grid with `ulimit -n 64` and `umask 077`, workers and mirror included: it is done, and nobody else may
    read a thing."""
    write_grid(tmp_path / "mine.py", ["", ""])
    words = "-m tests.support.harness.drive ablate run mine.py --scale smoke"
    command = f"umask 077; ulimit -n 64; exec {sys.executable} {words}"
    done = subprocess.run(
        ["bash", "-c", f"{command} --parallel 2"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mirror:" not in done.stdout
    made = [
        path for name in ("runs", "mlflow.db", "mlruns") for path in [tmp_path / name, *(tmp_path / name).rglob("*")]
    ]
    assert len(made) > 40
    wide = {
        str(p): oct(p.lstat().st_mode) for p in made if not p.is_symlink() and stat.S_IMODE(p.lstat().st_mode) & 0o077
    }
    assert wide == {}


def test_no_code_makes_a_file_more_open_than_its_user_s_umask() -> None:
    calls: Callable[[ast.AST], Iterator[ast.Call]] = lambda tree: (n for n in ast.walk(tree) if isinstance(n, ast.Call))  # noqa: E731
    found = []
    for folder in ("ablations", "benchmarks", "cscdarts", "reports", "slurm"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                if name in ("chmod", "fchmod", "lchmod", "umask", "copymode"):
                    found.append(f"{path}:{call.lineno}")
    assert found == []
