"""At the paper's scale every protocol takes a step of its search and of its retraining, at its own width, depth and
image size: two images on the CPU, the whole batch on shapes alone."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cscdarts.forecast.runs import data_shape, retraining_forecast, search_forecast, typical_cell
from cscdarts.models.cost import fit_channels, network_cost
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.protocols import PROTOCOLS, protocol
from cscdarts.spaces import is_large
from cscdarts.training.bilevel import ArchitectureStep
from cscdarts.training.distributed import World
from cscdarts.training.gradients import SupernetGradients
from cscdarts.training.resumable import sgd
from cscdarts.training.retrain import initial_network
from cscdarts.training.schedules import drop_path

pytestmark = pytest.mark.slow
Batch = tuple[Tensor, Tensor]


def paper(name: str) -> RunConfig:
    return apply_preset(protocol(name, "paper"), "csc")


def two_images(config: RunConfig, name: str, seed: int) -> Batch:
    shape = data_shape(config, name)
    assert shape is not None
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(2, shape.channels, shape.size, shape.size, generator=draw)
    return images, torch.randint(len(shape.counts), (2,), generator=draw)


def require_moved(parameters: list[nn.Parameter], before: list[Tensor]) -> None:
    assert all(bool(torch.isfinite(p).all()) for p in parameters)
    assert any(not torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_search_steps_at_its_own_size(name: str) -> None:
    config = paper(name)
    searched = config.data.searched_dataset
    shape = data_shape(config, searched)
    assert shape is not None
    torch.manual_seed(0)
    model = Supernet(
        config.supernet, len(shape.counts), shape.channels, config.identity_in("search"), is_large(shape.size)
    )
    train, valid = two_images(config, searched, 1), two_images(config, searched, 2)
    optimiser = sgd(model.weights(), config.search)
    gradients = SupernetGradients(model, model, "none", 1, World())
    alpha = ArchitectureStep(model, config.search, optimiser, gradients).gradient(train, valid, config.search.lr)
    assert [g.shape for g in alpha] == [a.shape for a in model.architecture()]
    assert all(bool(torch.isfinite(g).all()) and bool(g.any()) for g in alpha)
    before = [w.detach().clone() for w in model.weights()]
    for weight, grad in zip(model.weights(), gradients(train, model.weights()), strict=True):
        weight.grad = grad
    nn.utils.clip_grad_norm_(model.weights(), config.search.grad_clip)
    optimiser.step()
    require_moved(model.weights(), before)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_retraining_steps_at_its_own_size(name: str) -> None:
    config = paper(name)
    evaluation, shape = config.evaluation, data_shape(config, config.data.dataset)
    assert shape is not None
    cell, identity = typical_cell(config), config.identity_in("eval")
    form = (config.supernet, identity, len(shape.counts), shape.channels, shape.size)
    if evaluation.fit_macs_m is not None:
        limit = evaluation.fit_macs_m * 1e6
        evaluation = evaluation.model_copy(update={"channels": fit_channels(cell, evaluation, *form, limit_macs=limit)})
        assert 0.9 * limit < network_cost(cell, evaluation, *form).macs <= limit
    network = initial_network(cell, evaluation, *form, seed=0)
    network.dropper.probability = drop_path(evaluation, evaluation.epochs - 1)
    parameters = list(network.parameters())
    optimiser = sgd(parameters, evaluation)
    before = [p.detach().clone() for p in parameters]
    images, labels = two_images(config, config.data.dataset, 3)
    logits, auxiliary = network(images)
    assert logits.shape == (2, len(shape.counts))
    assert (auxiliary is not None) == (evaluation.auxiliary > 0)
    loss = F.cross_entropy(logits, labels)
    if auxiliary is not None:
        loss = loss + evaluation.auxiliary * F.cross_entropy(auxiliary, labels)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(parameters, evaluation.grad_clip)
    optimiser.step()
    require_moved(parameters, before)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_whole_batches_are_stepped_through_on_shapes_alone(name: str) -> None:
    """No step waits for the device, and what the batch takes is known: more than its own images, less than a node."""
    config = paper(name)
    for forecast, batch, data in (
        (search_forecast(config), config.search.batch_size, config.data.searched_dataset),
        (retraining_forecast(config), config.evaluation.batch_size, config.data.dataset),
    ):
        shape = data_shape(config, data)
        assert forecast is not None
        assert shape is not None
        assert 4 * batch * shape.channels * shape.size**2 < forecast.peak < 120e9
        assert all(times > 0 for times in forecast.times.values())
