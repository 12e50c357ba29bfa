"""Run folders of 0.1.0 taken over: what they hold counts as before, what is not proven stays, nothing is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations.cli import main
from ablations.grid.load import Point
from ablations.run.state import RunState, run_state
from cscdarts.records.checkpoint import read_state
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig
from slurm.lock import Lock
from tests.ablations.folders.conftest import Migrate
from tests.support.harness.old_runs import go, old_run, small_config
from tests.support.records import snapshot, written

#: Steps after which a run is stopped: in the search, and in the retraining.
IN_SEARCH, IN_RETRAINING = 5, 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/mine` of 0.1.0: seed 0 finished, 1 stopped in the search, 2 in the retraining."""
    runs = tmp_path_factory.mktemp("old") / "runs"
    for seed, steps in enumerate((None, IN_SEARCH, IN_RETRAINING)):
        old_run(runs, small_config(seed=seed), steps=steps)
    left = [sorted(p.name for p in path_of(runs, seed).glob("*.pt")) for seed in (1, 2)]
    assert (left[0], "retrain.previous.pt" in left[1]) == (["checkpoint.previous.pt", "checkpoint.pt"], True)
    return runs


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def path_of(runs: Path, seed: int, grid: str = "mine") -> Path:
    return runs / grid / small_config(seed=seed).hash


def state_of(path: Path, config: RunConfig) -> RunState:
    return run_state(Point(config, config.hash, ("csc",)), path, 0.0)


def refusals(found: dict[str, Any]) -> dict[str, str]:
    """Name of the folder -> why it is refused."""
    return {Path(one["folder"]).name: one["refused"] for one in found["runs"] if one["refused"]}


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(runs: Path, migrate: Migrate) -> None:
    before = snapshot(runs)
    code, found = migrate(runs)
    assert (code, found["dry_run"], found["refused"], len(found["runs"])) == (0, True, 0, 3)
    assert snapshot(runs) == before
    after = migrate(runs, "--yes")[1]
    assert after["runs"] == found["runs"]
    assert migrate(runs) == (0, {"dry_run": True, "refused": 0, "runs": []})


def test_what_a_finished_run_recorded_is_read_as_before(runs: Path, migrate: Migrate) -> None:
    config = small_config()
    folder = RunFolder(path_of(runs, 0))
    curves, alphas, environment = folder.curves(), folder.alphas(), written(folder.file("environment.json"))
    result, ended = written(folder.file("result.json")), folder.file("result.json").stat().st_mtime_ns
    old_search = written(folder.file("search.json"))
    migrate(runs, "--yes")
    search, own = written(folder.file("search.json")), written(folder.file("result.json"))
    assert folder.file("search.json").parent.parent == folder.path / "../../searches"
    assert sorted(map(repr, folder.curves())) == sorted(map(repr, curves))
    assert folder.alphas() == alphas
    assert {**search["values"], **own["values"]} == result["values"]
    assert search["values"] == old_search["values"]
    assert not search["values"].keys() & own["values"].keys()
    assert written(folder.stage_folder("search") / "environment.json") == environment
    assert folder.file("result.json").stat().st_mtime_ns == ended
    assert state_of(folder.path, config).status == "done"
    assert not {p.name for p in folder.path.iterdir()} & {"checkpoint.pt", "retrain.pt", "alphas.jsonl", "result.json"}


def test_after_it_status_says_done_and_nothing_runs_again(
    runs: Path, migrate: Migrate, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from tests.support.harness.old_runs import small_config\n\ndef grid(scale):\n    yield small_config()\n"
    )
    migrate(runs, "--yes")
    before = snapshot(path_of(runs, 0)) | snapshot(runs / "searches") | snapshot(runs / "retrainings")
    for words in (("run", "--scale", "smoke"), ("status", "--scale", "smoke")):
        with pytest.raises(SystemExit) as ended:
            main(["ablate", words[0], str(tmp_path / "mine.py"), "--runs", str(runs), *words[1:]])
        assert ended.value.code == 0
        assert "1 done" in capsys.readouterr().out
    assert snapshot(path_of(runs, 0)) | snapshot(runs / "searches") | snapshot(runs / "retrainings") == before


