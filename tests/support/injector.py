"""Faults put in on purpose: a process that ends, as by SIGKILL, before the n-th change that it makes on disk; and files
with contents that nobody expects."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cscdarts.records.run_folder import write_atomic

#: Audit events of what changes something on disk.
CHANGES = frozenset(
    {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.utime", "os.symlink", "os.truncate"}
)
KILLED = 9

#: Installs further changes to be counted, say those that a library makes without telling Python: called with the
#: counter in the process that is to be killed.
Further = Callable[[Callable[[], None]], None]


def killed_before(change: int, work: Callable[[], object], further: Further = lambda count: None) -> bool:
    """Do something in a process of its own, which ends at once before its n-th change on disk, counted from 0.

    No handler and no `finally` of it runs then. It is forked, so that what is imported here is at hand there.

    Returns:
        False where it made fewer changes, and so came to its end.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # what happens here ends in _exit: nothing of the test's own clean-up runs twice
        left = change

        def count() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(KILLED)

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            flags = arguments[2] if event == "open" and len(arguments) > 2 else 0
            if event in CHANGES or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
                count()

        code = 1
        try:
            further(count)
            sys.addaudithook(audit)
            work()
            code = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(write)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(read, "rb") as said:
        assert code in (0, KILLED), f"ended with {code} before change {change}: {said.read().decode()}"
    return code == KILLED


def every_kill(
    stride: int, work: Callable[[int], Callable[[], object]], further: Further = lambda count: None
) -> Iterator[int]:
    """Kill before every `stride`-th change, until the work comes to its end; yields the change after each kill.

    Args:
        work: makes what is to be done, in a place of its own, for a change.
    """
    for change in range(0, 100_000, stride):
        if not killed_before(change, work(change), further):
            return
        yield change


def _half(path: Path) -> None:
    before = path.with_name(f".before~{path.name}")
    whole = before.read_bytes() if before.is_file() else b'{"stage": "search"}'
    path.write_bytes(whole[: len(whole) // 2])


def _not_ours(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0)


#: What a file may hold that nobody expects; a function makes of the file what no content can be.
CONTENTS: Mapping[str, bytes | Callable[[Path], object]] = {
    "empty": b"",
    "garbage": bytes(range(256)) * 3,
    "object": b"{}",
    "list": b"[]",
    "null": b"null",
    "text": b'"text"',
    "number": b"-5",
    "not a number": b"NaN",
    "infinite": b"1e999",
    "very many digits": b"9" * 6000,
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "half a character": b'{"text": "\\ud800", "key": "\\ud800", "values": {}, "stage": "\\ud800", "message": "x"}',
    "another encoding": '{"text": "ä"}'.encode("utf-16"),
    "a folder": lambda path: path.mkdir(),
    "a folder with a file": lambda path: write_atomic(path / "x", "x"),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "half of it": _half,
    **({"not ours to read": _not_ours} if os.geteuid() else {}),  # root reads everything
}


def spoil(path: Path, how: bytes | Callable[[Path], object]) -> None:
    """Put something else in a file's place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or path.is_symlink():
        path.rename(path.with_name(f".before~{path.name}"))
    if isinstance(how, bytes):
        path.write_bytes(how)
    else:
        how(path)


def variants(value: Any) -> Iterator[tuple[str, Any]]:
    """A JSON object key by key: each key taken away, and each of its values replaced by those of other types."""
    others: tuple[Any, ...] = (None, [], {}, "text", "\ud800", -5, 10**30, 1.5, True, [[]], {"a": []})
    for key in value:
        yield f"without {key}", {name: one for name, one in value.items() if name != key}
        for number, other in enumerate(others):
            if type(other) is not type(value[key]) or number in (4, 6):
                yield f"{key} other {number}", {**value, key: other}
