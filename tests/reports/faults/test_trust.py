"""A store from anybody: its names and places lead nowhere, what is gone is said; a server that is away is one line."""

import contextlib
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ablations.commands.report import report
from cscdarts.errors import UserError
from reports.build import build_report
from reports.read import artifacts
from reports.read.artifacts import file_size_limit, is_plain, local_path, local_place, wanted, why_not_read
from reports.read.store import load
from reports.read.tracking import require_server, shown
from tests.support.report_store import SyntheticStore, tiny

_NAMES = (
    "../../../X", "../X", "/X", "a/../../X", "..", ".", "", "a/b", "x\x00y", "C:\\X", "..\\X", "~", "a" * 300,
    "x.html", "-x",
)  # fmt: skip


def _set_tag(store: SyntheticStore, run_id: str, key: str, value: str) -> None:
    with contextlib.closing(sqlite3.connect(store.folder / "mlflow.db")) as database, database:
        database.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?", (value, run_id, key))


def _set_place(store: SyntheticStore, run_id: str, place: str) -> None:
    with contextlib.closing(sqlite3.connect(store.folder / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (place, run_id))


def _place(store: SyntheticStore, run_id: str) -> Path:
    return Path(store.client.get_run(run_id).info.artifact_uri)


def test_names_from_a_store_lead_nowhere(store: SyntheticStore, tmp_path: Path) -> None:
    for seed, name in enumerate(_NAMES):
        _set_tag(store, store.add(tiny(seed), {"test_error_pct": 3.0}, listed=False), "cscdarts.hash", name)
    store.add(tiny(99), {"test_error_pct": 3.0})
    uri = store.finish()
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "a" / "b" / "c" / "report"
    made = build_report(["quickstart"], out, uri=uri, formats=("csv", "html"))
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - set(before)
    assert all(path.is_relative_to(out) for path in new)
    assert [name for name in made.written if name.startswith("runs/")] == [f"runs/{tiny(99).hash}.html"]
    assert any(f"{len(_NAMES)} runs of the store were left out" in line for line in made.warnings)


def test_what_counts_as_a_name() -> None:
    assert not any(is_plain(name) for name in _NAMES)
    assert all(is_plain(name) for name in ("0123456789abcdef", "f" * 32, "a_b-c"))


SECRET = "hunter2 is the word"


def test_a_folder_that_is_no_runs_is_not_taken_in(store: SyntheticStore, tmp_path: Path) -> None:
    foreign = tmp_path / "private"
    foreign.mkdir()
    (foreign / "log.txt").write_text(SECRET)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "searches" / "k").mkdir(parents=True)
    (tmp_path / "other" / "searches" / "k" / "search-metrics.jsonl").write_text(SECRET)
    runs = [store.add(tiny(seed), {"test_error_pct": 3.0}) for seed in range(5)]
    _set_place(store, runs[0], str(foreign))
    _set_place(store, runs[1], f"{_place(store, runs[1])}/../../../../private")
    places = [_place(store, run) for run in runs]
    (places[2] / "log.txt").unlink()
    (places[2] / "log.txt").symlink_to(foreign / "log.txt")
    shutil.rmtree(places[3])
    places[3].symlink_to(foreign)
    (places[4] / "keys.json").write_text(
        f'{{"run": "x", "store": "{tmp_path}/other", "searches": ["k"], "search": "k", "retrain": null}}'
    )
    made = build_report(["quickstart"], tmp_path / "report", uri=store.finish(), formats=("csv", "html"))
    for path in made.folder.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    assert sum("not read" in line for line in made.warnings) == 5


def test_pipes_and_files_beyond_their_size_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_read(tmp_path) == ""
    monkeypatch.setitem(artifacts.SIZES, "check.json", 10)
    (tmp_path / "check.json").write_text("x" * 10)
    assert why_not_read(tmp_path) == ""
    (tmp_path / "check.json").write_text("x" * 11)
    assert "more than 10" in why_not_read(tmp_path)
    (tmp_path / "check.json").unlink()
    os.mkfifo(tmp_path / "check.json")
    assert "no plain file" in why_not_read(tmp_path)


def test_what_is_fetched_is_bounded_whatever_was_announced(tmp_path: Path) -> None:
    listed = [
        ("config.json", 5),
        ("../config.json", 5),
        ("model/weights.pt", 5),
        ("check.json", 2**40),
        ("log.txt", -1),
    ]
    assert wanted(listed) == ["config.json"]
    with pytest.raises(OSError, match="File too large"), file_size_limit(1000):
        (tmp_path / "x").write_bytes(b"x" * 5000)
    assert (tmp_path / "x").stat().st_size == 1000
    (tmp_path / "y").write_bytes(b"y" * 5000)


