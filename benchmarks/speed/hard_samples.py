"""What a hard sample costs (GDAS: one operation on each edge) against the mixture of all, for time and for memory.

A sample that happens to hold many convolutions costs more than one of skip connections, so several are drawn, and both
supernets take turns on the same weights and batch.
"""

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional as F

from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig, SearchConfig
from cscdarts.settings.overrides import with_values
from cscdarts.training.memory import keep_freed_memory, saved_bytes
from cscdarts.training.resumable import sgd

#: Space -> most bytes that samples keep for a weight step, on average, as a share of what the mixture keeps.
SAVED_BARS = {"darts": 0.45, "nasbench201": 0.6}


@dataclass(frozen=True)
class Size:
    """A supernet's size and a batch."""

    space: str
    channels: int = 16
    cells: int = 8
    batch: int = 16
    image_size: int = 32
    split_ratio: str = "1"


class HardAndSoft:
    """The same supernet with the weightings `softmax` and `gumbel-hard`."""

    def __init__(self, size: Size) -> None:
        values = {
            "space": size.space, "channels": size.channels, "cells": size.cells, "split_ratio": size.split_ratio,
            "identity": "none",
        }  # fmt: skip
        config = with_values(RunConfig(), {f"supernet.{key}": value for key, value in values.items()}).supernet
        torch.manual_seed(0)
        self.soft, self.hard = Supernet(config, 10), Supernet(config, 10, weighting="gumbel-hard")
        self.hard.load_state_dict(self.soft.state_dict())
        self.images = torch.randn(size.batch, 3, size.image_size, size.image_size)
        self.labels = torch.randint(10, (size.batch,))
        for model in (self.soft, self.hard):
            for parameter in model.architecture():
                parameter.requires_grad_(False)  # a weight step keeps nothing for them
        self.sgd = {model: sgd(model.weights(), SearchConfig()) for model in (self.soft, self.hard)}

    def draw(self, number: int) -> None:
        """Draw the sample of a step."""
        self.hard.relaxation.draw(torch.Generator().manual_seed(number))

    def saved(self, model: Supernet) -> int:
        """Bytes kept for the backward pass of a weight step."""
        return saved_bytes(model, lambda: self.loss(model), (self.images, self.labels))

    def loss(self, model: Supernet) -> torch.Tensor:
        """Mean loss on the batch."""
        return F.cross_entropy(model(self.images), self.labels)

    def step(self, model: Supernet) -> None:
        """One step of the weights."""
        torch.autograd.backward(self.loss(model))
        torch.nn.utils.clip_grad_norm_(model.weights(), 5.0)
        self.sgd[model].step()
        self.sgd[model].zero_grad()


def hard_samples(size: Size, rounds: int, threads: int = 1) -> dict[str, Any]:
    """Seconds and saved bytes of a weight step, of both; one sample a round.

    Returns:
        `size`; `softmax_s`, `hard_s` (medians), `speedup`; `softmax_mb`, `hard_mb` (mean of the samples),
        `hard_most_mb` (the largest of them), `saved_share` and `saved_share_most` of the mixture's.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()  # as a search does
    pair = HardAndSoft(size)
    soft_s, hard_s, kept = list[float](), list[float](), list[int]()
    for number in range(rounds + 1):
        pair.draw(number)
        for model, seconds in ((pair.soft, soft_s), (pair.hard, hard_s)):
            begin = time.perf_counter()
            pair.step(model)
            if number:  # the first round loads kernels
                seconds.append(time.perf_counter() - begin)
        kept.append(pair.saved(pair.hard))
    soft, whole = statistics.median(soft_s), pair.saved(pair.soft)
    return {
        "size": asdict(size),
        "threads": threads,
        "samples": len(kept),
        "softmax_s": soft,
        "hard_s": statistics.median(hard_s),
        "speedup": soft / statistics.median(hard_s),
        "softmax_mb": whole / 1e6,
        "hard_mb": statistics.mean(kept) / 1e6,
        "hard_most_mb": max(kept) / 1e6,
        "saved_share": statistics.mean(kept) / whole,
        "saved_share_most": max(kept) / whole,
    }
