"""Compiling with a way back: a failed compile is not a failed step."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cscdarts.training.resumable import compiled


class FailsAt(nn.Module):
    """Doubles its input, but fails in the calls with the given numbers."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers, self.calls = numbers, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls - 1 in self.numbers:
            raise RuntimeError(f"call {self.calls - 1}")
        return 2 * x


def with_compiler(monkeypatch: pytest.MonkeyPatch, compiler: nn.Module, lines: list[str]) -> Callable[[Tensor], Tensor]:
    """The identity as plain model, and `compiler` as its compiled form."""
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiler)
    return compiled(nn.Identity(), lambda model, x: model(x), lines.append)


def test_a_compile_that_fails_leaves_the_plain_model(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    forward = with_compiler(monkeypatch, FailsAt(0), lines)
    x = torch.ones(3)
    assert [float(forward(x).sum()) for _ in range(3)] == [3, 3, 3], "the plain model's"
    assert len(lines) == 1
    assert "torch.compile failed (RuntimeError)" in lines[0]


def test_a_step_that_fails_later_is_no_failed_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    forward = with_compiler(monkeypatch, FailsAt(1), lines)
    x = torch.ones(3)
    assert float(forward(x).sum()) == 6, "the compiled model's"
    with pytest.raises(RuntimeError, match="call 1"):
        forward(x)
    assert float(forward(x).sum()) == 6, "still the compiled model's"
    assert lines == []


def test_a_first_step_that_fails_without_the_compiler_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: FailsAt(0))
    forward = compiled(FailsAt(0), lambda model, x: model(x), lambda line: None)
    with pytest.raises(RuntimeError, match="call 0"):
        forward(torch.ones(3))
