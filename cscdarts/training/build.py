"""The supernet of a run."""

import torch

from cscdarts.data.randomness import derived_seed
from cscdarts.data.source import DataSet
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import is_large


def build_supernet(config: RunConfig, data: DataSet, device: torch.device) -> Supernet:
    """The supernet of a run, initialised from the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(config.seed, "supernet"))
        supernet = Supernet(
            config.supernet,
            data.classes,
            data.channels,
            config.identity_in("search"),
            large_images=is_large(data.size),
            alpha_std=config.search.alpha_init_std,
            weighting=config.search.weighting,
        )
    supernet.checkpoint_activations(config.search.checkpointing)
    supernet.to(device).use(config.runtime.kernels)
    return supernet
