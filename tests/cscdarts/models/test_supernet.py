"""Laws of the supernet: switches that reduce to each other, known sizes, activation checkpointing.

That it computes what the method says is shown against the reference, in `test_reference_supernet.py`.
"""

import copy
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cscdarts.data.randomness import numpy_generator
from cscdarts.kernels.batch_norm import BatchNorm, frozen_statistics
from cscdarts.kernels.portable.levels import follow, sort
from cscdarts.models.channel_split import concat_and_shuffle, shuffle_channels, shuffle_groups, unshuffle_channels
from cscdarts.models.cost import supernet_cost
from cscdarts.models.identity import CellIdentity
from cscdarts.models.mixed_ops import Kernels, MixedOps
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig, SupernetConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.spaces.genotype import random_genotype
from cscdarts.training.bilevel import plain_autograd
from cscdarts.training.memory import saved_bytes
from cscdarts.training.one_shot import discrete_mixing

SPACES = ("darts", "nasbench201")


def settings(space: str, **values: Any) -> SupernetConfig:
    sizes = {"channels": 8, "cells": 3 if space == "darts" else 1}
    return SupernetConfig.model_validate({"space": space, "identity": "none", "split_ratio": 1, **sizes, **values})


def supernet(config: SupernetConfig, seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(config, classes=5, identity=config.identity, alpha_std=0.5)


def images(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def loss_of(model: torch.nn.Module) -> Tensor:
    dtype = next(model.parameters()).dtype
    return F.cross_entropy(model(images().to(dtype)), torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("identity", ["cell", "edge"])
def test_identity_of_scale_0_is_none(space: str, identity: str) -> None:
    model = supernet(settings(space, identity=identity, split_ratio="1/2"))
    plain = supernet(settings(space, split_ratio="1/2"))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "identit" not in k})
    model.identity_scale = 0.0
    assert torch.equal(model(images()), plain(images()))
    model.identity_scale = 1.0
    assert not torch.allclose(model(images()), plain(images()))


def test_identity_matches_in_five_of_eight_search_cells() -> None:
    model = Supernet(SupernetConfig(channels=4, identity="cell"), 10, identity="cell")
    assert [one.matches for one in model.modules() if isinstance(one, CellIdentity)].count(True) == 5


def test_dartsminus_without_its_skip_is_darts() -> None:
    decayed = apply_preset(RunConfig(), "dartsminus").supernet
    assert (decayed.identity, decayed.identity_decay, decayed.identity_phases) == ("edge", "linear", "search")
    model = supernet(settings("darts", identity="edge"))
    model.identity_scale = 0.0
    plain = supernet(settings("darts"))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "edge_identities" not in k})
    assert torch.equal(model(images()), plain(images()))


def test_pcdarts_with_all_channels_and_no_edge_normalisation_is_darts() -> None:
    pc = with_values(apply_preset(RunConfig(), "pcdarts"), {"supernet.split_ratio": "1", "supernet.edge_norm": False})
    darts = apply_preset(RunConfig(), "darts1")
    assert pc.supernet == darts.supernet
    assert with_values(pc, {"search.alpha_warmup": 0}).hash == darts.hash


