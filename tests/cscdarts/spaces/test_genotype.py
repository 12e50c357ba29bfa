"""Genotypes: text forms round-trip, known cells, nothing is evaluated."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from cscdarts.errors import UserError
from cscdarts.spaces import DARTS, NASBENCH201, CellGenotype, DartsGenotype, parse_genotype, random_genotype
from cscdarts.spaces.known import KNOWN_GENOTYPES


@pytest.mark.parametrize("name", KNOWN_GENOTYPES)
def test_known_genotype_survives_its_text(name: str) -> None:
    genotype = KNOWN_GENOTYPES[name]
    assert parse_genotype(str(genotype)) == genotype


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("seed", range(10))
def test_random_genotype_survives_its_text(space: str, seed: int) -> None:
    genotype = random_genotype(space, np.random.default_rng(seed))
    assert parse_genotype(str(genotype)) == genotype


def test_published_text_of_darts() -> None:
    text = (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
        "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
        "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
        "reduce_concat=[2, 3, 4, 5])"
    )
    assert parse_genotype(text) == KNOWN_GENOTYPES["DARTS_V2"]


def test_published_text_of_nasbench201() -> None:
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
    genotype = parse_genotype(text)
    assert isinstance(genotype, CellGenotype)
    assert genotype.ops == ("nor_conv_3x3", "nor_conv_3x3", "avg_pool_3x3", "none", "nor_conv_3x3", "avg_pool_3x3")
    assert str(genotype) == text


def test_edges_are_ordered_by_target() -> None:
    assert NASBENCH201.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "|none~0|",
        "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|",
        "|swish~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "Genotype(normal=[('sep_conv_3x3', 9), ('sep_conv_3x3', 0)], normal_concat=[2], reduce=[], reduce_concat=[])",
        "Genotype(normal=__import__('os').system('touch pwned'), normal_concat=[2], reduce=[], reduce_concat=[])",
        "Genotype(normal=[('none', 0)]*10**9, normal_concat=range(10**9), reduce=[], reduce_concat=range(9))",
        "Genotype(" + "(" * 5000,
        str(KNOWN_GENOTYPES["DARTS_V2"]).replace("('skip_connect', 0)", "('skip_connect', 0.9)"),
        str(KNOWN_GENOTYPES["DARTS_V2"]).replace("('skip_connect', 0)", "('skip_connect', False)"),
        str(KNOWN_GENOTYPES["DARTS_V2"]).replace("('skip_connect', 0)", "('skip_connect', '0')"),
        str(KNOWN_GENOTYPES["DARTS_V2"]).replace("range(2, 6)", "[]"),
        str(KNOWN_GENOTYPES["DARTS_V2"]).replace("range(2, 6)", "[2, 3, 3]"),
    ],
)
def test_wrong_text_is_refused(text: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="genotype"):
        parse_genotype(text)
    assert not list(__import__("pathlib").Path().iterdir())


def test_counts() -> None:
    genotype = KNOWN_GENOTYPES["DARTS_V1"]
    assert isinstance(genotype, DartsGenotype)
    assert genotype.count("skip_connect") == 3
    assert not genotype.parameter_free
    assert CellGenotype(("skip_connect",) * 6).parameter_free


def test_a_random_cell_of_darts_takes_two_different_inputs_per_node() -> None:
    """Each pair of earlier nodes and each operation but `none` comes about as often as any other."""
    draw = np.random.default_rng(0)
    pairs: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(4)]
    ops: Counter[str] = Counter()
    for _ in range(600):
        genotype = random_genotype("darts", draw)
        assert isinstance(genotype, DartsGenotype)
        for cell in (genotype.normal, genotype.reduce):
            for node in range(4):
                kept = cell[2 * node : 2 * node + 2]
                pairs[node][tuple(source for _, source in kept)] += 1
                ops.update(op for op, _ in kept)
    for node, found in enumerate(pairs):
        expected = set(combinations(range(node + 2), 2))
        assert set(found) == expected
        assert min(found.values()) > 0.6 * 1200 / len(expected)
    assert set(ops) == set(DARTS.ops) - {"none"}
    assert min(ops.values()) > 0.9 * ops.total() / 7


def test_a_random_cell_of_nasbench201_has_any_operation_on_any_edge() -> None:
    draw = np.random.default_rng(0)
    found: Counter[tuple[int, str]] = Counter()
    for _ in range(500):
        genotype = random_genotype("nasbench201", draw)
        assert isinstance(genotype, CellGenotype)
        found.update(enumerate(genotype.ops))
    assert len(found) == 6 * 5
    assert min(found.values()) > 70  # 100 are expected
