"""One epoch of retraining and one of search, written out: loops, formulas and `torch.autograd.grad`, nothing of
`cscdarts.training`.

The networks are taken as given (they have a reference of their own); what is written out here is everything around
them: which image comes when and how it is changed, losses, gradients, clipping, SGD, Adam, schedules, and the two-level
step of the search. Slow and plain on purpose. All in float64.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


def seeded(*keys: object) -> torch.Generator:
    """A generator seeded by the first 63 bits of SHA-256 over the keys, joined by `/`."""
    digest = hashlib.sha256("/".join(map(str, keys)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") // 2)


# --- data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """Images (n, c, h, w) in 0..255, labels (n,), and the mean and deviation of each channel in units of [0, 1]."""

    images: Tensor
    labels: Tensor
    mean: Sequence[float]
    std: Sequence[float]

    def normalised(self, image: Tensor) -> Tensor:
        """(c, h, w) -> float64 (c, h, w); the division by 255 is in float32, as pixels are held."""
        units = (image.float() / 255).double()
        return torch.stack([(units[k] - self.mean[k]) / self.std[k] for k in range(len(units))])


def augmented(
    pictures: Pictures, rows: Sequence[int], draws: torch.Generator, padding: int, flip: bool, cutout: int
) -> Tensor:
    """The images of some rows, each cropped, mirrored, normalised and cut out by its own draws."""
    n, (_, h, w) = len(rows), pictures.images.shape[1:]
    shifts = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=draws) if padding else torch.zeros(2, n, 1).long()
    mirrored = (torch.rand(n, generator=draws) < 0.5).tolist() if flip else [False] * n
    centres = [torch.randint(0, side, (n, 1, 1), generator=draws) if cutout else None for side in (h, w)]
    found = []
    for k, row in enumerate(rows):
        padded = torch.zeros(pictures.images.shape[1], h + 2 * padding, w + 2 * padding, dtype=torch.uint8)
        padded[:, padding : padding + h, padding : padding + w] = pictures.images[row]
        top, left = int(shifts[0, k]), int(shifts[1, k])
        image = padded[:, top : top + h, left : left + w]
        if mirrored[k]:
            image = torch.stack([image[:, :, w - 1 - x] for x in range(w)], dim=2)
        image = pictures.normalised(image)
        if cutout:
            y, x = (int(centre[k]) for centre in centres if centre is not None)
            image[
                :,
                max(0, y - cutout // 2) : max(0, y + cutout // 2),
                max(0, x - cutout // 2) : max(0, x + cutout // 2),
            ] = 0
        found.append(image)
    return torch.stack(found)


def batches(
    pictures: Pictures, seed: int, stream: str, epoch: int, size: int, padding: int, flip: bool, cutout: int
) -> list[tuple[Tensor, Tensor]]:
    """An epoch's batches: a new order each epoch, an incomplete last batch left out."""
    order = torch.randperm(len(pictures.labels), generator=seeded(seed, stream, "order", epoch)).tolist()
    found = []
    for step in range(len(order) // size):
        rows = order[step * size : (step + 1) * size]
        draws = seeded(seed, stream, "augment", epoch, step)
        found.append((augmented(pictures, rows, draws, padding, flip, cutout), pictures.labels[rows]))
    return found


# --- losses and optimisers ----------------------------------------------------------------------


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean of -(1 - s) log p[y] - s / k * sum over classes of log p."""
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    right = torch.stack([logs[k, int(y)] for k, y in enumerate(labels)])
    return (-(1 - smoothing) * right - smoothing * logs.mean(1)).mean()


def clipped(grads: Sequence[Tensor], limit: float) -> list[Tensor]:
    """All gradients times limit / norm, where the norm over all of them is above the limit."""
    norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
    return [g * (limit / (norm + 1e-6)) if norm > limit else g for g in grads]


@dataclass
class SGD:
    """d = g + decay * w; b = momentum * b + d (b = d the first time); step b, or d + momentum * b with Nesterov."""

    momentum: float
    nesterov: bool
    weight_decay: float
    buffers: dict[int, Tensor] = field(default_factory=dict)

    def direction(self, weights: Sequence[Tensor], grads: Sequence[Tensor], keep: bool = True) -> list[Tensor]:
        """What the learning rate multiplies in the next step; `keep=False` only looks ahead."""
        found = []
        for k, (w, g) in enumerate(zip(weights, grads, strict=True)):
            d = g + self.weight_decay * w.detach()
            buffer = self.momentum * self.buffers[k] + d if k in self.buffers else d
            if keep:
                self.buffers[k] = buffer
            found.append(d + self.momentum * buffer if self.nesterov else buffer)
        return found


@dataclass
class Adam:
    """Kingma and Ba 2015 with the decay added to the gradient."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    count: int = 0
    first: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)

    def step(self, parameters: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
        """One step, in place."""
        self.count += 1
        if not self.first:
            self.first = [torch.zeros_like(p) for p in parameters]
            self.second = [torch.zeros_like(p) for p in parameters]
        one, two = self.betas
        for k, (p, g) in enumerate(zip(parameters, grads, strict=True)):
            decayed = g + self.weight_decay * p.detach()
            self.first[k] = one * self.first[k] + (1 - one) * decayed
            self.second[k] = two * self.second[k] + (1 - two) * decayed**2
            mean, square = self.first[k] / (1 - one**self.count), self.second[k] / (1 - two**self.count)
            p.data -= self.lr * mean / (square.sqrt() + 1e-8)


def learning_rate(recipe: Any, epoch: int) -> float:
    """The published schedules: cosine, linear or x gamma, after a linear warm-up."""
    if epoch < recipe.warmup_epochs:
        return float(recipe.lr * (epoch + 1) / recipe.warmup_epochs)
    if recipe.schedule == "cosine":
        share = 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
        return float(recipe.lr_min + (recipe.lr - recipe.lr_min) * share)
    if recipe.schedule == "linear":
        return float(recipe.lr_min + (recipe.lr - recipe.lr_min) * (recipe.epochs - epoch) / recipe.epochs)
    return float(recipe.lr * recipe.lr_gamma**epoch)


# --- retraining ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Retraining:
    """The terms of the retraining recipe."""

    seed: int
    epochs: int
    batch_size: int
    lr: float
    lr_min: float
    schedule: str
    lr_gamma: float
    warmup_epochs: int
    momentum: float
    nesterov: bool
    weight_decay: float
    grad_clip: float
    label_smoothing: float
    auxiliary: float
    drop_path: float
    accumulate: int
    crop_padding: int
    flip: bool
    cutout: int


def retrain_epoch(
    network: nn.Module, pictures: Pictures, recipe: Retraining, optimizer: SGD, epoch: int
) -> tuple[float, float]:
    """Train one epoch, in place; mean loss (of the main head) and error in percent of what was trained on."""
    network.train()
    weights = list(network.parameters())
    network.dropper.probability = recipe.drop_path * epoch / recipe.epochs  # type: ignore[union-attr]
    losses, wrong, seen = [], 0, 0
    found = batches(
        pictures, recipe.seed, "train", epoch, recipe.batch_size, recipe.crop_padding, recipe.flip, recipe.cutout
    )
    for step, (images, labels) in enumerate(found):
        network.dropper.generator = seeded(recipe.seed, "drop-path", epoch, step)  # type: ignore[union-attr]
        size = recipe.batch_size // recipe.accumulate
        sums = [torch.zeros_like(w) for w in weights]
        for first in range(0, recipe.batch_size, size):
            x, y = images[first : first + size], labels[first : first + size]
            logits, auxiliary = network(x)
            loss = cross_entropy(logits, y, recipe.label_smoothing)
            total = loss + recipe.auxiliary * cross_entropy(auxiliary, y, recipe.label_smoothing)
            grads = torch.autograd.grad(total, weights)
            sums = [s + g / recipe.accumulate for s, g in zip(sums, grads, strict=True)]
            losses.append(float(loss.detach()))
            wrong += sum(int(row.argmax()) != int(answer) for row, answer in zip(logits, y, strict=True))
            seen += len(y)
        lr = learning_rate(recipe, epoch)
        for w, d in zip(weights, optimizer.direction(weights, clipped(sums, recipe.grad_clip)), strict=True):
            w.data -= lr * d
    return sum(losses) / len(losses), 100 * wrong / seen


# --- search -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Searching:
    """The terms of the search recipe; `alpha_half` and `weight_half` name the half that each learns from."""

    seed: int
    epochs: int
    batch_size: int
    lr: float
    lr_min: float
    momentum: float
    nesterov: bool
    weight_decay: float
    grad_clip: float
    order: int
    xi: float | str
    eps: float
    alpha_lr: float
    alpha_betas: tuple[float, float]
    alpha_weight_decay: float
    alpha_warmup: int
    identity_decay: str
    accumulate: int
    crop_padding: int
    flip: bool
    schedule: str = "cosine"
    warmup_epochs: int = 0
    alpha_half: str = "alphas"
    weight_half: str = "weights"


Loss = Callable[[Tensor, Tensor], Tensor]


def mean_gradients(loss: Loss, batch: tuple[Tensor, Tensor], parameters: Sequence[Tensor], parts: int) -> list[Tensor]:
    """Gradients of the mean loss over a batch that is passed in parts."""
    images, labels = batch
    size = len(labels) // parts
    sums = [torch.zeros_like(p) for p in parameters]
    for first in range(0, len(labels), size):
        part = loss(images[first : first + size], labels[first : first + size])
        grads = torch.autograd.grad(part, parameters, allow_unused=True)
        sums = [s if g is None else s + g / parts for s, g in zip(sums, grads, strict=True)]
    return sums


def architecture_gradient(
    loss: Loss, weights: Sequence[Tensor], alphas: Sequence[Tensor], train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor], recipe: Searching, lr: float, optimizer: SGD,
) -> list[Tensor]:  # fmt: skip
    """Liu et al. 2019, equations 7 and 8; the weights come back as they were."""
    if recipe.order == 1:
        return mean_gradients(loss, valid, alphas, recipe.accumulate)
    xi = lr if recipe.xi == "lr" else float(recipe.xi)
    start = [w.detach().clone() for w in weights]
    direction = optimizer.direction(weights, mean_gradients(loss, train, weights, recipe.accumulate), keep=False)
    for w, d in zip(weights, direction, strict=True):
        w.data -= xi * d
    outer = mean_gradients(loss, valid, alphas, recipe.accumulate)
    v = mean_gradients(loss, valid, weights, recipe.accumulate)
    distance = recipe.eps / math.sqrt(sum(float((part * part).sum()) for part in v))
    sides = []
    for sign in (1, -1):
        for w, value, part in zip(weights, start, v, strict=True):
            w.data = value + sign * distance * part
        sides.append(mean_gradients(loss, train, alphas, recipe.accumulate))
    for w, value in zip(weights, start, strict=True):
        w.data = value
    # The unrolled step holds the gradient once, with Nesterov 1 + momentum times.
    reach = xi * (1 + optimizer.momentum) if optimizer.nesterov else xi
    return [g - reach * (plus - minus) / (2 * distance) for g, plus, minus in zip(outer, *sides, strict=True)]


