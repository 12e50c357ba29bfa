"""The published recipes line by line: the values that stand in the sources' code, and which test shows what each value
does."""

import ast
from pathlib import Path
from typing import Any

import pytest

from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.optimiser_recipes import PROFILES
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol

TESTS = Path(__file__).parents[2]

# quark0/darts at f276dd3, cnn/train_search.py and cnn/architect.py
DARTS_SEARCH = {
    "search.batch_size": 64, "search.epochs": 50, "supernet.channels": 16, "supernet.cells": 8,
    "search.lr": 0.025, "search.lr_min": 0.001, "search.momentum": 0.9, "search.weight_decay": 3e-4, "search.nesterov": False,
    "search.grad_clip": 5.0, "search.alpha_lr": 3e-4, "search.alpha_betas": (0.5, 0.999), "search.alpha_weight_decay": 1e-3,
    "search.alpha_init_std": 1e-3, "search.xi": "lr", "search.eps": 0.01, "search.derive": "last", "data.search_fraction": 1.0,
}  # fmt: skip
# cnn/train.py
DARTS_CIFAR = {
    "evaluation.batch_size": 96, "evaluation.lr": 0.025, "evaluation.lr_min": 0.0, "evaluation.schedule": "cosine",
    "evaluation.momentum": 0.9, "evaluation.nesterov": False, "evaluation.weight_decay": 3e-4, "evaluation.epochs": 600,
    "evaluation.channels": 36, "evaluation.cells": 20, "evaluation.auxiliary": 0.4, "evaluation.cutout": 16,
    "evaluation.drop_path": 0.2, "evaluation.grad_clip": 5.0, "evaluation.label_smoothing": 0.0, "evaluation.warmup_epochs": 0,
}  # fmt: skip
# cnn/train_imagenet.py where PC-DARTS (b74702f, train_imagenet.py) does not say otherwise: batch, rate, schedule,
# warm-up
IMAGENET = {
    "evaluation.batch_size": 1024, "evaluation.lr": 0.5, "evaluation.schedule": "linear", "evaluation.warmup_epochs": 5,
    "evaluation.weight_decay": 3e-5, "evaluation.epochs": 250, "evaluation.channels": 48, "evaluation.cells": 14,
    "evaluation.auxiliary": 0.4, "evaluation.drop_path": 0.0, "evaluation.cutout": 0, "evaluation.grad_clip": 5.0,
    "evaluation.label_smoothing": 0.1, "evaluation.color_jitter": True, "evaluation.momentum": 0.9,
}  # fmt: skip
# PC-DARTS train_search_imagenet.py
IMAGENET_SEARCH = {
    "search.batch_size": 1024, "search.lr": 0.5, "search.lr_min": 0.0, "search.alpha_lr": 6e-3, "search.alpha_warmup": 35,
    "search.epochs": 50, "data.search_fraction": 0.125, "supernet.channels": 16, "supernet.cells": 8,
}  # fmt: skip


def value_at(config: RunConfig, path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("cifar10", DARTS_SEARCH | DARTS_CIFAR | {"data.dataset": "cifar10", "data.search_dataset": "same"}),
        ("cifar100", DARTS_SEARCH | DARTS_CIFAR | {"data.dataset": "cifar100", "data.search_dataset": "same"}),
        (
            "cifar100-transfer",
            DARTS_SEARCH | DARTS_CIFAR | {"data.dataset": "cifar100", "data.search_dataset": "cifar10"},
        ),
        ("imagenet-transfer", DARTS_SEARCH | IMAGENET | {"data.dataset": "imagenet", "data.search_dataset": "cifar10"}),
        ("imagenet-direct", IMAGENET_SEARCH | IMAGENET | {"data.dataset": "imagenet", "data.search_dataset": "same"}),
    ],
)
@pytest.mark.parametrize("preset", ["darts1", "pcdarts", "csc"])
def test_protocols_at_the_papers_scale_hold_the_published_values(
    name: str, published: dict[str, Any], preset: str
) -> None:
    if preset == "darts1":
        published = published | {"search.alpha_warmup": 0}  # DARTS has none
    config = apply_preset(protocol(name, "paper"), preset)
    found = {path: value_at(config, path) for path in published}
    assert found == published
    assert value_at(config, "supernet.space") == "darts"


def test_what_pcdarts_sets_itself() -> None:
    config = apply_preset(protocol("cifar10", "paper"), "pcdarts")
    assert (str(config.supernet.split_ratio), config.supernet.split_pick, config.supernet.shuffle) == (
        "1/4",
        "first",
        True,
    )
    assert (config.supernet.edge_norm, config.supernet.bypass_reduce, config.supernet.identity) == (True, "max", "none")
    assert (config.search.order, config.search.alpha_warmup, config.evaluation.split_eval) == (1, 15, False)
    profile = {"search.batch_size": 256, "search.lr": 0.1, "search.lr_min": 0.0, "search.alpha_lr": 6e-4}
    assert dict(PROFILES["pcdarts"]) == profile
    assert with_values(config, PROFILES["pcdarts"]).search.alpha_weight_decay == 1e-3


