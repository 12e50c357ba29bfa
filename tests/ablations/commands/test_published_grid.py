"""The grid `published_cells`: every known cell once a seed, by the recipe and beside the runs of the CIFAR-10 table."""

import pytest

from ablations.grid.load import Grid, load_grid
from cscdarts.settings.keys import planned_retraining_key, retraining_key
from cscdarts.spaces.known import KNOWN_CELLS, KNOWN_GENOTYPES


@pytest.fixture(scope="module", params=["smoke", "reduced", "paper"])
def grid(request: pytest.FixtureRequest) -> Grid:
    return load_grid("published_cells", request.param)


def test_every_known_cell_is_trained_once_a_seed(grid: Grid) -> None:
    seeds = range(1 if grid.scale == "smoke" else 3)
    found = [(p.config.seed, p.config.search.genotype) for p in grid.points if p.config.search.strategy == "given"]
    assert found == [(seed, str(KNOWN_GENOTYPES[name])) for seed in seeds for name in KNOWN_CELLS]
    assert {p.methods for p in grid.points} == {("csc",), *((f"cell {name}",) for name in KNOWN_CELLS)}


def test_cells_are_trained_in_their_plain_network_by_the_recipe_of_the_table(grid: Grid) -> None:
    csc = next(p.config for p in grid.points if p.methods == ("csc",))
    for point in grid.points:
        config = point.config
        assert config.evaluation.model_copy(update={"seed": 0}) == csc.evaluation.model_copy(update={"seed": 0})
        assert config.data == csc.data
        if config.search.strategy == "given":
            assert config.identity_in("eval") == "none"
            assert not config.evaluation.split_eval


def test_the_runs_beside_them_are_those_of_the_table(grid: Grid) -> None:
    table = {p.hash: p.methods for p in load_grid("cifar10", grid.scale).points}
    assert all(table[p.hash] == ("csc",) for p in grid.points if p.methods == ("csc",))


def test_no_training_is_asked_for_twice(grid: Grid) -> None:
    assert len({planned_retraining_key(p.config) for p in grid.points}) == len(grid.points)
    for point in grid.points:
        if point.config.search.strategy == "given":
            assert planned_retraining_key(point.config) == retraining_key(point.config, point.config.search.genotype)


def test_other_seeds_can_be_asked_for() -> None:
    grid = load_grid("published_cells", "smoke", ["seeds=4,7"])
    assert [p.config.seed for p in grid.points] == [4] * 22 + [7] * 22
