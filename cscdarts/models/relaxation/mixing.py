"""How architecture parameters become mixing weights: the continuous relaxations of the family.

| `search.weighting` | mixing weights w of an edge, alpha: (operations,) | in evaluation |
|---|---|---|
| `softmax` | softmax(alpha) (Liu et al. 2019, equation 2) | the same |
| `sigmoid` | sigmoid(alpha) (Chu et al. 2020, FairDARTS, equation 3) | the same |
| `gumbel` | softmax((log softmax(alpha) + G) / t) (Xie et al. 2019, SNAS, equation 4) | softmax(alpha) |
| `gumbel-hard` | one-hot of the largest of `gumbel` (Dong and Yang 2019, GDAS, equations 3 to 5) | one-hot of alpha |
| `dirichlet` | a draw from Dirichlet(elu(alpha) + 1) (Chen et al. 2021, DrNAS, section 3) | its mean |

G are independent draws -log(-log(u)), t is the temperature. `gumbel-hard` passes gradients straight through: those of
the one-hot weights are given to the soft ones. Added to any of them: noise on alpha (SDARTS-RS) and a mask of the skip
connections (P-DARTS). All passes of one step see the same draw, so that the differences of the second-order step are
differences of one function.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Weighting = Literal["softmax", "sigmoid", "gumbel", "gumbel-hard", "dirichlet"]


class Relaxation(nn.Module):
    """Mixing weights from architecture parameters, with the draws of the present step.

    Args:
        weighting: see the table above.
        shapes: kind of cell -> (edges, operations).
        skips: columns of the operations that are skip connections.

    Attributes:
        temperature: t of the Gumbel weightings.
    """

    def __init__(self, weighting: Weighting, shapes: Mapping[str, tuple[int, int]], skips: Sequence[int]) -> None:
        super().__init__()
        self.weighting, self.skips, self.temperature = weighting, tuple(skips), 1.0
        self.seed = 0
        for kind, shape in shapes.items():
            # Not stored: every step draws them anew from its own number.
            self.register_buffer(f"gumbel_{kind}", torch.zeros(shape), persistent=False)
            self.register_buffer(f"noise_{kind}", torch.zeros(shape), persistent=False)
            self.register_buffer(f"mask_{kind}", torch.ones(shape), persistent=False)
        self._disturbed = False

    @property
    def samples(self) -> bool:
        """Whether its weights are a draw that is new in every step."""
        return self.weighting in ("gumbel", "gumbel-hard", "dirichlet")

    @property
    def one_hot(self) -> bool:
        """Whether an edge has one operation in this pass."""
        return self.weighting == "gumbel-hard" and self.training

    def draw(self, generator: torch.Generator, noise: float = 0.0, skip_dropout: float = 0.0) -> None:
        """Draw what the passes of a step need.

        Args:
            generator: on the CPU, of this step alone.
            noise: alpha is shifted by uniform draws from [-noise, noise].
            skip_dropout: probability that an edge goes without its skip connection; the others are scaled up by
                1 / (1 - skip_dropout).
        """
        self.seed = int(torch.randint(2**62, (1,), generator=generator))
        self._disturbed = noise > 0 or skip_dropout > 0
        for kind in self._kinds():
            gumbel, shift, mask = self._draws_of(kind)
            if self.weighting.startswith("gumbel"):
                uniform = torch.rand(gumbel.shape, generator=generator).clamp_(1e-20, 1 - 1e-7)
                gumbel.copy_(-(-uniform.log()).log())
            if self._disturbed:
                shift.copy_((2 * torch.rand(shift.shape, generator=generator) - 1) * noise)
                kept = torch.ones(mask.shape)
                draws = torch.rand((len(mask), len(self.skips)), generator=generator)
                kept[:, list(self.skips)] = (draws >= skip_dropout).float() / (1 - skip_dropout)
                mask.copy_(kept)

    def rest(self) -> None:
        """The next passes see alpha without noise and every skip connection."""
        self._disturbed = False

    def forward(self, kind: str, alpha: Tensor) -> Tensor:
        """Mixing weights (edges, operations) of a kind of cell from alpha: (edges, operations)."""
        if not self.training:
            return expected_weights(self.weighting, alpha)
        gumbel, shift, mask = self._draws_of(kind)
        if self._disturbed:
            alpha = alpha + shift
        weights = self._weights(alpha, gumbel)
        return weights * mask if self._disturbed else weights

    def _weights(self, alpha: Tensor, gumbel: Tensor) -> Tensor:
        if not self.samples:
            return expected_weights(self.weighting, alpha)
        if self.weighting == "dirichlet":
            drawn: Tensor = _DirichletDraw.apply(F.elu(alpha) + 1, self.seed)
            return drawn
        soft = ((alpha.log_softmax(-1) + gumbel) / self.temperature).softmax(-1)
        if self.weighting == "gumbel":
            return soft
        # One-hot plus the soft weights less themselves: the values are not exactly 0 and 1 in floating point unless the
        # soft ones are taken away first.
        return _one_hot(soft) + (soft - soft.detach())

    def _kinds(self) -> list[str]:
        return [name.removeprefix("gumbel_") for name, _ in self.named_buffers() if name.startswith("gumbel_")]

    def _draws_of(self, kind: str) -> tuple[Tensor, Tensor, Tensor]:
        return getattr(self, f"gumbel_{kind}"), getattr(self, f"noise_{kind}"), getattr(self, f"mask_{kind}")


def expected_weights(weighting: Weighting, alpha: Tensor) -> Tensor:
    """Mixing weights without a draw, (edges, operations): what is evaluated, and what a cell is derived from."""
    if weighting == "sigmoid":
        return alpha.sigmoid()
    if weighting == "gumbel-hard":
        return _one_hot(alpha)
    if weighting == "dirichlet":
        concentration = F.elu(alpha) + 1
        return concentration / concentration.sum(-1, keepdim=True)
    return alpha.softmax(-1)


def _one_hot(values: Tensor) -> Tensor:
    return torch.zeros_like(values).scatter_(-1, values.argmax(-1, keepdim=True), 1.0)


class _DirichletDraw(torch.autograd.Function):
    """A draw x from Dirichlet(c), (edges, operations), as a function of c: equal seeds give equal draws.

    Its gradient is the pathwise one, dx/dc of the draw at fixed quantiles (Jankowiak and Obermeyer 2018), as
    `torch.distributions.Dirichlet.rsample` has it.
    """

    @staticmethod
    def forward(ctx: Any, concentration: Tensor, seed: int) -> Tensor:
        # On the CPU, so that a draw does not depend on the device.
        generator = torch.Generator().manual_seed(seed)
        closed = concentration <= 0  # of operations that are no candidates, which have no share
        values = torch._sample_dirichlet(concentration.detach().masked_fill(closed, 1e-6).cpu().double(), generator)
        # Far from 1, single precision may round a share to 0, where the gradient is not defined.
        drawn = values.clamp_min(torch.finfo(torch.float32).tiny).to(concentration).masked_fill_(closed, 0.0)
        if bool(closed.any()):
            drawn = drawn / drawn.sum(-1, keepdim=True)
        ctx.save_for_backward(drawn, concentration)
        return drawn

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        drawn, concentration = ctx.saved_tensors
        total = concentration.sum(-1, keepdim=True).expand_as(concentration)
        closed = concentration <= 0
        safe = (drawn.masked_fill(closed, 0.5), concentration.masked_fill(closed, 1.0), total.contiguous())
        each = torch._dirichlet_grad(*(tensor.cpu() for tensor in safe)).to(grad).masked_fill_(closed, 0.0)
        return each * (grad - (drawn * grad).sum(-1, keepdim=True)), None
