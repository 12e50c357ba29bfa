"""Memory measured: peak of this process or device, and bytes that autograd keeps for a backward pass."""

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

#: glibc's `malloc.h`: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, which is at most 32 MiB.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


class PeakMemory:
    """Peak memory in MiB above what was held at creation.

    On CUDA: bytes allocated by torch. On the CPU: resident size of the process, after freed memory was handed back to
    the system, so that a process that works through many runs measures each alone. Zero where the system tells nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device) / 2**20
        else:
            gc.collect()
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the present size
            self.before = _resident_mib("VmRSS:")

    def mib(self) -> float:
        """The peak so far, above the start."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20 - self.before
        return max(0.0, _resident_mib("VmHWM:") - self.before)


def keep_freed_memory() -> None:
    """Let this process keep what it frees for its next step; does nothing without glibc.

    By default the allocator hands memory back after each step, and the system gives it out again page by page, zeroed:
    a few hundredths of a weight step on the CPU. `PeakMemory` hands it back before it measures.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        # Both, as setting either stops glibc from moving the other by itself.
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_MMAP_THRESHOLD, 2**25)


def _resident_mib(field: str) -> float:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def saved_bytes(model: nn.Module, loss: Callable[[], Tensor], exclude: tuple[Tensor, ...] = ()) -> int:
    """Bytes of the distinct storages that autograd keeps for the backward pass of `loss()`.

    Args:
        model: its parameters are not counted.
        loss: runs the forward pass; called once.
        exclude: tensors that are not counted either, such as the inputs.
    """
    ignored = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *exclude)}
    storages: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ignored:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor.detach())  # a freed address must not be counted as seen
        # Detached, here and above: a tensor that knows its graph, kept by that graph, would never be freed.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = loss()
    total = sum(storages.values())
    del kept
    return total
