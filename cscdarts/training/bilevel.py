"""The architecture step of bilevel search (Liu et al. 2019, equations 5 to 8).

    min_alpha L_val(w*(alpha), alpha),   w* = argmin_w L_train(w, alpha)

One step of the weights, w' = w - xi * d with d the step SGD would take (weight decay and momentum included), stands for
w*:

    g   = grad_alpha L_val(w', alpha) - xi * H v
    v   = grad_w' L_val(w', alpha)
    H v = d/dalpha (grad_w L_train(w, alpha) . v)

`order=1` sets xi = 0; `order=2` takes H v as the two-sided difference

    H v ~ [grad_alpha L_train(w + e v, alpha) - grad_alpha L_train(w - e v, alpha)] / (2 e),   e = eps / ||v||

and `second-exact` differentiates twice. Departures from quark0/darts `cnn/architect.py`: no copy of the model (weights
are perturbed in place and restored bit for bit), passes of the architecture step leave the batch-norm statistics alone,
and with Nesterov momentum m, d contains the gradient 1 + m times, so H v is subtracted xi * (1 + m) times.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from cscdarts.data.source import Batch
from cscdarts.kernels.batch_norm import batch_norms, flag_set
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import SearchConfig
from cscdarts.training.guards.finite import largest


class Gradients(Protocol):
    """Gradients of the mean loss over a batch with respect to some parameters, averaged over all processes.

    Attributes:
        last: the mean loss and the number of wrong answers of the last call.
    """

    last: tuple[Tensor, Tensor] | None

    def __call__(self, batch: Batch, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """One gradient for each parameter."""


@contextmanager
def only_gradients_of(parameters: Sequence[nn.Parameter], chosen: Sequence[nn.Parameter]) -> Iterator[None]:
    """Of a model's parameters let only the chosen ones require gradients, so that a pass keeps nothing for the
    others."""
    wanted = {id(parameter) for parameter in chosen}
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(id(parameter) in wanted)
    try:
        yield
    finally:
        for parameter, flag in zip(parameters, before, strict=True):
            parameter.requires_grad_(flag)


@contextmanager
def restored(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Give the parameters their values back, bit for bit, whatever happens inside; yields those values."""
    with torch.no_grad():
        kept = [torch.empty_like(parameter) for parameter in parameters]
        torch._foreach_copy_(kept, list(parameters))
    try:
        yield kept
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), kept)


@contextmanager
def plain_autograd(supernet: Supernet) -> Iterator[None]:
    """Run the mixed operations on plain autograd, which can be differentiated twice."""
    with flag_set((layer for layer in supernet.modules() if isinstance(layer, MixedOps)), "plain", True):
        yield


