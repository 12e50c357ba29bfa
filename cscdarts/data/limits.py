"""What can be told of a run's data before a pixel is read: batches against image counts, what augmentation erases. No
torch.

The same limits hold when the data are opened; `require_data` asks earlier, so that nothing is begun that cannot go on.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from math import ceil
from pathlib import Path

import numpy as np

from cscdarts.data.folders import class_names, folder_split, images_below
from cscdarts.errors import UserError
from cscdarts.settings.config import DataConfig, RunConfig
from cscdarts.settings.connected import require_given_cell

#: Training images of each class in the sets that are shipped or downloaded, and the side of their images.
KNOWN_SETS: dict[str, tuple[tuple[int, ...], int]] = {
    "digits": ((142, 146, 142, 146, 145, 145, 145, 143, 139, 144), 8),
    "fashion-mnist": ((6000,) * 10, 28),
    "cifar10": ((5000,) * 10, 32),
    "cifar100": ((500,) * 100, 32),
}

#: Default crop padding as a share of the image's side, and whether a mirrored image is still of its class.
DEFAULT_AUGMENTATION = {
    "digits": (1 / 8, False),
    "fashion-mnist": (1 / 14, True),
    "cifar10": (1 / 8, True),
    "cifar100": (1 / 8, True),
    "image-folder": (1 / 8, True),
    "imagenet": (0.0, True),
}

#: Mean share of an image that augmentation may erase; above the second it is said. CIFAR-10's cutout of 16 and crop
#: padding of 4 on 32 pixels erase 0.30.
ERASED_LIMIT, ERASED_WORTH_SAYING = 0.5, 0.4


def crop_padding(config: DataConfig, name: str, size: int) -> int:
    """Pixels of crop padding on each side for images of `size` pixels."""
    return round(DEFAULT_AUGMENTATION[name][0] * size) if config.crop_padding is None else config.crop_padding


def kept_share(size: int, padding: int, cutout: int) -> tuple[float, float]:
    """Mean shares of an image that a crop and a cutout leave: E[1 - |d|/s]^2 over the shifts d, and 1 - E[covered/s]^2.

    Args:
        size: side s of the image; padding: of the crop; cutout: side of the square; all in pixels.
    """
    shifts = np.abs(np.arange(-padding, padding + 1)).clip(max=size)
    centres, half = np.arange(size), cutout // 2
    covered = np.minimum(centres + half, size) - np.maximum(centres - half, 0)
    return float(1 - shifts.mean() / size) ** 2, 1 - float(covered.mean() / size) ** 2


def require_kept(size: int, padding: int, cutout: int) -> str | None:
    """Refuse augmentation that erases most of each image.

    Returns:
        A sentence where it erases much, or None.

    Errors:
        UserError: more than `ERASED_LIMIT` is erased on average; it names the setting that erases more.
    """
    cropped, cut = kept_share(size, padding, cutout)
    erased = 1 - cropped * cut
    if erased <= ERASED_WORTH_SAYING:
        return None
    field, value = ("data.crop_padding", padding) if cropped < cut else ("evaluation.cutout", cutout)
    if erased > ERASED_LIMIT:
        raise UserError(
            field,
            value,
            f"augmentation that erases at most {ERASED_LIMIT:.0%} of an image on average",
            f"On images of {size}x{size} crop padding and cutout together erase {erased:.0%}; lower it.",
        )
    return (
        f"crop padding of {padding} and cutout of {cutout} pixels erase {erased:.0%} of each training image on average"
    )


def half_size(counts: Sequence[int], fraction: float) -> int:
    """Images in the smaller half of the search, see `source.search_halves`.

    Args:
        counts: training images of each class.
    """
    return sum(min(count, max(2, round(fraction * count))) for count in counts) // 2


def require_halves(counts: Sequence[int], classes: Sequence[str], config: DataConfig, batch_size: int) -> None:
    """Refuse a search one half of which lacks a class or holds less than one batch.

    Errors:
        UserError: as said.
    """
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            raise UserError(
                "--data-root",
                f"class {name} with {count} training image{'s' * (count != 1)}",
                "at least two training images in each class",
                "One half of the search would lack this class; add images or remove it.",
            )
    images = half_size(counts, config.search_fraction)
    if batch_size > images:
        raise UserError(
            "search.batch_size",
            batch_size,
            f"at most the {images:,} images of a half of the search",
            "Lower it, raise data.search_fraction or add images.",
        )


def require_batch(images: int, batch_size: int) -> None:
    """Refuse a batch of retraining larger than the training set: no step would see a whole batch.

    Errors:
        UserError: as said.
    """
    if batch_size > images:
        raise UserError(
            "evaluation.batch_size", batch_size, f"at most the {images:,} training images", "Lower it or add images."
        )


def require_data(config: RunConfig) -> None:
    """Refuse data that a run cannot learn from before it begins; what a download will bring is taken as published.

    Errors:
        UserError: a folder that is no image tree (see `folders.folder_split` and `class_names`), a batch larger than
            the data, a class that one half of the search would lack, augmentation that erases most of each image, or
            a given cell that hands no image on.
    """
    require_given_cell(config)
    data, search, evaluation = config.data, config.search, config.evaluation
    retrained = data.dataset
    searched = data.searched_dataset if search.trains_supernet else retrained
    need = max(evaluation.batch_size, search.batch_size)
    counts = {
        name: _counts(name, Path(config.runtime.data_root), need, data.search_fraction)
        for name in {retrained, searched}
    }
    if evaluation.epochs > 0:
        require_batch(sum(counts[retrained].values()), evaluation.batch_size)
    if search.trains_supernet:
        require_halves([*counts[searched].values()], [*counts[searched]], data, search.batch_size)
    for name, cutout in ((searched, 0), (retrained, evaluation.cutout)):
        size = data.image_size or KNOWN_SETS.get(name, ((), None))[1]
        if size is not None and name != "imagenet":
            require_kept(size, crop_padding(data, name, size), cutout)


def _counts(name: str, root: Path, batch_size: int, fraction: float) -> dict[str, int]:
    """Training images of each class; of a tree no more are counted than tell that the batches fit."""
    if name in KNOWN_SETS:
        return {str(label): count for label, count in enumerate(KNOWN_SETS[name][0])}
    train, test = folder_split(root)
    classes = class_names(train)
    class_names(test)
    # This many images fill both halves, whatever rounding takes from each class; two more classes are looked for after
    # them.
    enough = (2 * batch_size + 1 + len(classes)) / fraction
    counts: dict[str, int] = {}
    for label in classes:
        found = images_below(train / label, Counter())
        counts[label] = sum(1 for _ in islice(found, max(2, ceil(enough - sum(counts.values())))))
    return counts
