"""Where the wall time of a real search goes: steps, validation, and everything else."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.steps import wait
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.training.resumable import Phase
from cscdarts.training.search import SearchRun

#: Digits blown up to CIFAR's size: maps as large as CIFAR's, and epochs far shorter, so that what an epoch costs
#: besides its steps weighs more than it would on CIFAR.
SETTINGS = {
    "data.dataset": "digits",
    "data.image_size": 32,
    "supernet.space": "nasbench201",
    "supernet.channels": 16,
    "supernet.cells": 1,
    "search.order": 1,
    "search.epochs": 2,
    "search.alpha_warmup": 0,
    "search.batch_size": 64,
}


def search_share(threads: int = 1, device: str = "cpu", settings: dict[str, Any] | None = None) -> dict[str, float]:
    """Run a search and say how its wall time divides.

    Returns:
        `wall_s` from the first step to the end of the last epoch; `steps_s` in steps (forward, backward, optimisers);
        `validation_s` in forward passes over the validation half; `rest_s` (data, records, checkpoints); `share_pct`,
        the first two of the whole; `share_of_steps_pct`, steps of the time of the training loop.
    """
    torch.set_num_threads(threads)
    config = with_values(
        RunConfig(), {**SETTINGS, **(settings or {}), "runtime.threads": threads, "runtime.device": device}
    )  # fmt: skip
    spent = {"steps_s": 0.0, "validation_s": 0.0}

    @contextmanager
    def timer(phase: Phase) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        wait(torch.device(device))
        spent["validation_s" if phase == "validation" else "steps_s"] += time.perf_counter() - begin

    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        folder.create(config)
        run = SearchRun(config, folder, lambda: False, lambda line: None, timer)
        begin, loop = time.perf_counter(), 0.0
        while run.epoch < config.search.all_epochs:
            entered = time.perf_counter()
            run.train_epoch()
            wait(torch.device(device))
            loop += time.perf_counter() - entered
            run.close_epoch()
        wall = time.perf_counter() - begin
    inside = spent["steps_s"] + spent["validation_s"]
    return {
        "wall_s": wall,
        "steps_s": spent["steps_s"],
        "validation_s": spent["validation_s"],
        "rest_s": wall - inside,
        "share_pct": 100 * inside / wall,
        "share_of_steps_pct": 100 * spent["steps_s"] / loop,
    }
