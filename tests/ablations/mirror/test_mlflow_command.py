"""`cscdarts mlflow`: hosts that are allowed, and an end that leaves nobody behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from ablations.commands import mlflow as module
from cscdarts.errors import UserError

#: A server with two workers of its own: one that ends when asked, one that does not listen.
_SERVER = """
import signal, subprocess, sys, time
from pathlib import Path
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
workers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
           for code in (deaf, "print('up', flush=True); import time; time.sleep(600)")]
for worker in workers:
    worker.stdout.readline()
Path(sys.argv[1]).write_text(" ".join(str(worker.pid) for worker in workers))
time.sleep(600)
"""
_CALLER = """
import signal, sys
from ablations.commands import mlflow
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have told them not to hear it
mlflow.GRACE_S = 1.0
sys.exit(mlflow._serve([sys.executable, "-c", sys.argv[1], sys.argv[2]]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_and_its_workers(tmp_path: Path, number: signal.Signals) -> None:
    told = tmp_path / "workers"
    caller = subprocess.Popen([sys.executable, "-c", _CALLER, _SERVER, str(told)])
    try:
        until = time.monotonic() + 60
        while not (told.exists() and told.read_text()):
            assert time.monotonic() < until
            assert caller.poll() is None
            time.sleep(0.05)
        workers = [int(word) for word in told.read_text().split()]
        (server,) = psutil.Process(caller.pid).children()
        caller.send_signal(number)
        assert caller.wait(30) == 128 + number
        assert [pid for pid in (server.pid, *workers) if psutil.pid_exists(pid) and _runs(pid)] == []
    finally:
        caller.kill()
        caller.wait()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_server_that_ends_gives_its_code() -> None:
    assert module._serve([sys.executable, "-c", "raise SystemExit(7)"]) == 7


def _command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str) -> list[str]:
    """The server's command line for some words."""
    kept: list[list[str]] = []

    def serve(command: list[str]) -> int:
        kept.append(command)
        return 0

    monkeypatch.setattr(module, "_serve", serve)
    monkeypatch.setattr(module, "_require_free", lambda host, port: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").touch()
    answer = CliRunner().invoke(module.mlflow, words, catch_exceptions=False, standalone_mode=False)
    assert answer.exit_code == 0
    return kept[0]


def test_hosts_are_allowed_beside_the_local_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    assert "--allowed-hosts" not in _command(monkeypatch, tmp_path), "MLflow's own rule"
    words = _command(monkeypatch, tmp_path, "--allow-host", "node7", "--allow-host", "*.lab.org")
    allowed = words[words.index("--allowed-hosts") + 1].split(",")
    for host in (
        "node7",
        "node7:5000",
        "a.lab.org",
        "a.lab.org:80",
        "localhost:5000",
        "127.0.0.1",
        "[::1]:5000",
        "[::1]",
    ):
        assert is_allowed_host_header(allowed, host), host
    for host in ("evil.org", "node77", "node7.evil.org", "lab.org", ""):
        assert not is_allowed_host_header(allowed, host), host


@pytest.mark.parametrize("name", ["", " ", "http://x", "a,b", "a b", "me@x"])
def test_what_is_no_host_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--allow-host"):
        _command(monkeypatch, tmp_path, "--allow-host", name)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "sqlite:///other/place.db", "sqlite:////nowhere/x.db"])
def test_a_store_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="Run a grid first"):
        CliRunner().invoke(module.mlflow, [], catch_exceptions=False, standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_half_made_store_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE runs (run_uuid TEXT)")
    database.close()
    monkeypatch.setattr(module, "_serve", _never)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(UserError, match="cut short"):
        CliRunner().invoke(module.mlflow, ["--port", "59999"], catch_exceptions=False, standalone_mode=False)


def _never(command: Any) -> int:
    raise AssertionError
