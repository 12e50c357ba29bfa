"""What commands recall of a grid that was run, and what a grid may be called."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.commands.grid.choice import Choice
from ablations.drive.driver import Driver
from ablations.grid.load import Grid, load_grid
from ablations.grid.past import MANIFEST, Source, read_past, recalled, renamed
from cscdarts.errors import UserError
from cscdarts.records.code import Code
from cscdarts.records.grid_names import grid_name
from cscdarts.records.run_folder import write_json
from tests.support.harness.grids import write_grid


def _ran(grid: Grid, runs: Path) -> None:
    (runs / grid.name).mkdir(parents=True, exist_ok=True)
    Driver(grid, runs).write_manifest(Code())


def test_each_option_is_recalled_unless_it_is_given(tmp_path: Path) -> None:
    def asked(source: str = "quickstart", scale: str | None = None, *sets: str, times: int | None = None) -> Grid:
        return Choice(scale, sets, None, times, tmp_path).grid(source)

    assert (asked().scale, asked().overrides) == ("reduced", {}), "nothing was run, nothing is recalled"
    _ran(load_grid("quickstart", "smoke", ["search.epochs=3", "seeds=2", "runtime.data_root=/d"], 2), tmp_path)
    recalled = {"search.epochs": "3", "seeds": "0,1", "runtime.data_root": "/d"}
    for given, scale, overrides, times in (
        (asked(), "smoke", recalled, 2),
        (asked("quickstart", "reduced"), "reduced", recalled, 2),
        (asked("quickstart", None, "search.epochs=4"), "smoke", {**recalled, "search.epochs": "4"}, 2),
        (asked("quickstart", None, "seeds=7"), "smoke", {**recalled, "seeds": "0,1,2,3,4,5,6"}, 2),
        (asked(times=1), "smoke", recalled, 1),
        (Choice(None, (), Path("/e"), None, tmp_path).grid("quickstart"), "smoke",
         {**recalled, "runtime.data_root": "/e"}, 2),
    ):  # fmt: skip
        assert (given.scale, dict(given.overrides), given.retrainings) == (scale, overrides, times)
    # A command that runs takes nothing that it is not told.
    assert Choice(None, (), None, None, tmp_path).grid("quickstart", recall=False).overrides == {}
    # The last one at that scale, where it was run at several.
    _ran(load_grid("quickstart", "reduced"), tmp_path)
    assert asked().scale == "reduced"
    assert dict(asked("quickstart", "smoke").overrides) == recalled


def test_a_file_is_recalled_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_grid(tmp_path / "mine.py", [""])
    _ran(load_grid(source, "smoke"), tmp_path / "runs")
    monkeypatch.chdir("/")
    found = Choice(None, (), None, None, tmp_path / "runs").grid("mine")
    assert (found.name, found.scale, str(found.source)) == ("mine", "smoke", source)
    Path(source).unlink()
    with pytest.raises(UserError, match=f"no {source}"):
        Choice(None, (), None, None, tmp_path / "runs").grid("mine")


ODD_NAMES = (
    "my grid.py", "-x.py", "a;b.py", ".hidden.py", "searches.py", "retrainings.py", "Default.py", "a.py.py",
    "x" * 101 + ".py", "a\nb.py", "gr%20id.py", "{GRID}.py", "..", "a$b", ".trash",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_one_command_would_refuse_is_refused_by_all_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "grids").mkdir()
    given = write_grid(tmp_path / "grids" / name, [""]) if name.endswith(".py") else name
    reads: tuple[Callable[[], Grid], ...] = (
        lambda: load_grid(given, "smoke"),
        lambda: Choice("smoke", (), None, None, tmp_path / "runs").grid(given, recall=False),
        lambda: Choice(None, (), None, None, tmp_path / "runs").grid(given),
    )
    for read in reads:
        with pytest.raises(UserError, match=r"^GRID: .*(Rename the file|Name the grid)"):
            read()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["mine.py", "_x-1.2.py", "größe.py", "v1.0.py", "x" * 100 + ".py"])
def test_a_name_that_may_be_is_one_for_the_folder_and_the_report(tmp_path: Path, name: str) -> None:
    source = write_grid(tmp_path / name, [""])
    assert load_grid(source, "smoke").name == grid_name(source) == name.removesuffix(".py")
    assert grid_name(grid_name(source)) == grid_name(source)


def test_a_record_of_an_earlier_version_is_recalled(tmp_path: Path) -> None:
    _ran(load_grid("order", "smoke", ["search.epochs=3"], 2), tmp_path)
    path = tmp_path / "order" / MANIFEST
    content = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("past", "home")}
    write_json(path, content)
    (past,) = read_past(path.parent)
    assert (past.source, past.scale, dict(past.overrides), past.retrainings) == (
        None, "smoke", {"search.epochs": "3"}, 2,
    )  # fmt: skip
    del content["retrainings"]  # as the first version wrote it
    write_json(path, content)
    assert Choice(None, (), None, None, tmp_path).grid("order").retrainings == 1
    # The next run says what it is of, and keeps what was there.
    _ran(load_grid("order", "smoke", ["search.epochs=3"], 2), tmp_path)
    assert [one.source is None for one in read_past(path.parent)] == [True, False]


def test_a_run_that_gets_another_hash_keeps_its_origin(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path / "mine.py", ["", ""]), "smoke")
    _ran(grid, tmp_path / "runs")
    old, other = (point.hash for point in grid.points)
    (past,) = renamed(read_past(tmp_path / "runs" / "mine"), old, "f" * 16)
    assert past.runs == ("f" * 16, other)
    assert past.source == grid.choice(tmp_path / "runs").source


def test_which_file_of_today_a_recorded_source_is(tmp_path: Path) -> None:
    runs, path = tmp_path / "runs", tmp_path / "a" / "mine.py"
    path.parent.mkdir()
    write_grid(path, [""])
    shipped, there = Source(), Source.of(path, runs, shipped=False)
    copy = tmp_path / "b" / "mine.py"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    of_copy = Source.of(copy, runs, shipped=False)
    assert (there.is_now(of_copy), there.may_be(of_copy)) == (False, True), "a copy shows its runs and takes none"
    write_grid(copy, ["", ""])
    edited = Source.of(copy, runs, shipped=False)
    assert (there.is_now(edited), there.may_be(edited)) == (False, False)
    path.unlink()
    assert (there.is_now(of_copy), there.is_now(edited), there.may_be(edited)) == (True, False, True)
    assert not there.is_now(shipped)
    assert not shipped.may_be(there)
    assert shipped.is_now(Source.of(Path("order"), runs, shipped=True))
    assert recalled([], there, None) is None
