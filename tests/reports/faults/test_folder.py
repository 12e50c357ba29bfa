"""The report's folder: a kill at any step loses nothing, and what is the user's stays."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cscdarts.errors import UserError
from reports.render import folder
from reports.render.folder import MARK, new_report
from tests.support.injector import every_kill

OLD = {"index.html": "old page", "tables/t1.csv": "old", "runs/a.html": "old run"}
NEW = {"index.html": "new page", "tables/t2.csv": "new"}


def write(out: Path, files: dict[str, str]) -> None:
    with new_report(out) as writer:
        for name, text in files.items():
            writer.text(name, text)


def content(out: Path) -> dict[str, str]:
    """Text of every file but the mark, links and all."""
    return {
        path.relative_to(out).as_posix(): path.read_text()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != MARK
    }


def beside(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if path != out)


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(out, OLD)
    write(out, NEW)
    assert content(out) == NEW
    assert beside(out) == []


def test_what_is_the_users_stays(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(out, OLD)
    (out / "notes.md").write_text("mine")
    (out / "tables" / "own.csv").write_text("mine too")
    (out / "deep" / "er").mkdir(parents=True)
    (out / "deep" / "er" / "x").write_text("x")
    (out / "link").symlink_to("/nowhere/at/all")
    (out / ".DS_Store").write_bytes(b"\0")
    for _ in range(2):
        write(out, NEW)
        assert content(out) == {
            **NEW, "notes.md": "mine", "tables/own.csv": "mine too", "deep/er/x": "x", ".DS_Store": "\0",
        }  # fmt: skip
        assert (out / "link").readlink() == Path("/nowhere/at/all")
        assert beside(out) == []


@pytest.mark.parametrize("name", ["index.html", "tables/t2.csv"])
def test_a_file_of_the_users_under_a_name_of_the_reports_is_not_overwritten(tmp_path: Path, name: str) -> None:
    out = tmp_path / "report"
    write(out, OLD)
    (out / name).write_text("edited by hand")
    before = content(out)
    with pytest.raises(UserError, match=f"{name} is not as the report wrote it") as error:
        write(out, NEW)
    assert "\n" not in str(error.value)
    assert content(out) == before
    assert beside(out) == []
    (out / name).unlink()
    write(out, NEW)
    assert content(out) == NEW


@pytest.mark.parametrize("kind", ["folder for a file", "file for a folder", "pipe"])
def test_things_of_other_kinds_are_named(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "report"
    write(out, {"report.md": "old"})
    if kind == "folder for a file":
        (out / "index.html").mkdir()
        (out / "index.html" / "x").write_text("mine")
    elif kind == "file for a folder":
        (out / "tables").write_text("mine")
    else:
        os.mkfifo(out / "pipe")
    with pytest.raises(UserError, match="Move it away"):
        write(out, NEW)
    assert (out / "report.md").read_text() == "old"
    assert beside(out) == []


def test_a_changed_file_that_the_new_report_has_no_name_for_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(out, OLD)
    (out / "tables" / "t1.csv").write_text("edited by hand")
    write(out, NEW)
    assert content(out) == {**NEW, "tables/t1.csv": "edited by hand"}


def test_a_report_of_an_earlier_version_is_known_by_its_names(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(out, OLD)
    (out / MARK).write_text("This folder was written by cscdarts report and is replaced by the next one.\n")
    (out / "thesis.tex").write_text("mine")
    write(out, NEW)
    assert content(out) == {**NEW, "thesis.tex": "mine"}


_MARKS = [b"", b"\xff\xfe", b"[]", b'{"files": 3}', b'{"files": {"index.html": 1}}', b"[" * 10**5]


@pytest.mark.parametrize("mark", _MARKS, ids=range(len(_MARKS)))
def test_a_broken_mark_never_deletes_what_may_be_the_users(tmp_path: Path, mark: bytes) -> None:
    out = tmp_path / "report"
    write(out, {"report.md": "old"})
    (out / MARK).write_bytes(mark)
    (out / "notes.txt").write_text("mine")
    write(out, NEW)
    assert content(out)["notes.txt"] == "mine"
    assert content(out)["index.html"] == "new page"


def test_places_that_cannot_be_exchanged_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for out in (Path(), Path(".."), tmp_path, Path("/")):
        with pytest.raises(UserError, match="a folder that you are not in"):
            write(out, NEW)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(UserError, match="an earlier report"):
        write(tmp_path / "thesis", NEW)
    assert content(tmp_path / "thesis") == {"chapter.tex": "mine"}


def test_a_link_to_a_report_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "report").symlink_to(tmp_path / "disk" / "real")
    for files in (OLD, NEW):
        write(tmp_path / "report", files)
    assert (tmp_path / "report").is_symlink()
    assert content(tmp_path / "disk" / "real") == NEW


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "runs/../../../x", ""])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises((ValueError, OSError)):
        write(tmp_path / "in" / "report", {name: "outside"})
    assert list(tmp_path.rglob("x")) == []


#: Every call that changes something on disk in the swap.
STEPS = ["rename", "unlink", "rmdir", "mkdir", "write_text", "hardlink_to", "symlink_to", "write_bytes"]


def test_killed_at_any_step_and_called_again(tmp_path: Path) -> None:
    """A process that ends at once at each change on disk in turn: the old report or the new one can be had, the user's
    file is there, and the next call leaves nothing beside the report."""

    def work(change: int) -> Callable[[], object]:
        out = tmp_path / str(change) / "report"
        write(out, OLD)
        (out / "notes.md").write_text("mine")
        return lambda: write(out, NEW)

    seen = 0
    for change in every_kill(1, work):
        out = tmp_path / str(change) / "report"
        there = [content(path) for path in out.parent.iterdir() if path.is_dir()]
        whole = [{**files, "notes.md": "mine"} for files in (OLD, NEW)]
        assert any(wanted.items() <= found.items() for found in there for wanted in whole), change
        write(out, NEW)
        assert content(out) == {**NEW, "notes.md": "mine"}, change
        assert beside(out) == [], change
        seen += 1
    assert seen > 12


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_an_error_at_any_step_leaves_one_whole_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    step, failed = 0, 0
    while True:
        step += 1
        out = tmp_path / str(step) / "report"
        write(out, OLD)
        (out / "notes.md").write_text("mine")
        with monkeypatch.context() as patch:
            _fail_at(patch, step, error)
            try:
                write(out, NEW)
                raised = False
            except (UserError, OSError, KeyboardInterrupt):
                raised = True
        found = content(out)
        assert found in ({**OLD, "notes.md": "mine"}, {**NEW, "notes.md": "mine"}), step
        write(out, NEW)
        assert content(out) == {**NEW, "notes.md": "mine"}
        assert beside(out) == [], step
        failed += raised
        if _calls[0] < step:
            break
    assert failed > 5


_calls = [0]


def _fail_at(patch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    _calls[0] = 0

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            _calls[0] += 1
            if _calls[0] == step:
                raise error
            return real(*arguments, **options)

        return call

    for name in STEPS:
        patch.setattr(Path, name, failing(getattr(Path, name)))


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    write(out, OLD)
    others = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        import psutil

        born = int(psutil.Process(others.pid).create_time())
        host = socket.gethostname()
        theirs = tmp_path / f".report~new~{host}~{others.pid}~{born}~00"
        gone = tmp_path / f".report~new~{host}~{others.pid}~{born - 1000}~00"
        far = tmp_path / ".report~new~elsewhere~1~1~00"
        for path in (theirs, gone, far):
            path.mkdir()
        write(out, NEW)
        assert beside(out) == sorted([far.name, theirs.name])
        monkeypatch.setattr(folder, "ABANDONED_S", -1.0)
        write(out, NEW)
        assert beside(out) == [theirs.name]
    finally:
        others.communicate(b"\n")


def test_a_report_that_was_set_aside_comes_back_even_if_the_next_call_fails(tmp_path: Path) -> None:
    out = tmp_path / "report"
    write(out, OLD)
    out.rename(tmp_path / f".report~old~{socket.gethostname()}~999999999~1~00")

    def broken() -> None:
        with new_report(out):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        broken()
    assert content(out) == OLD
    shutil.rmtree(out)
    assert beside(out) == []
