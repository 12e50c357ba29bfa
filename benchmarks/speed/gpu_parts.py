"""The parts of the GPU check: each measures something on a device and says what holds.

A part takes a `Setting` and gives `Finding`s one by one, so that what was found before it ran out of time stays.
"""

import contextlib
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed import steps as speed
from benchmarks.speed.generated import write_images
from benchmarks.speed.search import search_share
from cscdarts.errors import Stopped
from cscdarts.forecast.steps import CUBLAS_BYTES, Images, StepCost, plain_search_steps, search_steps
from cscdarts.kernels.batch_norm import flag_set
from cscdarts.models.supernet import Supernet
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig, SearchConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.training.bilevel import ArchitectureStep
from cscdarts.training.distributed import World
from cscdarts.training.gradients import SupernetGradients
from cscdarts.training.memory import PeakMemory
from cscdarts.training.resumable import compiled, sgd
from cscdarts.training.retrain import RetrainRun
from cscdarts.training.search import SearchRun

Batch = tuple[Tensor, Tensor]
#: Space and split ratio of the supernets that are looked at.
CASES = (("darts", "1"), ("darts", "1/4"), ("nasbench201", "1"))


@dataclass(frozen=True)
class Setting:
    """Where and at what size a part measures.

    Attributes:
        device: `cuda` or `cpu`.
        tiny: sizes that a CPU goes through in seconds: only that the check itself works.
        place: a folder for data and runs.
        until: `time.monotonic()` at which the part must have ended.
    """

    device: str
    tiny: bool
    place: Path
    until: float

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU; elsewhere nothing is said of goals that are about GPUs."""
        return self.device.startswith("cuda")

    def left(self) -> float:
        """Seconds until the part must have ended."""
        return self.until - time.monotonic()

    def size(self, space: str) -> dict[str, Any]:
        """Channels, cells, batch and image size of a supernet of a space."""
        cells = {"darts": 3, "nasbench201": 1} if self.tiny else {"darts": 8, "nasbench201": 5}
        return {"channels": 4 if self.tiny else 16, "cells": cells[space], "batch": 4 if self.tiny else 64,
                "image_size": 8 if self.tiny else 32}  # fmt: skip

    def config(self, space: str, ratio: str, **values: Any) -> RunConfig:
        """A run's config of that size, without identity."""
        size = self.size(space)
        named = {"space": space, "split_ratio": ratio if not self.tiny or ratio == "1" else "1/2", "identity": "none",
                 "channels": size["channels"], "cells": size["cells"]}  # fmt: skip
        return with_values(RunConfig(), {f"supernet.{key}": value for key, value in named.items()} | values)

    def images(self, space: str) -> Images:
        """A batch of that size, as the forecast takes it."""
        size = self.size(space)
        return Images(10, 3, size["image_size"], size["batch"])


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        name: what was looked at; value: what came out; goal: what was asked of it, "" for nothing.
        holds: whether it is as asked; None where nothing is asked on this device.
        values: numbers for the record.
    """

    name: str
    value: str
    goal: str = ""
    holds: bool | None = None
    values: dict[str, Any] | None = None


class Steps:
    """A supernet on a device and the gradients of its three steps."""

    def __init__(
        self, model: Supernet, batches: tuple[Batch, Batch], precision: str = "none", compile: bool = False
    ) -> None:
        self.model, (self.train, self.valid) = model, batches
        graphs = compile and self.train[0].device.type == "cuda"
        forward: Callable[[Tensor], Tensor] = model
        self.told: list[str] = []
        if compile:
            forward = compiled(model, lambda net, images: net(images), self.told.append, graphs)
        self.gradients = SupernetGradients(model, forward, precision, 1, World(), graphs)  # type: ignore[arg-type]
        self.optimiser = sgd(model.weights(), SearchConfig())

    def gradient(self, step: str) -> list[Tensor]:
        """The gradient of `weight`, `alpha_1st` or `alpha_2nd`."""
        if step == "weight":
            with flag_set(ArchitectureStep(self.model, SearchConfig(), self.optimiser, self.gradients).norms, "track",
                          False):  # fmt: skip
                return self.gradients(self.train, self.model.weights())
        settings = SearchConfig(order=1 if step == "alpha_1st" else 2)
        return ArchitectureStep(self.model, settings, self.optimiser, self.gradients).gradient(
            self.train, self.valid, 0.025
        )


STEPS = ("weight", "alpha_1st", "alpha_2nd")


def _models(setting: Setting, space: str, ratio: str, dtype: torch.dtype) -> tuple[Supernet, tuple[Batch, Batch]]:
    """A supernet on the CPU and two batches for it."""
    torch.manual_seed(0)
    model = Supernet(setting.config(space, ratio).supernet, 10).to(dtype)
    size = setting.size(space)
    shape = (min(size["batch"], 8), 3, size["image_size"], size["image_size"])
    first, second = ((torch.randn(shape, dtype=dtype), torch.randint(10, shape[:1])) for _ in range(2))
    return model, (first, second)


def _moved(batches: tuple[Batch, Batch], device: str) -> tuple[Batch, Batch]:
    first, second = ((images.to(device), labels.to(device)) for images, labels in batches)
    return first, second


def _difference(mine: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Norm of the difference of two gradients as a share of the second's."""
    flat, expected = (torch.cat([t.detach().double().cpu().flatten() for t in one]) for one in (mine, other))
    return float((flat - expected).norm() / expected.norm().clamp_min(1e-30))


