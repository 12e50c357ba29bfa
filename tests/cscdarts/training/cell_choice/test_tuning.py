"""Derivation by perturbation on a real supernet: what it decides, and that an interruption changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cscdarts.errors import Stopped
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.training.cell_choice import tuning
from cscdarts.training.cell_choice.derive import derive
from cscdarts.training.search import search


def config(**values: Any) -> RunConfig:
    """One epoch of one step, three operations, one epoch of tuning after each decision."""
    sizes = {
        "supernet.space": "nasbench201",
        "supernet.ops": ["skip_connect", "nor_conv_1x1", "nor_conv_3x3"],
        "supernet.channels": 4,
        "supernet.cells": 1,
        "data.search_fraction": 0.02,
        "search.epochs": 1,
        "search.batch_size": 8,
        "search.derive_finetune": 1,
        "runtime.device": "cpu",
        "runtime.threads": 1,
    }
    return with_values(apply_preset(protocol("quickstart", "smoke"), "darts-pt"), sizes | values)


def searched(path: Path, settings: RunConfig) -> RunFolder:
    """A folder with the finished search."""
    torch.set_num_threads(1)
    folder = RunFolder(path)
    folder.create(settings)
    search(settings, folder)
    return folder


def found(folder: RunFolder) -> dict[str, Any]:
    return dict(read_json(folder.file("genotype.json")) or {})


def after(calls: int) -> Callable[[], bool]:
    """A wish to stop at the n-th time of asking, once."""
    left = calls

    def stop() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    return stop


def test_it_is_the_cell_of_its_decisions_and_an_interruption_changes_nothing(tmp_path: Path) -> None:
    settings = config()
    whole = searched(tmp_path / "whole", settings)
    said: list[str] = []
    derive(settings, whole, report=said.append)
    record = found(whole)
    assert record["rule"] == "perturbation"
    assert "6 decisions by removal, 1 epochs of training" in record["why"]
    assert 0 <= record["values"]["derived_valid_error_pct"] <= 100
    assert any("6 of 6 decisions" in line for line in said)
    assert not list(whole.path.glob("perturbation*"))
    parts = searched(tmp_path / "parts", settings)
    for calls in (3, 9, 14):
        with pytest.raises(Stopped):
            derive(settings, parts, after(calls))
    assert not parts.has("genotype")
    assert found(parts) == {}
    derive(settings, parts)
    assert {**found(parts)} == record
    assert str(derive(settings, parts)) == record["text"]  # what is there is read


def test_without_tuning_the_weights_stay_and_with_it_they_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[float] = []
    kept = tuning._TunedSupernet.train

    def train(self: Any, decision: int) -> None:
        before = torch.cat([weight.detach().flatten() for weight in self.run.weights])
        kept(self, decision)
        after = torch.cat([weight.detach().flatten() for weight in self.run.weights])
        moved.append(float((after - before).norm()))

    monkeypatch.setattr(tuning._TunedSupernet, "train", train)
    still = config(**{"search.derive_finetune": 0})
    derive(still, searched(tmp_path / "still", still))
    assert moved == [0.0] * 6
    moved.clear()
    derive(config(), searched(tmp_path / "tuned", config()))
    assert min(moved) > 0
    assert len(moved) == 6
