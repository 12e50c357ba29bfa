"""Sets too large for the device: images stream from disk through a DataLoader and torchvision's v2 transforms."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cscdarts.data.datasets import read_image
from cscdarts.data.folders import folder_files, folder_split
from cscdarts.data.randomness import derived_seed, permutation
from cscdarts.data.source import KNOWN_STATISTICS, Batch, DataSet, Place, require_halving
from cscdarts.settings.config import DataConfig


@dataclass(frozen=True)
class _Images(Dataset[tuple[Tensor, int]]):
    """Decodes and transforms one image; its draws depend only on (seed, stream, epoch, row), not on the worker."""

    files: tuple[Path, ...]
    labels: np.ndarray
    size: int
    jitter: bool
    seed: int
    stream: str

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        from torchvision.transforms import v2

        row, epoch = key
        image = read_image(self.files[row])
        if epoch < 0:
            resized = v2.functional.resize(image, [round(self.size * 256 / 224)], antialias=True)
            return v2.functional.center_crop(resized, [self.size, self.size]), int(self.labels[row])
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
        loader: DataLoader[tuple[Tensor, int]] = DataLoader(
            self.images,
            batch_sampler=plan,
            num_workers=self.workers,
            pin_memory=self.place.device.type == "cuda",
        )
        for images, labels in loader:
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
    train_files, train_labels, classes = folder_files(train_tree)
    test_files, test_labels, _ = folder_files(test_tree, classes)
    mean, std = (
        torch.tensor(values, device=place.device)[None, :, None, None] for values in KNOWN_STATISTICS["imagenet"]
    )
    digest = hashlib.sha256()
    for tree, files in ((train_tree, train_files), (test_tree, test_files)):
        for path in files:
            digest.update(f"{path.relative_to(tree)} {path.stat().st_size}\n".encode())

    def source(files: list[Path], labels: list[int], stream: str) -> StreamedSource:
        images = _Images(tuple(files), np.array(labels), size, color_jitter, seed, stream)
        return StreamedSource(
            images, np.arange(len(files)), mean, std, batch_size, place, workers, torch.tensor(labels)
        )

    return DataSet(
        "imagenet",
        f"ImageNet-like folder {root.name}, {len(classes)} classes",
        len(classes),
        3,
        size,
        digest.hexdigest(),
        source(train_files, train_labels, "train"),
        source(test_files, test_labels, "test"),
    )
