"""Backends behind one interface: names and profiles, a scheduler of another kind from command to command, the loop's
patience."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ablations.commands import ablate as cmd_ablate
from ablations.drive import loop
from ablations.drive.backend import BACKENDS, Observer, Options, read_backend
from ablations.drive.driver import Driver, TaskFunctions
from ablations.drive.exit_codes import DONE, UNFINISHED
from ablations.drive.local import LocalBackend
from ablations.drive.slurm import LAG_S, SlurmBackend
from ablations.drive.tell.show import Progress
from ablations.grid.load import load_grid
from ablations.run.state import STATUSES, RunState, Status
from ablations.run.visible import VISIBLE_S
from cscdarts.errors import UserError
from cscdarts.records.run_folder import read_json
from slurm.errors import ClusterError
from tests.support.harness.grids import write_grid

ROOT = Path(__file__).parents[2]
Cscdarts = Callable[..., tuple[int, str, str]]


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that adds a scheduler."""
    monkeypatch.setitem(BACKENDS, "counter", "tests.support.harness.counter_backend:CounterBackend")


@pytest.fixture
def cscdarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Cscdarts) -> Cscdarts:
    """The command line in this process, with the tiny engine and a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    functions = TaskFunctions("tests.support.harness.engine:run_task")
    monkeypatch.setattr(cmd_ablate, "Driver", lambda grid, runs: Driver(grid, runs, functions))
    return command_line


def _driver(tmp_path: Path, runs: int = 2) -> Driver:
    return Driver(load_grid(write_grid(tmp_path / "mine.py", [""] * runs), "smoke"), tmp_path / "runs")


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("pbs", (), "local or slurm:PROFILE or counter:PROFILE"),
        ("slurm", (), "local or slurm:PROFILE"),
        ("slurm:", (), "local or slurm:PROFILE"),
        ("local:big", (), "local or slurm:PROFILE"),
        ("local", ("partition=x",), "only with --on slurm:PROFILE or counter:PROFILE"),
    ],
)
def test_what_no_backend_answers_to(counter: None, text: str, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_backend(text, overrides)


def test_each_name_makes_its_backend(tmp_path: Path) -> None:
    driver = _driver(tmp_path)
    here = read_backend("local")(driver, Options(parallel=3))
    assert isinstance(here, LocalBackend)
    assert here.options.parallel == 3
    there = read_backend("slurm:cpu", ["partition=fat"])(driver, Options())
    assert isinstance(there, SlurmBackend)
    assert (there.label, there.profile.partition) == ("slurm:cpu", "fat")


def test_a_scheduler_of_another_kind_serves_every_command(counter: None, cscdarts: Cscdarts, tmp_path: Path) -> None:
    """One class and one line: no module of the harness is changed."""
    source = write_grid(tmp_path / "mine.py", ["", "raise", ""])
    on = ("--scale", "smoke", "--on", "counter:open")
    code, out, _ = cscdarts("ablate", "plan", source, *on)
    assert code == 0
    assert out.endswith("Take a ticket.\n")
    code, out, err = cscdarts("ablate", "run", source, *on, "--no-wait")
    assert (code, err) == (0, "")
    assert "the counter opens" in out
    assert "3 runs wait in line" in out
    assert not (tmp_path / "mlflow.db").exists(), "nobody waits, so nothing is mirrored"
    assert "3 pending" in cscdarts("ablate", "status", source)[1]
    folder = tmp_path / "runs" / "mine"
    hashes = [run["hash"] for run in (read_json(folder / "grid.json") or {})["runs"]]
    assert cscdarts("ablate", "cancel", source, hashes[2])[1] == "1 runs cancelled in 1 jobs\n"
    assert "2 pending, 1 cancelled" in cscdarts("ablate", "status", source)[1]
    code, out, _ = cscdarts("ablate", "run", source, *on)
    assert code == 1
    assert "1 runs wait in line" in out, "the cancelled one; the others were in line already"
    assert "3 runs: 2 done, 1 failed" in out
    assert "the loss went astray" in out
    (folder / "cure").touch()
    code, out, _ = cscdarts("ablate", "retry", source, "--on", "counter:open")
    assert (code, "3 runs: 3 done" in out) == (0, True)
    assert cscdarts("ablate", "watch", source)[0] == 0
    assert (tmp_path / "mlflow.db").exists()


def test_a_scheduler_says_why_a_job_ended(counter: None, cscdarts: Cscdarts, tmp_path: Path) -> None:
    source = write_grid(tmp_path / "mine.py", [""])
    code, out, _ = cscdarts(
        "ablate", "run", source, "--scale", "smoke", "--on", "counter:open", "--slurm", "manner=clumsy"
    )
    assert code == 1
    assert "failed (node): search: dropped at the counter" in out


def test_a_scheduler_that_is_closed_is_one_sentence_and_leaves_nothing(
    counter: None, cscdarts: Cscdarts, tmp_path: Path
) -> None:
    source = write_grid(tmp_path / "mine.py", [""])
    code, _, err = cscdarts("ablate", "run", source, "--scale", "smoke", "--on", "counter:closed")
    assert code == 2
    assert "a counter that is open" in err
    assert list((tmp_path / "runs" / "mine").iterdir()) == []


class _Script:
    """A grid that looks as told, look after look; the last look repeats."""

    every_s = 0.0

    def __init__(self, *looks: Status | ClusterError, wait: dict[str, float]) -> None:
        self.looks, self.wait, self.number = list(looks), wait, 0

    def states(self) -> list[RunState]:
        self.number += 1
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, ClusterError):
            raise look
        return [RunState("a", look), RunState("b", look)]

    def wait_s(self, states: list[RunState]) -> float:
        return self.wait.get(states[0].status, 0.0)


def test_the_loop_outlasts_a_scheduler_that_is_away_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "AWAY_S", 0.0)
    away = ClusterError("squeue", "down", "an answer", "Is it up?", "squeue failed: down.")
    grid = _Script("pending", away, away, "running", "done", wait={"pending": float("inf"), "running": float("inf")})
    console = Console(file=io.StringIO(), width=200)
    progress, mirrored = Progress(_driver(tmp_path).grid, console), []
    states = loop.follow(grid, progress, lambda seen: mirrored.append(seen[0].status))  # type: ignore[arg-type]
    assert [state.status for state in states] == ["done", "done"]
    assert mirrored == ["pending", "running", "done"]
    assert console.file.getvalue().count("squeue failed: down.") == 1  # type: ignore[attr-defined]


def test_the_loop_looks_again_before_it_believes_that_a_run_is_lost(tmp_path: Path) -> None:
    # The first look comes before the accounting; `lost` may wait a moment, `done` need not.
    progress = Progress(_driver(tmp_path).grid, Console(file=io.StringIO()))
    grid = _Script("lost", "lost", "done", wait={"lost": 60.0})
    assert loop.follow(grid, progress, lambda seen: None)[0].status == "done"  # type: ignore[arg-type]
    grid = _Script("lost", wait={"lost": 0.05})
    assert loop.follow(grid, progress, lambda seen: None)[0].status == "lost"  # type: ignore[arg-type]
    assert grid.number >= 2


def _states(*statuses: Status) -> list[RunState]:
    return [RunState(str(number), status) for number, status in enumerate(statuses)]


@pytest.mark.parametrize(
    ("statuses", "seconds"),
    [
        (("done", "pending"), float("inf")),
        (("preempted", "failed"), float("inf")),
        (("done", "done"), 0.0),
        (("done", "failed"), LAG_S),
        (("lost",), VISIBLE_S),
    ],
)
def test_how_long_a_cluster_is_watched(tmp_path: Path, statuses: tuple[Status, ...], seconds: float) -> None:
    assert SlurmBackend(_driver(tmp_path), Options()).wait_s(_states(*statuses)) == seconds


@pytest.mark.parametrize("status", STATUSES)
def test_the_exit_code_is_0_only_where_every_run_is_done(status: Status) -> None:
    assert loop.exit_code(_states("done", status)) == (DONE if status == "done" else UNFINISHED)


def test_an_observer_asks_no_cluster_that_never_had_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(SlurmBackend, "jobs", asked)
    observer = Observer(_driver(tmp_path))
    assert [state.status for state in observer.states()] == ["new", "new"]
    assert observer.caveat == ""


def test_an_observer_says_what_it_cannot_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _driver(tmp_path)
    SlurmBackend(driver, Options()).queue.journal.record_intent("t", ["all"], [["a"]], "cpu", 0.0)
    monkeypatch.setenv("PATH", str(tmp_path))
    observer = Observer(driver)
    assert len(observer.states()) == 2
    assert observer.caveat == "no SLURM on this machine: what waits in its queue cannot be seen from here"


def test_slurm_s_variables_and_commands_are_named_in_its_backend_only() -> None:
    names = re.compile(r"\bSLURM_[A-Z]|SUBMITIT_EXECUTOR|\b(sbatch|squeue|sacct|scontrol|scancel|srun)\b")
    home = ROOT / "slurm" / "backends" / "slurm"
    rooms = [ROOT / name for name in ("cscdarts", "slurm", "benchmarks", "reports", "ablations")]
    modules = [path for room in rooms for path in room.rglob("*.py") if not path.is_relative_to(home)]
    assert len(modules) > 100
    named = {path for path in modules if names.search(path.read_text(encoding="utf-8"))}
    # The doctor looks at the cluster itself, at what no run of ours asks it: settings, limits, a trial submission.
    doctor = {path for path in named if path.is_relative_to(ROOT / "ablations" / "doctor")}
    assert named - doctor == set()
    room = ROOT / "ablations" / "doctor"
    looks = {"bundle.py", "privacy/scripts.py", *(f"subjects/{name}.py" for name in ("cluster", "evidence", "profile"))}
    assert {path.relative_to(room).as_posix() for path in doctor} == looks
