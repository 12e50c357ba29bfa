"""Fixtures that several areas share."""

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.harness.slurm_site import Site, cluster

# One thread per worker, and for the processes it starts: with more, workers wait for each other's cores and spin, and
# the supernets' tests take eight times as long. A test of threads sets them itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C and hand that on: what the tests start must hear it, whoever started them.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: Set to anything: also run the whole of what is otherwise sampled (marked `whole`), which takes hours.
WHOLE = "CSCDARTS_WHOLE"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share something made once for their module go to one worker, or each worker would make it again; and
    of several workers none is left with the longest at the end."""
    if not os.environ.get(WHOLE):
        left = [item for item in items if item.get_closest_marker("whole")]
        items[:] = [item for item in items if not item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=left)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("xdist_group") is None:
            used = (found[-1] for found in item._fixtureinfo.name2fixturedefs.values())
            if any(one.scope == "module" and one.func.__module__.startswith("tests.") for one in used):
                item.add_marker(pytest.mark.xdist_group(item.module.__name__))
    if hasattr(config, "workerinput"):
        first = ("slurm", "xdist_group", "slow")
        items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in first])


#: How many modules were there when `_keep` was last called.
_kept = 0


def _keep() -> None:
    """What imports have made stays to the end, so no collection need look through it; a search and a retraining begin
    with one each, which took half a second."""
    global _kept
    if len(sys.modules) > _kept + 100:
        gc.collect()
        gc.freeze()
        _kept = len(sys.modules)


def pytest_collection_finish() -> None:
    _keep()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    _keep()


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A job changes the variables and the signals of its process, which is this one; afterwards they are as before.

    Before `monkeypatch` takes back its own changes, which it does to what it finds.
    """
    before = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process and gives (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        from ablations.cli import main

        with pytest.raises(SystemExit) as end:
            main(words)
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real NAS-Bench-201 results and published numbers, which are not part of the project; skips where they are not
    at hand.

    Only comparisons with real results take it (`tests/benchmarks/test_real_tables.py`); all else works on files that
    the tests write.
    """
    path = Path(os.environ.get("CSCDARTS_SHARED") or Path(__file__).parents[2] / "shared")
    if not path.is_dir():
        pytest.skip(f"compares with real benchmark results, which are not here: no folder {path}; set CSCDARTS_SHARED")
    return path


@pytest.fixture(scope="session")
def slurm() -> None:
    """A usable SLURM cluster with accounting; skips with the reason where there is none."""
    for command in ("sbatch", "squeue", "sacct", "scontrol"):
        if shutil.which(command) is None:
            pytest.skip(f"no SLURM here: {command} is missing (make slurm-up)")
    for question in (["sinfo", "-h"], ["sacct", "-n", "-X", "-o", "JobID"]):
        try:
            done = subprocess.run(question, capture_output=True, text=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"SLURM does not answer: {question[0]} took more than 30 s (make slurm-up)")
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            pytest.skip(f"SLURM does not run: {question[0]}: {reason} (make slurm-up)")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store without runs: making its tables takes seconds, copying it none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> "object":
    """`ablations.drive.driver.TaskFunctions` that call the tiny engine of `engine`, importable by workers and jobs."""
    from ablations.drive.driver import TaskFunctions

    folders = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", ":".join(part for part in folders if part))
    return TaskFunctions("tests.support.harness.engine:run_task")


@pytest.fixture
def no_other_on_the_cluster() -> None:
    """Asked for by a test that stops what all tests on the cluster need; see `site`."""


@pytest.fixture
def site(tmp_path: Path, empty_store: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A folder with an empty store to run drivers in; processes and jobs left over are ended."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    with cluster(alone="no_other_on_the_cluster" in request.fixturenames):
        site = Site(tmp_path)
        yield site
        _end(site)


def _end(site: Site) -> None:
    for process in site.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout is not None and not process.stdout.closed:
            process.communicate()
    for journal in site.path.glob("runs/*/submissions.jsonl"):
        jobs = {job.split("_")[0] for job in re.findall(r'"(\d+(?:_\d+)?)"', journal.read_text())}
        names = set(re.findall(r'"token": "(cscdarts-[^"]+)"', journal.read_text()))
        if jobs:
            subprocess.run(["scancel", *jobs], capture_output=True, check=False)
        for name in names:
            subprocess.run(["scancel", "-n", name], capture_output=True, check=False)


@pytest.fixture
def own_operation() -> Iterator[list[str]]:
    """Names of registered operations to forget after a test."""
    from cscdarts.spaces import OPERATIONS

    names: list[str] = []
    yield names
    for name in names:
        OPERATIONS.unregister(name)
