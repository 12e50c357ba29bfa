"""The fast supernet computes what the edge-by-edge reference computes: logits, all gradients, running statistics."""

from itertools import combinations, cycle, product
from typing import Any

import pytest
import torch

from cscdarts.data.randomness import numpy_generator
from cscdarts.kernels.batch_norm import frozen_statistics
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.reference_weights import copy_weights
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces.genotype import random_genotype
from cscdarts.training.one_shot import discrete_mixing
from cscdarts.training.schedules import identity_scale
from tests.support.covering import covering
from tests.support.equality import assert_close, assert_equal_step, images, in_double, randomize

#: Few at a time, as a mixed operation is a sum; all of them have a test of their own.
OPS: dict[str, dict[str, Any]] = {
    "darts": {
        "pools": ("none", "max_pool_3x3", "avg_pool_3x3"),
        "convs": ("sep_conv_3x3", "dil_conv_5x5"),
        "skip": ("skip_connect", "dil_conv_3x3"),
    },
    "nasbench201": {
        "pools": ("none", "avg_pool_3x3"),
        "convs": ("nor_conv_1x1", "nor_conv_3x3"),
        "skip": ("skip_connect", "nor_conv_3x3"),
    },
}
SWITCHES: dict[str, tuple[Any, ...]] = {
    "space": ("nasbench201", "darts", "darts, large images"),
    "split_ratio": ("1/2", "1/4", "1", "3/4"),
    "identity": ("cell", "edge", "none"),
    "identity_phases": ("both", "search", "eval", "none"),
    "identity_proj": ("conv", "pool-pad", "skip-cell"),
    "identity_scale": (0.5, 1.0, 0.0),
    "edge_norm": (True, False),
    "bypass_reduce": ("factorized", "max", "avg", "nosplit"),
    "split_pick": ("first", "last", "random"),
    "shuffle": (True, False),
    "ops": ("pools", "convs", "skip"),
    "kernels": ("auto", "portable", "plain"),
}
IDENTITIES: list[dict[str, Any]] = [
    {"identity": "none"},
    *({"identity": kind, "identity_phases": off} for kind, off in product(("cell", "edge"), ("eval", "none"))),
    *({"identity": "edge", "identity_phases": on} for on in ("both", "search")),
    *(
        {"identity": "cell", "identity_phases": on, "identity_proj": projection}
        for on, projection in product(("both", "search"), SWITCHES["identity_proj"])
    ),
]
SPLIT = ("bypass_reduce", "split_pick", "shuffle", "edge_norm", "kernels")
SPLITS = covering({name: SWITCHES[name] for name in SPLIT})
#: Identity x phases x projection x space x ratio; where the identity has no projection, that is any.
PRODUCT = [
    *(
        {"space": "nasbench201", "split_ratio": r, **identity}
        for r, identity in product(("1", "1/2", "1/4"), IDENTITIES)
    ),
    *({"space": "darts", "split_ratio": "1", **identity} for identity in IDENTITIES),
    *(
        {"space": "darts", "split_ratio": ratio, **identity, **split}
        for (ratio, identity), split in zip(product(("1/2", "1/4"), IDENTITIES), cycle(SPLITS), strict=False)
    ),
]
CASES = covering(SWITCHES, PRODUCT)


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


def pair(case: dict[str, Any]) -> tuple[ReferenceSupernet, Supernet]:
    """The reference and the fast supernet of a case, as a search would build them, in double precision."""
    space = case["space"].split(",")[0]
    # Four cells are normal, reduction, reduction, normal: in the last the cell identity needs no projection.
    sizes = {"channels": 8, "cells": 1 if space == "nasbench201" else 4 if case["identity"] == "cell" else 3}
    values = {name: value for name, value in case.items() if name != "kernels"} | sizes
    values |= {"space": space, "ops": OPS[space].get(case["ops"])}
    config = with_values(RunConfig(), {f"supernet.{name}": value for name, value in values.items()})
    large = case["space"] != space
    reference = in_double(lambda: ReferenceSupernet(config.supernet, 5, 3, large))
    fast = in_double(lambda: Supernet(config.supernet, 5, 3, config.identity_in("search"), large))
    randomize(reference)
    fast.use(case["kernels"])
    if case["split_pick"] == "random":
        for model in (reference, fast):
            model.draw_channels(torch.Generator().manual_seed(1))
    return reference, fast


