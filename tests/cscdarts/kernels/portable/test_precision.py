"""The portable mixed operation in mixed precision."""

import copy

import pytest
import torch

from cscdarts.kernels.portable import mix
from cscdarts.kernels.portable.arithmetic import TORCH, Arithmetic
from cscdarts.models.mixed_ops import MixedOps
from cscdarts.spaces import DARTS, NASBENCH201, Space


@pytest.mark.parametrize("space", [DARTS, NASBENCH201], ids=["darts", "nasbench201"])
def test_autocast_keeps_half_the_bytes_and_as_many_digits_as_plain_autograd(space: Space) -> None:
    """Maps in the lower precision, gradients of weights in theirs; about as far from exact values as plain autograd."""
    torch.manual_seed(2)
    exact = MixedOps(space.ops, 2, 8, 1, pool_norm=space is DARTS)
    layers = {name: copy.deepcopy(exact) for name in ("plain", "portable")}
    exact.double().use("plain")
    x = torch.randn(8, 8, 8, 8).bfloat16()  # as the layers before give it
    weights = torch.randn(2, len(space.ops)).softmax(1)
    results, kept = {}, {}
    for name, layer in {"exact": exact, **layers}.items():
        if name != "exact":
            layer.use(name)  # type: ignore[arg-type]
        precise = torch.float64 if name == "exact" else torch.float32
        at = x.to(torch.float64 if name == "exact" else x.dtype).requires_grad_()
        w = weights.to(precise).requires_grad_()
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            if tensor.dim() == 4 and tensor.shape[0] == len(x):
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autocast("cpu", torch.bfloat16, enabled=name != "exact"),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            y = torch.cat(layer(at, layer.mixing_weights(w)), dim=1)
        assert y.dtype == (torch.float64 if name == "exact" else torch.bfloat16)
        grads = torch.autograd.grad((y.double() ** 2).sum(), [at, w, *layer.parameters()])
        assert {grad.dtype for grad in grads[1:]} == {precise}
        results[name] = [y.detach().double(), *(grad.double() for grad in grads)]
        kept[name] = sum(storages.values())

    def error(name: str) -> float:
        pairs = zip(results[name], results["exact"], strict=True)
        return max(float((found - true).norm() / true.norm()) for found, true in pairs)

    assert error("portable") < 1.5 * error("plain") < 0.3
    assert kept["portable"] < kept["plain"] / 2


def test_the_arithmetic_is_chosen_for_the_precision_that_autocast_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And outside of autocast, in which its comparison of programs and functions would not be what a pass computes."""
    asked = []

    def note(device: torch.device, dtype: torch.dtype) -> Arithmetic:
        asked.append((device.type, dtype, torch.is_autocast_enabled("cpu")))
        return TORCH

    monkeypatch.setattr(mix, "arithmetic_for", note)
    layer = MixedOps(NASBENCH201.ops, 2, 4, 1)
    layer.use("portable")
    weights = layer.mixing_weights(torch.ones(2, len(NASBENCH201.ops)))
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(2, 4, 4, 4), weights)
    layer(torch.randn(2, 4, 4, 4), weights)
    assert asked == [("cpu", torch.bfloat16, False), ("cpu", torch.float32, False)]
