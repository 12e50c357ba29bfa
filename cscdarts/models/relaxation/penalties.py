"""Penalties on the architecture parameters, added to the validation loss of an architecture step."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from cscdarts.spaces import CLOSED

PenaltyName = Literal["none", "zero-one", "log-sum-exp"]


def penalty(name: PenaltyName, alphas: Mapping[str, Tensor]) -> Tensor:
    """The penalty of the architecture parameters, a number.

    `zero-one`: -mean (sigmoid(alpha) - 1/2)^2 over all candidates (Chu et al. 2020, FairDARTS, equation 5), smallest
    where every sigmoid is 0 or 1. `log-sum-exp`: sum over the kinds of cells of the mean over their edges of log sum_o
    exp(alpha_o) (Ye et al. 2022, beta-DARTS, equation 9, as its released code has it).

    Args:
        alphas: kind -> (edges, operations).
    """
    values = list(alphas.values())
    if name == "zero-one":
        flat = torch.cat([alpha.flatten() for alpha in values])
        return -((flat[flat > CLOSED / 2].sigmoid() - 0.5) ** 2).mean()
    if name == "log-sum-exp":
        return torch.stack([alpha.logsumexp(-1).mean() for alpha in values]).sum()
    return values[0].new_zeros(())


def penalty_gradients(name: PenaltyName, weight: float, alphas: Mapping[str, Tensor]) -> Sequence[Tensor]:
    """Gradient of weight * penalty in each of the alphas, in their order."""
    with torch.enable_grad():
        leaves = {kind: alpha.detach().requires_grad_() for kind, alpha in alphas.items()}
        return torch.autograd.grad(weight * penalty(name, leaves), list(leaves.values()))
