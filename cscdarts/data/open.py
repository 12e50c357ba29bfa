"""Opens a data set for a run: resident on the device, or streamed where it is too large for that."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from cscdarts.data.datasets import Arrays, load_arrays
from cscdarts.data.source import KNOWN_STATISTICS, Augmentation, DataSet, Place, ResidentSource, require_halving
from cscdarts.data.streaming import open_streamed
from cscdarts.settings.config import DataConfig

#: Default crop padding as a share of the image's side, and whether a mirrored image is still of its class.
_DEFAULT_AUGMENTATION = {
    "digits": (1 / 8, False),
    "fashion-mnist": (1 / 14, True),
    "cifar10": (1 / 8, True),
    "cifar100": (1 / 8, True),
    "image-folder": (1 / 8, True),
    "imagenet": (0.0, True),
}


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
        UserError: see `datasets.load_arrays`; a batch larger than half the training set is refused too.
    """
    if name == "imagenet":
        return open_streamed(config, root, place, batch_size, seed, workers=workers, color_jitter=color_jitter)
    arrays, sha256 = _arrays(config, name, root)
    padding, flip = _DEFAULT_AUGMENTATION[name]
    size = arrays.train_images.shape[-1]
    require_halving(size)
    augmentation = Augmentation(
        round(padding * size) if config.crop_padding is None else config.crop_padding,
        flip if config.flip is None else config.flip,
        cutout,
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
    )


@lru_cache(maxsize=2)
def _arrays(config: DataConfig, name: str, root: Path) -> tuple[Arrays, str]:
    arrays = load_arrays(config, name, root)
    return arrays, arrays.sha256()


def _statistics(name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    if name in KNOWN_STATISTICS:
        mean, std = (torch.tensor(values) for values in KNOWN_STATISTICS[name])
    else:
        # Sums of integers are exact, so the statistics do not depend on the order of summation.
        pixels = images.permute(1, 0, 2, 3).flatten(1).long()
        count = pixels.shape[1]
        first, second = pixels.sum(1).double() / count, (pixels * pixels).sum(1).double() / count
        mean = first / 255
        std = (second - first * first).clamp_min(1e-8).sqrt() / 255
    return mean.float()[None, :, None, None], std.float().clamp_min(1e-3)[None, :, None, None]
