"""The Triton programs in Triton's interpreter, which runs them on a CPU."""

import importlib.util
from collections.abc import Iterator

import pytest

from cscdarts.kernels.portable.choice import given
from cscdarts.kernels.portable.triton_kernels import launch, programs
from cscdarts.kernels.portable.triton_kernels.arithmetic import TritonArithmetic


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[TritonArithmetic]:
    """The portable operation takes the programs, interpreted: a second copy of them, as Triton decides on import."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert programs.__file__ is not None
    spec = importlib.util.spec_from_file_location("interpreted_programs", programs.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    monkeypatch.setattr(launch, "programs", copy)
    arithmetic = TritonArithmetic()
    with given(arithmetic):
        yield arithmetic
