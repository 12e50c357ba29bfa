"""What counts as a class and as an image in a folder, and what a run says and records of it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cscdarts.data.contents import Contents
from cscdarts.data.open import open_data
from cscdarts.data.source import DataSet, Place
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import DataConfig
from tests.support.pictures import gray_rgb, pattern, rgb_tree, save_rgb, tree

CPU = Place(torch.device("cpu"))


def open_tree(root: Path, dataset: str = "image-folder", **values: object) -> DataSet:
    config = DataConfig.model_validate({"dataset": dataset, **values})
    return open_data(config, dataset, root, CPU, 2, 0)


@pytest.fixture(params=["image-folder", "imagenet"])
def dataset(request: pytest.FixtureRequest) -> str:
    """Held whole, and streamed."""
    return str(request.param)


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """A folder with a path short enough for a socket."""
    path = Path("/tmp") / f"cscdarts-{os.getpid()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def test_hidden_names_are_neither_classes_nor_images(dataset: str, tmp_path: Path) -> None:
    plain = open_tree(rgb_tree(tmp_path / "plain"), dataset, image_size=16)
    root = rgb_tree(tmp_path / "littered")
    for folder in (root / "train", root / "train" / "ape"):
        for name in (".ipynb_checkpoints", "__MACOSX"):
            shutil.copytree(root / "train" / "bee", folder / name)
    (root / "test" / "bee" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    shutil.copy(root / "test" / "bee" / "000.png", root / "test" / "bee" / "._000.png")
    data = open_tree(root, dataset, image_size=16)
    assert (data.classes, data.sha256) == (plain.classes, plain.sha256)
    assert data.contents.skipped == {"hidden name": 6}
    assert (data.contents.train, data.contents.test) == ((6, 6), (3, 3))


def test_what_is_no_image_is_passed_over_and_said(dataset: str, tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    for number in range(4):
        (root / "train" / "ape" / f"{number:03d}.txt").write_text("ape, seen from the side\n")
    (root / "test" / "bee" / "labels.CSV").write_text("a,b\n")
    (root / "test" / "bee" / "README").write_text("P.S. not an image\n")
    (root / "test" / "bee" / "volume.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    shutil.copy(root / "train" / "ape" / "000.png", root / "train" / "stray.png")
    data = open_tree(root, dataset, image_size=16)
    skipped = ".txt: 4, .csv: 1, .h5: 1, no ending: 1, outside a class folder: 1"
    said = f"2 classes, 12 + 6 images of 16x16, 8 files skipped ({skipped})"
    assert data.contents.lines()[0] == f"data: {said}"
    record = data.record()
    assert record["contents"] == said
    assert record["skipped"] == {".txt": 4, ".csv": 1, ".h5": 1, "no ending": 1, "outside a class folder": 1}
    assert (record["train_images"], record["test_images"], record["image_size"], record["classes"]) == (12, 6, 16, 2)
    assert record["sha256"] == data.sha256


def test_rare_endings_are_summed_up(tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    for number in range(7):
        (root / "train" / "ape" / f"a.t{number}").write_text("text")
    assert open_tree(root).contents.sentence.endswith(
        "7 files skipped (.t0: 1, .t1: 1, .t2: 1, .t3: 1, .t4: 1, others: 2)"
    )


def test_files_that_are_none_neither_hang_nor_crash(dataset: str, tmp_path: Path, short: Path) -> None:
    root = rgb_tree(short / "tree")
    plain = open_tree(rgb_tree(tmp_path / "plain"), dataset, image_size=16)
    folder = root / "train" / "ape"
    os.mkfifo(folder / "900.png")
    (folder / "901.png").symlink_to(folder / "nowhere.png")
    (folder / "902.png").symlink_to("902.png")
    (folder / "903.png").mkdir()
    (folder / "904.png").symlink_to(root / "train" / "bee", target_is_directory=True)
    (root / "train" / "pipe").symlink_to("/nowhere")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "905.png"))
        data = open_tree(root, dataset, image_size=16)
    assert data.contents.skipped == {
        "named pipe": 1,
        "dangling link": 2,
        "linked folder": 1,
        "socket": 1,
        "outside a class folder": 1,
    }
    assert (data.contents.train, data.sha256) == ((6, 6), plain.sha256)
    assert len(list(data.train.batches(0))) == 6


def test_links_to_images_and_folders_in_class_folders_are_followed_as_before(dataset: str, tmp_path: Path) -> None:
    plain = open_tree(rgb_tree(tmp_path / "plain"), dataset, image_size=16)
    root = rgb_tree(tmp_path / "linked")
    elsewhere = tmp_path / "elsewhere"
    shutil.move(root / "train" / "bee", elsewhere)
    (root / "train" / "bee").symlink_to(elsewhere, target_is_directory=True)
    shutil.move(elsewhere / "000.png", tmp_path / "one.png")
    (elsewhere / "000.png").symlink_to(tmp_path / "one.png")
    assert open_tree(root, dataset, image_size=16).sha256 == plain.sha256


def test_a_class_without_images_says_what_it_holds(dataset: str, tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    for image in (root / "test" / "bee").iterdir():
        image.rename(image.with_suffix(".mp4"))
        image.with_suffix(".mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(UserError, match=r"test/bee.*Passed over: \.mp4: 3"):
        open_tree(root, dataset, image_size=16)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = rgb_tree(tmp_path / "tree")
    listing = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"train/bee.*Permission denied"):
        open_tree(root)


def test_an_image_without_permission_is_named(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is stood in for: a superuser may read all files."""
    root = rgb_tree(tmp_path / "tree")
    opening = Image.open

    def refuse(path: Path, **options: object) -> object:
        if path.parts[-3:] == ("train", "ape", "000.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return opening(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UserError, match=r"train/ape/000\.png.*no permission"):
        open_tree(root, dataset, image_size=16)


def test_copies_across_training_and_test_are_counted(dataset: str, tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    assert open_tree(root, dataset, image_size=16, split_seed=1).record()["test_images_in_training"] == 0
    shutil.copy(root / "train" / "ape" / "000.png", root / "test" / "ape" / "copy.png")
    one = open_tree(root, dataset, image_size=16, split_seed=2).contents
    assert (one.repeated, sum(one.test)) == (1, 7)
    assert "data: 1 of 7 test image stands among the training images too" in one.lines()
    shutil.copy(root / "train" / "ape" / "001.png", root / "test" / "bee" / "000.png")
    two = open_tree(root, dataset, image_size=16, split_seed=3).contents
    assert "data: 2 of 7 test images stand among the training images too" in two.lines()


def test_copies_in_another_format_are_seen_where_pixels_are_held(tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    save_rgb(root / "test" / "ape" / "copy.bmp", gray_rgb(pattern(0)))
    assert open_tree(root).contents.repeated == 1


def test_unequal_classes_and_single_images_are_said(tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree", train=10)
    for image in sorted((root / "train" / "bee").iterdir())[1:]:
        image.unlink()
    lines = open_tree(root).contents.lines()
    assert "data: 1 class has a single training image ('bee')" in lines
    assert "data: classes are unequal: 'ape' has 10 training images, 'bee' 1" in lines
    assert not any("unequal" in line for line in open_tree(rgb_tree(tmp_path / "equal")).contents.lines())


def test_more_than_one_size_is_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", lambda path, seed: save_rgb(path, gray_rgb(pattern(seed, 16 if seed else 20))))
    whole = open_tree(root, image_size=16).contents.lines()
    assert "data: images come in 2 sizes (16x16: 17, 20x20: 1) and are made 16x16 by data.square=squeeze" in whole
    streamed = open_tree(root, "imagenet", image_size=16).contents.lines()
    among = "among 12 that were looked at (16x16: 11, 20x20: 1)"
    assert f"data: images come in 2 sizes {among} and are cut to 16x16, at random in training" in streamed


def test_a_second_test_tree_is_said(tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    shutil.copytree(root / "test", root / "val")
    assert "data: tested on test/; val/ is not read" in open_tree(root).contents.lines()


def test_what_was_said_is_not_said_again() -> None:
    found = Contents(("a", "b"), (20, 1), (1, 1), 8, notes=("first",))
    lines = found.lines()
    assert len(lines) == 4
    assert found.noted("second", None).lines(said=found.record()) == ["data: second"]
    assert found.lines(said=None) == lines


def test_sets_without_a_folder_say_what_they_hold() -> None:
    data = open_data(DataConfig(), "digits", Path("unused"), CPU, 32, 0)
    assert data.contents.lines() == ["data: 10 classes, 1,437 + 360 images of 8x8"]


def test_the_command_says_it_records_it_and_names_what_is_broken(tmp_path: Path) -> None:
    """`cscdarts search` as a user calls it: counts in the log and the record; a broken file is one sentence and exit
    code 2."""
    root = rgb_tree(tmp_path / "tree", train=8, test=4)
    (root / "train" / "ape" / "notes.txt").write_text("text")

    def search(out: str, dataset: str, workers: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "ablations.cli", "search", "--scale", "smoke", "--preset", "random"),
                *("--set", f"data.dataset={dataset}", "--set", "data.image_size=16"),
                *("--set", "evaluation.batch_size=4", "--set", f"runtime.workers={workers}"),
                *("--data-root", str(root), "--out", str(tmp_path / out)),
            ],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    done = search("good", "image-folder", 0)
    assert done.returncode == 0, done.stderr
    said = "2 classes, 16 + 8 images of 16x16, 1 file skipped (.txt: 1)"
    assert done.stdout.count(f"data: {said}") == 1
    assert f'"contents": "{said}"' in RunFolder(tmp_path / "good").file("result.json").read_text()
    (root / "test" / "bee" / "spoilt.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    failed = search("bad", "imagenet", 2)
    assert failed.returncode == 2
    assert "failed (user): --data-root: '" in failed.stderr
    assert all(line.count("spoilt.png") <= 1 for line in failed.stderr.splitlines())
    assert "Traceback" not in failed.stderr
    # It was met in the test, after an epoch of training, which is not thrown away; what is met before leaves nothing.
    assert list((tmp_path / "bad").rglob("retrain-metrics.jsonl"))
    (root / "train" / "ape" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert search("gone", "imagenet", 0).returncode == 2
    assert not (tmp_path / "gone").exists()


def test_class_folders_with_other_alphabets_and_bytes(dataset: str, tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    odd = os.fsdecode("größe-猫".encode() + b"-\xff")
    for part in ("train", "test"):
        try:
            (root / part / "bee").rename(root / part / odd)
        except OSError:
            pytest.skip("this file system takes no names that are not UTF-8")
    data = open_tree(root, dataset, image_size=16)
    assert data.classes == 2
    assert np.isfinite(next(data.train.batches(0))[0].numpy()).all()


def test_cifar10_as_jpeg_files_is_read_as_pillow_decodes_it(tmp_path: Path) -> None:
    """A sample of the real copy, where it lies beside the repository: plain 8-bit files keep their pixels."""
    places = (folder / "shared" / "data" / "cifar10-jpeg.tar.gz" for folder in Path(__file__).resolve().parents)
    archive = next((place for place in places if place.is_file()), None)
    if archive is None:
        pytest.skip("no shared/data/cifar10-jpeg.tar.gz in a folder above this one")
    wanted = re.compile(r"(train|test)/\w+/000[0-2]\.jpg")
    with tarfile.open(archive) as packed:
        found = [member for member in packed if wanted.fullmatch(member.name)]
        packed.extractall(tmp_path, found, filter="data")
    assert len(found) == 60
    data = open_tree(tmp_path)
    plain = []
    for path in sorted((tmp_path / "train").rglob("*.jpg")):
        with Image.open(path) as image:
            plain.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))
    assert torch.equal(data.train.images, torch.stack(plain))  # type: ignore[attr-defined]
    assert data.contents.sentence == "10 classes, 30 + 30 images of 32x32"
