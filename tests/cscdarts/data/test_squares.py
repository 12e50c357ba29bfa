"""How oblong images become square, held whole and streamed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cscdarts.data.open import open_data
from cscdarts.data.source import DataSet, Place
from cscdarts.errors import UserError
from cscdarts.settings.config import DataConfig
from tests.support.pictures import save_rgb, tree

CPU = Place(torch.device("cpu"))


def open_tree(root: Path, dataset: str, **values: object) -> DataSet:
    config = DataConfig.model_validate({"dataset": dataset, **values})
    return open_data(config, dataset, root, CPU, 2, 0)


@pytest.mark.parametrize("oblong", [(12, 20), (20, 12)])
def test_oblong_images_become_square_as_set(oblong: tuple[int, int], tmp_path: Path) -> None:
    h, w = oblong
    whole = np.random.default_rng(4).integers(0, 256, (h, w, 3), dtype=np.uint8)
    tree(tmp_path / "tree", lambda path, seed: save_rgb(path, np.roll(whole, seed, 0)), train=2, test=1)

    def first(**values: object) -> np.ndarray:
        images = open_tree(tmp_path / "tree", "image-folder", **values).train.images  # type: ignore[attr-defined]
        return np.asarray(images[0].permute(1, 2, 0))

    cut = first(square="crop")
    assert np.array_equal(cut, whole[:, 4:16] if w > h else whole[4:16])
    padded = first(square="pad", background="gray")
    inside = (slice(4, 16), slice(None)) if w > h else (slice(None), slice(4, 16))
    assert np.array_equal(padded[inside], whole)
    padded = padded.copy()
    padded[inside] = 128
    assert (padded == 128).all()
    assert first(square="squeeze", image_size=12).shape == (12, 12, 3)
    with pytest.raises(UserError, match=r"data\.image_size.*not square.*data\.square=crop or pad"):
        first()


@pytest.mark.parametrize(("square", "top", "middle"), [("squeeze", 200, 200), ("crop", 200, 200), ("pad", 0, 200)])
def test_oblong_images_are_cut_or_padded_before_they_are_streamed(
    square: str, top: int, middle: int, tmp_path: Path
) -> None:
    """A strip of 8x32 pixels, 200 in its middle square and 50 beside it; padded, black lies above and below it."""

    def save(path: Path, seed: int) -> None:
        pixels = np.full((8, 32, 3), 50, dtype=np.uint8)
        pixels[:, 12:20] = 188 + seed  # so that the images differ; the first test image is number 12
        save_rgb(path, pixels)

    tree(tmp_path / "tree", save)
    data = open_tree(tmp_path / "tree", "imagenet", image_size=16, square=square, background="black")
    mean, std = (value.flatten() for value in (data.test.mean, data.test.std))
    image = next(data.test.in_order(1))[0][0].permute(1, 2, 0) * std + mean
    assert image[0, 8].mul(255).round().tolist() == [top] * 3
    assert image[8, 8].mul(255).round().tolist() == [middle] * 3
    beside = image[8, 1].mul(255).round().tolist()
    assert beside == ([50] * 3 if square == "pad" else [200] * 3)
