"""Packing and unpacking give back what was packed, and the structure between them holds no tensor."""

from typing import NamedTuple

import torch
from torch import Tensor

from cscdarts.kernels.packing import pack, unpack


class Inner(NamedTuple):
    map: Tensor
    missing: Tensor | None


class Outer(NamedTuple):
    first: Tensor
    flag: bool
    inner: tuple[Inner, ...]
    factors: list[float]


def test_a_nested_tuple_comes_back() -> None:
    a, b, c = torch.zeros(1), torch.ones(2), torch.full((3,), 2.0)
    saved = Outer(a, True, (Inner(b, None), Inner(c, a)), [0.5, 0.25])
    structure, tensors = pack(saved)
    assert [id(tensor) for tensor in tensors] == [id(a), id(b), id(c), id(a)], "from left to right, None left out"
    found = unpack(structure, [tensor + 1 for tensor in tensors])
    assert isinstance(found, Outer)
    assert [type(inner) for inner in found.inner] == [Inner, Inner]
    assert torch.equal(found.first, a + 1)
    assert torch.equal(found.inner[0].map, b + 1)
    assert found.inner[0].missing is None
    assert torch.equal(found.inner[1].map, c + 1)
    assert found.inner[1].missing is not None
    assert torch.equal(found.inner[1].missing, a + 1)
    assert found.flag is True
    assert found.factors == [0.5, 0.25]


def test_the_structure_holds_no_tensor() -> None:
    """What autograd does not watch would outlive the backward pass and hide changes in place."""

    def leaves(value: object) -> list[object]:
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple) else [value]

    structure, tensors = pack(Outer(torch.zeros(1), False, (Inner(torch.ones(2), torch.ones(1)),), [1.0]))
    assert len(tensors) == 3
    assert not any(isinstance(leaf, Tensor) for leaf in leaves(structure))


def test_nothing_to_pack() -> None:
    structure, tensors = pack(())
    assert tensors == []
    assert unpack(structure, tensors) == ()
