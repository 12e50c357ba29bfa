"""What a data set holds, for the first lines of a run and its record; sets that cannot teach anything are refused."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cscdarts.data.folders import counted, test_folders
from cscdarts.errors import UserError

#: Root mean square distance of the images from their mean, in gray levels of 255, below which they are (nearly) equal.
LEAST_SPREAD = 0.5
#: The largest class over the smallest from which a set is said to be unequal.
UNEQUAL = 10


@dataclass(frozen=True)
class Contents:
    """What was found when a data set was opened.

    Attributes:
        classes: names in label order.
        train, test: images of each class.
        size: side of the images in pixels, as the network sees them.
        skipped: entries of the folder that were passed over, by what they are.
        repeated: test images whose pixels (or files, where images are streamed) stand in the training part too; None
            where that was not looked for.
        notes: what else is worth saying, one sentence each without a full stop.
    """

    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    size: int
    skipped: Counter[str] = field(default_factory=Counter)
    repeated: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For example `3 classes, 72 + 24 images of 16x16, 20 files skipped (.txt: 20)`."""
        text = (
            f"{len(self.classes)} classes, {sum(self.train):,} + {sum(self.test):,} images of {self.size}x{self.size}"
        )
        total = self.skipped.total()
        return (
            f"{text}, {total:,} {'file' if total == 1 else 'files'} skipped ({counted(self.skipped)})"
            if total
            else text
        )

    def lines(self, said: Mapping[str, Any] | None = None) -> list[str]:
        """What a run says when it begins.

        Args:
            said: a `record` of what the run has said already.
        """
        before = {said.get("contents"), *said.get("notes", ())} if said else set()
        return [f"data: {line}" for line in (self.sentence, *self._all_notes()) if line not in before]

    def record(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "contents": self.sentence,
            "classes": len(self.classes),
            "train_images": sum(self.train),
            "test_images": sum(self.test),
            "image_size": self.size,
            "skipped": dict(sorted(self.skipped.items())),
            "test_images_in_training": self.repeated,
            "notes": self._all_notes(),
        }

    def noted(self, *notes: str | None) -> "Contents":
        """With further notes; None adds none."""
        return replace(self, notes=(*self.notes, *(note for note in notes if note)))

    def _all_notes(self) -> list[str]:
        return [*self._class_notes(), *self.notes]

    def _class_notes(self) -> Iterator[str]:
        if self.repeated:
            which = "test image stands" if self.repeated == 1 else "test images stand"
            yield f"{self.repeated:,} of {sum(self.test):,} {which} among the training images too"
        single = [name for name, count in zip(self.classes, self.train, strict=True) if count == 1]
        if single:
            yield f"{_number(single, 'class has', 'classes have')} a single training image ({_some(single)})"
        low, high = min(self.train), max(self.train)
        if high >= UNEQUAL * low:
            names = (self.classes[self.train.index(high)], self.classes[self.train.index(low)])
            yield f"classes are unequal: {names[0]!r} has {high:,} training images, {names[1]!r} {low:,}"
        untested = [name for name, count in zip(self.classes, self.test, strict=True) if count == 0]
        if untested:
            yield f"{_number(untested, 'class has', 'classes have')} no test image ({_some(untested)})"


def class_counts(name: str, labels: Sequence[int] | np.ndarray, classes: Sequence[str]) -> tuple[int, ...]:
    """Training images of each class.

    Errors:
        UserError: a class has none; with all labels equal that is every other class.
    """
    counts = tuple(np.bincount(np.asarray(labels), minlength=len(classes)).tolist())
    if sum(count > 0 for count in counts) < 2:
        raise UserError("data.dataset", name, "training images of at least two classes", "All labels are equal.")
    if 0 in counts:
        lacking = classes[counts.index(0)]
        raise UserError(
            "data.dataset", name, "training images of every class", f"Class {lacking!r} has none; complete the set."
        )
    return counts


def pixel_sums(images: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the images of each pixel and of its square, (c, h, w) int64: exact, so independent of their order.

    Args:
        images: (n, c, h, w) uint8.
    """
    first = torch.zeros(images.shape[1:], dtype=torch.int64)
    second = torch.zeros_like(first)
    step = max(1, 2**24 // first.numel())
    for start in range(0, len(images), step):
        values = images[start : start + step].int()
        first += values.sum(0)
        second += (values * values).sum(0)
    return first, second


def require_spread(sums: tuple[Tensor, Tensor], count: int, where: str) -> None:
    """Refuse images that are all (nearly) equal: sqrt(mean over pixels of their variance over images) < `LEAST_SPREAD`.

    Args:
        sums: of `pixel_sums`; count: images they are over.
        where: the folder or data set, for the sentence.

    Errors:
        UserError: as said.
    """
    first, second = sums[0].double() / count, sums[1].double() / count
    spread = float((second - first * first).clamp_min(0).mean().sqrt())
    if count > 1 and spread < LEAST_SPREAD:
        raise UserError(
            "--data-root",
            where,
            "images that differ",
            f"Its images are (nearly) all equal: {spread:.2f} of 255 gray levels from their mean, "
            f"which is {float(first.mean()):.0f}; look how they are stored, "
            "or set data.background where they are drawn in the alpha channel.",
        )


def repeated_images(train: Tensor, test: Tensor) -> int:
    """How many test images have the pixels of a training image; both (n, c, h, w) uint8."""

    def keys(images: Tensor) -> Iterator[bytes]:
        return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.numpy())

    known = set(keys(train))
    return sum(key in known for key in keys(test))


def repeated_files(train: Sequence[Path], test: Sequence[Path], sizes: dict[Path, int]) -> int:
    """How many test files have the bytes of a training file; only files of one size are read.

    Args:
        sizes: bytes of each file.
    """
    tested = {sizes[path] for path in test}
    shared = tested & {sizes[path] for path in train}
    known = {_digest(path) for path in train if sizes[path] in shared}
    return sum(sizes[path] in shared and _digest(path) in known for path in test)


def folder_notes(root: Path) -> Iterator[str]:
    """A note where a data folder holds further trees that could be the test part."""
    first, *others = test_folders(root)
    if others:
        yield f"tested on {first.name}/; {' and '.join(f'{folder.name}/' for folder in others)} is not read"


def size_notes(sizes: Counter[tuple[int, int]], made: str, of: str = "") -> Iterator[str]:
    """A note where images come in more than one size.

    Args:
        sizes: (width, height) -> images.
        made: what becomes of them; of: what was looked at, where not all were.
    """
    if len(sizes) > 1:
        shown = [f"{w}x{h}: {count:,}" for (w, h), count in sizes.most_common(3)] + ["..."] * (len(sizes) > 3)
        yield f"images come in {len(sizes)} sizes{of} ({', '.join(shown)}) and are {made}"


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _number(items: Sequence[str], one: str, many: str) -> str:
    return f"1 {one}" if len(items) == 1 else f"{len(items):,} {many}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
