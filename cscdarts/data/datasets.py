"""Whole data sets as uint8 tensors: digits (shipped with scikit-learn), torchvision's, and any class-per-folder
tree."""

import hashlib
import importlib.util
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cscdarts.data.contents import folder_notes, size_notes
from cscdarts.data.folders import folder_split, image_tree
from cscdarts.data.images import channels_first, decode, require_one_range, resized, squared
from cscdarts.errors import OutsideFailure, UserError
from cscdarts.settings.config import DataConfig

#: Above this many bytes of pixels a set is streamed from disk rather than held on the device.
RESIDENT_LIMIT = 6 * 2**30


@dataclass(frozen=True)
class Arrays:
    """A labelled data set.

    Attributes:
        train_images, test_images: (n, c, h, w) uint8.
        train_labels, test_labels: (n,) int64.
        classes: class names in label order.
        label: how the data set is named beside every number.
        skipped: entries of a folder that were passed over, by what they are.
        notes: what a run says of the files when it begins.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    label: str
    skipped: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Hash of all pixels and labels: the fingerprint that stands in each record."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_arrays(config: DataConfig, name: str, root: Path) -> Arrays:
    """Read a data set whole.

    Args:
        name: `digits`, `fashion-mnist`, `cifar10`, `cifar100` or `image-folder`.
        root: where downloads lie, or the tree itself for `image-folder`.

    Errors:
        UserError: the folder is no such data set, an image is broken, or a download failed.
    """
    if name == "digits":
        arrays = _digits()
    elif name == "image-folder":
        arrays = _image_folder(config, root)
    else:
        arrays = _torchvision(name, root)
    size = config.image_size
    if size is not None and arrays.train_images.shape[-1] != size:
        train, test = resized(arrays.train_images, size), resized(arrays.test_images, size)
        arrays = replace(arrays, train_images=train, test_images=test)
    return arrays


def _digits() -> Arrays:
    """1,797 scans of 8x8 pixels with 17 gray levels; a fixed stratified fifth is the test set.

    The file is scikit-learn's, and so is the split. Neither is asked of it: its import takes longer than a small run.
    """
    table = _digits_table()
    images = torch.from_numpy(np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8))[:, None]
    labels = table[:, -1].astype(np.int64)
    train, test = stratified_split(labels, math.ceil(0.2 * len(labels)))
    found = torch.from_numpy(labels)
    return Arrays(images[train], found[train], images[test], found[test], tuple("0123456789"), "digits")


def _digits_table() -> NDArray[np.float64]:
    """(1797, 65): 64 gray levels from 0 to 16 and the digit."""
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def stratified_split(labels: NDArray[np.int64], test: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the training and of `test` test images, in which each class has its share.

    What `sklearn.model_selection.train_test_split(..., stratify=labels, random_state=0)` gives, draw by draw.
    """
    draw = np.random.RandomState(0)
    classes, counts = np.unique(labels, return_counts=True)
    for_training = _shares(counts, len(labels) - test, draw)
    for_test = _shares(counts - for_training, test, draw)
    parts: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for label, count, first, second in zip(classes, counts, for_training, for_test, strict=True):
        mixed = np.flatnonzero(labels == label)[draw.permutation(count)]
        parts[0].append(mixed[:first])
        parts[1].append(mixed[first : first + second])
    return draw.permutation(np.concatenate(parts[0])), draw.permutation(np.concatenate(parts[1]))


def _shares(counts: NDArray[np.int64], total: int, draw: "np.random.RandomState") -> NDArray[np.int64]:
    """`total` divided in proportion to `counts`: rounded down, the rest to the largest remainders, ties drawn."""
    exact = counts / counts.sum() * total
    whole: NDArray[np.float64] = np.floor(exact)
    left = int(total - whole.sum())
    for value in np.sort(np.unique(exact - whole))[::-1]:
        if left == 0:
            break
        (tied,) = np.where(exact - np.floor(exact) == value)
        chosen = draw.choice(tied, size=min(len(tied), left), replace=False)
        whole[chosen] += 1
        left -= len(chosen)
    return whole.astype(np.int64)