@pytest.mark.parametrize("seed", [1, 2])
def test_a_stopped_run_goes_on_bit_for_bit(runs: Path, migrate: Migrate, tmp_path: Path, seed: int) -> None:
    config = small_config(seed=seed)
    shutil.copytree(path_of(runs, seed), tmp_path / "kept")
    migrate(runs, "--yes")
    folders = RunFolder(path_of(runs, seed)), RunFolder(tmp_path / "kept")
    for folder in folders:
        assert go(folder.path, config) == "done"
    assert "resumed at epoch" in folders[0].file("log.txt").read_text()
    ours, theirs = ([one.alphas(), _untimed(one)] for one in folders)
    assert ours == theirs
    states = [
        [read_state(one.file(name), torch.device("cpu")) for name in ("checkpoint.pt", "retrain.pt")] for one in folders
    ]
    for one, other in zip(*states, strict=True):
        _same(*({k: v for k, v in x.items() if k not in ("hash", "seconds", "epoch_seconds")} for x in (one, other)))


def _untimed(folder: RunFolder) -> list[Any]:
    values = [line["values"] for line in sorted(folder.curves(), key=lambda line: (line["stage"], line["epoch"]))]
    values += [{k: v for k, v in written(folder.file("result.json"))["values"].items() if k == "test_error_pct"}]
    return [{k: v for k, v in one.items() if not k.endswith("_s")} for one in values]


def _same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            _same(a, b)
    else:
        assert one == other


def test_equal_searches_of_two_grids_become_one_and_nothing_is_lost(runs: Path, migrate: Migrate) -> None:
    shutil.copytree(runs / "mine", runs / "other")
    for seed in (1, 2):
        shutil.rmtree(path_of(runs, seed, "other"))
    second = path_of(runs, 0, "other")
    search = written(second / "search.json")
    search["values"]["search_time_s"] += 1.0
    result = written(second / "result.json")
    result["values"]["search_time_s"] += 1.0
    write_json(second / "search.json", search)
    write_json(second / "result.json", result)
    old = {path.name: path.read_bytes() for path in second.iterdir()}
    code, found = migrate(runs, "--yes")
    assert code == 0
    ways = {one["folder"]: one["stages"] for one in found["runs"]}
    assert ways[str(second)] == {"search": "shared", "retrain": "shared"}
    assert (
        RunFolder(second).stage_folder("search").resolve()
        == RunFolder(path_of(runs, 0)).stage_folder("search").resolve()
    )
    assert state_of(second, small_config()).status == "done"
    kept = second / "replaced"
    for name in ("search.json", "alphas.jsonl", "checkpoint.pt", "result.json", "retrain.pt"):
        assert (kept / name).read_bytes() == old[name]
    lines = [
        line for name in ("search", "retrain") for line in (kept / f"{name}-metrics.jsonl").read_bytes().splitlines()
    ]
    lines += (second / "metrics.jsonl").read_bytes().splitlines()
    assert sorted(lines) == sorted(old["metrics.jsonl"].splitlines())


@pytest.mark.parametrize("what", ["alphas.jsonl", "result.json", "metrics.jsonl"])
def test_another_result_under_the_same_key_stays_where_it_is(runs: Path, migrate: Migrate, what: str) -> None:
    shutil.copytree(path_of(runs, 0), path_of(runs, 0, "other"))
    file = path_of(runs, 0, "other") / what
    if what == "alphas.jsonl":
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines[0]["alpha"]["cell"][0][0] += 1e-9
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif what == "result.json":
        value = written(file)
        value["values"]["test_error_pct"] += 0.5
        write_json(file, value)
    else:
        file.write_text(file.read_text().replace('"search_train_loss": ', '"search_train_loss": 1'))
    before = snapshot(path_of(runs, 0, "other"))
    code, found = migrate(runs, "--yes")
    assert code == 1
    assert list(refusals(found)) == [small_config().hash]
    assert next(one for one in found["runs"] if one["refused"])["folder"] == str(path_of(runs, 0, "other"))
    assert "holds" in refusals(found)[small_config().hash]
    assert snapshot(path_of(runs, 0, "other")) == before
    assert state_of(path_of(runs, 0, "other"), small_config()).status == "done"


def test_a_stopped_run_takes_over_what_another_has_finished(runs: Path, migrate: Migrate) -> None:
    config = small_config(seed=1)
    other = runs / "other" / config.hash
    shutil.copytree(path_of(runs, 1), other)
    assert go(other, config) == "done"
    _unkeyed(other)
    migrate(runs, "--yes")
    assert state_of(path_of(runs, 1), config).detail == "goes on with derive"
    assert (path_of(runs, 1) / "replaced" / "checkpoint.pt").exists()
    assert go(path_of(runs, 1), config) == "done"
    assert RunFolder(path_of(runs, 1)).alphas() == RunFolder(other).alphas()


