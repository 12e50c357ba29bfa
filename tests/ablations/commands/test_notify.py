"""A driver's end is told once, in time, to whom it was asked for, and its address stands nowhere."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ablations.drive.driver import Driver
from ablations.drive.tell import notify
from ablations.drive.tell.notify import Recipient, desktop_command, notified, read_target, send
from ablations.grid.load import load_grid
from cscdarts.errors import UserError
from tests.support.harness.grids import write_grid
from tests.support.harness.slurm_site import Site

SECRET = "T0pS3cretToken"


class Hook:
    """A web hook that keeps what it is told.

    Attributes:
        told: the bodies; headers: of each.
        answers: status codes to give, the last one for good; a negative one waits that many seconds first.
    """

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers = [200]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.told.append(json.loads(body))
                outer.headers.append(dict(self.headers))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if answer < 0:
                    time.sleep(-answer)
                self.send_response(abs(answer) if answer > 0 else 200)
                if 300 <= answer < 400:
                    self.send_header("Location", f"http://127.0.0.1:{outer.server.server_port}/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://user:{SECRET}@127.0.0.1:{self.server.server_port}/hooks/{SECRET}?key={SECRET}"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(notify, "PAUSE_S", 0.0)
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(load_grid(write_grid(tmp_path / "mine.py", ["", ""]), "smoke"), tmp_path / "runs")


@pytest.mark.parametrize(
    ("error", "code", "ended"),
    [(None, 0, "done"), (KeyboardInterrupt(), 130, "interrupted"), (UserError("a", 1, "b", "c"), 2, "failed"),
     (OSError("no space"), 2, "failed"), (RuntimeError("x"), 1, "failed")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_each_end_is_told_once(
    hook: Hook, driver: Driver, error: BaseException | None, code: int, ended: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        if error is not None:
            raise error
        return 0

    if error is None:
        assert notified(read_target(hook.url), driver, work) == 0
    else:
        with pytest.raises(type(error)):
            notified(read_target(hook.url), driver, work)
    (told,) = hook.told
    assert (told["exit_code"], told["ended"]) == (code, ended)
    assert (told["grid"], told["scale"], told["runs"], told["counts"]) == ("mine", "smoke", 2, {"new": 2})
    assert "mine (smoke)" in told["text"]
    assert hook.headers[0]["Authorization"].startswith("Basic ")
    assert capsys.readouterr() == ("", "")


def test_unfinished_and_submitted(hook: Hook, driver: Driver) -> None:
    assert notified(read_target(hook.url), driver, lambda: 1) == 1
    assert notified(read_target(hook.url), driver, lambda: 0, waits=False) == 0
    assert [told["ended"] for told in hook.told] == ["unfinished", "submitted"]


def test_nobody_is_told_unless_asked_for(hook: Hook, driver: Driver) -> None:
    assert notified(read_target("off"), driver, lambda: 0) == 0
    assert notified(None, driver, lambda: 0) == 0
    assert hook.told == []


@pytest.mark.parametrize(
    ("answers", "attempts", "said"),
    [([500, 200], 2, ""), ([404], 2, "it answered 404"), ([302], 2, "it answered 302"), ([-0.5], 2, "no answer")],
)
def test_one_more_attempt_and_a_limit(
    hook: Hook, answers: list[int], attempts: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "LIMIT_S", 0.2 if answers[0] < 0 else 5.0)
    hook.answers = answers
    began = time.monotonic()
    found = send(Recipient(hook.url), {"text": "x"})
    assert time.monotonic() - began < 5
    assert len(hook.told) == attempts
    assert said in found
    assert bool(said) == bool(found)
    assert SECRET not in found


def test_a_host_that_cannot_be_reached_is_one_line_and_changes_nothing(
    driver: Driver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "PAUSE_S", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = read_target(f"http://127.0.0.1:{port}/{SECRET}")
    assert notified(target, driver, lambda: 0) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "cscdarts: http://127.0.0.1 could not be notified: Connection refused"
    assert SECRET not in repr(target)


@pytest.mark.parametrize(
    "text",
    ["", "yes", f"ftp://host/{SECRET}", f"file:///{SECRET}", f"http:///{SECRET}", f"https://h:x/{SECRET}",
     f"https://h/{SECRET} b", f"https://h/{SECRET}\x1b", f"https://h/{SECRET}é", f"https://[{SECRET}"],
)  # fmt: skip
def test_other_targets_are_refused_and_not_repeated(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Callable[..., tuple[int, str, str]]
) -> None:
    with pytest.raises(UserError) as error:
        read_target(text)
    assert SECRET not in str(error.value) + repr(vars(error.value))
    monkeypatch.chdir(tmp_path)
    if text and "\x1b" not in text:
        monkeypatch.setenv("CSCDARTS_NOTIFY", text)
        code, out, err = command_line("ablate", "run", "quickstart", "--scale", "smoke")
        assert code == 2
        assert "CSCDARTS_NOTIFY" in err
        assert SECRET not in out + err
        assert list(tmp_path.iterdir()) == []


def test_the_desktop_is_told_through_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "notify-send"
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$0.said"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert send(Recipient(), {"text": "<a & b>"}) == ""
    assert (tmp_path / "notify-send.said").read_text().splitlines() == [
        "--app-name=cscdarts", "--", "cscdarts", "&lt;a &amp; b&gt;",
    ]  # fmt: skip
    tool.write_text("#!/bin/sh\necho 'no bus' >&2\nexit 3\n")
    assert send(Recipient(), {"text": "x"}) == "notify-send ended with 3: no bus"


def test_a_machine_without_a_desktop_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(notify, "PAUSE_S", 0.0)
    assert desktop_command({"text": "x"}) is None
    assert send(Recipient(), {"text": "x"}) == "neither notify-send nor osascript is on this machine"


def test_a_real_driver_tells_it_and_writes_the_address_nowhere(hook: Hook, site: Site) -> None:
    write_grid(site.path / "mine.py", [""])
    root = Path(__file__).parents[3]
    variables = {**os.environ, "PYTHONPATH": str(root), "CSCDARTS_NOTIFY": hook.url}
    command = [sys.executable, "-m", "tests.support.harness.drive", "ablate", "run", "mine.py", "--scale", "smoke"]
    done = subprocess.run(
        command, cwd=site.path, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (told,) = hook.told
    assert (told["ended"], told["counts"], told["exit_code"]) == ("done", {"done": 1}, 0)
    held = [path for path in site.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert held == []
    assert SECRET not in done.stdout + done.stderr


def test_a_signal_that_ends_the_driver_is_told(hook: Hook, tmp_path: Path) -> None:
    write_grid(tmp_path / "mine.py", [""])
    script = f"""
import time
from pathlib import Path
from ablations.drive.driver import Driver
from ablations.drive.tell.notify import notified, read_target
from ablations.grid.load import load_grid
driver = Driver(load_grid("mine.py", "smoke"), Path("runs"))
def work():
    print("begun", flush=True)
    time.sleep(60)
notified(read_target({hook.url!r}), driver, work)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    process.stdout.close()
    (told,) = hook.told
    assert (told["ended"], told["exit_code"]) == ("ended by SIGTERM", 143)
