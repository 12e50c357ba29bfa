"""A plan counts what is really to be done: each search and retraining once, whoever wants it, none that is there."""

import json
from pathlib import Path

import pytest

from ablations import cli
from ablations.commands.reproduce import TARGETS
from ablations.drive.driver import Driver
from ablations.drive.plan import Plan, absent_data, plan
from ablations.grid.estimate import Measured, estimate, measured, sentence
from ablations.grid.load import load_grid
from cscdarts.records.run_folder import read_json, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import planned_retraining_key, search_key
from tests.support.harness.finished import CELL, finish

GRID = '''"""A grid for tests of plans."""
from cscdarts import apply_preset, protocol, with_values

def grid(scale):
    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    for values in {points!r}:
        yield with_values(base, values)
'''


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _grid(name: str, *points: dict[str, object], retrainings: int | None = None) -> Driver:
    Path(f"{name}.py").write_text(GRID.format(points=points))
    return Driver(load_grid(f"{name}.py", "smoke", (), retrainings), Path("runs"))


def _plan(*drivers: Driver) -> Plan:
    return plan([(driver, driver.states()) for driver in drivers])


def _counts(found: Plan) -> tuple[int, int, int, int]:
    searched, retrained = found.left()
    return found.runs, found.done, len(searched), len(retrained)


def _configs(driver: Driver) -> list[RunConfig]:
    return [point.config for point in driver.grid.points]


def test_a_plan_on_an_empty_store_counts_each_key_once() -> None:
    # Order 2 is asked for twice, and the phases of the identity after the search change no search.
    a = _grid("a", {"search.order": 1}, {"search.order": 2}, {"search.order": 2, "supernet.identity_phases": "search"})
    b = _grid("b", {"search.order": 2}, {"search.order": 2, "evaluation.lr": 0.5}, {"seed": 5, "search.order": 1})
    found = _plan(a, b)
    configs = {config.hash: config for config in (*_configs(a), *_configs(b))}
    assert (found.wanted, len(configs)) == (6, 5)
    assert _counts(found) == (5, 0, 3, 5)
    assert set(found.searches) == {search_key(config).id for config in configs.values()}
    assert set(found.retrainings) == {planned_retraining_key(config).id for config in configs.values()}
    assert not Path("runs").exists()


def test_what_is_done_is_not_planned_again() -> None:
    a, b = _grid("a", {"seed": 0}, {"seed": 1}), _grid("b", {"seed": 0}, {"seed": 0, "evaluation.lr": 0.5})
    first = _configs(a)[0]
    finish(Path("runs"), "a", first, "search")
    assert _counts(_plan(a, b)) == (3, 0, 1, 3)  # both runs of seed 0 have their search
    finish(Path("runs"), "a", first)
    assert _counts(_plan(a, b)) == (3, 1, 1, 2)
    assert _counts(_plan(b)) == (2, 0, 0, 1)  # not done in b, and nothing but a look at the store is left of it
    finish(Path("runs"), "b", _configs(b)[1])
    assert _counts(_plan(a, b)) == (3, 2, 1, 1)
    finish(Path("runs"), "a", _configs(a)[1])
    assert _counts(_plan(a, b)) == (3, 3, 0, 0)


def test_what_answers_for_another_key_is_not_taken_for_done() -> None:
    a = _grid("a", {"seed": 0})
    folder = finish(Path("runs"), "a", _configs(a)[0])
    for name, count in (("result.json", (1, 0, 0, 1)), ("search.json", (1, 0, 1, 1))):
        path = folder.file(name)
        write_json(path, {**(read_json(path) or {}), "key": "0" * 16})
        assert _counts(_plan(a)) == count
    path.write_text("{torn")
    assert _counts(_plan(a)) == (1, 0, 1, 1)


def test_a_finished_folder_of_another_run_is_not_taken_for_done() -> None:
    a = _grid("a", {"seed": 0}, {"seed": 1})
    mine, other = _configs(a)
    finish(Path("runs"), "elsewhere", other).path.rename(Path("runs") / "elsewhere" / mine.hash)
    assert _counts(_plan(a)) == (2, 0, 1, 2)  # its search is there for whoever has its key


def test_a_folder_of_the_first_version_holds_its_own_outputs() -> None:
    a = _grid("a", {"seed": 0}, {"seed": 1})
    finish(Path("runs"), "a", _configs(a)[0], whole=True)
    finish(Path("runs"), "a", _configs(a)[1], "search", whole=True)
    assert _counts(_plan(a)) == (2, 1, 0, 1)


def test_retrainings_of_one_cell_share_its_search() -> None:
    a = _grid("a", {"seed": 0}, {"seed": 1}, retrainings=3)
    assert _counts(_plan(a)) == (6, 0, 2, 6)
    finish(Path("runs"), "a", _configs(a)[0])
    assert _counts(_plan(a)) == (6, 1, 1, 5)
    # The cells of two seeds turn out to be one cell: same text, other retraining seeds, so other retrainings.
    finish(Path("runs"), "a", _configs(a)[1])
    assert _counts(_plan(a)) == (6, 2, 0, 4)


