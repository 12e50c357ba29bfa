"""Data: disjoint halves, each image its own draw, draws that depend on nothing but their place, refused folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cscdarts.data.augmentation import cutout, random_crop, random_flip
from cscdarts.data.datasets import load_arrays, stratified_split
from cscdarts.data.open import open_data
from cscdarts.data.randomness import derived_seed, permutation
from cscdarts.data.source import Augmentation, Place, ResidentSource, require_halving, search_halves
from cscdarts.errors import UserError
from cscdarts.settings.config import DataConfig
from tests.support.training import plain_training

CPU = Place(torch.device("cpu"))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_tree(root: Path, per_class: int = 6, size: int = 8, tests: str = "test") -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", tests):
        for name in ("ape", "bee"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_halves_are_disjoint_balanced_and_reproducible(fraction: float, seed: int) -> None:
    labels = np.random.default_rng(7).integers(0, 10, 1001)
    first, second = search_halves(labels, fraction, seed)
    assert not set(first) & set(second)
    assert abs(len(first) - len(second)) <= 1
    for half in (first, second):
        counts, whole = np.bincount(labels[half], minlength=10), np.bincount(labels) * fraction / 2
        assert np.all(np.abs(counts - whole) <= 1)
    again = search_halves(labels, fraction, seed)
    assert all(np.array_equal(a, b) for a, b in zip((first, second), again, strict=True))
    assert not np.array_equal(first, search_halves(labels, fraction, seed + 1)[0])


def test_digits_and_their_split_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch, found = load_digits(), load_arrays(DataConfig(), "digits", Path("unused"))
    parts = train_test_split(bunch.images, bunch.target, test_size=0.2, stratify=bunch.target, random_state=0)
    for mine, wanted in zip((found.train_images, found.test_images), parts[:2], strict=True):
        assert np.array_equal(mine[:, 0].numpy(), np.round(wanted * (255 / 16)))
    for mine, wanted in zip((found.train_labels, found.test_labels), parts[2:], strict=True):
        assert np.array_equal(mine.numpy(), wanted)
    draw = np.random.default_rng(0)
    for _ in range(30):  # classes of many sizes, with remainders that are equal and are not
        classes, number = int(draw.integers(2, 8)), int(draw.integers(60, 200))
        labels = draw.integers(0, classes, number)
        test = int(draw.integers(classes, number // 2))
        wanted = train_test_split(np.arange(number), test_size=test, stratify=labels, random_state=0)
        assert all(np.array_equal(a, b) for a, b in zip(stratified_split(labels, test), wanted, strict=True))


def test_search_never_meets_the_test_set() -> None:
    data = open_data(DataConfig(), "digits", Path("unused"), CPU, 32, seed=0)
    first, second = data.halves(DataConfig())
    assert all(isinstance(part, ResidentSource) for part in (first, second, data.test, data.train))
    counts = [len(part.labels) for part in (first, second, data.test)]  # type: ignore[attr-defined]
    assert sum(counts) == 1797
    assert counts[0] + counts[1] == len(data.train.labels)  # type: ignore[attr-defined]
    # Every scan of the shipped set is in exactly one part, told by its pixels and label.
    keys = [
        (image.numpy().tobytes(), int(label))
        for part in (first, second, data.test)
        for image, label in zip(part.images, part.labels, strict=True)  # type: ignore[attr-defined]
    ]
    assert len(set(keys)) == 1797


def test_fingerprint_follows_the_pixels(tmp_path: Path) -> None:
    config = DataConfig(dataset="image-folder")
    one = open_data(config, "image-folder", make_tree(tmp_path / "a"), CPU, 4, 0)
    two = open_data(config, "image-folder", make_tree(tmp_path / "b"), CPU, 4, 0)
    assert one.sha256 == two.sha256
    path = tmp_path / "c" / "train" / "ape" / "0.png"
    make_tree(tmp_path / "c")
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert open_data(config, "image-folder", tmp_path / "c", CPU, 4, 0).sha256 != one.sha256


def test_batches_depend_only_on_their_place() -> None:
    data = open_data(DataConfig(), "digits", Path("unused"), CPU, 64, seed=3)
    whole = list(data.train.batches(epoch=2))
    rest = list(data.train.batches(epoch=2, start=5))
    assert len(whole) == data.train.steps
    for (x, y), (u, v) in zip(whole[5:], rest, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    other = next(data.train.batches(epoch=3))
    assert not torch.equal(whole[0][1], other[1])


def test_an_epoch_uses_every_image_at_most_once() -> None:
    order = permutation(100, 0, "train", "order", 1)
    assert sorted(order.tolist()) == list(range(100))


def test_shares_of_processes_make_up_the_batch() -> None:
    whole = next(open_data(DataConfig(), "digits", Path("unused"), CPU, 64, 0).train.batches(0))
    for rank in (0, 1):
        place = Place(torch.device("cpu"), rank, 2)
        share = next(open_data(DataConfig(), "digits", Path("unused"), place, 64, 0).train.batches(0))
        assert torch.equal(share[0], whole[0][rank::2])
        assert torch.equal(share[1], whole[1][rank::2])


def test_in_order_gives_all_images_once() -> None:
    data = open_data(DataConfig(), "digits", Path("unused"), CPU, 64, 0)
    labels = torch.cat([y for _, y in data.test.in_order(50)])
    assert torch.equal(labels, data.test.labels)  # type: ignore[attr-defined]


def test_crop_moves_each_image_by_its_own_draw() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8).repeat(50, 1, 1, 1) + 1
    y = random_crop(x, 2, draws())
    assert y.shape == x.shape
    offsets = set()
    for image in y[:, 0]:
        found = [
            (a, b)
            for a in range(-2, 3)
            for b in range(-2, 3)
            if torch.equal(image, torch.nn.functional.pad(x[0, 0], (2, 2, 2, 2))[2 + a : 10 + a, 2 + b : 10 + b])
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 10
    assert random_crop(x, 0, draws()) is x


def test_flip_mirrors_about_half_of_the_images() -> None:
    x = torch.arange(4.0).view(1, 1, 1, 4).repeat(400, 1, 1, 1)
    y = random_flip(x, draws())
    mirrored = (y[:, 0, 0, 0] == 3).float()
    assert torch.equal(y[mirrored.bool()], x[mirrored.bool()].flip(3))
    assert float(mirrored.mean()) == pytest.approx(0.5, abs=0.08)


def test_cutout_is_clipped_at_the_border() -> None:
    x = torch.ones(500, 1, 8, 8)
    zeros = (cutout(x, 4, draws()) == 0).sum((1, 2, 3))
    assert int(zeros.max()) == 16
    assert int(zeros.min()) == 4  # centred on a corner only a quarter lies inside
    assert cutout(x, 0, draws()) is x


@pytest.mark.parametrize(
    ("padding", "flip", "length"), [(0, False, 0), (2, False, 0), (0, True, 0), (0, False, 3), (1, True, 4)]
)
def test_batches_equal_a_plainly_written_loop(padding: int, flip: bool, length: int) -> None:
    """Oblong images, so that rows and columns cannot be mistaken; order and draws by seed, stream, epoch and step."""
    images = torch.randint(0, 256, (23, 3, 6, 8), generator=draws(), dtype=torch.uint8)
    labels = torch.randint(0, 5, (23,), generator=draws(1))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    source = ResidentSource(
        images, labels, torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1), 7,
        Augmentation(padding, flip, length), 9, "train", CPU,
    )  # fmt: skip
    plain = plain_training.Pictures(images, labels, mean, std)
    for epoch in (0, 3):
        found = list(source.batches(epoch))
        expected = plain_training.batches(plain, 9, "train", epoch, 7, padding, flip, length)
        assert len(found) == len(expected) == source.steps == 3  # the last two images are left out
        for (x, y), (u, v) in zip(found, expected, strict=True):
            assert torch.allclose(x.double(), u, atol=1e-5)
            assert torch.equal(y, v)
    in_order = torch.cat([x for x, _ in source.in_order(10)])
    assert torch.allclose(in_order.double(), torch.stack([plain.normalised(image) for image in images]), atol=1e-5)


@pytest.mark.parametrize("change", [random_crop, random_flip, cutout])
def test_augmentation_stays_on_the_images_device(change) -> None:  # type: ignore[no-untyped-def]
    """What is made without a device lies on `meta` here, holds nothing, and makes nothing of the images."""
    x = torch.rand(4, 1, 8, 8)
    amount = () if change is random_flip else (2,)
    expected = change(x, *amount, draws())
    generator = draws()
    with torch.device("meta"):
        y = change(x, *amount, generator)
    assert torch.equal(y, expected)


def test_crop_takes_images_of_any_type_and_fills_with_0() -> None:
    for dtype in (torch.uint8, torch.float64):
        x = torch.full((200, 2, 4, 4), 7, dtype=dtype)
        y = random_crop(x, 1, draws())
        assert y.dtype == dtype
        # Of 9 equally likely offsets 4 lose a row and a column (9 pixels stay), 4 one of both (12), one nothing (16).
        kept = (y != 0).sum((2, 3))[:, 0]
        assert set(kept.tolist()) == {9, 12, 16}
        assert float((kept == 16).double().mean()) == pytest.approx(1 / 9, abs=0.06)


def test_cutout_takes_the_same_square_of_every_channel() -> None:
    y = cutout(torch.ones(50, 3, 8, 8), 4, draws())
    assert torch.equal(y[:, 0], y[:, 1])
    assert torch.equal(y[:, 0], y[:, 2])
    assert len({tuple(image.flatten().tolist()) for image in y[:, 0]}) > 20  # each image its own


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {derived_seed(0, *keys) for keys in [(), ("a",), ("a", 1), ("a", "1", 2), ("b",)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("tests", ["test", "val"])
def test_image_folder(tmp_path: Path, tests: str) -> None:
    data = open_data(DataConfig(), "image-folder", make_tree(tmp_path / "tree", tests=tests), CPU, 4, 0)
    assert (data.classes, data.channels, data.size) == (2, 3, 8)
    x, y = next(data.train.batches(0))
    assert x.shape == (4, 3, 8, 8)
    assert set(y.tolist()) <= {0, 1}


def test_streamed_folder_depends_on_neither_workers_nor_start(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", size=20, tests="val")
    config = DataConfig(dataset="imagenet", image_size=16)

    def source(workers: int):  # type: ignore[no-untyped-def]
        return open_data(config, "imagenet", tmp_path / "tree", CPU, 4, 0, workers=workers, color_jitter=True)

    alone, helped = list(source(0).train.batches(1)), list(source(2).train.batches(1))
    assert len(alone) == 3
    for (x, y), (u, v) in zip(alone, helped, strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    later = list(source(0).train.batches(1, start=2))
    assert torch.equal(later[0][0], alone[2][0])
    first, second = source(0).halves(config)
    assert (first.steps, second.steps) == (1, 1)
    images = torch.cat([x for x, _ in source(0).test.in_order(5)])
    assert images.shape == (12, 3, 16, 16)


@pytest.mark.parametrize("jitter", [False, True])
def test_streamed_images_are_transformed_as_published(jitter: bool, tmp_path: Path) -> None:
    """quark0/darts `cnn/train_imagenet.py`: resized crop, flip, jitter of .4 .4 .4 .2; tested on the middle of a larger
    image."""
    from torchvision.transforms import v2

    make_tree(tmp_path / "tree", size=40, tests="val")
    data = open_data(
        DataConfig(dataset="imagenet", image_size=32), "imagenet", tmp_path / "tree", CPU, 4, 7, color_jitter=jitter
    )  # fmt: skip
    files = sorted((tmp_path / "tree" / "train").rglob("*.png"))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, y = next(data.train.batches(epoch=3))
    order = torch.randperm(12, generator=plain_training.seeded(7, "train", "order", 3))[:4].tolist()
    for image, label, row in zip(x, y, order, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(files[row]))).permute(2, 0, 1)
        steps = [v2.RandomResizedCrop(32, antialias=True), v2.RandomHorizontalFlip(0.5)]
        if jitter:
            steps.append(v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plain_training.seeded(7, "train", "augment", 3, row).initial_seed())
            expected = v2.Compose(steps)(pixels)
        assert torch.allclose(image, (expected.float() / 255 - mean) / std, atol=1e-6)
        assert int(label) == row // 6

    tests = sorted((tmp_path / "tree" / "val").rglob("*.png"))
    first = next(data.test.in_order(5))[0][0]
    pixels = torch.from_numpy(np.array(Image.open(tests[0]))).permute(2, 0, 1)
    larger = v2.functional.resize(pixels, [37], antialias=True)  # 32 * 256 / 224 = 36.6
    middle = v2.functional.center_crop(larger, [32, 32])
    assert torch.allclose(first, (middle.float() / 255 - mean) / std, atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("missing", r"There is no .*tree\. Name a folder with train/CLASS/IMAGE"),
        ("no test", "no train/ or no test/"),
        ("one class", "two class folders"),
        ("empty class", "at least one image"),
        ("other class", "one side only"),
        ("broken image", "broken"),
        ("odd size", "image_size"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, spoil: str, words: str) -> None:
    root = tmp_path / "tree"
    if spoil != "missing":
        make_tree(root)
    if spoil == "no test":
        (root / "test").rename(root / "exam")
    elif spoil == "one class":
        (root / "train" / "bee").rename(tmp_path / "bee")
    elif spoil == "empty class":
        for image in (root / "train" / "bee").iterdir():
            image.unlink()
    elif spoil == "other class":
        (root / "test" / "bee").rename(root / "test" / "wasp")
    elif spoil == "broken image":
        (root / "train" / "bee" / "3.png").write_bytes(b"not an image")
    elif spoil == "odd size":
        Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(root / "train" / "bee" / "3.png")
    with pytest.raises(UserError, match=words):
        open_data(DataConfig(split_seed=1), "image-folder", root, CPU, 4, 0)


def test_a_batch_larger_than_a_half_is_refused() -> None:
    data = open_data(DataConfig(search_fraction=0.05), "digits", Path("unused"), CPU, 256, 0)
    with pytest.raises(UserError, match="batch_size"):
        data.halves(DataConfig(search_fraction=0.05))


@pytest.mark.parametrize(("size", "good"), [(8, True), (10, False), (9, False), (112, False), (128, True), (224, True)])
def test_sizes_that_cannot_be_halved_are_refused(size: int, good: bool) -> None:
    if good:
        require_halving(size)
    else:
        with pytest.raises(UserError, match="image_size"):
            require_halving(size)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100"])
def test_sets_of_torchvision_become_tensors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real sets need a download; their readers' attributes are stood in for by one with the same form."""
    from torchvision import datasets

    class Reader:
        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert (root, download) == (str(tmp_path), True)
            n = 12 if train else 6
            gray = name == "fashion-mnist"
            pixels = np.random.default_rng(n).integers(0, 256, (n, 28, 28) if gray else (n, 32, 32, 3), dtype=np.uint8)
            self.data = torch.from_numpy(pixels) if gray else pixels
            self.targets = torch.arange(n) % 3 if gray else [k % 3 for k in range(n)]
            self.classes = ["a", "b", "c"]

    for reader in ("FashionMNIST", "CIFAR10", "CIFAR100"):
        monkeypatch.setattr(datasets, reader, Reader)
    data = open_data(DataConfig.model_validate({"dataset": name, "split_seed": 2}), name, tmp_path, CPU, 4, 0)
    assert (data.classes, data.channels, data.size) == ((3, 1, 28) if name == "fashion-mnist" else (3, 3, 32))
    assert next(data.train.batches(0))[0].dtype == torch.float32


def test_a_download_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no network\nsecond line")

    monkeypatch.setattr(datasets, "CIFAR10", refuse)
    with pytest.raises(UserError, match="no network") as caught:
        open_data(DataConfig(dataset="cifar10"), "cifar10", tmp_path, CPU, 4, 0)
    assert "\n" not in str(caught.value)
