"""Discrete cells inside the trained supernet: one-hot mixing weights, scored with shared weights."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cscdarts.data.open import open_data
from cscdarts.data.randomness import numpy_generator
from cscdarts.data.source import Source
from cscdarts.errors import BrokenFile
from cscdarts.kernels.batch_norm import frozen_statistics
from cscdarts.models.operations import noises, seed_noise
from cscdarts.models.supernet import Mixing, Supernet
from cscdarts.records.checkpoint import misfit, read_state
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.spaces import Genotype, random_genotype
from cscdarts.training.build import build_supernet, stage_of_state
from cscdarts.training.distributed import World, place, resolve_device
from cscdarts.training.gradients import Precision, autocast, full
from cscdarts.training.schedules import identity_scale

#: Seconds between two words on how far a long scoring is.
_SAY_EVERY = 15


def discrete_mixing(supernet: Supernet, genotype: Genotype) -> Mixing:
    """One-hot mixing weights of a genotype; edges that a cell does not keep weigh 0.

    An operation outside the supernet's candidate set contributes nothing.
    """
    space, ops = supernet.space, supernet.config.ops
    assert ops is not None
    device = next(supernet.parameters()).device
    mixing: Mixing = {}
    for kind in space.cell_kinds:
        rows = np.zeros((len(space.edges), len(ops)), dtype=np.float32)
        for source, target, op in genotype.edges(kind):
            if op in ops:
                rows[space.edges.index((source, target)), ops.index(op)] = 1.0
        mixing[kind] = (torch.from_numpy(rows).to(device), None)
    return mixing


def sample_mixing(supernet: Supernet, draw: np.random.Generator) -> Mixing:
    """One-hot mixing weights of an architecture drawn uniformly."""
    return discrete_mixing(supernet, random_genotype(supernet.space.name, draw))


def error_pct(supernet: Supernet, source: Source, mixing: Mixing, limit: int | None, batch_size: int = 256) -> float:
    """Error in percent of a mixing on a part of the data.

    Normalisation uses the statistics of each batch: the running ones belong to the mixture, not to a single cell. An
    answer that is not finite is a wrong one.

    Args:
        limit: at most this many images, None for all.
    """
    training = supernet.training
    supernet.train()
    seed_noise(noises(supernet), 0)  # the same draws for every cell that is compared
    wrong, seen = torch.zeros((), device=next(supernet.parameters()).device), 0
    with torch.no_grad(), frozen_statistics(supernet):
        for images, labels in source.in_order(batch_size):
            logits = supernet(images, mixing)
            wrong += ((logits.argmax(1) != labels) | ~torch.isfinite(logits).all(1)).sum()
            seen += len(labels)
            if limit is not None and seen >= limit:
                break
    supernet.train(training)
    return 100.0 * float(wrong) / seen


def whole_error(supernet: Supernet, source: Source, batch_size: int, precision: Precision) -> tuple[float, float]:
    """Mean loss and error in percent of the whole supernet on a part of the data, with running statistics."""
    supernet.eval()
    seed_noise(noises(supernet), 0)
    device = next(supernet.parameters()).device
    totals = torch.zeros(3, device=device)
    with torch.no_grad():
        for images, labels in source.in_order(batch_size):
            with autocast(device, precision):
                logits = supernet(images)
            loss = torch.nn.functional.cross_entropy(full(logits), labels, reduction="sum")
            totals += torch.stack([loss, (logits.argmax(1) != labels).sum(), loss.new_tensor(len(labels))])
    supernet.train()
    loss_sum, wrong, count = totals.tolist()
    return loss_sum / count, 100 * wrong / count


def best_sample(config: RunConfig, supernet: Supernet, valid: Source) -> dict[str, Any]:
    """Of `search.random_candidates` drawn cells the one with the lowest validation error under shared weights, the
    first of equals: `genotype`, `candidates`, `candidate_error_pct`."""
    draw = numpy_generator(config.seed, "candidates")
    candidates = [random_genotype(config.supernet.space, draw) for _ in range(config.search.random_candidates)]
    errors = [error_pct(supernet, valid, discrete_mixing(supernet, g), None) for g in candidates]
    best = min(range(len(errors)), key=lambda position: (errors[position], position))
    return {"genotype": str(candidates[best]), "candidates": len(candidates), "candidate_error_pct": errors[best]}


def one_shot_scores(
    config: RunConfig,
    folder: RunFolder,
    genotypes: Sequence[Genotype],
    limit: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> list[float]:
    """Validation accuracy in percent of discrete cells inside the run's trained supernet.

    Args:
        limit: at most this many validation images.
        report: is told now and then how many cells are scored: all 15,625 of a space take minutes.

    Errors:
        UserError: the run has no supernet (its search is not done, or it sampled at random).
    """
    device = resolve_device(config.runtime.device, World())
    state = read_state(folder.file("checkpoint.pt"), device)
    root = Path(config.runtime.data_root)
    data = open_data(
        config.data, config.data.searched_dataset, root, place(device, World()), config.search.batch_size, config.seed
    )
    _, valid = data.halves(config.data)
    supernet = build_supernet(config, data, device, *stage_of_state(config, state))
    why = misfit(state, {"supernet": supernet.state_dict()})
    if why is not None:
        raise BrokenFile(folder.file("checkpoint.pt"), why, "the checkpoint of this run's search", "Search again.")
    supernet.load_state_dict(state["supernet"])
    supernet.identity_scale = identity_scale(config, config.search.epochs_of_stage - 1)
    if config.supernet.split_pick == "random":
        supernet.draw_channels(torch.Generator().manual_seed(0))
    scores, said = [], time.monotonic()
    for genotype in genotypes:
        scores.append(100.0 - error_pct(supernet, valid, discrete_mixing(supernet, genotype), limit))
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            report(f"one-shot scores: {len(scores):,} of {len(genotypes):,} cells")
    return scores
