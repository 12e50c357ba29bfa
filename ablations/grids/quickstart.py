"""The whole road in minutes: split ratio x identity x order, and the baselines on the same budget.

Smallest grid that shows every part of the method on real scans. It proves the road, not the paper's numbers.
"""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """The runs at a scale: 12 settings and 4 baselines, each with 3 seeds."""
    # A cell that `none` cuts off counts as what it gives: without it a baseline would look better than it is.
    base = with_values(protocol("quickstart", scale), {"runtime.cut_off": "train"})
    for seed in SEEDS:
        seeded = with_values(base, {"seed": seed})
        for ratio in ("1", "1/2", "1/4"):
            for identity in ("cell", "none"):
                for order in (1, 2):
                    yield with_values(
                        apply_preset(seeded, "csc"),
                        {"supernet.split_ratio": ratio, "supernet.identity": identity, "search.order": order},
                    )
        for method in ("darts1", "darts2", "pcdarts", "random"):
            yield apply_preset(seeded, method)
