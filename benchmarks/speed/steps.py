"""Speed and memory of the engine against the edge-by-edge supernet, in one process, taking turns.

Seconds mean nothing on another machine and little on a busy one, so every case runs the plain supernet
(`cscdarts/models/reference.py`) and ours one after the other, round by round, on the same weights and data, and what is
reported is the ratio of medians, beside the ratio of processor seconds, which a busy machine disturbs less.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.models.activation_checkpointing import Level
from cscdarts.models.mixed_ops import Kernels
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.reference_weights import copy_weights
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import EvaluationConfig, RunConfig, SearchConfig, SupernetConfig
from cscdarts.settings.overrides import with_values
from cscdarts.training import reference_steps
from cscdarts.training.bilevel import ArchitectureStep
from cscdarts.training.distributed import World
from cscdarts.training.gradients import SupernetGradients, autocast
from cscdarts.training.memory import PeakMemory, keep_freed_memory, saved_bytes
from cscdarts.training.resumable import compiled, sgd

STEPS = ("weight", "alpha-1st", "alpha-2nd")

#: What the engine must reach: (space, ratio, threads or 0 for any) -> step -> least speed-up, most saved bytes.
BARS: dict[tuple[str, str], dict[str, float]] = {
    ("darts", "1"): {"weight": 2.3, "alpha-1st": 3.6, "alpha-2nd": 2.4, "saved weight": 0.5, "saved alpha": 0.45},
    ("nasbench201", "1"): {"weight": 2.3, "alpha-1st": 2.8, "alpha-2nd": 2.2, "saved weight": 0.4, "saved alpha": 0.4},
    ("darts", "1/4"): {"weight": 1.9, "alpha-1st": 2.5, "alpha-2nd": 1.9, "saved weight": 0.5, "saved alpha": 0.5},
}
PEAK_BAR = 0.42


@dataclass(frozen=True)
class Case:
    """What is measured: a supernet's size, a batch, and how it runs."""

    space: str = "darts"
    split_ratio: str = "1"
    channels: int = 16
    cells: int = 8
    batch: int = 16
    image_size: int = 32
    threads: int = 1
    device: str = "cpu"
    precision: str = "none"
    compile: bool = False
    checkpointing: Level = "none"
    kernels: Kernels = "auto"


