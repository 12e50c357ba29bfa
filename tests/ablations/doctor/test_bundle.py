"""The archive: the same bytes for the same pieces, bounded in size, with a first file that says what it holds."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from ablations.doctor import bundle
from ablations.doctor.bundle import archive, known_here
from ablations.doctor.finding import Attachment, Named, Piece, as_json, bad, good, weak
from ablations.doctor.privacy.names import Known, Redactor
from ablations.doctor.privacy.secrets import Secrets
from ablations.doctor.question import Question
from ablations.doctor.subjects.evidence import LAST_LINES, tail_lines

FINDINGS = [good("disk", "free at /home/alice/x"), weak("git", "changed", "commit"), bad("x", "on n7", "ask alice")]
REDACT = Known(users=("alice",), hosts=("n7",), roots={"/home/alice": "HOME"})


def files_of(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        entries = tar.getmembers()
        assert all((one.uid, one.gid, one.uname, one.gname, one.mtime) == (0, 0, "", "", 0) for one in entries)
        found = {}
        for one in entries:
            file = tar.extractfile(one)
            assert file is not None
            found[one.name.removeprefix("cscdarts-doctor/")] = file.read().decode()
    return found


def test_what_goes_in_comes_out_replaced_and_in_the_same_order_each_time() -> None:
    pieces: list[Piece] = [
        Attachment("runs/b/log.txt", "alice on n7: token=abcdef\n"),
        as_json("facts.json", {"api_key": "q", "x": "/opt/y"}),
        Attachment("broken.json", "{not json of alice"), weak("bundle", "no slurm for alice", "x"),
    ]  # fmt: skip
    first = archive(FINDINGS, pieces, Redactor(REDACT, Secrets()))
    assert first == archive(FINDINGS, pieces, Redactor(REDACT, Secrets()))
    found = files_of(first)
    assert list(found) == ["README.txt", "broken.json", "facts.json", "findings.json", "runs/b/log.txt"]
    assert found["runs/b/log.txt"] == "USER on HOST-1: token=SECRET\n"
    assert json.loads(found["facts.json"]) == {"api_key": "SECRET", "x": "PATH-1"}
    assert [one["sentence"] for one in json.loads(found["findings.json"])] == ["free at HOME/x", "changed", "on HOST-1"]
    assert "  facts.json: Python, torch" in found["README.txt"]
    assert "Could not be collected:\n  no slurm for USER" in found["README.txt"]
    assert "Look at it before you send it" in found["README.txt"]


def test_its_size_is_bounded_and_what_was_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_OF_ONE", 100)
    monkeypatch.setattr(bundle, "MOST_OF_ALL", 1000)
    pieces = [Attachment(f"runs/{number:02}/log.txt", "x " * 200) for number in range(20)]
    found = files_of(archive([], pieces, Redactor(Known())))
    logs = [name for name in found if name.startswith("runs/")]
    assert 0 < len(logs) < 20
    assert "findings.json" in found
    assert sum(map(len, found.values())) < 5000
    assert "runs/00/log.txt (cut at 100 characters)" in found["README.txt"]
    assert "runs/19/log.txt (no room)" in found["README.txt"]


def test_only_the_end_of_a_log_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert tail_lines(path) is None
    path.write_text("".join(f"line {number}\n" for number in range(1000)) + "y" * 5000)
    lines = (tail_lines(path) or "").splitlines()
    assert (len(lines), lines[-2], len(lines[-1])) == (LAST_LINES, "line 999", 1000)
    path.write_bytes(b"\xff\xfe broken\n")
    assert "broken" in (tail_lines(path) or "")


def test_names_and_folders_of_this_machine_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "carol"
    (home / "work").mkdir(parents=True)
    monkeypatch.chdir(home / "work")
    for name, value in {"HOME": str(home), "USER": "carol", "SBATCH_ACCOUNT": "physik"}.items():
        monkeypatch.setenv(name, value)
    known = known_here(Question(data_root="/big/data"), [Named("host", ("node7",)), Named("account", ("chemie",))])
    redact = Redactor(known)
    told = redact(f"{home}/x {home}/work/y {home}/work/runs/z /big/data/c carol node7 physik chemie")
    assert told.startswith("HOME/x CWD/y RUNS/z DATA/c USER HOST-")
    for name in ("carol", "node7", "physik", "chemie", str(tmp_path)):
        assert name not in told
