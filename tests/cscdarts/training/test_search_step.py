"""The search against a plainly written one, each term of the recipe shown to matter; which half teaches what."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cscdarts.data.source import ResidentSource
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.training.one_shot import whole_error
from cscdarts.training.search import SearchRun
from tests.support.training.plain_training import SGD, Adam, Pictures, Searching, cross_entropy, search_epoch

EPOCHS = 3


def config(**values: Any) -> RunConfig:
    """All terms of the recipe on, at sizes that make each of them matter in three epochs of one step."""
    recipe = {
        "seed": 4,
        "data.search_fraction": 0.015,
        "data.crop_padding": 1,
        "data.flip": True,
        "supernet.space": "nasbench201",
        "supernet.ops": ["skip_connect", "nor_conv_3x3", "avg_pool_3x3"],
        "supernet.channels": 4,
        "supernet.cells": 1,
        "supernet.split_ratio": "1/2",
        "supernet.identity": "cell",
        "supernet.identity_scale": 0.7,
        "supernet.identity_decay": "linear",
        "supernet.identity_phases": "search",
        "search.order": 2,
        "search.xi": "lr",
        "search.eps": 0.5,
        "search.epochs": EPOCHS,
        "search.batch_size": 10,
        "search.lr": 0.2,
        "search.lr_min": 0.02,
        "search.momentum": 0.8,
        "search.nesterov": True,
        "search.weight_decay": 0.01,
        "search.grad_clip": 0.5,
        "search.alpha_lr": 0.05,
        "search.alpha_betas": (0.6, 0.9),
        "search.alpha_weight_decay": 0.05,
        "search.alpha_init_std": 0.5,
        "search.alpha_warmup": 1,
        "search.accumulate": 2,
        "runtime.device": "cpu",
        "runtime.threads": 1,
    }
    return with_values(build({}), recipe | values)


def searching(config: RunConfig, folder: Path) -> SearchRun:
    """A run in float64."""
    run = SearchRun(config, RunFolder(folder), lambda: False, lambda line: None)
    run.supernet.double()
    run.train, run.valid = (in_float64(source) for source in (run.train, run.valid))
    return run


def in_float64(source: Any) -> Any:
    return dataclasses.replace(source, mean=source.mean.double(), std=source.std.double())


def pictures(source: Any) -> Pictures:
    assert isinstance(source, ResidentSource)
    return Pictures(source.images, source.labels, source.mean.flatten().tolist(), source.std.flatten().tolist())


def terms(config: RunConfig) -> Searching:
    known = {field.name for field in dataclasses.fields(Searching)}
    values = {key: value for key, value in config.search.model_dump().items() if key in known}
    return Searching(
        **values, seed=config.seed, identity_decay=config.supernet.identity_decay, crop_padding=1, flip=True
    )


def plain(start: nn.Module, halves: dict[str, Pictures], recipe: Searching, epochs: int = EPOCHS) -> nn.Module:
    supernet = copy.deepcopy(start)
    optimizer = SGD(recipe.momentum, recipe.nesterov, recipe.weight_decay)
    adam = Adam(recipe.alpha_lr, recipe.alpha_betas, recipe.alpha_weight_decay)
    for epoch in range(epochs):
        search_epoch(supernet, halves, recipe, optimizer, adam, epoch, identity_scale=0.7)
    return supernet


def distance(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of any weight, architecture parameter or running statistic."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def alphas(supernet: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in supernet.architecture()])  # type: ignore[operator]


def finish_epochs(run: SearchRun, count: int = EPOCHS) -> None:
    """Train without the measurements at the end of an epoch, which are made in float32."""
    for _ in range(count):
        run.train_epoch()
        run.next_epoch(EPOCHS)


Searched = tuple[nn.Module, nn.Module, dict[str, Pictures]]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A supernet before and after the search, and the halves that it learned from."""
    run = searching(config(), tmp_path_factory.mktemp("run"))
    start = copy.deepcopy(run.supernet)
    halves = {"weights": pictures(run.train), "alphas": pictures(run.valid)}
    finish_epochs(run)
    return start, run.supernet, halves


def test_three_epochs_equal_the_plainly_written_ones(searched: Searched) -> None:
    start, end, halves = searched
    assert distance(end, plain(start, halves, terms(config()))) < 1e-8
    assert float((alphas(end) - alphas(start)).abs().min()) > 1e-3


#: Every term of the recipe, and a value that it does not have.
WRONG: dict[str, dict[str, Any]] = {
    "alpha learns from the half of the weights": {"alpha_half": "weights"},
    "weights learn from the half of alpha": {"weight_half": "alphas"},
    "first order": {"order": 1},
    "xi constant": {"xi": 0.2},
    "another eps": {"eps": 0.4},
    "gradients not clipped": {"grad_clip": 1e9},
    "no weight decay": {"weight_decay": 0.0},
    "less momentum": {"momentum": 0.7},
    "no Nesterov": {"nesterov": False},
    "another length": {"epochs": EPOCHS + 1},
    "no least learning rate": {"lr_min": 0.0},
    "another learning rate": {"lr": 0.21},
    "a linear schedule": {"schedule": "linear"},
    "another alpha learning rate": {"alpha_lr": 0.06},
    "first beta of alpha": {"alpha_betas": (0.9, 0.9)},
    "second beta of alpha": {"alpha_betas": (0.6, 0.999)},
    "no weight decay of alpha": {"alpha_weight_decay": 0.0},
    "no alpha warm-up": {"alpha_warmup": 0},
    "a longer alpha warm-up": {"alpha_warmup": 2},
    "constant identity": {"identity_decay": "none"},
    "not accumulated": {"accumulate": 1},
    "no crop": {"crop_padding": 0},
    "no flip": {"flip": False},
    "another seed": {"seed": 5},
}


