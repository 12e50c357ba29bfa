"""The members of the family that the paper's tables quote beside those of the grids `cifar10` and `nasbench201`: with
them each published row whose method the engine has is filled."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)
#: Protocol -> methods with a published row there.
METHODS = {
    "cifar10": ("pdarts", "gdas", "snas", "drnas", "sdarts-rs", "beta-darts", "fairdarts", "darts-pt"),
    "nasbench201": ("gdas", "snas", "drnas", "beta-darts"),
}


def grid(scale: str) -> Iterator[RunConfig]:
    """Eight methods on CIFAR-10 and four in the NAS-Bench-201 space, three seeds each."""
    for seed in SEEDS:
        for name, methods in METHODS.items():
            for method in methods:
                yield apply_preset(with_values(protocol(name, scale), {"seed": seed}), method)
