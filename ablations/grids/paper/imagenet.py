"""What the paper's ImageNet numbers need. Where its cell was searched is not public, so both readings run."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """CSC-DARTS, second-order DARTS and PC-DARTS from CIFAR-10; CSC-DARTS and PC-DARTS searched directly."""
    for seed in SEEDS:
        for recipe, methods in (
            ("imagenet-transfer", ("csc", "darts2", "pcdarts")),
            ("imagenet-direct", ("csc", "pcdarts")),
        ):
            for method in methods:
                yield apply_preset(with_values(protocol(recipe, scale), {"seed": seed}), method)