@pytest.mark.parametrize("how", ["gone", "emptied"])
def test_files_that_are_gone_are_said_in_the_report_and_beside_it(
    store: SyntheticStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for seed in range(3):
        store.add(tiny(seed), {"test_error_pct": 3.0}, check=None)
    uri = store.finish()
    place = store.folder / "artifacts"
    shutil.rmtree(place)
    if how == "emptied":
        place.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    words = ["build", "quickstart", "--out", str(tmp_path / "report"), "--formats", "csv,html,md", "--quiet"]
    answer = CliRunner().invoke(report, words, catch_exceptions=False)
    assert answer.exit_code == 0
    said = f"Artifacts of 3 runs not found at {place / '0'}"
    assert said in answer.stderr
    assert said in (tmp_path / "report" / "report.md").read_text().replace("\\_", "_")
    assert "cscdarts ablate watch" in answer.stderr


def test_places_beside_a_store_that_was_moved(tmp_path: Path) -> None:
    run = "f" * 32
    there = tmp_path / "new" / "mlruns" / "g" / run / "artifacts"
    there.mkdir(parents=True)
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    for stated in (
        f"/old/mlruns/g/{run}/artifacts",
        f"file:///old/mlruns/g/{run}/artifacts",
        f"mlruns/g/{run}/artifacts",
    ):
        assert local_place(stated, run, uri) == there
    assert local_place(f"/old/elsewhere/g/{run}/artifacts", run, uri) == Path(f"/old/elsewhere/g/{run}/artifacts")
    assert local_place(f"/old/mlruns/g/{run}/artifacts", "0" * 32, uri) == Path(f"/old/mlruns/g/{run}/artifacts")
    assert local_place("s3://bucket/x", run, uri) is None
    assert local_path("file://elsewhere/a") is None


class _Silent:
    """A server that takes connections and never answers."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(16)
        self.port = self.socket.getsockname()[1]
        self.kept: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.kept.append(self.socket.accept()[0])

    def close(self) -> None:
        self.socket.close()
        for one in self.kept:
            one.close()


@pytest.fixture
def silent() -> Iterator[_Silent]:
    server = _Silent()
    yield server
    server.close()


def _refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:{port}", "http://me:secret@127.0.0.1:{port}", "http://:80", "http://[::1"]
)
def test_a_server_that_is_away_is_one_sentence_at_once(tmp_path: Path, uri: str) -> None:
    began, told = time.monotonic(), list[str]()
    with pytest.raises(UserError) as error:
        build_report(["quickstart"], tmp_path / "out", uri=uri.format(port=_refused_port()), tell=told.append)
    assert time.monotonic() - began < 20
    assert "MLFLOW_TRACKING_URI" in str(error.value)
    assert "secret" not in str(error.value) + str(told)
    assert "\n" not in str(error.value)
    assert told
    assert told[0].startswith("asking http")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_takes_no_connection_is_waited_for_no_longer_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, timeout: float) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(UserError, match="no answer within 10 s"):
        require_server("http://192.0.2.1:5000")


@pytest.mark.slow
def test_a_server_that_never_answers_ends_within_its_bound(
    silent: _Silent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"Reading http://127\.0\.0\.1") as error:
        load(["quickstart"], f"http://127.0.0.1:{silent.port}")
    assert time.monotonic() - began < 60
    assert "\n" not in str(error.value)


def test_addresses_are_shown_without_passwords() -> None:
    assert shown("postgresql://me:pw@host/db") == "postgresql://host/db"
    assert shown("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"
    assert shown("http://host:5000/x@y") == "http://host:5000/x@y"


@pytest.mark.parametrize("seed", ["inf", "1e400", "nan", "-1e30", "x", ""])
def test_seeds_that_are_none_stop_no_report(store: SyntheticStore, seed: str) -> None:
    _set_tag(store, store.add(tiny(0), {"test_error_pct": 3.0}), "cscdarts.seed", seed)
    assert len(load(["quickstart"], store.finish()).runs) == 1


@pytest.mark.parametrize("text", ["{", "[" * 10**5, ""], ids=["torn", "deep", "empty"])
def test_a_torn_list_of_runs_is_said(store: SyntheticStore, tmp_path: Path, text: str) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0})
    uri = store.finish()
    (path,) = store.folder.rglob("grid.json")
    path.write_text(text)
    made = build_report(["quickstart"], tmp_path / "report", uri=uri, formats=("csv",))
    assert any("list of its runs is not to be made sense of" in line for line in made.warnings)


@pytest.mark.parametrize(
    "text",
    ["[]", "3", '{"runs": 3}', '{"runs": [1, null, {"hash": 1, "methods": 3}, {"methods": []}], "overrides": []}'],
)
def test_lists_of_runs_of_another_form_are_passed_over(store: SyntheticStore, text: str) -> None:
    store.add(tiny(0), {"test_error_pct": 3.0})
    uri = store.finish()
    (path,) = store.folder.rglob("grid.json")
    path.write_text(text)
    assert len(load(["quickstart"], uri).runs) == 1
