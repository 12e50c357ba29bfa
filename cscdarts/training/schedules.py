"""What changes with the epoch: learning rates, the identity's scale, drop-path."""

import math

from cscdarts.settings.config import EvaluationConfig, RunConfig, SearchConfig


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


def temperature(search: SearchConfig, epoch: int) -> float:
    """Temperature of a Gumbel weighting: in equal steps from the first epoch's to the last one's (GDAS: 10 to 0.1)."""
    if search.epochs == 1:
        return search.temperature
    return search.temperature + (search.temperature_end - search.temperature) * epoch / (search.epochs - 1)


def alpha_noise(search: SearchConfig, epoch: int) -> float:
    """Half the width of the noise on alpha, 0.03 + (s - 0.03) e / E (xiangning-chen/SmoothDARTS `train_search.py`); 0
    without noise."""
    size = search.alpha_noise
    start = min(0.03, size)
    return start + (size - start) * epoch / search.epochs


def penalty_weight(search: SearchConfig, epoch: int) -> float:
    """Weight of the penalty on alpha: constant, or w e / E (beta-DARTS)."""
    return search.penalty_weight * (epoch / search.epochs if search.penalty_rise == "linear" else 1.0)


def skip_dropout(search: SearchConfig, epoch: int) -> float:
    """Probability that an edge goes without its skip connection: p (1 - (e + 1) / E) while alpha waits, then
    p exp(-0.2 (e - warmup)) (chenxin061/pdarts `train_search.py`)."""
    warmup = search.alpha_warmup or 0
    if epoch < warmup:
        return search.skip_dropout * (1 - (epoch + 1) / search.epochs)
    return search.skip_dropout * math.exp(-0.2 * (epoch - warmup))
