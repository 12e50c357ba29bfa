"""The discrete network computes what the plain reference computes: logits, all gradients, running statistics."""

from itertools import combinations, product
from typing import Any

import pytest
import torch
from torch import nn

from cscdarts.models.network import AuxiliaryHead, Network
from cscdarts.models.reference_network import ReferenceAuxiliaryHead, ReferenceNetwork
from cscdarts.models.reference_weights import copy_weights
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces.genotype import parse_genotype
from tests.support.cells import CELLS
from tests.support.models.covering import covering
from tests.support.models.equality import assert_close, assert_equal_step, images, in_double, randomize

SWITCHES: dict[str, tuple[Any, ...]] = {
    "genotype": tuple(CELLS),
    "supernet.identity": ("cell", "edge", "none"),
    "supernet.identity_phases": ("both", "search", "eval", "none"),
    "supernet.identity_proj": ("conv", "pool-pad", "skip-cell"),
    "supernet.identity_scale": (0.5, 1.0, 0.0),
    "evaluation.split_eval": (False, True),
    "supernet.split_ratio": ("1/2", "1/4", "3/4", "1"),
    "supernet.bypass_reduce": ("factorized", "max", "avg", "nosplit"),
    "supernet.split_pick": ("first", "last"),
    "supernet.shuffle": (True, False),
    "evaluation.identity_drop_path": (False, True),
    "evaluation.auxiliary": (0.4, 0.0),
    "drop_path": (0.4, 0.0),
    "large images": (False, True),
}


def allowed(case: dict[str, Any]) -> bool:
    return case["genotype"] != "nasbench201" or not case["large images"]


#: Where the identity acts: with each projection, with and without the split.
PRODUCT = [
    {"genotype": genotype, "evaluation.split_eval": split, "supernet.identity_scale": 0.5, **identity}
    for genotype, split in product(CELLS, (False, True))
    for identity in (
        *(
            {"supernet.identity": "cell", "supernet.identity_phases": "both", "supernet.identity_proj": projection}
            for projection in SWITCHES["supernet.identity_proj"]
        ),
        {"supernet.identity": "edge", "supernet.identity_phases": "eval"},
    )
]
SPLIT = ("supernet.split_ratio", "supernet.bypass_reduce", "supernet.split_pick", "supernet.shuffle")
CASES = covering(
    SWITCHES,
    [
        *PRODUCT,
        *covering(
            {"genotype": tuple(CELLS)[:2], "evaluation.split_eval": (True,)} | {name: SWITCHES[name] for name in SPLIT}
        ),
    ],
    allowed,
)


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values())


def pair(case: dict[str, Any]) -> tuple[ReferenceNetwork, Network]:
    """The reference and the fast network of a case, as a retraining would build them, in double precision."""
    genotype = parse_genotype(CELLS[case["genotype"]])
    sizes = {"supernet.space": genotype.space, "evaluation.channels": 8}
    # Four cells are normal, reduction, reduction, normal: in the last the cell identity needs no projection.
    sizes["evaluation.cells"] = 4 if genotype.space == "darts" else 1
    values = {name: value for name, value in case.items() if "." in name} | sizes
    config = with_values(RunConfig(), values)
    arguments = (config.evaluation, config.supernet)
    large = case["large images"]
    reference = in_double(lambda: ReferenceNetwork(genotype, *arguments, 5, 3, large))
    fast = in_double(lambda: Network(genotype, *arguments, config.identity_in("eval"), 5, 3, large))
    randomize(reference)
    reference.drop_path_probability = fast.dropper.probability = case["drop_path"]
    return reference, fast


def same_draws(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(7)
    if isinstance(model, Network):
        model.dropper.generator = generator
    else:
        model.generator = generator  # type: ignore[assignment]


def test_the_cases_hold_every_pair_of_values() -> None:
    """Of all switches, and of those of the split where it is kept."""
    split = [case for case in CASES if case["evaluation.split_eval"]]
    for cases, names in ((CASES, tuple(SWITCHES)), (split, SPLIT)):
        for a, b in combinations(names, 2):
            missing = set(product(SWITCHES[a], SWITCHES[b])) - {(case[a], case[b]) for case in cases}
            assert missing == ({("nasbench201", True)} if (a, b) == ("genotype", "large images") else set()), (a, b)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_network_equals_the_reference(case: dict[str, Any]) -> None:
    reference, fast = pair(case)
    assert (fast.auxiliary is None) == (case["evaluation.auxiliary"] == 0 or case["genotype"] == "nasbench201")
    assert_equal_step(reference, fast, images(4, 64 if case["large images"] else 8), same_draws)


@pytest.mark.parametrize(("size", "large"), [(8, False), (7, True), (4, False), (2, True)])
def test_the_auxiliary_head_equals_the_reference(size: int, large: bool) -> None:
    """On maps of the size that the method's networks have there, and on smaller ones."""
    reference = in_double(lambda: ReferenceAuxiliaryHead(3, 5, large))
    randomize(reference)
    fast = in_double(lambda: AuxiliaryHead(3, 5, large))
    fast.load_state_dict(reference.state_dict(), strict=False)
    assert {name for name, _ in fast.named_parameters()} == {name for name, _ in reference.named_parameters()}
    assert_close(fast(images(3, size)).detach(), reference(images(3, size)).detach(), "logits")


def test_a_supernet_takes_no_weights_of_a_network() -> None:
    from cscdarts.models.supernet import Supernet

    case = {name: values[0] for name, values in SWITCHES.items()}
    config = with_values(RunConfig(), {"supernet.channels": 8, "supernet.cells": 4})
    with pytest.raises(ValueError):
        copy_weights(pair(case)[0], Supernet(config.supernet, 5))
