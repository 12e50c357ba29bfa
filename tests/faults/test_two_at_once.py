"""`cscdarts search` and `cscdarts retrain` on a folder where somebody is at work: the second one ends at once and says
who."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.cli import main
from ablations.run import alone, stages
from ablations.run.alone import run_alone
from ablations.run.stages import STAGES
from cscdarts.errors import HeldByAnother, UserError
from slurm.job import CLAIM, LOST_AFTER_S
from slurm.lock import Lock, this_process
from tests.support.harness.old_runs import small_config
from tests.support.records import snapshot


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which stages were run, in place of running them."""
    begun: list[Path] = []

    def run(folder: Path, arguments: object, control: object) -> str:
        assert Lock(folder / CLAIM).holder() is not None
        begun.append(folder)
        return "done"

    monkeypatch.setattr(stages, "run_task", run)
    return begun


@pytest.mark.parametrize("way", ["as it is", "through a link", "relative", "the folder above is a link"])
def test_the_second_one_ends_and_names_the_first(
    tmp_path: Path, way: str, work: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "real" / "out"
    out.mkdir(parents=True)
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "above").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real")
    asked = {
        "as it is": out, "through a link": tmp_path / "link", "relative": Path("../real/out"),
        "the folder above is a link": tmp_path / "above" / "out",
    }[way]  # fmt: skip
    holder = Lock(out / CLAIM)
    assert holder.acquire("run")
    before = snapshot(out)
    with pytest.raises(HeldByAnother) as error:
        run_alone(small_config(), asked, STAGES, "search")
    sentence = str(error.value)
    for word in (str(asked), f"run {os.getpid()} on {socket.gethostname()}", "Wait until it has ended", "--out"):
        assert word in sentence
    assert "\n" not in sentence
    assert snapshot(out) == before
    assert work == []
    holder.release()
    assert run_alone(small_config(), asked, STAGES, "search")[0] == 0
    assert [folder.resolve() for folder in work] == [out]
    assert not (out / CLAIM).exists()


CELL = "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"


@pytest.mark.parametrize("command", ["search", "retrain"])
def test_the_commands_end_with_2(
    tmp_path: Path, command: str, work: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = {
        "search": ["search", "--scale", "smoke"],
        "retrain": ["retrain", "--genotype", CELL, "--protocol", "quickstart", "--scale", "smoke"],
    }[command]  # fmt: skip
    Path("out").mkdir()
    holder = Lock(Path("out") / CLAIM)
    assert holder.acquire("run")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", "out"])
    assert ended.value.code == 2
    assert f"held by run {os.getpid()}" in capsys.readouterr().err
    assert work == []


@pytest.mark.parametrize("dead", ["here", "silent elsewhere", "nobody"])
def test_a_dead_holder_is_taken_over(
    tmp_path: Path, dead: str, work: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "LOST_AFTER_S", 3.0)  # a silent owner elsewhere is watched for a third of it
    me = this_process("run")
    owners = {
        "here": replace(me, started=me.started - 1000), "silent elsewhere": replace(me, host="elsewhere"),
        "nobody": replace(me, pid=-5),
    }  # fmt: skip
    claim = tmp_path / CLAIM
    claim.write_text(json.dumps(vars(owners[dead])))
    if dead == "silent elsewhere":
        with pytest.raises(HeldByAnother, match="on elsewhere"):
            run_alone(small_config(), tmp_path, STAGES, "search")
        os.utime(claim, (0, claim.stat().st_mtime - LOST_AFTER_S - 5))
    assert run_alone(small_config(), tmp_path, STAGES, "search")[0] == 0
    assert work == [tmp_path]
    assert not claim.exists()


def test_a_claim_is_given_back_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise KeyError("no such thing")

    monkeypatch.setattr(stages, "run_task", broken)
    with pytest.raises(KeyError):
        run_alone(small_config(), tmp_path / "out", STAGES, "search")
    assert not (tmp_path / "out" / CLAIM).exists()


def test_damage_ends_with_the_file_and_writes_nothing(tmp_path: Path, work: list[Path]) -> None:
    (tmp_path / "config.json").write_text("")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"config.json is not as cscdarts wrote it.*[Mm]ove it away"):
        run_alone(small_config(), tmp_path, STAGES, "search")
    assert snapshot(tmp_path) == before
    assert work == []
