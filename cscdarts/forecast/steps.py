"""The steps of a search and of a retraining, taken on the meta device: what each asks of a GPU, without one.

Ours are the steps of `cscdarts.training` on `Supernet` and `Network`, whatever path these take off the CPU; beside them
the same steps of the models that compute edge by edge (`cscdarts.models.reference`, `reference_network`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.forecast.counting import Counted, counting
from cscdarts.forecast.half_precision import in_precision
from cscdarts.models.network import Network
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.reference_network import ReferenceNetwork
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import EvaluationConfig, RunConfig
from cscdarts.spaces import Genotype, is_large
from cscdarts.training import reference_steps
from cscdarts.training.bilevel import ArchitectureStep
from cscdarts.training.distributed import World
from cscdarts.training.gradients import SupernetGradients, full
from cscdarts.training.resumable import sgd
from cscdarts.training.schedules import drop_path

SearchStep = Literal["weight", "alpha_1st", "alpha_2nd", "alpha_exact", "validation"]
SEARCH_STEPS: tuple[SearchStep, ...] = ("weight", "alpha_1st", "alpha_2nd")
#: 8 buffers of 4 MiB that cuBLAS keeps in deterministic mode (`CUBLAS_WORKSPACE_CONFIG=:4096:8`).
CUBLAS_BYTES = 8 * 4 * 2**20


@dataclass(frozen=True)
class Images:
    """What a step is given.

    Attributes:
        classes: number of classes.
        channels: of an image.
        size: side in pixels.
        batch: images in a batch.
    """

    classes: int
    channels: int
    size: int
    batch: int

    def tensors(self) -> tuple[Tensor, Tensor]:
        """A batch of images and labels on the meta device."""
        shape = (self.batch, self.channels, self.size, self.size)
        return torch.empty(shape, device="meta"), torch.zeros(self.batch, dtype=torch.long, device="meta")


@dataclass(frozen=True)
class StepCost:
    """What one step asks of a GPU, in bytes where nothing else is said.

    Attributes:
        counted: launches, waits, FLOPs, bytes moved, most bytes alive and kept at once.
        params, gradients, optimiser: of all that learns; momentum of SGD and both moments of Adam.
    """

    counted: Counted
    params: int
    gradients: int
    optimiser: int

    @property
    def workspace(self) -> int:
        """What libraries take beside: cuBLAS's buffers, and the largest map of a convolution in another layout."""
        return CUBLAS_BYTES + self.counted.workspace

    @property
    def peak(self) -> int:
        """Most bytes allocated at once, the workspace included; not the CUDA context, which no allocator sees."""
        return self.counted.peak + self.workspace

    def values(self) -> dict[str, float]:
        """As plain numbers, bytes in 10^6."""
        megabytes = {
            "saved_mb": self.counted.saved, "peak_mb": self.peak, "params_mb": self.params,
            "gradients_mb": self.gradients, "optimiser_mb": self.optimiser, "workspace_mb": self.workspace,
            "moved_mb": self.counted.moved,
        }  # fmt: skip
        return {
            **{name: size / 1e6 for name, size in megabytes.items()},
            "launches": self.counted.launches,
            "host_waits": self.counted.host_waits,
            "flops": self.counted.flops,
        }


def search_steps(
    config: RunConfig, images: Images, precision: str = "none", steps: Iterable[SearchStep] = SEARCH_STEPS
) -> dict[str, StepCost]:
    """What each step of a search asks of a GPU; `alpha_exact` differentiates twice, `validation` is a pass of the
    whole supernet over one batch.

    Args:
        config: its supernet, its search's optimisers, accumulation and checkpointing.
        precision: `none`, `bf16` or `fp16`.
    """
    with torch.device("meta"):
        kind = in_precision(Supernet, precision)
        model = kind(
            config.supernet, images.classes, images.channels, config.identity_in("search"), is_large(images.size)
        )
    model.checkpoint_activations(config.search.checkpointing)
    if config.supernet.split_pick == "random":
        model.draw_channels(torch.Generator())
    search = _Search(model, config, images)
    search.gradients.scale = 4096.0 if precision == "fp16" else 1.0
    return {name: search.cost(name) for name in steps}


