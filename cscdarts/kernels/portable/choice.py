"""Which arithmetic the portable mixed operation takes on a device."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from cscdarts.kernels.portable.arithmetic import TORCH, Arithmetic

#: Kinds of device that the programs are for; the second stands for the first where nothing has a value.
_DEVICES: tuple[str, ...] = ("cuda", "meta")
#: Device and type of maps -> the arithmetic that was found to be right there.
_found: dict[tuple[torch.device, torch.dtype], Arithmetic] = {}
_given: list[Arithmetic] = []


def arithmetic_for(device: torch.device, dtype: torch.dtype) -> Arithmetic:
    """Triton's programs on CUDA, once they have computed there what torch's functions do; torch's functions elsewhere.

    The first call on a device and type of maps compares the two on small maps, and says a line if they differ. Tensors
    without values take the programs where Triton is installed, as a GPU would.
    """
    if _given:
        return _given[-1]
    key = device, dtype
    if key not in _found:
        with torch.no_grad():
            _found[key] = _choose(device, dtype)
    return _found[key]


@contextmanager
def given(arithmetic: Arithmetic) -> Iterator[None]:
    """Take this arithmetic, whatever the device."""
    _given.append(arithmetic)
    try:
        yield
    finally:
        _given.pop()


def _choose(
    device: torch.device,
    dtype: torch.dtype,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Arithmetic:
    if device.type not in _DEVICES or find_spec("triton") is None:
        return TORCH
    from cscdarts.kernels.portable.triton_kernels.arithmetic import TritonArithmetic

    programs = TritonArithmetic()
    if device.type == "meta":
        return programs
    from cscdarts.kernels.portable.triton_kernels.trust import fault

    found = fault(programs, device, dtype)
    if found is None:
        return programs
    report(f"the Triton programs are not used on {device}: {found}; the run goes on with torch's own functions")
    return TORCH
