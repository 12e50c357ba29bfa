"""Published cells trained by one recipe beside CSC-DARTS: how far a printed error is from what its cell gives here."""

from collections.abc import Iterator

from cscdarts import RunConfig, apply_cell, apply_preset, protocol, with_values
from cscdarts.spaces.known import KNOWN_CELLS

SEEDS = (0, 1, 2)


def grid(scale: str) -> Iterator[RunConfig]:
    """Every known cell of the DARTS space in its plain network, by the recipe of the CIFAR-10 table.

    Each seed holds all cells before the next one begins, so that a grid that is stopped early compares like with like.
    The runs of CSC-DARTS are those of the grid `cifar10`. At the smoke scale a cell has one seed.
    """
    for seed in SEEDS:
        base = with_values(protocol("cifar10", scale), {"seed": seed})
        yield apply_preset(base, "csc")
        for name in KNOWN_CELLS if scale != "smoke" or seed == SEEDS[0] else ():
            yield apply_cell(base, name)
