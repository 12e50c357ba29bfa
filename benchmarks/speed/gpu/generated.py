"""Images of ten classes that are made, not downloaded: a coloured pattern for each class under noise."""

import os
from pathlib import Path

import numpy as np
from PIL import Image


def write_images(root: Path, train: int, test: int, size: int) -> Path:
    """Write a tree `train/CLASS/IMAGE`, `test/CLASS/IMAGE` of PNG files, once; returns its root.

    Args:
        train, test: how many images of all classes together, multiples of 10.
        size: side in pixels.
    """
    if root.exists():
        return root
    # Under another name until it is whole: a process that is killed meanwhile leaves no half of a set.
    making = root.with_name(f"{root.name}-{os.getpid()}")
    draw = np.random.default_rng(0)
    patterns = draw.integers(0, 256, (10, size, size, 3))
    for part, count in (("train", train), ("test", test)):
        for label, pattern in enumerate(patterns):
            folder = making / part / f"class{label}"
            folder.mkdir(parents=True)
            noise = draw.integers(0, 256, (count // 10, size, size, 3))
            for number, image in enumerate(((pattern + noise) // 2).astype(np.uint8)):
                Image.fromarray(image).save(folder / f"{number}.png", compress_level=1)
    making.rename(root)
    return root
