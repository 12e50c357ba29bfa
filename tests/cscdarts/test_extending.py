"""Operations and spaces of users: registered from outside, they are searched, derived, retrained, drawn and counted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ablations.run.stages import stages_of
from cscdarts import (
    RunConfig,
    RunFolder,
    UserError,
    apply_preset,
    network_cost,
    parse_genotype,
    protocol,
    read_genotype,
    with_values,
)
from cscdarts.models.cost import supernet_cost
from cscdarts.models.network import Network
from cscdarts.models.supernet import Supernet
from cscdarts.spaces import (
    NASBENCH201,
    OPERATIONS,
    SPACES,
    Conv,
    MacroSkeleton,
    Operation,
    Skip,
    Zero,
    random_genotype,
    register_operation,
    register_space,
)
from cscdarts.training.derivation import derive, genotype_of
from cscdarts.training.retrain import retrain
from cscdarts.training.search import search
from reports.figures.genotype import cell_svg, draw, layout
from tests.support.own_space import NOISE, OAK, tree_space
from tests.support.records import written


@pytest.fixture
def extended() -> Iterator[None]:
    """The noise operation and the tree space, known for one test."""
    register_operation(NOISE)
    register_space(tree_space())
    yield
    SPACES.unregister("tree")
    OPERATIONS.unregister("noise")


def smoke(**values: Any) -> RunConfig:
    sizes = {
        "data.search_fraction": 0.08,
        "search.batch_size": 18,
        "search.alpha_lr": 0.1,
        "evaluation.batch_size": 360,
        "runtime.device": "cpu",
    }
    return with_values(apply_preset(protocol("quickstart", "smoke"), "csc"), {**sizes, **values})


def go(config: RunConfig, path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.create(config)
    search(config, folder, lambda: False, lambda line: None)
    derive(config, folder)
    retrain(config, folder, lambda: False, lambda line: None)
    return folder


@pytest.mark.parametrize(
    "values",
    [
        {"supernet.ops": "skip_connect,nor_conv_3x3,noise"},
        {"supernet.space": "darts", "supernet.ops": "skip_connect,sep_conv_3x3,noise", "supernet.cells": 3},
        {"supernet.space": "tree"},
        {"supernet.space": "tree", "supernet.ops": "none,sep_conv_3x3,noise", "supernet.identity": "edge"},
    ],
    ids=["noise in nasbench201", "noise in darts", "tree", "noise in tree"],
)
def test_the_whole_way(values: dict[str, Any], tmp_path: Path, extended: None) -> None:
    """Search, derive, retrain, draw, and count with what a user registered; the run folder tells all of it again."""
    config = smoke(**values)
    folder = go(config, tmp_path)
    assert folder.config() == config
    stored = written(folder.file("genotype.json"))
    result = written(folder.file("result.json"))
    genotype = parse_genotype(stored["text"], stored["space"])
    assert read_genotype(str(tmp_path)).genotype == genotype
    assert genotype.space == config.supernet.space
    assert str(genotype) == result["genotype"]
    assert 0 <= result["values"]["test_error_pct"] <= 100
    cells = layout(genotype)
    assert [len(cell.arcs) for cell in cells] == [
        len(genotype.edges(kind)) for kind in SPACES[genotype.space].cell_kinds
    ]
    axes = Figure().add_subplot()
    draw(axes, cells[0])
    drawn = [arc.op for arc in cells[0].arcs if not OPERATIONS[arc.op].is_zero]
    assert {text.get_text() for text in axes.texts} == {OPERATIONS[op].label for op in drawn} | set(cells[0].nodes)
    assert cell_svg(cells).count("<svg") == len(cells)
    size = int(1e6 * result["values"]["params_m"] + 0.5)
    assert (
        network_cost(genotype, config.evaluation, config.supernet, config.identity_in("eval"), 10, 1, 8).params == size
    )
    counted = supernet_cost(config.supernet, config.identity_in("search"), 10, 1, 8, batch=2)
    assert set(counted.by_operation) <= {*(config.supernet.ops or ()), "fixed"}
    assert counted.by_operation.get("noise", 0) == 0  # no convolution


def test_stages_of_a_run_follow_from_what_a_benchmark_holds(extended: None) -> None:
    assert "check" in stages_of(smoke())
    assert "check" not in stages_of(smoke(**{"supernet.ops": "skip_connect,noise"}))
    assert "check" not in stages_of(smoke(**{"supernet.space": "tree"}))


def test_an_operation_with_a_stride_and_a_split(extended: None) -> None:
    """In a reduction cell, on a share of the channels, beside operations that are computed together."""
    config = smoke(**{"supernet.space": "darts", "supernet.ops": "noise,skip_connect", "supernet.cells": 3}).supernet
    model = Supernet(config, 10, 1, "cell")
    images = torch.randn(2, 1, 8, 8)
    assert model(images).shape == (2, 10)
    model(images).sum().backward()
    assert all(alpha.grad is not None and alpha.grad.abs().sum() > 0 for alpha in model.alphas.values())


def test_a_space_of_ones_own_is_derived_by_its_rule(extended: None) -> None:
    """Each node keeps the input whose strongest operation but `none` weighs most."""
    alpha = np.zeros((6, 4))
    strong = {0: "skip_connect", 2: "sep_conv_3x3", 4: "avg_pool_3x3"}  # rows 0; 1 2; 3 4 5 enter nodes 1, 2, 3
    for row, op in strong.items():
        alpha[row, SPACES["tree"].ops.index(op)] = 2.0
    alpha[:, 0] = 5.0  # none
    genotype = genotype_of(smoke(**{"supernet.space": "tree"}).supernet, {"cell": alpha})
    assert str(genotype) == "tree(skip_connect<0, sep_conv_3x3<1, avg_pool_3x3<1)"
    assert genotype.skips == 1
    assert not genotype.parameter_free


def test_text_of_a_space_of_ones_own(extended: None) -> None:
    for seed in range(10):
        genotype = random_genotype("tree", np.random.default_rng(seed))
        assert parse_genotype(str(genotype)) == genotype
    assert read_genotype(OAK).genotype == parse_genotype(OAK)
    assert parse_genotype("tree(noise<0, noise<0, noise<1)").parameter_free
    with pytest.raises(UserError, match=r"tree\(op<0, \.\.\.\)"):
        parse_genotype("nonsense")
    with pytest.raises(UserError, match="an input from 0 to 0 for node 0"):
        parse_genotype("tree(noise<1)")
    with pytest.raises(UserError, match="nor_conv_3x3"):  # of another space
        parse_genotype("tree(nor_conv_3x3<0, noise<0, noise<0)")


def test_the_skeleton_stacks_a_space_of_ones_own(extended: None) -> None:
    """Two stages of two cells, a block between them, three maps concatenated."""
    config = smoke(**{"supernet.space": "tree", "evaluation.cells": 2}).evaluation
    network = Network(parse_genotype(OAK), config, smoke().supernet, "none", 7, 1)
    kinds = [type(cell).__name__ for cell in network.cells]
    assert kinds == ["DerivedCell", "DerivedCell", "ResidualReduction", "DerivedCell", "DerivedCell"]
    assert network.classifier.in_features == 3 * 2 * config.channels
    assert network(torch.randn(2, 1, 8, 8))[0].shape == (2, 7)


def test_reductions_may_share_the_parameters_of_other_cells() -> None:
    """One kind of cell, searched reductions: the same rows of alpha stand for operations in another order there."""
    space = tree_space(skeleton=MacroSkeleton("cell", stem_factor=2))
    register_space(space)
    try:
        model = Supernet(smoke(**{"supernet.space": "tree", "supernet.cells": 3}).supernet, 10, 1)
        assert set(model.alphas) == {"cell"}
        assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    finally:
        SPACES.unregister("tree")


def test_the_unknown_says_how_to_register_it() -> None:
    with pytest.raises(
        UserError, match=r"operation: 'noise' .*sep_conv_3x3.*cscdarts\.register_operation.*CSCDARTS_PLUGINS"
    ):
        OPERATIONS["noise"]
    with pytest.raises(UserError, match=r"supernet\.ops: 'noise' .*skip_connect.*cscdarts\.register_operation"):
        smoke(**{"supernet.ops": "skip_connect,noise"})
    with pytest.raises(UserError, match=r"supernet\.space: 'tree' .*darts, nasbench201.*cscdarts\.register_space"):
        smoke(**{"supernet.space": "tree"})
    with pytest.raises(UserError, match=r"genotype\[0\]: 'noise' .*register_operation"):
        parse_genotype("|noise~0|+|none~0|none~1|+|none~0|none~1|none~2|")


def test_operations_of_another_space_are_not_taken() -> None:
    with pytest.raises(UserError, match=r"supernet\.ops: 'sep_conv_3x3' is not valid"):
        smoke(**{"supernet.ops": "skip_connect,sep_conv_3x3"})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: register_operation(Operation("none", "n", (Zero(),))), "a name that the package does not use"),
        (lambda: register_operation(replace(NOISE, name="my noise")), "letters, digits and underscores"),
        (lambda: OPERATIONS.unregister("none"), "registered from outside"),
        (
            lambda: register_space(replace(NASBENCH201, nodes=2)),
            "a name that the package does not use",
        ),
        (lambda: Operation("a", "a"), "either parts or module"),
        (lambda: Operation("a", "a", (Skip(), Conv(3))), "convolutions in a row"),
        (lambda: Operation("a", "a", (Conv(2),)), "an odd number of pixels"),
        (lambda: tree_space(ops=("none",)), "at least two different operations"),
        (lambda: tree_space(ops=("none", "nothing")), "cscdarts.register_operation"),
        (lambda: tree_space(inputs=3), "1 or 2 inputs"),
        (lambda: tree_space(nodes=0), "one or more"),
    ],
)
def test_what_cannot_be_registered_is_refused(make: Any, said: str) -> None:
    before = OPERATIONS.names(), SPACES.names()
    with pytest.raises(UserError, match=said):
        make()
    assert (OPERATIONS.names(), SPACES.names()) == before
