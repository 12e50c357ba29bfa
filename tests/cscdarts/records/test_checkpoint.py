"""Checkpoints: torn, foreign, old and malicious files are refused in a sentence, and the previous one is used."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cscdarts.errors import UserError
from cscdarts.records.checkpoint import load_checkpoint, previous_of, save_checkpoint
from tests.support.harness.full_disk import FullDisk

CPU = torch.device("cpu")


def silent(line: str) -> None:
    pass


def loaded(path: Path, report: Callable[[str], None] = silent) -> Any:
    """The checkpoint of a run that has to have one."""
    found = load_checkpoint(path, "h", CPU, report)
    assert found is not None
    return found


def test_a_torn_checkpoint_is_named_and_the_previous_one_used(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    lines: list[str] = []
    for number in (1, 2):
        save_checkpoint(path, {"hash": "h", "number": number, "tensor": torch.ones(3)})
    assert loaded(path, lines.append)["number"] == 2
    content = path.read_bytes()
    for torn in (content[: len(content) // 2], content[:100] + b"\x00" + content[101:], b""):
        path.write_bytes(torn)
        assert loaded(path, lines.append)["number"] == 1
        assert "checkpoint.pt is not used" in lines[-1]


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"hash": "another"})
    with pytest.raises(UserError, match="belongs to run another"):
        load_checkpoint(path, "h", CPU, silent)
    torch.save({"hash": "h"}, path)
    with pytest.raises(UserError, match="no seal"):
        load_checkpoint(path, "h", CPU, silent)
    assert load_checkpoint(tmp_path / "none.pt", "h", CPU, silent) is None


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    monkeypatch.setattr("cscdarts.records.checkpoint._FORMAT", 0)
    save_checkpoint(path, {"hash": "h"})
    monkeypatch.undo()
    with pytest.raises(UserError, match="another version"):
        load_checkpoint(path, "h", CPU, silent)


def test_a_malicious_checkpoint_executes_nothing(tmp_path: Path) -> None:
    import hashlib
    import io

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    buffer = io.BytesIO()
    torch.save({"hash": "h", "evil": Evil()}, buffer)
    payload = buffer.getvalue()
    (tmp_path / "checkpoint.pt").write_bytes(payload + b"cscdarts-seal-1:" + hashlib.sha256(payload).digest())
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported"):
        load_checkpoint(tmp_path / "checkpoint.pt", "h", CPU, silent)
    assert not (tmp_path / "pwned").exists()


def test_a_crash_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for number in (1, 2):
        save_checkpoint(path, {"hash": "h", "number": number})
    path.rename(tmp_path / "checkpoint.fresh.pt")
    assert loaded(path)["number"] == 2
    (tmp_path / "checkpoint.fresh.pt").unlink()
    assert previous_of(path).exists()
    assert loaded(path)["number"] == 1


@pytest.mark.parametrize("only", [True, False])
def test_a_disk_that_is_full_at_any_write_of_a_checkpoint_costs_none(tmp_path: Path, only: bool) -> None:
    """The one before stays good, the error names the file, nothing half-written stays, and the next one is written."""
    path = tmp_path / "whole" / "checkpoint.pt"
    with FullDisk(tmp_path) as disk:
        save_checkpoint(path, {"hash": "h", "number": 0})
        first = disk.writes
        save_checkpoint(path, {"hash": "h", "number": 0})
    for at in range(1, disk.writes - first + 1):
        path = tmp_path / str(at) / "checkpoint.pt"
        save_checkpoint(path, {"hash": "h", "number": 1})
        with FullDisk(tmp_path, at, only), pytest.raises(OSError, match=r"No space left on device: '.*checkpoint"):
            save_checkpoint(path, {"hash": "h", "number": 2})
        assert loaded(path)["number"] in (1, 2), at
        assert not list(path.parent.glob(".*"))
        save_checkpoint(path, {"hash": "h", "number": 3})
        assert loaded(path)["number"] == 3
