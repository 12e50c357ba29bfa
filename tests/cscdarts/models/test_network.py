"""Discrete networks: the known answers of the published cells, identities that cost nothing, drop-path, derivation."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cscdarts.errors import UserError
from cscdarts.models.cost import fit_channels, network_cost
from cscdarts.models.drop_path import DropPath
from cscdarts.models.identity import CellIdentity
from cscdarts.models.network import AuxiliaryHead, Edge, Network
from cscdarts.settings.config import EvaluationConfig, RunConfig, SupernetConfig
from cscdarts.settings.overrides import with_values
from cscdarts.spaces import DARTS, CellGenotype, DartsGenotype, parse_genotype
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.training.derivation import alpha_entropy, genotype_of, skip_share_pct

INDEX_11 = parse_genotype("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|")
NO_SPLIT = SupernetConfig(split_ratio=1, identity="none")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "cifar10", "cifar100", "imagenet", "macs_cifar", "macs_imagenet"),
    [
        ("DARTS_V1", 3.169414, 3.221344, 4.510432, 501.0, 505.9),
        ("DARTS_V2", 3.349342, 3.401272, 4.718752, 528.4, 529.9),
        ("PC_DARTS_cifar", 3.634678, 3.686608, 5.270560, 556.7, 571.1),
        ("PC_DARTS_image", 3.721510, 3.773440, 5.342464, 570.5, 581.6),
    ],
)
def test_known_sizes_of_published_cells(
    name: str, cifar10: float, cifar100: float, imagenet: float, macs_cifar: float, macs_imagenet: float
) -> None:
    genotype = KNOWN_GENOTYPES[name]

    def cost(classes: int, channels: int, cells: int, size: int) -> tuple[float, float]:
        found = network_cost(
            genotype, EvaluationConfig(channels=channels, cells=cells), NO_SPLIT, "none", classes, 3, size
        )  # fmt: skip
        return found.params / 1e6, found.macs / 1e6

    assert cost(10, 36, 20, 32)[0] == cifar10
    assert cost(100, 36, 20, 32)[0] == cifar100
    assert cost(1000, 48, 14, 224)[0] == imagenet
    assert round(cost(10, 36, 20, 32)[1], 1) == macs_cifar
    assert round(cost(1000, 48, 14, 224)[1], 1) == macs_imagenet


def test_known_size_of_a_nasbench201_cell() -> None:
    cost = network_cost(INDEX_11, EvaluationConfig(channels=16, cells=5), NO_SPLIT, "none", 10, 3, 32)
    assert cost.params / 1e6 == 0.802426
    assert round(cost.macs / 1e6, 2) == 113.95


@pytest.mark.parametrize(("ratio", "params"), [("1/2", 1.91), ("1/4", 1.53), ("1/8", 1.42)])
def test_known_sizes_with_the_split_kept_in_evaluation(ratio: str, params: float) -> None:
    supernet = SupernetConfig(split_ratio=ratio, identity="none")  # type: ignore[arg-type]
    evaluation = EvaluationConfig(split_eval=True)
    cost = network_cost(KNOWN_GENOTYPES["DARTS_V2"], evaluation, supernet, "none", 10, 3, 32)
    assert round(cost.params / 1e6, 2) == params


@pytest.mark.parametrize(("cells", "size", "channels", "free"), [(20, 32, 36, 17), (14, 224, 48, 11)])
def test_the_cell_identity_is_free_almost_everywhere(cells: int, size: int, channels: int, free: int) -> None:
    with torch.device("meta"):
        network = Network(
            KNOWN_GENOTYPES["DARTS_V2"], EvaluationConfig(channels=channels, cells=cells), SupernetConfig(), "cell",
            10, 3, size >= 96,
        )  # fmt: skip
    assert [one.matches for one in network.modules() if isinstance(one, CellIdentity)].count(True) == free


@pytest.mark.parametrize("genotype", [KNOWN_GENOTYPES["DARTS_V2"], INDEX_11], ids=["darts", "nasbench201"])
@pytest.mark.parametrize("identity", ["none", "edge", "cell"])
@pytest.mark.parametrize("split", [False, True])
def test_every_network_runs(genotype: DartsGenotype | CellGenotype, identity: str, split: bool) -> None:
    evaluation = EvaluationConfig(channels=8, cells=3 if genotype.space == "darts" else 1, split_eval=split)
    network = Network(genotype, evaluation, SupernetConfig(space=genotype.space), identity, 5)
    logits, auxiliary = network(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 5)
    assert (auxiliary is None) == (genotype.space == "nasbench201")
    assert network.eval()(torch.randn(2, 3, 16, 16))[1] is None


def test_a_split_of_ratio_1_in_evaluation_is_no_split() -> None:
    genotype = KNOWN_GENOTYPES["PC_DARTS_cifar"]
    networks = []
    for split in (False, True):
        torch.manual_seed(0)
        evaluation = EvaluationConfig(channels=8, cells=3, split_eval=split, auxiliary=0)
        networks.append(Network(genotype, evaluation, NO_SPLIT, "none", 5))
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(networks[0](x)[0], networks[1](x)[0])


@pytest.mark.parametrize("size", [7, 8, 4, 2])
def test_auxiliary_head_takes_small_maps_too(size: int) -> None:
    assert AuxiliaryHead(16, 5, large_images=size == 7)(torch.randn(2, 16, size, size)).shape == (2, 5)


def test_drop_path_keeps_or_drops_whole_images_and_scales() -> None:
    x = torch.ones(2000, 2, 2, 2)
    assert DropPath(0.0)(x) is x
    y = DropPath(0.25, torch.Generator().manual_seed(0))(x)
    values = y.flatten(1)
    assert torch.equal(values.amin(1), values.amax(1))
    assert sorted(set(values.flatten().tolist())) == [0.0, pytest.approx(1 / 0.75)]
    assert float((values[:, 0] > 0).float().mean()) == pytest.approx(0.75, abs=0.04)


def test_drop_path_of_several_processes_is_that_of_one() -> None:
    x = torch.ones(8, 1, 1, 1)
    whole = DropPath(0.5, torch.Generator().manual_seed(1))(x)
    shares = [DropPath(0.5, torch.Generator().manual_seed(1), rank, 2)(x[rank::2]) for rank in (0, 1)]
    for rank, share in enumerate(shares):
        assert torch.equal(share, whole[rank::2])


def test_drop_path_spares_identities() -> None:
    dropper = DropPath(0.999, torch.Generator().manual_seed(0))
    x = torch.randn(4, 4, 4, 4)
    skip = Edge("skip_connect", 4, 1, None, 0.0, False, dropper)
    assert torch.equal(skip(x), x)
    conv = Edge("nor_conv_1x1", 4, 1, None, 1.0, False, dropper)
    assert torch.equal(conv(x), x)  # the operation is dropped, its edge identity is not
    dropped = Edge("nor_conv_1x1", 4, 1, None, 1.0, True, dropper)
    assert torch.equal(dropped(x), torch.zeros_like(x))


@pytest.mark.parametrize("limit", [100.0, 600.0])
def test_width_is_the_largest_within_the_limit(limit: float) -> None:
    shape = (NO_SPLIT, "none", 1000, 3, 224)
    genotype, evaluation = KNOWN_GENOTYPES["DARTS_V2"], EvaluationConfig(cells=14)
    width = fit_channels(genotype, evaluation, *shape, limit_macs=limit * 1e6)

    def macs(channels: int) -> float:
        return network_cost(genotype, evaluation.model_copy(update={"channels": channels}), *shape).macs / 1e6

    assert macs(width) <= limit < macs(width + 2)


def test_an_impossible_limit_is_refused() -> None:
    with pytest.raises(UserError, match="fit_macs_m"):
        fit_channels(
            KNOWN_GENOTYPES["DARTS_V2"], EvaluationConfig(), NO_SPLIT, "none", 10, 3, 32, limit_macs=1000.0
        )  # fmt: skip


# --- derivation --------------------------------------------------------------------------------


def test_darts_keeps_the_two_strongest_inputs_and_never_none() -> None:
    alpha = {kind: np.full((14, 8), -1.0) for kind in ("normal", "reduce")}
    for rows in alpha.values():
        rows[:, 0] = 9.0  # none is strongest everywhere and must not be chosen
        for node in range(4):
            edges = [row for row, (_, target) in enumerate(DARTS.edges) if target == node + 2]
            rows[edges[-1], 4] = 5.0  # sep_conv_3x3 from the latest input
            rows[edges[0], 3] = 4.0  # skip_connect from input 0
    genotype = genotype_of(SupernetConfig(), alpha)
    assert isinstance(genotype, DartsGenotype)
    assert genotype.normal == genotype.reduce
    assert genotype.normal[:2] == (("sep_conv_3x3", 1), ("skip_connect", 0))
    assert genotype.normal[6:] == (("sep_conv_3x3", 4), ("skip_connect", 0))
    assert skip_share_pct(genotype) == 50.0


def test_edge_normalisation_weighs_the_inputs() -> None:
    alpha = {kind: np.zeros((14, 8)) for kind in ("normal", "reduce")}
    for rows in alpha.values():
        rows[:, 4] = 1.0
    beta = {kind: np.zeros(14) for kind in ("normal", "reduce")}
    beta["normal"][11:13] = 3.0  # the last node's inputs are rows 9 to 13: prefer the third and the fourth
    genotype = genotype_of(SupernetConfig(), alpha, beta)
    assert isinstance(genotype, DartsGenotype)
    assert [source for _, source in genotype.normal[6:]] == [2, 3]
    assert [source for _, source in genotype.reduce[6:]] == [0, 1]


def test_nasbench201_keeps_the_strongest_of_every_edge_even_none() -> None:
    alpha = np.zeros((6, 5))
    alpha[np.arange(6), [0, 1, 2, 3, 4, 0]] = 1.0
    genotype = genotype_of(SupernetConfig(space="nasbench201"), {"cell": alpha})
    ops = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")
    assert genotype == CellGenotype(ops)


def test_entropy_goes_from_log_k_to_0() -> None:
    assert alpha_entropy({"cell": np.zeros((6, 5))}) == pytest.approx(math.log(5))
    decided = np.zeros((6, 5))
    decided[:, 2] = 1000.0
    assert alpha_entropy({"cell": decided}) == pytest.approx(0.0, abs=1e-9)


def test_identity_phases() -> None:
    expected = {
        "both": ("cell", "cell"),
        "search": ("cell", "none"),
        "eval": ("none", "cell"),
        "none": ("none", "none"),
    }
    for phases, pair in expected.items():
        config = with_values(RunConfig(), {"supernet.identity_phases": phases})
        assert (config.identity_in("search"), config.identity_in("eval")) == pair


def test_parameters_of_a_module_without_affine() -> None:
    from cscdarts.models.operations import ReLUConvBN

    assert sum(p.numel() for p in ReLUConvBN(4, 8, 1, 1, affine=False).parameters()) == 32
    assert isinstance(ReLUConvBN(4, 8, 1, 1)[0], nn.ReLU)
