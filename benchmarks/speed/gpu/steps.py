"""The parts of the GPU check that look at single steps: equality, precisions, compiling, memory, seconds.

A part takes a `Setting` and gives `Finding`s one by one, so that what was found before it ran out of time stays.
"""

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed import steps as speed
from benchmarks.speed.gpu.setting import CASES, Finding, Setting
from cscdarts.forecast.steps import CUBLAS_BYTES, StepCost, plain_search_steps, search_steps
from cscdarts.kernels.batch_norm import flag_set
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import SearchConfig
from cscdarts.training.bilevel import ArchitectureStep, plain_autograd
from cscdarts.training.distributed import World
from cscdarts.training.gradients import SupernetGradients
from cscdarts.training.resumable import compiled, sgd

Batch = tuple[Tensor, Tensor]


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


def _models(
    setting: Setting, space: str, ratio: str, dtype: torch.dtype, **values: Any
) -> tuple[Supernet, tuple[Batch, Batch]]:
    """A supernet on the CPU and two batches for it; `values` change its config."""
    torch.manual_seed(0)
    model = Supernet(setting.config(space, ratio, **values).supernet, 10).to(dtype)
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
    space, ratio = CASES[2]
    # A cell a stage: one of the DARTS space takes minutes to compile, once for each set of parameters that learn.
    model, batches = _models(setting, space, ratio, torch.float32, **{"supernet.cells": 1})
    model.to(setting.device)
    batches = _moved(batches, setting.device)
    with contextlib.ExitStack() as stack:
        if setting.tiny:
            stack.enter_context(_tracing_alone())
        if not setting.cuda:  # the path of a GPU, which is the one that can be traced
            stack.enter_context(plain_autograd(model))
        eager, fast = Steps(model, batches), Steps(model, batches, compile=True)
        for step in STEPS:
            begin = time.perf_counter()
            found = [fast.gradient(step) for _ in range(3)][-1]  # the third is a replay
            spent = time.perf_counter() - begin
            difference = _difference(found, eager.gradient(step))
            told = "; ".join([f"{difference:.1e}, three in {spent:.0f} s", *fast.told])
            what = f"compiled{', CUDA graphs' if setting.cuda else ''}: {step} step"
            yield Finding(what, told, "1e-02", difference <= 1e-2 and not fast.told)


@contextlib.contextmanager
def _tracing_alone() -> Iterator[None]:
    """Let torch.compile trace and generate no code, which takes minutes on a CPU."""
    before = torch.compile
    torch.compile = functools.partial(before, backend="aot_eager")
    try:
        yield
    finally:
        torch.compile = before


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
            if setting.left() < (0 if setting.tiny else 45 if compile else 15):
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
