"""Which GPUs and cores a process may use, without a numerics library; GPUs by the names that `CUDA_VISIBLE_DEVICES` has
for them."""

import contextlib
import os
import re
import subprocess
from pathlib import Path

#: Which GPUs a process sees.
DEVICES = "CUDA_VISIBLE_DEVICES"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs at hand, as `CUDA_VISIBLE_DEVICES` names them, without loading a numerics library.

    Names are numbers, UUIDs (`GPU-...`) or parts of a GPU (`MIG-...`); those of the environment are kept as they are.
    """
    chosen = os.environ.get(DEVICES)
    if chosen is not None:
        return chosen_gpus(chosen)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
        return listed_gpus(listed.stdout)
    # A container may have the devices and not the tool.
    with contextlib.suppress(OSError):
        return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").iterdir())))]
    return []


def chosen_gpus(value: str) -> list[str]:
    """The devices that CUDA takes from `CUDA_VISIBLE_DEVICES`: up to the first entry that names none; none of them
    where one is named twice."""
    names: list[str] = []
    for part in value.split(","):
        name = part.strip()
        if not (name.startswith(("GPU-", "MIG-")) or (name.isascii() and name.isdecimal())):
            break
        names.append(str(int(name)) if name.isdecimal() else name)
    return names if len(set(names)) == len(names) else []


def listed_gpus(listing: str) -> list[str]:
    """The devices in the output of `nvidia-smi -L`; a GPU that is divided counts as its parts."""
    devices: list[list[str]] = []
    for line in listing.splitlines():
        if line.startswith("GPU "):
            devices.append([])
        elif devices and (match := re.search(r"UUID: (MIG-[^)\s]+)", line)):
            devices[-1].append(match.group(1))
    return [name for number, parts in enumerate(devices) for name in (parts or [str(number)])]
