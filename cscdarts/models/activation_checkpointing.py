"""Recomputation: keep what enters a module, not what happens inside, and compute it again in the backward pass.

Costs about one more forward pass of what is recomputed. The second computation leaves the running statistics alone:
they would otherwise move twice per step.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cscdarts.kernels.batch_norm import frozen_statistics

#: `node`: the mixed operations of each node; `cell`: whole cells.
Level = Literal["none", "node", "cell"]


class _HeldStatistics(ExitStack):
    """`frozen_statistics` that may be entered again: a graph that is differentiated twice is recomputed twice."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __enter__(self) -> "_HeldStatistics":
        self.enter_context(frozen_statistics(self.module))
        return super().__enter__()


def checkpointed(module: nn.Module, *inputs: Any) -> Any:
    """`module(*inputs)`, computed again when gradients need its insides."""
    if not torch.is_grad_enabled():
        return module(*inputs)

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _HeldStatistics(module)

    return checkpoint(
        module,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing inside draws but by a number of its own
        context_fn=contexts,
    )
