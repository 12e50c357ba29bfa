"""What a search costs, for its record: counted stage by stage.

A search that is not in stages has one. The supernets of finished stages are made again, with the operations that each
had: their shapes are all that counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cscdarts.data.source import Batch, DataSet
from cscdarts.errors import UserError
from cscdarts.kernels.batch_norm import frozen_statistics
from cscdarts.models.cost import supernet_cost
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig
from cscdarts.spaces.rules import Columns, open_columns
from cscdarts.training.bilevel import only_gradients_of
from cscdarts.training.build import build_supernet
from cscdarts.training.memory import saved_bytes

StageCost = dict[str, float]


def stage_costs(
    config: RunConfig, data: DataSet, present: Supernet, alpha_lines: Sequence[Mapping[str, Any]], batch: Batch
) -> list[StageCost]:
    """Of each stage `search_cells`, `supernet_params_m`, `supernet_macs_m`, `memory_access_mb` of a batch, and
    `saved_mb`, what is kept for the backward pass of a weight step on it.

    Args:
        present: the supernet of the last stage.
        alpha_lines: the lines of `alphas.jsonl`, which tell what the edges chose among before.

    Errors:
        UserError: they have none of a stage.
    """
    device, columns = next(present.parameters()).device, _finished(config, alpha_lines)
    found = []
    for number, its in enumerate([*columns, present.columns]):
        last = number == len(columns)
        supernet = present if last else build_supernet(config, data, device, number, its)
        if config.supernet.split_pick == "random" and not last:
            supernet.draw_channels(torch.Generator())
        cells = config.at_stage(number).supernet
        cost = supernet_cost(
            cells, config.identity_in("search"), data.classes, data.channels, data.size, config.search.batch_size, its
        )
        found.append(
            {
                "search_cells": float(cells.cells),
                "supernet_params_m": cost.params / 1e6,
                "supernet_macs_m": cost.macs / 1e6,
                "memory_access_mb": cost.memory_access_bytes / 1e6,
                "saved_mb": _saved_bytes(supernet, batch) / 1e6,
            }
        )
    return found


def dearest(stages: Sequence[StageCost]) -> StageCost:
    """Of each number that is a cost the largest of all stages."""
    return {name: max(stage[name] for stage in stages) for name in stages[0] if name != "search_cells"}


def _finished(config: RunConfig, alpha_lines: Sequence[Mapping[str, Any]]) -> list[Columns]:
    """What the edges chose among in each stage but the last."""
    found: dict[int, Columns] = {}
    for line in alpha_lines:
        alpha = {kind: np.asarray(rows, dtype=np.float64) for kind, rows in line["alpha"].items()}
        found[config.search.stage_of(int(line["epoch"]))] = open_columns(alpha)
    for number in range(config.search.stages - 1):
        if number not in found:
            raise UserError(
                "alphas.jsonl", f"no epoch of stage {number + 1}", "a line for each epoch of the search",
                "Search again.",
            )  # fmt: skip
    return [found[number] for number in range(config.search.stages - 1)]


def _saved_bytes(supernet: Supernet, batch: Batch) -> int:
    with only_gradients_of(list(supernet.parameters()), supernet.weights()), frozen_statistics(supernet):
        return saved_bytes(supernet, lambda: torch.nn.functional.cross_entropy(supernet(batch[0]), batch[1]), batch)
