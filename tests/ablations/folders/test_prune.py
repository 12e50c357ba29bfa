"""What `prune` takes, whatever has become of the grid's file, its record and its folders: never a finished run that the
grid names, never one whose origin is not told; and what status, retry and cancel look at meanwhile."""

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ablations.commands.grid.choice import Choice
from ablations.drive.driver import Driver, chosen_for_retry
from ablations.drive.prune import other_sources, runs_of, survey, take, told, unused_stages
from ablations.grid.load import load_grid
from ablations.grid.past import MANIFEST, read_past
from ablations.run.trash import entries
from cscdarts.errors import UserError
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.records.runs_folder import run_folders_of
from slurm.job import CLAIM
from slurm.lock import Lock
from tests.support.harness.finished import finish
from tests.support.records import snapshot

GRID = '''"""A grid for tests: a run for each seed, another at each scale."""
from cscdarts import apply_preset, protocol, with_values


def grid(scale):
    base = apply_preset(protocol("quickstart", scale), "csc")
    for seed in {seeds!r}:
        yield with_values(base, {{"seed": seed}})
'''
#: What has become of each seed's folder.
DONE, FAILED, GONE_DONE, GONE_FAILED, DAMAGED, FOREIGN, BUSY = range(7)
KEPT, RUN_WITH = (DONE, FAILED), ("search.epochs=3",)
OTHER_SEEDS = (10, 11)


