"""Every file of a run's folders and of its grid's, replaced by contents that nobody expects: nothing raises, the other
runs are as they were, no good result is overwritten, and `retry` ends with the numbers from before."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ablations.commands.ablate import ablate
from ablations.drive.driver import Driver, chosen_for_retry, counts, mended
from ablations.drive.tell.show import states_record
from ablations.run.stages import STAGES
from ablations.run.state import RunState
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_json
from slurm.job import Job
from tests.support.harness.inline import alone, drive, grid_driver, numbers
from tests.support.injector import CONTENTS, killed_before, spoil, variants

__all__ = ["alone"]

pytestmark = pytest.mark.usefixtures("alone")

#: File -> the stage in whose folder it lies, or "" for the run's own.
FILES = {
    **dict.fromkeys(
        ("config.json", "keys.json", "environment.json", "genotype.json", "check.json", "failure.json", "claim",
         "requeued", "heartbeat", "log.txt", ""), ""
    ),
    **{f"search/{name}": "search" for name in (
        "search.json", "key.json", "environment.json", "alphas.jsonl", "search-metrics.jsonl", "checkpoint.pt", "claim",
        "",
    )},
    **{f"retrain/{name}": "retrain" for name in ("result.json", "key.json", "environment.json", "retrain-metrics.jsonl",
                                                 "retrain.pt", "")},
}  # fmt: skip
#: Files without which nothing of the run is known or done: none of the contents above has their form.
NEEDED = ("config.json", "keys.json", "genotype.json", "check.json", "search/search.json", "retrain/result.json")
GRID_FILES = ("grid.json", "driver.lock", "submissions.jsonl")


@dataclass
class Case:
    """One file of one run spoilt in a copy of a finished grid."""

    driver: Driver
    path: Path
    before: dict[str, Any]

    @property
    def state(self) -> RunState:
        return self.driver.states()[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    driver = grid_driver(folder)
    driver.folder.mkdir(parents=True)
    tasks = driver.tasks([point.hash for point in driver.grid.points], STAGES, 0.0, None)
    assert not killed_before(10**9, Job(tuple(tasks)))
    assert counts(driver.states()) == {"done": 2}
    return folder


def _place(driver: Driver, name: str) -> Path:
    folder = RunFolder(driver.path(driver.grid.points[0]))
    stage = FILES[name]
    return (folder.stage_folder(stage) if stage else folder.path) / name.removeprefix(f"{stage}/")  # type: ignore[arg-type]


def _case(finished: Path, tmp_path: Path, number: int, name: str, how: bytes | Callable[[Path], object]) -> Case:
    shutil.copytree(finished / "runs", tmp_path / str(number) / "runs")
    driver = grid_driver(tmp_path / str(number))
    before = numbers(driver)
    path = _place(driver, name).resolve()
    spoil(path, how)
    return Case(driver, path, before)


def _rest(case: Case) -> dict[str, tuple[bytes, int]]:
    """Everything but the spoilt file: of all runs what is finished."""
    kept = ("result.json", "search.json", "genotype.json", "check.json", "config.json", "keys.json")
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in case.driver.runs.rglob("*")
        if path.name in kept and path.is_file() and not path.is_relative_to(case.path)
    }  # fmt: skip


def _but_lines(found: dict[str, Any]) -> dict[str, Any]:
    return {run: {**one, "curves": 0, "alphas": 0} for run, one in found.items()}


def _holds(case: Case, name: str) -> None:
    """What is asked of every case."""
    rest, state = _rest(case), case.state
    assert state.status in ("done", "damaged", "failed", "new", "lost"), state
    assert state.status == "damaged" or name not in NEEDED, state
    if state.damage:
        assert case.path.name in state.detail
        assert "cscdarts ablate retry" in state.detail
        record = states_record(case.driver.grid, case.driver.states(), "")
        assert record["runs"][0]["damaged"] == state.damage
        json.dumps(record).encode()
    assert case.driver.states()[1].status == "done"
    code, said = drive(case.driver)
    if state.damage:
        assert code == 1
        assert f"damaged: {case.path.name}" in said
        assert case.state.status == "damaged"
    assert _rest(case) == rest, "`run` has touched something"
    bad = case.state.status != "done"
    lines: list[str] = []

    def choose(states: Any) -> list[str]:
        return mended(case.driver, states, chosen_for_retry(states, True, False, False), lines.append)

    code, said = drive(case.driver, choose)
    assert case.driver.states()[1].status == "done"
    after = _rest(case)
    assert {key: after[key] for key in rest if key in after} == {
        key: content for key, content in rest.items() if key in after
    }, "`retry` has overwritten something"
    if state.damage:
        assert code == 0, said
        assert counts(case.driver.states()) == {"done": 2}
        after_retry = numbers(case.driver)
        if case.path.suffix == ".jsonl":  # curves are in no other file
            assert _but_lines(after_retry) == _but_lines(case.before)
        else:
            assert after_retry == case.before
        assert lines
        assert list(case.driver.runs.rglob("damaged")), "what was set aside is not there"
    elif not bad:
        assert counts(case.driver.states()) == {"done": 2}


def _sampled(cases: Iterator[Any], stride: int, first: int = 0) -> Iterator[tuple[int, Any]]:
    return islice(enumerate(cases), first, None, stride)


COMPLETE = pytest.param(1, marks=pytest.mark.whole)


#: All cases in four parts, or every n-th.
PARTS = [pytest.param(4, first, marks=pytest.mark.whole) for first in range(4)]


@pytest.mark.parametrize(("stride", "first"), [*PARTS, (23, 0)])
def test_contents_that_nobody_expects(finished: Path, tmp_path: Path, stride: int, first: int) -> None:
    cases = ((name, kind) for name in FILES for kind in CONTENTS)
    tried = 0
    for number, (name, kind) in _sampled(cases, stride, first):
        case = _case(finished, tmp_path, number, name, CONTENTS[kind])
        try:
            _holds(case, name)
        except Exception as error:
            raise AssertionError(f"{name or 'the folder itself'} is {kind}") from error
        shutil.rmtree(tmp_path / str(number))
        tried += 1
    assert tried >= len(FILES) * len(CONTENTS) // stride


@pytest.mark.parametrize(("stride", "first"), [*PARTS, (97, 0)])
def test_values_of_other_types_key_by_key(finished: Path, tmp_path: Path, stride: int, first: int) -> None:
    def cases() -> Iterator[tuple[str, str, Any]]:
        driver = grid_driver(tmp_path / "plain")
        shutil.copytree(finished / "runs", tmp_path / "plain" / "runs")
        failure = {"stage": "search", "kind": "error", "message": "m", "traceback": "", "time": 1.0}
        for name in FILES:
            if name.endswith((".json", "claim")):
                content = failure if name == "failure.json" else read_json(_place(driver, name)) or OWNER
                yield from ((name, kind, value) for kind, value in variants(content))

    tried = 0
    for number, (name, kind, value) in _sampled(cases(), stride, first):
        case = _case(finished, tmp_path, number, name, json.dumps(value).encode())
        try:
            _holds(case, "")
        except Exception as error:
            raise AssertionError(f"{name} {kind}") from error
        shutil.rmtree(tmp_path / str(number))
        tried += 1
    assert tried > 600 // stride


OWNER = {
    "host": "elsewhere", "pid": 1, "started": 1.0, "job": "", "nonce": "n", "since": 1.0, "what": "run", "life": None,
}  # fmt: skip

LINES = [
    b'{"stage": "search", "epoch": 7, "step": 0, "time": 1.0, "values": [1, 2]}\n',
    b'{"stage": "search", "epoch": 7, "values": {"search_epoch_time_s": "quick"}}\n',
    b'{"stage": "search", "epoch": 1e300, "time": NaN, "values": {"search_epoch_time_s": 1}}\n',
    b'{"stage": ["search"], "epoch": {}, "values": null}\n', b"[1, 2]\n", b"\xff\xfe\n", b"[" * 5_000 + b"\n",
    b"{torn",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_odd_lines_of_metrics_are_passed_over(finished: Path, tmp_path: Path, line: bytes) -> None:
    case = _case(finished, tmp_path, 0, "search/search-metrics.jsonl", line)
    shutil.copy(case.path.with_name(f".before~{case.path.name}"), case.path)
    whole = case.path.read_bytes()
    case.path.write_bytes(whole + line)
    states = [case.state]
    assert numbers(case.driver) == case.before
    RunFolder(case.driver.path(case.driver.grid.points[0])).file("search.json").unlink()
    states.append(case.state)
    assert [state.status for state in states] == ["done", "new"]
    assert "after epoch 2" in states[1].detail


def test_a_run_folder_that_nothing_can_be_known_of_goes_aside_whole(finished: Path, tmp_path: Path) -> None:
    case = _case(finished, tmp_path, 0, "config.json", b"garbage")
    case.path.with_name("keys.json").unlink()
    assert case.state.status == "damaged"
    states, said = case.driver.states(), list[str]()
    assert mended(case.driver, states, [states[0].hash], said.append) == [states[0].hash]
    assert (case.driver.folder / "damaged" / states[0].hash / "config.json").read_bytes() == b"garbage"
    assert drive(case.driver)[0] == 0
    assert numbers(case.driver) == case.before


def test_keys_that_are_gone_are_written_again(finished: Path, tmp_path: Path) -> None:
    case = _case(finished, tmp_path, 0, "keys.json", b"")
    case.path.unlink()
    assert drive(case.driver)[0] == 0
    assert numbers(case.driver) == case.before


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0, 1e12])
def test_a_failure_by_another_clock_is_retried(tmp_path: Path, ahead: float) -> None:
    driver = grid_driver(tmp_path, ["raise", ""])
    assert drive(driver)[0] == 1
    path = driver.path(driver.grid.points[0]) / "failure.json"
    failure = read_json(path) or {}
    path.write_text(json.dumps({**failure, "time": failure["time"] + ahead}))
    (driver.folder / "cure").touch()
    assert counts(driver.states()) == {"done": 1, "failed": 1}
    assert drive(driver, lambda states: chosen_for_retry(states, True, False, False))[0] == 0
    assert counts(driver.states()) == {"done": 2}


def test_words_of_a_failure_that_look_like_markup_are_only_words(tmp_path: Path) -> None:
    driver = grid_driver(tmp_path, ["raise", ""])
    assert drive(driver)[0] == 1
    path = driver.path(driver.grid.points[0]) / "failure.json"
    path.write_text(json.dumps({**(read_json(path) or {}), "message": "no [/key] in [red]"}))
    code, said = drive(driver)
    assert code == 1
    assert "no [/key] in [red]" in said


GRID_CASES = [(name, kind) for name in GRID_FILES for kind in CONTENTS]


@pytest.mark.parametrize("stride", [COMPLETE, 5])
def test_files_of_the_grid(finished: Path, tmp_path: Path, stride: int) -> None:
    """Runs stay what they are; the list of runs is set aside and written anew; what cannot be had is one sentence."""
    for number, (name, kind) in _sampled(iter(GRID_CASES), stride):
        shutil.copytree(finished / "runs", tmp_path / str(number) / "runs")
        driver = grid_driver(tmp_path / str(number))
        before = numbers(driver)
        spoil(driver.folder / name, CONTENTS[kind])
        driver = grid_driver(tmp_path / str(number))
        assert counts(driver.states()) == {"done": 2}, (name, kind)
        try:
            assert drive(driver)[0] == 0, (name, kind)
        except UserError as error:
            told, can_be_replaced = str(error), isinstance(CONTENTS[kind], bytes)
            assert "\n" not in told, (name, kind)
            assert not can_be_replaced, (name, kind)
        else:
            assert (read_json(driver.folder / "grid.json") or {})["scale"] == "smoke"
        assert numbers(driver) == before


def test_status_tells_of_damage_as_text_and_as_json(finished: Path, tmp_path: Path) -> None:
    case = _case(finished, tmp_path, 0, "retrain/result.json", b"")
    words = [str(tmp_path / "0" / "mine.py"), "--scale", "smoke", "--runs", str(case.driver.runs)]
    told = CliRunner().invoke(ablate, ["status", *words])
    assert told.exit_code == 0, told.output
    assert "2 runs: 1 done, 1 damaged" in told.output
    assert "result.json" in told.output
    found = json.loads(CliRunner().invoke(ablate, ["status", *words, "--json"]).stdout)
    assert found["counts"] == {"damaged": 1, "done": 1}
    assert [Path(run["damaged"] or "").name for run in found["runs"]] == ["result.json", ""]
    assert [run["state"] for run in found["runs"]] == ["damaged", "done"]