@dataclass
class Timing:
    """Seconds of the plain supernet and of ours, round by round, on the clock and on the processor."""

    plain_s: list[float] = field(default_factory=list)
    ours_s: list[float] = field(default_factory=list)
    plain_cpu_s: list[float] = field(default_factory=list)
    ours_cpu_s: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Medians, and ratios of medians: above 1 where ours is faster."""
        plain, ours = statistics.median(self.plain_s), statistics.median(self.ours_s)
        plain_cpu, ours_cpu = statistics.median(self.plain_cpu_s), statistics.median(self.ours_cpu_s)
        return {
            "plain_s": plain,
            "ours_s": ours,
            "speedup": plain / ours,
            "plain_cpu_s": plain_cpu,
            "ours_cpu_s": ours_cpu,
            "speedup_cpu": plain_cpu / ours_cpu,
            "rounds": len(self.ours_s),
        }


def wait(device: torch.device) -> None:
    """Wait for a GPU to have done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Pair:
    """The plain supernet and ours with the same weights, and their three steps."""

    def __init__(self, case: Case) -> None:
        self.case, self.device = case, torch.device(case.device)
        values = {"space": case.space, "channels": case.channels, "cells": case.cells, "split_ratio": case.split_ratio}
        named = {f"supernet.{key}": value for key, value in values.items()}
        config = with_values(RunConfig(), {**named, "supernet.identity": "none"}).supernet
        torch.manual_seed(0)
        self.plain = ReferenceSupernet(config, classes=10).to(self.device)
        self.ours = Supernet(config, classes=10).to(self.device)
        copy_weights(self.plain, self.ours)
        self.ours.use(case.kernels)
        self.ours.checkpoint_activations(case.checkpointing)
        shape = (case.batch, 3, case.image_size, case.image_size)
        self.train, self.valid = (
            (torch.randn(shape, device=self.device), torch.randint(10, (case.batch,), device=self.device))
            for _ in range(2)
        )
        self.sgd = {
            self.plain: torch.optim.SGD(self.plain.weights(), 0.025, 0.9, weight_decay=3e-4),
            self.ours: sgd(self.ours.weights(), SearchConfig()),
        }
        graphs = case.compile and self.device.type == "cuda"
        forward: Callable[[Tensor], Tensor] = self.ours
        if case.compile:
            forward = compiled(self.ours, lambda model, images: model(images), print, graphs)
        precision = case.precision if case.precision in ("bf16", "fp16") else "none"
        self.gradients = SupernetGradients(self.ours, forward, precision, 1, World(), graphs)  # type: ignore[arg-type]
        settings = SearchConfig(order=1), SearchConfig(order=2)
        self.first, self.second = (
            ArchitectureStep(self.ours, s, self.sgd[self.ours], self.gradients) for s in settings
        )  # fmt: skip
        self.weights = self.ours.weights()

    def difference(self) -> float:
        """Largest relative difference of the logits in training mode."""
        with torch.no_grad():
            plain, ours = self.plain(self.train[0]), self.ours(self.train[0])
        return float((plain - ours).abs().max() / plain.abs().max())

    def plain_step(self, step: str) -> None:
        """One step of the plain supernet."""
        with autocast(self.device, self.case.precision):  # type: ignore[arg-type]
            if step == "weight":
                reference_steps.weight_step(self.plain, self.train, self.sgd[self.plain])
            elif step == "alpha-1st":
                reference_steps.first_order_gradient(self.plain, self.valid)
            else:
                reference_steps.second_order_gradient(self.plain, self.train, self.valid, self.sgd[self.plain], 0.025)

    def our_step(self, step: str) -> None:
        """The same step of ours."""
        if step == "weight":
            grads = self.gradients(self.train, self.weights)
            for parameter, grad in zip(self.weights, grads, strict=True):
                parameter.grad = grad
            torch.nn.utils.clip_grad_norm_(self.weights, 5.0)
            self.sgd[self.ours].step()
            self.sgd[self.ours].zero_grad()
        else:
            (self.first if step == "alpha-1st" else self.second).gradient(self.train, self.valid, 0.025)

    def time(self, step: str, rounds: int) -> Timing:
        """Time a step of both in turns, after one unmeasured round."""
        timing = Timing()
        turns = (
            (self.plain_step, timing.plain_s, timing.plain_cpu_s),
            (self.our_step, timing.ours_s, timing.ours_cpu_s),
        )
        for number in range(rounds + 1):
            for run, wall, processor in turns:
                wait(self.device)
                begin, begin_cpu = time.perf_counter(), time.process_time()
                run(step)
                wait(self.device)
                if number:
                    wall.append(time.perf_counter() - begin)
                    processor.append(time.process_time() - begin_cpu)
        return timing

    def saved(self) -> dict[str, float]:
        """Bytes kept for the backward pass, in 10^6, and ours as a share of the plain supernet's.

        The plain supernet always keeps for weights and architecture at once, as all public code does.
        """

        def megabytes(model: Supernet | ReferenceSupernet, parameters: list[torch.nn.Parameter]) -> float:
            model.zero_grad()
            wanted = {id(p) for p in parameters}
            for parameter in model.parameters():
                parameter.requires_grad_(id(parameter) in wanted)
            images, labels = self.train
            kept = saved_bytes(model, lambda: F.cross_entropy(model(images), labels), self.train)
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            return kept / 1e6

        plain = megabytes(self.plain, list(self.plain.parameters()))
        weight, alpha = megabytes(self.ours, self.weights), megabytes(self.ours, self.ours.architecture())
        return {
            "plain_mb": plain, "weight_mb": weight, "alpha_mb": alpha,
            "saved weight": weight / plain, "saved alpha": alpha / plain,
        }  # fmt: skip

    def second_order_peak(self) -> dict[str, float]:
        """Peak memory added by a second-order step, in MiB: with a copy of the model, and ours."""
        found = {}
        for name, run in (("plain_mib", self.plain_step), ("ours_mib", self.our_step)):
            gc.collect()
            memory = PeakMemory(self.device)
            run("alpha-2nd")
            found[name] = memory.mib()
            self.plain.zero_grad()
        return {**found, "peak": found["ours_mib"] / max(found["plain_mib"], 1e-9)}


def measure(case: Case, rounds: int, steps: tuple[str, ...] = STEPS) -> dict[str, Any]:
    """All of a case: equality, seconds of each step, saved bytes, peak of the second-order step."""
    torch.set_num_threads(case.threads)
    keep_freed_memory()  # as a search does
    pair = Pair(case)
    found: dict[str, Any] = {"case": asdict(case), "difference": pair.difference()}
    found["saved"] = pair.saved()
    found["steps"] = {step: pair.time(step, rounds).summary() for step in steps}
    if "alpha-2nd" in steps:
        found["second_order_peak"] = pair.second_order_peak()
    return found


def growth(base: Case, rounds: int) -> Iterator[dict[str, Any]]:
    """The weight step as channels, cells, batch and ratio grow, one at a time."""
    changes: dict[str, tuple[Any, ...]] = {
        "channels": (8, 16, 32),
        "cells": (4, 8, 12),
        "batch": (8, 16, 32),
        "split_ratio": ("1/8", "1/4", "1/2", "3/4", "1"),
    }
    for name, values in changes.items():
        for value in values:
            case = Case(**{**asdict(base), name: value})
            yield {"grown": name, "value": value, **measure(case, rounds, steps=("weight",))}


