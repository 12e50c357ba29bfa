"""What the paper's CIFAR-10 table needs: CSC-DARTS and its relatives, searched and retrained on CIFAR-10."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)
METHODS = ("csc", "darts1", "darts2", "pcdarts", "dartsminus", "random")


def grid(scale: str) -> Iterator[RunConfig]:
    """Six methods with three seeds each; the paper's number of runs is not public."""
    for seed in SEEDS:
        for method in METHODS:
            yield apply_preset(with_values(protocol("cifar10", scale), {"seed": seed}), method)