def test_orders_of_the_presets() -> None:
    orders = {
        name: apply_preset(RunConfig(), name).search.order
        for name in ("darts1", "darts2", "pcdarts", "dartsminus", "csc")
    }
    assert orders == {"darts1": 1, "darts2": 2, "pcdarts": 1, "dartsminus": 1, "csc": 2}
    assert apply_preset(RunConfig(), "darts2").search.alpha_warmup == 0


#: What a line of a recipe does -> the test that shows it. Values are held above.
SHOWN_BY = {
    "weights: SGD, momentum, weight decay, clipping": "cscdarts/training/test_search_step.py::test_three_epochs_equal_the_plainly_written_ones",
    "weights: cosine from lr to lr_min": "cscdarts/training/test_search_step.py::test_each_term_matters",
    "alpha: Adam, betas, weight decay": "cscdarts/training/test_search_step.py::test_each_term_matters",
    "alpha: normal draws times the given deviation": "cscdarts/training/test_search_records.py::test_alpha_begins_near_0",
    "data: two halves of the training set": "cscdarts/training/test_search_step.py::test_the_halves_are_parts_of_the_training_set",
    "data: alpha learns from one half, weights from the other": "cscdarts/training/test_search_step.py::test_each_half_teaches_its_own",
    "data: no cutout in the search": "cscdarts/training/test_search_step.py::test_three_epochs_equal_the_plainly_written_ones",
    "xi: the present learning rate": "cscdarts/training/test_search_step.py::test_each_term_matters",
    "unrolled step: gradient, decay and momentum": "cscdarts/training/test_bilevel.py::test_exact_second_order_is_the_derivative_through_the_unrolled_step",
    "finite difference: two-sided, eps over the norm": "cscdarts/training/test_bilevel.py::test_finite_difference_converges_to_the_exact_product",
    "first order: xi = 0": "cscdarts/training/test_bilevel.py::test_second_order_with_xi_0_is_first_order",
    "operations, cell and supernet": "cscdarts/models/test_supernet.py::test_known_sizes_of_the_darts_supernet",
    "derivation: two strongest inputs, never none": "cscdarts/models/test_network.py::test_darts_keeps_the_two_strongest_inputs_and_never_none",
    "derivation: last epoch": "cscdarts/training/derivation/test_derivation.py::test_last_takes_the_last_epoch",
    "no drop-path in the search": "cscdarts/training/test_search_step.py::test_three_epochs_equal_the_plainly_written_ones",
    "retraining: SGD, clipping, auxiliary loss, smoothing, cutout": "cscdarts/training/test_retrain.py::test_two_epochs_equal_the_plainly_written_ones",
    "retraining: each of them matters": "cscdarts/training/test_retrain.py::test_each_term_matters",
    "retraining: linear schedule, warm-up, x 0.97 an epoch": "cscdarts/training/test_retrain.py::test_other_recipes_equal_theirs",
    "retraining: drop-path rises linearly": "cscdarts/training/test_schedules.py::test_drop_path_rises_linearly_from_0_and_never_reaches_its_limit",
    "retraining: drop-path spares identities": "cscdarts/models/test_network.py::test_drop_path_spares_identities",
    "retraining: auxiliary head after two thirds": "cscdarts/training/test_retrain.py::test_the_auxiliary_head_sits_after_two_thirds_of_the_cells",
    "retraining: the whole training part, tested on the test part": "cscdarts/training/test_retrain.py::test_the_test_error_is_that_of_the_test_part_counted_by_hand",
    "retraining: full channels": "cscdarts/models/test_network.py::test_known_sizes_of_published_cells",
    "ImageNet: resized crop, flip, jitter .4 .4 .4 .2": "cscdarts/data/test_data.py::test_streamed_images_are_transformed_as_published",
    "PC-DARTS: alpha rests in the warm-up": "cscdarts/training/test_search_step.py::test_each_term_matters",
    "PC-DARTS: warm-up keeps its share": "cscdarts/settings/test_config.py::test_warmup_keeps_its_share_of_the_epochs",
    "PC-DARTS: beta softmaxed over a node's inputs, alpha x beta": "cscdarts/training/derivation/test_derivation.py::test_edge_parameters_are_softmaxed_over_the_inputs_of_a_node_and_multiplied",
}


@pytest.mark.parametrize("line", SHOWN_BY)
def test_each_line_has_its_test(line: str) -> None:
    file, _, name = SHOWN_BY[line].partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
