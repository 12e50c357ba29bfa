"""The full factorial of the method's three parts, split ratio x identity x order, with every baseline beside it."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """Three ratios x three identities x two orders on CIFAR-10, and six baselines."""
    base = protocol("cifar10", scale)
    for seed in SEEDS:
        seeded = with_values(base, {"seed": seed})
        for ratio in ("1", "1/2", "1/4"):
            for identity in ("cell", "edge", "none"):
                for order in (1, 2):
                    yield with_values(
                        apply_preset(seeded, "csc"),
                        {"supernet.split_ratio": ratio, "supernet.identity": identity, "search.order": order},
                    )
        for method in ("darts1", "darts2", "pcdarts", "dartsminus", "random", "random-ws"):
            yield apply_preset(seeded, method)
