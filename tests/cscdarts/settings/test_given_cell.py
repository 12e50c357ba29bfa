"""A given cell: one hash however it is written, and sentences for what is no cell of the run's space."""

from typing import Any

import pytest

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig, SearchConfig, SupernetConfig
from cscdarts.settings.keys import planned_retraining_key, retraining_key, search_key
from cscdarts.settings.overrides import build, parse_assignments, with_values
from cscdarts.spaces import SPACES, register_space
from cscdarts.spaces.known import KNOWN_GENOTYPES
from tests.support.own_space import OAK, tree_space

PDARTS = str(KNOWN_GENOTYPES["PDARTS"])
NB201 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"


def given(cell: object, **values: Any) -> RunConfig:
    return with_values(build({}), {"search.strategy": "given", "search.genotype": cell, **values})


SPELLINGS = [
    "PDARTS",
    "pdarts",
    "P-DARTS",
    " PDARTS ",
    PDARTS,
    f"PDARTS = {PDARTS}",
    PDARTS.replace("range(2, 6)", "[2, 3, 4, 5]"),
    PDARTS.replace("range(2, 6)", "(2, 3, 4, 5)").replace(" ", ""),
    PDARTS.replace(", 0)", ", np.int64(0))"),
    f"{PDARTS[:-1]}, connectN=None)",
]


@pytest.mark.parametrize("cell", SPELLINGS)
def test_every_spelling_of_a_cell_is_one_run(cell: str) -> None:
    config = given(cell)
    assert config.search.genotype == PDARTS
    assert config.hash == given("PDARTS").hash
    assert config.canonical() == given("PDARTS").canonical()


@pytest.mark.parametrize("cell", SPELLINGS)
def test_every_way_to_build_a_config_reads_the_cell(cell: str) -> None:
    assert build({"search": {"strategy": "given", "genotype": cell}}).search.genotype == PDARTS
    assert RunConfig(search=SearchConfig(strategy="given", genotype=cell)).search.genotype == PDARTS
    assert given("ENAS", **parse_assignments([f"search.genotype={cell}"])).search.genotype == PDARTS


@pytest.mark.parametrize("name", KNOWN_GENOTYPES)
def test_every_known_cell_is_its_text_and_comes_back_from_it(name: str) -> None:
    config = given(name)
    assert config.search.genotype == str(KNOWN_GENOTYPES[name])
    assert build(config.model_dump(mode="json")) == config


def test_two_cells_are_two_runs() -> None:
    assert len({given(name).hash for name in KNOWN_GENOTYPES}) == len(KNOWN_GENOTYPES)


def test_a_cell_of_the_nasbench201_space_in_two_forms() -> None:
    space = {"supernet.space": "nasbench201"}
    assert given(NB201, **space).search.genotype == given("(3, 3, 4, 0, 3, 4)", **space).search.genotype == NB201


def test_a_cell_of_a_space_of_ones_own_is_read_in_that_space() -> None:
    register_space(tree_space())
    try:
        assert given(f" {OAK}", **{"supernet.space": "tree"}).search.genotype == OAK
        with pytest.raises(UserError, match=r"cell of the darts space.*supernet\.space=tree"):
            given(OAK)
        with pytest.raises(UserError, match=r"search\.genotype.*such as 'tree\(op<0, \.\.\.\)'"):
            given("oak", **{"supernet.space": "tree"})
    finally:
        SPACES.unregister("tree")


def test_the_cell_s_operations_need_not_be_candidates() -> None:
    assert given("PDARTS", **{"supernet.ops": "skip_connect,max_pool_3x3"}).search.genotype == PDARTS


def test_a_run_without_a_cell_has_the_hash_it_had() -> None:
    assert '"genotype"' not in build({}).canonical()


def test_keys_of_a_given_cell_hang_on_nothing_that_searches() -> None:
    one, other = given("PDARTS"), given(PDARTS, **{"search.epochs": 7, "supernet.channels": 32, "seed": 5})
    assert search_key(one) == search_key(other)
    assert planned_retraining_key(one) == retraining_key(one, PDARTS)
    assert search_key(one) != search_key(given("ENAS"))


@pytest.mark.parametrize(
    ("cell", "values", "words"),
    [
        ("nonsense", {}, ["search.genotype: 'nonsense'", "DARTS_V1", "MdeNAS", "FairDARTS_a", "retrain --genotype"]),
        ("PDART", {}, ["Did you mean PDARTS?"]),
        ("runs/search/x", {}, ["search.genotype: 'runs/search/x'", "PDARTS"]),
        ("11", {"supernet.space": "nasbench201"}, ["search.genotype: '11'"]),
        ("PDARTS", {"supernet.space": "nasbench201"}, ["a cell of the nasbench201 space", "supernet.space=darts"]),
        (NB201, {}, ["a cell of the darts space", "supernet.space=nasbench201"]),
        (PDARTS.replace("sep_conv_5x5", "sep_conv_9x9"), {}, ["search.genotype", "sep_conv_9x9"]),
        (PDARTS[:-40], {}, ["search.genotype", "cut off"]),
        (PDARTS.replace("('skip_connect', 0)", "('skip_connect', 7)", 1), {}, ["search.genotype.normal[0]", "7"]),
        ("PDARTS", {"search.strategy": "gradient"}, ["strategy=gradient", "strategy=given"]),
        ("", {}, ["strategy=given", "search.genotype=CELL"]),
        ("  ", {}, ["strategy=given", "search.genotype=CELL"]),
        (3, {}, ["search.genotype", "a cell's name or text"]),
        ("PDARTS", {"supernet.space": "no_space"}, ["supernet.space", "no_space"]),
    ],
)
def test_what_is_no_cell_of_the_space_is_named(cell: object, values: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        given(cell, **values)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 700


def test_another_space_asks_for_another_cell() -> None:
    with pytest.raises(UserError, match=r"search\.genotype"):
        with_values(given("PDARTS"), {"supernet.space": "nasbench201"})


def test_models_are_read_as_their_data() -> None:
    supernet = SupernetConfig(space="nasbench201")
    config = RunConfig(supernet=supernet, search=SearchConfig(strategy="given", genotype="(3, 3, 4, 0, 3, 4)"))
    assert config.search.genotype == NB201
    assert config.supernet == supernet


@pytest.mark.parametrize("note", ["a, b", "null", "none", ""])
def test_a_text_is_taken_as_it_stands(note: str) -> None:
    assert with_values(build({}), {"labels.note": note}).labels.note == note
