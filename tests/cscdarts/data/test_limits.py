"""Runs that cannot go on or whose numbers would mean nothing: batches, halves, labels, augmentation that erases."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cscdarts.data.augmentation import cutout, random_crop
from cscdarts.data.contents import class_counts, pixel_sums
from cscdarts.data.limits import KNOWN_SETS, crop_padding, half_size, kept_share, require_data, require_kept
from cscdarts.data.open import open_data
from cscdarts.data.source import Place, search_halves
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import DataConfig, RunConfig
from cscdarts.settings.methods import PRESETS, apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import PROTOCOLS, protocol
from tests.support.pictures import gray_rgb, pattern, rgb_tree, save_rgb, tree

CPU = Place(torch.device("cpu"))


def config(root: Path | None = None, dataset: str = "image-folder", /, **values: Any) -> RunConfig:
    where = {} if root is None else {"data.dataset": dataset, "data.image_size": 16, "runtime.data_root": str(root)}
    small = {"search.batch_size": 4, "evaluation.batch_size": 4, "data.search_fraction": 1.0, "runtime.workers": 0}
    base = protocol("quickstart", "smoke")
    return with_values(
        base, {**small, **where, "runtime.device": "cpu", **{k.replace("__", "."): v for k, v in values.items()}}
    )


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.3, 0.01])
@pytest.mark.parametrize("counts", [(10, 10), (2, 3, 9), (101, 50, 7, 2), (5,) * 9])
def test_half_size_is_that_of_the_halves(counts: tuple[int, ...], fraction: float) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    halves = search_halves(labels, fraction, 0)
    assert half_size(counts, fraction) == min(map(len, halves))
    for half in halves:
        assert set(labels[half]) == set(range(len(counts)))


def test_the_shipped_set_has_the_counts_that_are_known_of_it() -> None:
    contents = open_data(DataConfig(), "digits", Path("unused"), CPU, 2, 0).contents
    assert (contents.train, contents.size) == KNOWN_SETS["digits"]


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_protocol_passes_on_its_own_data(name: str, scale: str, preset: str) -> None:
    chosen = apply_preset(protocol(name, scale), preset)
    if "imagenet" in (chosen.data.dataset, chosen.data.search_dataset):
        with pytest.raises(UserError, match=r"There is no /nowhere\."):
            require_data(with_values(chosen, {"runtime.data_root": "/nowhere"}))
    else:
        require_data(chosen)


TOO_LARGE = [
    ("evaluation.batch_size", 17, r"evaluation\.batch_size: 17 .*at most the 16 training images"),
    ("search.batch_size", 9, r"search\.batch_size: 9 .*at most the 8 images of a half"),
]


@pytest.mark.parametrize("dataset", ["image-folder", "imagenet"])
@pytest.mark.parametrize(("field", "value", "words"), TOO_LARGE)
def test_a_batch_larger_than_the_data_is_refused_before_and_in_the_run(
    field: str, value: int, words: str, dataset: str, tmp_path: Path
) -> None:
    root = rgb_tree(tmp_path / "tree", train=8)
    good, bad = (config(root, dataset, **{field: number}) for number in (value - 1, value))
    require_data(good)
    with pytest.raises(UserError, match=words):
        require_data(bad)
    with pytest.raises(UserError, match=words):
        begin(bad, "search" if field.startswith("search") else "retrain", tmp_path / "run")


def begin(chosen: RunConfig, stage: str, path: Path) -> None:
    """Open a run's stage without training."""
    from cscdarts.spaces.genotype import random_genotype
    from cscdarts.training.retrain import RetrainRun
    from cscdarts.training.search import SearchRun

    folder = RunFolder(path)
    folder.create(chosen)
    if stage == "search":
        SearchRun(chosen, folder, lambda: False, lambda line: None)
    else:
        genotype = random_genotype("nasbench201", np.random.default_rng(0))
        RetrainRun(chosen, folder, genotype, lambda: False, lambda line: None)


def test_a_batch_larger_than_a_set_that_is_not_here_yet_is_refused() -> None:
    for name, images in (("digits", 1437), ("cifar10", 50_000), ("fashion-mnist", 60_000)):
        values = {"data.dataset": name, "evaluation.batch_size": images}
        require_data(config(**values))
        with pytest.raises(UserError, match=f"at most the {images:,} training images"):
            require_data(config(**{**values, "evaluation.batch_size": images + 1}))


def test_settings_of_a_stage_that_does_not_read_them_are_not_held_against_it() -> None:
    require_data(config(**{"evaluation.epochs": 0, "evaluation.batch_size": 60_000}))
    require_data(with_values(apply_preset(config(), "random"), {"search.batch_size": 60_000}))
    given = {"search.strategy": "given", "search.genotype": "(3, 3, 4, 0, 3, 4)", "search.batch_size": 60_000}
    require_data(config(**given, **{"data.search_dataset": "image-folder", "runtime.data_root": "/nowhere"}))


def test_counting_a_large_tree_stops_when_both_batches_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cscdarts.data import folders

    root = tmp_path / "tree"
    for part in ("train", "test"):
        for name in ("ape", "bee", "cow"):
            (root / part / name).mkdir(parents=True)
            for number in range(400):
                (root / part / name / f"{number}.png").touch()
    asked: list[Path] = []

    def is_image(path: Path) -> bool:
        asked.append(path)
        return True

    monkeypatch.setattr(folders, "is_image", is_image)
    require_data(config(root, "imagenet"))
    assert len(asked) < 20