def data_pipeline(batch: int, rounds: int, device: str = "cpu", threads: int = 1) -> dict[str, float]:
    """Seconds of one augmented batch of CIFAR-size images that live on the device."""
    from cscdarts.data.source import Augmentation, Place, ResidentSource

    torch.set_num_threads(threads)
    place = Place(torch.device(device))
    images = torch.randint(0, 256, (max(2048, 4 * batch), 3, 32, 32), dtype=torch.uint8).to(place.device)
    labels = torch.randint(10, (len(images),)).to(place.device)
    half = torch.full((3, 1, 1), 0.5, device=place.device)
    source = ResidentSource(images, labels, half, half, batch, Augmentation(4, True, 0), 0, "weights", place)
    seconds = []
    for epoch in range(rounds):
        begin, count = time.perf_counter(), 0
        for _ in source.batches(epoch):
            count += 1
        seconds.append((time.perf_counter() - begin) / count)
    median = statistics.median(seconds)
    return {"batch_s": median, "images_per_s": batch / median}


def retraining(batch: int, rounds: int, threads: int = 1, channels: int = 16, cells: int = 8) -> dict[str, float]:
    """Seconds of one retraining step of DARTS_V2 (auxiliary head included)."""
    from cscdarts.models.network import Network
    from cscdarts.spaces.known import KNOWN_GENOTYPES

    torch.set_num_threads(threads)
    evaluation = EvaluationConfig(channels=channels, cells=cells)
    network = Network(KNOWN_GENOTYPES["DARTS_V2"], evaluation, SupernetConfig(), "none", 10, 3, False)
    sgd = torch.optim.SGD(network.parameters(), 0.025, 0.9)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    seconds = []
    for number in range(rounds + 1):
        begin = time.perf_counter()
        logits, auxiliary = network(images)
        loss = F.cross_entropy(logits, labels)
        if auxiliary is not None:
            loss = loss + 0.4 * F.cross_entropy(auxiliary, labels)
        torch.autograd.backward(loss)
        sgd.step()
        sgd.zero_grad()
        if number:
            seconds.append(time.perf_counter() - begin)
    return {"step_s": statistics.median(seconds), "channels": channels, "cells": cells, "batch": batch}


def look_ups(rounds: int) -> dict[str, float]:
    """Seconds to open the embedded benchmark, and of one of a thousand look-ups by architecture string."""
    from benchmarks.sources import open_table
    from benchmarks.tabular.space import official_archs

    archs = official_archs()[::15][:1000]
    begin = time.perf_counter()
    table = open_table("embedded")
    opened = time.perf_counter() - begin
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for arch in archs:
            table.look_up([arch], table.datasets[0], "test")
        seconds.append((time.perf_counter() - begin) / len(archs))
    return {"open_s": opened, "look_up_s": statistics.median(seconds)}


def against_plain_darts(measured: list[dict[str, Any]]) -> list[str]:
    """Lines that set a split supernet beside plain DARTS, and beside what the split alone gives."""
    lines = []
    for found in measured:
        case = found["case"]
        whole = next(
            (m for m in measured if m["case"] == {**case, "split_ratio": "1"} and "weight" in m["steps"]), None
        )  # fmt: skip
        if case["split_ratio"] == "1" or whole is None or "weight" not in found["steps"]:
            continue
        plain, ours = whole["steps"]["weight"]["plain_cpu_s"], found["steps"]["weight"]["ours_cpu_s"]
        alone = found["steps"]["weight"]["plain_cpu_s"]
        lines.append(
            f"{case['space']} at ratio {case['split_ratio']}, {case['threads']} threads, weight step in processor "
            "seconds: "
            f"{plain / ours:.1f}x faster than plain DARTS (the split alone: {plain / alone:.1f}x), saved bytes "
            f"{whole['saved']['plain_mb'] / found['saved']['weight_mb']:.1f}x less "
            f"(the split alone: {whole['saved']['plain_mb'] / found['saved']['plain_mb']:.1f}x)"
        )
    return lines


def draw_growth(points: list[dict[str, Any]], path: Path) -> None:
    """Draw seconds of the weight step, plain and ours, as each size grows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(point["grown"] for point in points))
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.8), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        own = [point for point in points if point["grown"] == name]
        labels = [str(point["value"]) for point in own]
        for key, label in (("plain_s", "edge by edge"), ("ours_s", "ours")):
            axis.plot(labels, [point["steps"]["weight"][key] for point in own], marker="o", label=label)
        axis.set_xlabel(name.replace("_", " "))
        axis.set_ylabel("weight step (s)")
        axis.set_ylim(bottom=0)
    axes[0][0].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
