"""Grids: ordinary loops in, unique runs out, and one sentence for everything that can be wrong with one."""

from pathlib import Path

import pytest

from ablations.grid.file import grid_names
from ablations.grid.load import load_grid
from cscdarts.errors import UserError
from cscdarts.settings.keys import planned_retraining_key, search_key
from tests.support.harness.grids import write_grid


def test_the_grids_that_ship() -> None:
    assert {"factorial", "identity", "order", "quickstart", "split_ratio"} <= set(grid_names())


@pytest.mark.parametrize("name", grid_names())
@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper"])
def test_every_grid_at_every_scale_is_valid_and_unique(name: str, scale: str) -> None:
    grid = load_grid(name, scale)
    assert len({point.hash for point in grid.points}) == len(grid.points) > 0
    assert {point.config.labels.scale for point in grid.points} == {scale}
    assert len({point.config.seed for point in grid.points}) >= 3


def test_quickstart_is_the_factorial_and_the_baselines() -> None:
    grid = load_grid("quickstart", "reduced")
    csc = [p.config for p in grid.points if p.methods[0] == "csc"]
    cells = {(str(c.supernet.split_ratio), c.supernet.identity, c.search.order, c.seed) for c in csc}
    assert cells == {
        (r, i, o, s) for r in ("1", "1/2", "1/4") for i in ("cell", "none") for o in (1, 2) for s in (0, 1, 2)
    }
    assert {m for p in grid.points for m in p.methods} == {"csc", "darts1", "darts2", "pcdarts", "random"}
    assert {(p.config.data.dataset, p.config.supernet.space) for p in grid.points} == {("digits", "nasbench201")}
    # The baselines have the same budget: what sets the work is the same in all runs.
    budgets = {(p.config.search.epochs, p.config.evaluation.epochs, p.config.supernet.channels) for p in grid.points}
    assert len(budgets) == 1


def test_equal_points_are_one_run_under_several_methods() -> None:
    # Without a warm-up, the method at ratio 1 without identity is DARTS.
    grid = load_grid("quickstart", "reduced", ["search.alpha_warmup=0"])
    shared = [p for p in grid.points if len(p.methods) > 1]
    assert {p.methods for p in shared} == {("csc", "darts1"), ("csc", "darts2")}
    assert len(shared) == 6
    assert all(str(p.config.supernet.split_ratio) == "1" and p.config.supernet.identity == "none" for p in shared)
    assert len(grid.points) == 12 * 3 + 4 * 3 - 6
    manifest = grid.manifest("abc")
    assert sum(len(run["methods"]) for run in manifest["runs"]) == 48
    assert manifest["overrides"] == {"search.alpha_warmup": "0"}


def test_overrides_reach_every_run_and_change_every_hash() -> None:
    plain, changed = load_grid("quickstart", "smoke"), load_grid("quickstart", "smoke", ["search.epochs=3"])
    assert {p.config.search.epochs for p in changed.points} == {3}
    assert not {p.hash for p in plain.points} & {p.hash for p in changed.points}
    same = load_grid("quickstart", "smoke", ["runtime.threads=3"])
    assert [p.hash for p in plain.points] == [p.hash for p in same.points]


def test_an_override_that_one_point_cannot_take_is_refused() -> None:
    with pytest.raises(UserError, match=r"split_ratio=1/4 of channels=6"):
        load_grid("quickstart", "smoke", ["supernet.channels=6"])


