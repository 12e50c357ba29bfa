"""Locks: one owner, stale ones taken over by exactly one, lost ones noticed."""

import json
import multiprocessing
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from slurm.lock import Lock, this_process


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
    assert Lock(tmp_path / "lock", stale_s=60).acquire()


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
    Lock(tmp_path / "lock").acquire()
    assert Lock(tmp_path / "lock").acquire()


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
