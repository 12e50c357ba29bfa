"""The Triton programs built to machine code for GPUs that are not here, and what of a GPU each instance takes.

Needs no GPU: Triton's compiler and the assembler in its package are enough.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cscdarts.kernels.portable.triton_kernels import programs

#: Compute capabilities: A100, H100, B200.
TARGETS = (80, 90, 100)


class Case(NamedTuple):
    """One program as a step launches it.

    Attributes:
        name: the program's; arguments: types of its arguments in order, tuples of types for tuples.
        constants: values of its constants; warps: of an instance.
    """

    name: str
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    warps: int


class Built(NamedTuple):
    """What an instance of a built program takes.

    Attributes:
        registers: of a thread; spilled: bytes of a thread that found no register.
        shared: bytes of shared memory of an instance; code: bytes of machine code.
    """

    registers: int
    spilled: int
    shared: int
    code: int


def cases(element: str = "fp32") -> Iterator[Case]:
    """The programs as the largest nodes of a DARTS and a NAS-Bench-201 supernet launch them, maps of a type."""
    m, s, i = f"*{element}", "*fp32", "i32"

    def times(count: int, kind: str) -> tuple[str, ...]:
        return (kind,) * count

    from triton import language as tl

    many, plane = {"BLOCK": 1024, "ACC": tl.float32}, {"BLOCK": 1024, "ACC": tl.float32}
    for maps in (1, 3):
        yield Case(
            "normalise",
            (
                *(times(maps, m), times(maps, s), times(maps, i), times(maps, s), times(maps, s), times(maps, i)),
                *(m, s, i, i, i, i, i, "fp32", "fp32"),
            ),
            {"TRACK": True, **many}, 8,
        )  # fmt: skip
        sources = 2 if maps == 1 else 0
        yield Case(
            "normalise_backward",
            (
                *(m, times(maps, m), times(maps, s), times(maps, s), times(maps, s), times(maps, i), i),
                *(times(max(1, sources), m), times(maps, m), s, i, i, i),
            ),
            {"SOURCES": sources, "WANTED": True, **many}, 8,
        )  # fmt: skip
    yield Case("rectify", (m, s, s, m, i, i, i, i), plane, 8)
    for own, shared, averaged, edges in ((2, 3, False, 4), (2, 1, True, 3)):
        yield Case(
            "weigh",
            (
                *(times(own, m), times(own, s), times(own, s), times(own, i), times(own, i), times(own, i)),
                *(times(shared, m), times(shared, s), times(shared, s), times(shared, i), times(shared, s)),
                *(m, s, times(edges, m), i, i, i),
            ),
            {"MAPS": own, "SHARED": shared, "AVERAGED": averaged, "EDGES": edges, **plane}, 8,
        )  # fmt: skip
        relu, parts = (4, 2) if not averaged else (2, 0)
        yield Case(
            "gather",
            (times(relu, m), m, times(max(1, parts), m), m, s, s, m, i, i, i),
            {"RELU": relu, "PARTS": parts, "CARRIED": True, "AVERAGED": averaged, "EDGES": edges, **plane}, 8,
        )  # fmt: skip
    yield Case(
        "shared_backward",
        (m, times(2, s), times(2, m), times(2, s), times(2, s), times(2, m), i, i, i),
        {"EDGES": 4, **many}, 8,
    )  # fmt: skip


def build(case: Case, target: int) -> Built:
    """Build a program for a compute capability."""
    program = getattr(programs, case.name)
    names = [name for name in program.arg_names if name not in case.constants]
    signature = dict(zip(names, case.arguments, strict=True)) | dict.fromkeys(case.constants, "constexpr")
    source = ASTSource(fn=program, signature=signature, constexprs=case.constants)
    built = triton.compile(source, target=GPUTarget("cuda", target, 32), options={"num_warps": case.warps})
    code = built.asm["cubin"]
    registers, spilled = _resources(code)
    return Built(registers, spilled, built.metadata.shared, len(code))


def _resources(code: bytes) -> tuple[int, int]:
    """Registers of a thread and bytes of its stack, as the assembler notes them in the machine code."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    assert found is not None, told
    return int(found[1]), int(found[2])
