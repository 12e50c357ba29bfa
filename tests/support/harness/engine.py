"""A tiny engine for tests of the harness: it writes the files of the contract, steps, checkpoints, stops, and
misbehaves on request.

`labels.note` of a run asks for misbehaviour: `raise`, `memory`, `disk`, `hang`, `nan`, `kill`; `pace=SECONDS` slows
each epoch. A file `cure` beside the run folders makes all runs behave. The numbers depend on config and epoch only.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ablations.run.stages import run_stages
from cscdarts.errors import Stopped
from cscdarts.records.environment import record_environment
from cscdarts.records.run_folder import RunFolder, append_line, read_json, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import Stage
from slurm.control import Control

#: As the engine records the digits.
DATA: Mapping[str, Any] = {
    "dataset": "digits", "label": "digits", "classes": 10, "image_size": 8, "mean": [0.3], "std": [0.4], "notes": [],
    "sha256": "cbffa3c31df22e26998066dcea1c9c1879331e8a5e4d9f74b662d3d5e95a2738", "train_images": 1437,
    "test_images": 360, "class_names": [str(one) for one in range(10)],
}  # fmt: skip
Report = Callable[[str], None]


def number(config: RunConfig, *what: object) -> float:
    """A reproducible number in [0, 1)."""
    text = repr((config.hash, *what)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / 2**48


def _pace(config: RunConfig) -> float:
    note = config.labels.note
    return float(note.partition("pace=")[2] or 0)


def _epochs(stage: Stage, epochs: int, config: RunConfig, folder: RunFolder, control: Control, report: Report) -> None:
    checkpoint = folder.stage_folder(stage) / f"{stage}.checkpoint"
    state = read_json(checkpoint) or {"epoch": 0, "sum": 0.0}
    for epoch in range(state["epoch"], epochs):
        end = time.monotonic() + _pace(config)
        while True:
            if control.should_stop():
                report(f"{stage}: checkpoint at epoch {state['epoch']}")
                raise Stopped
            if time.monotonic() >= end:
                break
            time.sleep(0.02)
        state = {"epoch": epoch + 1, "sum": state["sum"] + number(config, stage, epoch)}
        folder.record(stage, epoch, epoch, {f"{stage}_train_loss": state["sum"], f"{stage}_epoch_time_s": 0.01})
        write_json(checkpoint, state)
        report(f"{stage} epoch {epoch + 1}/{epochs}")


def _misbehave(config: RunConfig, folder: RunFolder, control: Control) -> None:
    note = config.labels.note
    if (folder.path.parent / "cure").exists():
        return
    if note == "raise":
        raise ValueError("the loss went astray")
    if note == "nan":
        raise FloatingPointError("loss is nan at step 3")
    if note == "disk":
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
    if note == "memory":
        hoard = []
        for _ in range(64):
            hoard.append(bytearray(os.urandom(1024)) * (16 * 1024))
            time.sleep(0.2)
        raise MemoryError("the whole gigabyte was granted")
    if note == "hang":
        control.should_stop()
        while True:
            time.sleep(1)
    if note == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def search(config: RunConfig, folder: RunFolder, control: Control, report: Report) -> None:
    """Fake search."""
    append_line(folder.file("alphas.jsonl"), {"epoch": 0, "alpha": {"cell": [[0.0] * 5] * 6}})
    _misbehave(config, folder, control)
    _epochs("search", config.search.epochs, config, folder, control, report)
    values = {"supernet_params_m": 0.1, "search_time_s": 1.5, "peak_memory_mib": 10.0}
    write_json(folder.file("search.json"), {"values": values, "data": DATA, "finished_at": time.time()})


def derive(config: RunConfig, folder: RunFolder, control: Control, report: Report) -> None:
    """Fake derivation."""
    ops = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    a, b, c, d, e, f = (ops[int(5 * number(config, "op", k))] for k in range(6))
    text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
    write_json(folder.file("genotype.json"), {"space": "nasbench201", "text": text, "epoch": config.search.epochs})


def check(config: RunConfig, folder: RunFolder, control: Control, report: Report) -> None:
    """Fake check."""
    write_json(folder.file("check.json"), {"benchmark": {"holds": 0}, "arch": "", "index": None, "datasets": {}})


def retrain(config: RunConfig, folder: RunFolder, control: Control, report: Report) -> None:
    """Fake retraining."""
    _epochs("retrain", config.evaluation.epochs, config, folder, control, report)
    costs: Mapping[str, Any] = read_json(folder.file("search.json")) or {}
    values = {**costs["values"], "test_error_pct": 100 * number(config, "error"), "retrain_time_s": 0.5}
    write_json(
        folder.file("result.json"),
        {
            "hash": config.hash,
            "seed": config.seed,
            "genotype": (read_json(folder.file("genotype.json")) or {})["text"],
            "values": values,
            "data": DATA,
            "finished_at": time.time(),
        },
    )


ENGINE = {"search": search, "derive": derive, "check": check, "retrain": retrain}


def prepare(config: RunConfig, folder: RunFolder, threads: int | None, job: str) -> None:
    """Record a start, and count it: every start of every run leaves one line."""
    now = {
        "commit": "0" * 40, "dirty": False, "hostname": os.uname().nodename, "torch": "none", "cpu": "fake", "cores": 1,
        "gpu": None, "started_at": time.time(),
    }  # fmt: skip
    record_environment(folder.path, now, job)
    with (folder.path / "starts.jsonl").open("a") as file:
        surroundings = {"threads": os.environ.get("OMP_NUM_THREADS"), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
        file.write(json.dumps({"pid": os.getpid(), **surroundings}) + "\n")


def run_task(folder: Path, arguments: Mapping[str, Any], control: Control) -> str:
    """What jobs call instead of `ablations.run.stages.run_task`."""
    return run_stages(folder, arguments, control, ENGINE, prepare)