class ArchitectureStep:
    """Computes the gradient of the validation loss in the architecture parameters.

    Args:
        supernet: the model; its weights are unchanged after every call.
        config: order, xi and eps.
        optimizer: the weights' SGD, whose momentum buffers enter the unrolled step.
        gradients: computes gradients of the loss (mixed precision, accumulation and processes are its matter).

    Attributes:
        numbers: of the last call of `gradient`, scalars by name in the order of computation: losses, norms and largest
            entries, from which it can be told what was the first not to be finite.
    """

    def __init__(
        self, supernet: Supernet, config: SearchConfig, optimizer: torch.optim.SGD, gradients: Gradients
    ) -> None:
        self.supernet, self.config, self.optimizer, self.gradients = supernet, config, optimizer, gradients
        self.weights, self.architecture = supernet.weights(), supernet.architecture()
        self.tensors: list[Tensor] = [*self.weights]  # the same, as functions of many tensors want them
        self.parameters = [*self.weights, *self.architecture]
        self.names = [f"alphas.{kind}" for kind in supernet.alphas] + [f"betas.{kind}" for kind in supernet.betas]
        self.numbers: dict[str, Tensor] = {}
        self.norms = batch_norms(supernet)  # to go through all modules takes as long as a node's operations

    def gradient(self, train: Batch, valid: Batch, lr: float) -> list[Tensor]:
        """The gradient, one tensor for each architecture parameter.

        Args:
            train, valid: a batch of each half: images (n, c, h, w), labels (n,).
            lr: the weights' present learning rate, which is xi when `xi=lr`.
        """
        self.numbers = {}
        found = self._gradient(train, valid, lr if self.config.xi == "lr" else float(self.config.xi))
        named = dict(zip(self.names, found, strict=True))
        self.numbers |= {f"gradient of {name}": value for name, value in largest(named).items()}
        return found

    def _gradient(self, train: Batch, valid: Batch, xi: float) -> list[Tensor]:
        with flag_set(self.norms, "track", False):
            if self.config.order == 1 or xi == 0:
                return self._passed(valid, self.architecture, "validation loss")
            with restored(self.weights):
                direction, outer = self.look_ahead(train, valid, xi)
            if self.config.order == 2:
                product = self.finite_difference(train, direction)
            else:
                product = self.exact_product(train, direction)
            # With Nesterov momentum m the gradient enters SGD's step 1 + m times.
            group = self.optimizer.param_groups[0]
            reach = xi * (1 + group["momentum"] if group["nesterov"] else 1)
            return [g - reach * p for g, p in zip(outer, product, strict=True)]

    def _passed(self, batch: Batch, parameters: Sequence[nn.Parameter], loss: str) -> list[Tensor]:
        """Gradients, with the loss among the `numbers`."""
        found = self.gradients(batch, parameters)
        assert self.gradients.last is not None
        self.numbers[f"{loss} of the architecture step"] = self.gradients.last[0]
        return found

    def look_ahead(self, train: Batch, valid: Batch, xi: float) -> tuple[list[Tensor], list[Tensor]]:
        """Move the weights to w' and give (v, grad_alpha L_val(w', alpha)); the caller restores the weights."""
        step = self.unrolled_step(train)
        with torch.no_grad():
            torch._foreach_sub_(self.tensors, step, alpha=xi)
        both = self._passed(valid, self.parameters, "validation loss")
        return both[: len(self.weights)], both[len(self.weights) :]

    def unrolled_step(self, train: Batch) -> list[Tensor]:
        """d of w' = w - xi * d: gradient + weight decay + momentum, as SGD's next step would have it."""
        group = self.optimizer.param_groups[0]
        decay, momentum, nesterov = group["weight_decay"], group["momentum"], group["nesterov"]
        step = self._passed(train, self.weights, "training loss")
        with torch.no_grad():
            step = list(torch._foreach_add(step, self.tensors, alpha=decay))
            if momentum:
                buffers = [self.optimizer.state[w].get("momentum_buffer") for w in self.weights]
                moved = step
                if any(b is not None for b in buffers):
                    known = [
                        torch.zeros_like(w) if b is None else b for b, w in zip(buffers, self.weights, strict=True)
                    ]
                    moved = list(torch._foreach_add(step, torch._foreach_mul(known, momentum)))
                step = list(torch._foreach_add(step, torch._foreach_mul(moved, momentum))) if nesterov else moved
        return step

    def finite_difference(self, train: Batch, direction: list[Tensor]) -> list[Tensor]:
        """H v by the two-sided difference at distance eps / ||v||; zero where v is zero."""
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(direction)))
        self.numbers["norm of the validation gradient of the architecture step"] = norm
        distance = torch.where(norm > 0, self.config.eps / norm, torch.zeros_like(norm))
        sides: list[list[Tensor]] = []
        with restored(self.weights) as kept:
            for sign, side in ((1, "ahead"), (-1, "behind")):
                with torch.no_grad():
                    # Always from the kept values: (w + e) - 2e is not w - e in floating point.
                    torch._foreach_copy_(self.tensors, kept)
                    torch._foreach_add_(self.tensors, torch._foreach_mul(direction, distance), alpha=sign)
                sides.append(self._passed(train, self.architecture, f"training loss a step {side}"))
        inverse = torch.where(distance > 0, 1 / (2 * distance), torch.zeros_like(distance))
        return [(ahead - behind) * inverse for ahead, behind in zip(*sides, strict=True)]

    def exact_product(self, train: Batch, direction: list[Tensor]) -> list[Tensor]:
        """H v by differentiating twice; costs the graph of the gradient."""
        with plain_autograd(self.supernet), only_gradients_of(self.parameters, self.parameters):
            loss = nn.functional.cross_entropy(self.supernet(train[0]), train[1])
            first = torch.autograd.grad(loss, self.weights, create_graph=True)
            inner = torch.stack([(g * v).sum() for g, v in zip(first, direction, strict=True)]).sum()
            product = torch.autograd.grad(inner, self.architecture, allow_unused=True)
        return [torch.zeros_like(a) if p is None else p for a, p in zip(self.architecture, product, strict=True)]

    def product_cosine(self, train: Batch, valid: Batch, lr: float) -> float:
        """Cosine between the finite-difference and the exact H v at this point: how far eps can be trusted."""
        with flag_set(self.norms, "track", False):
            with restored(self.weights):
                direction, _ = self.look_ahead(train, valid, lr if self.config.xi == "lr" else float(self.config.xi))
            near = torch.cat([t.flatten() for t in self.finite_difference(train, direction)])
            exact = torch.cat([t.flatten() for t in self.exact_product(train, direction)])
        return float(nn.functional.cosine_similarity(near.double(), exact.double(), dim=0))

    def hessian_eigenvalue(self, valid: Batch, iterations: int = 12) -> float:
        """Largest-magnitude eigenvalue of the Hessian of L_val in alpha by power iteration (Zela et al. 2020)."""
        with (
            flag_set(self.norms, "track", False),
            plain_autograd(self.supernet),
            only_gradients_of(self.parameters, self.architecture),
        ):
            loss = nn.functional.cross_entropy(self.supernet(valid[0]), valid[1])
            first = torch.autograd.grad(loss, self.architecture, create_graph=True)
            flat = torch.cat([g.flatten() for g in first])
            vector = torch.ones_like(flat) / flat.numel() ** 0.5
            value = flat.new_zeros(())
            for _ in range(iterations):
                product = torch.autograd.grad((flat * vector).sum(), self.architecture, retain_graph=True)
                image = torch.cat([p.flatten() for p in product])
                value = torch.dot(vector, image)
                vector = image / image.norm().clamp_min(1e-30)
        return float(value)
