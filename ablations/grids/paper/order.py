"""First against second order, the length of the finite difference, and the exact product as the yardstick."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """Order 1, order 2 with eps 0.01 (the family's value) and 0.1, and the exact Hessian-vector product."""
    base = apply_preset(protocol("cifar10", scale), "csc")
    for seed in SEEDS:
        yield with_values(base, {"search.order": 1, "seed": seed})
        for eps in (0.01, 0.1):
            yield with_values(base, {"search.order": 2, "search.eps": eps, "seed": seed})
        yield with_values(base, {"search.order": "second-exact", "seed": seed})
