"""The stages of a search as numbers: cells, epochs and operations of each, and which operations are dropped."""

import math
from typing import Any

import numpy as np
import pytest

from cscdarts.errors import UserError
from cscdarts.forecast.runs import search_forecast
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.optimiser_recipes import PROFILES
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.spaces import NASBENCH201
from cscdarts.spaces.rules import derive_capped, open_columns, strongest_columns
from cscdarts.spaces.space import CLOSED
from cscdarts.training import schedules


def pdarts(name: str = "cifar10", scale: str = "paper", **values: Any) -> RunConfig:
    return with_values(apply_preset(protocol(name, scale), "pdarts"), values)


def cells(config: RunConfig) -> list[int]:
    return [config.at_stage(number).supernet.cells for number in range(config.search.stages)]


def left(config: RunConfig) -> list[int]:
    ops = config.supernet.ops or ()
    return [config.search.candidates_in(number, len(ops)) for number in range(config.search.stages)]


def test_the_papers_stages_at_the_papers_scale() -> None:
    """Chen et al. 2019, section 4.2; chenxin061/pdarts train_search.py."""
    config = pdarts()
    search = config.search
    assert (cells(config), left(config)) == ([5, 11, 17], [8, 5, 3])
    assert (search.stages, search.epochs_of_stage, search.all_epochs, search.alpha_warmup) == (3, 25, 75, 10)
    assert (search.stage_skip_dropout, search.derive, search.derive_skips) == ((0.0, 0.4, 0.7), "skip-cap", 2)
    assert (search.order, search.alpha_weight_decay, config.supernet.channels) == (1, 1e-3, 16)
    profile = {"search.batch_size": 96, "search.lr": 0.025, "search.lr_min": 0.0, "search.alpha_lr": 6e-4}
    assert dict(PROFILES["pdarts"]) == profile


@pytest.mark.parametrize(
    ("name", "scale", "depth", "operations", "epochs", "warmup"),
    [
        ("nasbench201", "paper", [3, 7, 11], [5, 4, 3], 25, 10),
        ("cifar10", "reduced", [3, 7, 11], [8, 5, 3], 7, 2),
        ("cifar10", "smoke", [3, 4, 6], [8, 5, 3], 1, 0),
        ("quickstart", "reduced", [1, 1, 2], [5, 4, 3], 5, 2),
        ("imagenet-direct", "paper", [5, 11, 17], [8, 5, 3], 25, 10),
    ],
)
def test_other_scales_keep_the_shares(
    name: str, scale: str, depth: list[int], operations: list[int], epochs: int, warmup: int
) -> None:
    config = pdarts(name, scale)
    assert (cells(config), left(config)) == (depth, operations)
    assert (config.search.epochs_of_stage, config.search.alpha_warmup) == (epochs, warmup)


def test_epochs_know_their_stage() -> None:
    search = pdarts().search
    assert [search.stage_of(epoch) for epoch in (0, 24, 25, 49, 50, 74, 75)] == [0, 0, 1, 1, 2, 2, 2]
    assert search.first_of_last_stage == 50
    assert with_values(pdarts(), {"search.epochs": 20}).search.alpha_warmup == 4


def test_a_search_of_one_stage_is_the_run_itself() -> None:
    config = apply_preset(protocol("cifar10", "paper"), "darts1")
    assert config.at_stage(0) == config
    assert (config.search.all_epochs, config.search.first_of_last_stage) == (50, 0)
    dropping = with_values(config, {"search.stage_candidates": 3})
    assert left(dropping) == [8]
    assert dropping.at_stage(0) == config


def test_another_preset_takes_the_stages_away() -> None:
    base = protocol("cifar10", "paper")
    for other in ("darts1", "csc", "pcdarts", "random-ws"):
        again = apply_preset(with_values(apply_preset(base, "pdarts"), {"search.derive": "last"}), other)
        derived = {"search.derive_skips": 2}
        assert search_key(again) == search_key(with_values(apply_preset(base, other), derived)), other


