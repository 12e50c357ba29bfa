"""Method and baselines in the NAS-Bench-201 space, every derived cell looked up and none retrained: the record's grid.

At the reduced scale a core does a run in minutes: images of half the side, a tenth of them, 8 channels, 12 epochs. At
the paper's scale it is the published search protocol. `cscdarts report record` writes what came out.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2, 3)
#: What the reduced scale changes against the paper's protocol.
REDUCED: Mapping[str, Any] = MappingProxyType(
    {
        "data.image_size": 16,
        "data.search_fraction": 0.1,
        "supernet.channels": 8,
        "supernet.cells": 1,
        "search.epochs": 12,
        # A fortieth of the steps: at the published 3e-4 alpha would hardly leave its start.
        "search.alpha_lr": 0.02,
    }
)
#: The operation that cuts an edge left out: a switch, which the published runs do not throw.
WITHOUT_NONE = {"supernet.ops": "skip_connect,nor_conv_1x1,nor_conv_3x3,avg_pool_3x3", "labels.note": "without none"}
WHOLE_IMAGES = {**WITHOUT_NONE, "data.image_size": 32, "labels.note": "without none on whole images"}

#: A preset and what is changed in it.
Variant = tuple[str, Mapping[str, Any]]


def _csc(ratio: str, identity: str, order: int) -> Variant:
    return "csc", {"supernet.split_ratio": ratio, "supernet.identity": identity, "search.order": order}


def _variants(scale: str) -> list[list[Variant]]:
    """Groups of settings in the order in which they are worth having, the cheap first order first."""
    preset, half = _csc("1/2", "cell", 1)
    groups: list[list[Variant]] = [
        [("darts1", {}), (preset, half)],
        [_csc("1/4", "cell", 1), ("pcdarts", {})],
        [_csc("1", "cell", 1), _csc("1/2", "none", 1), _csc("1/4", "none", 1)],
        [(preset, {**half, **WITHOUT_NONE}), ("darts1", WITHOUT_NONE)],
        [_csc("1/2", "cell", 2), ("darts2", {}), _csc("1/4", "cell", 2)],
        [_csc("1", "cell", 2), _csc("1/2", "none", 2), _csc("1/4", "none", 2)],
    ]
    if scale == "reduced":  # the only scale that halves the images' sides
        groups.append([(preset, {**half, **WHOLE_IMAGES}), ("darts1", WHOLE_IMAGES)])
    return groups


def grid(scale: str) -> Iterator[RunConfig]:
    """15 settings (17 at the reduced scale) with four seeds each; every group over all seeds before the next."""
    base = with_values(protocol("nasbench201", scale), {"runtime.retrain": False})
    if scale == "reduced":
        base = with_values(base, {**REDUCED, "runtime.threads": 1})
    # The protocol sets the schedule for all; a preset's own batch size and rates would make other budgets.
    budget = {f"search.{key}": getattr(base.search, key) for key in ("epochs", "batch_size", "lr", "alpha_lr")}
    for group in _variants(scale):
        for seed in SEEDS:
            for preset, values in group:
                chosen = with_values(apply_preset(base, preset), values)
                warm_up = {} if chosen.search.alpha_warmup else {"search.alpha_warmup": 0}
                yield with_values(chosen, {"seed": seed, **budget, **warm_up})