def _unkeyed(path: Path) -> None:
    """As 0.1.0 would have ended the run: outputs without keys."""
    for name in ("search.json", "result.json"):
        value = written(path / name)
        del value["key"]
        if name == "result.json":
            value["values"] |= written(path / "search.json")["values"]
        write_json(path / name, value)


def _two_unfinished(path: Path) -> None:
    other = path.parent.parent / "zz" / path.name
    shutil.copytree(path, other)


def test_of_two_unfinished_ones_the_first_is_taken(runs: Path, migrate: Migrate) -> None:
    _two_unfinished(path_of(runs, 1))
    before = snapshot(path_of(runs, 1, "zz"))
    code, found = migrate(runs, "--yes")
    assert code == 1
    assert "unfinished" in refusals(found)[path_of(runs, 1).name]
    assert snapshot(path_of(runs, 1, "zz")) == before
    assert go(path_of(runs, 1), small_config(seed=1)) == "done"
    assert migrate(runs, "--yes")[0] == 0


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _set(path: Path, **values: Any) -> None:
    write_json(path, {**written(path), **values})


def _folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _other_cell(path: Path) -> None:
    _set(path / "genotype.json", text=OTHER_CELL)
    _set(path / "result.json", genotype=OTHER_CELL)


OTHER_CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"

FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "renamed": (lambda path: path.rename(path.with_name("0" * 16)), "is named"),
    "another seed": (lambda path: _set(path / "config.json", seed=77), "holds the configuration of run"),
    "a field nobody knows": (lambda path: _set(path / "config.json", wonder=1), "wonder"),
    "torn config": (lambda path: _tear(path / "config.json"), "config.json"),
    "torn search": (lambda path: _tear(path / "search.json"), "search.json"),
    "torn genotype": (lambda path: _tear(path / "genotype.json"), "genotype.json"),
    "torn result": (lambda path: _tear(path / "result.json"), "result.json"),
    "a list": (lambda path: (path / "result.json").write_text("[]"), "result.json"),
    "a folder": (lambda path: _folder_instead(path / "search.json"), "search.json"),
    "another cell": (lambda path: _set(path / "genotype.json", text=OTHER_CELL), "another cell"),
    "another cell all through": (_other_cell, "another cell in genotype.json than its search gives"),
    "a result of another cell": (lambda path: _set(path / "result.json", genotype=OTHER_CELL), "another cell"),
    "a result of another run": (lambda path: _set(path / "result.json", hash="0" * 16), "run 0000"),
    "another search's values": (
        lambda path: _set(path / "search.json", values={"search_time_s": -1.0}),
        "other values of the search",
    ),
    "no search": (lambda path: (path / "search.json").unlink(), "search.json"),
    "no cell": (lambda path: (path / "genotype.json").unlink(), "genotype.json"),
    "an epoch too few": (lambda path: _set(path / "genotype.json", epoch=0), "epoch 0"),
    "alphas of nothing": (lambda path: (path / "alphas.jsonl").unlink(), "alphas.jsonl"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_proven_is_refused_and_left_as_it_is(runs: Path, migrate: Migrate, fault: str) -> None:
    spoil, said = FAULTS[fault]
    spoil(path_of(runs, 0))
    (spoiled,) = (path for path in (runs / "mine").iterdir() if path not in (path_of(runs, 1), path_of(runs, 2)))
    before = snapshot(spoiled)
    code, found = migrate(runs, "--yes")
    assert code == 1
    assert list(refusals(found)) == [spoiled.name]
    assert said in refusals(found)[spoiled.name]
    assert snapshot(spoiled) == before
    assert (path_of(runs, 1) / "keys.json").exists()


@pytest.mark.parametrize("lock", ["claim", "driver.lock"])
def test_a_run_in_hand_is_refused(runs: Path, migrate: Migrate, lock: str) -> None:
    place = path_of(runs, 0) if lock == "claim" else runs / "mine"
    with Lock(place / lock).held("a test") as held:
        assert held
        before = snapshot(path_of(runs, 0))
        code, found = migrate(runs, "--yes")
        assert code == 1
        assert "a test" in refusals(found)[path_of(runs, 0).name]
        assert snapshot(path_of(runs, 0)) == before
    assert migrate(runs, "--yes")[0] == 0


def test_a_run_that_waits_to_start_again_is_refused(runs: Path, migrate: Migrate) -> None:
    (path_of(runs, 1) / "requeued").write_text("0")
    assert "queue" in refusals(migrate(runs, "--yes")[1])[path_of(runs, 1).name]


def test_a_missing_folder_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs", "migrate", "--runs", str(tmp_path / "none")])
    assert ended.value.code == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