def plain_search_steps(
    config: RunConfig, images: Images, precision: str = "none", steps: Iterable[SearchStep] = SEARCH_STEPS
) -> dict[str, StepCost]:
    """As `search_steps`, of a supernet that computes edge by edge and steps as public code does."""
    with torch.device("meta"):
        model = in_precision(ReferenceSupernet, precision)(
            config.supernet, images.classes, images.channels, is_large(images.size)
        )
    if config.supernet.split_pick == "random":
        model.draw_channels(torch.Generator())
    return plain_steps_of(model, images, steps)


def plain_steps_of(
    model: ReferenceSupernet, images: Images, steps: Iterable[SearchStep] = SEARCH_STEPS
) -> dict[str, StepCost]:
    """What the steps of a given edge-by-edge supernet on the meta device ask of a GPU."""
    optimiser = torch.optim.SGD(model.weights(), 0.025, 0.9, weight_decay=3e-4)
    held = _Held(model, model.weights(), optimiser)
    train, valid = images.tensors(), images.tensors()
    run: dict[str, Callable[[], Any]] = {
        "weight": lambda: reference_steps.weight_step(model, train, optimiser),
        "alpha_1st": lambda: reference_steps.first_order_gradient(model, valid),
        "alpha_2nd": lambda: reference_steps.second_order_gradient(model, train, valid, optimiser, 0.025),
    }
    found: dict[str, StepCost] = {}
    for name in steps:
        model.zero_grad()
        found[name] = held.cost(run[name], model.architecture(), (*train, *valid))
    return found


def retraining_step(
    genotype: Genotype, evaluation: EvaluationConfig, config: RunConfig, images: Images, precision: str = "none",
    plain: bool = False,
) -> StepCost:  # fmt: skip
    """What a step of a retraining asks of a GPU, in its last epoch, where drop-path is strongest.

    Args:
        evaluation: size and options; `config`: where split and identity come from.
        plain: the network that computes edge by edge in place of ours.
    """
    large, shape = is_large(images.size), (images.classes, images.channels)
    probability = drop_path(evaluation, max(0, evaluation.epochs - 1))
    model: nn.Module
    with torch.device("meta"):
        if plain:
            model = in_precision(ReferenceNetwork, precision)(genotype, evaluation, config.supernet, *shape, large)
            model.drop_path_probability, model.generator = probability, None  # type: ignore[assignment]
        else:
            identity = config.identity_in("eval")
            model = in_precision(Network, precision)(genotype, evaluation, config.supernet, identity, *shape, large)
            model.dropper.probability = probability
    parameters = list(model.parameters())
    optimiser = sgd(parameters, evaluation)
    batch = images.tensors()
    sums = torch.zeros(3, device="meta")
    scale = 2.0**16 if precision == "fp16" else 1.0

    def step() -> None:
        optimiser.zero_grad()
        for part, answers in zip(batch[0].chunk(evaluation.accumulate), batch[1].chunk(evaluation.accumulate),
                                 strict=True):  # fmt: skip
            logits, auxiliary = model(part)
            total = loss = F.cross_entropy(full(logits), answers, label_smoothing=evaluation.label_smoothing)
            if auxiliary is not None:
                extra = F.cross_entropy(full(auxiliary), answers, label_smoothing=evaluation.label_smoothing)
                total = loss + evaluation.auxiliary * extra
            torch.autograd.backward(scale * total / evaluation.accumulate)
            wrong = (logits.detach().argmax(1) != answers).sum()
            sums.add_(torch.stack([loss.detach() / evaluation.accumulate, wrong, wrong.new_zeros(())]))
        if precision == "fp16":
            # As GradScaler: gradients divided, and one look at whether any has run over.
            grads = [p.grad for p in parameters if p.grad is not None]
            torch._foreach_mul_(grads, 1 / scale)
            bool(torch.isfinite(torch.stack(torch._foreach_norm(grads))).all())
        nn.utils.clip_grad_norm_(parameters, evaluation.grad_clip)
        optimiser.step()

    return _Held(model, parameters, optimiser).cost(step, (), batch)


