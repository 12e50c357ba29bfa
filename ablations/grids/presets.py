"""Every member of the family on one budget: each preset with three seeds, every cell looked up and retrained.

It shows that all of them go the whole road, and what a small budget makes of each; three seeds rank nobody. A member
that searches in stages, or decides on its supernet at the end, takes more epochs than `search.epochs` says.
"""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values
from cscdarts.settings.methods import PRESETS

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """All presets in the NAS-Bench-201 space on digits, each with 3 seeds; all of a seed before the next."""
    # A cell that `none` cuts off counts as what it gives: without it a member would look better than it is.
    base = with_values(protocol("quickstart", scale), {"runtime.cut_off": "train"})
    for seed in SEEDS:
        for name in PRESETS:
            yield with_values(apply_preset(base, name), {"seed": seed})
