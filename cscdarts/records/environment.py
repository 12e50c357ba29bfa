"""What a run ran on: commit, versions, hardware. Everything a reader needs to doubt a number."""

import contextlib
import importlib.metadata
import os
import platform
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cscdarts.errors import UserError
from cscdarts.records.code import running_code
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import Stage

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "pydantic",
    "nats-bench",
    "nas-bench-201",
    "mlflow",
    "submitit",
)


def describe(device: str, deterministic: bool | None = None, kernels: str | None = None) -> dict[str, Any]:
    """The content of `environment.json`.

    Args:
        device: the torch device the run uses, resolved.
        deterministic: whether deterministic kernels were asked for on CUDA; None where nobody said.
        kernels: `runtime.kernels`, recorded as what it comes to on the device: `cpu`, `portable` or `plain`.
    """
    import torch

    code = running_code()
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else None
    return {
        "commit": code.commit or None,
        "dirty": code.dirty,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "device": device,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        # The CPU's kernels are deterministic whatever was asked for.
        "deterministic": True if device == "cpu" else deterministic,
        "kernels": ("cpu" if device == "cpu" else "portable") if kernels == "auto" else kernels,
        "hostname": socket.gethostname(),
        "started_at": time.time(),
    }


def record_environment(folder: Path, now: Mapping[str, Any], job: str = "") -> None:
    """Write `environment.json`: the present start, the time of the first one, and each start's host, hardware and job.

    Args:
        folder: of a run or of a stage.
        now: as `describe` gives it.
        job: the scheduler's id, or "".
    """
    earlier = read_record(folder / "environment.json") or {}
    start = {key: now.get(key) for key in ("hostname", "cpu", "gpu", "commit", "started_at")}
    value = {
        **now,
        "first_started_at": earlier.get("first_started_at", now.get("started_at")),
        "starts": [*earlier.get("starts", []), {**start, "job": job} if job else start],
    }
    write_json(folder / "environment.json", value)


def hardware(environment: dict[str, Any]) -> str:
    """One line that names the hardware, for tags and tables."""
    return str(environment.get("gpu") or f"{environment.get('cpu')} ({environment.get('threads')} threads)")


def code_text(environment: Mapping[str, Any]) -> str:
    """The code version in an `environment.json` as `Code.frozen` writes it; "" where it is unknown."""
    commit = str(environment.get("commit") or "")
    return commit + ("+dirty" if commit and environment.get("dirty") else "")


def stage_environments(folder: RunFolder, config: RunConfig) -> dict[str, dict[str, Any]]:
    """The recorded surroundings of a run's `search` and `retraining`, of each that computes something: drawing a random
    cell and being given one do not."""
    stages: dict[str, tuple[Stage, bool]] = {
        "search": ("search", config.search.trains_supernet),
        "retraining": ("retrain", config.runtime.retrain),
    }
    found = {}
    for name, (stage, computes) in stages.items():
        with contextlib.suppress(UserError):
            value = read_record(folder.stage_folder(stage) / "environment.json") if computes else None
            if value is not None:
                found[name] = value
    return found


def surroundings(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What a run's numbers hang on beside its settings, for tags and tables; "" where it is not recorded.

    Args:
        stages: stage as people name it -> content of its `environment.json`.

    Returns:
        `threads`, `processes`, `device` (its kind), `deterministic` (yes or no) and `kernels`; where the stages differ,
        each:
        `2 in search, 1 in retraining`.
    """
    found = {}
    for name in ("threads", "processes", "device", "deterministic", "kernels"):
        values = {stage: _told(record.get(name)) for stage, record in stages.items()}
        known = {stage: value for stage, value in values.items() if value}
        same = len(set(known.values())) <= 1
        found[name] = next(iter(known.values()), "") if same else ", ".join(f"{v} in {s}" for s, v in known.items())
    return found


def _told(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return str(value).partition(":")[0]


def cpu_name() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