class _Search:
    """A search's model on the meta device, and its steps as `SearchRun` takes them."""

    def __init__(self, model: Supernet, config: RunConfig, images: Images) -> None:
        self.model, self.config = model, config
        self.weights, self.architecture = model.weights(), model.architecture()
        settings = config.search
        self.optimiser = sgd(self.weights, settings)
        self.adam = torch.optim.Adam(self.architecture, settings.alpha_lr, settings.alpha_betas, foreach=True)
        self.gradients = SupernetGradients(model, model, "none", settings.accumulate, World())
        self.train, self.valid = images.tensors(), images.tensors()
        self.held = _Held(model, self.weights, self.optimiser)

    def cost(self, name: SearchStep) -> StepCost:
        """What one step asks for."""
        run: dict[SearchStep, Callable[[], None]] = {
            "weight": self._weight,
            "alpha_1st": lambda: self._alpha(1),
            "alpha_2nd": lambda: self._alpha(2),
            "alpha_exact": lambda: self._alpha("second-exact"),
            "validation": self._validation,
        }
        return self.held.cost(run[name], self.architecture, (*self.train, *self.valid))

    def _validation(self) -> None:
        self.model.eval()
        with torch.no_grad():
            F.cross_entropy(full(self.model(self.valid[0])), self.valid[1], reduction="sum")
        self.model.train()

    def _weight(self) -> None:
        for parameter, grad in zip(self.weights, self.gradients(self.train, self.weights), strict=True):
            parameter.grad = grad
        nn.utils.clip_grad_norm_(self.weights, self.config.search.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def _alpha(self, order: Literal[1, 2, "second-exact"]) -> None:
        settings = self.config.search.model_copy(update={"order": order})
        step = ArchitectureStep(self.model, settings, self.optimiser, self.gradients)
        for parameter, grad in zip(self.architecture, step.gradient(self.train, self.valid, 0.025), strict=True):
            parameter.grad = grad
        _moments(self.adam, self.architecture)
        self.adam.step()
        self.adam.zero_grad()


class _Held:
    """What is on the device before a step: parameters, buffers, momentum (as from the second step on)."""

    def __init__(self, model: nn.Module, learned: Sequence[nn.Parameter], optimiser: torch.optim.SGD) -> None:
        self.model = model
        optimiser.param_groups[0]["foreach"] = True  # as torch chooses on CUDA
        for parameter in learned if optimiser.param_groups[0]["momentum"] else ():
            optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.momentum = [state["momentum_buffer"] for state in optimiser.state.values()]

    def cost(
        self, step: Callable[[], Any], architecture: Iterable[nn.Parameter], batches: tuple[Tensor, ...]
    ) -> StepCost:
        """Count a step."""
        alphas = list(architecture)
        with counting([*self.model.parameters(), *self.model.buffers(), *self.momentum, *batches]) as counted:
            step()
        params = sum(map(_bytes, self.model.parameters()))
        moments = sum(map(_bytes, self.momentum)) + 2 * sum(map(_bytes, alphas))
        return StepCost(counted, params, params, moments)


def _moments(adam: torch.optim.Adam, parameters: Iterable[nn.Parameter]) -> None:
    """Adam's state as from the second step on; its step counts live on the host."""
    for parameter in parameters:
        adam.state[parameter].update(
            step=torch.tensor(1.0), exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter)
        )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