def equality(setting: Setting) -> Iterator[Finding]:
    """Values and the gradients of the three steps against the CPU's, in double and in single precision."""
    torch.backends.cudnn.allow_tf32 = False
    for space, ratio in CASES:
        for dtype, goal in ((torch.float64, 1e-6), (torch.float32, 1e-2)):
            model, batches = _models(setting, space, ratio, dtype)
            there = copy.deepcopy(model).to(setting.device)
            here, other = Steps(model, batches), Steps(there, _moved(batches, setting.device))
            with torch.no_grad():
                values = _difference([there(other.train[0])], [model(here.train[0])])
            found = {"values": values, **{s: _difference(other.gradient(s), here.gradient(s)) for s in STEPS}}
            worst = max(found.values())
            yield Finding(
                f"equal to the CPU: {space}, ratio {ratio}, {str(dtype).removeprefix('torch.')}",
                ", ".join(f"{name} {value:.1e}" for name, value in found.items()), f"{goal:.0e}", worst <= goal, found,
            )  # fmt: skip
    torch.backends.cudnn.allow_tf32 = True


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


def precision(setting: Setting) -> Iterator[Finding]:
    """bf16 and fp16: gradients point where those of float32 do."""
    space, ratio = CASES[1]
    model, batches = _models(setting, space, ratio, torch.float32)
    model.to(setting.device)
    batches = _moved(batches, setting.device)
    for name in ("bf16", "fp16"):
        for step in ("weight", "alpha_1st"):
            cast, full = (Steps(model, batches, p).gradient(step) for p in (name, "none"))
            flat, expected = (torch.cat([t.flatten().double() for t in one]) for one in (cast, full))
            cosine = float(torch.nn.functional.cosine_similarity(flat, expected, dim=0))
            yield Finding(f"{name}, {step} step: cosine to float32", f"{cosine:.4f}", "0.95", cosine >= 0.95)


def compiling(setting: Setting) -> Iterator[Finding]:
    """`search.compile`: torch.compile, on a GPU with CUDA graphs, gives the gradients of eager code."""
    space, ratio = CASES[1]
    model, batches = _models(setting, space, ratio, torch.float32)
    model.to(setting.device)
    batches = _moved(batches, setting.device)
    eager, fast = Steps(model, batches), Steps(model, batches, compile=True)
    for step in STEPS:
        begin = time.perf_counter()
        found = [fast.gradient(step) for _ in range(3)][-1]  # the third is a replay
        spent = time.perf_counter() - begin
        difference = _difference(found, eager.gradient(step))
        yield Finding(
            f"compiled{', CUDA graphs' if setting.cuda else ''}: {step} step",
            f"{difference:.1e}, three in {spent:.0f} s{'; ' + fast.told[0] if fast.told else ''}", "1e-02",
            difference <= 1e-2 and not fast.told,
        )  # fmt: skip