@pytest.mark.parametrize("channels", [4, 8, 12, 36])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_shuffle_is_a_permutation_and_unshuffle_undoes_it(channels: int, groups: int) -> None:
    x = torch.arange(channels, dtype=torch.float32)[None, :, None, None]
    y = shuffle_channels(x, groups)
    assert sorted(y.flatten().tolist()) == x.flatten().tolist()
    assert torch.equal(unshuffle_channels(y, groups), x)
    for k in range(channels):  # channel g*(c/q) + t moves to t*q + g
        g, t = divmod(k, channels // groups)
        assert y[0, t * groups + g] == k


def test_shuffle_groups_divide_the_channels() -> None:
    assert shuffle_groups(16, Fraction(1, 4)) == 4
    assert shuffle_groups(36, Fraction(1, 8)) == 4
    assert shuffle_groups(16, Fraction(1)) == 1
    assert shuffle_groups(16, Fraction(3, 4)) == 4


def test_concat_without_bypass_is_the_identity() -> None:
    x = images()
    assert concat_and_shuffle(x, None, Fraction(1, 2), shuffle=True) is x


def test_a_random_pick_needs_a_draw() -> None:
    model = supernet(settings("nasbench201", split_ratio="1/2", split_pick="random"))
    with pytest.raises(RuntimeError, match=r"^split_pick=random needs Supernet\.draw_channels\(\) before a pass$"):
        model(images())
    model.draw_channels(torch.Generator().manual_seed(0))
    first = model(images())
    model.draw_channels(torch.Generator().manual_seed(1))
    assert not torch.allclose(model(images()), first)


@pytest.mark.parametrize("space", SPACES)
def test_a_subset_of_operations(space: str) -> None:
    ops = ("none", "skip_connect", "sep_conv_3x3") if space == "darts" else ("skip_connect", "nor_conv_3x3")
    model = supernet(settings(space, ops=ops, split_ratio="1/2"))
    assert model(images()).shape == (4, 5)
    assert all(alpha.shape[1] == len(ops) for alpha in model.alphas.values())


def test_only_none_and_skip_still_flows() -> None:
    model = supernet(settings("nasbench201", ops=("none", "skip_connect")))
    torch.autograd.backward(loss_of(model))
    assert model.alphas["cell"].grad is not None


@pytest.mark.parametrize("space", SPACES)
def test_one_hot_mixing_is_deterministic_in_the_chosen_operations(space: str) -> None:
    model = supernet(settings(space, split_ratio="1/2"))
    genotypes = [random_genotype(space, numpy_generator(seed, "t")) for seed in (0, 1)]
    with torch.no_grad(), frozen_statistics(model):
        outputs = [model(images(), discrete_mixing(model, genotype)) for genotype in genotypes]
        again = model(images(), discrete_mixing(model, genotypes[0]))
    assert torch.equal(outputs[0], again)
    assert not torch.allclose(outputs[0], outputs[1])


def test_frozen_statistics_change_no_output() -> None:
    model = supernet(settings("nasbench201"))
    twin = copy.deepcopy(model)
    with frozen_statistics(model):
        found = model(images())
    assert torch.allclose(found, twin(images()), atol=1e-6)
    moved = [b for layer in model.modules() if isinstance(layer, BatchNorm) for b in (layer.running_mean,)]
    assert all(torch.equal(b, torch.zeros_like(b)) for b in moved)


@pytest.mark.parametrize(
    ("ratio", "params", "macs"),
    [("1", 1.931, 300), ("3/4", 1.215, 196), ("1/2", 0.671, 115), ("1/4", 0.300, 57), ("1/8", 0.178, 36)],
)
def test_known_sizes_of_the_darts_supernet(ratio: str, params: float, macs: float) -> None:
    """Measured on the original model code: C = 16, 8 cells, 8 operations."""
    config = SupernetConfig(split_ratio=Fraction(ratio), identity="none")
    cost = supernet_cost(config, "none", 10, 3, 32, batch=1)
    assert round(cost.params / 1e6, 3) == params
    assert round(cost.macs / 1e6) == macs


def test_memory_access_of_a_1x1_convolution_obeys_shufflenet_g1() -> None:
    """MAC = hw(c1 + c2) + c1 c2 >= 2 sqrt(hw B) + B / hw with B = hw c1 c2, with equality at c1 = c2."""
    from cscdarts.spaces import ConvShape

    for inputs, outputs in ((16, 16), (8, 32), (4, 64)):
        conv = ConvShape(inputs, outputs, 1, 1, 64, 64)
        access = conv.activations + conv.weights
        bound = 2 * (64 * conv.macs) ** 0.5 + conv.macs / 64
        assert access >= bound - 1e-9
        assert (access == pytest.approx(bound)) == (inputs == outputs)


def test_memory_access_falls_with_the_ratio() -> None:
    access = [
        supernet_cost(settings("darts", split_ratio=ratio), "none", 10, 3, 32, 16).memory_access_bytes
        for ratio in ("1", "1/2", "1/4")
    ]
    assert access[0] > access[1] > access[2]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("level", ["node", "cell"])
@pytest.mark.parametrize(("ratio", "kernels"), [("1", "auto"), ("1/2", "auto"), ("1/2", "portable")])
def test_recomputation_changes_memory_and_nothing_else(space: str, level: str, ratio: str, kernels: Kernels) -> None:
    kept = supernet(settings(space, split_ratio=ratio, identity="cell"))
    kept.use(kernels)
    again = copy.deepcopy(kept)
    again.checkpoint_activations(level)  # type: ignore[arg-type]
    for model in (kept, again):
        torch.autograd.backward(loss_of(model))
    for (name, one), other in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        assert torch.equal(one.grad, other.grad), name
    for (name, one_buffer), other_buffer in zip(kept.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(one_buffer, other_buffer), name  # running statistics moved once, not twice
    saved = [saved_bytes(model, lambda model=model: loss_of(model)) for model in (kept, again)]  # type: ignore[misc]
    assert saved[1] < saved[0]


@pytest.mark.parametrize("space", SPACES)
def test_laid_out_for_the_portable_kernels_a_model_is_stored_and_read_as_before(space: str) -> None:
    """Names, shapes and values stay; what is read into it lies where the kernels look for it."""
    model = supernet(settings(space, split_ratio="1/2"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    model.use("portable")
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.zero_()
    model.load_state_dict(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for layer in model.modules():
        if isinstance(layer, MixedOps):
            for level in sort(layer.operations()).chains:
                assert follow([stage.point for stage in level.stages])
                assert follow([stage.norm.running_mean for stage in level.stages])


def test_recomputation_can_be_differentiated_twice() -> None:
    model = supernet(settings("nasbench201"))
    model.checkpoint_activations("cell")
    with plain_autograd(model):
        (first,) = torch.autograd.grad(loss_of(model), [model.alphas["cell"]], create_graph=True)
        (second,) = torch.autograd.grad((first * first).sum(), [model.alphas["cell"]])
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("space", SPACES)
def test_weights_stored_under_the_old_name_of_the_mixed_operations_are_read(space: str) -> None:
    """Runs of 0.1.0 call them `fanouts`."""
    model, other = supernet(settings(space, identity="cell")), supernet(settings(space, identity="cell"), seed=1)
    stored = {name.replace(".mixed_ops.", ".fanouts."): value for name, value in model.state_dict().items()}
    assert any("fanouts" in name for name in stored)
    other.load_state_dict(stored)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
