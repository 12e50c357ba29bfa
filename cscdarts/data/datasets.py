"""Whole data sets as uint8 tensors: digits (shipped with scikit-learn), torchvision's, and any class-per-folder tree."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cscdarts.data.folders import folder_files, folder_split
from cscdarts.errors import UserError
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
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    label: str

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
        arrays = Arrays(
            _resize(arrays.train_images, size),
            arrays.train_labels,
            _resize(arrays.test_images, size),
            arrays.test_labels,
            arrays.classes,
            arrays.label,
        )
    return arrays


def _digits() -> Arrays:
    """1,797 scans of 8x8 pixels with 17 gray levels; a fixed stratified fifth is the test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels.numpy(), random_state=0)
    return Arrays(images[train], labels[train], images[test], labels[test], tuple("0123456789"), "digits")


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
        raise UserError(
            "--data-root",
            str(root),
            f"a folder that holds {label}, or a network to download it",
            f"The download or reading failed: {str(error).splitlines()[0]}",
        ) from error

    def tensors(part: object) -> tuple[Tensor, Tensor]:
        data = torch.as_tensor(np.asarray(part.data))  # type: ignore[attr-defined]
        data = data[:, None] if data.ndim == 3 else data.permute(0, 3, 1, 2)
        return data.contiguous(), torch.as_tensor(np.asarray(part.targets)).long()  # type: ignore[attr-defined]

    return Arrays(*tensors(train), *tensors(test), tuple(train.classes), label)


def _image_folder(config: DataConfig, root: Path) -> Arrays:
    train_tree, test_tree = folder_split(root)
    train_files, train_labels, classes = folder_files(train_tree)
    test_files, test_labels, _ = folder_files(test_tree, classes)
    first = _decode(train_files[0], None)
    size = config.image_size or first.shape[-1]
    if config.image_size is None and first.shape[-1] != first.shape[-2]:
        raise UserError(
            "data.image_size", None, "a number of pixels", f"Images are not square ({train_files[0].name}); set it."
        )
    if (len(train_files) + len(test_files)) * first.shape[0] * size * size > RESIDENT_LIMIT:
        raise UserError(
            "data.dataset", "image-folder", "a tree that fits in memory", "Use data.dataset=imagenet, which streams."
        )

    def stack(files: list[Path]) -> Tensor:
        out = torch.empty((len(files), first.shape[0], size, size), dtype=torch.uint8)
        for row, path in enumerate(files):
            image = _decode(path, config.image_size)
            if image.shape != out.shape[1:]:
                raise UserError(
                    "--data-root",
                    str(path),
                    f"an image of shape {tuple(out.shape[1:])}",
                    f"This one is {tuple(image.shape)}; set data.image_size to resize all.",
                )
            out[row] = image
        return out

    return Arrays(
        stack(train_files),
        torch.tensor(train_labels),
        stack(test_files),
        torch.tensor(test_labels),
        classes,
        f"image folder {root.name}",
    )


def read_image(path: Path) -> Tensor:
    """One image as (3, h, w) uint8.

    Errors:
        UserError: the file is no image or is broken.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError("--data-root", str(path), "a readable image", "The file is broken; remove it.") from error


def _decode(path: Path, size: int | None) -> Tensor:
    image = read_image(path)
    return image if size is None else _resize(image[None], size)[0]


def _resize(images: Tensor, size: int) -> Tensor:
    from torchvision.transforms.v2 import functional as V

    resized: Tensor = V.resize(images, [size, size], antialias=True)
    return resized
