"""What table T0 tests on small data: split x identity x order with many fresh seeds, identity by phase, baselines, and
the same cells in shallow and deep networks.

The tests stand in `reports/read/claims/` and were fixed before these seeds were run: seeds 0 to 99 are for looking
around. All settings of a seed come before the next seed, so that a grid that is stopped early compares like with like.
"""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_cell, apply_preset, protocol, with_values
from cscdarts.data.randomness import numpy_generator
from cscdarts.spaces import random_genotype
from cscdarts.spaces.connected import idle_kinds

FIRST_SEED = 100
#: Scale -> seeds, and cells of the comparison of depths.
SIZES = {"smoke": (3, 4), "reduced": (20, 12), "paper": (20, 12)}
#: Cells stacked a stage in the shallow and in the deep network.
DEPTHS = (1, 3)


def grid(scale: str) -> Iterator[RunConfig]:
    """10 settings of CSC-DARTS and 4 baselines a seed; beside the first three, cells at two depths."""
    # A cell that a search or a draw cuts off from its input is a result of its method.
    base = with_values(protocol("quickstart", scale), {"runtime.cut_off": "train"})
    seeds, cells = SIZES[scale]
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        seeded = with_values(base, {"seed": seed})
        csc = apply_preset(seeded, "csc")
        for order in (1, 2):
            for ratio in ("1/2", "1"):
                for identity in ("cell", "none"):
                    yield with_values(
                        csc, {"supernet.split_ratio": ratio, "supernet.identity": identity, "search.order": order}
                    )
        for phases in ("search", "eval"):
            yield with_values(csc, {"supernet.identity_phases": phases})
        for method in ("random", "darts1", "pcdarts", "darts2"):
            yield apply_preset(seeded, method)
        if seed < FIRST_SEED + 3:
            yield from _depths(seeded, cells)


def _depths(base: RunConfig, count: int) -> Iterator[RunConfig]:
    """The same random cells with and without the identity connection, in shallow and in deep networks."""
    draw, found = numpy_generator(0, "cells of the comparison of depths"), list[str]()
    while len(found) < count:
        cell = random_genotype(base.supernet.space, draw)
        if not idle_kinds(cell) and str(cell) not in found:
            found.append(str(cell))
    for text in found:
        for preset in (None, "csc"):
            for depth in DEPTHS:
                yield with_values(apply_cell(base, text, preset), {"evaluation.cells": depth})
