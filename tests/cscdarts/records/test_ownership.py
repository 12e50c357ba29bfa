"""A folder answers for its own run and nothing else: `search --out FOLDER` refuses all others and leaves them as they
are, to the byte and the time."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.run.alone import run_alone
from ablations.run.stages import STAGES
from cscdarts.errors import UserError
from cscdarts.records.ownership import foreign, require_own
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key
from cscdarts.settings.overrides import with_values
from tests.support.harness import engine
from tests.support.harness.old_runs import small_config
from tests.support.records import snapshot, written


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ablations.run.stages.run_task", engine.run_task)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)


def run(out: Path, config: RunConfig, stages: tuple[str, ...] = STAGES) -> RunFolder:
    code, folder = run_alone(config, out, stages, "search")
    assert code == 0
    return folder


def refused(out: Path, config: RunConfig, *said: str) -> None:
    """`--out` ends in one sentence with these words, and what was there is there as before."""
    before, times = snapshot(out.parent), {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}
    with pytest.raises(UserError) as error:
        run_alone(config, out, STAGES, "search")
    sentence = str(error.value)
    assert "\n" not in sentence
    for word in (str(out), "Nothing was written", *said):
        assert word in sentence
    assert snapshot(out.parent) == before
    assert {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]} == times


OTHERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "another seed": ({"seed": 77}, ("seed is 0 there and 77 here", "evaluation.seed")),
    "another method": ({"supernet.identity": "none"}, ("supernet.identity is cell there and none here",)),
    "another protocol": ({"evaluation.epochs": 9}, ("evaluation.epochs is 2 there and 9 here",)),
    "another rule": ({"search.derive": "best"}, ("search.derive is last there and best here",)),
    "other images": ({"data.fingerprint": "0" * 16}, ("data.fingerprint is empty there and " + "0" * 16 + " here",)),
    "a later field": ({"search.best_of": 2}, ("search.best_of is 1 there and 2 here",)),
}


@pytest.mark.parametrize("stages", [STAGES, ("search",)], ids=["finished", "half finished"])
@pytest.mark.parametrize("other", OTHERS)
def test_other_settings_are_refused_by_name(tmp_path: Path, other: str, stages: tuple[str, ...]) -> None:
    values, said = OTHERS[other]
    run(tmp_path / "out", small_config(), stages)
    refused(tmp_path / "out", with_values(small_config(), values), *said)


def test_many_differences_are_counted(tmp_path: Path) -> None:
    run(tmp_path / "out", small_config())
    values = {"supernet.channels": 8, "search.epochs": 3, "search.lr": 0.1, "evaluation.epochs": 3, "seed": 5}
    refused(tmp_path / "out", with_values(small_config(), values), "more differ")


def test_the_same_settings_are_the_same_run(tmp_path: Path) -> None:
    folder = run(tmp_path / "out", small_config())
    result = folder.file("result.json").read_bytes()
    for label in ({}, {"labels.note": "again"}, {"runtime.threads": 2}):
        again = run(tmp_path / "out", with_values(small_config(), label))
        assert again.file("result.json").read_bytes() == result


def test_a_folder_whose_config_is_gone_goes_on_only_as_its_own(tmp_path: Path) -> None:
    """keys.json is written first, so a start that died between the two leaves it alone."""
    run(tmp_path / "out", small_config(), ("search",))
    for name in ("config.json", "starts.jsonl"):
        (tmp_path / "out" / name).unlink()
    refused(tmp_path / "out", small_config(seed=77), "was begun for run")
    run(tmp_path / "out", small_config())


JSON_FILES = ("config.json", "keys.json", "genotype.json", "search.json", "result.json")


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def _no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [_tear, _empty, _nested, _no_text, _folder])
@pytest.mark.parametrize("name", JSON_FILES)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    file = run(tmp_path / "out", small_config()).file(name)
    spoil(file)
    refused(tmp_path / "out", small_config(), name)


@pytest.mark.parametrize(
    "value",
    [
        [], {}, {"store": "../../.."}, {"store": "/etc"}, {"store": 5}, {"search": "../../other"}, {"search": None},
        {"retrain": 1}, {"searches": "0" * 16}, {"searches": []}, {"searches": ["0" * 16]}, {"run": "0" * 16},
        {"retrain": "0" * 16}, {"search": "0" * 16},
    ],
)  # fmt: skip
def test_keys_that_are_not_its_own(tmp_path: Path, value: Any) -> None:
    folder = run(tmp_path / "out", small_config())
    keys = written(folder.path / "keys.json")
    write_json(folder.path / "keys.json", {**keys, **value} if isinstance(value, dict) and value else value)
    refused(tmp_path / "out", small_config(), "keys.json")


LEFT = (
    "genotype.json", "search.json", "result.json", "check.json", "checkpoint.pt", "checkpoint.previous.pt",
    "retrain.pt", "alphas.jsonl", "metrics.jsonl", "key.json", "thesis.tex", "data/image.png", "broken.pt",
)  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_a_folder_that_holds_something_but_no_config(tmp_path: Path, name: str) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"space": "nasbench201", "text": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"}))
    refused(tmp_path / "out", small_config(), name.partition("/")[0], "no config.json")


def test_a_users_own_config_json(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text('{"model": "llama"}')
    refused(
        tmp_path / "out", small_config(), "config.json is not as cscdarts wrote it", "no seed", "choose another folder"
    )


@pytest.mark.parametrize("names", [(), (".DS_Store",), ("heartbeat", "claim", "log.txt"), ("failure.json",)])
def test_an_empty_folder_and_a_start_that_came_nowhere_can_become_a_run(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("null")
    assert foreign(RunFolder(tmp_path / "out"), small_config()) is None
    (tmp_path / "out" / "failure.json").unlink(missing_ok=True)
    run(tmp_path / "out", small_config())


def test_a_users_file_beside_a_run_is_no_harm(tmp_path: Path) -> None:
    folder = run(tmp_path / "out", small_config())
    (folder.path / "thesis.tex").write_text("mine")
    run(tmp_path / "out", small_config())
    assert (folder.path / "thesis.tex").read_text() == "mine"


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out"):
        run_alone(small_config(), tmp_path / "out", STAGES, "search")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_stage_folder_under_anothers_key(tmp_path: Path) -> None:
    """Of a search that has not ended only key.json tells whose it is."""
    folder = run(tmp_path / "out", small_config(), ("search",))
    place = folder.stage_folder("search")
    (place / "search.json").unlink()
    write_json(place / "key.json", json.loads(search_key(small_config(seed=5)).text))
    problem = foreign(folder, small_config())
    assert problem is not None
    assert search_key(small_config(seed=5)).id in problem
    refused(tmp_path / "out", small_config(), "key.json")


def test_a_cell_put_in_place_of_the_derived_one(tmp_path: Path) -> None:
    folder = run(tmp_path / "out", small_config(), STAGES[:2])
    genotype = written(folder.file("genotype.json"))
    cell = "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
    write_json(folder.file("genotype.json"), {**genotype, "text": cell})
    refused(tmp_path / "out", small_config(), "retraining")


def test_what_was_read_once_is_read_again_after_a_swap(tmp_path: Path) -> None:
    """Two files of one size and one time differ by their inode."""
    one, other = (run(tmp_path / name, small_config(seed=seed)) for name, seed in (("a", 1), ("b", 2)))
    for folder in (one, other):
        os.utime(folder.path / "config.json", ns=(5, 5))
        require_own(folder, small_config(seed=1 if folder is one else 2))
    for source, target in (("a", "c"), ("b", "a"), ("c", "b")):
        shutil.move(tmp_path / source, tmp_path / target)
    assert foreign(one, small_config(seed=1)) is not None
    assert foreign(one, small_config(seed=2)) is None
