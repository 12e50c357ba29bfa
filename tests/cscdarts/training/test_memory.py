"""Memory is measured from where it stands, also in a process that keeps what it has freed."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from cscdarts.training.memory import PeakMemory, keep_freed_memory

def touch(mib):
    return [torch.ones(2**17) for _ in range(2 * mib)]  # half a MiB each, below the size that is mapped by itself

if {keep}:
    keep_freed_memory()
before = touch(96)
del before
memory = PeakMemory(torch.device("cpu"))
held = touch(32)
print(memory.mib())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident size is read from /proc")
@pytest.mark.parametrize("keep", [False, True])
def test_the_peak_counts_what_is_used_after_the_start(keep: bool) -> None:
    """Memory freed before would hide it, were it not handed back at the start."""
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(keep=keep)], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert 28 < float(out.stdout) < 48
