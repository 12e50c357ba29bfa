"""Locks: one owner, stale ones taken over by exactly one, lost ones noticed."""

import contextlib
import errno
import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slurm.lock import Lock, file_time, this_process


def _write(path: Path, **changes: object) -> None:
    owner = replace(this_process("someone"), **changes)  # type: ignore[arg-type]
    path.write_text(json.dumps(vars(owner)))


def _age(path: Path, seconds: float) -> None:
    stat = path.stat()
    os.utime(path, (stat.st_atime - seconds, stat.st_mtime - seconds))


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire("first")
    assert not second.acquire("second")
    owner = second.holder()
    assert owner is not None
    assert owner.what == "first"
    assert str(os.getpid()) in str(owner)
    first.release()
    assert second.acquire("second")
    assert not (tmp_path / "lock").read_text().startswith("first")


def test_release_leaves_another_owners_lock_alone(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock", stale_s=10), Lock(tmp_path / "lock", stale_s=10)
    assert first.acquire()
    _age(tmp_path / "lock", 11)
    assert second.acquire()
    assert not first.refresh()
    first.release()
    assert (tmp_path / "lock").exists()
    assert second.refresh()


def test_a_dead_process_on_this_host_is_taken_over_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    _write(tmp_path / "lock", pid=process.pid)
    assert Lock(tmp_path / "lock").holder() is None
    assert Lock(tmp_path / "lock").acquire()


def test_a_reused_pid_is_not_mistaken_for_the_owner(tmp_path: Path) -> None:
    _write(tmp_path / "lock", started=this_process().started - 1000)
    assert Lock(tmp_path / "lock").acquire()


def test_another_hosts_owner_is_taken_over_only_when_silent(tmp_path: Path) -> None:
    _write(tmp_path / "lock", host="elsewhere." + socket.gethostname())
    assert not Lock(tmp_path / "lock", stale_s=60).acquire()
    _age(tmp_path / "lock", 61)
    assert Lock(tmp_path / "lock", stale_s=60, watch_s=0.1).acquire()


def test_the_next_life_of_a_scheduler_job_takes_its_own_claim(tmp_path: Path) -> None:
    _write(tmp_path / "lock", host="node7", job="12_3", life=0)
    assert not Lock(tmp_path / "lock").acquire(job="12_4", life=1)
    assert Lock(tmp_path / "lock").acquire(job="12_3", life=1)


@pytest.mark.parametrize(
    ("owner", "mine", "taken"),
    [
        ({"job": "12", "life": 0}, ("12", 1), True),
        ({"job": "12", "life": 3}, ("12", 4), True),
        ({"job": "12", "life": None}, ("12", 1), True),  # a claim of before lives were counted
        ({"job": "12", "life": 0}, ("12", 0), False),  # two workers, or two steps, of one job
        ({"job": "12", "life": 1}, ("12", 1), False),
        ({"job": "12", "life": 2}, ("12", 1), False),  # the later one keeps it
        ({"job": "12", "life": 0}, ("12", None), False),  # nothing is known of lives
        ({"job": "", "life": None}, ("", 5), False),  # a worker that no scheduler started
        ({"job": "12", "life": 0}, ("", None), False),
        ({"job": "", "life": None}, ("12", 1), False),
        ({"job": "12", "life": 0, "here": True}, ("12", 1), False),  # another cluster's job, seen to live
    ],
)  # fmt: skip
def test_what_counts_as_a_later_life(
    tmp_path: Path, owner: dict[str, object], mine: tuple[str, int | None], taken: bool
) -> None:
    here = owner.pop("here", False)
    _write(tmp_path / "lock", host=socket.gethostname() if here else "node7", **owner)
    assert Lock(tmp_path / "lock").acquire("run", *mine) is taken
    assert (Lock(tmp_path / "lock").refresh()) is False


def test_a_claim_without_a_life_can_be_read(tmp_path: Path) -> None:
    values = vars(this_process("older"))
    values.pop("life")
    (tmp_path / "lock").write_text(json.dumps(values))
    owner = Lock(tmp_path / "lock").holder()
    assert owner is not None
    assert (owner.what, owner.life) == ("older", None)


def test_an_unreadable_lock_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("{torn")
    assert Lock(tmp_path / "lock").acquire()


def test_a_guard_left_by_a_dead_take_over_does_not_block_for_ever(tmp_path: Path) -> None:
    _write(tmp_path / "lock", started=0.0)
    guard = tmp_path / ".lock.guard"
    guard.touch()
    assert not Lock(tmp_path / "lock").acquire()
    _age(guard, 3600)
    assert Lock(tmp_path / "lock").acquire()


def test_a_guard_of_a_process_that_is_gone_blocks_nobody(tmp_path: Path) -> None:
    _write(tmp_path / "lock", started=0.0)
    _write(tmp_path / ".lock.guard", started=0.0)
    assert Lock(tmp_path / "lock").acquire()
    _write(tmp_path / "other", started=0.0)
    (tmp_path / ".other.guard").write_text(json.dumps(vars(this_process("takes over"))))
    assert not Lock(tmp_path / "other").acquire()


def test_held_releases_after_an_error(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")

    def work() -> None:
        with lock.held() as got:
            assert got
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert not (tmp_path / "lock").exists()


def _race(path: str, barrier: object, wins: object) -> None:
    lock = Lock(Path(path))
    barrier.wait()  # type: ignore[attr-defined]
    if lock.acquire():
        wins.put(os.getpid())  # type: ignore[attr-defined]
        barrier.wait()  # type: ignore[attr-defined]
    else:
        barrier.wait()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_wins(tmp_path: Path, stale: bool) -> None:
    context = multiprocessing.get_context("spawn")
    for attempt in range(3):
        path = tmp_path / f"lock{attempt}"
        if stale:
            _write(path, started=0.0)
        barrier, wins = context.Barrier(4), context.Queue()
        racers = [context.Process(target=_race, args=(str(path), barrier, wins)) for _ in range(4)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert [racer.exitcode for racer in racers] == [0] * 4
        won = [wins.get(timeout=5)]
        assert wins.empty()
        assert won[0] in [racer.pid for racer in racers]
        wins.close()


HOUR = 3600.0


def _elsewhere(path: Path, **changes: object) -> bytes:
    _write(path, host="elsewhere", **changes)
    return path.read_bytes()


@contextlib.contextmanager
def _meanwhile(act: Callable[[], object], every_s: float = 0.05) -> Iterator[None]:
    """Another host does something again and again."""
    end = threading.Event()

    def go_on() -> None:
        while not end.wait(every_s):
            act()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_a_host_whose_clock_is_an_hour_off_the_file_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Ages are differences of two times of the file system: the observer's own clock says nothing."""
    path, clock = tmp_path / "lock", time.time
    monkeypatch.setattr("slurm.lock.time.time", lambda: clock() + ahead)
    _elsewhere(path)
    assert Lock(path, stale_s=60, watch_s=HOUR).holder() is not None
    assert not Lock(path, stale_s=60, watch_s=HOUR).acquire()
    _age(path, 61)
    # A file system that has a clock of its own, as this difference tells, need not be watched.
    assert Lock(path, stale_s=60, watch_s=HOUR).acquire()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
@pytest.mark.parametrize("lives", [True, False])
def test_a_file_system_stamped_by_hosts_an_hour_apart(tmp_path: Path, ahead: float, lives: bool) -> None:
    """The owner's signs of life bear his own clock's time: only that they come tells that he lives."""
    path = tmp_path / "lock"
    _elsewhere(path)

    def sign() -> None:
        os.utime(path, (time.time() + ahead,) * 2)

    sign()
    with _meanwhile(sign) if lives else contextlib.nullcontext():
        assert Lock(path, stale_s=0.6, watch_s=0.4).acquire() is not lives


def test_nothing_is_taken_over_where_the_time_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full or read-only file system gives no time of its own; this host's clock is no substitute."""
    _elsewhere(tmp_path / "lock")
    _age(tmp_path / "lock", 1e6)
    monkeypatch.setattr("slurm.lock.file_time", lambda folder: None)
    lock = Lock(tmp_path / "lock", stale_s=1, watch_s=0)
    assert not lock.acquire()
    assert lock.age() == 0
    assert file_time(tmp_path / "none") is None


@pytest.mark.parametrize("seen", [0, 1, 40, -1], ids=["empty", "a byte", "a part", "zeros"])
def test_a_lock_whose_content_is_seen_late_is_held(tmp_path: Path, seen: int) -> None:
    """Another host's file has its name here before its content, as a network's file system may show it."""
    path = tmp_path / "lock"
    content = _elsewhere(path)
    path.write_bytes(content[:seen] if seen >= 0 else bytes(len(content)))
    with _meanwhile(lambda: path.write_bytes(content), 0.3):
        assert not Lock(path, watch_s=2).acquire()
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"{torn", b"{}", b"[]", b'"host"', b"\xff\xfe", b'{"host": 3}'])
def test_damage_is_nobody_s(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert Lock(tmp_path / "lock").acquire()


def test_an_empty_lock_that_stays_so_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    assert Lock(tmp_path / "lock", watch_s=0.1).acquire()


def test_a_link_whose_answer_was_lost_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS repeats a request whose answer does not come; the second then says that the file is there."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    lock = Lock(tmp_path / "lock")
    assert lock.acquire()
    assert lock.refresh()
    assert not Lock(tmp_path / "lock").acquire()


def test_a_clock_that_is_set_does_not_make_a_live_owner_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_process()
    monkeypatch.setattr("psutil.Process.create_time", lambda self: 1.0)
    assert not me.dead_here()
    assert replace(me, boot="another start of the system").dead_here()
    assert replace(me, started=me.started + 1).dead_here()
    assert replace(me, boot="", started=1000.0).dead_here(), "as systems without a count of their starts are asked"


def test_a_lock_is_whole_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def note(*words: object, **keys: object) -> object:
            order.append(name)
            return call(*words, **keys)

        return note

    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    _write(tmp_path / "lock", started=0.0)
    assert Lock(tmp_path / "lock").acquire()
    (tmp_path / "lock").unlink()
    assert Lock(tmp_path / "lock").acquire()
    assert order == ["fsync", "link", "fsync", "replace", "fsync", "link"]


def test_a_full_disk_leaves_no_part_of_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Lock(tmp_path / "lock").acquire()
    assert list(tmp_path.iterdir()) == []
