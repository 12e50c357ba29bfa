"""What a network has to know of its data: classes, and the form and normalisation of the images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cscdarts.data.folders import class_names, folder_split
from cscdarts.data.limits import KNOWN_SETS
from cscdarts.data.open import open_data
from cscdarts.data.source import KNOWN_STATISTICS, Place
from cscdarts.errors import UserError
from cscdarts.export.card import Images
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import size_step

_GRAY = ("digits", "fashion-mnist")
_ORDERS = {1: "gray", 3: "red, green, blue"}


@dataclass(frozen=True)
class Shape:
    """Classes, and form and normalisation of the images; what is not known is None.

    Attributes:
        channels, size: of the images, the side in pixels.
        sha256: of the data that this was read from; "" where none were read.
    """

    classes: int
    channels: int
    size: int
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    sha256: str = ""

    @property
    def images(self) -> Images:
        """The images as the card tells them."""
        order = _ORDERS.get(self.channels, "as in the data")
        return Images(channels=self.channels, size=self.size, order=order, mean=self.mean, std=self.std)


def recorded_shape(config: RunConfig, record: Mapping[str, Any], channels: int, data_root: Path | None) -> Shape:
    """The shape of the data that a run was trained on.

    Args:
        record: the data as the run's result tells them; records of older versions hold no names and no statistics,
            which then are read from the data at `data_root`, or are those that are known of the set.
        channels: of the images, as the weights have them.

    Errors:
        UserError: the data at `data_root` are others than the run's.
    """
    name = config.data.dataset
    if "mean" in record:
        return Shape(
            int(record["classes"]), channels, int(record["image_size"]), tuple(record["class_names"]),
            tuple(record["mean"]), tuple(record["std"]),
        )  # fmt: skip
    if data_root is not None or name == "digits":
        found = read_shape(config, data_root or Path(config.runtime.data_root))
        if found.sha256 != record["sha256"]:
            raise UserError(
                "--data-root", str(data_root), f"the data that the run was trained on, {record['sha256'][:16]}",
                f"These are {found.sha256[:16]}.",
            )  # fmt: skip
        return found
    mean, std = KNOWN_STATISTICS.get(name, (None, None))
    return Shape(int(record["classes"]), channels, int(record["image_size"]), None, mean, std)


def asked_shape(
    config: RunConfig, data_root: Path | None, classes: int | None, size: int | None, channels: int | None
) -> Shape:
    """The shape for a network that is not trained: that of the configuration's data set, with what is given in its
    place.

    Errors:
        UserError: nothing tells the number of classes or the size; a size whose maps cannot be halved.
    """
    name = config.data.dataset
    if data_root is not None or name == "digits":
        known = read_shape(config, data_root or Path(config.runtime.data_root))
    else:
        mean, std = KNOWN_STATISTICS.get(name, (None, None))
        counts, side = KNOWN_SETS.get(name, ((), 0))
        if name == "imagenet":
            counts, side = (0,) * 1000, 224
        side = config.data.image_size or side
        known = Shape(len(counts), 1 if name in _GRAY else 3, side, None, mean, std)
    if classes is not None and classes != known.classes:
        known = replace(known, classes=classes, class_names=None)
    if channels is not None and channels != known.channels:
        known = replace(known, channels=channels, mean=None, std=None)
    known = replace(known, size=size or known.size)
    for option, value in (("--classes", known.classes), ("--image-size", known.size)):
        if not value:
            raise UserError(
                option, None, "a whole number above 0", f"The data set {name} does not tell it; or give --data-root."
            )
    step = size_step(known.size)
    if known.size % step:
        raise UserError("--image-size", known.size, f"a multiple of {step}", "Maps are halved.")
    return known


def read_shape(config: RunConfig, root: Path) -> Shape:
    """The shape as the data themselves have it.

    Errors:
        UserError: see `cscdarts.data.open.open_data`.
    """
    if config.data.dataset in ("image-folder", "imagenet"):
        class_names(folder_split(root)[0])  # a folder that is no such tree is refused before anything is decoded
    data = open_data(
        config.data, config.data.dataset, root, Place(torch.device("cpu")), config.evaluation.batch_size, config.seed
    )
    record = data.record()
    return Shape(
        data.classes, data.channels, data.size, tuple(record["class_names"]), tuple(record["mean"]),
        tuple(record["std"]), data.sha256,
    )  # fmt: skip
