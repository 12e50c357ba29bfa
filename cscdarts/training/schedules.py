"""What changes with the epoch: learning rates, the identity's scale, drop-path."""

import math

from cscdarts.settings.config import EvaluationConfig, RunConfig


def cosine_lr(first: float, last: float, epoch: int, epochs: int) -> float:
    """Learning rate at an epoch: last + (first - last) * (1 + cos(pi * epoch / epochs)) / 2."""
    return last + (first - last) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def evaluation_lr(settings: EvaluationConfig, epoch: int) -> float:
    """Learning rate of a retraining epoch: cosine, linear or exponential, after a linear rise over `warmup_epochs`."""
    if epoch < settings.warmup_epochs:
        return settings.lr * (epoch + 1) / settings.warmup_epochs
    if settings.schedule == "cosine":
        return cosine_lr(settings.lr, settings.lr_min, epoch, settings.epochs)
    if settings.schedule == "linear":
        return settings.lr_min + (settings.lr - settings.lr_min) * (1 - epoch / settings.epochs)
    return settings.lr * settings.lr_gamma**epoch


def identity_scale(config: RunConfig, epoch: int) -> float:
    """The identity's scale at a search epoch: constant, or linear to 0 at the end (DARTS- `src/utils.py`)."""
    scale = config.supernet.identity_scale
    if config.supernet.identity_decay == "linear":
        scale *= 1 - epoch / config.search.epochs
    return scale


def drop_path(settings: EvaluationConfig, epoch: int) -> float:
    """Drop-path probability of a retraining epoch: rises linearly from 0 (quark0/darts `cnn/train.py`)."""
    return settings.drop_path * epoch / max(1, settings.epochs)
