"""Batches for search, retraining and testing; what is learned from what.

Search uses two disjoint class-balanced halves of the training set: one for the weights, one for the architecture
parameters (quark0/darts takes the first and last half of a shuffled index list; ours balances classes). The test set is
read only by `test_batches`, which the retrained network calls once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cscdarts.data.augmentation import cutout, random_crop, random_flip
from cscdarts.data.contents import Contents
from cscdarts.data.limits import require_halves
from cscdarts.data.randomness import generator, numpy_generator, permutation
from cscdarts.errors import UserError
from cscdarts.settings.config import DataConfig
from cscdarts.spaces import size_step

Batch = tuple[Tensor, Tensor]

#: Channel means and deviations the field uses, in units of [0, 1]; other sets are measured on their training part.
KNOWN_STATISTICS = {
    "cifar10": ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images: crop padding and cutout in pixels, flip or not."""

    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0


@dataclass(frozen=True)
class Place:
    """Which part of each batch this process takes: rank of `world` processes, on `device`."""

    device: torch.device
    rank: int = 0
    world: int = 1


class Source(Protocol):
    """Batches of one part of a data set."""

    @property
    def batch_size(self) -> int:
        """Images in a batch, over all processes."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    @property
    def mean(self) -> Tensor:
        """Mean of each channel in [0, 1] units, which images are normalised with; c values."""

    @property
    def std(self) -> Tensor:
        """Deviation of each channel, likewise."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's shuffled, augmented batches from step `start` on: (n, c, h, w) float32 and (n,) int64."""

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All images once, in order, not augmented; the last batch may be smaller."""


@dataclass(frozen=True)
class ResidentSource:
    """A part of a set that lies on the device as uint8.

    Attributes:
        images: (n, c, h, w) uint8; labels: (n,) int64.
        mean, std: (1, c, 1, 1) in [0, 1] units.
        batch_size: over all processes. An incomplete last batch is left out of training (quark0/darts keeps it), so
            that shapes are static and batch statistics never come from a handful of images.
        seed, stream: what the draws depend on beside epoch and step.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    batch_size: int
    augmentation: Augmentation
    seed: int
    stream: str
    place: Place

    @property
    def steps(self) -> int:
        return max(1, len(self.labels) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = permutation(len(self.labels), self.seed, self.stream, "order", epoch).to(self.place.device)
        for step in range(start, self.steps):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self._augmented(rows, generator(self.place.device, self.seed, self.stream, "augment", epoch, step))

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        for first in range(0, len(self.labels), batch_size):
            rows = slice(first, first + batch_size)
            yield self._normalised(self.images[rows]), self.labels[rows]

    def _augmented(self, rows: Tensor, draws: torch.Generator) -> Batch:
        # Every process draws for the whole batch and keeps its share, so the draws do not depend on their number.
        images = random_crop(self.images[rows], self.augmentation.crop_padding, draws)
        if self.augmentation.flip:
            images = random_flip(images, draws)
        images = cutout(self._normalised(images), self.augmentation.cutout, draws)
        mine = slice(self.place.rank, None, self.place.world)
        return images[mine], self.labels[rows][mine]

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std


@dataclass(frozen=True)
class DataSet:
    """A data set ready for a run.

    Attributes:
        name: its name in the config; label: as printed beside numbers.
        classes: number of classes; channels, size: of the images.
        sha256: fingerprint of pixels and labels (of the file list where images are streamed).
        contents: what was found in it.
    """

    name: str
    label: str
    classes: int
    channels: int
    size: int
    sha256: str
    train: Source
    test: Source
    contents: Contents

    def record(self, label: str = "") -> dict[str, Any]:
        """The set as it stands in a run's record.

        Args:
            label: a name beside numbers other than the set's own.
        """
        return {
            "dataset": self.name,
            "label": label or self.label,
            "sha256": self.sha256,
            "class_names": list(self.contents.classes),
            "mean": self.train.mean.flatten().tolist(),
            "std": self.train.std.flatten().tolist(),
            **self.contents.record(),
        }

    def halves(self, config: DataConfig) -> tuple[Source, Source]:
        """The two disjoint halves the search learns from: (for the weights, for the architecture parameters).

        Errors:
            UserError: a half would lack a class, or hold less than one batch.
        """
        require_halves(self.contents.train, self.contents.classes, config, self.train.batch_size)
        first, second = search_halves(labels_of(self.train), config.search_fraction, config.split_seed)
        return _part(self.train, first, "weights"), _part(self.train, second, "alphas")


def search_halves(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint class-balanced halves of a class-balanced share of the training set.

    Args:
        labels: (n,) integers.
        fraction: share of each class that takes part, at least two images.

    Returns:
        Sorted row numbers of either half; their sizes differ by at most one.
    """
    draws = numpy_generator(seed, "halves")
    halves: tuple[list[int], list[int]] = ([], [])
    for label in np.unique(labels):
        rows = draws.permutation(np.flatnonzero(labels == label))
        rows = rows[: max(2, round(fraction * len(rows)))]
        smaller = int(len(halves[1]) < len(halves[0]))
        half = len(rows) // 2
        halves[smaller].extend(rows[half:].tolist())
        halves[1 - smaller].extend(rows[:half].tolist())
    return np.sort(np.array(halves[0])), np.sort(np.array(halves[1]))


def require_halving(size: int) -> None:
    """Refuse image sizes at which a map of odd size would be halved: pooling and convolutions would disagree.

    Errors:
        UserError: the size is no multiple of 4 (of 32 from 96 pixels on, where the stem halves three times).
    """
    step = size_step(size)
    if size % step:
        raise UserError("data.image_size", size, f"a multiple of {step}", "Set data.image_size: maps are halved.")


def labels_of(source: Source) -> np.ndarray:
    """The label of each image of a part, (n,) integers."""
    return np.asarray(source.labels.cpu())  # type: ignore[attr-defined]


def _part(source: Source, rows: np.ndarray, stream: str) -> Source:
    if not isinstance(source, ResidentSource):
        return source.part(rows, stream)  # type: ignore[attr-defined,no-any-return]
    index = torch.from_numpy(rows).to(source.place.device)
    return replace(source, images=source.images[index], labels=source.labels[index], stream=stream)
