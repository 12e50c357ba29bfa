"""A class-per-folder tree of small random pictures, and a retraining on it with every term of the recipe on."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import parse_genotype
from cscdarts.training.retrain import RetrainRun
from tests.support.training.plain_training import Pictures

CLASSES = 20
GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_3x3', 2), ('max_pool_3x3', 0), "
    "('skip_connect', 0), ('avg_pool_3x3', 1), ('sep_conv_5x5', 3), ('skip_connect', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 2), ('dil_conv_5x5', 0), ('skip_connect', 1), "
    "('sep_conv_3x3', 3), ('avg_pool_3x3', 0), ('skip_connect', 4)], reduce_concat=range(2, 6))"
)


def write_tree(root: Path, part: str, pictures: list[tuple[int, np.ndarray]]) -> None:
    """Write (class, pixels (h, w, 3)) as a class-per-folder tree."""
    for number, (label, pixels) in enumerate(pictures):
        folder = root / part / f"class{label:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


def random_tree(root: Path) -> Path:
    """20 classes of random 8x8 pictures; what is tested on shows other pictures than what is trained on."""
    draw = np.random.default_rng(5)
    for part, count in (("train", 29), ("test", 20)):
        write_tree(root, part, [(k % CLASSES, draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for k in range(count)])
    return root


def config(root: Path, **values: Any) -> RunConfig:
    """All terms of the recipe on, at sizes that make each of them matter in two steps."""
    recipe = {
        "seed": 3,
        "data.dataset": "image-folder",
        "data.crop_padding": 2,
        "data.flip": True,
        "supernet.space": "darts",
        "supernet.identity": "cell",
        "evaluation.seed": 11,
        "evaluation.channels": 4,
        "evaluation.cells": 3,
        "evaluation.epochs": 5,
        "evaluation.batch_size": 12,
        "evaluation.lr": 0.2,
        "evaluation.lr_min": 0.02,
        "evaluation.momentum": 0.8,
        "evaluation.nesterov": True,
        "evaluation.weight_decay": 0.01,
        "evaluation.grad_clip": 0.7,
        "evaluation.label_smoothing": 0.1,
        "evaluation.auxiliary": 0.4,
        "evaluation.drop_path": 0.5,
        "evaluation.cutout": 4,
        "evaluation.accumulate": 2,
        "runtime.device": "cpu",
        "runtime.threads": 1,
        "runtime.data_root": str(root),
    }
    return with_values(build({}), recipe | values)


def retraining(config: RunConfig, folder: Path) -> RetrainRun:
    """A run in float64."""
    run = RetrainRun(config, RunFolder(folder), parse_genotype(GENOTYPE), lambda: False, lambda line: None)
    run.network.double()
    train, test = run.data.train, run.data.test
    run.data = dataclasses.replace(run.data, train=in_float64(train), test=in_float64(test))
    return run


def in_float64(source: Any) -> Any:
    return dataclasses.replace(source, mean=source.mean.double(), std=source.std.double())


def read_tree(root: Path, part: str) -> Pictures:
    """The pictures as the files hold them, with the statistics of the training part."""

    def pixels(part: str) -> list[tuple[int, np.ndarray]]:
        return [
            (label, np.asarray(Image.open(file)))
            for label, folder in enumerate(sorted((root / part).iterdir()))
            for file in sorted(folder.iterdir())
        ]

    units = np.stack([image for _, image in pixels("train")]).reshape(-1, 3) / 255
    # Statistics are held in float32.
    mean, std = (values.astype(np.float32).tolist() for values in (units.mean(0), units.std(0)))
    found = pixels(part)
    images = torch.from_numpy(np.stack([image for _, image in found])).permute(0, 3, 1, 2)
    return Pictures(images, torch.tensor([label for label, _ in found]), mean, std)


def distance(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of any weight or running statistic."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)
