"""MLflow's own variables: used by its client, refused in words, and never told on."""

import contextlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from ablations.commands.mlflow import mlflow as command
from ablations.drive.mirroring import mirroring
from ablations.mirror.sync import GridMirror
from cscdarts.errors import UserError
from reports.read.tracking import one_line, shown
from tests.support.harness.mirrors import driver_of, mirror_once, work

SECRET = "planted-5f2c9a"


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("MLFLOW_RUN_ID", "0" * 32, "one row"),
        ("MLFLOW_EXPERIMENT_ID", "7", "its own name, mine"),
        ("MLFLOW_EXPERIMENT_NAME", "others", "its own name, mine"),
        ("MLFLOW_TRACKING_USERNAME", "me", "MLFLOW_TRACKING_PASSWORD is not"),
        ("MLFLOW_TRACKING_PASSWORD", SECRET, "MLFLOW_TRACKING_USERNAME is not"),
    ],
)
def test_what_a_grid_cannot_do_is_refused_before_anything_runs(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    driver = driver_of(tmp_path, [""])
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=why) as caught, mirroring(driver, print):
        pytest.fail("it began")
    assert SECRET not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    work(driver, [0])
    words = ["log-models", "mine", "--runs", str(tmp_path / "runs")]
    with pytest.raises(UserError, match=why):
        CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)


def test_the_grids_own_experiment_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    with mirroring(driver_of(tmp_path, [""]), print):
        pass


class _Refusing(BaseHTTPRequestHandler):
    """A server that knows nobody, and tells what it was told."""

    seen: list[str]

    def do_GET(self) -> None:
        told = self.headers.get("Authorization", "")
        self.seen.append(told)
        answer = f'{{"error_code": "PERMISSION_DENIED", "message": "{told} is nobody"}}'.encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def _refusing() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("_Handler", (_Refusing,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_token_reaches_the_server_and_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = driver_of(tmp_path, [""])
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    with _refusing() as (address, seen):
        with pytest.raises(UserError, match="PERMISSION_DENIED") as caught:
            GridMirror(driver.grid, driver.folder, address).open()
        said: list[str] = []
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with mirroring(driver, said.append) as mirror:
            mirror(driver.states(), last=True)
    assert f"Bearer {SECRET}" in seen
    assert said
    assert SECRET not in str(caught.value) + "".join(said)


def test_secrets_are_in_no_text_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    assert shown(f"https://me:{SECRET}@host/a and {SECRET}") == "https://host/a and ***"
    assert one_line(ValueError(f"{SECRET} is wrong")) == "ValueError: *** is wrong"


def test_secrets_are_in_no_file(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"{SECRET}-2")
    driver = driver_of(tmp_path, ["", "raise"])
    work(driver, [0, 1])
    mirror_once(driver, uri)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == SECRET