@pytest.mark.parametrize("term", WRONG)
def test_each_term_matters(term: str, searched: Searched) -> None:
    start, end, halves = searched
    assert distance(end, plain(start, halves, dataclasses.replace(terms(config()), **WRONG[term]))) > 1e-4


@pytest.mark.parametrize(
    "values",
    [
        {
            "search.order": 1,
            "supernet.space": "darts",
            "supernet.cells": 3,
            "supernet.ops": ["skip_connect", "max_pool_3x3"],
        },
        {"search.xi": 0.05, "search.nesterov": False, "search.accumulate": 1, "data.search_fraction": 0.03},
        {"search.momentum": 0.0, "search.nesterov": False, "search.alpha_warmup": 0, "supernet.edge_norm": True},
        {"search.grad_clip": 1e9, "supernet.identity_decay": "none", "supernet.split_ratio": "1"},
    ],
    ids=["first order in darts", "constant xi, two steps", "edge normalisation", "not clipped"],
)
def test_other_recipes_equal_theirs(values: dict[str, Any], tmp_path: Path) -> None:
    """What the test above has switched on, off; and the other space."""
    settings = config(**values)
    run = searching(settings, tmp_path)
    start = copy.deepcopy(run.supernet)
    halves = {"weights": pictures(run.train), "alphas": pictures(run.valid)}
    finish_epochs(run, 2)
    assert distance(run.supernet, plain(start, halves, terms(settings), 2)) < 1e-8


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_the_portable_kernels_take_the_same_steps(space: str, tmp_path: Path) -> None:
    """Second order, momentum, clipping and accumulation with all operations: what the CPU's kernels come to."""
    values = {"supernet.space": space, "supernet.ops": None, "supernet.cells": 3 if space == "darts" else 1}
    found = []
    for kernels in ("auto", "portable"):
        run = searching(config(**values, **{"runtime.kernels": kernels}), tmp_path / kernels)
        before = alphas(run.supernet)
        finish_epochs(run, 2)
        found.append(run.supernet)
    assert distance(*found) < 1e-8
    assert float((alphas(found[1]) - before).abs().min()) > 1e-3


# --- which half teaches what ---------------------------------------------------------------------


def negative(source: Any) -> Any:
    return dataclasses.replace(source, images=255 - source.images)


@pytest.mark.parametrize("order", [1, 2])
def test_each_half_teaches_its_own(order: int, tmp_path: Path) -> None:
    """Other pictures in one half, and what has changed after one step."""

    def step(change: str) -> tuple[Tensor, Tensor]:
        run = searching(config(**{"search.order": order, "search.alpha_warmup": 0}), tmp_path / change)
        if change == "weights":
            run.train = negative(run.train)
        elif change == "alphas":
            run.valid = negative(run.valid)
        train, valid = next(run.train.batches(0)), next(run.valid.batches(0))
        lr = float(run.weight_optimizer.param_groups[0]["lr"])
        gradient = torch.cat([g.flatten() for g in run.alpha_step.gradient(train, valid, lr)])
        run.move_weights(train)
        return gradient, torch.cat([w.detach().flatten() for w in run.weights])

    (gradient, weights), (gradient_w, weights_w), (gradient_a, weights_a) = (
        step(change) for change in ("nothing", "weights", "alphas")
    )
    assert not torch.equal(gradient_a, gradient), "the architecture learns from its own half"
    assert torch.equal(weights_a, weights), "the weights do not see the half of the architecture"
    assert not torch.equal(weights_w, weights), "the weights learn from their own half"
    # The first-order step does not see the weights' half; the second-order one looks a step of the weights ahead.
    assert torch.equal(gradient_w, gradient) == (order == 1)


def test_the_halves_are_parts_of_the_training_set(tmp_path: Path) -> None:
    run = searching(config(**{"data.search_fraction": 1.0}), tmp_path)
    whole = {image.numpy().tobytes() for image in run.data.train.images}  # type: ignore[attr-defined]
    one, two = ([image.numpy().tobytes() for image in half.images] for half in (run.train, run.valid))  # type: ignore[attr-defined]
    assert set(one) | set(two) == whole
    assert not set(one) & set(two)
    assert abs(len(one) - len(two)) <= 1


def test_the_validation_numbers_are_those_of_the_alpha_half_counted_by_hand(tmp_path: Path) -> None:
    """Mean over images, the smaller last batch included, with the running statistics of the normalisations."""
    run = searching(config(**{"data.search_fraction": 0.04}), tmp_path)
    run.train_epoch()
    loss, error = whole_error(run.supernet, run.valid, 2 * run.config.search.batch_size, "none")
    half = pictures(run.valid)
    assert len(half.labels) % (2 * run.config.search.batch_size)
    supernet = copy.deepcopy(run.supernet).eval()
    with torch.no_grad():
        logits = torch.cat([supernet(half.normalised(image)[None]) for image in half.images])
    assert loss == pytest.approx(float(cross_entropy(logits, half.labels)), rel=1e-6)
    wrong = [int(row.argmax()) != int(label) for row, label in zip(logits, half.labels, strict=True)]
    assert error == pytest.approx(100 * sum(wrong) / len(wrong))
    assert run.supernet.training