def inputs(case: dict[str, Any]) -> torch.Tensor:
    return images(3, 64 if "large" in case["space"] else 8)


def test_the_cases_hold_every_pair_of_values() -> None:
    """Of all switches; of those of the split where there is a strided one; of those of the identity where it acts."""
    split = [case for case in CASES if case["split_ratio"] != "1" and case["space"] != "nasbench201"]
    acting = [c for c in CASES if c["identity"] != "none" and c["identity_phases"] in ("both", "search")]
    for cases, names in (
        (CASES, tuple(SWITCHES)),
        (split, SPLIT),
        (acting, ("identity_scale", "edge_norm", "kernels")),
    ):
        for a, b in combinations(names, 2):
            missing = set(product(SWITCHES[a], SWITCHES[b])) - {(case[a], case[b]) for case in cases}
            assert not missing, (a, b)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_fast_supernet_equals_the_reference(case: dict[str, Any]) -> None:
    reference, fast = pair(case)
    assert_equal_step(reference, fast, inputs(case))


DEFAULT = {name: values[0] for name, values in SWITCHES.items()} | {"split_ratio": "1/2", "identity_scale": 1.0}


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("kernels", SWITCHES["kernels"])
def test_with_all_operations(space: str, kernels: str) -> None:
    case = {**DEFAULT, "space": space, "kernels": kernels, "ops": "all"}
    assert_equal_step(*pair(case), inputs(case))


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize(("identity", "seed"), [("cell", 0), ("edge", 5)])
def test_discrete_mixing(space: str, identity: str, seed: int) -> None:
    """One-hot mixing weights as a discrete cell gets them: edges that it does not keep still bypass and carry."""
    case = {**DEFAULT, "space": space, "identity": identity, "ops": "skip"}
    reference, fast = pair(case)
    genotype = random_genotype(space, numpy_generator(seed, "t"))
    mixing = {kind: (rows.double(), None) for kind, (rows, _) in discrete_mixing(fast, genotype).items()}
    assert all(rows.sum() > 0 and set(rows.sum(1).tolist()) == {0.0, 1.0} for rows, _ in mixing.values())
    assert_equal_step(reference, fast, inputs(case), mixing=mixing)
    # As candidates are scored: batch statistics, no gradients, running statistics held.
    copy_weights(reference, fast)
    before = [b.clone() for b in fast.buffers()]
    with torch.no_grad(), frozen_statistics(fast):
        found = fast.train()(inputs(case), mixing)
        assert_close(found, reference.train()(inputs(case), mixing), "logits without gradients")
    assert all(torch.equal(b, old) for b, old in zip(fast.buffers(), before, strict=True))


@pytest.mark.parametrize("epoch", [0, 3, 9])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_decay_lowers_the_scale_linearly(epoch: int, scale: float) -> None:
    case = {**DEFAULT, "identity": "edge", "identity_phases": "search", "identity_scale": scale}
    reference, fast = pair(case)
    config = with_values(RunConfig(), {"search.epochs": 10, "search.alpha_warmup": 0})
    values = {"identity": "edge", "identity_phases": "search", "identity_decay": "linear", "identity_scale": scale}
    config = with_values(config, {f"supernet.{name}": value for name, value in values.items()})
    fast.identity_scale = identity_scale(config, epoch)
    reference.identity_scale = scale * (1 - epoch / 10)
    assert_equal_step(reference, fast, inputs(case))


@pytest.mark.parametrize(
    "other", [{"identity": "none"}, {"ops": "convs"}, {"split_ratio": "1/4"}, {"space": "nasbench201"}]
)
def test_weights_of_another_config_are_refused(other: dict[str, Any]) -> None:
    case = {**DEFAULT, "space": "darts"}
    with pytest.raises(ValueError):
        copy_weights(pair(case)[0], pair({**case, **other})[1])
