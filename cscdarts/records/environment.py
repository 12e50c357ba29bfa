"""What a run ran on: commit, versions, hardware. Everything a reader needs to doubt a number."""

import importlib.metadata
import os
import platform
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

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


def describe(device: str) -> dict[str, Any]:
    """The content of `environment.json`.

    Args:
        device: the torch device the run uses, resolved.
    """
    import torch

    commit, dirty = code_version()
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else None
    return {
        "commit": commit,
        "dirty": dirty,
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
        "hostname": socket.gethostname(),
        "started_at": time.time(),
    }


def hardware(environment: dict[str, Any]) -> str:
    """One line that names the hardware, for tags and tables."""
    return str(environment.get("gpu") or f"{environment.get('cpu')} ({environment.get('threads')} threads)")


def code_version(folder: Path | None = None) -> tuple[str | None, bool | None]:
    """(commit, whether tracked files differ from it), or (None, None) outside a git checkout.

    `CSCDARTS_COMMIT` overrides it: a job that runs from a snapshot has no checkout.
    """
    frozen = os.environ.get("CSCDARTS_COMMIT")
    if frozen:
        return frozen.removesuffix("+dirty"), frozen.endswith("+dirty")
    folder = folder or Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None, None
    return commit, bool(git("status", "--porcelain", "--untracked-files=no"))


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
