"""A check that hangs, crashes or fails is a finding; the checks after it are made all the same."""

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from ablations.doctor.asking import Asking, Subject
from ablations.doctor.finding import Attachment, Finding, Named, Piece, Refusal, bad, good, read, weak, written
from ablations.doctor.question import Question
from cscdarts.errors import MissingFile


def fine(question: Question) -> Iterator[Piece]:
    print("what a library prints is no answer")
    yield good("x", f"runs in {question.runs}", "ü→")
    yield Named("host", ("n1", "n2"))


def hangs(_: Question) -> Iterator[Piece]:
    yield weak("x", "said before it hangs", "wait")
    time.sleep(600)


def crashes(_: Question) -> Iterator[Piece]:
    yield good("x", "said before it crashes")
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(_: Question) -> Iterator[Piece]:
    yield from ()
    if os.getpid():
        os._exit(3)


def refuses(_: Question) -> Iterator[Piece]:
    yield from ()
    raise MissingFile("there", "Make it.")


def fails(_: Question) -> Iterator[Piece]:
    yield from ()
    raise ZeroDivisionError("odd\nthing")


def lacks(_: Question) -> Iterator[Piece]:
    yield from ()
    raise ModuleNotFoundError("no", name="submitit.core")


CHECKS = {
    "first": fine, "hanging": hangs, "crashing": crashes, "leaving": leaves, "refusing": refuses, "failing": fails,
    "lacking": lacks, "last": fine,
}  # fmt: skip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


@pytest.mark.usefixtures("here")
def test_each_check_is_answered_for_whatever_the_others_do() -> None:
    found = Asking().ask(Subject("x", __name__, 6), Question(runs="there"))
    findings = [(one.level, one.sentence) for one in found if isinstance(one, Finding)]
    assert findings == [
        ("good", "runs in there"),
        ("weak", "said before it hangs"),
        ("bad", "hanging: no answer within 6 s."),
        ("good", "said before it crashes"),
        ("bad", "crashing: its process was ended by SIGSEGV."),
        ("bad", "leaving: its process ended with code 3."),
        ("bad", "There is no there. Make it."),
        ("weak", "failing: could not be looked at (ZeroDivisionError: odd thing)."),
        ("weak", "lacking: not looked at, as submitit is not installed."),
        ("good", "runs in there"),
    ]
    assert all(one.way_out for one in found if isinstance(one, Finding) and one.level == "weak")
    assert found.count(Named("host", ("n1", "n2"))) == 2


@pytest.mark.usefixtures("here")
def test_a_subject_that_cannot_even_begin_is_told_once() -> None:
    (found,) = Asking().ask(Subject("x", "no.such.module", 20), Question())
    assert isinstance(found, Finding)
    assert found.level == "weak"
    assert "no is not installed" in found.sentence


@pytest.mark.usefixtures("here")
def test_all_end_with_us() -> None:
    asking = Asking()
    asking.stop()
    assert asking.ask_all([Subject("x", __name__, 20)], Question()) == []
    assert asking.processes == set()


@pytest.mark.parametrize(
    "piece", [good("a", "b"), bad("a", "b", "c"), Attachment("n.json", "{}"), Named("host", ("a",)), Refusal("no")]
)
def test_pieces_survive_the_way(piece: Piece) -> None:
    assert read(written(piece)) == piece


def test_a_question_survives_the_way() -> None:
    question = Question("g.py", "smoke", ("a=b",), 3, "runs", "/data", "slurm:gpu", ("x=y",))
    assert Question.read(question.text()) == question
    assert (question.profile, Question().profile) == ("gpu", "")