@pytest.mark.parametrize("dataset", ["image-folder", "imagenet"])
def test_a_search_whose_halves_would_lack_a_class_is_refused(dataset: str, tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree", train=8)
    for image in sorted((root / "train" / "bee").iterdir())[1:]:
        image.unlink()
    words = "class bee with 1 training image'.*at least two.*One half of the search would lack this class"
    with pytest.raises(UserError, match=words):
        require_data(config(root, dataset))
    with pytest.raises(UserError, match=words):
        begin(config(root, dataset), "search", tmp_path / "run")
    require_data(apply_preset(config(root, dataset), "random"))  # without a search one image is enough


def test_constant_labels_and_classes_without_images_are_refused() -> None:
    assert class_counts("cifar10", [0, 1, 1], ("a", "b")) == (1, 2)
    with pytest.raises(UserError, match=r"at least two classes\. All labels are equal"):
        class_counts("cifar10", [1, 1, 1], ("a", "b"))
    with pytest.raises(UserError, match="Class 'b' has none"):
        class_counts("cifar10", [0, 2, 2], ("a", "b", "c"))


def test_constant_labels_of_a_downloaded_set_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    class Reader:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            self.data = np.random.default_rng(train).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
            self.targets = [1] * 8
            self.classes = ["a", "b"]

    monkeypatch.setattr(datasets, "CIFAR10", Reader)
    with pytest.raises(UserError, match="All labels are equal"):
        open_data(DataConfig(dataset="cifar10", split_seed=9), "cifar10", tmp_path, CPU, 2, 0)


@pytest.mark.parametrize(("size", "padding", "length"), [(8, 1, 4), (8, 3, 5), (8, 0, 16), (12, 9, 0), (16, 2, 7)])
def test_the_share_that_is_kept_is_that_of_the_augmentation(size: int, padding: int, length: int) -> None:
    images = torch.ones(20_000, 1, size, size)
    draws = torch.Generator().manual_seed(0)
    cropped, cut = kept_share(size, padding, length)
    assert float(random_crop(images, padding, draws).mean()) == pytest.approx(cropped, abs=0.01)
    assert float(cutout(images, length, draws).mean()) == pytest.approx(cut, abs=0.01)


def test_augmentation_that_erases_most_of_an_image_is_refused() -> None:
    assert require_kept(32, 4, 16) is None  # the recipe of CIFAR-10
    assert "erase 47% of each training image" in str(require_kept(8, 1, 6))
    with pytest.raises(UserError, match=r"evaluation\.cutout: 16 .*8x8.*erase 100%"):
        require_kept(8, 1, 16)
    with pytest.raises(UserError, match=r"data\.crop_padding: 30 "):
        require_kept(8, 30, 4)
    for name, (_, size) in KNOWN_SETS.items():
        assert require_kept(size, crop_padding(DataConfig(), name, size), size // 2) is None


def test_a_run_that_would_erase_its_images_is_refused_before_and_in_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.cutout"):
        require_data(config(**{"evaluation.cutout": 16}))
    root = tree(tmp_path / "tree", lambda path, seed: save_rgb(path, gray_rgb(pattern(seed, 8))))
    unknown = config(root, **{"data.image_size": "null", "evaluation.cutout": 16})
    require_data(unknown)  # how large the images are is seen when they are read
    with pytest.raises(UserError, match=r"evaluation\.cutout"):
        begin(unknown, "retrain", tmp_path / "run")


def test_settings_that_streaming_does_not_read_are_said(tmp_path: Path) -> None:
    root = rgb_tree(tmp_path / "tree")
    chosen = DataConfig(dataset="imagenet", image_size=16, flip=True)
    lines = open_data(chosen, "imagenet", root, CPU, 2, 0, cutout=8).contents.lines()
    assert lines[1:] == [
        "data: data.flip does not apply to streamed images",
        "data: evaluation.cutout does not apply to streamed images",
    ]


def test_the_command_refuses_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablations.cli import cscdarts

    monkeypatch.chdir(tmp_path)
    for assignment in ("evaluation.batch_size=60000", "search.batch_size=4096", "evaluation.cutout=16"):
        with pytest.raises(UserError, match=assignment.split("=")[0]):
            CliRunner().invoke(cscdarts, ["search", "--set", assignment], catch_exceptions=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("images", [12, 13, 15])
def test_the_train_error_counts_the_images_seen(images: int, tmp_path: Path) -> None:
    """An incomplete last batch is left out, so each step sees a whole batch and a wrong answer weighs
    1 / (steps x batch)."""
    from cscdarts.training.retrain import RetrainRun

    root = rgb_tree(tmp_path / "tree", train=8)
    for image in sorted((root / "train" / "bee").iterdir())[images - 8 :]:
        image.unlink()
    folder = RunFolder(tmp_path / "run")
    chosen = config(root, **{"evaluation.batch_size": 4, "evaluation.epochs": 2})
    folder.create(chosen)
    from cscdarts.spaces.genotype import random_genotype

    genotype = random_genotype("nasbench201", np.random.default_rng(0))
    run = RetrainRun(chosen, folder, genotype, lambda: False, lambda line: None)
    seen: list[int] = []
    move = run._move
    run._move = lambda batch: (seen.append(len(batch[1])), move(batch))[1]  # type: ignore[method-assign,func-returns-value]
    run.train_epoch()
    wrong = float(run.sums[1])
    run.close_epoch()
    assert seen == [4, 4, 4]
    error = folder.curves()[0]["values"]["retrain_train_error_pct"]
    assert error == pytest.approx(100 * wrong / sum(seen))


def test_sums_of_pixels_are_exact() -> None:
    images = torch.randint(0, 256, (5000, 2, 50, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = pixel_sums(images)
    assert torch.equal(first, images.long().sum(0))
    assert torch.equal(second, (images.long() ** 2).sum(0))
