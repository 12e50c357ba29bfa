"""Opens a data set for a run: resident on the device, or streamed where it is too large for that."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cscdarts.data.contents import Contents, class_counts, pixel_sums, repeated_images, require_spread
from cscdarts.data.datasets import Arrays, load_arrays
from cscdarts.data.fingerprint import require_unchanged
from cscdarts.data.limits import DEFAULT_AUGMENTATION, crop_padding, require_kept
from cscdarts.data.source import KNOWN_STATISTICS, Augmentation, DataSet, Place, ResidentSource, require_halving
from cscdarts.data.streaming import open_streamed
from cscdarts.settings.config import DataConfig


def open_data(
    config: DataConfig, name: str, root: Path, place: Place, batch_size: int, seed: int, *, cutout: int = 0,
    workers: int = 0, color_jitter: bool = False,
) -> DataSet:  # fmt: skip
    """Open a data set for a run.

    Args:
        name: which data set (search and retraining may use different ones).
        batch_size: over all processes.
        cutout: side in pixels, 0 for none.
        workers: processes that decode streamed images.

    Errors:
        UserError: see `datasets.load_arrays`; images other than those of the config's fingerprint; images that are all
            (nearly) equal, labels that are, a class without training images, or augmentation that erases most of each
            image.
    """
    require_unchanged(name, root, config.fingerprint_of(name))
    if name == "imagenet":
        data = open_streamed(config, root, place, batch_size, seed, workers=workers, color_jitter=color_jitter)
        unused = {
            "data.flip": config.flip is not None,
            "data.crop_padding": config.crop_padding is not None,
            "evaluation.cutout": cutout > 0,
        }
        notes = [f"{key} does not apply to streamed images" for key, given in unused.items() if given]
        return replace(data, contents=data.contents.noted(*notes))
    arrays, sha256, contents = _arrays(config, name, root)
    size = arrays.train_images.shape[-1]
    require_halving(size)
    augmentation = Augmentation(
        crop_padding(config, name, size),
        DEFAULT_AUGMENTATION[name][1] if config.flip is None else config.flip,
        cutout,
    )
    contents = contents.noted(
        require_kept(size, augmentation.crop_padding, cutout),
        "evaluation.color_jitter applies to streamed images only" if color_jitter else None,
    )
    mean, std = _statistics(name, arrays.train_images)

    def source(images: Tensor, labels: Tensor, stream: str) -> ResidentSource:
        device = place.device
        return ResidentSource(
            images.to(device), labels.to(device), mean.to(device), std.to(device), batch_size, augmentation, seed,
            stream, place,
        )  # fmt: skip

    return DataSet(
        name,
        arrays.label,
        len(arrays.classes),
        arrays.train_images.shape[1],
        size,
        sha256,
        source(arrays.train_images, arrays.train_labels, "train"),
        source(arrays.test_images, arrays.test_labels, "test"),
        contents,
    )


@lru_cache(maxsize=2)
def _arrays(config: DataConfig, name: str, root: Path) -> tuple[Arrays, str, Contents]:
    """The set, its fingerprint and what it holds; read once for search and retraining."""
    arrays = load_arrays(config, name, root)
    where = str(root) if name == "image-folder" else arrays.label
    for images in (arrays.train_images, arrays.test_images):
        require_spread(pixel_sums(images), len(images), where)
    contents = Contents(
        arrays.classes,
        class_counts(name, arrays.train_labels.numpy(), arrays.classes),
        tuple(np.bincount(arrays.test_labels.numpy(), minlength=len(arrays.classes)).tolist()),
        arrays.train_images.shape[-1],
        arrays.skipped,
        repeated_images(arrays.train_images, arrays.test_images),
        arrays.notes,
    )
    return arrays, arrays.sha256(), contents


def _statistics(name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    if name in KNOWN_STATISTICS:
        mean, std = (torch.tensor(values) for values in KNOWN_STATISTICS[name])
    else:
        # Sums of integers are exact, so the statistics do not depend on the order of summation.
        count = len(images) * images.shape[2] * images.shape[3]
        first, second = (total.sum((1, 2)).double() / count for total in pixel_sums(images))
        mean = first / 255
        std = (second - first * first).clamp_min(1e-8).sqrt() / 255
    return mean.float()[None, :, None, None], std.float().clamp_min(1e-3)[None, :, None, None]