def _write(path: Path, seeds: tuple[int, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(GRID.format(seeds=seeds))
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A project whose grid was run: folder, and the hash of each seed's run."""
    root = tmp_path_factory.mktemp("prune") / "project"
    grid = load_grid(str(_write(root / "mine.py", tuple(range(7)))), "smoke", RUN_WITH)
    runs = root / "runs"
    driver = Driver(grid, runs)
    for seed, point in enumerate(grid.points):
        folder = finish(runs, "mine", point.config, "search" if seed in (FAILED, GONE_FAILED, BUSY) else "result")
        if seed in (FAILED, GONE_FAILED):
            failure = {"stage": "retrain", "kind": "error", "message": "astray", "traceback": "", "time": 1.0}
            write_json(folder.file("failure.json"), failure)
    hashes = [point.hash for point in grid.points]
    driver.write_manifest(Code("a" * 40, False))
    (driver.folder / hashes[DAMAGED] / "config.json").write_text('{"seed": ')
    for name in ("config.json", "keys.json"):
        shutil.copy(driver.folder / hashes[GONE_DONE] / name, driver.folder / hashes[FOREIGN] / name)
    assert Lock(driver.folder / hashes[BUSY] / CLAIM).acquire("run")
    return root, hashes


@dataclass
class World:
    """A copy of the project, in which anything may happen."""

    root: Path
    hashes: list[str]

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def manifest(self) -> Path:
        return self.runs / "mine" / MANIFEST

    def driver(self, source: Path, scale: str | None = None, sets: tuple[str, ...] = (), data: bool = False) -> Driver:
        root = self.root / "data" if data else None
        return Driver(Choice(scale, sets, root, None, self.runs).grid(str(source)), self.runs)

    def folders(self) -> set[str]:
        return {path.name for path in self.runs.joinpath("mine").iterdir() if path.is_dir()}


def _copy(template: tuple[Path, list[str]], root: Path) -> World:
    original, hashes = template
    shutil.copytree(original, root)
    world = World(root, hashes)
    world.manifest.write_text(world.manifest.read_text().replace(str(original), str(root)))
    os.utime(world.runs / "mine" / hashes[BUSY] / CLAIM)
    return world


def _same(world: World) -> Path:
    return world.root / "mine.py"


def _edited(world: World) -> Path:
    return _write(world.root / "mine.py", KEPT)


def _moved_whole(world: World) -> Path:
    world.root = world.root.rename(world.root.with_name("moved"))
    return _edited(world)


def _moved_and_edited(world: World) -> Path:
    (world.root / "mine.py").unlink()
    return _write(world.root / "new" / "mine.py", KEPT)


def _moved_unchanged(world: World) -> Path:
    (world.root / "new").mkdir()
    return (world.root / "mine.py").rename(world.root / "new" / "mine.py")


def _copied_and_edited(world: World) -> Path:
    return _write(world.root / "copy" / "mine.py", KEPT)


def _another(world: World) -> Path:
    return _write(world.root / "other" / "mine.py", OTHER_SEEDS)


def _linked(world: World) -> Path:
    (world.root / "link").symlink_to(_edited(world).parent)
    return world.root / "link" / "mine.py"


def _kept(manifest: Path) -> None:
    pass


def _cut(manifest: Path) -> None:
    manifest.write_text(manifest.read_text()[:100])


def _emptied(manifest: Path) -> None:
    manifest.write_text("[]\n")


def _changed(name: str, value: object) -> Callable[[Path], None]:
    def change(manifest: Path) -> None:
        content = json.loads(manifest.read_text())
        content["past"][0][name] = value
        manifest.write_text(json.dumps(content))

    return change


def _earlier(manifest: Path) -> None:
    content = json.loads(manifest.read_text())
    del content["past"], content["home"]
    manifest.write_text(json.dumps(content))


SOURCES = (
    _same, _edited, _moved_whole, _moved_and_edited, _moved_unchanged, _copied_and_edited, _another, _linked,
)  # fmt: skip
#: What is done to the record -> what the sentence says where it cannot be used; "" where it can, None where it is old.
RECORDS: dict[str, tuple[Callable[[Path], None], str | None]] = {
    "kept": (_kept, ""),
    "missing": (Path.unlink, "--scale"),
    "cut short": (_cut, "cannot be read"),
    "no object": (_emptied, "Move it away"),
    "overrides a list": (_changed("overrides", []), "Move it away"),
    "runs an object": (_changed("runs", {}), "Move it away"),
    "a scale of nobody": (_changed("scale", "huge"), "Move it away"),
    "earlier version": (_earlier, None),
}
#: What the command is told: options, and whether it is still the scale that was run.
OPTIONS: dict[str, tuple[dict[str, object], bool]] = {
    "nothing": ({}, True),
    "data root": ({"data": True}, True),
    "the override": ({"sets": RUN_WITH}, True),
    "another override": ({"sets": ("search.epochs=4",)}, True),
    "the scale": ({"scale": "smoke"}, True),
    "another scale": ({"scale": "reduced"}, False),
}
TOLD_BY = (_edited, _moved_whole, _linked)


def _cases() -> list[tuple[str, str]]:
    """Records x options; what cannot be read is refused whatever is asked, so two options will do there."""
    few = ("nothing", "the scale")
    return [
        (record, options)
        for record, options in itertools.product(RECORDS, OPTIONS)
        if options in few or record in ("kept", "missing", "earlier version")
    ]


@pytest.mark.parametrize("change", SOURCES, ids=lambda change: change.__name__.strip("_"))
def test_prune_takes_what_this_source_at_this_scale_once_named_and_nothing_else(
    template: tuple[Path, list[str]], tmp_path: Path, change: Callable[[World], Path]
) -> None:
    tried = 0
    for number, (record, options) in enumerate(_cases()):
        world = _copy(template, tmp_path / str(number) / "project")
        source = change(world)
        spoil, said = RECORDS[record]
        spoil(world.manifest)
        given, at_scale = OPTIONS[options]
        before, everything = world.folders(), snapshot(world.runs, times=False)
        what = f"{change.__name__}, record {record}, given {options}"
        tried += 1
        if said and not (record == "missing" and given.get("scale")):
            with pytest.raises(UserError, match=said):
                world.driver(source, **given)  # type: ignore[arg-type]
            assert snapshot(world.runs, times=False) == everything, what
            continue
        driver = world.driver(source, **given)  # type: ignore[arg-type]
        found = survey(driver)
        lines = list(told(found, {}))
        stages, _ = unused_stages(driver, found.taken)
        take(driver, found, stages, lambda hashes: None)
        gone = before - world.folders()
        h = world.hashes
        expected = {h[GONE_DONE], h[GONE_FAILED]} if change in TOLD_BY and record == "kept" and at_scale else set()
        assert gone == expected, what
        # Whatever stays without being named is told, with why.
        named = {point.hash for point in driver.grid.points}
        left = {path.name for paths in found.left.values() for path in paths}
        assert left == before - gone - named, what
        assert len(lines) >= len(found.left) + len(gone)
        if record == "missing" and change is not _same:
            assert any(f"{MANIFEST} does not say what named them" in line for line in lines), what
        kept = snapshot(world.runs / "mine", times=False)
        assert all(everything[path] == content for path, content in kept.items() if path in everything), what
        shutil.rmtree(tmp_path / str(number))
    assert tried == len(_cases()) == 28


@pytest.mark.parametrize("change", SOURCES, ids=lambda change: change.__name__.strip("_"))
def test_status_retry_and_cancel_look_at_what_was_run(
    template: tuple[Path, list[str]], tmp_path: Path, change: Callable[[World], Path]
) -> None:
    for number, (record, options) in enumerate(itertools.product(("kept", "earlier version"), OPTIONS)):
        world = _copy(template, tmp_path / str(number) / "project")
        source = change(world)
        RECORDS[record][0](world.manifest)
        given, at_scale = OPTIONS[options]
        driver = world.driver(source, **given)  # type: ignore[arg-type]
        what = f"{change.__name__}, record {record}, given {options}"
        ours = record == "earlier version" or change not in (_another, _copied_and_edited)
        h, asked = world.hashes, options == "another override"
        assert driver.grid.scale == ("smoke" if at_scale and (ours or "scale" in given) else "reduced"), what
        overrides = dict(driver.grid.overrides)
        if ours or "sets" in given:
            assert overrides["search.epochs"] == ("4" if asked else "3"), what
        assert ("runtime.data_root" in overrides) == (options == "data root"), what
        states = {state.hash: state.status for state in driver.states()}
        if ours and at_scale and not asked:
            wanted = {h[DONE]: "done", h[FAILED]: "failed"}
            if change in (_same, _moved_unchanged):
                wanted |= {h[GONE_DONE]: "done", h[GONE_FAILED]: "failed", h[BUSY]: "running"}
            shown = {key: status for key, status in states.items() if key in wanted}
            if change is not _another:
                assert shown == wanted, what
        # A retry takes up failed runs of what was asked for, and no folder that holds another run.
        chosen = set(chosen_for_retry(driver.states(), failed=True, lost=False, timeout=False))
        assert chosen <= set(states), what
        # Cancelling reaches every run that this source ever named, and none that only another file named.
        reached = runs_of(driver, every_scale=True)
        assert reached >= set(states)
        assert set(h) <= reached if ours else set(h) & reached <= set(states), what
        shutil.rmtree(tmp_path / str(number))


def test_runs_of_other_overrides_are_kept_until_it_is_said_that_they_are_superseded(tmp_path: Path) -> None:
    source = _write(tmp_path / "mine.py", (0, 1))
    runs = tmp_path / "runs"
    for sets in (("search.epochs=2",), ("search.epochs=3",)):
        driver = Driver(load_grid(str(source), "smoke", sets), runs)
        for point in driver.grid.points:
            finish(runs, "mine", point.config)
        driver.write_manifest(Code())
    assert survey(driver).taken == {}
    _write(source, (0,))
    one_each = survey(Driver(load_grid(str(source), "smoke", sets), runs))
    assert len(one_each.taken) == 2, "seed 1 of both"
    assert [len(paths) for paths in one_each.left.values()] == [1]
    assert len(survey(Driver(load_grid(str(source), "smoke", sets), runs), superseded=True).taken) == 3
    # Overrides that the file takes no more: all that they ever named stays.
    content = json.loads((runs / "mine" / MANIFEST).read_text())
    content["past"][0]["overrides"]["search.epochs"] = "0"
    write_json(runs / "mine" / MANIFEST, content)
    found = survey(Driver(load_grid(str(source), "smoke", sets), runs), superseded=True)
    assert len(found.taken) == 1
    assert "cannot be worked out" in found.trouble[0]


def test_data_that_are_away_take_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.pictures import rgb_tree

    monkeypatch.setenv("CSCDARTS_CACHE", str(tmp_path / "cache"))
    tree = rgb_tree(tmp_path / "tree", size=8, train=12, test=3)
    sets = ("data.dataset=image-folder", "data.image_size=8", f"runtime.data_root={tree}", "search.batch_size=4")
    source = _write(tmp_path / "mine.py", (0, 1))
    driver = Driver(load_grid(str(source), "smoke", sets), tmp_path / "runs")
    for point in driver.grid.points:
        finish(driver.runs, "mine", point.config)
    driver.write_manifest(Code())
    _write(source, (0,))
    tree.rename(tmp_path / "away")
    # Known from the record: what the grid names is what it named on those data.
    recalled = Choice(None, (), None, None, driver.runs).grid(str(source))
    assert [path.name for path in survey(Driver(recalled, driver.runs)).taken] == [driver.grid.points[1].hash]
    content = json.loads((driver.folder / MANIFEST).read_text())
    content["fingerprints"] = {}
    write_json(driver.folder / MANIFEST, content)
    with pytest.raises(UserError, match=r"--data-root.*image-folder"):
        survey(Driver(recalled, driver.runs))


def test_a_run_in_a_queue_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _write(tmp_path / "mine.py", (0, 1))
    driver = Driver(load_grid(str(source), "smoke"), tmp_path / "runs")
    for point in driver.grid.points:
        RunFolder(driver.path(point)).create(point.config, "../..")
    driver.write_manifest(Code())
    _write(source, (0,))
    monkeypatch.setattr("ablations.drive.prune.queued", lambda _, keys: dict.fromkeys(keys, "job 7 of a counter"))
    found = survey(Driver(load_grid(str(source), "smoke"), tmp_path / "runs"))
    assert (found.taken, found.busy) == ({}, 1)
    assert "job 7 of a counter" in next(iter(found.left))


def test_a_source_that_has_moved_is_noted_and_a_record_keeps_all_it_ever_named(
    template: tuple[Path, list[str]], tmp_path: Path
) -> None:
    world = _copy(template, tmp_path / "project")
    driver = world.driver(_moved_whole(world))
    driver.write_manifest(Code())
    (past,) = read_past(driver.folder)
    assert past.source is not None
    assert past.source.path == str(world.root / "mine.py")
    assert list(past.runs) == [*world.hashes[:2], *world.hashes[2:]]
    other = world.driver(_another(world), scale="smoke", sets=RUN_WITH)
    other.write_manifest(Code())
    assert [len(one.runs) for one in read_past(driver.folder)] == [7, 2]
    assert other_sources(other) == [next(line for line in other_sources(other) if str(world.root / "mine.py") in line)]
    assert str(world.root / "other" / "mine.py") in other_sources(world.driver(world.root / "mine.py"))[0]
    # Each of the two files takes its own only.
    _write(world.root / "other" / "mine.py", OTHER_SEEDS[:1])
    assert survey(world.driver(world.root / "other" / "mine.py")).taken == {}
    finish(world.runs, "mine", other.grid.points[1].config)
    taken = survey(world.driver(world.root / "other" / "mine.py")).taken
    assert [path.name for path in taken] == [other.grid.points[1].hash]
    assert len(list(run_folders_of(world.runs / "mine"))) == 8
    assert entries(world.runs) == []
