"""Where the identity connection sits and in which phases it is active: the abstract claims both phases, this asks."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_preset, protocol, with_values

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """Place {cell, edge} x phases {both, search, eval}, beside no identity at all."""
    base = apply_preset(protocol("cifar10", scale), "csc")
    for seed in SEEDS:
        for place in ("cell", "edge"):
            for phases in ("both", "search", "eval"):
                yield with_values(base, {"supernet.identity": place, "supernet.identity_phases": phases, "seed": seed})
        yield with_values(base, {"supernet.identity": "none", "seed": seed})
