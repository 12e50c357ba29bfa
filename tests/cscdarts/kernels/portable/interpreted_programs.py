"""The Triton programs in Triton's interpreter: run by `test_triton_programs.py` in a process of its own.

Triton decides when it is imported whether it interprets.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cscdarts.kernels.portable import choice
from cscdarts.kernels.portable.arithmetic import TORCH
from cscdarts.kernels.portable.triton_kernels.arithmetic import TritonArithmetic
from cscdarts.kernels.portable.triton_kernels.trust import fault
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.spaces import DARTS, NASBENCH201, Space
from tests.support.kernels.tracing import Launches


@pytest.fixture
def interpreted() -> Iterator[TritonArithmetic]:
    """The portable operation takes the programs."""
    arithmetic = TritonArithmetic()
    with choice.given(arithmetic):
        yield arithmetic


@pytest.mark.parametrize(
    ("space", "edges", "stride", "needed"),
    [(DARTS, 2, 1, "weights"), (DARTS, 1, 2, "weights"), (NASBENCH201, 3, 1, "weights"), (NASBENCH201, 2, 1, "alpha"),
     (DARTS, 2, 1, "alpha")],
)  # fmt: skip
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
    assert choice._choose(torch.device("cpu"), torch.float32, lines.append) is TORCH
    (line,) = lines
    expected = {"rectify": "rectified maps", "weigh": "sums", "gather": "RuntimeError: no kernel image"}[broken]
    assert expected in line
    assert line.endswith("the run goes on with torch's own functions")