def test_the_skips_rate_falls_within_a_stage_and_rises_from_one_to_the_next() -> None:
    config = pdarts()
    rates = [
        [schedules.skip_dropout(config.at_stage(number).search, epoch) for epoch in (0, 9, 10, 15)]
        for number in range(3)
    ]
    assert rates[0] == [0.0] * 4
    for p, found in zip((0.4, 0.7), rates[1:], strict=True):
        assert found == pytest.approx([p * 24 / 25, p * 15 / 25, p, p * math.exp(-1)])


def test_the_weakest_operations_of_each_edge_are_dropped_and_of_equals_the_earlier() -> None:
    alpha = {"cell": np.array([[0.3, 0.1, 0.5, 0.2, 0.4], [0.0, 0.0, 0.0, 0.0, 0.0], [CLOSED, 0.1, CLOSED, 0.3, -2.0]])}
    assert open_columns(alpha)["cell"] == [(0, 1, 2, 3, 4), (0, 1, 2, 3, 4), (1, 3, 4)]
    assert strongest_columns(alpha, 4)["cell"] == [(0, 2, 3, 4), (1, 2, 3, 4), (1, 3, 4)]
    assert strongest_columns(alpha, 3)["cell"] == [(0, 2, 4), (2, 3, 4), (1, 3, 4)]
    assert strongest_columns(alpha, 2)["cell"] == [(2, 4), (3, 4), (1, 3)]


def test_a_capped_skip_is_not_replaced_by_an_operation_that_was_dropped() -> None:
    ops = NASBENCH201.ops
    alpha = np.full((6, 5), CLOSED)
    alpha[:, ops.index("skip_connect")] = 1.0
    alpha[1:, ops.index("nor_conv_3x3")] = 0.0
    with pytest.raises(UserError, match="Edge 0 to 1 has no other one"):
        derive_capped(NASBENCH201, ops, {"cell": alpha}, None, 0)
    kept, removed = derive_capped(NASBENCH201, ops, {"cell": alpha}, None, 1)
    assert [edge.op for edge in kept["cell"]].count("nor_conv_3x3") == 5
    assert len(removed) == 5


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"search.stage_cells": "0.5,1"}, r"stage_cells=\(0\.5, 1\.0\) with stages=3: one number for each stage"),
        ({"search.stage_cells": "0,1,1"}, "shares of supernet.cells above 0"),
        ({"search.stage_skip_dropout": "0,0.5,1"}, "probabilities from 0 to below 1"),
        ({"search.strategy": "random-ws"}, "drop operations by alpha"),
        ({"search.alpha_warmup": 25}, "leaves no epoch of the 25 of each stage"),
        ({"search.stage_candidates": 1}, "a whole number from 2 to 64"),
    ],
)
def test_stages_that_cannot_be_are_refused_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pdarts(**values)


def test_a_forecast_counts_each_stage_and_tells_the_largest() -> None:
    small = {"data.dataset": "cifar10", "supernet.cells": 2, "supernet.channels": 4, "search.batch_size": 64}
    config = with_values(pdarts("cifar10", "smoke"), {**small, "search.epochs": 10, "data.search_fraction": 1.0})
    found = search_forecast(config)
    assert found is not None
    steps = 25_000 // 64
    assert {name: often for name, often in found.times.items() if name.startswith(("weight", "alpha"))} == {
        **{f"weight of stage {number}": 5 * steps for number in (1, 2, 3)},
        **{f"alpha_1st of stage {number}": 3 * steps for number in (1, 2, 3)},
    }
    peaks = []
    for number, operations in enumerate(left(config)):
        ops = ("sep_conv_5x5", "dil_conv_5x5", "sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3")[:operations]
        ops = config.supernet.ops if operations == 8 else ops  # type: ignore[assignment]
        alone = search_forecast(with_values(config.at_stage(number), {"supernet.ops": sorted(ops, key=_place)}))
        assert alone is not None
        peaks.append(alone.peak)
    assert found.peak == max(peaks)


def _place(op: str) -> int:
    return RunConfig().supernet.ops.index(op)  # type: ignore[union-attr]
