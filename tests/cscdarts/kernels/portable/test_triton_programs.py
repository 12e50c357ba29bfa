"""The Triton programs, interpreted on the CPU, compute what torch's functions do; they build for GPUs without one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from cscdarts.kernels.portable.triton_kernels import launch, programs
from cscdarts.kernels.portable.triton_kernels.arithmetic import TritonArithmetic
from cscdarts.kernels.portable.triton_kernels.trust import _results
from tests.support.kernels.machine_code import TARGETS, build, cases


@pytest.mark.slow
def test_in_the_interpreter_the_programs_compute_what_torch_does() -> None:
    """Against plain autograd node by node, and function by function; see `interpreted_programs.py`."""
    file = Path(__file__).with_name("interpreted_programs.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=Path(__file__).parents[4], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "11 passed" in done.stdout


#: Most registers of a thread; a multiprocessor has 65,536, so two instances of 256 threads fit up to 128, one beyond.
REGISTERS = {
    "normalise": 64, "normalise_backward": 64, "rectify": 40, "shared_backward": 96, "weigh": 128, "gather": 168,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("element", ["fp32", "bf16"])
def test_the_programs_build_for_gpus_that_are_not_here(
    target: int, element: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To machine code of A100, H100 and B200: no thread spills, and little shared memory is taken."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for case in cases(element):
        built = build(case, target)
        assert built.spilled == 0, case.name
        assert built.registers <= REGISTERS[case.name], (case.name, built.registers)
        assert built.shared <= 1024, case.name


class NoDevice:
    """Answers Triton as an H100 would, up to the launch."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def test_a_launch_gets_as_far_as_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments are bound, specialised and built as on a GPU; only the launch itself is left out."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    built: list[str] = []

    class Bound:
        def __getattr__(self, name: str) -> Any:
            program = getattr(programs, name)

            def launch_of(grid: tuple[int, ...]) -> Any:
                def run(*arguments: Any, **options: Any) -> None:
                    program.warmup(*arguments, grid=grid, **options)
                    built.append(name)

                return run

            return type("Grid", (), {"__getitem__": lambda self, grid: launch_of(grid)})()

    monkeypatch.setattr(launch, "programs", Bound())
    monkeypatch.setattr(driver, "_active", NoDevice())
    made = list(_results(TritonArithmetic(), torch.device("cpu"), torch.float32))
    assert len(made) > 10
    assert set(built) == set(REGISTERS)
