"""Run folders as version 0.1.0 left them: all files in one folder, one file of epochs, seals with the run's hash."""

import json
from pathlib import Path
from typing import Any

import torch

from ablations.run.stages import STAGES, run_task
from cscdarts.records.checkpoint import read_state, write_sealed
from cscdarts.records.run_folder import RunFolder, read_json, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from slurm.control import Control, Stopping

#: The smallest run that searches, derives and retrains for real.
SMALL: dict[str, Any] = {
    "supernet.space": "nasbench201", "supernet.channels": 4, "supernet.cells": 1, "search.order": 1, "search.epochs": 2,
    "search.alpha_warmup": 0, "search.batch_size": 16, "data.search_fraction": 0.1, "evaluation.channels": 4,
    "evaluation.cells": 1, "evaluation.epochs": 2, "evaluation.batch_size": 128, "evaluation.auxiliary": 0.0,
    "evaluation.cutout": 0, "runtime.threads": 1, "runtime.workers": 0, "runtime.device": "cpu",
}  # fmt: skip


def small_config(**values: Any) -> RunConfig:
    """A run on digits that takes a second or two; names with `__` for dots."""
    changed = {name.replace("__", "."): value for name, value in values.items()}
    return with_values(apply_preset(protocol("quickstart", "smoke"), "csc"), {**SMALL, **changed})


class _Impatient(Control):
    """Asks to stop after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def should_stop(self) -> bool:
        self._left -= 1
        return self._left < 0


def go(path: Path, config: RunConfig, stages: tuple[str, ...] = STAGES, steps: int | None = None) -> str:
    """Run stages in a folder, or go on there; ends with `stopped` after that many steps."""
    arguments = {"config": config.model_dump(mode="json"), "stages": stages, "since": 0.0, "threads": None}
    try:
        return run_task(path, arguments, Control() if steps is None else _Impatient(steps))
    except Stopping:
        return "stopped"


def old_run(
    runs: Path, config: RunConfig, grid: str = "mine", stages: tuple[str, ...] = STAGES, steps: int | None = None
) -> Path:
    """`runs/GRID/HASH` of 0.1.0 after some stages, or stopped in them."""
    path = runs / grid / config.hash
    RunFolder(path).create(config)  # without keys: the folder holds all files itself
    (path / "metrics.jsonl").touch()
    go(path, config, stages, steps)
    _as_before(path, config)
    return path


def _as_before(path: Path, config: RunConfig) -> None:
    values = json.loads(config.model_dump_json())
    for section, names in {
        "data": ("square", "background", "fingerprint", "search_fingerprint"), "runtime": ("benchmark", "retrain"),
        "search": ("genotype", "derive_skips", "derive_window", "derive_growth", "best_of"),
    }.items():  # fmt: skip
        for name in names:
            del values[section][name]
    write_json(path / "config.json", values)
    for name in ("search.json", "result.json"):
        value = read_json(path / name)
        if value is None:
            continue
        value.pop("key", None)
        if name == "result.json":
            value["values"] = {**(read_json(path / "search.json") or {})["values"], **value["values"]}
        write_json(path / name, value)
    genotype = read_json(path / "genotype.json")
    if genotype is not None:
        write_json(path / "genotype.json", {name: genotype[name] for name in ("space", "text", "epoch")})
    for checkpoint in path.glob("*.pt"):
        write_sealed(checkpoint, {**read_state(checkpoint, torch.device("cpu")), "hash": config.hash})
