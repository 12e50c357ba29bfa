"""Run folders of 0.1.0 on image folders: their images come into their identity, once they are proven."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from cscdarts.data.fingerprint import identified
from cscdarts.records.run_folder import RunFolder, write_json
from tests.ablations.folders.conftest import Migrate
from tests.ablations.folders.test_migration import refusals, state_of
from tests.support.harness.old_runs import old_run, small_config
from tests.support.pictures import rgb_tree
from tests.support.records import snapshot, written

IMAGES: dict[str, Any] = {
    "data__dataset": "image-folder", "data__crop_padding": 0, "data__search_fraction": 1.0,
    "search__batch_size": 4, "evaluation__batch_size": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/mine` of a run on `tree`, both in one folder."""
    root = tmp_path_factory.mktemp("pictures")
    rgb_tree(root / "tree", size=8, train=12, test=3)
    old_run(root / "runs", small_config(**IMAGES, runtime__data_root=str(root / "tree")))
    return root


@pytest.fixture
def images(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSCDARTS_CACHE", str(tmp_path / "cache"))
    for name in ("runs", "tree"):
        shutil.copytree(pictures / name, tmp_path / name)
    return tmp_path


def test_a_run_on_images_at_hand_gets_their_fingerprint(images: Path, migrate: Migrate) -> None:
    config = small_config(**IMAGES, runtime__data_root=str(images / "tree"))
    old, now = images / "runs/mine" / config.hash, identified(config)
    (old / "thesis.tex").write_text("mine")
    write_json(images / "runs/mine/grid.json", {"runs": [{"hash": config.hash, "methods": ["csc"]}]})
    code, found = migrate(images / "runs", "--yes", "--data-root", str(images / "tree"))
    assert code == 0, found
    new = images / "runs/mine" / now.hash
    assert (found["runs"][0]["to"], old.exists(), now.hash == config.hash) == (str(new), False, False)
    assert state_of(new, now).status == "done"
    assert RunFolder(new).config().data.fingerprint == now.data.fingerprint
    assert (new / "thesis.tex").read_text() == "mine"
    assert written(new / "migrated.json")["from"] == f"mine/{config.hash}"
    manifest = written(images / "runs/mine/grid.json")
    assert manifest["runs"] == [{"hash": now.hash, "methods": ["csc"]}]
    assert manifest["fingerprints"] == {"image-folder": now.data.fingerprint}


def test_other_images_are_refused_with_both_fingerprints(images: Path, migrate: Migrate) -> None:
    (path,) = (images / "runs/mine").iterdir()
    recorded = written(path / "search.json")["data"]["sha256"][:16]
    shutil.copy(images / "tree/train/ape/000.png", images / "tree/train/ape/001.png")
    before = snapshot(path)
    code, found = migrate(images / "runs", "--yes", "--data-root", str(images / "tree"))
    assert code == 1
    told = refusals(found)[path.name]
    assert recorded in told
    now = told.split()[-1]
    assert len(now) == 16
    assert now != recorded
    assert snapshot(path) == before


def test_images_that_are_not_at_hand_prove_nothing(images: Path, migrate: Migrate) -> None:
    (path,) = (images / "runs/mine").iterdir()
    before = snapshot(path)
    code, found = migrate(images / "runs", "--yes", "--data-root", str(images / "nowhere"))
    assert (code, "nowhere" in refusals(found)[path.name], snapshot(path)) == (1, True, before)


def test_a_search_that_has_not_ended_does_not_tell_its_images(images: Path, migrate: Migrate) -> None:
    (path,) = (images / "runs/mine").iterdir()
    for name in ("search.json", "genotype.json", "result.json", "check.json", "retrain.pt", "retrain.previous.pt"):
        (path / name).unlink()
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(line for line in lines if '"stage": "search"' in line))
    _, found = migrate(images / "runs", "--yes", "--data-root", str(images / "tree"))
    assert "has not ended" in refusals(found)[path.name]
