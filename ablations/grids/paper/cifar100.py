"""What the paper's CIFAR-100 number needs. Where its cell was searched is not public, so both readings run."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)
METHODS = ("csc", "darts1", "darts2", "pcdarts", "dartsminus")


def grid(scale: str) -> Iterator[RunConfig]:
    """Five methods searched on CIFAR-100, and on CIFAR-10 with retraining on CIFAR-100, with three seeds each."""
    for seed in SEEDS:
        for recipe in ("cifar100", "cifar100-transfer"):
            for method in METHODS:
                yield apply_preset(with_values(protocol(recipe, scale), {"seed": seed}), method)
