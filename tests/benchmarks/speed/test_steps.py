"""The steps against the edge-by-edge supernet: same gradients, fewer bytes; and the benchmark command's parts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from ablations.commands.bench import bench
from benchmarks.speed.search import search_share
from benchmarks.speed.steps import (
    BARS,
    Case,
    Pair,
    against_plain_darts,
    data_pipeline,
    draw_growth,
    look_ups,
    retraining,
)
from cscdarts.training import reference_steps

TINY: dict[str, Any] = {"channels": 8, "cells": 3, "batch": 4, "image_size": 8}


def double_pair(case: Case) -> Pair:
    pair = Pair(case)
    pair.plain.double()
    pair.ours.double()
    pair.train, pair.valid = ((images.double(), labels) for images, labels in (pair.train, pair.valid))
    return pair


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("ratio", ["1", "1/4"])
def test_steps_equal_those_of_the_plain_supernet(space: str, ratio: str) -> None:
    """First and second order, with momentum and weight decay, and the weights a step leaves."""
    pair = double_pair(Case(space, ratio, **{**TINY, "cells": 3 if space == "darts" else 1}))
    for _ in range(2):  # the second round has momentum buffers
        pair.plain_step("weight")
        pair.our_step("weight")
        first = reference_steps.first_order_gradient(pair.plain, pair.valid)
        for plain, ours in zip(first, pair.first.gradient(pair.train, pair.valid, 0.025), strict=True):
            assert torch.allclose(plain, ours, rtol=1e-8, atol=1e-10)
        second = reference_steps.second_order_gradient(
            pair.plain, pair.train, pair.valid, pair.sgd[pair.plain], 0.025
        )  # fmt: skip
        for plain, ours in zip(second, pair.second.gradient(pair.train, pair.valid, 0.025), strict=True):
            # A difference of nearly equal numbers: what rounding leaves of 1e-16 / (2 * 0.01) is larger than above.
            assert torch.allclose(plain, ours, rtol=1e-5, atol=1e-8)
    # Both models' last weights, compared through their outputs.
    assert pair.difference() < 1e-9


@pytest.mark.parametrize("which", sorted(BARS))
def test_saved_bytes_stay_within_their_bars(which: tuple[str, str]) -> None:
    space, ratio = which
    case = Case(space, ratio, channels=16, cells=3 if space == "darts" else 2, batch=2, image_size=16)
    saved = Pair(case).saved()
    for kind in ("saved weight", "saved alpha"):
        assert saved[kind] <= BARS[which][kind]


def test_the_benchmark_writes_what_it_measured(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speed.json"
    sizes = ["--channels", "8", "--cells", "3", "--batch", "4", "--image-size", "8", "--rounds", "1"]
    arguments = ["--part", "steps", "--space", "darts", "--step", "weight", "--json", str(path), *sizes]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "faster than plain DARTS" in result.output
    found = json.loads(path.read_text())
    assert [m["case"]["split_ratio"] for m in found["steps"]] == ["1", "1/4"]
    assert all(m["difference"] < 1e-4 and m["steps"]["weight"]["ours_s"] > 0 for m in found["steps"])
    assert found["environment"]["torch"] == torch.__version__


def test_other_parts_measure_something() -> None:
    assert data_pipeline(16, 1)["images_per_s"] > 0
    assert retraining(2, 1, channels=4, cells=3)["step_s"] > 0
    assert look_ups(1)["look_up_s"] > 0


def test_a_search_spends_its_time_in_steps() -> None:
    found = search_share(settings={"supernet.channels": 4, "data.image_size": 8, "search.epochs": 1})
    parts = found["steps_s"] + found["validation_s"] + found["rest_s"]
    assert parts == pytest.approx(found["wall_s"])
    assert min(found.values()) > 0
    assert found["share_pct"] < 100


def test_against_plain_darts_needs_both() -> None:
    assert against_plain_darts([]) == []


def test_a_growth_figure_is_drawn(tmp_path: Path) -> None:
    points = [{"grown": "batch", "value": v, "steps": {"weight": {"plain_s": v, "ours_s": v / 2}}} for v in (8, 16)]
    draw_growth(points, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000
