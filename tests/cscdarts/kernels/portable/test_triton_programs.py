"""The Triton programs, interpreted on the CPU, compute what torch's functions do; they build for GPUs without one."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from cscdarts.kernels.portable import choice
from cscdarts.kernels.portable.arithmetic import TORCH
from cscdarts.kernels.portable.triton_kernels import launch, programs
from cscdarts.kernels.portable.triton_kernels.arithmetic import TritonArithmetic
from cscdarts.kernels.portable.triton_kernels.machine_code import TARGETS, build, cases
from cscdarts.kernels.portable.triton_kernels.trust import _results, fault
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.spaces import DARTS, NASBENCH201, Space
from tests.support.tracing import Launches


@pytest.mark.parametrize("space, edges, stride", [(DARTS, 2, 1), (DARTS, 2, 2), (NASBENCH201, 3, 1)])  # noqa: PT006
@pytest.mark.parametrize("needed", ["weights", "alpha"])
def test_values_and_gradients_are_those_of_plain_autograd(
    space: Space, edges: int, stride: int, needed: str, interpreted: TritonArithmetic
) -> None:
    """In double precision, with running statistics, for what a step of the weights or of the architecture asks for."""
    torch.manual_seed(1)
    fused = MixedOps(space.ops, edges, 2, stride, pool_norm=space is DARTS).double()
    plain = copy.deepcopy(fused)
    plain.plain = True
    fused.use("portable")
    x = torch.randn(2, 2, 4, 6, dtype=torch.float64).requires_grad_()
    weights = torch.randn(edges, len(space.ops), dtype=torch.float64).softmax(1)
    found: list[list[Tensor]] = []
    for layer in (plain, fused):
        wanted = [x, *layer.parameters()] if needed == "weights" else [x, weights.requires_grad_()]
        layer.requires_grad_(needed == "weights")
        with Launches() as counted:
            y = torch.cat(layer(x, layer.mixing_weights(weights)), dim=1)
        grad = torch.ones_like(y).cumsum(1) / y.shape[1] - 0.3
        found.append([y, *torch.autograd.grad(y * y, wanted, grad), *layer.buffers()])
    assert counted.operations["cscdarts.weigh.default"] == 1, "the programs were run"
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_programs_are_trusted(dtype: torch.dtype, interpreted: TritonArithmetic) -> None:
    """Each function against torch's on odd shapes, as it is compared on a device before its first use."""
    assert fault(interpreted, torch.device("cpu"), dtype) is None


@pytest.mark.parametrize("broken", ["rectify", "weigh", "gather"])
def test_a_program_that_is_wrong_is_not_used(
    broken: str, interpreted: TritonArithmetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong values or no values: one line says which, and torch's functions go on."""
    right = getattr(TritonArithmetic, broken)

    def wrong(self: TritonArithmetic, *arguments: object) -> object:
        if broken == "gather":
            raise RuntimeError("no kernel image is available")
        out = right(self, *arguments)
        return [y + (1e-2 if number == 0 else 0) for number, y in enumerate(out)]

    monkeypatch.setattr(TritonArithmetic, broken, wrong)
    monkeypatch.setattr(choice, "_DEVICES", ("cpu",))
    lines: list[str] = []
    assert choice._choose(torch.zeros(1), lines.append) is TORCH
    (line,) = lines
    expected = {"rectify": "rectified maps", "weigh": "sums", "gather": "RuntimeError: no kernel image"}[broken]
    assert expected in line
    assert line.endswith("the run goes on with torch's own functions")


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
