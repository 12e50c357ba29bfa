"""Search in the NAS-Bench-201 space by every method, each derived cell held against the benchmark."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)
METHODS = ("csc", "darts1", "darts2", "pcdarts", "dartsminus", "random-ws", "random")


def grid(scale: str) -> Iterator[RunConfig]:
    """Seven methods with three seeds each, as the benchmark's own weight-sharing rows have."""
    for seed in SEEDS:
        for method in METHODS:
            yield apply_preset(with_values(protocol("nasbench201", scale), {"seed": seed}), method)
