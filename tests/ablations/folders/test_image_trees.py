"""Results belong to the images they were made of: two trees are two runs, and replaced images are refused or another
run."""

import shutil
from pathlib import Path

import pytest

from ablations.cli import main
from ablations.drive.driver import Driver
from ablations.grid.load import load_grid
from cscdarts.data.fingerprint import fingerprint
from cscdarts.records.run_folder import RunFolder
from tests.support.harness.old_runs import SMALL, go, small_config
from tests.support.pictures import gray_rgb, pattern, rgb_tree, save_rgb
from tests.support.records import snapshot, written

#: As `small_config`, on an image folder.
ON_IMAGES = {
    **SMALL, "data.dataset": "image-folder", "data.crop_padding": 0, "data.search_fraction": 1.0,
    "search.batch_size": 4, "evaluation.batch_size": 4, "search.epochs": 1, "evaluation.epochs": 1,
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tree of images, from which commands are called."""
    monkeypatch.setenv("CSCDARTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    rgb_tree(tmp_path / "tree", size=8, train=12, test=3)
    return tmp_path


def _other_images(root: Path) -> None:
    """The same names and classes, other pictures."""
    for seed, path in enumerate(sorted(root.rglob("*.png"))):
        save_rgb(path, gray_rgb(pattern(1000 + seed, 8)))


def _search(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    settings = [word for key, value in ON_IMAGES.items() for word in ("--set", f"{key}={value}")]
    with pytest.raises(SystemExit) as ended:
        main(["search", "--scale", "smoke", *settings, *words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out.strip().rpartition("run folder: ")[2], err


def test_the_same_command_on_two_trees_gives_two_results(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(place / "tree", place / "other")
    _other_images(place / "other")
    folders = []
    for name in ("tree", "other"):
        code, folder, _ = _search(capsys, "--data-root", name)
        assert code == 0
        folders.append(RunFolder(Path(folder)))
    assert folders[0].path != folders[1].path
    marks = [folder.config().data.fingerprint for folder in folders]
    assert marks == [fingerprint("image-folder", place / name) for name in ("tree", "other")]
    data = [
        [written(folder.file(name))["data"]["sha256"] for name in ("search.json", "result.json")] for folder in folders
    ]
    assert data[0][0] == data[0][1] != data[1][0] == data[1][1]
    before = snapshot(place / "runs")
    shutil.copytree(place / "tree", place / "moved", copy_function=shutil.copyfile)
    code, again, _ = _search(capsys, "--data-root", "moved")
    assert (code, Path(again)) == (0, folders[0].path)
    results = {str(path) for name in ("searches", "retrainings") for path in (place / "runs" / name).rglob("*")}
    assert {path: content for path, content in snapshot(place / "runs").items() if path in results} == {
        path: content for path, content in before.items() if path in results
    }


def test_images_replaced_between_search_and_retraining_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _search(capsys, "--data-root", "tree", "--out", "mine", "--only-search")[0] == 0
    first = fingerprint("image-folder", place / "tree")
    before = snapshot(place / "mine")
    _other_images(place / "tree")
    code, _, err = _search(capsys, "--data-root", "tree", "--out", "mine")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert f"data.fingerprint is {first} there and {fingerprint('image-folder', place / 'tree')} here" in err
    assert snapshot(place / "mine") == before


def test_images_replaced_while_a_run_waits_are_refused_by_the_stage_itself(place: Path) -> None:
    """A job that holds the former fingerprint, as one that was submitted before has it."""
    first = fingerprint("image-folder", place / "tree")
    values = {key.replace(".", "__"): value for key, value in ON_IMAGES.items()}
    config = small_config(**values, runtime__data_root=str(place / "tree"), data__fingerprint=first)
    folder = RunFolder(place / "runs" / "mine" / config.hash)
    assert go(folder.path, config, ("search", "derive")) == "done"
    _other_images(place / "tree")
    stages = snapshot(place / "runs" / "searches")
    assert go(folder.path, config) == "failed"
    failure = written(folder.file("failure.json"))
    assert (failure["kind"], failure["stage"]) == ("user", "retrain")
    for mark in (first, fingerprint("image-folder", place / "tree")):
        assert mark in failure["message"]
    assert snapshot(place / "runs" / "searches") == stages
    assert not folder.has("result")


GRID = """
from tests.support.harness.old_runs import small_config
from tests.ablations.folders.test_image_trees import ON_IMAGES

def grid(scale):
    values = {{key.replace(".", "__"): value for key, value in ON_IMAGES.items()}}
    yield small_config(**values, runtime__data_root={root!r})
"""


def test_in_a_grid_the_run_of_former_images_is_another_run(place: Path) -> None:
    (place / "mine.py").write_text(GRID.format(root=str(place / "tree")))

    def driver() -> Driver:
        return Driver(load_grid(str(place / "mine.py"), "smoke"), place / "runs")

    first = driver()
    (point,) = first.grid.points
    assert point.config.data.fingerprint == fingerprint("image-folder", place / "tree")
    assert go(first.path(point), point.config) == "done"
    shutil.copytree(place / "tree", place / "former")
    _other_images(place / "tree")
    now = driver()
    assert now.grid.points[0].hash != point.hash
    assert [state.status for state in now.states()] == ["new"]
    shutil.rmtree(place / "tree")
    shutil.copytree(place / "former", place / "tree")
    assert [state.status for state in driver().states()] == ["done"]
