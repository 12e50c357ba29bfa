"""The noise operation of R-DARTS' space S4: blind to its input, without gradient, drawn by a number."""

import pytest
import torch

from cscdarts.models.cost import network_cost, supernet_cost
from cscdarts.models.network import Network
from cscdarts.models.operations import GaussianNoise, discrete_operation, noises, seed_noise
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import EvaluationConfig, SupernetConfig
from cscdarts.spaces import OPERATIONS, parse_genotype

CONFIG = SupernetConfig(space="darts_s4", channels=8, cells=3)
CELL = "[('gaussian_noise', 0), ('sep_conv_3x3', 1)]"
GENOTYPE = parse_genotype(f"Genotype(normal={CELL}, normal_concat=[2], reduce={CELL}, reduce_concat=[2])", "darts_s4")


def noise(stride: int = 1, seed: int = 0) -> GaussianNoise:
    made = discrete_operation(OPERATIONS["gaussian_noise"], 8, stride)
    assert isinstance(made, GaussianNoise)
    seed_noise([made], seed)
    return made


@pytest.mark.parametrize("stride", [1, 2])
def test_the_output_is_independent_of_the_input_and_has_no_gradient(stride: int) -> None:
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    made = noise(stride, 7)
    out = made(x)
    assert out.shape == (4, 8, 6 // stride, 6 // stride)
    assert not out.requires_grad
    assert torch.equal(out, made(torch.zeros(4, 8, 6, 6)))
    assert torch.equal(out, made(x * 1e6))
    total = (out + 0 * x[:, :, ::stride, ::stride]).sum()
    assert not torch.autograd.grad(total, x)[0].any()


def test_draws_are_standard_normal_and_of_their_number_alone() -> None:
    x = torch.zeros(64, 8, 16, 16)
    one = noise(seed=1)(x)
    n = one.numel()
    assert abs(float(one.mean())) < 5 / n**0.5
    assert abs(float(one.var()) - 1) < 5 * (2 / n) ** 0.5
    assert 0.002 < float((one.abs() > 3).double().mean()) < 0.0035  # 0.0027
    torch.manual_seed(99)
    torch.randn(10)
    assert torch.equal(noise(seed=1)(x), one)
    assert abs(float((noise(seed=2)(x) * one).mean())) < 5 / n**0.5


def test_no_two_places_of_a_model_draw_the_same() -> None:
    model = Supernet(CONFIG, 5)
    found = noises(model)
    assert len(found) == 3 * 14
    seed_noise(found, 5)
    x = torch.zeros(2, 8, 4, 4)
    draws = {(module.stride, tuple(module(x).flatten()[:4].tolist())) for module in found}
    assert len({first for _, first in draws}) == len(found)


def test_processes_draw_their_share_of_one_batch() -> None:
    whole = noise(seed=3)
    x = torch.zeros(6, 2, 4, 4)
    shares = []
    for rank in range(2):
        part = noise()
        seed_noise([part], 3, rank, 2)
        shares.append(part(x[rank::2]))
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), whole(x))


def test_what_is_computed_again_in_the_backward_pass_is_the_same() -> None:
    images, found = torch.randn(4, 3, 8, 8), []
    for level in ("none", "node", "cell"):
        torch.manual_seed(0)
        model = Supernet(CONFIG, 5)
        model.checkpoint_activations(level)
        seed_noise(noises(model), 11)
        out = model(images)
        found.append((out, *torch.autograd.grad(out.square().sum(), model.architecture())))
    for other in found[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[0], other, strict=True))


def test_it_costs_nothing_and_a_network_of_it_is_built() -> None:
    counted = supernet_cost(CONFIG, "none", 5, 3, 8, batch=2)
    assert counted.by_operation.get("gaussian_noise", 0) == 0
    assert counted.by_operation["sep_conv_3x3"] > 0
    evaluation = EvaluationConfig(channels=8, cells=3)
    assert network_cost(GENOTYPE, evaluation, CONFIG, "none", 5, 3, 8).macs > 0
    network = Network(GENOTYPE, evaluation, CONFIG, "none", 5, 3).eval()
    images = torch.randn(2, 3, 8, 8)
    first = network(images)[0]
    assert torch.equal(first, network(images)[0])
    seed_noise(noises(network), 1)
    assert not torch.equal(first, network(images)[0])
    assert not OPERATIONS["gaussian_noise"].is_skip
    assert OPERATIONS["gaussian_noise"].parameter_free