def test_a_users_file(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path / "mine.py", ["", "", ""]), "smoke")
    assert grid.name == "mine"
    assert [p.config.seed for p in grid.points] == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x = 1", "no function grid"),
        ("def grid(scale):\n    yield 3", "int.*RunConfig"),
        ("def grid(scale):\n    return []", "no run at this scale"),
        ("def grid(scale):\n    raise KeyError('lr')", "KeyError: 'lr'"),
        ("import nothing_like_it", "ModuleNotFoundError"),
        ("def grid(:", "SyntaxError"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        load_grid(str(path), "smoke")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "scale", "assignments", "words"),
    [
        ("quickstrat", "smoke", [], "quickstrat.*quickstart, split_ratio, PATH.py"),
        ("no/such.py", "smoke", [], "existing Python file"),
        ("quickstart", "tiny", [], "smoke, reduced, paper"),
        ("quickstart", "smoke", ["search.epoch=3"], "Did you mean"),
        ("quickstart", "smoke", ["search.epochs=0"], "search.epochs.*0"),
        ("quickstart", "smoke", ["split_ratio=1/64"], "denominator"),
        ("quickstart", "smoke", ["epochs=3"], "search.epochs or evaluation.epochs"),
    ],
)
def test_bad_input_names_field_value_and_what_is_allowed(
    source: str, scale: str, assignments: list[str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        load_grid(source, scale, assignments)


@pytest.mark.parametrize(("text", "seeds"), [("5", [0, 1, 2, 3, 4]), ("7,8", [7, 8]), ("1", [0]), ("3,3", [3])])
def test_seeds_replace_those_of_the_grid(text: str, seeds: list[int]) -> None:
    whole, reseeded = load_grid("order", "smoke"), load_grid("order", "smoke", [f"seeds={text}"])
    settings = len(whole.points) // len({point.config.seed for point in whole.points})
    assert len(reseeded.points) == settings * len(seeds)
    assert {point.config.seed for point in reseeded.points} == set(seeds)
    assert all(point.config.evaluation.seed == point.config.seed for point in reseeded.points)
    again = load_grid("order", "smoke", [f"seeds={reseeded.overrides['seeds']}"])
    assert again.points == reseeded.points, "what is recorded names the same runs"


@pytest.mark.parametrize("text", ["x", "", "0", "1,x"])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="seeds"):
        load_grid("order", "smoke", [f"seeds={text}"])


def test_retrainings_share_their_search_and_the_first_keeps_its_hash() -> None:
    once, thrice = load_grid("order", "smoke"), load_grid("order", "smoke", (), 3)
    n = len(once.points)
    assert thrice.retrainings == 3
    assert len(thrice.points) == 3 * n
    # The first of each come first, so that others find the searches done.
    assert [p.hash for p in thrice.points[:n]] == [p.hash for p in once.points]
    for first, *others in zip(*(thrice.points[k * n : (k + 1) * n] for k in range(3)), strict=True):
        one = first.config
        assert [p.config.evaluation.seed for p in others] == [one.seed + 1000, one.seed + 2000]
        assert {search_key(p.config).id for p in (first, *others)} == {search_key(one).id}
        assert len({planned_retraining_key(p.config).id for p in (first, *others)}) == 3
        changed = {"evaluation": one.evaluation}
        assert all(p.config.model_copy(update=changed) == one for p in others)
    # No retraining takes the seed of another run's.
    seeds = {(p.config.seed, p.config.evaluation.seed) for p in thrice.points}
    assert len({evaluation for _, evaluation in seeds}) == len(seeds)


def test_retrainings_multiply_what_overrides_give() -> None:
    grid = load_grid("order", "smoke", ["seeds=7", "evaluation.seed=3"], 2)
    assert {p.config.evaluation.seed for p in grid.points} == {3, 1003}


@pytest.mark.parametrize(("field", "at_smoke", "at_paper"), [("4", 4, 4), ('{"paper": 4}', 1, 4)])
def test_a_grid_says_how_often_its_cells_are_retrained(
    tmp_path: Path, field: str, at_smoke: int, at_paper: int
) -> None:
    path = Path(write_grid(tmp_path / "mine.py", ["", ""]))
    path.write_text(path.read_text() + f"\n\nRETRAININGS = {field}\n")
    for scale, times in (("smoke", at_smoke), ("paper", at_paper)):
        grid = load_grid(str(path), scale)
        assert (grid.retrainings, len(grid.points)) == (times, 2 * times)
    assert len(load_grid(str(path), "paper", (), 2).points) == 4  # the command has the last word
    assert len(load_grid(str(path), "paper", (), 1).points) == 2


@pytest.mark.parametrize("field", ["0", "-1", "2.0", "True", "'3'", "101", "None", '{"smoke": 0}'])
def test_a_field_of_retrainings_that_is_none_is_refused(tmp_path: Path, field: str) -> None:
    path = Path(write_grid(tmp_path / "mine.py", [""]))
    path.write_text(path.read_text() + f"\n\nRETRAININGS = {field}\n")
    with pytest.raises(UserError, match=r"RETRAININGS in .*mine.py.*from 1 to 100"):
        load_grid(str(path), "smoke")


def test_retrainings_of_runs_that_have_none_are_refused(tmp_path: Path) -> None:
    source = write_grid(tmp_path / "mine.py", ["", ""], runtime__retrain=False)
    with pytest.raises(UserError, match=r"--retrainings: 2.*runtime.retrain=true"):
        load_grid(source, "smoke", (), 2)
    assert len(load_grid(source, "smoke", (), 1).points) == 2
    with pytest.raises(UserError, match="--retrainings: 101"):
        load_grid("order", "smoke", (), 101)
