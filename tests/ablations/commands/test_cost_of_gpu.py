"""`cscdarts cost --device cuda`: what the steps ask of a GPU, told without one."""

import json
from typing import Any

import pytest

from ablations import cli
from cscdarts.forecast.gpus import GPUS, OUTSIDE_BYTES
from cscdarts.forecast.steps import Images, plain_search_steps, search_steps
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values

SIZE = ("--channels", "4", "--cells", "1", "--image-size", "8", "--batch", "4", "--space", "nasbench201")


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(["cost", *words])
    assert not end.value.code
    return capsys.readouterr().out


def values(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(capsys, *words, "--device", "cuda", "--json"))
    return found


def test_each_step_of_a_search_is_told_beside_the_same_edge_by_edge(capsys: pytest.CaptureFixture[str]) -> None:
    found = values(capsys, *SIZE, "--split-ratio", "1")
    sizes = {"space": "nasbench201", "channels": 4, "cells": 1, "split_ratio": "1", "identity": "none"}
    config = with_values(RunConfig(), {f"supernet.{name}": value for name, value in sizes.items()})
    ours, plain = (steps(config, Images(10, 3, 8, 4)) for steps in (search_steps, plain_search_steps))
    assert list(found["steps"]) == ["weight", "alpha_1st", "alpha_2nd"]
    for name, step in found["steps"].items():
        counted = ours[name].counted
        assert (step["launches"], step["host_waits"], step["flops"]) == (counted.launches, 0, counted.flops)
        assert step["launches_share"] == counted.launches / plain[name].counted.launches < 1
        assert step["saved_mb"] == counted.saved / 1e6
        assert step["saved_share"] < 1
        assert set(step["step_s"]) == set(GPUS)
    peak = max(cost.peak for cost in ours.values())
    assert found["peak_mb"] == peak / 1e6
    assert found["gpu_memory_gb"] == pytest.approx((peak + OUTSIDE_BYTES) / 1e9)
    assert found["batch"] == 4
    half = values(capsys, *SIZE, "--precision", "bf16")
    assert half["precision"] == "bf16"


def test_a_retraining_is_told_too_and_people_read_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    cell = ("--genotype", "DARTS_V2", "--channels", "4", "--cells", "3", "--image-size", "8", "--batch", "4")
    (step,) = values(capsys, *cell)["steps"].values()
    assert step["launches"] > 100
    text = told(capsys, *cell, "--device", "cuda")
    assert "launches" in text
    assert "s on A100" in text
    assert "(estimate)" in text


def test_a_precision_is_a_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["cost", *SIZE, "--precision", "bf16"])
    assert end.value.code == 2
    assert "--precision: 'bf16' is not valid" in capsys.readouterr().err
