"""Runs whose retraining has finished, and networks with weights that no layer starts with, for tests of exports."""

from pathlib import Path
from typing import Any

import torch

from cscdarts.export.card import Card
from cscdarts.export.classifier import Classifier, exported_tensors, weights_sha256
from cscdarts.export.shape import Shape
from cscdarts.export.source import of_genotype
from cscdarts.models.reference_network import ReferenceNetwork
from cscdarts.models.reference_weights import copy_weights
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces import is_large, parse_genotype
from cscdarts.training.retrain import retrain
from tests.support.cells import CELLS
from tests.support.models.equality import randomize
from tests.support.training.retraining import GENOTYPE, config, random_tree

COMMIT = "c0ffee" * 6 + "abcd"
NB201 = CELLS["nasbench201"]


def finished_run(root: Path, **values: Any) -> RunFolder:
    """A run on random pictures whose cell has been retrained for one epoch, with an auxiliary head."""
    settings = config(random_tree(root / "pictures"), **{"evaluation.epochs": 1, "labels.scale": "smoke", **values})
    folder = RunFolder(root / "run")
    folder.create(settings)
    write_json(folder.file("genotype.json"), {"space": "darts", "text": GENOTYPE, "epoch": 1})
    write_json(folder.file("environment.json"), {"commit": COMMIT, "dirty": True})
    retrain(settings, folder)
    return folder


def settings_of(cell: str, **values: Any) -> RunConfig:
    """A small network's configuration."""
    genotype = parse_genotype(CELLS[cell])
    # Four cells are normal, reduction, reduction, normal: in the last the cell identity needs no projection.
    sizes = {"supernet.space": genotype.space, "evaluation.channels": 8}
    return with_values(RunConfig(), {**sizes, "evaluation.cells": 4 if genotype.space == "darts" else 1, **values})


def drawn(cell: str, size: int = 32, **values: Any) -> Classifier:
    """The untrained network of a cell, as `cscdarts export` makes it."""
    return of_genotype(parse_genotype(CELLS[cell]), settings_of(cell, **values), Shape(5, 3, size), Code())


def pair(cell: str, size: int = 32, **values: Any) -> tuple[ReferenceNetwork, Classifier]:
    """The plain reference with random weights and statistics, in evaluation mode, and a network with the same."""
    settings = settings_of(cell, **{"evaluation.auxiliary": 0.0, **values})
    reference = ReferenceNetwork(
        parse_genotype(CELLS[cell]), settings.evaluation, settings.supernet, 5, 3, is_large(size)
    )
    randomize(reference)
    made = drawn(cell, size, **{"evaluation.auxiliary": 0.0, **values})
    copy_weights(reference, made.network)
    return reference.eval(), Classifier(made.network, with_weights(made.card, made))


def with_weights(card: Card, classifier: Classifier) -> Card:
    """The card for the weights that a network has now."""
    return card.model_copy(update={"weights_sha256": weights_sha256(exported_tensors(classifier.network))})


def batch(count: int, channels: int, size: int, seed: int = 1) -> torch.Tensor:
    """Random images."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))
