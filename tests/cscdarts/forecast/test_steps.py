"""Steps counted on shapes alone, against the same steps on the CPU: bytes kept, bytes allocated, values."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from cscdarts.forecast.steps import CUBLAS_BYTES, Images, plain_search_steps, retraining_step, search_steps
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.models.network import Network
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import EvaluationConfig, RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.training import reference_steps
from cscdarts.training.memory import saved_bytes

BATCH = Images(classes=10, channels=3, size=16, batch=8)


def config(space: str = "darts", /, **values: Any) -> RunConfig:
    sizes = {"supernet.space": space, "supernet.channels": 8, "supernet.cells": 3 if space == "darts" else 1}
    return with_values(RunConfig(), {**sizes, "supernet.identity": "none", "supernet.split_ratio": 1, **values})


def allocated_peak(step: Callable[[], Any]) -> int:
    """Most bytes that torch's allocator of the CPU had given out at once during a step, above the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()
    present = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        present += event.nbytes()
        peak = max(peak, present)
    return peak


def held_bytes(*tensors: torch.Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    shape = (BATCH.batch, BATCH.channels, BATCH.size, BATCH.size)
    return torch.randn(shape), torch.zeros(BATCH.batch, dtype=torch.long)


@pytest.mark.parametrize(("space", "ratio"), [("darts", "1"), ("darts", "1/4"), ("nasbench201", "1")])
def test_the_peak_edge_by_edge_is_what_the_cpu_allocates(space: str, ratio: str) -> None:
    settings = config(space, **{"supernet.split_ratio": ratio})
    model, one = ReferenceSupernet(settings.supernet, 10), batch()
    optimiser = torch.optim.SGD(model.weights(), 0.025, 0.9, weight_decay=3e-4)
    reference_steps.weight_step(model, one, optimiser)  # momentum is there from the second step on
    model.zero_grad()
    before = held_bytes(*model.parameters(), *model.buffers(), *model.weights(), *one, *one)
    real = before + allocated_peak(lambda: reference_steps.weight_step(model, one, optimiser))
    told = plain_search_steps(settings, BATCH, steps=("weight",))["weight"]
    assert told.peak - CUBLAS_BYTES == pytest.approx(real, rel=0.1)
    kept = saved_bytes(model, lambda: torch.nn.functional.cross_entropy(model(one[0]), one[1]), one)
    assert told.counted.saved == pytest.approx(kept, rel=0.01)


def test_the_peak_of_a_retraining_is_what_the_cpu_allocates() -> None:
    settings = config()
    evaluation = EvaluationConfig(channels=8, cells=3, drop_path=0.0)
    cell, one = KNOWN_GENOTYPES["DARTS_V2"], batch()
    network = Network(cell, evaluation, settings.supernet, "none", 10)
    optimiser = torch.optim.SGD(network.parameters(), 0.025, 0.9)

    def step() -> None:
        optimiser.zero_grad()
        logits, auxiliary = network(one[0])
        loss = torch.nn.functional.cross_entropy(logits, one[1])
        total = loss + 0.4 * torch.nn.functional.cross_entropy(auxiliary, one[1])
        torch.autograd.backward(total)
        optimiser.step()

    step()
    optimiser.zero_grad()
    before = held_bytes(*network.parameters(), *network.parameters(), *network.buffers(), *one)
    told = retraining_step(cell, evaluation, settings, BATCH)
    assert told.peak - CUBLAS_BYTES == pytest.approx(before + allocated_peak(step), rel=0.1)
    assert told.counted.host_waits == 0


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_ours_keeps_on_shapes_what_the_same_path_keeps_on_the_cpu(space: str) -> None:
    """The path that any device takes, which on the CPU is asked for."""
    settings, one = config(space), batch()
    model = Supernet(settings.supernet, 10)
    with torch.device("meta"):
        shapes = Supernet(settings.supernet, 10)
    for layer in (*model.modules(), *shapes.modules()):
        if isinstance(layer, MixedOps):
            layer.plain = True
    for parameter in model.architecture():
        parameter.requires_grad_(False)
    real = saved_bytes(model, lambda: torch.nn.functional.cross_entropy(model(one[0]), one[1]), one)
    told = search_steps(settings, BATCH, steps=("weight",))["weight"]
    assert told.counted.saved <= real * 1.01  # a leaner path may keep less
    assert told.params == held_bytes(*model.parameters())


def test_parts_of_the_memory_by_hand() -> None:
    settings = config()
    told = search_steps(settings, BATCH)
    weights = held_bytes(*ReferenceSupernet(settings.supernet, 10).weights())
    alphas = 2 * 14 * 8 * 4
    for cost in told.values():
        values = cost.values()
        assert (cost.params, cost.gradients, cost.optimiser) == (
            weights + alphas,
            weights + alphas,
            weights + 2 * alphas,
        )
        assert values["peak_mb"] > values["saved_mb"] + (values["params_mb"] + values["optimiser_mb"])
        assert cost.peak == cost.counted.peak + cost.workspace
    # A step of second order is four passes and the look ahead.
    first, second = told["alpha_1st"].counted, told["alpha_2nd"].counted
    assert 4 * first.launches < second.launches < 8 * first.launches
    assert second.flops > 3 * told["weight"].counted.flops


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_no_step_of_ours_waits_for_the_device(space: str) -> None:
    for cost in search_steps(config(space), BATCH).values():
        assert cost.counted.host_waits == 0


def test_the_second_order_of_public_code_waits_for_each_weight() -> None:
    settings = config("nasbench201")
    weights = len(ReferenceSupernet(settings.supernet, 10).weights())
    counted = plain_search_steps(settings, BATCH, steps=("alpha_2nd",))["alpha_2nd"].counted
    assert counted.host_waits == 3 * weights


def test_what_is_asked_of_a_search_moves_its_costs() -> None:
    """Recomputation keeps less and launches more; half precision keeps less; half the batch at a time about half."""
    usual = search_steps(config(), BATCH, steps=("weight",))["weight"].counted
    again = search_steps(config(**{"search.checkpointing": "cell"}), BATCH, steps=("weight",))["weight"].counted
    assert again.saved < usual.saved / 4
    assert again.launches > usual.launches
    half = search_steps(config(), BATCH, "bf16", steps=("weight",))["weight"].counted
    assert 0.4 * usual.saved < half.saved < 0.9 * usual.saved
    assert any(launch.half for launch in half.kinds)
    parts = search_steps(config("darts", **{"search.accumulate": 2}), BATCH, steps=("weight",))["weight"].counted
    assert parts.saved == pytest.approx(usual.saved / 2, rel=0.05)
    assert parts.flops == usual.flops


def test_the_exact_second_order_keeps_the_graph_of_its_gradient() -> None:
    found = search_steps(config("nasbench201"), BATCH, steps=("alpha_2nd", "alpha_exact"))
    assert found["alpha_exact"].counted.saved > 1.5 * found["alpha_2nd"].counted.saved
    assert found["alpha_exact"].counted.host_waits == 0


def test_fp16_retraining_looks_once_whether_gradients_ran_over() -> None:
    cost = retraining_step(KNOWN_GENOTYPES["DARTS_V2"], EvaluationConfig(channels=8, cells=3), config(), BATCH, "fp16")
    assert cost.counted.host_waits == 1


@pytest.mark.parametrize("pick", ["last", "random"])
def test_other_picks_and_edge_identities_are_counted(pick: str) -> None:
    values = {"supernet.split_ratio": "1/2", "supernet.split_pick": pick, "supernet.identity": "edge"}
    for cost in search_steps(config(**values), BATCH, steps=("weight",)).values():
        assert cost.counted.launches > 0
