"""Drop-path of the evaluation network."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class DropPath:
    """Drops the paths of whole images (Larsson et al. 2017; quark0/darts `cnn/utils.py:drop_path`).

    x <- x * mask / (1 - p), mask (n, 1, 1, 1) of Bernoulli(1 - p); the identity at p = 0.

    Attributes:
        probability: p, set at each epoch's start.
        generator: draws on the device of the data; None takes the global one.
        rank, world: every process draws for the whole batch and keeps its share, so draws do not depend on their
            number.
    """

    probability: float = 0.0
    generator: torch.Generator | None = None
    rank: int = 0
    world: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, c, h, w)."""
        if self.probability <= 0:
            return x
        keep = 1 - self.probability
        mask = torch.empty((x.shape[0] * self.world, 1, 1, 1), device=x.device, dtype=x.dtype)
        mask.bernoulli_(keep, generator=self.generator)
        return x * (mask[self.rank :: self.world] / keep)
