"""The sub-spaces of R-DARTS: what each edge chooses among, in every relaxation, derivation and draw."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from cscdarts import UserError, parse_genotype
from cscdarts.models.mixed_ops import GroupedOps, Kernels, MixedOps
from cscdarts.models.reference import ReferenceSupernet
from cscdarts.models.reference_weights import copy_weights
from cscdarts.models.relaxation.mixing import Weighting
from cscdarts.models.relaxation.penalties import penalty_gradients
from cscdarts.models.supernet import SearchCell, Supernet
from cscdarts.settings.config import SupernetConfig
from cscdarts.spaces import CLOSED, DARTS, NASBENCH201, SPACES, SUBSPACES, random_genotype, register_space
from cscdarts.spaces.rules import strengths
from cscdarts.training.cell_choice.selection import Question, Rows, answer
from cscdarts.training.derivation import alpha_entropy, genotype_of

NAMES = [space.name for space in SUBSPACES]
S1 = SPACES["darts_s1"]


def config(space: str, **values: Any) -> SupernetConfig:
    return SupernetConfig(space=space, channels=8, cells=3, **values)


def supernet(space: str = "darts_s1", **more: Any) -> Supernet:
    torch.manual_seed(1)
    return Supernet(config(space), 5, 3, "cell", **more).double()


def closed(kind: str) -> torch.Tensor:
    """(edges, operations) of S1: where an operation is no candidate."""
    return torch.tensor([[not S1.is_candidate(kind, row, op) for op in S1.ops] for row in range(14)])


# --- what they are -------------------------------------------------------------------------------


def test_the_sub_spaces_are_those_of_the_paper() -> None:
    assert SPACES["darts_s2"].ops == ("skip_connect", "sep_conv_3x3")
    assert SPACES["darts_s3"].ops == ("none", "skip_connect", "sep_conv_3x3")
    assert SPACES["darts_s4"].ops == ("gaussian_noise", "sep_conv_3x3")
    assert S1.candidates is not None
    for kind in S1.cell_kinds:
        assert all(len(set(edge)) == 2 for edge in S1.candidates[kind])
    # By hand from the released table: skips stand on 12 edges of the normal cell, 6 of the reducing one.
    assert [sum("skip_connect" in edge for edge in S1.candidates[kind]) for kind in S1.cell_kinds] == [12, 6]
    assert S1.candidates["normal"][5] == ("max_pool_3x3", "skip_connect")  # node 2 -> node 4's first input
    assert S1.candidates["reduce"][6] == ("max_pool_3x3", "sep_conv_3x3")
    for space in SUBSPACES:
        shape = (space.edges, space.skeleton, space.cell_kinds, space.search_size, space.evaluation_size)
        assert shape == (DARTS.edges, DARTS.skeleton, DARTS.cell_kinds, DARTS.search_size, DARTS.evaluation_size)


@pytest.mark.parametrize("space", NAMES)
def test_drawn_cells_are_of_the_space_and_read_back(space: str) -> None:
    seen: dict[tuple[str, int], set[str]] = {}
    for seed in range(60):
        genotype = random_genotype(space, np.random.default_rng(seed))  # checks itself
        assert parse_genotype(str(genotype), space) == genotype
        for kind in DARTS.cell_kinds:
            for source, target, op in genotype.edges(kind):
                seen.setdefault((kind, DARTS.edges.index((source, target))), set()).add(op)
    record = SPACES[space]
    for (kind, row), ops in seen.items():
        wanted = {op for op in record.ops if op != "none" and record.is_candidate(kind, row, op)}
        assert ops == wanted


def test_released_cells_with_noise_are_read() -> None:
    cells = "normal=[('noise', 0), ('sep_conv_3x3', 1)], normal_concat=[2], reduce=[('noise', 0), ('noise', 1)]"
    text = f"Genotype({cells}, reduce_concat=[2])"
    genotype = parse_genotype(text, "darts_s4")
    assert genotype.main_edges[0].op == "gaussian_noise"
    assert not genotype.parameter_free
    with pytest.raises(UserError, match=r"genotype\.normal\[0\]: 'noise'"):
        parse_genotype(text, "darts")


# --- refused -------------------------------------------------------------------------------------


def test_a_cell_keeps_to_the_candidates_of_its_edges() -> None:
    text = str(random_genotype("darts_s1", np.random.default_rng(0))).replace(
        "('dil_conv_3x3', 0)", "('sep_conv_3x3', 0)", 1
    )
    with pytest.raises(UserError, match=r"genotype\.normal\[0\].*skip_connect, dil_conv_3x3 on the edge from 0 to 2"):
        parse_genotype(text, "darts_s1")


def test_every_edge_needs_a_candidate() -> None:
    with pytest.raises(UserError, match=r"supernet\.ops.*candidate of every edge; normal edge 3 to 5 has none"):
        config("darts_s1", ops=("skip_connect", "max_pool_3x3", "sep_conv_3x3"))
    edges = tuple(("none", "skip_connect") for _ in NASBENCH201.edges)
    for wrong, said in (
        ({"cell": edges[:5]}, "operations of 6 edges"),
        ({"cell": (*edges[:5], ("sep_conv_3x3",))}, "candidate sep_conv_3x3"),
        ({"cell": (*edges[:5], ("none",))}, "edge 2 to 3 has none"),
    ):
        with pytest.raises(UserError, match=said):
            replace(NASBENCH201, name="wrong", candidates=wrong)


# --- the supernet --------------------------------------------------------------------------------


@pytest.mark.parametrize("space", NAMES)
@pytest.mark.parametrize("kernels", get_args(Kernels))
def test_the_supernet_is_the_plain_one(space: str, kernels: Kernels) -> None:
    torch.manual_seed(0)
    its = config(space, split_ratio="1/2", edge_norm=True)
    plain, fast = ReferenceSupernet(its, 5).double(), Supernet(its, 5, 3, "cell").double()
    copy_weights(plain, fast)
    fast.use(kernels)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    ours, theirs = fast(images), plain(images)
    assert torch.allclose(ours, theirs, atol=1e-10)
    loss = [out.square().sum() for out in (ours, theirs)]
    for got, wanted in zip(
        torch.autograd.grad(loss[0], fast.architecture()),
        torch.autograd.grad(loss[1], plain.architecture()),
        strict=True,
    ):
        assert torch.allclose(got, wanted, atol=1e-9)


@pytest.mark.parametrize("kernels", get_args(Kernels))
def test_a_hard_sample_is_the_mixture_of_which_all_else_weighs_nothing(kernels: Kernels) -> None:
    """With an edge that lost its only sampled operation, and factors of edge normalisation on edges of all groups."""
    torch.manual_seed(1)
    model = Supernet(config("darts_s1", edge_norm=True), 5, 3, "edge", alpha_std=1.0, weighting="gumbel-hard").double()
    model.use(kernels)
    model.relaxation.draw(torch.Generator().manual_seed(3), skip_dropout=0.7)
    mixing = model.mixing()
    assert any(bool((weights.sum(-1) == 0).any()) for weights, _ in mixing.values())
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    found = []
    for given in (None, {kind: (weights.detach(), factors) for kind, (weights, factors) in mixing.items()}):
        out = model(images, given)
        wanted = [*model.weights(), *model.betas.values()]
        found.append((out, *torch.autograd.grad(out.square().sum(), wanted, materialize_grads=True, retain_graph=True)))
    assert all(torch.allclose(hard, whole, atol=1e-9) for hard, whole in zip(*found, strict=True))
    assert sum(bool(grad.any()) for grad in found[0]) > 10


def test_no_edge_holds_another_edges_operation() -> None:
    cell = supernet().cells[0]
    assert isinstance(cell, SearchCell)
    held = 0
    for source, rows in enumerate(S1.outgoing):
        node_ops = cell.mixed_ops[source]
        groups = list(node_ops.groups) if isinstance(node_ops, GroupedOps) else [node_ops]
        for group in groups:
            assert isinstance(group, MixedOps)
            held += group.edges * len(group.ops)
        assert sum(group.edges for group in groups) == len(rows)  # type: ignore[misc]
    assert held == 2 * 14


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_what_is_no_candidate_weighs_nothing_and_does_not_learn(weighting: Weighting) -> None:
    model = supernet(weighting=weighting)
    model.relaxation.temperature = 10.0
    model.relaxation.draw(torch.Generator().manual_seed(3), noise=0.3, skip_dropout=0.3)
    for training in (True, False):
        model.train(training)
        for kind, (weights, _) in model.mixing().items():
            assert not weights[closed(kind)].any()
            # Of two operations a dropped skip connection may be all that an edge has.
            assert bool((weights.sum(-1) > 0).sum() >= 10)
            derived = strengths(weighting, model.alphas[kind].detach().numpy())
            assert derived[closed(kind).numpy()].max() < 1e-200
    model.train()
    grads = torch.autograd.grad(model(torch.randn(2, 3, 8, 8).double()).square().sum(), model.architecture())
    for kind, grad in zip(S1.cell_kinds, grads, strict=True):
        assert bool(torch.isfinite(grad).all())
        assert not grad[closed(kind)].any()
        assert grad.any()


@pytest.mark.parametrize("name", ["zero-one", "log-sum-exp"])
def test_penalties_are_of_the_candidates_alone(name: Any) -> None:
    alphas = {kind: alpha.detach() for kind, alpha in supernet().alphas.items()}
    pairs = {kind: alpha[~closed(kind)].view(14, 2) for kind, alpha in alphas.items()}
    for (kind, grad), wanted in zip(
        zip(alphas, penalty_gradients(name, 2.0, alphas), strict=True), penalty_gradients(name, 2.0, pairs), strict=True
    ):
        assert torch.allclose(grad[~closed(kind)].view(14, 2), wanted)
        assert not grad[closed(kind)].any()


def test_weight_decay_does_not_open_a_column() -> None:
    model = supernet()
    with torch.no_grad():
        model.alphas["normal"].mul_(1e-3)
    model.close_columns()
    for kind in S1.cell_kinds:
        assert torch.equal(model.alphas[kind] == CLOSED, closed(kind))


# --- derivation ----------------------------------------------------------------------------------


def test_a_cell_is_derived_from_the_candidates() -> None:
    draw = np.random.default_rng(4)
    shut = {kind: closed(kind).numpy() for kind in S1.cell_kinds}
    for _ in range(20):
        alpha = {kind: np.where(shut[kind], CLOSED, draw.normal(size=(14, 6))) for kind in S1.cell_kinds}
        genotype_of(config("darts_s1"), alpha)  # checks itself
    level = {kind: np.where(shut[kind], CLOSED, 0.0) for kind in S1.cell_kinds}
    assert alpha_entropy(level) == pytest.approx(np.log(2))


def test_removal_asks_about_candidates_only() -> None:
    """What is not there costs nothing to remove; it would be kept where all that is there does harm."""
    rows: Rows = {kind: strengths("softmax", a.detach().numpy()) for kind, a in supernet().alphas.items()}
    harm: list[float] = []

    def error(asked: Rows) -> float:
        harm.append(float(asked["normal"][0].sum()))
        return harm[-1]

    found = answer(Question("operation", "normal", (0,)), S1, S1.ops, rows, error)
    assert len(harm) == 2
    assert S1.is_candidate("normal", 0, S1.ops[int(found["normal"][0].argmax())])


def test_a_users_space_has_candidates_too() -> None:
    """One kind of cell whose every edge is kept: each chooses between a convolution and its own other operation."""
    others = ("skip_connect", "none", "avg_pool_3x3", "nor_conv_1x1", "skip_connect", "none")
    space = replace(
        NASBENCH201, name="chosen", benchmark=None, candidates={"cell": tuple(("nor_conv_3x3", op) for op in others)}
    )
    register_space(space)
    try:
        for seed in range(20):
            cell = random_genotype("chosen", np.random.default_rng(seed))
            assert all(edge.op in ("nor_conv_3x3", others[row]) for row, edge in enumerate(cell.main_edges))
        model = Supernet(SupernetConfig(space="chosen", channels=8, cells=1), 5)
        model(torch.randn(2, 3, 8, 8)).sum().backward()
    finally:
        SPACES.unregister("chosen")