def search_epoch(
    supernet: nn.Module, halves: dict[str, Pictures], recipe: Searching, optimizer: SGD, adam: Adam, epoch: int,
    identity_scale: float,
) -> None:  # fmt: skip
    """Search one epoch, in place."""
    supernet.train()
    weights, alphas = supernet.weights(), supernet.architecture()  # type: ignore[operator]
    decay = 1 - epoch / recipe.epochs if recipe.identity_decay == "linear" else 1.0
    supernet.identity_scale = identity_scale * decay  # type: ignore[assignment]

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(supernet(images), labels)

    lr = learning_rate(recipe, epoch)
    sizes = (recipe.batch_size, recipe.crop_padding, recipe.flip, 0)  # no cutout in the search
    streams = {name: batches(half, recipe.seed, name, epoch, *sizes) for name, half in halves.items()}
    for train, valid in zip(streams[recipe.weight_half], streams[recipe.alpha_half], strict=True):
        if epoch >= recipe.alpha_warmup:
            statistics = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
            grads = architecture_gradient(loss, weights, alphas, train, valid, recipe, lr, optimizer)
            for name, buffer in supernet.named_buffers():  # passes at other weights leave the statistics alone
                buffer.copy_(statistics[name])
            adam.step(alphas, grads)
        grads = clipped(mean_gradients(loss, train, weights, recipe.accumulate), recipe.grad_clip)
        for w, d in zip(weights, optimizer.direction(weights, grads), strict=True):
            w.data -= lr * d
