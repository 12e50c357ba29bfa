"""How much of the channels goes to operation selection: five ratios, all else as in the method."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """Ratio 1 to 1/8 on CIFAR-10; at the smoke scale 1/4 is the least that leaves two channels."""
    base = apply_preset(protocol("cifar10", scale), "csc")
    ratios = ("1", "1/2", "1/4") if scale == "smoke" else ("1", "3/4", "1/2", "1/4", "1/8")
    for ratio in ratios:
        for seed in SEEDS:
            yield with_values(base, {"supernet.split_ratio": ratio, "seed": seed})
