"""The forecasts of `cscdarts.forecast` held against what others have measured on GPUs: memory and cost of searches."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.published.rows import find_published, published_rows
from cscdarts.forecast.gpus import GTX_1080_TI, OUTSIDE_BYTES
from cscdarts.forecast.runs import search_forecast
from cscdarts.forecast.steps import Images, plain_search_steps, plain_steps_of
from cscdarts.models.reference import MixedCell, MixedEdge, ReferenceSupernet
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.optimiser_recipes import PROFILES
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol

#: ROME's setting: CIFAR-10, batch 64, C=16, 8 cells.
_BATCH = Images(classes=10, channels=3, size=32, batch=64)
#: Published name in `memory.csv` -> the split ratio that it searches with, edge by edge.
_RATIOS = {"DARTS": "1", "PC-DARTS (K=2)": "1/2", "PC-DARTS": "1/4"}
#: Samples of GDAS's paths: an allocator keeps what the largest of a search's many thousands took.
_DRAWS = 12
#: Published cost: method, protocol, preset, what differs from the protocol.
_COSTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("DARTS (1st order)", "cifar10", "darts1", {}),
    ("DARTS (2nd order)", "cifar10", "darts2", {}),
    ("PC-DARTS", "cifar10", "pcdarts", {**PROFILES["pcdarts"], "search.alpha_warmup": 15}),
    ("DARTS-V1", "nasbench201", "darts1", {}),
    ("DARTS-V2", "nasbench201", "darts2", {}),
)


@dataclass(frozen=True)
class Held:
    """A forecast beside what was published.

    Attributes:
        what: `search memory, GB` or `search cost, GPU-hours`.
    """

    what: str
    method: str
    forecast: float
    published: float
    source: str

    @property
    def error_pct(self) -> float:
        """The forecast's relative error in percent."""
        return 100 * (self.forecast / self.published - 1)


def memory_against_published() -> Iterator[Held]:
    """Search memory of a weight step edge by edge, against ROME's Table 7 (`benchmarks/published/memory.csv`)."""
    for row in published_rows("memory"):
        published = row.numbers["memory_gb"]
        if published is None:
            continue
        if row.method in _RATIOS:
            values = {"supernet.split_ratio": _RATIOS[row.method]}
            preset = "darts1" if row.method == "DARTS" else "pcdarts"
            config = with_values(apply_preset(protocol("cifar10", "paper"), preset), values)
            peak = plain_search_steps(config, _BATCH, steps=("weight",))["weight"].peak
        else:
            peak = _sampled_peak()
        yield Held("search memory, GB", row.method, (peak + OUTSIDE_BYTES) / 1e9, published, row.source)


def cost_against_published() -> Iterator[Held]:
    """Search cost on a GTX 1080 Ti, edge by edge, against GPU-days (`cifar.csv`) and seconds (`nasbench201.csv`)."""
    for method, name, preset, values in _COSTS:
        row = find_published("nasbench201" if name == "nasbench201" else "cifar", method)
        assert row is not None
        days, seconds = row.numbers.get("search_cost_gpu_days"), row.numbers.get("search_seconds")
        published = 24 * days if days is not None else (seconds or 0) / 3600
        config = with_values(apply_preset(protocol(name, "paper"), preset), values)
        forecast = search_forecast(config, plain=True)
        assert forecast is not None
        yield Held("search cost, GPU-hours", method, forecast.hours(GTX_1080_TI), published, row.source)


def _sampled_peak() -> int:
    """Most memory of some weight steps of GDAS, which computes one operation an edge, drawn for each step; `none` is no
    candidate of its."""
    config = apply_preset(protocol("cifar10", "paper"), "darts1")
    draw, peaks = random.Random(0), []
    for _ in range(_DRAWS):
        with torch.device("meta"):
            model = ReferenceSupernet(config.supernet, _BATCH.classes, _BATCH.channels)
        _sample(model, config, draw)
        peaks.append(plain_steps_of(model, _BATCH, ("weight",))["weight"].peak)
    return max(peaks)


def _sample(model: ReferenceSupernet, config: RunConfig, draw: random.Random) -> None:
    """Let each edge compute one operation, the same one in all cells of a kind."""
    ops = config.supernet.ops or ()
    chosen: dict[tuple[str, int], int] = {}
    for cell in model.cells:
        assert isinstance(cell, MixedCell)
        for row, edge in enumerate(cell.edges):
            assert isinstance(edge, MixedEdge)
            place = (cell.plan.kind, row)
            at = chosen.setdefault(place, draw.choice([k for k, op in enumerate(ops) if op != "none"]))

            def mix(x: Tensor, weights: Tensor, edge: MixedEdge = edge, at: int = at) -> Tensor:
                out: Tensor = weights[at] * edge.ops[at](x)
                return out

            edge._mix = mix  # type: ignore[method-assign]