def test_the_best_of_several_searches_needs_them_all_and_shares_them() -> None:
    a = _grid("a", {"seed": 0, "search.best_of": 3}, {"seed": 1}, {"seed": 7})
    assert _counts(_plan(a)) == (3, 0, 4, 3)  # seeds 0, 1, 2 and 7
    finish(Path("runs"), "a", _configs(a)[1])
    assert _counts(_plan(a)) == (3, 1, 3, 2)


def test_a_random_cell_is_a_search_that_costs_nothing_and_a_given_one_is_none() -> None:
    a = _grid("a", {"search.strategy": "random"}, {"search.strategy": "given", "search.genotype": CELL})
    found = _plan(a)
    assert _counts(found) == (2, 0, 1, 2)
    past = Measured(retrainings=[(_configs(a)[0], 3600.0)])
    expected = found.expected(past)
    assert (expected.hours, expected.known, expected.total) == (2.0, 2, 2)


def test_the_estimate_counts_shared_work_once_and_finished_work_not_at_all() -> None:
    a = _grid("a", {"seed": 0}, {"seed": 0, "evaluation.lr": 0.5}, {"seed": 1})
    epochs = _configs(a)[0].search.epochs
    finish(Path("runs"), "a", _configs(a)[0], search_s=100.0, retrain_s=7.0)
    past = measured(Path("runs"))
    assert [seconds for _, seconds in past.searches] == [100.0]
    expected = _plan(a).expected(past)
    # One search (seed 1) and two retrainings are left.
    assert expected.seconds == pytest.approx(100.0 + 2 * 7.0)
    assert (expected.known, expected.total) == (3, 3)
    # A search that three runs share is measured once, and a longer one costs in proportion.
    finish(Path("runs"), "a", _configs(a)[1], search_s=100.0, retrain_s=7.0)
    finish(Path("runs"), "a", _configs(a)[2], search_s=400.0, retrain_s=7.0)
    past = measured(Path("runs"))
    assert sorted(seconds for _, seconds in past.searches) == [100.0, 400.0]
    longer = _grid("b", {"seed": 3, "search.epochs": 2 * epochs})
    assert _plan(longer).expected(past).seconds == pytest.approx(2 * 250.0 + 7.0)


def test_an_estimate_without_a_measurement_is_none_and_without_work_zero() -> None:
    a = _grid("a", {"seed": 0})
    config = _configs(a)[0]
    assert estimate([config], [config], Measured()).hours is None
    assert "unknown" in sentence(estimate([config], [config], Measured()))
    assert estimate([], [], Measured()).hours == 0.0
    half = estimate([config], [config], Measured(searches=[(config, 1800.0)]))
    assert (half.hours, half.total - half.known) == (0.5, 1)
    assert "1 searches and retrainings of unknown cost" in sentence(half)


def test_everything_in_the_paper_is_planned_without_repeating_work(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["reproduce", "all", "--scale", "paper", "--plan", "--json"])
    assert not end.value.code
    told = capsys.readouterr()
    values = json.loads(told.out)
    assert (values["runs"], values["done"], values["node_hours"]) == (162, 0, None)
    assert values["searches"] == values["searches_total"] <= 126
    assert values["retrainings"] == values["retrainings_total"] <= 162
    assert "imagenet is not at hand under data: planned as one not yet known" in told.err
    assert list(Path().iterdir()) == []


def test_all_is_every_table() -> None:
    others = [target for name, target in TARGETS.items() if name not in ("all", "family")]
    assert set(TARGETS["all"].grids) == {name for target in others for name in target.grids}
    assert set(TARGETS["all"].tables) == {number for target in others for number in target.tables}


def test_json_of_a_plan_is_one_object_and_agrees_with_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    a, _ = _grid("a", {"seed": 0}, {"seed": 1}), _grid("b", {"seed": 0}, {"seed": 0, "evaluation.lr": 0.5})
    finish(Path("runs"), "a", _configs(a)[0])
    words = ["ablate", "plan", "a.py", "b.py", "--scale", "smoke"]
    for tail in (["--json"], ["--on", "slurm:cpu", "--json"]):
        with pytest.raises(SystemExit):
            cli.main([*words, *tail])
        values = json.loads(capsys.readouterr().out)
        assert {k: values[k] for k in ("runs", "done", "searches", "retrainings", "runs_wanted")} == {
            "runs": 3, "done": 1, "searches": 1, "retrainings": 2, "runs_wanted": 4,
        }  # fmt: skip
        assert values["node_hours"] > 0
    with pytest.raises(SystemExit):
        cli.main(words)
    said = "4 runs wanted, 3 distinct (1 done): 2 searches (1 done), 3 retrainings (1 done); about 0.01 node-hours"
    assert said in capsys.readouterr().out


def test_data_that_are_not_at_hand_are_named_with_what_stands_in(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    point = {"data.dataset": "image-folder", "data.image_size": 8, "runtime.data_root": str(tmp_path / "gone")}
    driver = _grid("a", point)
    place = tmp_path / "gone"
    assert absent_data([driver]) == [f"image-folder is not at hand under {place}: planned as one not yet known"]
    write_json(tmp_path / "runs" / "a" / "grid.json", {"fingerprints": {"image-folder": "0123456789abcdef"}})
    driver = _grid("a", point)
    assert absent_data([driver]) == [f"image-folder is not at hand under {place}: planned as a was last run on it"]
    assert _counts(_plan(driver)) == (1, 0, 1, 1)
    assert absent_data([_grid("b", {})]) == []
