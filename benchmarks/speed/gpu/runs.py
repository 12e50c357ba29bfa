"""The parts of the GPU check that go through whole epochs: resuming, a search, a retraining, a long search."""

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.speed import steps as speed
from benchmarks.speed.gpu.generated import write_images
from benchmarks.speed.gpu.setting import Finding, Setting
from benchmarks.speed.search import search_share
from cscdarts.errors import Stopped
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.training.memory import PeakMemory
from cscdarts.training.retrain import RetrainRun
from cscdarts.training.search import SearchRun


def _run_config(setting: Setting, **values: Any) -> RunConfig:
    """A search and retraining of CSC-DARTS at the paper's size on generated images."""
    base = apply_preset(protocol("cifar10", "paper"), "csc")
    tiny = {
        "supernet.channels": 4, "supernet.cells": 3, "search.batch_size": 4, "evaluation.channels": 4,
        "evaluation.cells": 3, "evaluation.batch_size": 16, "evaluation.cutout": 0,
    }  # fmt: skip
    root = write_images(setting.place / "images", *((40, 10, 8) if setting.tiny else (6400, 640, 32)))
    asked = {
        "data.dataset": "image-folder", "runtime.data_root": str(root), "runtime.device": setting.device,
        "search.epochs": 2, "search.alpha_warmup": 0, "evaluation.epochs": 2,
    }  # fmt: skip
    return with_values(base, asked | (tiny if setting.tiny else {}) | values)


def _folder(setting: Setting, name: str, config: RunConfig) -> RunFolder:
    folder = RunFolder(setting.place / name)
    folder.create(config)
    return folder


def resume(setting: Setting) -> Iterator[Finding]:
    """A search that is stopped and resumed in deterministic mode ends with the bits of one that was not."""
    config = _run_config(setting, **{"search.epochs": 1, "search.order": 1, "runtime.deterministic": True})
    limit = 3 if setting.tiny else 12
    states = []
    for name, stops in (("whole", (limit,)), ("stopped", (limit // 2, limit))):
        folder = _folder(setting, name, config)
        for stop in stops:
            run = SearchRun(config, folder, lambda: False, lambda line: None)
            run.resume()
            run.stop = lambda run=run, stop=stop: run.step >= stop  # type: ignore[misc]
            with contextlib.suppress(Stopped):
                run.train_epoch()
        states.append({key: value.cpu() for key, value in run.supernet.state_dict().items()})
    same = all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    found = "the same bits" if same else "other bits"
    yield Finding(f"resumed after {limit // 2} of {limit} steps", found, "the same bits", same)
    torch.use_deterministic_algorithms(False)


def search(setting: Setting) -> Iterator[Finding]:
    """Two epochs of a search of second order on generated images of CIFAR's size."""
    config = _run_config(setting)
    values = {key: value for key, value in _flat(config).items() if key.startswith(("data.", "supernet.", "search."))}
    values["runtime.data_root"] = config.runtime.data_root
    found = search_share(1, setting.device, values)
    steps = 2 * (_halves(setting) // config.search.batch_size)
    per_step = found["steps_s"] / steps
    on_cifar = per_step * 50 * (25_000 // config.search.batch_size) / 3600
    yield Finding(
        "search, two epochs, second order",
        f"{found['wall_s']:.1f} s, {per_step:.3f} s for both steps, {found['share_pct']:.0f} % in steps and "
        f"validation; 50 epochs of CIFAR-10 at this rate: {on_cifar:.1f} h", values=found,
    )  # fmt: skip


def _halves(setting: Setting) -> int:
    return (40 if setting.tiny else 6400) // 2


def _flat(config: RunConfig) -> dict[str, Any]:
    return {f"{part}.{name}": value for part, own in config.model_dump().items() if isinstance(own, dict)
            for name, value in own.items()}  # fmt: skip


def retraining(setting: Setting) -> Iterator[Finding]:
    """Two epochs of retraining DARTS_V2 at the paper's size on generated images."""
    config = _run_config(setting)
    folder = _folder(setting, "retraining", config)
    cell = KNOWN_GENOTYPES["DARTS_V2"]
    write_json(folder.file("genotype.json"), {"text": str(cell)})
    memory = PeakMemory(torch.device(setting.device))
    run = RetrainRun(config, folder, cell, lambda: False, lambda line: None)
    took = []
    for _ in range(2):
        begin = time.perf_counter()
        run.train_epoch()
        speed.wait(torch.device(setting.device))
        took.append(time.perf_counter() - begin)
        run.close_epoch()
    steps = run.data.train.steps
    yield Finding(
        "retraining, two epochs",
        f"{statistics.fmean(took):.1f} s an epoch of {steps} steps, {min(took) / steps:.3f} s a step, "
        f"peak {memory.mib():.0f} MiB", values={"epochs_s": took, "steps": steps, "peak_mib": memory.mib()},
    )  # fmt: skip


def long_search(setting: Setting) -> Iterator[Finding]:
    """A search of 50 epochs, first order, as far as the time goes; its rate beside the forecast."""
    config = _run_config(setting, **{"search.epochs": 50, "search.order": 1})
    folder = _folder(setting, "long", config)
    until = setting.until - (0 if setting.tiny else 10)
    most = 3 if setting.tiny else config.search.epochs
    run = SearchRun(config, folder, lambda: time.monotonic() > until, lambda line: None)
    begin = time.perf_counter()
    with contextlib.suppress(Stopped):
        while run.epoch < most:
            run.train_epoch()
            run.close_epoch()
    spent, steps = time.perf_counter() - begin, run.epoch * run.train.steps + run.step
    curves = list(folder.curves())
    line: dict[str, Any] = curves[-1]["values"] if curves else {}
    error = line.get("search_valid_error_pct")
    told = "" if error is None else f", validation error {error:.1f} %"
    yield Finding(
        "search of 50 epochs, as far as the time went",
        f"{run.epoch} epochs and {run.step} steps in {spent:.0f} s, {spent / max(1, steps):.3f} s a step{told}",
        values={"epochs": run.epoch, "steps": steps, "seconds": spent, **line},
    )  # fmt: skip
