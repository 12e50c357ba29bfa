"""What the steps of a search or of a retraining ask of a GPU, as plain numbers, beside the same edge by edge."""

from collections.abc import Mapping
from typing import Any

from cscdarts.forecast.gpus import GPUS, OUTSIDE_BYTES
from cscdarts.forecast.steps import Images, StepCost, plain_search_steps, retraining_step, search_steps
from cscdarts.settings.config import EvaluationConfig, RunConfig
from cscdarts.spaces import Genotype


def search_report(config: RunConfig, images: Images, precision: str) -> dict[str, Any]:
    """The three steps of a search: see `StepCost.values`, and `_told` for what is added."""
    return _told(search_steps(config, images, precision), plain_search_steps(config, images, precision), precision)


def retraining_report(
    cell: Genotype, evaluation: EvaluationConfig, config: RunConfig, images: Images, precision: str
) -> dict[str, Any]:
    """The step of a retraining, likewise."""
    ours, plain = (retraining_step(cell, evaluation, config, images, precision, plain=edge) for edge in (False, True))
    return _told({"retrain": ours}, {"retrain": plain}, precision)


def _told(ours: Mapping[str, StepCost], plain: Mapping[str, StepCost], precision: str) -> dict[str, Any]:
    """Of each step its values and, of computing edge by edge, the shares of launches, saved bytes and peak; seconds on
    some GPUs by roofline."""
    steps: dict[str, dict[str, Any]] = {}
    for name, cost in ours.items():
        other = plain[name]
        steps[name] = {
            **cost.values(),
            "launches_share": cost.counted.launches / other.counted.launches,
            "saved_share": cost.counted.saved / other.counted.saved,
            "peak_share": cost.peak / other.peak,
            "step_s": {gpu.name: gpu.step_s(cost.counted.kinds) for gpu in GPUS.values()},
        }
    peak = max(cost.peak for cost in ours.values())
    return {
        "device": "cuda",
        "precision": precision,
        "saved_mb": max(step["saved_mb"] for step in steps.values()),
        "peak_mb": peak / 1e6,
        "gpu_memory_gb": (peak + OUTSIDE_BYTES) / 1e9,
        "steps": steps,
    }
