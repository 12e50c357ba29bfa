"""Sets too large for the device: images stream from disk through a DataLoader and torchvision's v2 transforms.

Files are decoded as for sets held whole (`images.read_image`). Then the field's protocol for ImageNet cuts squares, at
random in training and from the middle in testing, so `data.square=squeeze` squeezes nothing here; `crop` and `pad` come
before it.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cscdarts.data.contents import (
    Contents,
    class_counts,
    folder_notes,
    pixel_sums,
    repeated_files,
    require_spread,
    size_notes,
)
from cscdarts.data.folders import Tree, folder_split, image_tree
from cscdarts.data.images import channels_first, decode, read_image, require_one_range, resized, squared
from cscdarts.data.randomness import derived_seed, permutation
from cscdarts.data.source import KNOWN_STATISTICS, Batch, DataSet, Place, require_halving
from cscdarts.errors import UserError
from cscdarts.settings.config import DataConfig

#: Training images decoded when a tree is opened, to tell what is in it.
LOOKED_AT = 64
#: Up to this many files, test files that equal training files are looked for.
COMPARED_FILES = 100_000


@dataclass(frozen=True)
class _Images(Dataset["tuple[Tensor, int] | UserError"]):
    """Decodes and transforms one image; its draws depend only on (seed, stream, epoch, row), not on the worker."""

    files: tuple[Path, ...]
    labels: np.ndarray
    config: DataConfig
    size: int
    jitter: bool
    seed: int
    stream: str

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | UserError:
        """The image; or why it cannot be read, as a value: torch makes a RuntimeError of what a worker raises."""
        try:
            return self._transformed(key)
        except UserError as error:
            return error

    def _transformed(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        from torchvision.transforms import v2

        row, epoch = key
        image = read_image(self.files[row], self.config)
        if epoch < 0:
            whole = v2.functional.resize(image, [round(self.size * 256 / 224)], antialias=True)
            return v2.functional.center_crop(whole, [self.size, self.size]), int(self.labels[row])
        steps: list[Any] = [v2.RandomResizedCrop(self.size, antialias=True), v2.RandomHorizontalFlip()]
        if self.jitter:
            # quark0/darts cnn/train_imagenet.py: brightness, contrast, saturation 0.4, hue 0.2
            steps.append(v2.ColorJitter(0.4, 0.4, 0.4, 0.2))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.seed, self.stream, "augment", epoch, row))
            return v2.Compose(steps)(image), int(self.labels[row])


@dataclass(frozen=True)
class StreamedSource:
    """A part of an image tree; the interface of `data.Source`."""

    images: _Images
    rows: np.ndarray
    mean: Tensor
    std: Tensor
    batch_size: int
    place: Place
    workers: int
    labels: Tensor = field(repr=False)

    @property
    def steps(self) -> int:
        """Batches in an epoch; an incomplete last one is left out, as in `data.ResidentSource`."""
        return max(1, len(self.rows) // self.batch_size)

    def part(self, rows: np.ndarray, stream: str) -> "StreamedSource":
        """The source of a subset of the rows."""
        chosen = self.rows[rows]
        return replace(
            self, images=replace(self.images, stream=stream), rows=chosen, labels=self.labels[torch.from_numpy(rows)]
        )

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Shuffled, augmented batches from step `start` on."""
        order = permutation(len(self.rows), self.images.seed, self.images.stream, "order", epoch).numpy()
        rows = self.rows[order]
        mine = slice(self.place.rank, None, self.place.world)
        plan = [
            [(int(row), epoch) for row in rows[step * self.batch_size : (step + 1) * self.batch_size][mine]]
            for step in range(start, self.steps)
        ]
        yield from self._load(plan)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All images once, resized and centre-cropped."""
        starts = range(0, len(self.rows), batch_size)
        yield from self._load([[(int(row), -1) for row in self.rows[at : at + batch_size]] for at in starts])

    def _load(self, plan: list[list[tuple[int, int]]]) -> Iterator[Batch]:
        loader: DataLoader[tuple[Tensor, int] | UserError] = DataLoader(
            self.images,
            batch_sampler=plan,
            collate_fn=_collated,
            num_workers=self.workers,
            pin_memory=self.place.device.type == "cuda",
        )
        for loaded in loader:
            if isinstance(loaded, UserError):
                raise loaded
            images, labels = loaded
            images = images.to(self.place.device, non_blocking=True).float() / 255
            yield (images - self.mean) / self.std, labels.to(self.place.device, non_blocking=True)


def open_streamed(
    config: DataConfig,
    root: Path,
    place: Place,
    batch_size: int,
    seed: int,
    *,
    workers: int,
    color_jitter: bool,
) -> DataSet:
    """Open an ImageNet-like tree (`train/CLASS/...` and `val/CLASS/...`).

    Args:
        workers: decoding processes; they change speed, never numbers.

    Errors:
        UserError: the folder has another shape.
    """
    size = config.image_size or 224
    require_halving(size)
    train_tree, test_tree = folder_split(root)
    train = image_tree(train_tree)
    test = image_tree(test_tree, train.classes)
    mean, std = (
        torch.tensor(values, device=place.device)[None, :, None, None] for values in KNOWN_STATISTICS["imagenet"]
    )
    bytes_of = {path: path.stat().st_size for path in (*train.files, *test.files)}
    digest = hashlib.sha256()
    for tree, part in ((train_tree, train), (test_tree, test)):
        for path in part.files:
            digest.update(os.fsencode(path.relative_to(tree)) + f" {bytes_of[path]}\n".encode())

    def source(part: Tree, stream: str) -> StreamedSource:
        images = _Images(part.files, np.array(part.labels), config, size, color_jitter, seed, stream)
        rows = np.arange(len(part.files))
        return StreamedSource(images, rows, mean, std, batch_size, place, workers, torch.tensor(part.labels))

    contents = Contents(
        train.classes,
        class_counts("imagenet", train.labels, train.classes),
        tuple(np.bincount(test.labels, minlength=len(test.classes)).tolist()),
        size,
        train.skipped + test.skipped,
        repeated_files(train.files, test.files, bytes_of) if len(bytes_of) <= COMPARED_FILES else None,
        (*folder_notes(root), *_look(train.files, config, size, str(root))),
    )
    return DataSet(
        "imagenet",
        f"ImageNet-like folder {root.name}, {len(train.classes)} classes",
        len(train.classes),
        3,
        size,
        digest.hexdigest(),
        source(train, "train"),
        source(test, "test"),
        contents,
    )


def _look(files: tuple[Path, ...], config: DataConfig, size: int, where: str) -> Iterator[str]:
    """Decode a few training images, spread over the tree; what is worth saying of them.

    Errors:
        UserError: one is broken, they are all (nearly) equal, or they declare different ranges of values.
    """
    chosen = [files[row] for row in np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int))]
    sizes: Counter[tuple[int, int]] = Counter()
    first: tuple[tuple[float, float], Path] | None = None
    images = []
    for path in chosen:
        picture = decode(path, config.background)
        h, w = picture.pixels.shape[:2]
        sizes[w, h] += 1
        if picture.value_range is not None:
            first = first or (picture.value_range, path)
            require_one_range(*first, picture.value_range, path)
        images.append(resized(channels_first(squared(picture.pixels, config))[None], size))
    require_spread(pixel_sums(torch.cat(images)), len(images), where)
    yield from size_notes(
        sizes, f"cut to {size}x{size}, at random in training", f" among {len(chosen)} that were looked at"
    )


def _collated(items: "list[tuple[Tensor, int] | UserError]") -> "tuple[Tensor, Tensor] | UserError":
    """A batch, or the first reason why there is none."""
    loaded = []
    for item in items:
        if isinstance(item, UserError):
            return item
        loaded.append(item)
    return torch.stack([image for image, _ in loaded]), torch.tensor([label for _, label in loaded])