def allocated_peak(device: str, step: Callable[[], Any]) -> int:
    """Most bytes that torch's allocator has given out at once during a step, above what it had given out before."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    present = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        present += event.nbytes()
        peak = max(peak, present)
    return peak


def memory(setting: Setting) -> Iterator[Finding]:
    """Measured peaks of a step against those predicted on shapes alone, edge by edge and ours; a process's share."""
    for space, ratio in CASES:
        ratio = str(setting.config(space, ratio).supernet.split_ratio)
        case = speed.Case(space, ratio, device=setting.device, **setting.size(space))
        pair = speed.Pair(case)
        config, images = setting.config(space, ratio), setting.images(space)
        forecasts = {"edge by edge": plain_search_steps(config, images, steps=("weight", "alpha_1st"))}
        if setting.cuda:  # a CPU takes another path than the one that is predicted
            forecasts["ours"] = search_steps(config, images, steps=("weight", "alpha_1st"))
        for name, forecast in forecasts.items():
            run = pair.plain_step if name == "edge by edge" else pair.our_step
            for mine, step in (("weight", "weight"), ("alpha-1st", "alpha_1st")):
                run(mine)
                for model in (pair.plain, pair.ours):
                    model.zero_grad()
                peak = allocated_peak(setting.device, lambda run=run, mine=mine: run(mine))  # type: ignore[misc]
                yield _peak_finding(f"{space}, ratio {ratio}, {name}, {step} step", peak, forecast[step])
        del pair
    if setting.cuda:
        free, total = torch.cuda.mem_get_info()
        outside = (total - free - torch.cuda.memory_reserved()) / 1e9
        yield Finding("GPU memory outside of torch's allocator", f"{outside:.2f} GB", values={"outside_gb": outside})


def _peak_finding(name: str, measured: int, cost: StepCost) -> Finding:
    """Predicted and measured, both above what is there before a step: parameters, statistics, momentum, batches."""
    predicted = cost.peak - CUBLAS_BYTES - cost.counted.before
    share = measured / predicted
    return Finding(
        f"peak: {name}", f"{measured / 1e6:.1f} MB, predicted {predicted / 1e6:.1f}", "within 15 %",
        abs(share - 1) <= 0.15, {"measured_bytes": measured, "predicted_bytes": predicted},
    )  # fmt: skip


def seconds(setting: Setting) -> Iterator[Finding]:
    """Seconds of the three steps against edge by edge; goal: 5 times as fast, 0.35 of the memory."""
    rounds = 1 if setting.tiny else 5
    compilings = (False, True) if setting.cuda else (False,)
    for compile in compilings:
        for space, ratio in CASES:
            if setting.left() < (0 if setting.tiny else 15):
                return
            ratio = str(setting.config(space, ratio).supernet.split_ratio)
            case = speed.Case(space, ratio, device=setting.device, compile=compile, **setting.size(space))
            found = speed.measure(case, rounds)
            how = "compiled, CUDA graphs" if compile else "eager"
            for step, timing in found["steps"].items():
                yield Finding(
                    f"seconds, {how}: {space}, ratio {ratio}, {step}",
                    f"{timing['ours_s']:.4f} s, edge by edge {timing['plain_s']:.4f} s: {timing['speedup']:.1f}x", "5x",
                    timing["speedup"] >= 5 if setting.cuda else None, timing,
                )  # fmt: skip
            saved, peak = found["saved"], found["second_order_peak"]
            shares = {"kept, weight step": saved["saved weight"], "kept, alpha step": saved["saved alpha"]}
            for name, share in {**shares, "peak, second order": peak["peak"]}.items():
                holds = share <= 0.35 if setting.cuda else None
                what = f"memory, {how}: {space}, ratio {ratio}, {name}"
                yield Finding(what, f"{share:.3f}", "0.35", holds, {**saved, **peak})


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


#: Part -> its function and its share of the time, seconds of eight minutes in all.
PARTS: dict[str, tuple[Callable[[Setting], Iterator[Finding]], int]] = {
    "equality": (equality, 60),
    "resume": (resume, 35),
    "precision": (precision, 20),
    "memory": (memory, 45),
    "seconds": (seconds, 90),
    "compiling": (compiling, 75),
    "search": (search, 50),
    "retraining": (retraining, 35),
    "long-search": (long_search, 60),
}
