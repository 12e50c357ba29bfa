"""A hard sample costs one operation an edge: fewer bytes than the mixture, and none for candidates not sampled."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from ablations.commands.bench import bench
from benchmarks.speed.hard_samples import SAVED_BARS, HardAndSoft, Size
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import SupernetConfig
from cscdarts.training.memory import saved_bytes


@pytest.mark.parametrize("space", sorted(SAVED_BARS))
def test_samples_keep_at_most_their_share_of_the_mixture(space: str) -> None:
    pair = HardAndSoft(Size(space, channels=8, cells=3 if space == "darts" else 1, batch=4, image_size=16))
    kept = []
    for number in range(8):
        pair.draw(number)
        kept.append(pair.saved(pair.hard))
    assert sum(kept) / len(kept) <= SAVED_BARS[space] * pair.saved(pair.soft)


def kept_by(ops: tuple[str, ...], chosen: str, **more: Any) -> int:
    """Bytes that a sample with one operation on every edge keeps for a weight step."""
    config = SupernetConfig(space="nasbench201", channels=8, cells=1, split_ratio=Fraction(1), ops=ops)
    torch.manual_seed(0)
    model = Supernet(config, 5, **more)
    with torch.no_grad():
        for alpha in model.architecture():
            alpha[:, ops.index(chosen)] = 1e3
            alpha.requires_grad_(False)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    return saved_bytes(model, lambda: F.cross_entropy(model(images), labels), (images, labels))


def test_what_a_sample_keeps_does_not_depend_on_the_number_of_candidates() -> None:
    every = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    hard = {op: kept_by(every, op, weighting="gumbel-hard") for op in every}
    for op in every:
        other = "skip_connect" if op != "skip_connect" else "none"
        # But for the mixing weights themselves, a number for each edge and candidate.
        assert abs(kept_by((op, other), op, weighting="gumbel-hard") - hard[op]) <= 4 * 6 * 5 * 4
    assert hard["none"] < hard["skip_connect"] < hard["nor_conv_3x3"]
    assert max(hard.values()) < kept_by(every, "none")  # whatever is sampled, less than the mixture


def test_the_command_prints_both() -> None:
    sizes = ["--channels", "8", "--cells", "3", "--batch", "4", "--image-size", "8", "--rounds", "1"]
    arguments = ["--part", "hard-samples", "--space", "darts", "--split-ratio", "1", *sizes]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert "darts, ratio 1, weight step: softmax" in result.output
    assert "of 2 samples" in result.output