def _torchvision(name: str, root: Path) -> Arrays:
    from torchvision import datasets as tv

    kind, label = {
        "fashion-mnist": (tv.FashionMNIST, "Fashion-MNIST"),
        "cifar10": (tv.CIFAR10, "CIFAR-10"),
        "cifar100": (tv.CIFAR100, "CIFAR-100"),
    }[name]
    try:
        train, test = (kind(str(root), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise OutsideFailure(
            f"Reading or downloading {label}",
            str(error).splitlines()[0],
            f"Put it under {root} (--data-root), or connect a network.",
        ) from error

    def tensors(part: object) -> tuple[Tensor, Tensor]:
        data = torch.as_tensor(np.asarray(part.data))  # type: ignore[attr-defined]
        data = data[:, None] if data.ndim == 3 else data.permute(0, 3, 1, 2)
        return data.contiguous(), torch.as_tensor(np.asarray(part.targets)).long()  # type: ignore[attr-defined]

    return Arrays(*tensors(train), *tensors(test), tuple(train.classes), label)


def _image_folder(config: DataConfig, root: Path) -> Arrays:
    train_tree, test_tree = folder_split(root)
    train = image_tree(train_tree)
    test = image_tree(test_tree, train.classes)
    first = squared(decode(train.files[0], config.background).pixels, config)
    size = config.image_size or first.shape[0]
    if config.image_size is None and first.shape[0] != first.shape[1]:
        raise UserError(
            "data.image_size",
            None,
            "a number of pixels",
            f"Images are not square ({train.files[0].name}); set it, or data.square=crop or pad.",
        )
    if (len(train.files) + len(test.files)) * 3 * size * size > RESIDENT_LIMIT:
        raise UserError(
            "data.dataset", "image-folder", "a tree that fits in memory", "Use data.dataset=imagenet, which streams."
        )
    reading = _Reading(config, size)
    arrays = Arrays(
        reading.stack(train.files),
        torch.tensor(train.labels),
        reading.stack(test.files),
        torch.tensor(test.labels),
        train.classes,
        f"image folder {root.name}",
        train.skipped + test.skipped,
    )
    return replace(arrays, notes=(*folder_notes(root), *reading.notes()))


@dataclass
class _Reading:
    """Decodes files into one tensor and notes what is worth saying of them.

    Attributes:
        size: side of the images in pixels.
        sizes: (width, height) as stored, after EXIF orientation -> images.
        value_range: the range that files with values of their own scale declare, and the first such file.
        several: files that hold further pictures.
    """

    config: DataConfig
    size: int
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    value_range: tuple[tuple[float, float], Path] | None = None
    several: int = 0

    def stack(self, files: Sequence[Path]) -> Tensor:
        """All images as (n, 3, size, size) uint8.

        Errors:
            UserError: see `images.decode`; images of several sizes without `data.image_size`; files that declare
                different ranges, so that one gray would not be the same gray.
        """
        out = torch.empty((len(files), 3, self.size, self.size), dtype=torch.uint8)
        for row, path in enumerate(files):
            out[row] = self._one(path)
        return out

    def notes(self) -> Iterator[str]:
        """What is worth saying of the files read so far."""
        yield from size_notes(self.sizes, f"made {self.size}x{self.size} by data.square={self.config.square}")
        if self.several:
            yield f"{self.several:,} of the files hold several pictures, of which the first is read"

    def _one(self, path: Path) -> Tensor:
        picture = decode(path, self.config.background)
        h, w = picture.pixels.shape[:2]
        self.sizes[w, h] += 1
        self.several += picture.several
        if picture.value_range is not None:
            self.value_range = self.value_range or (picture.value_range, path)
            require_one_range(*self.value_range, picture.value_range, path)
        image = channels_first(squared(picture.pixels, self.config))
        if self.config.image_size is None and tuple(image.shape[1:]) != (self.size, self.size):
            raise UserError(
                "--data-root",
                str(path),
                f"an image of {self.size}x{self.size} pixels",
                f"This one is {w}x{h}; set data.image_size to resize all.",
            )
        return image if tuple(image.shape[1:]) == (self.size, self.size) else resized(image[None], self.size)[0]
