"""The fast supernet computes what the edge-by-edge reference computes: logits, all gradients, running statistics."""

from itertools import combinations, product
from typing import Any

import pytest
import torch

from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.supernet import Supernet
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from tests.support.covering import covering
from tests.support.equality import assert_equal_step, built, images

#: Each operation is in one of them: a mixed operation is a sum. All together are a case of their own.
OPS = {
    "darts": {
        "pools": ("none", "max_pool_3x3", "avg_pool_3x3"),
        "convs": ("sep_conv_3x3", "dil_conv_5x5"),
        "more": ("skip_connect", "dil_conv_3x3", "sep_conv_5x5"),
    },
    "nasbench201": {
        "pools": ("none", "avg_pool_3x3"),
        "convs": ("nor_conv_1x1", "nor_conv_3x3"),
        "more": ("skip_connect", "nor_conv_3x3"),
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
    "ops": ("pools", "convs", "more"),
    "autograd": ("fused", "plain"),
}
#: Identity x phases x projection x space x ratio; where the identity has no projection, that is any.
PRODUCT = [
    {"space": space, "split_ratio": ratio, **identity}
    for space, ratio in product(("darts", "nasbench201"), ("1", "1/2", "1/4"))
    for identity in (
        {"identity": "none"},
        *({"identity": kind, "identity_phases": off} for kind, off in product(("cell", "edge"), ("eval", "none"))),
        *({"identity": "edge", "identity_phases": on} for on in ("both", "search")),
        *(
            {"identity": "cell", "identity_phases": on, "identity_proj": projection}
            for on, projection in product(("both", "search"), SWITCHES["identity_proj"])
        ),
    )
]
CASES = covering(SWITCHES, PRODUCT)


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


def pair(case: dict[str, Any]) -> tuple[ReferenceSupernet, Supernet]:
    """The reference and the fast supernet of a case, as a search would build them, in double precision."""
    space = case["space"].split(",")[0]
    # Four cells are normal, reduction, reduction, normal: in the last the cell identity needs no projection.
    sizes = {"channels": 8, "cells": 1 if space == "nasbench201" else 4 if case["identity"] == "cell" else 3}
    values = {name: value for name, value in case.items() if name != "autograd"} | sizes
    values |= {"space": space, "ops": OPS[space][case["ops"]]}
    config = with_values(RunConfig(), {f"supernet.{name}": value for name, value in values.items()})
    large = case["space"] != space
    reference = built(lambda: ReferenceSupernet(config.supernet, 5, 3, large))
    fast = Supernet(config.supernet, 5, 3, config.identity_in("search"), large).double()
    for layer in fast.modules():
        if hasattr(layer, "plain"):
            layer.plain = case["autograd"] == "plain"
    if case["split_pick"] == "random":
        for model in (reference, fast):
            model.draw_channels(torch.Generator().manual_seed(1))
    return reference, fast


def inputs(case: dict[str, Any]) -> torch.Tensor:
    return images(3, 64 if "large" in case["space"] else 8)


def test_the_cases_hold_every_pair_of_values() -> None:
    for a, b in combinations(SWITCHES, 2):
        assert {(case[a], case[b]) for case in CASES} == set(product(SWITCHES[a], SWITCHES[b]))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_fast_supernet_equals_the_reference(case: dict[str, Any]) -> None:
    reference, fast = pair(case)
    assert_equal_step(reference, fast, inputs(case))
