"""The supernet of a run, or of a stage of its search, and what its edges choose among there."""

from collections.abc import Mapping
from typing import Any

import torch

from cscdarts.data.randomness import derived_seed
from cscdarts.data.source import Batch, DataSet
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import SPACES, is_large
from cscdarts.spaces.rules import Columns, open_columns, strongest_columns
from cscdarts.training.resumable import sgd


def build_supernet(
    config: RunConfig, data: DataSet, device: torch.device, stage: int = 0, columns: Columns | None = None
) -> Supernet:
    """The supernet of a run, initialised from the run's seed alone.

    Args:
        stage: of a search in stages, from 0; columns: what its edges choose among, None for all candidates.
    """
    config = config.at_stage(stage)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(config.seed, "supernet", *([stage] if stage else [])))
        supernet = Supernet(
            config.supernet,
            data.classes,
            data.channels,
            config.identity_in("search"),
            large_images=is_large(data.size),
            alpha_std=config.search.alpha_init_std,
            weighting=config.search.weighting,
            columns=columns,
        )
    supernet.checkpoint_activations(config.search.checkpointing)
    supernet.to(device).use(config.runtime.kernels)
    return supernet


def load_kernels(config: RunConfig, data: DataSet, device: torch.device, batch: Batch) -> None:
    """One small step of a supernet that is thrown away: what is loaded on first use is not the search's memory."""
    if device.type != "cpu":
        return
    spare = build_supernet(config, data, device)
    if config.supernet.split_pick == "random":
        spare.draw_channels(torch.Generator())
    images, labels = batch
    torch.nn.functional.cross_entropy(spare(images), labels).backward()  # type: ignore[no-untyped-call]
    sgd(spare.weights(), config.search).step()  # the first step of an optimiser imports much of torch
    torch.optim.Adam(spare.architecture(), 0.1).step()


def next_columns(config: RunConfig, supernet: Supernet, stage: int) -> Columns:
    """What the edges choose among in a stage, from the supernet at the end of the one before; see `candidates_in`."""
    alphas = {kind: alpha.detach().cpu().double().numpy() for kind, alpha in supernet.alphas.items()}
    return strongest_columns(alphas, config.search.candidates_in(stage, len(config.supernet.ops or ())))


def stage_of_state(config: RunConfig, state: Mapping[str, Any]) -> tuple[int, Columns | None]:
    """The stage that a search's state is of, and what its edges choose among; the first where the state does not tell.

    Args:
        state: as a checkpoint holds it; whether it is one of this search is not asked.
    """
    epoch, supernet, space = state.get("epoch"), state.get("supernet"), SPACES[config.supernet.space]
    if not isinstance(epoch, int) or epoch < config.search.epochs_of_stage or not isinstance(supernet, Mapping):
        return 0, None
    named, shape = {}, (len(space.edges), len(config.supernet.ops or ()))
    for kind in space.cell_kinds:
        alpha = supernet.get(f"alphas.{kind}")
        if not isinstance(alpha, torch.Tensor) or alpha.shape != shape:
            return 0, None
        named[kind] = alpha.cpu().double().numpy()
    columns = open_columns(named)
    whole = all(edge for edges in columns.values() for edge in edges)
    return (config.search.stage_of(epoch), columns) if whole else (0, None)
